//! Frames on their way out: written at once where the connection is quiet, else queued.

use std::{cell::RefMut, collections::VecDeque, io};

use bytes::Bytes;

use super::{Session, heartbeat::Ping};
use crate::{
    close::CloseReason,
    command::Audience,
    frame::Frame,
    latency::Stamp,
    send_queue::{Batching, SendQueue},
    sequence::Verdict,
};

/// A connection to which nothing was written for so long is idle.
const IDLE_AFTER_MS: u64 = 2_000;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// Nothing is to be done: it was written, it goes with a flush that is due, or it will never be sent.
    Settled,
    /// The session has to be flushed.
    FlushDue,
}

/// What waits to be written, and how the writing stands; in this order in memory, as in [`Session`].
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Outbound {
    /// On the shard's list of sessions to flush.
    pub(super) listed: bool,
    /// The socket was full: the session's task waits until it is writable.
    pub(super) blocked: bool,
    pub(super) batching: Batching,
    /// When the first frame that waits was published; `None` where only control frames wait.
    pub(super) oldest: Option<Stamp>,
    pub(super) last_write_ms: u64,
    pub(super) queue: SendQueue,
    pub(super) next_ping_ms: u64,
    pub(super) ping: Option<Box<Ping>>,
    /// When the frames were published that came while the socket was full, each with its position in the stream.
    #[expect(clippy::box_collection, reason = "few have it at a time, and every idle connection pays for its size")]
    pub(super) later: Option<Box<VecDeque<(u64, Stamp)>>>,
}

impl Enqueued {
    /// What is to be done after both.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::FlushDue { self } else { other }
    }
}

impl Outbound {
    /// Lists the session to be flushed, unless it is listed already or waits for its socket.
    pub(super) fn list(&mut self) -> Enqueued {
        if self.listed || self.blocked {
            return Enqueued::Settled;
        }
        self.listed = true;
        Enqueued::FlushDue
    }

    /// Takes note of when the frame was published that was queued at `position` in the stream. All that waits is expected
    /// to go with one write, unless the socket is full already.
    pub(super) fn note_stamp(&mut self, position: u64, stamp: Option<Stamp>) {
        if self.oldest.is_none() {
            self.oldest = stamp;
        } else if let Some(stamp) = stamp.filter(|_| self.blocked) {
            let later = self.later.get_or_insert_default();
            if later.back().is_none_or(|(_, newest)| *newest != stamp) {
                later.push_back((position, stamp));
            }
        }
    }

    /// Forgets the stamps of what is written by now.
    pub(super) fn pass_stamps(&mut self) {
        if self.queue.is_empty() {
            (self.oldest, self.later) = (None, None);
        } else if let Some(later) = &mut self.later {
            while let Some(&(position, stamp)) = later.front()
                && position <= self.queue.written()
            {
                self.oldest = Some(stamp);
                later.pop_front();
            }
        }
    }

    /// Drops every message of which nothing was written yet.
    pub(super) fn drop_unstarted(&mut self) {
        self.queue.drop_unstarted_array(&self.batching);
        self.later = None;
        self.pass_stamps();
    }
}

impl Session {
    /// Queues a frame. `lone`: no other follows in this turn, so a quiet session is written to at once.
    pub(crate) fn enqueue(&self, frame: &Frame, lone: bool, now: u64) -> Enqueued {
        if lone {
            return self.send(std::iter::once(frame), now);
        }
        if self.is_over() {
            self.context.counters.dropped_closing.add(1);
            return Enqueued::Settled;
        }
        self.queue(self.outbound.borrow_mut(), std::iter::once(frame), now)
    }

    /// Sends `greeting` and the welcome behind it, at once: the socket is new and empty, but the reactor, which
    /// [`Self::send`] asks, has not yet said so.
    pub(crate) fn greet(&self, greeting: &[u8], now: u64) -> Enqueued {
        let counters = &self.context.counters;
        counters.frames_encoded.add(1);
        counters.deliveries.add(1);
        let bytes = if self.context.config.echo {
            Bytes::copy_from_slice(greeting)
        } else {
            Bytes::from([greeting, Frame::welcome().wire()].concat())
        };
        // Whatever it is that failed, it shows again.
        let written = self.socket.send(&bytes).unwrap_or(0);
        let mut outbound = self.outbound.borrow_mut();
        outbound.queue.wrote_directly(std::iter::once(&bytes), written);
        let is_out = outbound.queue.is_empty();
        if written > 0 {
            self.wrote(&mut outbound, written, usize::from(is_out), None, now);
        }
        if is_out { Enqueued::Settled } else { outbound.list() }
    }

