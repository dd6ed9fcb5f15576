//! Forwarding to an app that dies, keeps silent, has a full backlog or is not there, and for a client that leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use socket2::{Domain, SockAddr, Socket, Type};
use support::{
    app::{self, App, AppBody, Folder, door_to, full, piecewise},
    http, within,
};
use tokio::{sync::mpsc, time::timeout};

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_at_the_app() {
    let folder = Folder::new();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let _app = App::start(folder.socket(), move |request: Request<Incoming>| {
        let ended = ended.clone();
        async move {
            ended.send(request.into_body().collect().await.is_err()).unwrap();
            Response::new(full(""))
        }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("POST", "/", &[("Content-Length", "10")]) + "half").await;
    drop(client);
    assert!(within(ends.recv()).await.unwrap(), "the app sees a broken body, not a short one");
}

#[tokio::test]
async fn without_an_app_503_and_once_it_is_there_all_is_well() {
    let folder = Folder::new();
    let door = door_to(&folder);
    let mut client = door.connect().await;
    let response = client.get("/", &[]).await;
    assert_eq!((response.head.status, response.head.get("retry-after")), (503, Some("1")));
    assert_eq!(response.error(), "The application cannot be reached; try again in a moment");
    let _app = App::start(folder.socket(), app::echo);
    assert_eq!(client.get("/", &[]).await.head.status, 200);
}

#[tokio::test]
async fn an_app_that_restarts_is_found_again() {
    let folder = Folder::new();
    let door = door_to(&folder);
    let mut client = door.connect().await;
    for _ in 0..3 {
        let app = App::start(folder.socket(), app::echo);
        assert_eq!(client.get("/", &[]).await.head.status, 200);
        app.kill().await;
        assert_eq!(client.get("/", &[]).await.head.status, 503);
    }
}

#[tokio::test]
async fn an_app_that_dies_before_it_answers_is_a_502() {
    let folder = Folder::new();
    let (asked, mut requests) = mpsc::unbounded_channel();
    let app = App::start(folder.socket(), move |_| {
        asked.send(()).unwrap();
        std::future::pending::<Response<AppBody>>()
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("GET", "/", &[])).await;
    within(requests.recv()).await.unwrap();
    app.kill().await;
    let response = client.response().await;
    assert_eq!(response.head.status, 502);
    assert_eq!(response.error(), "The application broke off before it answered");
    assert_eq!(client.get("/", &[]).await.head.status, 503);
}

#[tokio::test]
async fn an_app_that_dies_in_mid_answer_leaves_a_visibly_broken_one() {
    let folder = Folder::new();
    let (sender, body) = piecewise();
    let body = Arc::new(Mutex::new(Some(body)));
    let app = App::start(folder.socket(), move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("GET", "/", &[])).await;
    assert_eq!(client.head().await.status, 200);
    let mut sender = sender;
    sender.send_data(Bytes::from("begin")).await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"begin");
    app.kill().await;
    assert_eq!(client.until_end().await, b"", "no last chunk, so that nobody takes it for whole");
}

/// With paused time, the wait for an app that keeps silent is over at once.
#[tokio::test(start_paused = true)]
async fn an_app_that_keeps_silent_is_a_504() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), |_| std::future::pending::<Response<AppBody>>());
    let door = door_to(&folder);
    let begin = tokio::time::Instant::now();
    let response = door.connect().await.get("/", &[]).await;
    assert_eq!(response.head.status, 504);
    assert_eq!(response.error(), "The application did not answer in time");
    assert!((60..63).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_long_upload_is_not_a_silent_app() {
    let folder = Folder::new();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let _app = App::start(folder.socket(), move |request: Request<Incoming>| {
        let arrived = arrived.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                arrived.send(frame.into_data().unwrap().len()).unwrap();
            }
            Response::new(full("done"))
        }
    });
    let door = door_to(&folder);
    let mut client = door.connect().await;
    // While a blocking task runs, time passes only where the test says so.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let clock = tokio::task::spawn_blocking(move || ended.recv());
    client.send(http::request("POST", "/", &[("Content-Length", "160000")])).await;
    for _ in 0..4 {
        client.send(vec![b'x'; 40_000]).await;
        let mut left = 40_000;
        while left > 0 {
            tokio::select! {
                head = client.head() => panic!("answered before the upload was over: {head:?}"),
                arrived = arrivals.recv() => left -= arrived.unwrap(),
            }
        }
        tokio::time::advance(Duration::from_secs(25)).await;
    }
    assert_eq!(client.response().await.text(), "done");
    drop(end);
    assert!(clock.await.unwrap().is_err());
}

#[tokio::test]
async fn a_stop_lets_an_exchange_finish() {
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
    assert_eq!(client.head().await.status, 200);
    door.stop.cancel();
    let mut sender = sender;
    for piece in ["one", "two"] {
        sender.send_data(Bytes::from(piece)).await.unwrap();
        assert_eq!(client.chunk().await.unwrap(), piece.as_bytes());
    }
    assert!(!door.serving.is_finished());
    drop(sender);
    assert_eq!(client.chunk().await, None);
    within(door.serving).await.unwrap().unwrap();
}

/// A listening Unix socket whose backlog is full; what fills it goes with the second part.
fn full_backlog(folder: &Folder) -> (tokio::net::UnixListener, Vec<Socket>) {
    let unix = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let address = SockAddr::unix(folder.socket()).unwrap();
    let listener = unix();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut filling = Vec::new();
    loop {
        let socket = unix();
        match socket.connect(&address) {
            Ok(()) => filling.push(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    (tokio::net::UnixListener::from_std(listener.into()).unwrap(), filling)
}

/// A full backlog fails a non-blocking `connect` at once. With paused time, half a second of tries passes in no time.
#[tokio::test(start_paused = true)]
async fn a_request_waits_for_an_app_whose_backlog_is_full() {
    let folder = Folder::new();
    let (listener, _filling) = full_backlog(&folder);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    client.send(http::request("GET", "/", &[])).await;
    timeout(Duration::from_millis(500), client.head()).await.unwrap_err();
    let serving = tokio::spawn(app::serve(listener, app::echo, Arc::default()));
    assert_eq!(client.response().await.head.status, 200);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_stays_full_is_a_503() {
    let folder = Folder::new();
    let (_listener, _filling) = full_backlog(&folder);
    let door = door_to(&folder);
    assert_eq!(door.connect().await.get("/", &[]).await.head.status, 503);
}
