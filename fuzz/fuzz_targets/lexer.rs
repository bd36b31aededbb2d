//! See `oracles::lexer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::lexer(data));
