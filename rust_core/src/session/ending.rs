//! How a session ends: our Close frame and the wait for the peer's, the peer's own, or a failed socket.

use std::{io, sync::Arc, time::Duration};

use super::Session;
use crate::{
    close::CloseReason,
    events::{Ending, Event},
    frame::Frame,
};

/// How long a peer may take to answer our Close frame before its socket is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a peer that has left a ping unanswered, and so has probably gone.
const SILENT_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A close that has begun.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) reason: CloseReason,
    pub(super) deadline_ms: u64,
}

/// How the peer ended it, or the transport did.
#[derive(Debug)]
pub(super) struct PeerEnding {
    code: u16,
    reason: String,
    ending: Ending,
}

impl Session {
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// Whether nothing more is to be queued.
    pub(crate) fn is_over(&self) -> bool {
        self.is_closing() || self.is_aborted()
    }

    /// Sends a Close frame as the last one, behind what was queued, and gives the peer a while to answer. A peer that is
    /// closed for not keeping up, or that has probably gone, gets the Close in place of what was queued.
    pub(crate) fn begin_close(&self, reason: CloseReason, now: u64) {
        let timeout = if reason == CloseReason::NoPong { SILENT_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
        self.begin_close_within(reason, now, timeout);
    }

    pub(crate) fn begin_close_within(&self, reason: CloseReason, now: u64, timeout: Duration) {
        // What was broadcast before comes before; it may be what ends the session.
        self.catch_up(now);
        if self.is_over() {
            return;
        }
        {
            let counters = &self.context.counters;
            counters.slow_consumers.add(u64::from(reason == CloseReason::SlowConsumer));
            let mut outbound = self.outbound.borrow_mut();
            let dropped = match reason {
                CloseReason::SlowConsumer => Some(&counters.dropped_slow_consumer),
                CloseReason::NoPong => Some(&counters.dropped_no_pong),
                _ => None,
            };
            if let Some(dropped) = dropped {
                counters.queue_high_water_bytes.raise(outbound.queue.bytes());
                let waiting = outbound.queue.messages();
                outbound.drop_unstarted();
                dropped.add((waiting - outbound.queue.messages()) as u64);
            }
            outbound.queue.push_control(Frame::close(&reason).wire().clone());
        }
        let deadline_ms = now + timeout.min(CLOSE_TIMEOUT).as_millis() as u64;
        self.closing.get_or_init(|| Box::new(Closing { reason, deadline_ms }));
        self.flush(now);
        self.wake();
    }

    /// The peer has closed and was answered: what is still owed may be written, nothing is added.
    pub(crate) fn finish(&self, now: u64) {
        let deadline_ms = now + CLOSE_TIMEOUT.as_millis() as u64;
        self.closing.get_or_init(|| Box::new(Closing { reason: CloseReason::Normal, deadline_ms }));
    }

    /// Gives the connection up at once.
    pub(crate) fn abort(&self) {
        self.aborted.set(true);
        self.wake();
    }

    /// The socket has failed.
    pub(crate) fn fail(&self, error: &io::Error) {
        self.set_ending(1006, &error.to_string(), Ending::Error);
        self.abort();
    }

    /// Remembers how the peer ended it, unless we did first.
    pub(crate) fn set_ending(&self, code: u16, reason: &str, ending: Ending) {
        if !self.is_closing() {
            let reason = reason.to_owned();
            let first = self.ending.take().unwrap_or_else(|| Box::new(PeerEnding { code, reason, ending }));
            self.ending.set(Some(first));
        }
    }

    /// Counts and tells that it has ended, once its task has.
    pub(crate) fn take_leave(&self) {
        let counters = &self.context.counters;
        // Broadcasts that were on their way to it are too late.
        self.catch_up(self.context.clock.now_ms());
        counters.connections_closed.add(1);
        let queue = &self.outbound.borrow().queue;
        counters.queue_high_water_bytes.raise(queue.bytes());
        let early_reads = self.joining.borrow().as_ref().map_or(0, |joining| joining.early_reads.len());
        let waiting = queue.messages() + self.sequence.borrow().parked() + early_reads;
        counters.dropped_disconnected.add(waiting as u64);
        self.context.events.progress.note(self.take_progress());
        self.context.events.tell(self.disconnected_event());
    }

    fn disconnected_event(&self) -> Event {
        let peers = self.ending.take().map(|ended| *ended);
        let PeerEnding { code, reason, ending } =
            peers.unwrap_or_else(|| match self.closing.get().map(|closing| &**closing) {
                Some(Closing { reason, .. }) => {
                    PeerEnding { code: reason.code(), reason: reason.text().into_owned(), ending: ending_of(reason) }
                }
                None => PeerEnding { code: 1006, reason: String::new(), ending: Ending::Disconnected },
            });
        let clock = &self.context.clock;
        Event::Disconnected {
            connection_id: self.connection_id(),
            user_id: Arc::clone(self.user_id()),
            client_address: self.client_address,
            user_agent: self.user_agent.clone(),
            connected_at: clock.unix_seconds(self.connected_ms),
            last_activity: clock.unix_seconds(self.heard_ms.get()),
            code,
            reason,
            ending,
        }
    }
}

/// How the connection table names the end that a close of ours brings.
fn ending_of(reason: &CloseReason) -> Ending {
    match reason {
        CloseReason::NoPong => Ending::Timeout,
        CloseReason::ProtocolError
        | CloseReason::InvalidUtf8
        | CloseReason::InvalidDeflate
        | CloseReason::BinaryRefused
        | CloseReason::MessageTooBig
        | CloseReason::InternalError
        | CloseReason::SlowConsumer
        | CloseReason::SlowMessage => Ending::Error,
        _ => Ending::Disconnected,
    }
}
