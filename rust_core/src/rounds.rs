//! Broadcasts on their way round all sessions of a shard. No I/O.
//!
//! A broadcast is not queued to anybody: it lies here while the shard goes round its sessions, and each session that is
//! visited is written everything that it has not seen. So a broadcast costs one visit a session, and one that comes while
//! the shard is on its round goes along from there: nobody waits for a round to end, and a shard that is behind writes
//! several with each visit. Where a session stands is one number in it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{command::Audience, frame::Frame};

/// Bytes of a shard's backlog, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    backlog: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Takes over `bytes` that were added to `backlog`.
    pub(crate) fn new(backlog: &Arc<AtomicUsize>, bytes: usize) -> Self {
        Self { backlog: Arc::clone(backlog), bytes }
    }

    /// A part of it, to be given back by itself.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        debug_assert!(bytes <= self.bytes);
        self.bytes -= bytes;
        Self::new(&self.backlog, bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.fetch_sub(self.bytes, Relaxed);
    }
}

/// One message and who is to get it.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) audience: Audience,
    pub(crate) frame: Frame,
    _held: Held,
}

/// The broadcasts that somebody has not seen, and where the round stands.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    broadcasts: VecDeque<Broadcast>,
    /// Number of the oldest of them. Numbers only grow.
    first: u64,
    /// The session to visit next, by its place in the shard's list.
    position: usize,
    /// Visits until everybody has seen everything.
    remaining: usize,
    /// Number of the first broadcast that came after the list was last begun at its top.
    lap: u64,
}

impl Rounds {
    /// What a session has seen that has seen everything: the number of the next broadcast.
    pub(crate) fn head(&self) -> u64 {
        self.first + self.broadcasts.len() as u64
    }

    /// Sends a message round `sessions` sessions; `held` is given back when the last of them was visited.
    pub(crate) fn begin(&mut self, audience: Audience, frame: Frame, held: Held, sessions: usize) {
        self.broadcasts.push_back(Broadcast { audience, frame, _held: held });
        self.remaining = sessions;
    }

    /// Whether somebody is still to be visited, or something to be forgotten.
    pub(crate) fn is_going(&self) -> bool {
        !self.broadcasts.is_empty()
    }

    /// The session to visit now, of a list of `sessions`; `None` once everybody has seen everything.
    pub(crate) fn visit(&mut self, sessions: usize) -> Option<usize> {
        if self.remaining == 0 || sessions == 0 {
            self.remaining = 0;
            self.first = self.head();
            self.broadcasts.clear();
            return None;
        }
        if self.position >= sessions {
            // What was there when the list was begun has been shown to all of it.
            let seen_by_all = (self.lap.saturating_sub(self.first) as usize).min(self.broadcasts.len());
            self.broadcasts.drain(..seen_by_all);
            self.first += seen_by_all as u64;
            self.lap = self.head();
            self.position = 0;
        }
        self.remaining -= 1;
        self.position += 1;
        Some(self.position - 1)
    }

    /// What a session has not seen that has seen all before number `seen`, in order.
    pub(crate) fn unseen(&self, seen: u64) -> impl Iterator<Item = &Broadcast> + Clone {
        self.broadcasts.range((seen.saturating_sub(self.first) as usize).min(self.broadcasts.len())..)
    }

    /// A session was added at the end of the list. It sees only what comes from now on.
    pub(crate) fn added(&mut self) {
        self.remaining += usize::from(self.remaining > 0);
    }

    /// The session at `position` has gone, and the last of the list has taken its place. True where the round is past
    /// that place, so that the moved one has to be shown what it has not seen.
    pub(crate) fn replaced(&self, position: usize) -> bool {
        position < self.position && self.is_going()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Broadcast,
        Visit(usize),
        Join,
        Leave(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Broadcast),
            6 => (1_usize..8).prop_map(Step::Visit),
            2 => Just(Step::Join),
            2 => any::<usize>().prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// A session: what it had seen, and the numbers that it was shown.
    struct Seat {
        seen: u64,
        due: Vec<u64>,
        shown: Vec<u64>,
    }

    fn show(rounds: &Rounds, seat: &mut Seat) {
        let count = rounds.unseen(seat.seen).count() as u64;
        seat.shown.extend(rounds.head() - count..rounds.head());
        seat.seen = rounds.head();
    }

    fn begin(rounds: &mut Rounds, backlog: &Arc<AtomicUsize>, sessions: usize) {
        backlog.fetch_add(2, Relaxed);
        let held = Held::new(backlog, 2);
        rounds.begin(Audience::All, Frame::text(""), held, sessions);
    }

    proptest! {
        /// Whoever comes and goes meanwhile, each is shown every broadcast of its time once, in order, and the backlog
        /// is empty at the end.
        #[test]
        fn everybody_sees_everything_once(steps in steps()) {
            let backlog = Arc::new(AtomicUsize::new(0));
            let mut rounds = Rounds::default();
            let mut seats: Vec<Seat> = Vec::new();
            for step in steps {
                match step {
                    Step::Broadcast => {
                        let number = rounds.head();
                        begin(&mut rounds, &backlog, seats.len());
                        for seat in &mut seats {
                            seat.due.push(number);
                        }
                    }
                    Step::Visit(count) => {
                        for _ in 0..count {
                            let Some(position) = rounds.visit(seats.len()) else { break };
                            show(&rounds, &mut seats[position]);
                        }
                    }
                    Step::Join => {
                        seats.push(Seat { seen: rounds.head(), due: Vec::new(), shown: Vec::new() });
                        rounds.added();
                    }
                    Step::Leave(which) if !seats.is_empty() => {
                        let position = which % seats.len();
                        let gone = seats.swap_remove(position);
                        prop_assert!(gone.due.starts_with(&gone.shown));
                        if position < seats.len() && rounds.replaced(position) {
                            show(&rounds, &mut seats[position]);
                        }
                    }
                    Step::Leave(_) => {}
                }
            }
            while let Some(position) = rounds.visit(seats.len()) {
                show(&rounds, &mut seats[position]);
            }
            for seat in &seats {
                prop_assert_eq!(&seat.shown, &seat.due);
            }
            prop_assert!(!rounds.is_going());
            prop_assert_eq!(backlog.load(Relaxed), 0);
        }
    }

    #[test]
    fn a_broadcast_is_forgotten_after_two_laps_though_others_follow_without_end() {
        let backlog = Arc::new(AtomicUsize::new(0));
        let mut rounds = Rounds::default();
        for _ in 0..100 {
            begin(&mut rounds, &backlog, 10);
            for _ in 0..10 {
                rounds.visit(10).unwrap();
            }
            assert!(backlog.load(Relaxed) <= 3 * 2);
        }
    }
}
