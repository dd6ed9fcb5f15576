//! See [`jasaweb_rt_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jasaweb_rt_fuzz::frame::check(data));
