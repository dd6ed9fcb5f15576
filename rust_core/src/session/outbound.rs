//! Frames on their way out: queued, written at once where the connection is quiet, flushed by shard or task.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::{Session, heartbeat::Ping};
use crate::{
    close::CloseReason,
    frame::Frame,
    send_queue::{MAX_SLICES, SendQueue},
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

/// What waits to be written, and how the writing stands.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    pub(super) queue: SendQueue,
    /// On the shard's list of sessions to flush.
    pub(super) listed: bool,
    /// The socket was full: the session's task waits until it is writable.
    pub(super) blocked: bool,
    pub(super) last_write_ms: u64,
    pub(super) ping: Option<Ping>,
    pub(super) next_ping_ms: u64,
}

impl Session {
    /// Queues a frame. `lone`: no other follows in this pass, so a quiet session is written to at once.
    pub(crate) fn enqueue(&self, frame: &Frame, lone: bool, now: u64) -> Enqueued {
        if self.is_closing() || self.aborted.get() {
            return Enqueued::Settled;
        }
        self.context.counters.deliveries.add(1);
        let mut outbound = self.outbound.borrow_mut();
        if lone && outbound.queue.is_empty() && !outbound.blocked && self.is_quiet(&outbound, now) {
            match self.socket.try_write(frame.wire()) {
                Ok(written) => {
                    self.wrote(&mut outbound, written, now);
                    outbound.queue.wrote_directly(frame.wire(), written);
                    if outbound.queue.is_empty() {
                        return Enqueued::Settled;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbound.queue.push_control(frame.wire().clone());
                }
                Err(error) => {
                    drop(outbound);
                    self.fail(&error);
                    return Enqueued::Settled;
                }
            }
        } else if outbound.queue.push(frame.wire().clone(), self.context.config.send_queue_bytes).is_err() {
            drop(outbound);
            return self.enqueue_to_full(frame, now);
        }
        if outbound.listed || outbound.blocked {
            return Enqueued::Settled;
        }
        outbound.listed = true;
        Enqueued::FlushDue
    }

    /// The same where the queue is full. It may be full because this pass has much for the session and has not written
    /// yet: only one whose socket is full as well is too slow.
    fn enqueue_to_full(&self, frame: &Frame, now: u64) -> Enqueued {
        let listed = self.outbound.borrow().listed;
        self.flush(now);
        if self.aborted.get() {
            return Enqueued::Settled;
        }
        let mut outbound = self.outbound.borrow_mut();
        outbound.listed = listed;
        if outbound.queue.push(frame.wire().clone(), self.context.config.send_queue_bytes).is_err() {
            drop(outbound);
            self.begin_close(CloseReason::SlowConsumer, now);
            return Enqueued::Settled;
        }
        if listed || outbound.blocked {
            return Enqueued::Settled;
        }
        outbound.listed = true;
        Enqueued::FlushDue
    }

    /// Queues a durable frame by the session's rule.
    pub(crate) fn enqueue_durable(&self, seq: u64, rev: u64, frame: Frame, lone: bool, now: u64) -> Enqueued {
        if self.is_closing() {
            return Enqueued::Settled;
        }
        let verdict = self.sequence.borrow_mut().offer(seq, rev, frame);
        match verdict {
            Verdict::Deliver(frame) => self.enqueue(&frame, lone, now),
            Verdict::Gap => {
                self.ask(now);
                Enqueued::Settled
            }
            Verdict::Duplicate | Verdict::Parked => Enqueued::Settled,
        }
    }

    /// Queues a changed unread count unless the session has a newer one; before the first answer it is kept until then.
    pub(crate) fn enqueue_read(&self, rev: u64, frame: &Frame, lone: bool, now: u64) -> Enqueued {
        if self.keep_early_read(rev, frame) {
            return Enqueued::Settled;
        }
        if self.sequence.borrow_mut().admits_rev(rev) { self.enqueue(frame, lone, now) } else { Enqueued::Settled }
    }

    /// The earliest time in milliseconds at which a flush keeps to the coalescing window; `now` or before: at once.
    pub(crate) fn flush_due_ms(&self) -> u64 {
        self.outbound.borrow().last_write_ms + self.context.config.coalesce.as_millis() as u64
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&self, now: u64) {
        let mut outbound = self.outbound.borrow_mut();
        outbound.listed = false;
        while !outbound.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = outbound.queue.slices(&mut slices);
            let result = match &slices[..filled] {
                [lone] => self.socket.try_write(lone),
                several => self.socket.try_write_vectored(several),
            };
            match result {
                Ok(written) => {
                    self.wrote(&mut outbound, written, now);
                    outbound.queue.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbound.blocked = true;
                    self.wake();
                    break;
                }
                Err(error) => {
                    drop(outbound);
                    self.fail(&error);
                    return;
                }
            }
        }
        outbound.blocked &= !outbound.queue.is_empty();
        let drained = outbound.queue.bytes() <= self.context.config.send_queue_bytes / 4;
        drop(outbound);
        if drained && self.page_wanted.replace(false) {
            self.ask(now);
        }
    }

    /// Takes a control frame from tungstenite. After our own Close nothing follows it (RFC 6455 section 5.5.1).
    pub(crate) fn write_control(&self, frame: Bytes) {
        if self.is_closing() {
            return;
        }
        let now = self.context.clock.now_ms();
        let full = {
            let mut outbound = self.outbound.borrow_mut();
            outbound.queue.push_control(frame);
            outbound.queue.bytes() > self.context.config.send_queue_bytes
        };
        if full {
            self.begin_close(CloseReason::SlowConsumer, now);
        } else {
            self.flush(now);
        }
    }

    /// Gives the send queue's buffer back where nothing was written for a while: most connections are quiet for long.
    pub(super) fn release_idle_buffer(&self, now: u64) {
        let mut outbound = self.outbound.borrow_mut();
        if now >= outbound.last_write_ms + IDLE_AFTER_MS {
            outbound.queue.release_buffer();
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.outbound.borrow().blocked
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        !self.outbound.borrow().queue.is_empty()
    }

    fn is_quiet(&self, outbound: &Outbound, now: u64) -> bool {
        now >= outbound.last_write_ms + self.context.config.coalesce.as_millis() as u64
    }

    fn wrote(&self, outbound: &mut Outbound, written: usize, now: u64) {
        outbound.last_write_ms = now;
        self.context.counters.writes.add(1);
        self.context.counters.bytes_written.add(written as u64);
    }
}
