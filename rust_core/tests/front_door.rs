//! The front door over real sockets: who gets in, what HTTP it takes, and how it stops.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::IpAddr,
    time::Duration,
};

use futures_util::StreamExt as _;
use jasaweb_rt_core::{
    config::Config,
    front_door::{Refusals, Resume},
    token::{Role, TokenVerifier},
};
use serde_json::json;
use support::{
    Door, config, http,
    token::{self, with_token},
    within,
};
use tokio::{io::AsyncWriteExt as _, task::JoinSet};
use tokio_tungstenite::tungstenite::Message;

/// Close with 1008 and the reason of the contract, as a server sends it: unmasked.
const INVALID_AUTHENTICATION: &[u8] = b"\x88\x18\x03\xf0Invalid authentication";

/// A masked Close frame with 1008, as a client answers it.
const CLIENT_CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xf0";

#[tokio::test]
async fn every_way_to_carry_a_token_opens_the_door() {
    let mut door = Door::open(config());
    let token = token::valid("user-1");
    let (bearer, offer) = (format!("Bearer {token}"), format!("jasaweb.v1, bearer.{token}"));
    let jwt = format!("/ws?jwt={token}");
    let query = with_token(&token);
    let ways: [(&str, &[(&str, &str)]); 4] = [
        (&query, &[]),
        (&jwt, &[]),
        ("/ws", &[("Authorization", &bearer)]),
        ("/ws", &[("Sec-WebSocket-Protocol", &offer)]),
    ];
    for (target, headers) in ways {
        let head = door.connect().await.upgrade(target, headers).await;
        assert_eq!(head.status, 101, "{target}");
        assert_eq!(head.get("upgrade"), Some("websocket"));
        assert_eq!(head.get("connection"), Some("Upgrade"));
        assert_eq!(head.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let offered = headers.iter().any(|(name, _)| *name == "Sec-WebSocket-Protocol");
        assert_eq!(head.get("sec-websocket-protocol"), offered.then_some("jasaweb.v1"));
        let admitted = door.next_admitted().await;
        assert_eq!(admitted.identity.user_id.as_ref(), "user-1");
        assert_eq!(admitted.identity.role, Role::Client);
        assert_eq!(admitted.identity.name.as_ref(), "Budi");
    }
    assert_eq!(door.front.refusals(), Refusals::default());
    door.stop().await;
}

#[tokio::test]
async fn what_the_client_says_is_handed_over() {
    let mut door = Door::open(config());
    let target = format!("{}&last_seq=41&epoch=e-7&batch=1", with_token(&token::valid("user-1")));
    let mut client = door.connect().await;
    assert_eq!(client.upgrade(&target, &[("User-Agent", "tester/1.0")]).await.status, 101);
    let admitted = door.next_admitted().await;
    assert_eq!(admitted.resume, Resume { last_seq: Some(41), epoch: Some("e-7".to_owned()), batch: true });
    assert_eq!(admitted.user_agent.as_deref(), Some("tester/1.0"));
    assert_eq!(admitted.client_address, IpAddr::from([127, 0, 0, 1]));
    assert!(admitted.read_ahead.is_empty());
    assert!(admitted.socket.nodelay().unwrap());
}

#[tokio::test]
async fn the_socket_is_bare_and_works_in_both_directions() {
    let mut door = Door::open(config());
    let mut client = door.connect().await;
    assert_eq!(client.upgrade(&with_token(&token::valid("user-1")), &[]).await.status, 101);
    let mut socket = door.next_admitted().await.socket;
    socket.set_nonblocking(false).unwrap();
    socket.write_all(b"from the server").unwrap();
    assert_eq!(client.exactly(15).await, b"from the server");
    client.send("from the client").await;
    let mut received = [0; 15];
    socket.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"from the client");
}

#[tokio::test]
async fn bytes_right_behind_the_request_are_handed_over() {
    let mut door = Door::open(config());
    let mut client = door.connect().await;
    let mut bytes = http::handshake(&with_token(&token::valid("user-1")), &[]).into_bytes();
    bytes.extend_from_slice(b"\x81\x82\0\0\0\0hi and more");
    client.send(&bytes).await;
    assert_eq!(client.head().await.status, 101);
    let admitted = door.next_admitted().await;
    assert_eq!(admitted.read_ahead.as_ref(), b"\x81\x82\0\0\0\0hi and more");
}

