//! A whole server with TLS on its port: what is sent both ways, what a slow reader makes of it, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{io, sync::Arc, time::Duration};

use jasaweb_rt_core::{
    command::Audience,
    config::Config,
    events::{Event, EventQueue},
    frame::Frame,
    hub::Hub,
    server::{Server, new_node_id},
};
use support::{
    config, http,
    http::Client,
    queued_bytes,
    sockets::{CLOSE, PING, Socket, TEXT},
    tls::{self, Certificate, Files},
    token, until, within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::client::TlsStream;

type TlsSocket = Socket<TlsStream<TcpStream>>;

/// A server that is stopped at the end of its test. Never on a thread of the test's runtime: a stop blocks.
struct Running {
    server: Arc<Server>,
    certificate: Certificate,
    events: Arc<EventQueue>,
    _files: Files,
}

impl Running {
    fn start(config: Config) -> Self {
        let certificate = Certificate::new();
        let files = Files::new(&certificate);
        let events = Arc::new(EventQueue::new().unwrap());
        events.listen();
        let config = files.given_to(Config { max_connections_per_ip: 0, connect_rate_per_ip: 0, ..config });
        let server = Arc::new(Server::start(config, new_node_id().unwrap(), &events).unwrap());
        Self { server, certificate, events, _files: files }
    }

    fn hub(&self) -> &Hub {
        self.server.hub().unwrap()
    }

    async fn connect(&self) -> Client<TlsStream<TcpStream>> {
        tls::connect(self.server.address(), &self.certificate).await
    }

    async fn open(&self, user: &str, query: &str) -> TlsSocket {
        Socket::over(self.connect().await, user, query).await.welcomed().await
    }

    /// A socket whose peer takes little before it is read.
    async fn open_narrow(&self, user: &str) -> TlsSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = socket.connect(self.server.address()).await.unwrap();
        let config = tls::client_config(&self.certificate, rustls::ALL_VERSIONS);
        let client = Client::over(tls::handshake_on(socket, &Arc::new(config)).await.unwrap());
        Socket::over(client, user, "").await.welcomed().await
    }

    /// The messages that came from clients, as many as that.
    async fn heard(&self, count: usize) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        until(|| {
            for event in self.events.drain(100) {
                if let Event::ClientFrame { frame, .. } = event {
                    heard.push(frame.to_vec());
                }
            }
            heard.len() >= count
        })
        .await;
        heard
    }

    async fn stop(&self, drain: Duration) {
        let server = Arc::clone(&self.server);
        within(tokio::task::spawn_blocking(move || server.stop(drain))).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let server = Arc::clone(&self.server);
        let _ = std::thread::spawn(move || server.stop(Duration::ZERO)).join();
    }
}

