use std::{io::Read as _, net::TcpStream as Peer, sync::atomic::AtomicUsize, thread::JoinHandle};

use super::*;
use crate::{
    close::CloseReason,
    command::{Audience, SyncAnswer},
    events::Ending,
    front_door::Resume,
    rounds::Held,
    test_support::{admitted, config, context, next_frame, sockets},
};

/// A moment on the session's clock by which everything that was spread over an interval is due.
pub(super) const LATER: u64 = 1_000_000;

pub(super) async fn session(config: Config) -> (Session, Peer) {
    resumed(config, Resume::default()).await
}

/// A session whose client gave some options.
async fn resumed(config: Config, resume: Resume) -> (Session, Peer) {
    let (ours, peer) = sockets();
    let admitted = Admitted { resume, ..admitted(ours, "user-1") };
    let (session, _) = Session::new(admitted, 256, context(config)).unwrap();
    // Its reactor has not yet said that it is.
    session.socket.writable().await.unwrap();
    (session, peer)
}

/// The next bytes that the peer is sent.
pub(super) fn received(peer: &mut Peer, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

pub(super) fn close_code(session: &Session) -> Option<u16> {
    session.closing.get().map(|closing| closing.reason.code())
}

fn requests(session: &Session) -> usize {
    let is_request = |event: &Event| matches!(event, Event::SyncRequest { .. });
    session.context.events.drain(100).iter().filter(|event| is_request(event)).count()
}

pub(super) fn text(length: usize) -> Frame {
    Frame::text(&"x".repeat(length))
}

pub(super) fn answer(through: u64, head: u64, frames: Vec<(u64, Frame)>) -> SyncAnswer {
    SyncAnswer { role: Role::Client, head, through, rev: head, preface: None, restart: false, frames }
}

/// What the shard's sweep does to the session, and the pass after it.
pub(super) fn beat(session: &Session, now: u64, unix_now: u64) {
    if session.beat(now, unix_now) == Enqueued::FlushDue {
        session.flush(now);
    }
}

/// Reads until the session's end of the connection is closed.
pub(super) fn read_on(mut peer: Peer) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Queues frames until the socket is full and something waits.
pub(super) fn fill(session: &Session) {
    while !session.is_blocked() {
        session.enqueue(&text(60_000), false, LATER);
        session.flush(LATER);
    }
}

#[tokio::test]
async fn a_peer_that_still_takes_bytes_is_not_overdue() {
    let (session, peer) = session(config()).await;
    fill(&session);
    beat(&session, LATER, 0);
    let reading = read_on(peer);
    let mut now = LATER;
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(now);
        now += 9_000;
        beat(&session, now, 0);
        assert_eq!(close_code(&session), None);
    }
    beat(&session, now + 10_000, 0);
    assert_eq!(close_code(&session), Some(4003));
    drop(session);
    reading.join().unwrap();
}

#[tokio::test]
async fn a_frame_that_was_begun_is_finished_before_the_close() {
    let (session, peer) = session(config()).await;
    fill(&session);
    session.begin_close(CloseReason::SlowConsumer, LATER);
    assert_eq!(session.enqueue(&text(1), true, LATER), Enqueued::Settled);
    let reading = read_on(peer);
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(LATER);
    }
    drop(session);
    let bytes = reading.join().unwrap();
    let close = Frame::close(&CloseReason::SlowConsumer);
    assert!(bytes.ends_with(close.wire()));
    assert_eq!((bytes.len() - close.wire_len()) % text(60_000).wire_len(), 0, "a frame was torn");
}

#[tokio::test]
async fn a_burst_beyond_the_queue_goes_to_a_socket_that_takes_it() {
    let (session, peer) = session(Config { send_queue_bytes: 65_536, ..config() }).await;
    let reading = read_on(peer);
    let burst = 20;
    // As one pass does it: all of it is queued before the session is flushed.
    for _ in 0..burst {
        session.enqueue(&text(10_000), false, LATER);
    }
    session.flush(LATER);
    assert_eq!(close_code(&session), None, "closed as too slow before anything was written");
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(LATER);
    }
    drop(session);
    assert_eq!(reading.join().unwrap().len(), burst * text(10_000).wire_len());
}

