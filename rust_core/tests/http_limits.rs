//! What plain HTTP may take: content, its pace, that of a response, requests and connections of one address.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use jasaweb_rt_core::{
    config::Config, front_door::HttpRefusals, http_limits::CONNECTIONS_PER_WEBSOCKET,
    http_requests::REQUESTS_PER_CONNECT, patience::PATIENCE, request_body::MAX_BODY_BYTES,
};
use support::{
    Door,
    app::{self, App, Folder, door_to, full, piecewise},
    config, http,
    token::{self, with_token},
    within,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// An app that reads a request's content to its end, and tells how many bytes there were, or that it broke off.
fn measuring(folder: &Folder) -> (App, mpsc::UnboundedReceiver<Option<usize>>) {
    let (told, lengths) = mpsc::unbounded_channel();
    let app = App::start(folder.socket(), move |request: Request<Incoming>| {
        let told = told.clone();
        async move {
            let content = request.into_body().collect().await.ok();
            told.send(content.map(|content| content.to_bytes().len())).unwrap();
            Response::new(full(""))
        }
    });
    (app, lengths)
}

#[tokio::test]
async fn content_that_says_to_be_too_large_is_not_read() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("POST", "/", &[("Content-Length", &(MAX_BODY_BYTES + 1).to_string())])).await;
    let response = client.response().await;
    assert_eq!((response.head.status, response.head.get("connection")), (413, Some("close")));
    assert_eq!(response.error(), "The request's content is too large");
    client.until_end().await;
    assert_eq!(door.front.http_refusals(), HttpRefusals { too_large: 1, ..HttpRefusals::default() });
}

#[tokio::test]
async fn content_that_turns_out_to_be_too_large_ends() {
    let folder = Folder::new();
    let (_app, mut lengths) = measuring(&folder);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("POST", "/", &[("Transfer-Encoding", "chunked")])).await;
    let (mut client, mut writing) = client.split();
    let sending = tokio::spawn(async move {
        let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
        while tokio::io::AsyncWriteExt::write_all(&mut writing, &chunk).await.is_ok() {}
    });
    assert_eq!(client.response().await.head.status, 413);
    assert_eq!(within(lengths.recv()).await.unwrap(), None, "the app sees that it is not whole");
    drop(client);
    within(sending).await.unwrap();
    assert_eq!(door.front.http_refusals().too_large, 1);
}

