//! How long it takes from the call that publishes a frame to the return of the write that carries it.
//!
//! What is counted is a write, by the oldest frame in it: a frame is stamped when it is published, a session remembers the
//! stamp of the first one that waits, and [`WriteTimes`] compares it with the clock. Frames that nobody published (the
//! welcome, pings, pongs, Close) have no stamp, and writes of such alone are not counted.
//!
//! The clock is read once for each call that publishes, and once for up to 16 writes of a turn, behind the last of them. So
//! a write never counts as quicker than it was, and as slower by the time of the 15 that followed it at most, and of what
//! other tasks did between those in a long list. Where a
//! socket was full, frames that waited already have the stamp of the oldest among them; what came later has its own.

use std::{
    cell::{Cell, RefCell},
    num::NonZeroU32,
    sync::LazyLock,
    time::Instant,
};

use smallvec::SmallVec;

use crate::metrics::Histogram;

/// Writes that share a look at the clock.
const WRITES_PER_LOOK: usize = 16;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, in microseconds of a clock that all threads share and that begins anew every 71 minutes: what waits longer
/// than that seems to have waited less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(NonZeroU32);

impl Stamp {
    /// This moment.
    pub(crate) fn now() -> Self {
        Self::at(ORIGIN.elapsed().as_micros() as u32)
    }

    // Zero is rounded down to the microsecond before it, so that no later moment lies before it.
    fn at(micros: u32) -> Self {
        Self(NonZeroU32::new(micros).unwrap_or(NonZeroU32::MAX))
    }

    /// The microseconds from this moment to a later one.
    fn until(self, later: Self) -> u64 {
        u64::from(later.0.get().wrapping_sub(self.0.get()))
    }

    /// The moment so many microseconds before this.
    #[cfg(test)]
    pub(crate) fn before(self, micros: u32) -> Self {
        Self::at(self.0.get().wrapping_sub(micros))
    }
}

/// The writes of one shard whose times are not yet counted.
#[derive(Debug, Default)]
pub(crate) struct WriteTimes {
    /// The stamp of the oldest frame in each.
    writes: RefCell<SmallVec<[Stamp; WRITES_PER_LOOK]>>,
    /// Whether [`Self::settle`] follows.
    gathering: Cell<bool>,
}

impl WriteTimes {
    /// From here to [`Self::settle`] writes may share a look at the clock.
    pub(crate) fn gather(&self) {
        self.gathering.set(true);
    }

    /// Takes note of a write that has just returned.
    pub(crate) fn wrote(&self, oldest: Stamp, histogram: &Histogram) {
        let mut writes = self.writes.borrow_mut();
        writes.push(oldest);
        if writes.len() == WRITES_PER_LOOK || !self.gathering.get() {
            count(&mut writes, histogram);
        }
    }

    /// Counts what was gathered.
    pub(crate) fn settle(&self, histogram: &Histogram) {
        self.gathering.set(false);
        let mut writes = self.writes.borrow_mut();
        if !writes.is_empty() {
            count(&mut writes, histogram);
        }
    }
}

fn count(writes: &mut SmallVec<[Stamp; WRITES_PER_LOOK]>, histogram: &Histogram) {
    let now = Stamp::now();
    for stamp in writes.drain(..) {
        histogram.count(stamp.until(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_compared_across_the_begin_of_the_clock() {
        for (micros, later, between) in [(1, 1, 0), (0, 0, 0), (0, 1, 2), (u32::MAX, 0, 0), (u32::MAX - 5, 5, 11)] {
            assert_eq!(Stamp::at(micros).until(Stamp::at(later)), between, "{micros} to {later}");
        }
        let now = Stamp::now();
        assert!(now.until(Stamp::now()) < 60_000_000);
        assert_eq!(now.before(70).until(now), 70);
    }

    #[test]
    fn writes_are_counted_by_sixteens_and_at_the_end_of_a_turn_and_alone_outside_of_one() {
        let (times, histogram) = (WriteTimes::default(), Histogram::default());
        let write = || times.wrote(Stamp::now(), &histogram);
        write();
        assert_eq!(histogram.get().total(), 1);
        times.gather();
        (0..15).for_each(|_| write());
        assert_eq!(histogram.get().total(), 1);
        (0..20).for_each(|_| write());
        assert_eq!(histogram.get().total(), 33);
        times.settle(&histogram);
        assert_eq!(histogram.get().total(), 36);
        write();
        times.settle(&histogram);
        assert_eq!(histogram.get().total(), 37);
    }
}
