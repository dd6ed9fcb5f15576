//! permessage-deflate over real sockets: what is negotiated, what goes out compressed, and what comes in.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{sync::Arc, time::Duration};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use jasaweb_rt_core::{
    command::{Audience, DurableFrame, SyncAnswer},
    config::Config,
    events::{Event, EventQueue},
    frame::Frame,
    server::{Server, new_node_id},
    token::Role,
};
use support::{
    config,
    http::{Client, handshake},
    sockets::{CLOSE, PING, TEXT},
    token, within,
};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A server that is stopped at the end of its test. Never on a thread of the test's runtime: a stop blocks.
struct Running {
    server: Arc<Server>,
    events: Arc<EventQueue>,
}

impl Running {
    fn start(config: Config) -> Self {
        let events = Arc::new(EventQueue::new().unwrap());
        events.listen();
        let server = Arc::new(Server::start(config, new_node_id().unwrap(), &events).unwrap());
        Self { server, events }
    }

    /// A socket of `user`, with the answer to its offer, and its welcome read.
    async fn open(&self, user: &str, offer: &str) -> (Socket, Option<String>) {
        self.open_with(user, "", offer).await
    }

    /// The same with `query` (`&name=value…`) behind its token.
    async fn open_with(&self, user: &str, query: &str, offer: &str) -> (Socket, Option<String>) {
        let mut client = Client::connect(self.server.address()).await;
        let target = format!("/ws?token={}{query}", token::valid(user));
        let head = client.upgrade(&target, &[("Sec-WebSocket-Extensions", offer)]).await;
        assert_eq!(head.status, 101);
        let answer = head.get("sec-websocket-extensions").map(str::to_owned);
        let mut socket = Socket(client);
        let (first, welcome) = socket.frame().await;
        assert_eq!(first, FIN | TEXT, "{welcome:?}");
        (socket, answer)
    }

    async fn open_deflating(&self, user: &str) -> Socket {
        let (socket, answer) = self.open(user, OFFER).await;
        assert_eq!(answer.unwrap(), "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        socket
    }

    /// The next text that a client sent.
    async fn client_text(&self) -> String {
        loop {
            let found = until_some(|| self.events.drain(1).pop()).await;
            if let Event::ClientFrame { frame, .. } = found {
                return String::from_utf8(frame.to_vec()).unwrap();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let server = Arc::clone(&self.server);
        let _ = std::thread::spawn(move || server.stop(Duration::ZERO)).join();
    }
}

async fn until_some<T>(mut look: impl FnMut() -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

/// One open socket that hides nothing of what it is sent.
struct Socket(Client);

impl Socket {
    /// The next frame: its first byte, and its payload as it came.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.0.exactly(2).await;
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.0.exactly(2).await.try_into().unwrap())),
            127 => u64::from_be_bytes(self.0.exactly(8).await.try_into().unwrap()),
            length => u64::from(length),
        };
        (head[0], self.0.exactly(usize::try_from(length).unwrap()).await)
    }

    /// The next message, and whether it came deflated.
    async fn message(&mut self) -> (String, bool) {
        let (first, payload) = self.frame().await;
        assert_eq!(first & !RSV1, FIN | TEXT, "{payload:?}");
        let deflated = first & RSV1 != 0;
        let text = if deflated { inflated(&payload) } else { payload };
        (String::from_utf8(text).unwrap(), deflated)
    }

    /// Reads on to the Close frame: its code.
    async fn close_code(&mut self) -> u16 {
        loop {
            let (first, payload) = self.frame().await;
            if first == FIN | CLOSE {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        self.0.send(frame(first, payload)).await;
    }
}

/// A client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut wire = vec![first];
    match payload.len() {
        length @ 0..=125 => wire.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            wire.push(0x80 | 0x7e);
            wire.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    wire.extend_from_slice(&mask);
    wire.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    wire
}

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(message.len() + 100);
    Compress::new(Compression::new(6), false).compress_vec(message, &mut payload, FlushCompress::Sync).unwrap();
    payload.strip_suffix(&TAIL).unwrap().to_vec()
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 << 20);
    let compressed = [payload, &TAIL].concat();
    Decompress::new(false).decompress_vec(&compressed, &mut message, FlushDecompress::Sync).unwrap();
    message
}