/// With paused time, what is waited for is over at once, and the order of events is that of their times.
#[tokio::test(start_paused = true)]
async fn content_that_trickles_is_not_waited_for() {
    let folder = Folder::new();
    let (_app, mut lengths) = measuring(&folder);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("POST", "/", &[("Content-Length", "1000")])).await;
    let begin = Instant::now();
    let (mut client, mut writing) = client.split();
    let trickle = tokio::spawn(async move {
        while tokio::io::AsyncWriteExt::write_all(&mut writing, b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let response = client.response().await;
    assert_eq!(response.head.status, 408);
    assert_eq!(response.error(), "The request's content came too slowly");
    assert!(begin.elapsed() >= PATIENCE);
    assert_eq!(within(lengths.recv()).await.unwrap(), None);
    assert_eq!(door.front.http_refusals().too_slow, 1);
    drop(client);
    within(trickle).await.unwrap();
}

#[tokio::test]
async fn malformed_content_is_a_400_and_the_app_sees_that_it_is_not_whole() {
    let folder = Folder::new();
    let (_app, mut lengths) = measuring(&folder);
    let door = door_to(&folder);
    for wrong in ["2\r\nabc", "2\nab", "g", "2;\n", "0\r\nX: a\n"] {
        let mut client = door.connect().await;
        client.send(http::request("POST", "/", &[("Transfer-Encoding", "chunked")]) + "3\r\nabc\r\n" + wrong).await;
        let response = client.response().await;
        assert_eq!(response.head.status, 400, "{wrong:?}");
        assert_eq!(response.error(), "The request's content is malformed");
        assert_eq!(within(lengths.recv()).await.unwrap(), None);
        client.until_end().await;
    }
    assert_eq!(door.front.http_refusals().malformed, 5);
}

/// A response that is larger than all buffers on its way.
fn endless() -> Bytes {
    Bytes::from(vec![b'x'; 64 << 20])
}

#[tokio::test(start_paused = true)]
async fn a_response_that_nobody_takes_is_given_up() {
    let folder = Folder::new();
    let response = endless();
    let _app = App::start(folder.socket(), move |_| {
        let body = Full::from(response.clone()).map_err(Into::into).boxed();
        async { Response::new(body) }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("GET", "/", &[])).await;
    while door.front.http_refusals().too_slow == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(client.until_end().await.len() < endless().len());
    support::until(|| door.front.http_connections() == 0).await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_is_told_so() {
    let door = Door::open(Config { max_connections_per_ip: 1, ..config() });
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut client = door.connect().await;
        assert_eq!(client.get("/", &[]).await.head.status, 404);
        held.push(client);
    }
    let mut refused = door.connect().await;
    let response = refused.get("/", &[]).await;
    assert_eq!((response.head.status, response.head.get("retry-after")), (429, Some("5")));
    assert_eq!(response.head.get("connection"), Some("close"));
    assert_eq!(response.error(), "Too many open connections from this address");
    assert!(refused.until_end().await.is_empty());
    assert_eq!(door.front.http_connections(), 6);
    drop(held.pop());
    support::until(|| door.front.http_connections() == 5).await;
    assert_eq!(door.connect().await.get("/", &[]).await.head.status, 404);
    assert_eq!(door.front.http_refusals().address_full, 1);
}

#[tokio::test]
async fn a_websocket_takes_no_place_of_http() {
    let mut door = Door::open(Config { max_connections_per_ip: 2, ..config() });
    let mut sockets = Vec::new();
    for number in 0..2 {
        let mut client = door.connect().await;
        assert_eq!(client.upgrade(&with_token(&token::valid(&format!("user-{number}"))), &[]).await.status, 101);
        sockets.push((client, door.next_admitted().await));
    }
    support::until(|| door.front.http_connections() == 0).await;
    assert_eq!(door.connect().await.get("/", &[]).await.head.status, 404);
}

#[tokio::test]
async fn a_trusted_proxys_clients_count_each_for_themselves() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let limits = Config { max_connections_per_ip: 1, connect_rate_per_ip: 1, connect_burst_per_ip: 1, ..config() };
    let door = Door::open(Config { app: Some(folder.address()), trusted_proxies, ..limits });
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(door.connect().await);
    }
    // On a machine that is slow enough, some of them come in time for the rate.
    let refused = loop {
        let response = clients[0].get("/", &[("X-Forwarded-For", "192.0.2.1")]).await;
        if response.head.status != 200 {
            break response;
        }
    };
    assert_eq!(refused.head.status, 429);
    assert_eq!(refused.error(), "Too many requests from this address");
    assert!(refused.head.get("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(clients[1].get("/", &[("X-Forwarded-For", "192.0.2.2")]).await.head.status, 200);
    assert_eq!(clients[0].get("/", &[("X-Forwarded-For", "192.0.2.2")]).await.head.status, 200);
    assert_eq!(door.front.http_refusals(), HttpRefusals { rate: 1, ..HttpRefusals::default() });
}

/// Nothing is asserted of the time that this takes: the clock says how many requests may have been let through in it.
#[tokio::test]
async fn who_goes_on_asking_is_let_through_at_the_rate_and_not_faster() {
    const RATE: u32 = 5;
    const BURST: u32 = 1;
    const BEYOND_BURST: u32 = 50;
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let limits = Config { connect_rate_per_ip: RATE, connect_burst_per_ip: BURST, ..config() };
    let door = Door::open(Config { app: Some(folder.address()), trusted_proxies, ..limits });
    let (rate, burst) = (RATE * REQUESTS_PER_CONNECT, BURST * REQUESTS_PER_CONNECT);
    let mut client = door.connect().await;
    let begin = std::time::Instant::now();
    let (mut let_through, mut held_back) = (0, 0);
    while let_through < burst + BEYOND_BURST {
        match client.get("/", &[("X-Forwarded-For", "192.0.2.1")]).await.head.status {
            200 => let_through += 1,
            status => {
                assert_eq!(status, 429);
                held_back += 1;
            }
        }
        let allowed = f64::from(burst) + f64::from(rate) * begin.elapsed().as_secs_f64();
        assert!(f64::from(let_through) <= allowed, "{let_through} of {allowed}");
    }
    assert_eq!(door.front.http_refusals().rate, held_back);
}

/// What a trusted proxy says of one client. Of that one's connections it may have any number.
const OF_ONE: [(&str, &str); 1] = [("X-Forwarded-For", "192.0.2.1")];

/// A door that lets each client have one WebSocket, and trusts the proxy that all of them come through.
fn behind_proxy(folder: &Folder) -> Door {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    Door::open(Config { app: Some(folder.address()), trusted_proxies, max_connections_per_ip: 1, ..config() })
}

#[tokio::test]
async fn an_address_has_so_many_requests_under_way() {
    let folder = Folder::new();
    let (release, released) = watch::channel(false);
    let _app = App::start(folder.socket(), move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            Response::new(full("done"))
        }
    });
    let door = behind_proxy(&folder);
    let mut clients = Vec::new();
    // Which of them comes last is the machine's choice.
    for _ in 0..=CONNECTIONS_PER_WEBSOCKET {
        let mut client = door.connect().await;
        client.send(http::request("GET", "/", &OF_ONE)).await;
        clients.push(client);
    }
    support::until(|| door.front.http_refusals().requests_address_full == 1).await;
    release.send(true).unwrap();
    let mut responses = Vec::new();
    for client in &mut clients {
        responses.push(client.response().await);
    }
    responses.sort_by_key(|response| response.head.status);
    let refused = responses.pop().unwrap();
    assert!(responses.iter().all(|response| response.text() == "done"));
    assert_eq!((refused.head.status, refused.head.get("retry-after")), (429, Some("1")));
    assert_eq!(refused.error(), "Too many requests under way from this address");
    assert_eq!(clients[0].get("/", &OF_ONE).await.text(), "done", "the place is free again");
}

/// More than all the places that a server has.
const MANY: usize = 150;

#[tokio::test]
async fn content_that_does_not_come_leaves_places_for_what_needs_none() {
    let folder = Folder::new();
    let app = App::start(folder.socket(), app::echo);
    let door = Door::open(Config { app: Some(folder.address()), max_connections_per_ip: 0, ..config() });
    let mut silent = Vec::new();
    for _ in 0..MANY {
        let mut client = door.connect().await;
        client.send(http::request("POST", "/", &[("Content-Length", "100")])).await;
        silent.push(client);
    }
    support::until(|| app.accepted() > 1).await;
    let mut client = door.connect().await;
    assert_eq!(client.get("/", &[]).await.head.status, 200);
    client.send(http::request("POST", "/", &[("Content-Length", "0")])).await;
    assert_eq!(client.response().await.head.status, 200);
    assert_eq!(silent[0].stream.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(silent);
    client.send(http::request("POST", "/", &[("Content-Length", "3")]) + "abc").await;
    let response = client.response().await;
    assert!(response.text().ends_with("\nabc"), "their places are free again: {response:?}");
}

#[tokio::test]
async fn a_response_holds_its_place_up_to_its_end() {
    let folder = Folder::new();
    let (sender, body) = piecewise();
    let (others, waiting): (Vec<_>, Vec<_>) = (1..CONNECTIONS_PER_WEBSOCKET).map(|_| piecewise()).unzip();
    let bodies: Vec<_> = [full("next")].into_iter().chain(waiting).chain([body]).collect();
    let bodies = Arc::new(Mutex::new(bodies));
    let _app = App::start(folder.socket(), move |_| {
        let body = bodies.lock().unwrap().pop().unwrap();
        async { Response::new(body) }
    });
    let door = behind_proxy(&folder);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS_PER_WEBSOCKET {
        let mut client = door.connect().await;
        client.send(http::request("GET", "/", &OF_ONE)).await;
        assert_eq!(client.head().await.status, 200);
        clients.push(client);
    }
    assert_eq!(door.connect().await.get("/", &OF_ONE).await.head.status, 429);
    drop(sender);
    let client = &mut clients[0];
    assert_eq!(client.chunk().await, None);
    client.exactly(2).await;
    assert_eq!(client.get("/", &OF_ONE).await.text(), "next");
    drop(others);
}
