//! What a session counts: every message that it is handed is written or dropped for a reason.

use super::{
    tests::{LATER, answer, beat, close_code, fill, read_on, received, session, text},
    *,
};
use crate::{close::CloseReason, latency::Stamp, metrics::Totals, test_support::config};

fn totals(session: &Session) -> Totals {
    let mut totals = Totals::default();
    totals.add(&session.context.counters);
    totals
}

#[tokio::test]
async fn a_write_of_several_frames_is_coalesced_and_one_of_one_is_not() {
    let (session, mut peer) = session(config()).await;
    session.enqueue(&text(1), true, LATER);
    for _ in 0..3 {
        session.enqueue(&text(1), false, LATER);
    }
    session.flush(LATER);
    let frame_bytes = text(1).wire_len();
    received(&mut peer, 4 * frame_bytes);
    assert_eq!(
        totals(&session),
        Totals {
            deliveries: 4,
            writes: 2,
            frames_written: 4,
            coalesced_writes: 1,
            coalesced_frames: 3,
            bytes_written: 4 * frame_bytes as u64,
            queue_high_water_bytes: 3 * frame_bytes as u64,
            ..Totals::default()
        }
    );
}

#[tokio::test]
async fn several_frames_that_go_past_the_queue_are_coalesced_too() {
    let (session, mut peer) = session(config()).await;
    let frames = [text(1), text(1)];
    session.send(frames.iter(), LATER);
    received(&mut peer, 2 * text(1).wire_len());
    let direct = totals(&session);
    assert_eq!((direct.deliveries, direct.frames_written, direct.coalesced_writes), (2, 2, 1));
    assert_eq!(direct.queue_high_water_bytes, 0);
    session.begin_close(CloseReason::Normal, LATER);
    session.send(frames.iter(), LATER);
    assert_eq!(totals(&session).dropped_closing, 2);
}

#[tokio::test]
async fn every_message_for_a_slow_consumer_is_written_or_dropped() {
    let (session, _peer) = session(config()).await;
    fill(&session);
    while close_code(&session).is_none() {
        session.send([text(60_000), text(1), text(60_000), text(1)].iter(), LATER);
    }
    session.enqueue(&text(1), true, LATER);
    session.enqueue_durable(1, 1, text(1), true, LATER);
    session.begin_close(CloseReason::SlowConsumer, LATER);
    session.take_leave();
    let totals = totals(&session);
    assert_eq!((close_code(&session), totals.slow_consumers), (Some(4002), 1));
    assert!(totals.dropped_slow_consumer > 10, "{totals:?}");
    assert_eq!(totals.dropped_closing, 2);
    assert_eq!(
        totals.deliveries,
        totals.frames_written + totals.dropped_slow_consumer + totals.dropped_disconnected,
        "{totals:?}"
    );
    let limit = session.context.config.send_queue_bytes as u64;
    assert!((limit - 60_020..=limit).contains(&totals.queue_high_water_bytes), "{totals:?}");
}