/// Everything that still comes, to an end that TLS says; an end that it does not say is an error.
async fn rest(socket: &mut TlsSocket) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    within(socket.0.stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

fn numbered(number: usize) -> String {
    // On and beside the ends of records, and of the forms of a frame's length.
    let length = [1, 117, 118, 4_000, 16_370, 16_376, 16_377, 16_384, 65_527, 65_529, 200_000][number % 11];
    format!("{number:06} {}", "x".repeat(length))
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_go_both_ways() {
    let running = Running::start(config());
    let mut socket = running.open("user-1", "").await;
    assert_eq!(running.hub().to_user("user-1", || Frame::text("hello")).unwrap(), 1);
    assert_eq!(socket.frame().await, (TEXT, b"hello".to_vec()));
    socket.send(TEXT, b"and back").await;
    assert_eq!(running.heard(1).await, [b"and back"]);
    socket.send(PING, b"are you there").await;
    assert_eq!(socket.frame().await, (0xA, b"are you there".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_with_the_handshake_is_read_by_the_session() {
    let running = Running::start(Config { message_rate: 0, ..config() });
    let mut client = running.connect().await;
    let target = format!("/ws?token={}", token::valid("user-1"));
    // Each in a record of its own, all at once: some of it hyper reads, some nobody but TLS before the hand-over.
    let mut records = vec![http::handshake(&target, &[]).into_bytes()];
    records.extend((0..200).map(|number: u8| {
        let mut frame = vec![0x81, 0x80 + 100, 0, 0, 0, 0];
        frame.extend([b'0' + number % 10; 100]);
        frame
    }));
    for record in &records {
        io::Write::write_all(&mut client.stream.get_mut().1.writer(), record).unwrap();
    }
    client.stream.flush().await.unwrap();
    assert_eq!(client.head().await.status, 101);
    let heard = running.heard(200).await;
    let expected: Vec<_> = records[1..].iter().map(|record| record[6..].to_vec()).collect();
    assert!(heard == expected, "{} messages", heard.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slow_gets_every_frame_whole_and_in_order() {
    const FRAMES: usize = 330;
    let running = Running::start(Config { coalesce: Duration::from_millis(3), ..config() });
    let mut socket = running.open_narrow("user-1").await;
    let reading = tokio::spawn(async move {
        for number in 0..FRAMES {
            let (opcode, payload) = socket.frame().await;
            assert!(opcode == TEXT && payload == numbered(number).as_bytes(), "frame {number}");
        }
        socket
    });
    for number in 0..FRAMES {
        // Within the queue's limit: this is about order, not about who is too slow.
        until(|| queued_bytes(running.hub()) < 500_000).await;
        let frame = Frame::text(&numbered(number));
        if number % 2 == 0 {
            running.hub().to_user("user-1", || frame).unwrap();
        } else {
            running.hub().to_audience(Audience::All, &frame).unwrap();
        }
    }
    let _stays = reading.await.unwrap();
    until(|| queued_bytes(running.hub()) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_too_slow_gets_whole_frames_and_then_the_close() {
    let running = Running::start(Config { send_queue_bytes: 65_536, ..config() });
    let mut socket = running.open_narrow("user-1").await;
    let frame = Frame::text(&"x".repeat(30_000));
    until(|| {
        running.hub().to_user("user-1", || frame.clone()).unwrap();
        running.hub().totals().slow_consumers == 1
    })
    .await;
    let code = loop {
        match socket.frame().await {
            (TEXT, payload) => assert_eq!(payload.len(), 30_000),
            (CLOSE, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 4002);
    socket.send(CLOSE, &4002_u16.to_be_bytes()).await;
    assert_eq!(rest(&mut socket).await.unwrap(), b"");
    until(|| running.hub().total() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_by_1001_and_says_where_the_stream_ends() {
    let running = Running::start(config());
    let (mut answering, mut silent) = (running.open("user-1", "").await, running.open("user-2", "").await);
    let stop = running.stop(Duration::from_secs(2));
    let answer = async {
        assert_eq!(answering.close_code().await, 1001);
        answering.send(CLOSE, &1001_u16.to_be_bytes()).await;
        assert_eq!(rest(&mut answering).await.unwrap(), b"");
    };
    tokio::join!(stop, answer);
    assert_eq!(running.hub().total(), 0);
    assert_eq!(silent.close_code().await, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_hold_is_answered_by_a_close() {
    let running = Running::start(config());
    let mut client = running.connect().await;
    assert_eq!(client.upgrade("/ws?token=none", &[]).await.status, 101);
    let mut socket = Socket(client);
    assert_eq!(socket.close_code().await, 1008);
    socket.send(CLOSE, &1008_u16.to_be_bytes()).await;
    assert_eq!(rest(&mut socket).await.unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_goes_ends_its_session_with_a_word_or_without() {
    let running = Running::start(config());
    for user in ["user-1", "user-2", "user-3"] {
        let mut socket = running.open(user, "").await;
        match user {
            // Without anything.
            "user-1" => drop(socket),
            // It says that TLS ends, and nothing of the WebSocket.
            "user-2" => socket.0.stream.shutdown().await.unwrap(),
            // It breaks TLS.
            _ => socket.0.stream.get_mut().0.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap(),
        }
        until(|| running.hub().total() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_messages_come_as_an_array() {
    let running = Running::start(config());
    let mut socket = running.open("user-1", "&batch=1").await;
    let frames: Vec<_> = (0..50).map(|number| ("user-1", Frame::text(&format!("{{\"n\":{number}}}")))).collect();
    running.hub().to_many(frames).unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 50 {
        match socket.json().await {
            serde_json::Value::Array(items) => numbers.extend(items.into_iter().map(|item| item["n"].clone())),
            item => numbers.push(item["n"].clone()),
        }
    }
    assert_eq!(numbers, (0..50).map(serde_json::Value::from).collect::<Vec<_>>());
}
