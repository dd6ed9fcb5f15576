//! What the shard's sweep does to a session: deadlines, pings and the wait for their pongs, requests sent again.
//!
//! A ping is also a barrier: the peer answers it with its payload (RFC 6455 section 5.5.3), and the stream is ordered, so
//! its pong proves that the peer's WebSocket stack has all that was queued before it. No client has to know of this. It
//! goes with the durable frames that it is for, in one system call, where one is due; else the sweep sends it.

use uuid::Uuid;

use super::{Enqueued, Session, outbound::Outbound};
use crate::{close::CloseReason, frame::Frame};

/// An answer to a [`crate::events::Event::SyncRequest`] that is this late is asked for again.
const SYNC_PATIENCE_MS: u64 = 5_000;

/// The time between two pings that are sent to learn what has arrived, on average; one may be half of it early.
const PROOF_INTERVAL_MS: u64 = 1_000;

/// The one ping that awaits its pong.
#[derive(Debug)]
pub(super) struct Ping {
    /// Known to nobody else, so that no peer can claim what it has not read.
    pub(super) nonce: u64,
    /// The last durable frame that was queued before it.
    pub(super) proves: Option<u64>,
    /// Position in the stream behind its last byte.
    pub(super) end: u64,
    /// Bytes written when it was last looked at, and when they last grew.
    pub(super) progress: (u64, u64),
}

impl Session {
    /// Called now and then: deadlines, the heartbeat, requests that were not answered. Returns whether the session has to
    /// be flushed.
    pub(crate) fn beat(&self, now: u64, unix_now: u64) -> Enqueued {
        if let Some(deadline_ms) = self.closing.get().map(|closing| closing.deadline_ms) {
            if now >= deadline_ms {
                self.abort();
            }
            return Enqueued::Settled;
        }
        if unix_now >= self.expires_at.get() {
            self.begin_close(CloseReason::SessionExpired, now);
            return Enqueued::Settled;
        }
        if self.sequence.borrow().is_waiting()
            && !self.page_wanted.get()
            && now >= self.asked_ms.get() + if self.asked_ms.get() == 0 { 0 } else { SYNC_PATIENCE_MS }
        {
            self.ask(now);
        }
        // A connection that is blocked is not flushed for long.
        self.context.counters.queue_high_water_bytes.raise(self.outbound.borrow().queue.bytes());
        self.release_idle_buffer(now);
        if self.is_overdue(now) {
            self.begin_close(CloseReason::NoPong, now);
            return Enqueued::Settled;
        }
        if self.is_slow_message(now) {
            self.context.counters.refused_as_slow.add(1);
            self.begin_close(CloseReason::SlowMessage, now);
            return Enqueued::Settled;
        }
        self.ping_when_due(now)
    }

    /// Takes note of a pong; says whether it answers the ping that is out, by its payload.
    pub(crate) fn pong(&self, payload: &[u8]) -> bool {
        let answered = self.outbound.borrow_mut().ping.take_if(|ping| ping.nonce.to_be_bytes() == *payload);
        if let Some(seq) = answered.as_ref().and_then(|ping| ping.proves) {
            self.sequence.borrow_mut().prove(seq);
        }
        answered.is_some()
    }

    /// Whether the ping that is out has gone unanswered for too long. Its clock starts when it was written, and a
    /// connection that still takes or sends bytes is not overdue.
    fn is_overdue(&self, now: u64) -> bool {
        let mut outbound = self.outbound.borrow_mut();
        let written = outbound.queue.written();
        let Some(ping) = &mut outbound.ping else { return false };
        let reached = written.min(ping.end);
        if reached > ping.progress.0 {
            ping.progress = (reached, now);
        }
        let since = ping.progress.1.max(self.heard_ms.get());
        now.saturating_sub(since) >= self.context.config.pong_timeout.as_millis() as u64
    }

    fn ping_when_due(&self, now: u64) -> Enqueued {
        let mut outbound = self.outbound.borrow_mut();
        let is_due = outbound.ping.is_none() && self.ping_interval_ms() > 0 && now >= outbound.next_ping_ms;
        if is_due {
            let unproven = self.unproven();
            self.queue_ping(&mut outbound, unproven, now);
        } else if !self.queue_proof(&mut outbound, false, now) {
            return Enqueued::Settled;
        }
        outbound.list()
    }

    /// Queues a ping behind durable frames of which it is time to learn whether they arrived; says whether it did. Where it
    /// goes `along` with them it costs no system call of its own, and the peer answers it when it reads them.
    pub(super) fn queue_proof(&self, outbound: &mut Outbound, along: bool, now: u64) -> bool {
        if !self.is_proof_time(outbound, along, now) {
            return false;
        }
        let unproven = self.unproven();
        if unproven.is_some() {
            self.queue_ping(outbound, unproven, now);
        }
        unproven.is_some()
    }

    /// Whether a ping may be sent for its proof: somebody keeps account, none is out, none was a moment ago. One that goes
    /// `along` may be early by half the interval, and the next is then later by as much: frames that come once a second
    /// come now and then a little sooner, and a ping by itself costs as much as they do.
    pub(super) fn is_proof_time(&self, outbound: &Outbound, along: bool, now: u64) -> bool {
        let (interval, between) = (self.ping_interval_ms(), self.proof_interval_ms());
        let early = if along { between / 2 } else { 0 };
        interval > 0
            && outbound.ping.is_none()
            && now + interval - between + early >= outbound.next_ping_ms
            && self.context.events.progress.is_kept()
    }

    /// The last durable frame, where somebody keeps account of what arrives and it is not known to have.
    fn unproven(&self) -> Option<u64> {
        self.sequence.borrow().unproven().filter(|_| self.context.events.progress.is_kept())
    }

    fn queue_ping(&self, outbound: &mut Outbound, proves: Option<u64>, now: u64) {
        let interval = self.ping_interval_ms();
        // From when this one was due, where it is early.
        let due_ms = (outbound.next_ping_ms + self.proof_interval_ms()).saturating_sub(interval);
        outbound.next_ping_ms = now.max(due_ms) + interval;
        let nonce = Uuid::now_v7().as_u64_pair().1;
        let progress = (outbound.queue.written(), now);
        outbound.queue.push_control(Frame::ping(nonce).wire().clone());
        let end = outbound.queue.end();
        outbound.ping = Some(Box::new(Ping { nonce, proves, end, progress }));
    }

    fn ping_interval_ms(&self) -> u64 {
        self.context.config.ping_interval.as_millis() as u64
    }

    fn proof_interval_ms(&self) -> u64 {
        self.ping_interval_ms().min(PROOF_INTERVAL_MS)
    }
}
