//! Frames on their way out: queued, written at once where the connection is quiet, flushed by shard or task.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::{Session, heartbeat::Ping};
use crate::{
    close::CloseReason,
    frame::Frame,
    send_queue::{Batching, MAX_SLICES, SendQueue},
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
    pub(super) batching: Batching,
    /// On the shard's list of sessions to flush.
    pub(super) listed: bool,
    /// The socket was full: the session's task waits until it is writable.
    pub(super) blocked: bool,
    pub(super) last_write_ms: u64,
    pub(super) ping: Option<Ping>,
    pub(super) next_ping_ms: u64,
}

impl Outbound {
    /// Drops every message of which nothing was written yet.
    pub(super) fn drop_unstarted(&mut self) {
        self.queue.drop_unstarted_array(&self.batching);
    }

    /// Lets `write` write what is next for a client that takes arrays; returns how much it wrote, and whether it began
    /// an array.
    pub(super) fn write_planned(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<(usize, bool)> {
        let plan = self.queue.plan(&self.batching);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = self.queue.planned_slices(&plan, &mut slices);
        let written = write(&slices[..filled])?;
        let position = self.queue.written();
        let begun = self.queue.advance_planned(&plan, &mut self.batching, written);
        // A ping that waits is behind every array that can begin.
        if let (Some(begun), Some(ping)) = (begun, &mut self.ping)
            && ping.end > position
        {
            ping.end = begun.moved(ping.end);
        }
        Ok((written, begun.is_some()))
    }
}

impl Session {
    /// Queues a frame. `lone`: no other follows in this pass, so a quiet session is written to at once.
    pub(crate) fn enqueue(&self, frame: &Frame, lone: bool, now: u64) -> Enqueued {
        if self.is_closing() || self.aborted.get() {
            return Enqueued::Settled;
        }
        self.context.counters.deliveries.add(1);
        let wire = self.wire_of(frame);
        let mut outbound = self.outbound.borrow_mut();
        if lone && outbound.queue.is_empty() && !outbound.blocked && self.is_quiet(&outbound, now) {
            match self.socket.try_write(wire) {
                Ok(written) => {
                    self.wrote(&mut outbound, written, now);
                    outbound.queue.wrote_directly(wire, written);
                    if outbound.queue.is_empty() {
                        return Enqueued::Settled;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbound.queue.push_control(wire.clone());
                }
                Err(error) => {
                    drop(outbound);
                    self.fail(&error);
                    return Enqueued::Settled;
                }
            }
        } else if outbound.queue.push(wire.clone(), self.context.config.send_queue_bytes).is_err() {
            drop(outbound);
            self.context.counters.slow_consumers.add(1);
            self.begin_close(CloseReason::SlowConsumer, now);
            return Enqueued::Settled;
        }
        if outbound.listed || outbound.blocked {
            return Enqueued::Settled;
        }
        outbound.listed = true;
        Enqueued::FlushDue
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
            let result = if outbound.batching.enabled {
                self.write_batched(&mut outbound)
            } else {
                self.write_frames(&mut outbound)
            };
            match result {
                Ok(written) => self.wrote(&mut outbound, written, now),
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

    fn write_frames(&self, outbound: &mut Outbound) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = outbound.queue.slices(&mut slices);
        let written = self.write_slices(&slices[..filled])?;
        outbound.queue.advance(written);
        Ok(written)
    }

    /// As [`Self::write_frames`], for a client that takes several messages as one array.
    fn write_batched(&self, outbound: &mut Outbound) -> io::Result<usize> {
        let (written, is_array) = outbound.write_planned(|slices| self.write_slices(slices))?;
        self.context.counters.arrays.add(u64::from(is_array));
        Ok(written)
    }

    fn write_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [lone] => self.socket.try_write(lone),
            several => self.socket.try_write_vectored(several),
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
