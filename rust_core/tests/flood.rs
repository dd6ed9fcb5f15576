//! A client that sends all it may while the server floods it, over sockets that take little at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{sync::Arc, time::Duration};

use jasaweb_rt_core::{
    config::Config,
    events::{Event, EventQueue},
    frame::Frame,
    server::{Server, new_node_id},
};
use support::{
    config,
    http::Client,
    queued_bytes,
    sockets::{Socket, TEXT},
    within,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream, tcp::OwnedWriteHalf},
};

const PONG: u8 = 0xA;

/// Frames of the flood; with their sizes some 20 MB.
const FLOOD: usize = 1_500;

/// Bytes of the longest message that a client may send here.
const LONGEST: usize = 65_536;

/// What the server sends: every form of the length, and what lies next to where they change.
fn flood_frame(number: usize) -> String {
    let length = [1, 117, 118, 119, 300, 4_000, 65_527, 65_528, 65_529, 20_000][number % 10];
    format!("{number:06} {}", "x".repeat(length))
}

/// A frame as a client sends it.
fn client_frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![(u8::from(fin) << 7) | opcode];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => frame.push(0x80 | length.to_le_bytes()[0]),
        Ok(length) => {
            frame.push(0xFE);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0xFF);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    let mask = [0xA5, 0x00, 0xFF, 0x3C];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A message in fragments of `lengths`, the last of what is left, with a ping behind each but the last.
fn fragmented(message: &[u8], lengths: &[usize], pings: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = message;
    for (index, length) in lengths.iter().enumerate() {
        let (part, left) = rest.split_at((*length).min(rest.len()));
        bytes.extend(client_frame(u8::from(index == 0), false, part));
        let ping = format!("ping {}", pings.len()).into_bytes();
        bytes.extend(client_frame(0x9, true, &ping));
        pings.push(ping);
        rest = left;
    }
    bytes.extend(client_frame(u8::from(lengths.is_empty()), true, rest));
    bytes
}

/// What the client sends: its bytes, the messages in them, the pings in them.
struct Said {
    bytes: Vec<u8>,
    messages: Vec<Vec<u8>>,
    pings: Vec<Vec<u8>>,
}

fn everything_allowed() -> Said {
    let mut said = Said { bytes: Vec::new(), messages: Vec::new(), pings: Vec::new() };
    let ways: [(usize, Vec<usize>); 7] = [
        (LONGEST, vec![]),
        (LONGEST, vec![1, 0, 0, 125, 126, 30_000]),
        (LONGEST, vec![65; 1_000]),
        // Cut within characters of several bytes, which are whole only in the message.
        (999, vec![1; 500]),
        (0, vec![]),
        (0, vec![0; 50]),
        (300, vec![100, 100]),
    ];
    for (length, lengths) in ways {
        let message: String = "é€😀".chars().cycle().take(length).collect();
        let end = (0..=length.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap();
        let mut message = message.into_bytes();
        message.truncate(end);
        message.resize(length, b'.');
        said.bytes.extend(fragmented(&message, &lengths, &mut said.pings));
        said.messages.push(message);
    }
    said
}

/// Writes `bytes` in pieces, of one byte each at first.
async fn write_in_pieces(mut stream: OwnedWriteHalf, bytes: Vec<u8>) -> OwnedWriteHalf {
    let (single, rest) = bytes.split_at(bytes.len().min(3_000));
    let pieces = single.chunks(1).chain(rest.chunks(700));
    for piece in pieces {
        within(stream.write_all(piece)).await.unwrap();
    }
    stream
}

struct Running(Arc<Server>, Arc<EventQueue>);

impl Running {
    fn start() -> Self {
        let events = Arc::new(EventQueue::new().unwrap());
        events.listen();
        let config =
            Config { max_message_bytes: LONGEST, message_rate: 0, coalesce: Duration::from_millis(1), ..config() };
        Self(Arc::new(Server::start(config, new_node_id().unwrap(), &events).unwrap()), events)
    }

    /// A socket that takes little before it is read.
    async fn open_narrow(&self) -> Socket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream: TcpStream = socket.connect(self.0.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Socket::over(Client::over(stream), "user-1", "").await.welcomed().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let server = Arc::clone(&self.0);
        let _ = std::thread::spawn(move || server.stop(Duration::ZERO)).join();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_and_all_that_a_client_may_send_pass_each_other_whole() {
    let running = Running::start();
    let socket = running.open_narrow().await;
    let (mut reading, writing) = socket.split();
    let said = everything_allowed();
    let writing = tokio::spawn(write_in_pieces(writing, said.bytes));
    let flooding = tokio::task::spawn_blocking({
        let server = Arc::clone(&running.0);
        move || {
            let hub = server.hub().unwrap();
            for number in 0..FLOOD {
                // Within the queue's limit: this is about what arrives, not about who is too slow.
                while queued_bytes(hub) > 400_000 {
                    std::thread::yield_now();
                }
                hub.to_user("user-1", || Frame::text(&flood_frame(number))).unwrap();
            }
        }
    });
    let (mut received, mut pongs) = (0, Vec::new());
    while received < FLOOD || pongs.len() < said.pings.len() {
        match reading.frame().await {
            (TEXT, payload) => {
                assert!(
                    payload == flood_frame(received).as_bytes(),
                    "number {received} of the flood is not what was sent"
                );
                received += 1;
            }
            (PONG, payload) => pongs.push(payload),
            other => panic!("nobody sent {other:?}"),
        }
    }
    assert_eq!(received, FLOOD);
    assert!(pongs == said.pings, "pongs are not the pings");
    within(flooding).await.unwrap();
    let _open = within(writing).await.unwrap();
    let mut heard = Vec::new();
    within(async {
        while heard.len() < said.messages.len() {
            for event in running.1.drain(usize::MAX) {
                match event {
                    Event::ClientFrame { frame, .. } => heard.push(frame.to_vec()),
                    Event::Disconnected { code, reason, .. } => panic!("closed by {code} {reason}"),
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(heard == said.messages, "messages of the client are not what it sent");
}