#[tokio::test]
async fn a_connection_that_served_http_before_can_be_upgraded() {
    let mut door = Door::open(config());
    let mut client = door.connect().await;
    assert_eq!(client.get("/elsewhere", &[]).await.head.status, 404);
    assert_eq!(client.get("/ws", &[]).await.head.status, 426);
    assert_eq!(client.upgrade(&with_token(&token::valid("user-1")), &[]).await.status, 101);
    door.next_admitted().await;
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_answered_by_a_close_frame() {
    let door = Door::open(config());
    let expired = json!({ "aud": "websocket", "sub": "user-1", "role": "client", "exp": token::now() - 1 });
    let session = json!({ "id": "user-1", "email": "a@b.test", "role": "client", "exp": token::now() + 300 });
    for target in [
        "/ws".to_owned(),
        with_token(""),
        with_token("not.a.token"),
        with_token(&token::signed(&expired)),
        with_token(&token::signed(&session)),
    ] {
        let mut client = door.connect().await;
        let head = client.upgrade(&target, &[]).await;
        assert_eq!(head.status, 101, "{target}");
        assert_eq!(client.exactly(INVALID_AUTHENTICATION.len()).await, INVALID_AUTHENTICATION);
        client.send(CLIENT_CLOSE).await;
        assert!(client.until_end().await.is_empty());
    }
    assert_eq!(door.front.refusals().authentication, 5);
    door.stop().await;
}

#[tokio::test]
async fn keys_are_changed_while_the_door_is_open() {
    const NEXT: &str = "the-key-that-follows-upon-the-first-one";
    let mut door = Door::open(config());
    let claims = json!({ "aud": "websocket", "sub": "user-1", "role": "client", "exp": token::now() + 300 });
    let (old, new) = (token::valid("user-1"), token::signed_with(NEXT, &claims));
    let mut client = door.connect().await;
    assert_eq!(client.upgrade(&with_token(&old), &[]).await.status, 101);
    door.next_admitted().await;
    for (previous, accepted) in [(Some(token::SECRET.as_bytes()), [true, true]), (None, [true, false])] {
        door.front.set_verifier(TokenVerifier::new(NEXT.as_bytes(), previous));
        for (token, is_accepted) in [&new, &old].into_iter().zip(accepted) {
            let mut client = door.connect().await;
            assert_eq!(client.upgrade(&with_token(token), &[]).await.status, 101);
            if is_accepted {
                door.next_admitted().await;
            } else {
                assert_eq!(client.exactly(INVALID_AUTHENTICATION.len()).await, INVALID_AUTHENTICATION);
            }
        }
    }
    door.stop().await;
}

#[tokio::test]
async fn a_bad_token_in_the_subprotocol_does_not_come_back() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    let head = client.upgrade("/ws", &[("Sec-WebSocket-Protocol", "jasaweb.v1, bearer.not.a.token")]).await;
    assert_eq!((head.status, head.get("sec-websocket-protocol")), (101, Some("jasaweb.v1")));
    assert_eq!(client.exactly(INVALID_AUTHENTICATION.len()).await, INVALID_AUTHENTICATION);
}

#[tokio::test]
async fn a_refused_client_holds_its_place_until_it_has_gone() {
    let mut door = Door::open(Config { max_connections: 1, ..config() });
    let mut refused = within(async {
        loop {
            let mut refused = door.connect().await;
            let is_closed = refused.upgrade("/ws?token=bad", &[]).await.status == 101;
            // On a machine that is slow enough, the server no longer waits for it when the next one comes.
            if is_closed && door.connect().await.upgrade("/ws", &[]).await.status == 503 {
                break refused;
            }
        }
    })
    .await;
    refused.send(CLIENT_CLOSE).await;
    refused.until_end().await;
    admitted_in_the_end(&mut door, 1).await;
}

#[tokio::test]
async fn a_websocket_library_sees_the_code_and_the_reason() {
    let door = Door::open(config());
    let url = format!("ws://{}/ws?token=bad", door.address);
    let (mut socket, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
    let message = within(socket.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = message else { panic!("{message:?}") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1008, "Invalid authentication"));
    assert!(within(socket.next()).await.is_none(), "closed in the orderly way");
    door.stop().await;
}

/// Many at once on several threads: everybody gets in, and every place is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_connections_is_let_in_and_gone_again() {
    let mut door =
        Door::open(Config { max_connections_per_ip: 0, connect_rate_per_ip: 0, max_connections: 400, ..config() });
    let (address, valid) = (door.address, with_token(&token::valid("user-1")));
    for _ in 0..2 {
        let mut clients = JoinSet::new();
        for number in 0..400 {
            let target = if number % 4 == 0 { "/ws?token=bad".to_owned() } else { valid.clone() };
            clients.spawn(async move {
                let mut client = http::Client::connect(address).await;
                assert_eq!(client.upgrade(&target, &[]).await.status, 101);
                client
            });
        }
        let clients = within(clients.join_all()).await;
        for _ in 0..300 {
            door.next_admitted().await;
        }
        drop(clients);
        admitted_in_the_end(&mut door, 400).await;
    }
    door.stop().await;
}

