//! What waits, on its way to the socket: by shard or task, as much at a time as the socket takes.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::{Session, outbound::Outbound};
use crate::{
    close::CloseReason,
    frame::{self, Frame},
    latency::Stamp,
    send_queue::MAX_SLICES,
};

impl Outbound {
    /// Lets `write` write what is next for a client that takes arrays; returns how much it wrote, and whether it began
    /// an array.
    fn write_planned(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<(usize, bool)> {
        let plan = self.queue.plan(&self.batching);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = self.queue.planned_slices(&plan, &mut slices);
        let written = write(&slices[..filled])?;
        let begun = self.queue.advance_planned(&plan, &mut self.batching, written);
        if let Some(begun) = begun {
            if let Some(ping) = &mut self.ping {
                ping.end = begun.moved(ping.end);
            }
            for (position, _) in self.later.iter_mut().flat_map(|later| later.iter_mut()) {
                *position = begun.moved(*position);
            }
        }
        Ok((written, begun.is_some()))
    }
}

impl Session {
    /// Writes what waits, as far as the socket takes it, with a ping behind it where one is due for durable frames.
    pub(crate) fn flush(&self, now: u64) {
        if self.has_unwritten() && !self.is_closing() {
            self.queue_proof(&mut self.outbound.borrow_mut(), true, now);
        }
        self.write_waiting(now);
    }

    /// Writes what waits, and nothing behind it.
    fn write_waiting(&self, now: u64) {
        let mut outbound = self.outbound.borrow_mut();
        outbound.listed = false;
        if let Err(error) = self.write_out(&mut outbound, now) {
            drop(outbound);
            self.fail(&error);
            return;
        }
        let drained = outbound.queue.bytes() <= self.context.config.send_queue_bytes / 4;
        drop(outbound);
        if drained && self.page_wanted.replace(false) {
            self.ask(now);
        }
    }

    /// As [`Self::flush`]; the socket's failure is for the caller.
    pub(super) fn write_out(&self, outbound: &mut Outbound, now: u64) -> io::Result<()> {
        self.context.counters.queue_high_water_bytes.raise(outbound.queue.bytes());
        while !outbound.queue.is_empty() {
            let (waiting, oldest) = (outbound.queue.len(), outbound.oldest);
            let result =
                if outbound.batching.enabled { self.write_batched(outbound) } else { self.write_frames(outbound) };
            match result {
                Ok(written) => {
                    outbound.pass_stamps();
                    let finished = waiting - outbound.queue.len();
                    self.wrote(outbound, written, finished, oldest, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbound.blocked = true;
                    self.wake();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        outbound.blocked = !self.socket.flush()?;
        if outbound.blocked {
            self.wake();
        }
        Ok(())
    }

    /// Offers the socket the first of `frames`, no more than the queue takes: what the socket leaves is queued. Returns how
    /// many and how many bytes they are, and what became of it.
    pub(super) fn write_several<'a>(
        &self,
        frames: impl Iterator<Item = &'a Frame>,
    ) -> (usize, usize, io::Result<usize>) {
        let limit = self.context.config.send_queue_bytes;
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let (mut filled, mut bytes) = (0, 0);
        for (slice, frame) in slices.iter_mut().zip(frames) {
            let wire = self.wire_of(frame);
            if filled > 0 && bytes + wire.len() > limit {
                break;
            }
            *slice = IoSlice::new(wire);
            filled += 1;
            bytes += wire.len();
        }
        (filled, bytes, self.write_slices(&slices[..filled]))
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
        let is_close = frame::is_close(&frame);
        if is_close {
            // Nothing follows that. What comes before it may end the session first, by a Close of ours.
            self.catch_up(now);
            if self.is_over() {
                return;
            }
        }
        let full = {
            let mut outbound = self.outbound.borrow_mut();
            outbound.queue.push_control(frame);
            outbound.queue.bytes() > self.context.config.send_queue_bytes
        };
        if full {
            self.begin_close(CloseReason::SlowConsumer, now);
        } else if is_close {
            self.write_waiting(now);
        } else {
            self.flush(now);
        }
    }

    /// Takes note of a write of `written` bytes that finished so many frames, the oldest of which was published then.
    pub(super) fn wrote(
        &self,
        outbound: &mut Outbound,
        written: usize,
        finished: usize,
        oldest: Option<Stamp>,
        now: u64,
    ) {
        outbound.last_write_ms = now;
        if self.socket.is_held_up() {
            outbound.blocked = true;
            self.wake();
        }
        let counters = &self.context.counters;
        counters.writes.add(1);
        counters.frames_written.add(finished as u64);
        counters.bytes_written.add(written as u64);
        if finished > 1 {
            counters.coalesced_writes.add(1);
            counters.coalesced_frames.add(finished as u64);
        }
        if let Some(oldest) = oldest {
            self.context.write_times.wrote(oldest, &counters.publish_to_write);
        }
    }
}
