//! See `oracles::login`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::login(data));
