//! What is to be done at some millisecond soon: a ring of lists, one a millisecond.
//!
//! The coalescing window is at most a second, so a ring of that length needs no order within it and no allocation once
//! it is warm.

/// Items by the millisecond at which they are due.
#[derive(Debug)]
pub(crate) struct DueRing<T> {
    slots: Vec<Vec<T>>,
    /// Everything due before this millisecond was taken.
    next_ms: u64,
    waiting: usize,
}

impl<T> DueRing<T> {
    /// A ring for delays of at most `longest_ms`.
    pub(crate) fn new(longest_ms: u64) -> Self {
        Self { slots: std::iter::repeat_with(Vec::new).take(longest_ms as usize + 2).collect(), next_ms: 0, waiting: 0 }
    }

    /// Adds an item; one that is due in the past, or further ahead than the ring reaches, is moved within.
    pub(crate) fn push(&mut self, due_ms: u64, now_ms: u64, item: T) {
        if self.waiting == 0 {
            self.next_ms = now_ms;
        }
        let length = self.slots.len() as u64;
        let due_ms = due_ms.clamp(self.next_ms, self.next_ms + length - 1);
        self.slots[(due_ms % length) as usize].push(item);
        self.waiting += 1;
    }

    /// Moves everything that is due by `now_ms` into `taken`.
    pub(crate) fn take_due(&mut self, now_ms: u64, taken: &mut impl Extend<T>) {
        let length = self.slots.len() as u64;
        while self.waiting > 0 && self.next_ms <= now_ms {
            let slot = &mut self.slots[(self.next_ms % length) as usize];
            self.waiting -= slot.len();
            taken.extend(slot.drain(..));
            self.next_ms += 1;
        }
    }

    /// The first millisecond at which something is due.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let length = self.slots.len() as u64;
        (self.waiting > 0)
            .then(|| (self.next_ms..self.next_ms + length).find(|ms| !self.slots[(ms % length) as usize].is_empty()))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Nothing comes early, nothing stays, whatever the steps of the clock.
        #[test]
        fn everything_comes_when_it_is_due(steps in prop::collection::vec((0_u64..40, prop::collection::vec(0_u64..=10, 0..5)), 1..50)) {
            let mut ring = DueRing::new(10);
            let (mut now, mut waiting, mut taken) = (5, Vec::new(), Vec::new());
            for (step, delays) in steps {
                now += step;
                ring.take_due(now, &mut taken);
                for due in taken.drain(..) {
                    prop_assert!(due <= now);
                    let at = waiting.iter().position(|&other| other == due);
                    prop_assert!(at.is_some());
                    waiting.swap_remove(at.unwrap());
                }
                prop_assert!(waiting.iter().all(|&due| due > now));
                prop_assert_eq!(ring.next_due_ms(), waiting.iter().copied().min());
                for delay in delays {
                    if delay > 0 {
                        ring.push(now + delay, now, now + delay);
                        waiting.push(now + delay);
                    }
                }
            }
        }
    }
}
