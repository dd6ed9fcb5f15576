//! What the steps on a frame's way cost one by one: encoding, queueing, the sequence rule, publishing through the hub.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run says so by panicking")]

use std::{
    hint::black_box,
    io::IoSlice,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jasaweb_rt_core::{
    clock,
    command::Audience,
    config::Config,
    events::EventQueue,
    frame::Frame,
    hub::Hub,
    send_queue::{MAX_SLICES, SendQueue},
    sequence::{Sequence, Verdict},
    server::{Server, new_node_id},
};
use jasaweb_rt_load_client::client::LoadClient;
use sha2::Sha256;

const SECRET: [u8; 32] = [7; 32];

/// Calls that are timed before the shards may catch up, so that none finds the backlog full.
const CALLS_AT_A_TIME: u64 = 256;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for length in [64, 256, 16_384] {
        let payload = "x".repeat(length);
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::new("encode", length), &payload, |bencher, payload| {
            bencher.iter(|| Frame::text(black_box(payload)));
        });
    }
    group.finish();
}

fn send_queue(criterion: &mut Criterion) {
    let frame = Frame::text(&"x".repeat(256));
    let mut group = criterion.benchmark_group("send queue");
    for frames in [1, 8, MAX_SLICES] {
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(BenchmarkId::new("push, slices, advance", frames), |bencher| {
            let mut queue = SendQueue::default();
            bencher.iter(|| {
                for _ in 0..frames {
                    queue.push(frame.wire().clone(), usize::MAX).unwrap();
                }
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                black_box(queue.slices(&mut slices));
                queue.advance(queue.bytes());
            });
        });
    }
    group.finish();
}

fn sequence(criterion: &mut Criterion) {
    criterion.bench_function("sequence/the next frame", |bencher| {
        let mut sequence = Sequence::live();
        let mut seq = 0;
        bencher.iter(|| {
            seq += 1;
            assert_eq!(sequence.offer(seq, seq, ()), Verdict::Deliver(()));
        });
    });
    criterion.bench_function("sequence/a duplicate", |bencher| {
        let mut sequence = Sequence::live();
        assert_eq!(sequence.offer(1, 1, ()), Verdict::Deliver(()));
        bencher.iter(|| assert_eq!(sequence.offer(black_box(1), 1, ()), Verdict::Duplicate));
    });
}

/// A server with `count` users connected, and their clients.
struct Connected {
    server: Server,
    _clients: LoadClient,
}

impl Connected {
    fn new(count: usize) -> Self {
        let limits = Config { max_connections_per_ip: 0, connect_rate_per_ip: 0, ..Config::new(SECRET) };
        let events = Arc::new(EventQueue::new().unwrap());
        let server = Server::start(limits, new_node_id().unwrap(), &events).unwrap();
        let mut clients = LoadClient::start().unwrap();
        let requests = (0..count).map(|number| request(server.address(), &format!("user-{number}"))).collect();
        let opened = clients.connect(server.address(), requests, 256, PATIENCE).unwrap();
        assert_eq!(opened.open, count as u64);
        let connected = Self { server, _clients: clients };
        until(|| connected.hub().total() == count);
        connected
    }

    fn hub(&self) -> &Hub {
        self.server.hub().unwrap()
    }

    /// Time of `calls` calls, in portions; between them the shards work off what was published.
    fn time(&self, calls: u64, call: impl Fn(&Hub) -> usize) -> Duration {
        let mut taken = Duration::ZERO;
        let mut left = calls;
        while left > 0 {
            let portion = left.min(CALLS_AT_A_TIME);
            let began = Instant::now();
            for _ in 0..portion {
                black_box(call(self.hub()));
            }
            taken += began.elapsed();
            left -= portion;
            until(|| self.hub().backlog_bytes() == 0);
        }
        taken
    }
}

fn hub(criterion: &mut Criterion) {
    let frame = Frame::text(&"x".repeat(256));
    let mut group = criterion.benchmark_group("hub");
    for count in [100, 1_000] {
        let connected = Connected::new(count);
        group.bench_function(BenchmarkId::new("to an absent user", count), |bencher| {
            bencher.iter(|| connected.hub().to_user(black_box("nobody"), || frame.clone()).unwrap());
        });
        group.bench_function(BenchmarkId::new("to one user", count), |bencher| {
            bencher.iter_custom(|calls| {
                connected.time(calls, |hub| hub.to_user(black_box("user-7"), || frame.clone()).unwrap())
            });
        });
        group.bench_function(BenchmarkId::new("to all", count), |bencher| {
            bencher.iter_custom(|calls| connected.time(calls, |hub| hub.to_audience(Audience::All, &frame).unwrap()));
        });
        group.bench_function(BenchmarkId::new("count of users", count), |bencher| {
            bencher.iter(|| black_box(connected.hub().users()));
        });
    }
    group.finish();
}

fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "nothing came within the deadline");
        std::thread::yield_now();
    }
}

/// An upgrade request with a token for `user`.
fn request(address: SocketAddr, user: &str) -> Vec<u8> {
    let now = clock::unix_now().as_secs();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = serde_json::json!({
        "aud": "websocket", "sub": user, "role": "client", "name": "", "iat": now, "exp": now + 3_600,
    });
    let signed = format!("{}.{}", part(serde_json::json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).unwrap();
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {signed}.{signature}\r\n\r\n"
    )
    .into_bytes()
}

criterion_group! {
    name = core;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = frame, send_queue, sequence, hub
}
criterion_main!(core);
