//! How far each connection has come in its user's sequence, kept by position and not by frame.
//!
//! A session remembers what was queued to it since it was last asked, as one range: contiguous, for that is what the
//! sequence rule makes of it. Nothing is told while it goes on; who wants to know asks every second or so. What could
//! not wait for that (a connection that ended, a session that starts anew elsewhere) is laid down here at once.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::locks::{AtomicBool, AtomicU64, Mutex};

/// Records that may be laid down unasked before they are taken; more are dropped and counted.
pub const MAX_UNASKED: usize = 262_144;

/// What was queued to one connection since the last time it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The connection.
    pub connection_id: String,
    /// Whose it is.
    pub user_id: Arc<str>,
    /// First and last number that were queued; where nothing was, the first lies behind the last. A number between
    /// them that does not exist belongs to a deleted notification.
    pub range: (u64, u64),
    /// Everything up to this number that was queued to the connection has arrived.
    pub delivered: u64,
}

/// Records that wait to be taken. Nothing is kept until [`Self::keep`].
#[derive(Debug, Default)]
pub struct ProgressLog {
    kept: AtomicBool,
    records: Mutex<Vec<Progress>>,
    dropped: AtomicU64,
}

impl ProgressLog {
    /// From now on records are kept for someone who takes them.
    pub fn keep(&self) {
        self.kept.store(true, Relaxed);
    }

    /// Whether somebody takes records.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept.load(Relaxed)
    }

    /// Lays down a record for which nobody has asked yet.
    pub fn note(&self, record: Option<Progress>) {
        let Some(record) = record.filter(|_| self.is_kept()) else { return };
        let mut records = self.records.lock();
        if records.len() < MAX_UNASKED {
            records.push(record);
        } else {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Lays down what was asked for: at most one record a session, so it needs no other bound.
    pub fn answer(&self, mut answers: Vec<Progress>) {
        self.records.lock().append(&mut answers);
    }

    /// Takes what was laid down.
    #[must_use]
    pub fn take(&self) -> Vec<Progress> {
        std::mem::take(&mut *self.records.lock())
    }

    /// How many were dropped because nobody took them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Progress {
        Progress { connection_id: String::new(), user_id: "user-1".into(), range: (1, 1), delivered: 0 }
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let log = ProgressLog::default();
        log.note(Some(record()));
        assert!(log.take().is_empty());
        log.keep();
        log.note(Some(record()));
        log.note(None);
        assert_eq!((log.take().len(), log.take().len()), (1, 0));
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_an_answer_still_fits() {
        let log = ProgressLog::default();
        log.keep();
        for _ in 0..=MAX_UNASKED {
            log.note(Some(record()));
        }
        log.answer(vec![record()]);
        assert_eq!((log.take().len(), log.dropped()), (MAX_UNASKED + 1, 1));
    }
}
