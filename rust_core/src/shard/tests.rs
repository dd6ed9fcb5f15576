use std::{
    io::Read as _,
    net::TcpStream,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    command::{Audience, DurableFrame, ReadFrame},
    drain::Schedule,
    error::Error,
    events::Event,
    frame::Frame,
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
    assert_eq!(running.hub.to_user("user-1", || Frame::text("{}")).unwrap(), 1);
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
        running.hub.to_audience(Audience::All, &Frame::text("{}")).unwrap();
    }
    running.start();
    until(|| running.hub.backlog_bytes() == 0);
    running.hub.to_audience(Audience::All, &Frame::text("{}")).unwrap();
    running.stop();
}

#[test]
fn what_is_sent_behind_a_stop_leaves_no_backlog() {
    let mut running = Running::new();
    running.hub.stop();
    for _ in 0..3 * BATCH {
        running.hub.to_audience(Audience::All, &Frame::text("{}")).unwrap();
    }
    running.start();
    running.thread.take().unwrap().join().unwrap();
    assert_eq!(running.hub.backlog_bytes(), 0);
    assert!(matches!(running.hub.to_audience(Audience::All, &Frame::text("{}")), Err(Error::Stopped)));
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
                    let frame = Frame::text("{}");
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
    let asking = std::thread::spawn({
        let hub = running.hub.clone();
        move || hub.connections()
    });
    until(|| running.parts.as_ref().unwrap().commands.len() == 2);
    running.start();
    assert!(matches!(asking.join().unwrap(), Err(Error::NoAnswer)));
    until(|| running.hub.connections().is_ok_and(|open| open.is_empty()));
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

/// A shard of `count` sessions, whose sockets are ready to be written to.
async fn shard_of(count: usize) -> (Shard, Vec<TcpStream>) {
    let mut shard = Shard::new(context(config()));
    let mut peers = Vec::new();
    for number in 0..count as u64 {
        let (ours, peer) = sockets();
        shard.join(admitted(ours, &number.to_string()), number << 8, 0);
        peers.push(peer);
    }
    for session in &shard.all {
        session.socket.writable().await.unwrap();
        session.flush(0);
    }
    shard.due.clear();
    (shard, peers)
}

async fn broadcast(shard: &mut Shard, frame: &Frame, now: u64) {
    let held = Held::new(&Arc::new(AtomicUsize::new(1 << 20)), 1 << 20);
    assert!(shard.take(&mut vec![Command::ToAudience(Audience::All, frame.clone())], held, now).await.is_continue());
}

#[tokio::test]
async fn a_broadcast_that_comes_while_another_is_on_its_round_goes_along() {
    let local = LocalSet::new();
    let _local = local.enter();
    let others = 10;
    let (mut shard, mut peers) = shard_of(WRITES_PER_TURN + others).await;
    let counters = Rc::clone(&shard.context);
    let writes = || counters.counters.writes.get() as usize;
    let before = writes();
    let (first, second) = (Frame::text("1"), Frame::text("2"));
    let quiet = 10_000;
    broadcast(&mut shard, &first, quiet).await;
    assert_eq!(writes(), before, "written to before its turn");
    shard.write_turn(quiet);
    assert_eq!(writes() - before, WRITES_PER_TURN, "a turn has an end");
    let later = quiet + 1000;
    broadcast(&mut shard, &second, later).await;
    while shard.is_writing() {
        shard.write_turn(later);
    }
    assert_eq!(writes() - before, 2 * WRITES_PER_TURN + others, "one write for both to those who waited for the first");
    for peer in &mut peers {
        let mut received = Vec::new();
        while !received.ends_with(second.wire()) {
            let mut bytes = [0; 1024];
            let read = peer.read(&mut bytes).unwrap();
            received.extend_from_slice(&bytes[..read]);
        }
        assert!(received.ends_with(&[first.wire().as_ref(), second.wire()].concat()));
    }
}

#[tokio::test]
async fn what_is_for_one_does_not_overtake_a_broadcast() {
    let local = LocalSet::new();
    let _local = local.enter();
    let (mut shard, mut peers) = shard_of(2).await;
    let (first, second) = (Frame::text("1"), Frame::text("2"));
    let quiet = 10_000;
    broadcast(&mut shard, &first, quiet).await;
    let held = Held::new(&Arc::new(AtomicUsize::new(1000)), 1000);
    let direct = Command::ToUser("1".into(), second.clone());
    assert!(shard.take(&mut vec![direct], held, quiet).await.is_continue());
    while shard.is_writing() {
        shard.write_turn(quiet);
        let later = &mut shard.later;
        later.take_due(quiet + 1000, &mut shard.due);
        for session in std::mem::take(&mut shard.due) {
            session.flush(quiet + 1000);
        }
    }
    let mut received = Vec::new();
    while !received.ends_with(second.wire()) {
        let mut bytes = [0; 1024];
        let read = peers[1].read(&mut bytes).unwrap();
        received.extend_from_slice(&bytes[..read]);
    }
    assert!(received.ends_with(&[first.wire().as_ref(), second.wire()].concat()));
}

#[tokio::test]
async fn a_broadcast_goes_on_its_round_while_a_long_list_is_written() {
    let local = LocalSet::new();
    let _local = local.enter();
    let others = 10;
    let (mut shard, _peers) = shard_of(others + WRITES_PER_TURN).await;
    let counters = Rc::clone(&shard.context);
    let deliveries = || counters.counters.deliveries.get() as usize;
    let before = deliveries();
    let (first, second) = (Frame::text("1"), Frame::text("2"));
    let quiet = 10_000_000;
    broadcast(&mut shard, &first, quiet).await;
    let of_list = |number: usize| (Arc::<str>::from((others + number).to_string()), second.clone());
    let list = Command::ToUsers((0..WRITES_PER_TURN).map(of_list).collect());
    let held = Held::new(&Arc::new(AtomicUsize::new(1 << 20)), 1 << 20);
    let ControlFlow::Continue(behind) = shard.take(&mut vec![list], held, quiet).await else { panic!("it stopped") };
    assert_eq!(deliveries() - before, others + 2 * WRITES_PER_TURN);
    assert!(behind < quiet, "the time from before the list");
}

#[tokio::test]
async fn a_broadcast_that_comes_too_late_for_a_session_is_counted() {
    let local = LocalSet::new();
    let _local = local.enter();
    let (mut shard, _peers) = shard_of(2).await;
    let quiet = 10_000;
    broadcast(&mut shard, &Frame::text("1"), quiet).await;
    shard.all[1].abort();
    shard.context.departed.borrow_mut().push(Rc::clone(&shard.all[1]));
    shard.remove_departed(quiet);
    shard.write_turn(quiet);
    let counters = &shard.context.counters;
    assert_eq!((counters.deliveries.get(), counters.dropped_closing.get()), (2 + 1, 1));
}

/// What a peer was sent until its connection ended, or until now.
fn received(peer: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.set_nonblocking(true).unwrap();
    // That there is no more for now is an error too; what came before it is kept.
    let _ = peer.read_to_end(&mut bytes);
    bytes
}

/// Has the shard write all that waits.
fn write_all(shard: &mut Shard, now: u64) {
    while shard.is_writing() {
        shard.write_turn(now);
    }
}

#[tokio::test]
async fn a_stop_closes_one_after_the_other_and_serves_those_that_are_left() {
    let local = LocalSet::new();
    let _local = local.enter();
    let count = 10;
    let (mut shard, mut peers) = shard_of(count).await;
    for peer in &mut peers {
        received(peer);
    }
    let begin = 10_000;
    let held = Held::new(&Arc::new(AtomicUsize::new(1000)), 1000);
    let stop = Command::Drain(Schedule::new(count, Duration::from_secs(60)));
    assert!(shard.take(&mut vec![stop], held, begin).await.is_continue());
    let mut sent = Vec::new();
    for step in 0..count {
        let now = shard.draining.as_ref().unwrap().next_due_ms().unwrap_or(begin + 1000);
        assert_eq!(shard.all.iter().filter(|session| session.is_closing()).count(), step + 1);
        let frame = Frame::text(&step.to_string());
        broadcast(&mut shard, &frame, now).await;
        write_all(&mut shard, now);
        sent.push(frame.wire().clone());
        shard.close_until(now, WRITES_PER_TURN, now);
    }
    let ends = peers.iter_mut().map(|peer| {
        let bytes = received(peer);
        let close = bytes.windows(2).position(|pair| pair == [0x88, 42]).unwrap();
        assert!(bytes[close..].starts_with(b"\x88\x2a\x03\xe9Server shutting down; retry after "));
        bytes[..close].to_vec()
    });
    let mut ends: Vec<_> = ends.collect();
    ends.sort_unstable_by_key(Vec::len);
    let expected: Vec<_> = (0..count).map(|step| sent[..step].concat()).collect();
    assert_eq!(ends, expected, "each is served until its close");
}

#[tokio::test]
async fn who_comes_while_the_server_stops_is_sent_on_at_once() {
    let local = LocalSet::new();
    let _local = local.enter();
    let (mut shard, _peers) = shard_of(3).await;
    let held = Held::new(&Arc::new(AtomicUsize::new(1000)), 1000);
    let stop = Command::Drain(Schedule::new(3, Duration::from_secs(60)));
    assert!(shard.take(&mut vec![stop], held, 10_000).await.is_continue());
    let (ours, _peer) = sockets();
    shard.join(admitted(ours, "late"), 77 << 8, 10_000);
    assert_eq!(shard.all.iter().filter(|session| session.is_closing()).count(), 2);
    assert!(shard.all[3].is_closing());
}

#[tokio::test]
async fn an_end_in_the_midst_of_a_stop_still_closes_all() {
    let local = LocalSet::new();
    let _local = local.enter();
    let (mut shard, mut peers) = shard_of(20).await;
    for peer in &mut peers {
        received(peer);
    }
    let held = Held::new(&Arc::new(AtomicUsize::new(1000)), 1000);
    let mut batch = vec![Command::Drain(Schedule::new(20, Duration::from_secs(60))), Command::Stop];
    assert!(shard.take(&mut batch, held, 10_000).await.is_break());
    for peer in &mut peers {
        assert!(received(peer).starts_with(b"\x88"));
    }
}

#[test]
fn direct_sends_that_are_refused_are_counted_and_what_is_published_again_is_not() {
    let running = Running::new();
    let large = Frame::text(&"x".repeat(40 << 20));
    let _member = running.index.enter(&"user-1".into(), 256);
    for _ in 0..2 {
        running.hub.to_audience(Audience::All, &large).unwrap();
    }
    let refused = |sent: Result<usize, Error>| assert!(matches!(sent, Err(Error::Overloaded { .. })), "{sent:?}");
    refused(running.hub.to_audience(Audience::All, &large));
    refused(running.hub.to_user("user-1", || large.clone()));
    refused(running.hub.to_connection("node-100", large.clone()));
    assert_eq!(running.hub.to_user("user-2", || large.clone()).unwrap(), 0);
    assert_eq!(running.hub.sends_refused(), 3);
    refused(running.hub.publish([DurableFrame { user_id: "user-1", seq: 1, rev: 1, frame: large }]));
    assert_eq!(running.hub.sends_refused(), 3);
}
