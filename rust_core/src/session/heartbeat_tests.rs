use std::net::TcpStream as Peer;

use super::{
    tests::{LATER, beat, close_code, received, session, text},
    *,
};
use crate::{close::CloseReason, test_support::config};

/// The nonce of the next ping that the peer is sent.
fn nonce(peer: &mut Peer) -> Vec<u8> {
    let mut ping = received(peer, 10);
    assert_eq!(ping[..2], [0x89, 8]);
    ping.split_off(2)
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_ping_is_closed() {
    let (session, mut peer) = session(config()).await;
    beat(&session, LATER, 0);
    assert_eq!(received(&mut peer, 10)[..2], [0x89, 8]);
    // The next beat sees that the ping was written.
    beat(&session, LATER + 1, 0);
    beat(&session, LATER + 10_000, 0);
    assert_eq!(close_code(&session), None);
    beat(&session, LATER + 10_001, 0);
    assert_eq!(close_code(&session), Some(4003));
    assert_eq!(received(&mut peer, 4)[2..], 4003_u16.to_be_bytes());
    beat(&session, LATER + 11_001, 0);
    assert!(session.is_aborted());
}

#[tokio::test]
async fn only_the_nonce_that_is_out_answers_a_ping() {
    let (session, mut peer) = session(config()).await;
    beat(&session, LATER, 0);
    let nonce = received(&mut peer, 10).split_off(2);
    assert!(!session.pong(b"") && !session.pong(b"another!"));
    assert!(session.pong(&nonce));
    assert!(!session.pong(&nonce), "once");
    beat(&session, LATER + 20_000, 0);
    assert_eq!(close_code(&session), None);
    beat(&session, LATER + 25_000, 0);
    assert_eq!(received(&mut peer, 10)[..2], [0x89, 8]);
}

#[tokio::test]
async fn a_ping_goes_with_a_durable_frame_and_its_pong_proves_what_was_queued_before() {
    let (session, mut peer) = session(config()).await;
    session.context.events.progress.keep();
    let send = |seq| session.enqueue_durable(seq, seq, text(1), true, LATER);
    assert_eq!((send(1), session.context.counters.writes.get()), (Enqueued::Settled, 1));
    received(&mut peer, text(1).wire_len());
    let first = nonce(&mut peer);
    assert_eq!(send(2), Enqueued::FlushDue);
    session.flush(LATER + 1);
    received(&mut peer, text(1).wire_len());
    beat(&session, LATER + 5_000, 0);
    assert_eq!(session.take_progress().unwrap().delivered, 0, "one ping at a time, and no claim before its pong");
    assert!(session.pong(&first));
    let progress = session.take_progress().unwrap();
    assert_eq!((progress.range, progress.delivered), ((3, 2), 1));
    beat(&session, LATER + 5_000, 0);
    let second = nonce(&mut peer);
    assert!(session.pong(&second));
    assert_eq!(session.take_progress().unwrap().delivered, 2);
    assert_eq!(session.take_progress(), None);
}

#[tokio::test]
async fn durable_frames_that_are_written_together_have_one_ping_behind_them() {
    let (session, mut peer) = session(config()).await;
    session.context.events.progress.keep();
    for seq in 1..=3 {
        session.enqueue_durable(seq, seq, text(1), false, LATER);
    }
    session.flush(LATER);
    assert_eq!(session.context.counters.writes.get(), 1);
    received(&mut peer, 3 * text(1).wire_len());
    let nonce = nonce(&mut peer);
    assert!(session.pong(&nonce));
    assert_eq!(session.take_progress().unwrap().delivered, 3);
}

#[tokio::test]
async fn no_ping_follows_a_close() {
    let (session, mut peer) = session(config()).await;
    session.context.events.progress.keep();
    session.enqueue_durable(1, 1, text(1), false, LATER);
    session.begin_close(CloseReason::Normal, LATER);
    session.flush(LATER);
    received(&mut peer, text(1).wire_len());
    assert_eq!(received(&mut peer, 1), [0x88]);
    assert!(session.outbound.borrow().ping.is_none());
}

#[tokio::test]
async fn no_ping_follows_the_answer_to_a_close() {
    let (session, mut peer) = session(config()).await;
    session.context.events.progress.keep();
    assert_eq!(session.enqueue_durable(1, 1, text(1), true, LATER), Enqueued::Settled);
    received(&mut peer, text(1).wire_len());
    let first = nonce(&mut peer);
    session.pong(&first);
    session.enqueue_durable(2, 2, text(1), false, LATER);
    // By the clock, which this goes by, nothing is due yet.
    session.outbound.borrow_mut().next_ping_ms = 0;
    session.write_control(Bytes::from_static(&[0x88, 0]));
    assert_eq!(received(&mut peer, text(1).wire_len() + 2).split_off(text(1).wire_len()), [0x88, 0]);
    assert!(session.outbound.borrow().ping.is_none());
}

#[tokio::test]
async fn proofs_are_asked_for_once_a_second_and_only_for_what_is_durable() {
    let (session, mut peer) = session(config()).await;
    session.context.events.progress.keep();
    let quiet = LATER + 2_000;
    beat(&session, LATER, 0);
    let first = nonce(&mut peer);
    session.pong(&first);
    session.enqueue(&text(1), true, quiet);
    beat(&session, quiet, 0);
    assert!(session.outbound.borrow().ping.is_none(), "a direct send needs no proof");
    session.enqueue_durable(1, 1, text(1), false, quiet);
    beat(&session, LATER + 999, 0);
    assert!(session.outbound.borrow().ping.is_none(), "a second has not passed");
    beat(&session, quiet, 0);
    assert!(session.outbound.borrow().ping.is_some());
}

#[tokio::test]
async fn a_ping_that_goes_along_with_frames_is_at_most_half_a_second_early() {
    let (session, mut peer) = session(config()).await;
    session.context.events.progress.keep();
    let mut seq = 0;
    let mut is_pinged_at = |now| {
        seq += 1;
        session.enqueue_durable(seq, seq, text(1), true, now);
        session.flush(now);
        received(&mut peer, text(1).wire_len());
        let is_out = session.outbound.borrow().ping.is_some();
        if is_out {
            session.pong(&nonce(&mut peer));
        }
        is_out
    };
    let times = [0, 499, 500, 999, 1_499, 1_500, 2_400, 2_999, 3_490, 3_500].map(|after| is_pinged_at(LATER + after));
    assert_eq!(times, [true, false, true, false, false, true, false, true, false, true]);
}

#[tokio::test]
async fn nobody_who_takes_the_progress_no_ping_but_the_heartbeat() {
    let (session, _peer) = session(config()).await;
    beat(&session, LATER, 0);
    session.outbound.borrow_mut().ping = None;
    session.enqueue_durable(1, 1, text(1), false, LATER);
    beat(&session, LATER + 24_999, 0);
    assert!(session.outbound.borrow().ping.is_none());
    beat(&session, LATER + 25_000, 0);
    assert!(session.outbound.borrow().ping.is_some());
}
