//! See `oracles::jwt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::jwt(data));
