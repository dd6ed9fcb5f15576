use proptest::prelude::*;

use super::*;

fn guard() -> RequestGuard {
    RequestGuard::new(UpgradeGate::default())
}

/// How much passes, sent in one go, and byte by byte.
fn passes(bytes: &str) -> usize {
    let at_once = guard().pass(bytes.as_bytes());
    let mut guard = guard();
    let one_by_one = bytes.as_bytes().iter().take_while(|byte| guard.pass(&[**byte]) == 1).count();
    assert_eq!(at_once, one_by_one, "{bytes:?}");
    at_once
}

fn passes_whole(bytes: &str) {
    assert_eq!(passes(bytes), bytes.len(), "{bytes:?}");
}

/// Refused, and by the last byte of `bytes`.
fn is_refused(bytes: &str) {
    assert_eq!(passes(bytes), bytes.len() - 1, "{bytes:?}");
}

#[test]
fn plain_requests_pass_one_behind_the_other() {
    let get = "GET /a?b=c HTTP/1.1\r\nHost: site.test\r\nX-Empty:\r\nX-Text: \u{e9} \t~\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nContent-Length:  5 \r\n\r\n\0\n\r\nx";
    let empty = "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b;c=\"d\"\r\n\0\n\r\nx\r\n0a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
    passes_whole(&[get, post, empty, chunked, "\r\n", get, chunked, get].concat());
}

#[test]
fn a_line_ends_in_cr_lf_and_in_nothing_else() {
    is_refused("GET / HTTP/1.1\n");
    is_refused("GET / HTTP/1.1\r\nHost: a\n");
    is_refused("GET / HTTP/1.1\r\nHost: a\r\n\n");
    is_refused("GET / HTTP/1.1\r\nHost: a\rX");
    is_refused("GET / HTTP/1.1\r\nHost: a\r\n\rX");
    is_refused("GET / HTTP/1.1\rX");
    is_refused("\n");
    is_refused("\r\n\r");
}

#[test]
fn no_folding_no_space_before_the_colon_no_control_characters() {
    is_refused("GET / HTTP/1.1\r\nHost: a\r\n ");
    is_refused("GET / HTTP/1.1\r\nHost: a\r\n\t");
    is_refused("GET / HTTP/1.1\r\nHost ");
    is_refused("GET / HTTP/1.1\r\nTransfer-Encoding\t");
    is_refused("GET / HTTP/1.1\r\n:");
    is_refused("GET / HTTP/1.1\r\nno ");
    is_refused("GET / HTTP/1.1\r\nno\r");
    is_refused("GET / HTTP/1.1\r\nX: a\0");
    is_refused("GET / HTTP/1.1\r\nX: a\x0b");
    is_refused("GET / HTTP/1.1\r\nX: a\x7f");
    is_refused("GET /\0");
    is_refused("GET /\t");
    is_refused("GET /#");
    assert_eq!(passes("GET /\u{e9}"), 5);
}

#[test]
fn a_length_is_told_once_and_in_digits() {
    for value in ["", "+5", "-5", "5,5", "5, 5", "0x5", "5 5", "5\t5", "1e1", "99999999999999999999", "٥"] {
        let bytes = format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n");
        assert!(passes(&bytes) < bytes.len(), "{value}");
    }
    is_refused("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n");
    is_refused("POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 6\r\n");
    is_refused("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    is_refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n");
    is_refused(&format!("POST / HTTP/1.1\r\nContent-Length: {}", "0".repeat(VALUE_BYTES + 1)));
}

#[test]
fn the_one_transfer_coding_is_chunked() {
    for value in ["", "identity", "xchunked", "chunked, identity", "gzip, chunked", "chunked, chunked", "chunked;q=1"] {
        let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {value}\r\n\r\n");
        assert!(passes(&bytes) < bytes.len(), "{value}");
    }
    is_refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
    is_refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n");
}