/// With paused time, each wait that nothing else ends is over at once.
#[tokio::test(start_paused = true)]
async fn a_refused_client_that_does_not_answer_is_closed_all_the_same() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    let begin = tokio::time::Instant::now();
    assert_eq!(client.upgrade("/ws", &[]).await.status, 101);
    assert_eq!(client.until_end().await, INVALID_AUTHENTICATION);
    assert!(begin.elapsed() <= Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn without_an_app_other_paths_do_not_exist() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    for target in ["/", "/ws/", "/wsx", "/api/websocket/token"] {
        let response = client.get(target, &[]).await;
        assert_eq!((response.head.status, response.error().as_str()), (404, "Not found"), "{target}");
    }
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let door = Door::open(config());
    for head in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        let mut client = door.connect().await;
        client.send(head).await;
        let response = client.response().await;
        assert_eq!(
            (response.head.status, response.error().as_str()),
            (400, "A request must have exactly one Host header")
        );
    }
    let mut client = door.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response().await.head.status, 404);
}

#[tokio::test]
async fn a_tunnel_is_not_opened() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    client.send("CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n").await;
    assert_eq!(client.head().await.status, 501);
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    let filler = "x".repeat(15 * 1024);
    assert_eq!(client.get("/", &[("X-Filler", &filler)]).await.head.status, 404, "just below the limit");
    let filler = "x".repeat(16 * 1024);
    client.send(http::request("GET", "/", &[("X-Filler", &filler)])).await;
    assert_eq!(client.head().await.status, 431);
    client.until_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_not_waited_for() {
    let door = Door::open(config());
    for begin in ["", "GET /ws HTTP/1.1\r\nHost: site.test\r\n", "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"] {
        let mut client = door.connect().await;
        let connected = tokio::time::Instant::now();
        client.send(begin).await;
        client.until_end().await;
        let elapsed = connected.elapsed();
        assert!((Duration::from_secs(9)..Duration::from_secs(12)).contains(&elapsed), "{begin:?}: {elapsed:?}");
    }
    assert_eq!(door.connect().await.get("/", &[]).await.head.status, 404, "others are served all the same");
}

#[tokio::test]
async fn what_is_not_http_does_not_disturb_others() {
    let door = Door::open(config());
    for bytes in
        [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], b"hello\r\n\r\n", b"GET  /\0 HTTP/9.9\r\n\r\n", b"\0\0\0\0"]
    {
        let mut client = door.connect().await;
        client.send(bytes).await;
        client.stream.shutdown().await.unwrap();
        client.until_end().await;
    }
    assert_eq!(door.connect().await.get("/", &[]).await.head.status, 404);
}

#[tokio::test]
async fn a_hand_over_that_panics_ends_only_its_own_connection() {
    let (sender, admitted) = tokio::sync::mpsc::unbounded_channel();
    let mut door = Door::open_with(Config { max_connections: 1, ..config() }, admitted, move |admitted| {
        assert_eq!(admitted.identity.user_id.as_ref(), "user-1");
        drop(sender.send(admitted));
    });
    let mut unlucky = door.connect().await;
    assert_eq!(unlucky.upgrade(&with_token(&token::valid("user-2")), &[]).await.status, 101);
    unlucky.until_end().await;
    admitted_in_the_end(&mut door, 1).await;
}

#[tokio::test]
async fn a_stop_closes_the_port_and_idle_connections() {
    let door = Door::open(config());
    let mut idle = door.connect().await;
    assert_eq!(idle.get("/", &[]).await.head.status, 404);
    let mut silent = door.connect().await;
    let address = door.address;
    door.stop().await;
    assert!(idle.until_end().await.is_empty());
    assert!(silent.until_end().await.is_empty());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_cut_ends_what_a_stop_waits_for() {
    let door = Door::open(config());
    let mut slow = door.connect().await;
    slow.send("GET / HTTP/1.1\r\nHost: si").await;
    let mut other = door.connect().await;
    assert_eq!(other.get("/", &[]).await.head.status, 404, "the slow one was accepted before this one");
    door.stop.cancel();
    door.cut.cancel();
    within(door.serving).await.unwrap().unwrap();
    slow.until_end().await;
}

#[tokio::test]
async fn after_a_stop_nobody_gets_in_by_a_request_that_was_under_way() {
    let door = Door::open(config());
    let mut slow = door.connect().await;
    let request = http::handshake(&with_token(&token::valid("user-1")), &[]);
    slow.send(&request[..40]).await;
    let mut other = door.connect().await;
    assert_eq!(other.get("/", &[]).await.head.status, 404);
    door.stop.cancel();
    other.until_end().await;
    slow.send(&request[40..]).await;
    assert_eq!(slow.head().await.status, 503);
    within(door.serving).await.unwrap().unwrap();
}

/// Tries until `places` places that are being given back are all there.
async fn admitted_in_the_end(door: &mut Door, places: usize) {
    let target = with_token(&token::valid("user-1"));
    let mut held = Vec::new();
    while held.len() < places {
        let mut client = door.connect().await;
        if client.upgrade(&target, &[]).await.status == 101 {
            held.push((client, door.next_admitted().await));
        }
    }
    assert_eq!(door.connect().await.refused(&target, &[]).await.head.status, 503, "and no more than those");
}