#[tokio::test]
async fn a_message_that_cannot_be_read_ends_in_an_error_however_it_was_sent() {
    for reason in [CloseReason::InvalidUtf8, CloseReason::InvalidDeflate] {
        let (session, _peer) = session(config()).await;
        session.begin_close(reason, LATER);
        session.take_leave();
        let told = session.context.events.drain(100);
        assert!(
            matches!(told[..], [Event::Disconnected { code: 1007, ending: Ending::Error, .. }]),
            "told of {told:?}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_closes_and_was_too_slow_gets_one_close() {
    let (session, peer) = session(config()).await;
    fill(&session);
    let held = Held::new(&Arc::new(AtomicUsize::new(1)), 1);
    session.context.rounds.borrow_mut().begin(Audience::All, text(config().send_queue_bytes), held, 1);
    session.write_control(Frame::close(&CloseReason::Normal).wire().clone());
    assert_eq!(close_code(&session), Some(4002));
    let reading = read_on(peer);
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(LATER);
    }
    drop(session);
    assert!(reading.join().unwrap().ends_with(Frame::close(&CloseReason::SlowConsumer).wire()));
}

#[tokio::test]
async fn what_a_socket_leaves_of_frames_that_were_sent_at_once_is_within_the_limit() {
    let limit = 65_536;
    let (session, mut peer) = session(Config { send_queue_bytes: limit, ..config() }).await;
    session.socket.take_at_most(1_000);
    let frames = [text(limit / 2), text(limit / 2 - 1_000), text(limit / 2), text(1)];
    session.send(frames.iter(), LATER);
    assert!(session.info().queued_bytes <= limit, "{} bytes wait", session.info().queued_bytes);
    session.socket.take_at_most(usize::MAX);
    session.flush(LATER);
    let sent = frames.map(|frame| frame.wire().to_vec()).concat();
    assert_eq!(received(&mut peer, sent.len()), sent);
}

#[tokio::test]
async fn a_session_ends_at_its_time_unless_it_was_moved() {
    let (session, _peer) = session(config()).await;
    session.extend_session(Some(100), None);
    beat(&session, 1, 99);
    session.extend_session(Some(200), None);
    beat(&session, 2, 199);
    assert_eq!(close_code(&session), None);
    beat(&session, 3, 200);
    assert_eq!(close_code(&session), Some(4001));
}

#[tokio::test]
async fn twenty_refusals_count_within_a_minute_only() {
    let (session, _peer) = session(config()).await;
    for second in 0..19 {
        session.count_refusal(LATER + second * 1000);
    }
    session.count_refusal(LATER + 60_000);
    assert_eq!(close_code(&session), None);
    for _ in 0..19 {
        session.count_refusal(LATER + 61_000);
    }
    assert_eq!(close_code(&session), Some(1008));
}

#[tokio::test]
async fn what_is_not_answered_is_asked_for_again() {
    let (session, _peer) = session(Config { sync: true, ping_interval: std::time::Duration::ZERO, ..config() }).await;
    session.ask(LATER);
    beat(&session, LATER + 4_999, 0);
    assert_eq!(requests(&session), 1);
    beat(&session, LATER + 5_000, 0);
    beat(&session, LATER + 5_001, 0);
    assert_eq!(requests(&session), 1);
}

#[tokio::test]
async fn the_next_page_is_asked_for_when_the_last_one_is_out() {
    let (session, peer) = session(Config { sync: true, ..config() }).await;
    fill(&session);
    assert_eq!(session.answer(session.asked(), answer(1, 2, vec![(1, text(1))]), LATER), Enqueued::Settled);
    beat(&session, LATER + 10_000, 0);
    assert_eq!(requests(&session), 0, "asked before there was room");
    let reading = read_on(peer);
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(LATER);
    }
    assert_eq!(requests(&session), 1);
    drop(session);
    reading.join().unwrap();
}