#[test]
fn chunks_are_framed_to_the_letter() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "\r",
        "g",
        " ",
        ";",
        "5 ",
        "0x",
        "+",
        "5\n",
        "5\rX",
        "5;a\n",
        "5;a\0",
        "00000001",
        "3\r\nabcd",
        "3\r\nabc\n",
        "3\r\nabc\rX",
        "0\r\n\n",
        "0\r\n ",
        "0\r\nX: a\n",
        "0\r\nX: a\0",
        "0\r\n\rX",
    ] {
        is_refused(&[head, body].concat());
    }
    let extension = "x".repeat(usize::from(MAX_EXTENSION_BYTES));
    passes_whole(&format!("{head}0;{extension}\r\n\r\n"));
    is_refused(&format!("{head}0;{extension}x"));
}

#[test]
fn what_stands_behind_an_upgrade_is_not_judged_before_the_answer() {
    let gate = UpgradeGate::default();
    let mut guard = RequestGuard::new(gate.clone());
    let request = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(guard.pass(request), request.len());
    assert!(gate.stays(), "nothing came early");
    assert_eq!(guard.pass(b"\n"), 0, "the next request is judged again");

    let mut guard = RequestGuard::new(gate.clone());
    let frame = b"\x81\x80\0\0\0\n\n\n";
    assert_eq!(guard.pass(request), request.len());
    assert_eq!(guard.pass(frame), frame.len());
    assert!(!gate.stays(), "something did");
}

#[test]
fn an_upgrade_with_a_body_is_a_request_like_others() {
    passes_whole("POST / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\n\r\n");
    is_refused("POST / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi\n");
}

#[test]
fn more_is_awaited_within_a_request_and_behind_a_refusal() {
    let post = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (bytes, awaited) in [
        ("", false),
        ("\r\n", false),
        ("GET / HTTP/1.1\r\n", true),
        ("GET / HTTP/1.1\r\n\r\n", false),
        (&[post, "h"].concat(), true),
        (&[post, "hi"].concat(), false),
        (&[chunked, "2\r\nhi\r\n0\r\n"].concat(), true),
        (&[chunked, "2\r\nhi\r\n0\r\n\r\n"].concat(), false),
        (&[post, "hi\n"].concat(), true),
    ] {
        let mut guard = guard();
        guard.pass(bytes.as_bytes());
        assert_eq!(guard.awaits_more(), awaited, "{bytes:?}");
    }
    for (behind, awaited) in [("", false), ("GET / HTTP/1.1\r\n\r\n", true)] {
        let gate = UpgradeGate::default();
        let mut guard = RequestGuard::new(gate.clone());
        guard.pass(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
        guard.pass(behind.as_bytes());
        assert_eq!(gate.stays(), !awaited);
        assert_eq!(guard.awaits_more(), awaited, "{behind:?}");
    }
}

#[test]
fn a_refusal_is_given_piece_by_piece_and_then_the_end() {
    let mut guard = guard();
    assert_eq!(guard.pass(b"\n"), 0);
    assert!(guard.has_refused());
    assert_eq!([guard.refuse(2), guard.refuse(100)].concat(), REFUSAL);
    assert_eq!(guard.refuse(100), b"");
    assert!(guard.has_refused());
}

proptest! {
    #[test]
    fn any_bytes_pass_alike_however_they_are_cut(
        bytes in proptest::collection::vec(prop_oneof![
            Just(b"POST / HTTP/1.1\r\n".to_vec()), Just(b"Content-Length: 3\r\n".to_vec()),
            Just(b"Transfer-Encoding: chunked\r\n".to_vec()), Just(b"\r\n".to_vec()), Just(b"3\r\nabc\r\n".to_vec()),
            Just(b"0\r\n\r\n".to_vec()), proptest::collection::vec(any::<u8>(), 0..4),
        ], 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = bytes.concat();
        let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut in_two = guard();
        let passed = in_two.pass(first);
        let passed = if in_two.has_refused() { passed } else { passed + in_two.pass(second) };
        prop_assert_eq!(guard().pass(&bytes), passed);
    }
}
