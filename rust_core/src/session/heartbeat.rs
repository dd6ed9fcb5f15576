//! What the shard's sweep does to a session: deadlines, pings and the wait for their pongs, requests sent again.

use uuid::Uuid;

use super::Session;
use crate::{close::CloseReason, frame::Frame};

/// An answer to a [`crate::events::Event::SyncRequest`] that is this late is asked for again.
const SYNC_PATIENCE_MS: u64 = 5_000;

/// The one ping that awaits its pong.
#[derive(Debug)]
pub(super) struct Ping {
    pub(super) nonce: u64,
    /// Position in the stream behind its last byte.
    pub(super) end: u64,
    /// Bytes written when it was last looked at, and when they last grew.
    pub(super) progress: (u64, u64),
}

impl Session {
    /// Called now and then: deadlines, the heartbeat, requests that were not answered.
    pub(crate) fn beat(&self, now: u64, unix_now: u64) {
        if let Some(deadline_ms) = self.closing.borrow().as_ref().map(|closing| closing.deadline_ms) {
            if now >= deadline_ms {
                self.abort();
            }
            return;
        }
        if self.expires_at.get().is_some_and(|end| unix_now >= end) {
            self.begin_close(CloseReason::SessionExpired, now);
            return;
        }
        if self.sequence.borrow().is_waiting()
            && !self.page_wanted.get()
            && now >= self.asked_ms.get() + if self.asked_ms.get() == 0 { 0 } else { SYNC_PATIENCE_MS }
        {
            self.ask(now);
        }
        if self.is_overdue(now) {
            self.begin_close(CloseReason::NoPong, now);
        } else {
            self.ping_when_due(now);
        }
    }

    /// Takes note of a pong; says whether it answers the ping that is out, by its payload.
    pub(crate) fn pong(&self, payload: &[u8]) -> bool {
        self.outbound.borrow_mut().ping.take_if(|ping| ping.nonce.to_be_bytes() == *payload).is_some()
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

    fn ping_when_due(&self, now: u64) {
        let interval = self.context.config.ping_interval.as_millis() as u64;
        {
            let mut outbound = self.outbound.borrow_mut();
            if interval == 0 || outbound.ping.is_some() || now < outbound.next_ping_ms {
                return;
            }
            outbound.next_ping_ms = now + interval;
            let nonce = Uuid::now_v7().as_u64_pair().1;
            let progress = (outbound.queue.written(), now);
            outbound.queue.push_control(Frame::ping(nonce).wire().clone());
            let end = outbound.queue.end();
            outbound.ping = Some(Ping { nonce, end, progress });
            if outbound.blocked || outbound.listed {
                return;
            }
        }
        self.flush(now);
    }
}
