//! Whether newcomers are let in: what the front door does while file descriptors are short, and how one hears of it.
//!
//! The last descriptors are kept for what newcomers need behind the door: the app's sockets, its database, files.
//! Newcomers are turned away before those are used up, so whoever is inside is served as before. A new descriptor has
//! the lowest number that is free (accept(2), open(2)), so the number of an accepted socket tells how many are left,
//! whoever uses the others, and whatever the limit is by now.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

/// Descriptors that newcomers leave free; an eighth of the limit where that is less.
const RESERVE: u64 = 64;

/// How long nobody may have been turned away before it is looked whether the shortage is over.
const QUIET: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The least between two log records that say the same.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How the intake stands; written by the acceptor, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    short: AtomicBool,
    turned_away: AtomicU64,
}

impl Intake {
    /// Whether newcomers are let in, as far as descriptors go.
    pub(crate) fn is_open(&self) -> bool {
        !self.short.load(Relaxed)
    }

    /// Connections that were turned away since the start.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Relaxed)
    }
}

/// What the acceptor knows of a shortage, from its begin to its end.
#[derive(Debug)]
pub(crate) struct Shortage {
    intake: Arc<Intake>,
    /// When to look whether it is over; `None` while there is none.
    look_at: Option<Instant>,
    pause: Duration,
    told_at: Option<Instant>,
    /// Its begin was told, and its end is not yet.
    owes_end: bool,
}

impl Shortage {
    pub(crate) fn new(intake: Arc<Intake>) -> Self {
        Self { intake, look_at: None, pause: FIRST_PAUSE, told_at: None, owes_end: false }
    }

    /// When to [`look`](Self::look) whether it is over; `None` while there is none.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// A newcomer got one of the last descriptors, and is turned away.
    pub(crate) fn turns_away(&mut self) {
        self.intake.turned_away.fetch_add(1, Relaxed);
        self.begin(QUIET);
        if self.is_to_be_told() {
            tracing::error!(
                limit = getrlimit(Resource::Nofile).current,
                "file descriptors run short: new connections are turned away until some are free; raise ulimit -n, or \
                 lower MAX_CONNECTIONS"
            );
        }
    }

    /// The system refused to accept: nobody should try again before [`look_at`](Self::look_at).
    pub(crate) fn refuses(&mut self, error: &io::Error) {
        self.begin(self.pause);
        self.pause = (self.pause * 2).min(QUIET);
        if self.is_to_be_told() {
            tracing::error!(%error, "new connections cannot be accepted, and wait until it is over");
        }
    }

    /// Looks whether it is over. Returns whether it makes sense to accept: even a newcomer that is to be turned away
    /// needs a descriptor.
    pub(crate) fn look(&mut self) -> bool {
        // A new file, which the system may refuse for want of more than numbers (ENFILE, ENOBUFS).
        match Socket::new(Domain::UNIX, Type::STREAM, None) {
            Ok(probe) if !is_scarce(probe.as_raw_fd()) => {
                self.end();
                true
            }
            Ok(_) => {
                self.begin(QUIET);
                true
            }
            Err(_) => {
                self.begin(self.pause);
                self.pause = (self.pause * 2).min(QUIET);
                false
            }
        }
    }

    fn begin(&mut self, look_after: Duration) {
        self.intake.short.store(true, Relaxed);
        self.look_at = Some(Instant::now() + look_after);
    }

    fn end(&mut self) {
        self.intake.short.store(false, Relaxed);
        self.look_at = None;
        self.pause = FIRST_PAUSE;
        if std::mem::take(&mut self.owes_end) {
            tracing::info!(turned_away_so_far = self.intake.turned_away(), "new connections are let in again");
        }
    }

    fn is_to_be_told(&mut self) -> bool {
        let now = Instant::now();
        let due = self.told_at.is_none_or(|told_at| now >= told_at + TELL_AGAIN);
        if due {
            self.told_at = Some(now);
            self.owes_end = true;
        }
        due
    }
}

/// Whether `descriptor`, which was made just now, is one of the last.
pub(crate) fn is_scarce(descriptor: RawFd) -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| is_among_the_last(descriptor, limit))
}

fn is_among_the_last(descriptor: RawFd, limit: u64) -> bool {
    u64::try_from(descriptor).is_ok_and(|number| number + RESERVE.min(limit / 8) >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_are_kept_and_of_few_an_eighth() {
        assert!(!is_among_the_last(959, 1024));
        assert!(is_among_the_last(960, 1024));
        assert!(!is_among_the_last(55, 64));
        assert!(is_among_the_last(56, 64));
        assert!(is_among_the_last(2000, 1024), "the limit was lowered below what is open");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_once_nobody_was_turned_away_for_a_while() {
        let intake = Arc::new(Intake::default());
        let mut shortage = Shortage::new(Arc::clone(&intake));
        assert!(intake.is_open());
        assert_eq!(shortage.look_at(), None);
        shortage.turns_away();
        assert!(!intake.is_open());
        let first = shortage.look_at().unwrap();
        tokio::time::advance(QUIET / 2).await;
        shortage.turns_away();
        assert!(shortage.look_at().unwrap() > first);
        assert_eq!(intake.turned_away(), 2);
        assert!(shortage.look());
        assert!(intake.is_open());
        assert_eq!(shortage.look_at(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_once_a_minute_and_so_is_its_end() {
        let mut shortage = Shortage::new(Arc::default());
        shortage.turns_away();
        assert!(shortage.owes_end);
        shortage.end();
        shortage.turns_away();
        assert!(!shortage.owes_end, "its begin was not told, so neither is its end");
        tokio::time::advance(TELL_AGAIN).await;
        shortage.turns_away();
        assert!(shortage.owes_end);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_system_refuses_is_tried_less_and_less_often_down_to_once_a_second() {
        let mut shortage = Shortage::new(Arc::default());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            shortage.refuses(&io::ErrorKind::OutOfMemory.into());
            pauses.push(shortage.look_at().unwrap() - Instant::now());
        }
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[9]), (FIRST_PAUSE, QUIET));
    }
}
