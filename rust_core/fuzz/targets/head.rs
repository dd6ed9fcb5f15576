//! See [`jasaweb_rt_fuzz::head`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jasaweb_rt_fuzz::head::check(data));