#[tokio::test]
async fn what_waits_for_a_peer_that_has_gone_is_dropped() {
    let (session, _peer) = session(config()).await;
    fill(&session);
    session.enqueue(&text(1), false, LATER);
    session.enqueue(&text(1), false, LATER);
    session.begin_close(CloseReason::NoPong, LATER);
    let dropped = totals(&session);
    assert!(dropped.dropped_no_pong >= 2, "{dropped:?}");
    session.take_leave();
    let ended = totals(&session);
    assert_eq!(ended.slow_consumers, 0);
    assert_eq!(
        ended.deliveries,
        ended.frames_written + ended.dropped_no_pong + ended.dropped_disconnected,
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_failed_write_drops_its_message() {
    let (session, _peer) = session(config()).await;
    socket2::SockRef::from(&session.socket).shutdown(std::net::Shutdown::Write).unwrap();
    session.send([text(1), text(1)].iter(), LATER);
    session.enqueue(&text(1), true, LATER);
    session.enqueue(&text(1), false, LATER);
    let totals = totals(&session);
    assert_eq!((totals.deliveries, totals.dropped_disconnected, totals.dropped_closing), (2, 2, 2));
}

#[tokio::test]
async fn the_sweep_sees_how_much_waits_for_a_blocked_connection() {
    let (session, _peer) = session(config()).await;
    fill(&session);
    session.enqueue(&text(60_000), false, LATER);
    let waiting = session.info().queued_bytes as u64;
    assert!(totals(&session).queue_high_water_bytes < waiting);
    beat(&session, LATER, 0);
    assert_eq!(totals(&session).queue_high_water_bytes, waiting);
}

#[tokio::test]
async fn durable_messages_that_are_not_needed_are_counted_by_why() {
    let (session, _peer) = session(Config { sync: true, ..config() }).await;
    let offer = |seq| session.enqueue_durable(seq, seq, text(1), false, LATER);
    // Parked, and then brought by the answer as well; the one behind it is delivered.
    offer(1);
    offer(2);
    session.answer(session.asked(), answer(1, 1, vec![(1, text(1))]), LATER);
    let first = totals(&session);
    assert_eq!((first.deliveries, first.dropped_superseded, first.dropped_duplicate), (2, 1, 0));
    offer(2);
    assert_eq!(totals(&session).dropped_duplicate, 1);
    // A hole, and behind it more than may be parked: all are read again.
    for seq in 4..=68 {
        offer(seq);
    }
    assert_eq!(totals(&session).dropped_superseded, 1 + 65);
    // An answer to a question that was answered already.
    session.answer(session.asked(), answer(68, 68, (3..=68).map(|seq| (seq, text(1))).collect()), LATER);
    session.answer(session.asked(), answer(68, 68, vec![(68, text(1))]), LATER);
    let last = totals(&session);
    assert_eq!((last.deliveries, last.dropped_superseded, last.dropped_duplicate), (68, 67, 1));
}

#[tokio::test]
async fn an_unread_count_that_was_overtaken_is_counted() {
    let (session, _peer) = session(Config { sync: true, ..config() }).await;
    for rev in 1..=17 {
        session.enqueue_read(rev, &text(1), false, LATER);
    }
    session.answer(session.asked(), answer(0, 0, Vec::new()), LATER);
    assert_eq!((totals(&session).deliveries, totals(&session).dropped_outdated), (16, 1));
    session.enqueue_read(3, &text(1), false, LATER);
    assert_eq!(totals(&session).dropped_outdated, 2);
}

#[tokio::test]
async fn what_a_client_sends_too_much_is_counted_by_who_refused_it() {
    let (session, _peer) = session(Config { message_rate: 1, message_burst: 1, ..config() }).await;
    assert!(session.admits_frame());
    // One more where a second has passed.
    while session.admits_frame() {}
    session.refuse(&text(1), LATER);
    let totals = totals(&session);
    assert_eq!((totals.refused_by_rate, totals.refused_by_program, totals.refused_by_backlog), (1, 1, 0));
}

/// A frame that was published a minute ago, or just now.
fn published(ago: bool, length: usize) -> Frame {
    text(length).stamped(if ago { Stamp::now().before(60_000_000) } else { Stamp::now() })
}

/// How many writes took longer than the last bound, and how many did not.
fn writes_by_time(session: &Session) -> (u64, u64) {
    let times = totals(session).publish_to_write;
    let [quick @ .., slow] = times.counts;
    (slow, quick.iter().sum())
}

#[tokio::test]
async fn a_write_counts_by_the_oldest_frame_in_it_and_not_where_nobody_published_one() {
    let (session, _peer) = session(config()).await;
    session.enqueue(&Frame::welcome(), true, LATER);
    session.write_control(Frame::ping(1).wire().clone());
    assert_eq!((totals(&session).writes, writes_by_time(&session)), (2, (0, 0)));
    let quiet = LATER * 2;
    session.enqueue(&published(false, 1), true, quiet);
    session.send([published(true, 1), published(false, 1)].iter(), quiet * 2);
    assert_eq!(writes_by_time(&session), (1, 1));
    // Queued behind a ping, which nobody published.
    session.outbound.borrow_mut().queue.push_control(Frame::ping(2).wire().clone());
    session.enqueue(&published(true, 1), false, quiet * 2);
    session.enqueue(&published(false, 1), false, quiet * 2);
    session.flush(quiet * 2);
    session.enqueue(&published(false, 1), false, quiet * 2);
    session.flush(quiet * 2);
    assert_eq!((totals(&session).writes, writes_by_time(&session)), (6, (2, 2)));
}

#[tokio::test]
async fn what_comes_while_the_socket_is_full_keeps_its_own_time() {
    let (session, _peer) = session(config()).await;
    let stamp = |frame: &Frame| frame.stamp();
    let (old, new) = (published(true, 10), published(false, 10));
    session.enqueue(&old, false, LATER);
    session.enqueue(&new, false, LATER);
    session.outbound.borrow_mut().blocked = true;
    session.enqueue(&published(false, 10), false, LATER);
    session.enqueue(&old, false, LATER);
    session.enqueue(&old, false, LATER);
    let mut outbound = session.outbound.borrow_mut();
    let mut after = |written: usize| {
        outbound.queue.advance(written);
        outbound.pass_stamps();
        (outbound.oldest, outbound.later.as_ref().map(|later| later.len()))
    };
    // Those that waited already go by the first of them.
    assert_eq!(after(5), (stamp(&old), Some(2)));
    assert_eq!(after(7), (stamp(&old), Some(2)));
    let (third, later) = after(12);
    assert_eq!(later, Some(1));
    assert_ne!(third, stamp(&old));
    assert_eq!(after(12), (stamp(&old), Some(0)));
    assert_eq!(after(24), (None, None));
}

#[tokio::test]
async fn a_direct_write_that_is_not_taken_whole_leaves_the_time_of_the_rest() {
    let (session, peer) = session(config()).await;
    while !session.has_unwritten() {
        session.enqueue(&published(false, 60_000), true, LATER);
        session.outbound.borrow_mut().last_write_ms = 0;
    }
    assert!(session.outbound.borrow().oldest.is_some());
    let written = writes_by_time(&session);
    assert_eq!((written.0, written.1), (0, totals(&session).writes));
    let reading = read_on(peer);
    session.enqueue(&published(true, 1), false, LATER);
    while session.has_unwritten() {
        session.socket.writable().await.unwrap();
        session.flush(LATER);
    }
    let outbound = session.outbound.borrow();
    assert_eq!((outbound.oldest, &outbound.later), (None, &None));
    assert_eq!(totals(&session).publish_to_write.total(), totals(&session).writes);
    drop(outbound);
    drop(session);
    reading.join().unwrap();
}

#[tokio::test]
async fn what_is_dropped_takes_its_time_with_it() {
    let (session, _peer) = session(config()).await;
    session.enqueue(&published(true, 1), false, LATER);
    session.outbound.borrow_mut().blocked = true;
    session.enqueue(&published(false, 1), false, LATER);
    session.begin_close(CloseReason::NoPong, LATER);
    let outbound = session.outbound.borrow();
    assert_eq!((outbound.oldest, &outbound.later), (None, &None));
    assert_eq!(totals(&session).publish_to_write.total(), 0);
}
