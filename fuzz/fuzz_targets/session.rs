//! See `oracles::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::session(data));