#[tokio::test]
async fn reads_that_wait_for_the_first_answer_are_few_and_the_newest() {
    let (session, _peer) = session(Config { sync: true, ..config() }).await;
    for rev in 1..=100 {
        assert_eq!(session.enqueue_read(rev, &text(1), false, LATER), Enqueued::Settled);
    }
    assert_eq!(session.answer(session.asked(), answer(0, 0, Vec::new()), LATER), Enqueued::FlushDue);
    assert_eq!(session.info().last_rev, 100);
    assert_eq!(session.info().queued_bytes, 16 * text(1).wire_len());
}

#[tokio::test]
async fn a_client_is_believed_as_far_as_it_was_sent() {
    let (session, _peer) = session(config()).await;
    assert!(!session.acknowledge(7));
    assert_eq!(session.take_progress(), None);
    session.enqueue_durable(1, 1, text(1), false, LATER);
    assert!(!session.acknowledge(u64::MAX));
    assert!(session.acknowledge(1));
    assert!(session.acknowledge(0));
    let progress = session.take_progress().unwrap();
    assert_eq!((progress.range, progress.delivered), ((1, 1), 1));
}

#[tokio::test]
async fn what_was_sent_before_a_fresh_start_and_before_the_end_is_laid_down() {
    let (session, _peer) = session(Config { sync: true, ..config() }).await;
    let log = &session.context.events.progress;
    log.keep();
    session.answer(session.asked(), answer(2, 2, vec![(2, text(1))]), LATER);
    session.enqueue_durable(9, 9, text(1), false, LATER);
    session.answer(session.asked(), SyncAnswer { restart: true, ..answer(9, 9, Vec::new()) }, LATER);
    session.enqueue_durable(10, 10, text(1), false, LATER);
    session.take_leave();
    let ranges: Vec<_> = log.take().into_iter().map(|progress| progress.range).collect();
    assert_eq!(ranges, [(2, 2), (10, 10)]);
}

/// A client that takes arrays, whose socket is full, and an array begun.
async fn batching() -> (Session, Peer) {
    let (session, peer) = resumed(config(), Resume { batch: true, ..Resume::default() }).await;
    let message = object(50_000);
    while !session.is_blocked() {
        for _ in 0..100 {
            session.enqueue(&object(20), false, LATER);
        }
        session.enqueue(&message, false, LATER);
        session.flush(LATER);
    }
    assert!(session.outbound.borrow().batching.is_begun(), "what the socket took of the last array");
    (session, peer)
}

fn object(length: usize) -> Frame {
    Frame::text(&format!("{{\"x\":\"{}\"}}", "x".repeat(length)))
}

async fn write_all(session: &Session) {
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(LATER);
    }
}

#[tokio::test]
async fn an_array_that_was_begun_is_finished_before_the_close() {
    let (session, peer) = batching().await;
    session.begin_close(CloseReason::SlowConsumer, LATER);
    let reading = read_on(peer);
    write_all(&session).await;
    drop(session);
    let bytes = reading.join().unwrap();
    let mut rest = &bytes[..];
    let mut last = rest;
    while let Some((frame, _)) = next_frame(rest) {
        (last, rest) = (frame, &rest[frame.len()..]);
    }
    assert!(rest.is_empty(), "a frame was torn");
    assert_eq!(last, Frame::close(&CloseReason::SlowConsumer).wire());
}

