//! What the fuzzers have found so far, through the same functions; see `make fuzz`.

#![allow(clippy::unwrap_used, reason = "a corpus that cannot be read fails its test")]

use std::{fs, path::Path};

use jasaweb_rt_fuzz::{frame, head, inflate, token};

fn run(name: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| check(&data)).is_ok(), "{}", path.display());
        files += 1;
    }
    assert!(files > 10, "{} is all but empty", folder.display());
}

#[test]
fn frames() {
    run("frame", frame::check);
}

#[test]
fn compressed_messages() {
    run("inflate", inflate::check);
}

#[test]
fn tokens() {
    run("token", token::check);
}

#[test]
fn heads() {
    run("head", head::check);
}
