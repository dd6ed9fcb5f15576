//! A whole server with real sockets: what sessions are sent, in which order, and how they end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jasaweb_rt_core::{
    command::{Audience, DurableFrame, ReadFrame, SyncAnswer},
    config::Config,
    events::{Asked, Event, EventQueue, MAX_EVENTS},
    frame::Frame,
    hub::Hub,
    server::{Server, new_node_id},
    token::Role,
};
use serde_json::json;
use support::{
    config,
    http::Client,
    queued_bytes,
    sockets::{CLOSE, PING, Socket, TEXT},
    until, within,
};
use tokio::{net::TcpSocket, task::JoinSet};

/// A server that is stopped at the end of its test. Never on a thread of the test's runtime: a stop blocks.
struct Running {
    server: Arc<Server>,
    events: Arc<EventQueue>,
    /// What its one session has asked for last.
    asked: Cell<Option<Asked>>,
}

impl Running {
    fn start(config: Config) -> Self {
        let events = Arc::new(EventQueue::new().unwrap());
        events.listen();
        let config = Config { max_connections_per_ip: 0, connect_rate_per_ip: 0, ..config };
        let server = Arc::new(Server::start(config, new_node_id().unwrap(), &events).unwrap());
        Self { server, events, asked: Cell::new(None) }
    }

    fn hub(&self) -> &Hub {
        self.server.hub().unwrap()
    }

    async fn open(&self, user: &str, query: &str) -> Socket {
        Socket::open(self.server.address(), user, query).await.welcomed().await
    }

    /// A socket whose peer takes little before it is read.
    async fn open_narrow(&self, user: &str, query: &str) -> Socket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let client = Client::over(socket.connect(self.server.address()).await.unwrap());
        Socket::over(client, user, query).await.welcomed().await
    }

    async fn stop(&self, drain: Duration) {
        let server = Arc::clone(&self.server);
        within(tokio::task::spawn_blocking(move || server.stop(drain))).await.unwrap();
    }

    /// The next request of the session, other events passed over: its connection and what it asks for. Where it asks for
    /// the same again, which it does every 5 s while nobody answers, that is no other request.
    async fn sync_request(&self) -> (String, Asked) {
        let mut found = None;
        until(|| {
            found = self.events.drain(1).into_iter().find_map(|event| match event {
                Event::SyncRequest { connection_id, asked, .. } if self.asked.get() != Some(asked) => {
                    Some((connection_id, asked))
                }
                _ => None,
            });
            found.is_some()
        })
        .await;
        let found = found.unwrap();
        self.asked.set(Some(found.1));
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let server = Arc::clone(&self.server);
        let _ = std::thread::spawn(move || server.stop(Duration::ZERO)).join();
    }
}

fn text(value: &serde_json::Value) -> Frame {
    Frame::text(&value.to_string())
}

fn answer(head: u64) -> SyncAnswer {
    let preface = Some(text(&json!({ "type": "sync" })));
    SyncAnswer { role: Role::Client, head, through: head, rev: head, preface, restart: false, frames: Vec::new() }
}

