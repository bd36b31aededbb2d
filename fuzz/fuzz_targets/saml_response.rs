//! See `oracles::saml_response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::saml_response(data));
