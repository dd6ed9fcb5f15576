//! An app on a TCP port, one that goes while requests come, and probes that another app answers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hyper::Response;
use jasaweb_rt_core::{app_address::AppAddress, config::Config};
use support::{
    Door,
    app::{self, App, Folder, door_to, full},
    config, http,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn an_app_on_a_tcp_port_is_reached_by_address_and_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let folder = Folder::new();
        let _app = App::start(folder.socket(), app::echo);
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut inside = UnixStream::connect(folder.socket()).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut inside).await });
        }
    });
    for host in ["127.0.0.1", "localhost"] {
        let door = Door::open(Config { app: Some(AppAddress::Tcp { host: host.to_owned(), port }), ..config() });
        let response = door.connect().await.get("/projects", &[]).await;
        assert_eq!(response.head.status, 200, "{host}");
        assert!(response.text().starts_with("GET /projects HTTP/1.1\n"), "{host}");
    }
    serving.abort();
}

#[tokio::test]
async fn a_tcp_port_where_nobody_listens_is_a_503() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let door = Door::open(Config { app: AppAddress::parse(&format!("http://127.0.0.1:{port}")), ..config() });
    let response = door.connect().await.get("/", &[]).await;
    assert_eq!((response.head.status, response.head.get("retry-after")), (503, Some("1")));
}

/// An app whose connections end at a request, as they do where the app ends just then.
struct Ending {
    /// Connections that it has accepted.
    accepted: Arc<AtomicUsize>,
    /// Those that have ended at a request after they had answered one.
    ended: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Ending {
    /// The first `answering` connections answer one request each and end at the next; those after them at the first.
    fn start(folder: &Folder, answering: usize) -> Self {
        let listener = UnixListener::bind(folder.socket()).unwrap();
        let (accepted, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&accepted), Arc::clone(&ended));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answers = counts.0.fetch_add(1, Ordering::SeqCst) < answering;
                let ended = Arc::clone(&counts.1);
                connections.spawn(async move {
                    let mut head = [0; 4096];
                    let was_asked = stream.read(&mut head).await.unwrap() > 0;
                    if was_asked && answers {
                        stream.write_all(ANSWER).await.unwrap();
                        let asked_again = stream.read(&mut head).await.is_ok_and(|count| count > 0);
                        ended.fetch_add(usize::from(asked_again), Ordering::SeqCst);
                    }
                });
            }
        });
        Self { accepted, ended, serving }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Whether a connection that had answered has ended at a request.
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test]
async fn a_safe_request_that_met_a_closing_connection_is_sent_once_more() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let folder = Folder::new();
        let app = Ending::start(&folder, usize::MAX);
        let door = door_to(&folder);
        let mut client = door.connect().await;
        // The pool may open a connection although another is about to be idle.
        while !app.has_ended() {
            client.send(http::request(method, "/", &[])).await;
            assert_eq!(client.head().await.status, 200, "{method}");
        }
    }
}

#[tokio::test]
async fn what_may_have_changed_something_is_not_sent_twice() {
    let requests: [(&str, &[(&str, &str)]); 3] = [("POST", &[]), ("DELETE", &[]), ("GET", &[("Content-Length", "2")])];
    for (method, headers) in requests {
        let folder = Folder::new();
        let app = Ending::start(&folder, usize::MAX);
        let door = door_to(&folder);
        let mut client = door.connect().await;
        loop {
            let before = app.accepted();
            let content = if headers.is_empty() { "" } else { "{}" };
            client.send(http::request(method, "/", headers) + content).await;
            let status = client.response().await.head.status;
            if app.has_ended() {
                assert_eq!((status, app.accepted()), (502, before), "{method}");
                break;
            }
            assert_eq!(status, 200, "{method}");
        }
    }
}

#[tokio::test]
async fn a_second_try_that_fails_is_the_last() {
    let folder = Folder::new();
    let app = Ending::start(&folder, 1);
    let door = door_to(&folder);
    let mut client = door.connect().await;
    assert_eq!(client.get("/", &[]).await.head.status, 200);
    assert_eq!(client.get("/", &[]).await.head.status, 502);
    assert_eq!(app.accepted(), 2);
}

#[tokio::test]
async fn probes_are_answered_by_whom_they_are_for() {
    let (outside, inside) = (Folder::new(), Folder::new());
    let app = App::start(outside.socket(), |_| async { Response::new(full("app")) });
    let _probes = App::start(inside.socket(), |_| async { Response::new(full("probe")) });
    let door = Door::open(Config { app: Some(outside.address()), probe_app: Some(inside.address()), ..config() });
    let mut client = door.connect().await;
    for path in ["/healthz", "/readyz?detail=1", "/metrics"] {
        assert_eq!(client.get(path, &[]).await.text(), "probe", "{path}");
    }
    for path in ["/", "/healthz/", "/api/healthz"] {
        assert_eq!(client.get(path, &[]).await.text(), "app", "{path}");
    }
    client.send(http::request("POST", "/readyz", &[("Content-Length", "2")]) + "{}").await;
    assert_eq!(client.response().await.text(), "probe", "whatever the method");
    app.kill().await;
    assert_eq!(client.get("/", &[]).await.head.status, 503);
    assert_eq!(client.get("/readyz", &[]).await.text(), "probe");
}
