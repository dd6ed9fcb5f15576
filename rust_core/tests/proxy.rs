//! Forwarding to a real app on a Unix socket: what arrives there, and what comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, Response, StatusCode, body::Incoming, header::HeaderValue};
use jasaweb_rt_core::{config::Config, request_body::MAX_BODY_BYTES};
use support::{
    Door,
    app::{self, App, Folder, door_to, full, piecewise},
    config, http, within,
};
use tokio::{io::AsyncWriteExt as _, sync::mpsc, time::timeout};

/// So long a full pipe stays full where nobody reads; with it a test tells "does not take more" from "is slow".
const STANDSTILL: Duration = Duration::from_millis(500);

/// More than all buffers between the two ends together, less than a body that would be held in memory.
const BUFFERS: usize = 32 << 20;

/// The header lines that reached the `echo` app.
fn lines(text: &str) -> Vec<&str> {
    text.split("\n\n").next().unwrap().lines().collect()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_with_one_true_set_of_forwarding_headers() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let door = door_to(&folder);
    let forged = [
        ("Accept", "text/html"),
        ("Cookie", "a=1; b=2"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Real-IP", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
    ];
    let response = door.connect().await.get("/projects?page=2&q=%C3%A9", &forged).await;
    assert_eq!(response.head.status, 200);
    let expected = [
        "GET /projects?page=2&q=%C3%A9 HTTP/1.1",
        "accept: text/html",
        "cookie: a=1; b=2",
        "host: site.test",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-untrusted: 1",
    ];
    assert_eq!(lines(response.text()), expected);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let door = Door::open(Config { app: Some(folder.address()), trusted_proxies, ..config() });
    let headers = [
        ("X-Forwarded-For", "203.0.113.1, 192.0.2.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.test"),
    ];
    let response = door.connect().await.get("/", &headers).await;
    let expected = [
        "GET / HTTP/1.1",
        "host: site.test",
        "x-forwarded-for: 192.0.2.9",
        "x-forwarded-host: public.test",
        "x-forwarded-proto: https",
    ];
    assert_eq!(lines(response.text()), expected);
}

#[tokio::test]
async fn an_upgrade_elsewhere_goes_on_without_the_upgrade() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::handshake("/other", &[("Sec-WebSocket-Protocol", "x")])).await;
    let response = client.response().await;
    assert_eq!(response.head.status, 200);
    let text = response.text();
    assert!(!text.contains("upgrade") && !text.contains("connection:"), "{text}");
    assert!(text.contains("sec-websocket-protocol: x"));
    assert_eq!(client.get("/", &[]).await.head.status, 200, "the connection serves on");
}

#[tokio::test]
async fn targets_in_absolute_and_asterisk_form_and_http_1_0() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    let absolute = client.get("http://Site.test/a?b=c", &[]).await;
    assert!(absolute.text().starts_with("GET /a?b=c HTTP/1.1\nhost: Site.test\n"), "{}", absolute.text());
    client.send(http::request("OPTIONS", "*", &[])).await;
    assert!(client.response().await.text().starts_with("OPTIONS * HTTP/1.1\n"));
    client.send("GET /old HTTP/1.0\r\n\r\n").await;
    let old = client.response().await;
    assert_eq!(old.head.status, 200);
    assert_eq!(old.head.get("transfer-encoding"), None);
    assert!(old.text().starts_with("GET /old HTTP/1.1\nx-forwarded-for: "), "{}", old.text());
    assert!(client.until_end().await.is_empty());
}

