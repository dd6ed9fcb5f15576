//! What the client sends: how much of it is let through, and to whom it goes.

use std::sync::Arc;

use bytes::Bytes;

use super::{Enqueued, Session};
use crate::{
    close::CloseReason,
    events::Event,
    frame::Frame,
    patience::{PATIENCE, PATIENCE_BYTES},
};

/// Client frames that may be refused within [`REFUSAL_WINDOW_SECONDS`] before the connection is closed with 1008.
const MAX_REFUSALS: u32 = 20;
const REFUSAL_WINDOW_SECONDS: u32 = 60;

impl Session {
    /// Takes note of whether the client has begun a message that is not whole yet.
    pub(crate) fn note_unfinished(&self, is_unfinished: bool) {
        if !is_unfinished {
            self.unfinished_since.set(0);
        } else if self.unfinished_since.get() == 0 {
            self.unfinished_since.set(self.context.clock.now_ms().div_ceil(1000).max(1) as u32);
        }
    }

    /// Whether the client takes too long over a message: the largest one that it may send, as slowly as it may, would be
    /// there by now. Pings are answered between the fragments of a message, so without this one could be held open, and its
    /// buffer with it, for ever.
    pub(super) fn is_slow_message(&self, now: u64) -> bool {
        let since = u64::from(self.unfinished_since.get());
        let allowed = PATIENCE.as_secs() + (self.context.config.max_message_bytes / PATIENCE_BYTES) as u64;
        since > 0 && now / 1000 > since + allowed
    }

    /// Whether one more frame from the client is within its rate; closes with 1008 where it is not.
    pub(crate) fn admits_frame(&self) -> bool {
        let (config, now) = (&self.context.config, self.context.clock.now_ms());
        let mut rate = self.rate.get();
        let allowed = rate.allows(now, config.message_rate, config.message_burst);
        self.rate.set(rate);
        if !allowed {
            self.context.counters.refused_by_rate.add(1);
            self.begin_close(CloseReason::RateLimit, now);
        }
        allowed
    }

    /// Hands a text message to the embedding program; closes with 1013 where that is too far behind.
    pub(crate) fn deliver_text(&self, frame: Bytes) {
        self.context.counters.frames_received.add(1);
        let delivered = self.context.events.offer(Event::ClientFrame {
            connection_id: self.connection_id(),
            user_id: Arc::clone(self.user_id()),
            role: self.role(),
            session_id: self.stands_for.get(),
            frame,
        });
        if !delivered {
            self.context.counters.refused_by_backlog.add(1);
            self.begin_close(CloseReason::TryAgainLater, self.context.clock.now_ms());
        }
    }

    /// Sends a message back to where it came from.
    pub(crate) fn echo(&self, message: Frame) {
        let (config, now) = (&self.context.config, self.context.clock.now_ms());
        if self.enqueue(&message.deflatable(config.compress_min_bytes), true, now) == Enqueued::FlushDue {
            self.flush(now);
        }
    }

    /// Answers a client frame that was refused, and counts it; one too many ends the connection.
    pub(crate) fn refuse(&self, answer: &Frame, now: u64) -> Enqueued {
        self.context.counters.refused_by_program.add(1);
        let due = self.enqueue(answer, false, now);
        self.count_refusal(now);
        due
    }

    pub(super) fn count_refusal(&self, now: u64) {
        let seconds = (now / 1000) as u32;
        let (since, count) = self.refusals.get();
        let is_over = count == 0 || seconds - since >= REFUSAL_WINDOW_SECONDS;
        let (since, count) = if is_over { (seconds, 1) } else { (since, count + 1) };
        self.refusals.set((since, count));
        if count >= MAX_REFUSALS {
            self.begin_close(CloseReason::RateLimit, now);
        }
    }
}
