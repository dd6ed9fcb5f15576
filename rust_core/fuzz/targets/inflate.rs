//! See [`jasaweb_rt_fuzz::inflate`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jasaweb_rt_fuzz::inflate::check(data));