#[tokio::test]
async fn a_response_comes_back_as_it_was_sent_without_headers_of_one_hop() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), |_| async {
        let mut response = Response::new(full("created"));
        *response.status_mut() = StatusCode::CREATED;
        for (name, value) in [
            ("set-cookie", "auth_token=a; HttpOnly"),
            ("set-cookie", "csrftoken=b"),
            ("location", "/projects/1"),
            ("server", "app"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
        ] {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    });
    let door = door_to(&folder);
    let response = door.connect().await.get("/", &[]).await;
    assert_eq!((response.head.status, response.text()), (201, "created"));
    assert_eq!(response.head.version, "HTTP/1.1");
    assert_eq!(response.head.all("set-cookie"), ["auth_token=a; HttpOnly", "csrftoken=b"]);
    assert_eq!(response.head.get("location"), Some("/projects/1"));
    assert_eq!(response.head.get("server"), Some("app"));
    for name in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(response.head.get(name), None, "{name}");
    }
    assert_eq!(response.head.all("date").len(), 1);
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), |request: Request<Incoming>| async move {
        let mut response = Response::new(full("ten bytes!"));
        match request.uri().path() {
            "/204" => response = Response::builder().status(204).body(full("")).unwrap(),
            "/304" => response = Response::builder().status(304).header("etag", "\"1\"").body(full("")).unwrap(),
            _ => {}
        }
        response
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("HEAD", "/", &[])).await;
    let head = client.head().await;
    assert_eq!((head.status, head.get("content-length")), (200, Some("10")));
    assert_eq!(client.get("/204", &[]).await.head.status, 204);
    let not_modified = client.get("/304", &[]).await;
    assert_eq!((not_modified.head.status, not_modified.head.get("etag")), (304, Some("\"1\"")));
    assert_eq!(client.get("/", &[]).await.text(), "ten bytes!");
}

#[tokio::test]
async fn many_clients_share_few_connections_to_the_app() {
    let folder = Folder::new();
    let app = App::start(folder.socket(), app::echo);
    let door = door_to(&folder);
    for _ in 0..5 {
        let mut client = door.connect().await;
        for _ in 0..5 {
            assert_eq!(client.get("/", &[]).await.head.status, 200);
        }
    }
    assert!(app.accepted() <= 5, "25 requests over {} connections", app.accepted());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("GET", "/1", &[]) + &http::request("GET", "/2", &[])).await;
    assert!(client.response().await.text().starts_with("GET /1 "));
    assert!(client.response().await.text().starts_with("GET /2 "));
}

#[tokio::test]
async fn a_large_body_goes_through_whole_with_and_without_a_length() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), |request: Request<Incoming>| async {
        Response::new(request.into_body().map_err(Into::into).boxed())
    });
    let door = door_to(&folder);
    let body: Vec<u8> = (0..8_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let length = body.len().to_string();
    for framing in [("Content-Length", length.as_str()), ("Transfer-Encoding", "chunked")] {
        let mut client = door.connect().await;
        client.send(http::request("POST", "/", &[framing])).await;
        let chunked = framing.1 == "chunked";
        let wire: Vec<u8> = if chunked {
            let chunks =
                body.chunks(50_000).map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            chunks.chain([b"0\r\n\r\n".to_vec()]).flatten().collect()
        } else {
            body.clone()
        };
        let (reading, writing) = client.stream.into_split();
        let sender = tokio::spawn(async move {
            let mut writing = writing;
            writing.write_all(&wire).await.unwrap();
            writing
        });
        let mut client = http::Client::over(reading);
        let response = client.response().await;
        assert_eq!(response.head.get("content-length"), if chunked { None } else { Some(length.as_str()) });
        assert!(response.body == body, "{framing:?}");
        within(sender).await.unwrap();
    }
}

