//! See `oracles::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::frame(data));