fn text(length: usize) -> String {
    "notifications of the project, ".chars().cycle().take(length).collect()
}

fn deflatable(text: &str) -> Frame {
    Frame::text(text).deflatable(512)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_compressed_once_for_all_who_take_it_so() {
    let running = Running::start(Config { workers: 2, ..config() });
    let hub = running.server.hub().unwrap();
    let mut deflating = Vec::new();
    for user in 0..12 {
        deflating.push(running.open_deflating(&format!("user-{user}")).await);
    }
    let (mut plain, answer) = running.open("user-0", "").await;
    assert_eq!(answer, None);
    for (number, length) in [20_000, 100, 600, 511].into_iter().enumerate() {
        let (expected, before) = (text(length), hub.totals().compressions);
        hub.to_audience(Audience::All, &deflatable(&expected)).unwrap();
        for socket in &mut deflating {
            assert_eq!(socket.message().await, (expected.clone(), length >= 512), "message {number}");
        }
        assert_eq!(plain.message().await, (expected, false));
        assert_eq!(hub.totals().compressions - before, u64::from(length >= 512));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_it_so_nothing_is_compressed() {
    let running = Running::start(Config { workers: 1, ..config() });
    let hub = running.server.hub().unwrap();
    let (mut socket, _) = running.open("user-1", "").await;
    hub.to_user("user-1", || deflatable(&text(5000))).unwrap();
    hub.to_user("user-2", || deflatable(&text(5000))).unwrap();
    assert_eq!(socket.message().await, (text(5000), false));
    assert_eq!(hub.totals().compressions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_durable_and_what_was_missed_is_compressed_too() {
    let running = Running::start(Config { workers: 1, sync: true, ..config() });
    let hub = running.server.hub().unwrap();
    let (mut socket, _) = running.open_with("user-1", "&last_seq=0", OFFER).await;
    let (connection, asked) = until_some(|| match running.events.drain(1).pop()? {
        Event::SyncRequest { connection_id, asked, .. } => Some((connection_id, asked)),
        _ => None,
    })
    .await;
    let frames = vec![(1, deflatable(&text(1000))), (2, deflatable("short"))];
    let preface = Some(deflatable(&text(2000)));
    let answer = SyncAnswer { role: Role::Client, head: 2, through: 2, rev: 2, preface, restart: false, frames };
    hub.answer_sync(&connection, asked, answer).unwrap();
    hub.publish([DurableFrame { user_id: "user-1", seq: 3, rev: 3, frame: deflatable(&text(3000)) }]).unwrap();
    for (expected, deflated) in
        [(text(2000), true), (text(1000), true), ("short".to_owned(), false), (text(3000), true)]
    {
        assert_eq!(socket.message().await, (expected, deflated));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_declined_and_the_connection_is_plain() {
    let running = Running::start(Config { workers: 1, ..config() });
    for offer in ["permessage-deflate; server_max_window_bits=10", "permessage-deflate; bits=1", "x-other"] {
        let (mut socket, answer) = running.open("user-1", offer).await;
        assert_eq!(answer, None, "{offer}");
        running.server.hub().unwrap().to_user("user-1", || deflatable(&text(1000))).unwrap();
        assert_eq!(socket.message().await, (text(1000), false));
        socket.send(FIN | RSV1 | TEXT, &deflated(b"{}")).await;
        assert_eq!(socket.close_code().await, 1002);
    }
    let mut client = Client::connect(running.server.address()).await;
    let target = format!("/ws?token={}", token::valid("user-1"));
    let refusal = client.refused(&target, &[("Sec-WebSocket-Extensions", "permessage-deflate;")]).await;
    assert_eq!((refusal.head.status, refusal.error().as_str()), (400, "Sec-WebSocket-Extensions is malformed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_declined_where_it_is_off_and_where_the_token_does_not_hold() {
    let running = Running::start(Config { workers: 1, compress_min_bytes: 0, ..config() });
    assert_eq!(running.open("user-1", OFFER).await.1, None);
    let running = Running::start(Config { workers: 1, ..config() });
    let mut client = Client::connect(running.server.address()).await;
    let head = client.upgrade("/ws?token=nonsense", &[("Sec-WebSocket-Extensions", OFFER)]).await;
    assert_eq!((head.status, head.get("sec-websocket-extensions")), (101, None));
    assert_eq!(Socket(client).close_code().await, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_of_a_client_arrive() {
    let running = Running::start(Config { workers: 1, ..config() });
    let mut socket = running.open_deflating("user-1").await;
    let long = text(30_000);
    socket.send(FIN | RSV1 | TEXT, &deflated(long.as_bytes())).await;
    assert_eq!(running.client_text().await, long);
    // Between two messages nothing is kept of the first.
    socket.send(FIN | TEXT, b"plain").await;
    assert_eq!(running.client_text().await, "plain");
    // The last block of its stream (RFC 7692 section 7.2.3.4).
    socket.send(FIN | RSV1 | TEXT, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]).await;
    assert_eq!(running.client_text().await, "Hello");
    // In fragments with a ping between them, one byte at a time.
    let payload = deflated(b"in pieces, in pieces, in pieces");
    let (first, second) = payload.split_at(4);
    let wire =
        [frame(RSV1 | TEXT, first), frame(FIN | PING, b"between"), frame(FIN, second), frame(FIN | TEXT, b"next")];
    for byte in wire.concat() {
        socket.0.send(vec![byte]).await;
    }
    assert_eq!(socket.frame().await, (FIN | 0xA, b"between".to_vec()));
    assert_eq!(running.client_text().await, "in pieces, in pieces, in pieces");
    assert_eq!(running.client_text().await, "next");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_right_behind_the_handshake_arrives() {
    let running = Running::start(Config { workers: 1, ..config() });
    let target = format!("/ws?token={}", token::valid("user-1"));
    let mut bytes = handshake(&target, &[("Sec-WebSocket-Extensions", OFFER)]).into_bytes();
    let message = frame(FIN | RSV1 | TEXT, &deflated(b"without waiting"));
    let (now, later) = message.split_at(9);
    bytes.extend_from_slice(now);
    let mut client = Client::connect(running.server.address()).await;
    client.send(bytes).await;
    assert_eq!(client.head().await.status, 101);
    client.send(later.to_vec()).await;
    assert_eq!(running.client_text().await, "without waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_closes_with_its_code() {
    let running = Running::start(Config { workers: 1, message_rate: 0, ..config() });
    let bomb = deflated(&vec![b' '; 10 << 20]);
    let fine = deflated(b"{}");
    let cases: [(u16, Vec<u8>); 9] = [
        (1009, frame(FIN | RSV1 | TEXT, &bomb)),
        (1007, frame(FIN | RSV1 | TEXT, &[0x06])),
        (1007, frame(FIN | RSV1 | TEXT, &fine[..fine.len() - 1])),
        (1007, frame(FIN | RSV1 | TEXT, &deflated(&[0xc3, 0x28]))),
        (1003, frame(FIN | RSV1 | 2, &fine)),
        (1002, [frame(RSV1 | TEXT, &fine), frame(FIN | RSV1, &fine)].concat()),
        (1002, [frame(RSV1 | TEXT, &fine), frame(FIN | TEXT, b"{}")].concat()),
        (1002, frame(FIN | RSV1 | PING, b"")),
        (1002, frame(FIN | 0x20 | TEXT, b"{}")),
    ];
    for (index, (code, wire)) in cases.into_iter().enumerate() {
        let mut socket = running.open_deflating(&format!("user-{index}")).await;
        socket.0.send(wire).await;
        assert_eq!(socket.close_code().await, code, "case {index}");
    }
}
