use std::{io::Read as _, net::TcpStream as Peer, thread::JoinHandle};

use super::*;
use crate::{
    close::CloseReason,
    command::SyncAnswer,
    test_support::{admitted, config, context, sockets},
};

/// A moment on the session's clock by which everything that was spread over an interval is due.
const LATER: u64 = 1_000_000;

async fn session(config: Config) -> (Session, Peer) {
    let (ours, peer) = sockets();
    let (session, _) = Session::new(admitted(ours, "user-1"), 256, context(config)).unwrap();
    // Its reactor has not yet said that it is.
    session.socket.writable().await.unwrap();
    (session, peer)
}

/// The next bytes that the peer is sent.
fn received(peer: &mut Peer, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

fn close_code(session: &Session) -> Option<u16> {
    session.closing.borrow().as_ref().map(|closing| closing.reason.code())
}

fn requests(session: &Session) -> usize {
    let is_request = |event: &Event| matches!(event, Event::SyncRequest { .. });
    session.context.events.drain(100).iter().filter(|event| is_request(event)).count()
}

fn text(length: usize) -> Frame {
    Frame::text(&vec![b'x'; length]).unwrap()
}

fn answer(through: u64, head: u64, frames: Vec<(u64, Frame)>) -> SyncAnswer {
    SyncAnswer { role: Role::Client, head, through, rev: head, preface: None, restart: false, frames }
}

/// Reads until the session's end of the connection is closed.
fn read_on(mut peer: Peer) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Queues frames until the socket is full and something waits.
fn fill(session: &Session) {
    while !session.is_blocked() {
        session.enqueue(&text(60_000), false, LATER);
        session.flush(LATER);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_ping_is_closed() {
    let (session, mut peer) = session(config()).await;
    session.beat(LATER, 0);
    assert_eq!(received(&mut peer, 10)[..2], [0x89, 8]);
    // The next beat sees that the ping was written.
    session.beat(LATER + 1, 0);
    session.beat(LATER + 10_000, 0);
    assert_eq!(close_code(&session), None);
    session.beat(LATER + 10_001, 0);
    assert_eq!(close_code(&session), Some(4003));
    assert_eq!(received(&mut peer, 4)[2..], 4003_u16.to_be_bytes());
    session.beat(LATER + 11_001, 0);
    assert!(session.is_aborted());
}

#[tokio::test]
async fn only_the_nonce_that_is_out_answers_a_ping() {
    let (session, mut peer) = session(config()).await;
    session.beat(LATER, 0);
    let nonce = received(&mut peer, 10).split_off(2);
    assert!(!session.pong(b"") && !session.pong(b"another!"));
    assert!(session.pong(&nonce));
    assert!(!session.pong(&nonce), "once");
    session.beat(LATER + 20_000, 0);
    assert_eq!(close_code(&session), None);
    session.beat(LATER + 25_000, 0);
    assert_eq!(received(&mut peer, 10)[..2], [0x89, 8]);
}

#[tokio::test]
async fn a_peer_that_still_takes_bytes_is_not_overdue() {
    let (session, peer) = session(config()).await;
    fill(&session);
    session.beat(LATER, 0);
    let reading = read_on(peer);
    let mut now = LATER;
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(now);
        now += 9_000;
        session.beat(now, 0);
        assert_eq!(close_code(&session), None);
    }
    session.beat(now + 10_000, 0);
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
async fn a_session_ends_at_its_time_unless_it_was_moved() {
    let (session, _peer) = session(config()).await;
    session.extend_session(Some(100));
    session.beat(1, 99);
    session.extend_session(Some(200));
    session.beat(2, 199);
    assert_eq!(close_code(&session), None);
    session.beat(3, 200);
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
    session.beat(LATER + 4_999, 0);
    assert_eq!(requests(&session), 1);
    session.beat(LATER + 5_000, 0);
    session.beat(LATER + 5_001, 0);
    assert_eq!(requests(&session), 1);
}

#[tokio::test]
async fn the_next_page_is_asked_for_when_the_last_one_is_out() {
    let (session, peer) = session(Config { sync: true, ..config() }).await;
    fill(&session);
    assert_eq!(session.answer(answer(1, 2, vec![(1, text(1))]), LATER), Enqueued::Settled);
    session.beat(LATER + 10_000, 0);
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
    assert_eq!(session.answer(answer(0, 0, Vec::new()), LATER), Enqueued::FlushDue);
    assert_eq!(session.info().last_rev, 100);
    assert_eq!(session.info().queued_bytes, 16 * text(1).wire_len());
}