fn syncing() -> Config {
    Config { sync: true, workers: 1, ..config() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cuts_those_who_do_not_go_and_tells_of_each() {
    let running = Running::start(config());
    let mut socket = running.open("user-1", "").await;
    running.stop(Duration::from_millis(50)).await;
    assert_eq!(running.hub().total(), 0, "a connection outlived its server");
    assert_eq!(socket.close_code().await, 1001);
    assert!(socket.0.until_end().await.is_empty());
    let ends: Vec<u16> = std::iter::from_fn(|| running.events.drain(1).pop())
        .filter_map(|event| if let Event::Disconnected { code, .. } = event { Some(code) } else { None })
        .collect();
    assert_eq!(ends, [1001]);
    assert_eq!(running.hub().totals().connections_closed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_those_who_answer() {
    let running = Running::start(config());
    let mut socket = running.open("user-1", "").await;
    let client = tokio::spawn(async move {
        let code = socket.close_code().await;
        socket.send(CLOSE, &1001_u16.to_be_bytes()).await;
        (code, socket.0.until_end().await)
    });
    // It ends long before this has passed.
    running.stop(Duration::from_secs(3600)).await;
    assert_eq!(within(client).await.unwrap(), (1001, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_welcome_comes_first_whatever_is_sent_meanwhile() {
    let running = Running::start(Config { max_connections_per_user: 0, ..config() });
    let (welcomed, last) = (Arc::new(AtomicUsize::new(0)), json!({ "last": true }));
    let flood = tokio::task::spawn_blocking({
        let (server, welcomed, last) = (Arc::clone(&running.server), Arc::clone(&welcomed), text(&last));
        move || {
            let hub = server.hub().unwrap();
            let is_behind = || {
                let totals = hub.totals();
                hub.backlog_bytes() > 0 || totals.deliveries.saturating_sub(totals.frames_written) > 10_000
            };
            while welcomed.load(Ordering::Relaxed) < 30 {
                hub.to_audience(Audience::All, &text(&json!({}))).unwrap();
                hub.to_user("user-1", || text(&json!({}))).unwrap();
                // Within all limits, however long one of them does not run.
                while is_behind() {
                    std::thread::yield_now();
                }
            }
            hub.to_audience(Audience::All, &last).unwrap();
        }
    });
    let mut joining = JoinSet::new();
    for _ in 0..30 {
        let (address, welcomed, last) = (running.server.address(), Arc::clone(&welcomed), last.clone());
        joining.spawn(async move {
            let mut socket = Socket::open(address, "user-1", "").await.welcomed().await;
            welcomed.fetch_add(1, Ordering::Relaxed);
            while socket.json().await != last {}
        });
    }
    within(joining.join_all()).await;
    within(flood).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_are_allowed_stay_when_many_join_at_once() {
    let running = Running::start(Config { max_connections_per_user: 3, ..config() });
    let mut joining = JoinSet::new();
    for _ in 0..20 {
        let address = running.server.address();
        joining.spawn(async move { Socket::open(address, "user-1", "").await.welcomed().await });
    }
    let mut sockets = within(joining.join_all()).await;
    running.hub().to_user("user-1", || text(&json!({ "last": true }))).unwrap();
    let (mut stayed, mut replaced) = (0, 0);
    for socket in &mut sockets {
        match socket.frame().await {
            (TEXT, _) => stayed += 1,
            (CLOSE, payload) if payload.starts_with(&4004_u16.to_be_bytes()) => replaced += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((stayed, replaced), (3, 17));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_a_close_frame() {
    let running = Running::start(Config { send_queue_bytes: 65_536, coalesce: Duration::ZERO, ..syncing() });
    let mut socket = running.open_narrow("user-1", "&last_seq=0").await;
    let (connection_id, asked) = running.sync_request().await;
    assert_eq!(asked, Asked { after: Some(0), first: true });
    // Full to the brim, by frames that may be lost; then the answer's first frame is one too many.
    let filler = text(&json!("x".repeat(30_000)));
    // Asked again behind the turn in which the shard answered, and then wrote what the socket takes.
    let waiting = || {
        queued_bytes(running.hub());
        queued_bytes(running.hub())
    };
    while waiting() < 30_000 {
        running.hub().to_user("user-1", || filler.clone()).unwrap();
    }
    while waiting() < 65_000 {
        let left = (65_536 - waiting()).min(20_000);
        running.hub().to_user("user-1", || text(&json!("x".repeat(left.saturating_sub(200).max(1))))).unwrap();
    }
    // One too many also where the socket has taken something more meanwhile.
    let preface = Some(text(&json!("y".repeat(60_000))));
    let frames = vec![(1, text(&json!({ "seq": 1 })))];
    running.hub().answer_sync(&connection_id, asked, SyncAnswer { preface, frames, ..answer(1) }).unwrap();
    until(|| running.hub().totals().slow_consumers == 1).await;
    assert_eq!(socket.close_code().await, 4002);
    socket.send(CLOSE, &4002_u16.to_be_bytes()).await;
    assert_eq!(socket.0.until_end().await, b"", "bytes behind the Close frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_count_that_overtakes_the_first_answer_is_not_lost() {
    let running = Running::start(syncing());
    let mut socket = running.open("user-1", "").await;
    let (connection_id, asked) = running.sync_request().await;
    // The answer was read at version 5; while it was on its way, 5 was told again, and 6 after it.
    let read = |rev: u64| ReadFrame { user_id: "user-1", rev, frame: text(&json!({ "type": "read", "rev": rev })) };
    running.hub().publish_read([read(4), read(6)]).unwrap();
    running.hub().answer_sync(&connection_id, asked, answer(5)).unwrap();
    assert_eq!(socket.json().await["type"], "sync");
    assert_eq!(socket.json().await, json!({ "type": "read", "rev": 6 }));
    running.hub().publish_read([read(5), read(7)]).unwrap();
    assert_eq!(socket.json().await["rev"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_found_the_queue_full_is_made_again() {
    let running = Running::start(syncing());
    let record = || Event::Log { level: tracing::Level::INFO, target: "test", message: String::new() };
    for _ in 0..MAX_EVENTS {
        running.events.tell(record());
    }
    let mut socket = running.open("user-1", "&last_seq=7").await;
    let durable = |seq| DurableFrame { user_id: "user-1", seq, rev: seq, frame: text(&json!({ "seq": seq })) };
    running.hub().publish([durable(9)]).unwrap();
    assert_eq!(running.events.drain(MAX_EVENTS).len(), MAX_EVENTS);
    let (connection_id, asked) = running.sync_request().await;
    assert_eq!(asked, Asked { after: Some(7), first: true });
    let frames = vec![(8, text(&json!({ "seq": 8 })))];
    running.hub().answer_sync(&connection_id, asked, SyncAnswer { frames, ..answer(8) }).unwrap();
    assert_eq!(socket.json().await["type"], "sync");
    assert_eq!((socket.json().await["seq"].clone(), socket.json().await["seq"].clone()), (8.into(), 9.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_crosses_an_answer_is_asked_for_after_it() {
    let running = Running::start(syncing());
    let mut socket = running.open("user-1", "").await;
    let (connection_id, asked) = running.sync_request().await;
    running.hub().announce_heads([("user-1", 3)]).unwrap();
    running.hub().answer_sync(&connection_id, asked, answer(2)).unwrap();
    let (_, again) = running.sync_request().await;
    assert_eq!(again, Asked { after: Some(2), first: false });
    let answer = SyncAnswer { preface: None, frames: vec![(3, text(&json!({ "seq": 3 })))], ..answer(3) };
    running.hub().answer_sync(&connection_id, again, answer).unwrap();
    assert_eq!(socket.json().await["type"], "sync");
    assert_eq!(socket.json().await["seq"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_late_is_not_taken_for_that_to_a_later_request() {
    let running = Running::start(syncing());
    let mut socket = running.open("user-1", "&last_seq=1").await;
    let (connection_id, asked) = running.sync_request().await;
    // As it is given to a client that is too far behind: the session goes on behind it, wherever it was.
    let restart = || SyncAnswer { restart: true, ..answer(600) };
    let durable = |seq| DurableFrame { user_id: "user-1", seq, rev: seq, frame: text(&json!({ "seq": seq })) };
    running.hub().answer_sync(&connection_id, asked, restart()).unwrap();
    running.hub().publish([durable(601), durable(603)]).unwrap();
    let (_, again) = running.sync_request().await;
    assert_eq!(again, Asked { after: Some(601), first: false });
    running.hub().answer_sync(&connection_id, asked, restart()).unwrap();
    let frames = vec![(602, text(&json!({ "seq": 602 }))), (603, text(&json!({ "seq": 603 })))];
    let answer = SyncAnswer { preface: None, frames, ..answer(603) };
    running.hub().answer_sync(&connection_id, again, answer).unwrap();
    assert_eq!(socket.json().await["type"], "sync");
    for seq in [601, 602, 603] {
        assert_eq!(socket.json().await, json!({ "seq": seq }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_session_keep_their_order_through_full_sockets() {
    let running = Running::start(Config { coalesce: Duration::from_millis(3), ..config() });
    let mut socket = running.open_narrow("user-1", "").await;
    let reading = tokio::spawn(async move {
        for number in 0..400 {
            let frame = socket.json().await;
            assert_eq!(frame["n"], number);
        }
    });
    let padding = "x".repeat(20_000);
    for number in 0..400 {
        // Within the queue's limit: this is about order, not about who is too slow.
        until(|| queued_bytes(running.hub()) < 500_000).await;
        let frame = text(&json!({ "n": number, "padding": padding }));
        match number % 3 {
            0 => running.hub().to_user("user-1", || frame),
            1 => running.hub().to_audience(Audience::All, &frame),
            _ => running.hub().publish([DurableFrame { user_id: "user-1", seq: number / 3 + 1, rev: 0, frame }]),
        }
        .unwrap();
    }
    within(reading).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pongs_is_a_flood() {
    let running = Running::start(Config { message_rate: 1, message_burst: 5, ..config() });
    let mut socket = running.open("user-1", "").await;
    // At once, and more than the rate lets through while one of the two stands still for seconds.
    socket.0.send(b"\x8a\x87\0\0\0\0unasked".repeat(50)).await;
    assert_eq!(socket.close_code().await, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_that_are_answered_cost_no_allowance() {
    let short = Duration::from_millis(20);
    let running = Running::start(Config { message_rate: 1, message_burst: 1, ping_interval: short, ..config() });
    let mut socket = running.open("user-1", "").await;
    for _ in 0..5 {
        let (opcode, nonce) = socket.frame().await;
        assert_eq!(opcode, PING);
        socket.send(0xA, &nonce).await;
    }
    running.hub().to_user("user-1", || text(&json!({ "still": "open" }))).unwrap();
    let next = loop {
        let (opcode, _) = socket.frame().await;
        if opcode != PING {
            break opcode;
        }
    };
    assert_eq!(next, TEXT);
}
