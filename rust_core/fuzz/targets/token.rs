//! See [`jasaweb_rt_fuzz::token`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jasaweb_rt_fuzz::token::check(data));
