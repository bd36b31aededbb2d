//! See `oracles::user_name`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::user_name(data));
