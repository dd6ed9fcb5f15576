use std::{
    io::Read as _,
    net::TcpStream,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    command::ReadFrame,
    error::Error,
    events::Event,
    hub::{Hub, ShardHandle},
    test_support::{admitted, config, context, parts, sockets},
};

/// A shard on a thread of its own.
struct Running {
    hub: Hub,
    handle: ShardHandle,
    index: Arc<Index>,
    events: Arc<EventQueue>,
    parts: Option<Parts>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn new() -> Self {
        let (parts, handle) = parts(config());
        let (index, events) = (Arc::clone(&parts.index), Arc::clone(&parts.events));
        let hub = Hub::new("node".into(), Arc::clone(&index), vec![handle.clone()]);
        Self { hub, handle, index, events, parts: Some(parts), thread: None }
    }

    fn start(&mut self) {
        let parts = self.parts.take().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.thread = Some(std::thread::spawn(move || run(&runtime, parts)));
    }

    /// A new connection: the peer's end, after its welcome.
    fn join(&self, user: &str) -> TcpStream {
        let (ours, mut peer) = sockets();
        self.hub.join(admitted(ours, user));
        assert!(peer.read(&mut [0; 1024]).unwrap() > 0);
        peer
    }

    fn stop(&mut self) {
        self.hub.stop();
        self.thread.take().unwrap().join().unwrap();
    }

    fn ends(&self) -> Vec<(u16, Ending)> {
        let ended = |event| match event {
            Event::Disconnected { code, ending, .. } => Some((code, ending)),
            _ => None,
        };
        self.events.drain(100).into_iter().filter_map(ended).collect()
    }
}

fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "nothing came within the deadline");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_at_end(peer: &mut TcpStream) -> bool {
    // A reset is an end too.
    peer.read(&mut [0; 64]).map_or(true, |read| read == 0)
}

#[test]
fn a_panic_costs_the_shard_its_sessions_and_nothing_else() {
    let mut running = Running::new();
    running.start();
    let mut peers = [running.join("user-1"), running.join("user-2")];
    running.handle.tell(Command::Panic).unwrap();
    for peer in &mut peers {
        assert!(is_at_end(peer), "its socket stayed open");
    }
    until(|| running.index.total() == 0);
    assert_eq!(running.ends(), [(1006, Ending::Error); 2]);
    assert_eq!((running.hub.totals().panics, running.hub.totals().connections_closed), (1, 2));
    let peer = running.join("user-1");
    assert_eq!(running.hub.to_user("user-1", Frame::text(b"{}").unwrap()).unwrap(), 1);
    until(|| running.hub.backlog_bytes() == 0);
    running.stop();
    drop(peer);
}

#[test]
fn the_backlog_is_right_after_a_panic_too() {
    let mut running = Running::new();
    // More than one pass takes, so that some still wait when the first of them panics.
    running.handle.tell(Command::Panic).unwrap();
    for _ in 0..3 * BATCH {
        running.hub.to_audience(Audience::All, &Frame::text(b"{}").unwrap()).unwrap();
    }
    running.start();
    until(|| running.hub.backlog_bytes() == 0);
    running.hub.to_audience(Audience::All, &Frame::text(b"{}").unwrap()).unwrap();
    running.stop();
}

#[test]
fn what_is_sent_behind_a_stop_leaves_no_backlog() {
    let mut running = Running::new();
    running.hub.stop();
    for _ in 0..3 * BATCH {
        running.hub.to_audience(Audience::All, &Frame::text(b"{}").unwrap()).unwrap();
    }
    running.start();
    running.thread.take().unwrap().join().unwrap();
    assert_eq!(running.hub.backlog_bytes(), 0);
    assert!(matches!(running.hub.to_audience(Audience::All, &Frame::text(b"{}").unwrap()), Err(Error::Stopped)));
}

#[test]
fn publishers_and_joins_that_race_with_a_stop_leave_nothing_behind() {
    for _ in 0..20 {
        let mut running = Running::new();
        running.start();
        let _peer = running.join("user-1");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let frame = Frame::text(b"{}").unwrap();
                    while running.hub.to_audience(Audience::All, &frame).is_ok() {
                        if running
                            .hub
                            .publish_read([ReadFrame { user_id: "user-1", rev: 1, frame: frame.clone() }])
                            .is_err()
                        {
                            break;
                        }
                    }
                });
            }
            scope.spawn(|| {
                for number in 0..20 {
                    running.hub.join(admitted(sockets().0, &format!("user-{number}")));
                }
            });
            until(|| running.hub.totals().deliveries > 20);
            running.hub.stop();
        });
        running.thread.take().unwrap().join().unwrap();
        assert_eq!((running.hub.backlog_bytes(), running.index.total(), running.index.users()), (0, 0, 0));
        let totals = running.hub.totals();
        assert_eq!(totals.connections_opened, totals.connections_closed);
    }
}

#[test]
fn a_snapshot_that_is_lost_does_not_look_like_a_stop() {
    let mut running = Running::new();
    running.handle.tell(Command::Panic).unwrap();
    let queued = running.hub.backlog_bytes();
    let asking = std::thread::spawn({
        let hub = running.hub.clone();
        move || hub.connections()
    });
    until(|| running.hub.backlog_bytes() > queued);
    running.start();
    assert!(matches!(asking.join().unwrap(), Err(Error::NoAnswer)));
    assert!(running.hub.connections().unwrap().is_empty());
    running.stop();
    assert!(matches!(running.hub.connections(), Err(Error::Stopped)));
    assert_eq!(running.hub.backlog_bytes(), 0);
}

#[test]
fn a_stop_closes_every_socket() {
    let mut running = Running::new();
    running.start();
    let mut peer = running.join("user-1");
    running.stop();
    assert!(is_at_end(&mut peer), "its socket outlived the shard");
    assert_eq!((running.index.total(), running.index.users()), (0, 0));
    assert_eq!(running.ends(), [(1006, Ending::Disconnected)]);
}

#[tokio::test]
async fn a_broadcast_to_many_leaves_its_writes_to_the_pass_that_yields() {
    let mut shard = Shard::new(context(config()));
    let (ours, _peer) = sockets();
    let local = LocalSet::new();
    let _local = local.enter();
    for number in 0..=WRITES_PER_TURN as u64 {
        shard.join(admitted(ours.try_clone().unwrap(), &number.to_string()), number << 8, 0);
    }
    for session in &shard.all {
        session.socket.writable().await.unwrap();
    }
    let now = 10_000;
    shard.flush_due(now).await;
    let written = shard.context.counters.writes.get();
    let frame = Frame::text(b"{}").unwrap();
    let quiet = now + 1000;
    assert!(shard.take(&mut vec![Command::ToAudience(Audience::All, frame)], quiet).is_continue());
    assert_eq!(shard.context.counters.writes.get(), written, "all were written to without a break");
    shard.flush_due(quiet).await;
    assert_eq!(shard.context.counters.writes.get() - written, WRITES_PER_TURN as u64 + 1);
}