#[tokio::test]
async fn a_response_streams_piece_by_piece() {
    let folder = Folder::new();
    let (sender, body) = piecewise();
    let body = Arc::new(Mutex::new(Some(body)));
    let _app = App::start(folder.socket(), move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("GET", "/events", &[])).await;
    assert_eq!(client.head().await.status, 200);
    let mut sender = sender;
    for piece in ["one", "two", "three"] {
        within(sender.send_data(Bytes::from(piece))).await.unwrap();
        assert_eq!(client.chunk().await.unwrap(), piece.as_bytes(), "each piece is there before the next is made");
    }
    drop(sender);
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn a_request_streams_piece_by_piece() {
    let folder = Folder::new();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let _app = App::start(folder.socket(), move |request: Request<Incoming>| {
        let arrived = arrived.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                arrived.send(frame.into_data().unwrap()).unwrap();
            }
            Response::new(full("done"))
        }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("POST", "/", &[("Transfer-Encoding", "chunked")])).await;
    for piece in ["one", "two"] {
        client.send(format!("3\r\n{piece}\r\n")).await;
        assert_eq!(within(arrivals.recv()).await.unwrap(), piece);
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "done");
}

#[tokio::test]
async fn an_app_is_not_read_faster_than_the_client_reads() {
    let folder = Folder::new();
    let (sender, body) = piecewise();
    let body = Arc::new(Mutex::new(Some(body)));
    let _app = App::start(folder.socket(), move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("GET", "/", &[])).await;
    let mut sender = sender;
    let piece = Bytes::from(vec![7; 64 << 10]);
    let mut sent = 0;
    while timeout(STANDSTILL, sender.send_data(piece.clone())).await.is_ok() {
        sent += piece.len();
        assert!(sent < BUFFERS, "nobody reads, and it is taken all the same");
    }
    drop(sender);
    assert_eq!(client.response().await.body.len(), sent, "nothing is lost once the client reads");
}

#[tokio::test]
async fn a_client_is_not_read_faster_than_the_app_reads() {
    let folder = Folder::new();
    let (release, released) = tokio::sync::watch::channel(false);
    let _app = App::start(folder.socket(), move |request: Request<Incoming>| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            let length = request.into_body().collect().await.unwrap().to_bytes().len();
            Response::new(full(length.to_string()))
        }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    // A buffer grows while somebody reads; nobody does.
    let content = usize::try_from(MAX_BODY_BYTES).unwrap();
    client.send(http::request("POST", "/", &[("Content-Length", &content.to_string())])).await;
    let piece = vec![7; 64 << 10];
    let mut sent = 0;
    while let Ok(written) = timeout(STANDSTILL, client.stream.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < content, "nobody reads, and it is taken all the same");
    }
    release.send(true).unwrap();
    client.send(vec![7; content - sent]).await;
    assert_eq!(client.response().await.text(), content.to_string());
}

#[tokio::test]
async fn trailers_go_through_in_both_directions() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), |request: Request<Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let collected = request.into_body().collect().await.unwrap();
        let sum = collected.trailers().unwrap()["x-sum"].clone();
        let (mut sender, body) = piecewise();
        tokio::spawn(async move {
            sender.send_data(collected.to_bytes()).await.unwrap();
            sender.send_trailers([("x-sum".parse().unwrap(), sum)].into_iter().collect()).await.unwrap();
        });
        Response::builder().header("trailer", "x-sum").body(body).unwrap()
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    let headers = [("Transfer-Encoding", "chunked"), ("Trailer", "x-sum"), ("TE", "trailers")];
    client.send(http::request("POST", "/", &headers) + "2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.text(), "hi");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "42".to_owned())]);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("POST", "/", &[("Expect", "100-continue"), ("Content-Length", "5")])).await;
    assert_eq!(client.head().await.status, 100);
    client.send("hello").await;
    let response = client.response().await;
    assert_eq!(response.head.status, 200);
    assert!(response.text().ends_with("\nhello"), "{}", response.text());
    assert!(!response.text().contains("expect"));
}

#[tokio::test]
async fn an_answer_before_the_body_was_sent_reaches_the_client() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), |_| async {
        Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).body(full("too large")).unwrap()
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("POST", "/", &[("Content-Length", "1000000")])).await;
    let response = client.response().await;
    assert_eq!((response.head.status, response.text()), (413, "too large"));
    assert_eq!(door.connect().await.get("/", &[]).await.head.status, 413, "the next one finds an app that works");
}
