//! Answers that come before the client has said all: they are not lost to a reset of the connection, and nobody is waited
//! for in vain.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use jasaweb_rt_core::{config::Config, request_body::MAX_BODY_BYTES};
use support::{
    Door,
    app::{App, Folder, door_to, full},
    config,
    http::{Client, handshake, request},
    tls::{self, Certificate, Files},
    until, within,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
};

/// What a client may still send behind an answer, in pieces. The first that came to a closed socket would reset the
/// connection, and the next one would fail.
const PIECES: [&[u8]; 8] = [&[b'x'; 4 * 1024]; 8];

/// Requests that are answered before they are there in full, and how.
fn early() -> Vec<(String, u16)> {
    let (too_large, chunked) = ((MAX_BODY_BYTES + 1).to_string(), [("Transfer-Encoding", "chunked")]);
    vec![
        (request("POST", "/", &[("Content-Length", &too_large)]), 413),
        (request("POST", "/", &chunked) + "2\r\nabc", 400),
        (request("POST", "/ws", &[("Content-Length", "100000")]), 426),
        (handshake("/ws", &[("Content-Length", "100000")]), 400),
        (handshake("/ws", &[("Sec-WebSocket-Version", "8")]) + "GET / HTTP/1.1\r\n", 426),
        ("POST / HTTP/1.1\n".to_owned(), 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_owned(), 501),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(30_000)), 431),
    ]
}

/// An app that reads to the end of what it is sent, be it that it breaks off.
fn patient(folder: &Folder) -> App {
    App::start(folder.socket(), |request: Request<Incoming>| async {
        let _ = request.into_body().collect().await;
        Response::new(full(""))
    })
}

/// Asks, takes the answer and the end of it, and goes on sending.
async fn goes_on<S: AsyncRead + AsyncWrite + Unpin>(mut client: Client<S>, asked: &str, expected: u16) {
    client.send(asked).await;
    let response = client.response().await;
    assert_eq!(response.head.status, expected, "{asked}");
    assert!(client.until_end().await.is_empty());
    for piece in PIECES {
        within(client.stream.write_all(piece)).await.expect(asked);
        within(client.stream.flush()).await.expect(asked);
    }
}

/// With paused time, nobody is out of patience as long as the client has something to send.
#[tokio::test(start_paused = true)]
async fn who_is_answered_early_may_finish() {
    let folder = Folder::new();
    let _app = patient(&folder);
    let door = door_to(&folder);
    for (asked, expected) in early() {
        goes_on(door.connect().await, &asked, expected).await;
        until(|| door.front.http_connections() == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_answered_early_may_finish_over_tls_too() {
    let folder = Folder::new();
    let _app = patient(&folder);
    let certificate = Certificate::new();
    let files = Files::new(&certificate);
    let door = Door::open(files.given_to(Config { app: Some(folder.address()), ..config() }));
    let client = Arc::new(tls::client_config(&certificate, rustls::ALL_VERSIONS));
    for (asked, expected) in early() {
        let stream = tls::handshake(door.address, &client).await.unwrap();
        goes_on(Client::over(stream), &asked, expected).await;
        until(|| door.front.http_connections() == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_may_finish() {
    let door = Door::open(Config { max_connections_per_ip: 1, ..config() });
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(door.connect().await);
    }
    until(|| door.front.http_connections() == 6).await;
    goes_on(door.connect().await, &request("POST", "/", &[("Content-Length", "100000")]), 429).await;
}

#[tokio::test(start_paused = true)]
async fn plain_http_on_a_port_that_speaks_tls_may_finish() {
    let certificate = Certificate::new();
    let files = Files::new(&certificate);
    let door = Door::open(files.given_to(config()));
    goes_on(door.connect().await, &request("POST", "/", &[("Content-Length", "100000")]), 400).await;
}

#[tokio::test(start_paused = true)]
async fn who_neither_sends_nor_leaves_is_not_waited_for() {
    let door = Door::open(config());
    for (asked, expected) in [(request("POST", "/", &[("Content-Length", "10")]), 404), ("\n".to_owned(), 400)] {
        let mut client = door.connect().await;
        client.send(asked).await;
        assert_eq!(client.response().await.head.status, expected);
        assert!(client.until_end().await.is_empty());
        assert_eq!(door.front.http_connections(), 1, "it may have to say more");
        until(|| door.front.http_connections() == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_ends_is_cut_off() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    client.send(request("POST", "/", &[("Transfer-Encoding", "chunked")])).await;
    assert_eq!(client.response().await.head.status, 404);
    within(async { while client.stream.write_all(PIECES[0]).await.is_ok() {} }).await;
    assert_eq!(door.front.http_connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_between_requests_is_closed_at_once() {
    let door = Door::open(config());
    for asked in [
        request("GET", "/", &[("Connection", "close")]),
        request("POST", "/", &[("Connection", "close"), ("Content-Length", "2")]) + "hi",
        handshake("/ws", &[("Connection", "close, Upgrade"), ("Sec-WebSocket-Version", "8")]),
    ] {
        let mut client = door.connect().await;
        client.send(&asked).await;
        client.response().await;
        assert!(client.until_end().await.is_empty());
        assert_eq!(door.front.http_connections(), 0, "{asked}");
    }
}

/// Nobody has read the second request, and nobody will: closing the socket beside it would reset the connection.
#[tokio::test(start_paused = true)]
async fn what_waits_unread_behind_the_last_request_is_taken_too() {
    let folder = Folder::new();
    let (release, released) = watch::channel(false);
    let app = App::start(folder.socket(), move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            Response::new(full(""))
        }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(request("GET", "/", &[("Connection", "close")])).await;
    until(|| app.accepted() == 1).await;
    client.send(request("GET", "/", &[])).await;
    release.send(true).unwrap();
    goes_on(client, "", 200).await;
}