#[tokio::test]
async fn the_position_of_a_ping_moves_with_the_arrays_before_it() {
    let (session, peer) = batching().await;
    for seq in 1..=1000 {
        session.enqueue_durable(seq, seq, object(20), false, LATER);
    }
    beat(&session, LATER, 0);
    for seq in 1001..=2000 {
        session.enqueue_durable(seq, seq, object(20), false, LATER);
    }
    let said = session.outbound.borrow().ping.as_ref().map(|ping| ping.end).unwrap();
    let reading = read_on(peer);
    write_all(&session).await;
    let end = session.outbound.borrow().ping.as_ref().map(|ping| ping.end).unwrap();
    assert_ne!(end, said, "the messages before it have become an array");
    drop(session);
    let bytes = reading.join().unwrap();
    let mut at = 0;
    while let Some((frame, _)) = next_frame(&bytes[at..]) {
        at += frame.len();
        if frame[0] == 0x89 {
            assert_eq!(at as u64, end);
        }
    }
    assert_eq!(at, bytes.len());
}

#[tokio::test]
async fn a_lone_message_is_a_plain_object_and_arrays_are_counted() {
    let (session, mut peer) = resumed(config(), Resume { batch: true, ..Resume::default() }).await;
    session.enqueue(&object(1), true, LATER);
    session.enqueue(&object(2), false, LATER);
    session.flush(LATER);
    assert_eq!(session.context.counters.arrays.get(), 0);
    session.enqueue(&object(3), false, LATER);
    session.enqueue(&object(4), false, LATER);
    session.flush(LATER);
    assert_eq!(session.context.counters.arrays.get(), 1);
    let mut expected = [object(1).wire(), object(2).wire()].map(|wire| wire.to_vec()).concat();
    expected.extend_from_slice(b"\x81\x1a[{\"x\":\"xxx\"},{\"x\":\"xxxx\"}]");
    assert_eq!(received(&mut peer, expected.len()), expected);
}

fn standing(role: Option<Role>, ended: &[&str]) -> Standing {
    let ended = ended.iter().map(|id| SessionId::parse(id).unwrap()).collect();
    Standing { user_id: "user-1".into(), role, ended }
}

#[tokio::test]
async fn a_session_acts_in_its_users_role_of_now_once_it_was_answered() {
    let (session, _peer) = session(Config { sync: true, ..config() }).await;
    session.heed(&standing(Some(Role::Admin), &[]), LATER);
    assert!(!session.is_in_audience(Role::Admin), "before its answer it is in no audience");
    session.ask(LATER);
    session.answer(session.asked(), answer(0, 0, Vec::new()), LATER);
    assert!(session.is_in_audience(Role::Client));
    session.heed(&standing(Some(Role::Admin), &[]), LATER);
    assert!(session.is_in_audience(Role::Admin) && !session.is_in_audience(Role::Client));
    assert_eq!((session.role(), close_code(&session)), (Role::Admin, None));
}

#[tokio::test]
async fn a_session_goes_with_its_user_and_no_sooner() {
    let (session, _peer) = session(config()).await;
    session.heed(&standing(Some(Role::Client), &["00000000000000aa"]), LATER);
    assert_eq!(close_code(&session), None);
    session.heed(&standing(None, &[]), LATER);
    assert_eq!(close_code(&session), Some(1008));
}

#[tokio::test]
async fn a_message_names_the_session_that_the_connection_stands_for_when_it_comes() {
    let (session, _peer) = session(config()).await;
    let ids = [None, SessionId::parse("00000000000000aa"), SessionId::parse("00000000000000bb")];
    for id in ids {
        session.extend_session(None, id);
        session.deliver_text(Bytes::from_static(b"{}"));
    }
    let named = session.context.events.drain(100).into_iter().filter_map(|event| match event {
        Event::ClientFrame { session_id, .. } => Some(session_id),
        _ => None,
    });
    assert_eq!(named.collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn a_connection_goes_with_the_session_that_it_stands_for() {
    let (session, _peer) = session(config()).await;
    session.extend_session(None, SessionId::parse("00000000000000aa"));
    session.extend_session(None, SessionId::parse("00000000000000bb"));
    session.heed(&standing(Some(Role::Client), &["00000000000000aa"]), LATER);
    assert_eq!(close_code(&session), None);
    session.heed(&standing(Some(Role::Client), &["00000000000000cc", "00000000000000bb"]), LATER);
    assert_eq!(close_code(&session), Some(4001));
}