    /// Sends frames, in order: a quiet session is written to at once, past its queue; else they are queued.
    pub(crate) fn send<'a>(&self, frames: impl Iterator<Item = &'a Frame> + Clone, now: u64) -> Enqueued {
        let counters = &self.context.counters;
        if self.is_over() {
            counters.dropped_closing.add(frames.count() as u64);
            return Enqueued::Settled;
        }
        let mut outbound = self.outbound.borrow_mut();
        // Several frames for a client that takes arrays become one in the queue.
        let becomes_array = outbound.batching.enabled && frames.clone().nth(1).is_some();
        if becomes_array || !self.is_quiet(&outbound, now) {
            return self.queue(outbound, frames, now);
        }
        let mut ahead = frames.clone();
        let (filled, bytes, result) = match (ahead.next(), ahead.next()) {
            (None, _) => return Enqueued::Settled,
            (Some(frame), None) => {
                let wire = self.wire_of(frame);
                (1, wire.len(), self.socket.send(wire))
            }
            (Some(_), Some(_)) => self.write_several(frames.clone()),
        };
        let written = match result {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                drop(outbound);
                let lost = frames.count() as u64;
                counters.deliveries.add(lost);
                counters.dropped_disconnected.add(lost);
                self.fail(&error);
                return Enqueued::Settled;
            }
        };
        counters.deliveries.add(filled as u64);
        let oldest = frames.clone().next().and_then(Frame::stamp);
        if written == bytes {
            outbound.queue.count_written(written);
        } else {
            outbound.queue.wrote_directly(frames.clone().take(filled).map(|frame| self.wire_of(frame)), written);
            let mut left = frames.clone().skip(filled - outbound.queue.len());
            outbound.oldest = left.next().and_then(Frame::stamp);
        }
        if written > 0 {
            let finished = filled - outbound.queue.len();
            self.wrote(&mut outbound, written, finished, oldest, now);
        }
        self.queue(outbound, frames.skip(filled), now)
    }

    /// Sends the broadcasts that it has not seen. To be called before anything else is sent that came behind them.
    pub(crate) fn catch_up(&self, now: u64) -> Enqueued {
        let rounds = self.context.rounds.borrow();
        let seen = self.seen.replace(rounds.head());
        if seen == rounds.head() {
            return Enqueued::Settled;
        }
        let meant = |audience| match audience {
            Audience::All => true,
            Audience::Role(role) => self.is_in_audience(role),
        };
        let frames = rounds.unseen(seen).filter(|broadcast| meant(broadcast.audience));
        self.send(frames.map(|broadcast| &broadcast.frame), now)
    }

    /// Reads from each cache line that a broadcast's visit needs. Where several sessions are to be visited, their memory is
    /// so fetched at the same time, and not one line after the other; that wait is most of what a visit costs beside its
    /// system call. What is returned means nothing.
    pub(crate) fn fetch(&self) -> u64 {
        let outbound = self.outbound.borrow();
        self.seen.get() ^ outbound.last_write_ms ^ outbound.queue.written()
    }

    /// Queues frames, and lists the session to be flushed where something waits.
    fn queue<'a>(
        &self,
        mut outbound: RefMut<'_, Outbound>,
        mut frames: impl Iterator<Item = &'a Frame>,
        now: u64,
    ) -> Enqueued {
        let counters = &self.context.counters;
        while let Some(frame) = frames.next() {
            counters.deliveries.add(1);
            let position = outbound.queue.end();
            match self.push(&mut outbound, frame, now) {
                Ok(true) => {
                    outbound.note_stamp(position, frame.stamp());
                    continue;
                }
                Ok(false) => {
                    let dropped = 1 + frames.count() as u64;
                    counters.deliveries.add(dropped - 1);
                    counters.dropped_slow_consumer.add(dropped);
                    drop(outbound);
                    self.begin_close(CloseReason::SlowConsumer, now);
                }
                Err(error) => {
                    let dropped = 1 + frames.count() as u64;
                    counters.deliveries.add(dropped - 1);
                    counters.dropped_disconnected.add(dropped);
                    drop(outbound);
                    self.fail(&error);
                }
            }
            return Enqueued::Settled;
        }
        if outbound.queue.is_empty() { Enqueued::Settled } else { outbound.list() }
    }

    /// Queues a frame; false where there is no room. The queue may be full because this turn has much for the session and
    /// nothing of it was written yet, so the socket is asked first: only a client whose socket is full too is too slow.
    fn push(&self, outbound: &mut Outbound, frame: &Frame, now: u64) -> io::Result<bool> {
        let (wire, limit) = (self.wire_of(frame), self.context.config.send_queue_bytes);
        if outbound.queue.push(wire.clone(), limit).is_ok() {
            return Ok(true);
        }
        if outbound.blocked {
            return Ok(false);
        }
        self.write_out(outbound, now)?;
        Ok(outbound.queue.push(wire.clone(), limit).is_ok())
    }

    /// The bytes of a frame for this client.
    pub(super) fn wire_of<'a>(&self, frame: &'a Frame) -> &'a Bytes {
        if self.deflates
            && let Some(deflated) = frame.deflated(&self.context.counters)
        {
            return deflated;
        }
        frame.wire()
    }

    /// Queues a durable frame by the session's rule.
    pub(crate) fn enqueue_durable(&self, seq: u64, rev: u64, frame: Frame, lone: bool, now: u64) -> Enqueued {
        let counters = &self.context.counters;
        if self.is_closing() {
            counters.dropped_closing.add(1);
            return Enqueued::Settled;
        }
        let mut sequence = self.sequence.borrow_mut();
        let parked = sequence.parked();
        let verdict = sequence.offer(seq, rev, frame);
        let dropped = (parked + 1).saturating_sub(sequence.parked());
        drop(sequence);
        match verdict {
            Verdict::Deliver(frame) if lone => self.send_with_proof(&frame, now),
            Verdict::Deliver(frame) => self.enqueue(&frame, false, now),
            Verdict::Gap => {
                self.ask(now);
                Enqueued::Settled
            }
            Verdict::Duplicate => {
                counters.dropped_duplicate.add(1);
                Enqueued::Settled
            }
            Verdict::Parked => {
                counters.dropped_superseded.add(dropped as u64);
                Enqueued::Settled
            }
        }
    }

    /// Sends a lone durable frame. Where a ping is to go with it, both are queued for one write.
    fn send_with_proof(&self, frame: &Frame, now: u64) -> Enqueued {
        let outbound = self.outbound.borrow();
        if !self.is_quiet(&outbound, now) || !self.is_proof_time(&outbound, true, now) {
            drop(outbound);
            return self.enqueue(frame, true, now);
        }
        drop(outbound);
        if self.enqueue(frame, false, now) == Enqueued::FlushDue {
            self.flush(now);
        }
        Enqueued::Settled
    }

    /// Queues a changed unread count unless the session has a newer one; before the first answer it is kept until then.
    pub(crate) fn enqueue_read(&self, rev: u64, frame: &Frame, lone: bool, now: u64) -> Enqueued {
        if self.keep_early_read(rev, frame) {
            return Enqueued::Settled;
        }
        if !self.sequence.borrow_mut().admits_rev(rev) {
            self.context.counters.dropped_outdated.add(1);
            return Enqueued::Settled;
        }
        self.enqueue(frame, lone, now)
    }

    /// The earliest time in milliseconds at which a flush keeps to the coalescing window; `now` or before: at once.
    pub(crate) fn flush_due_ms(&self) -> u64 {
        self.flush_due(&self.outbound.borrow())
    }

    /// Gives the send queue's buffer back where nothing was written for a while: most connections are quiet for long.
    pub(super) fn release_idle_buffer(&self, now: u64) {
        let mut outbound = self.outbound.borrow_mut();
        if now >= outbound.last_write_ms + IDLE_AFTER_MS {
            outbound.queue.release_buffer();
        }
    }

    /// Whether something waits for the socket to have room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.outbound.borrow().blocked || self.socket.is_held_up()
    }

    /// Whether something has still to go to the socket.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.outbound.borrow().queue.is_empty() || self.socket.is_held_up()
    }

    /// Whether nothing waits and nothing was written within the coalescing window.
    fn is_quiet(&self, outbound: &Outbound, now: u64) -> bool {
        outbound.queue.is_empty() && !outbound.blocked && now >= self.flush_due(outbound)
    }

    fn flush_due(&self, outbound: &Outbound) -> u64 {
        outbound.last_write_ms + self.context.config.coalesce.as_millis() as u64
    }
}
