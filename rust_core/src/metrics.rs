//! Counters, each written by the thread that it belongs to and summed when somebody asks.
//!
//! Every shard has [`Counters`] of its own, and nobody but its thread writes them. So a counter is added to by a load and
//! a store: no locked instruction, and no cache line that two cores fight over. Who reads meanwhile sees what was true a
//! moment ago, each counter by itself. What several threads count (the hub's callers, the front door's workers) lies with
//! them, in atomics that are added to as a whole.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    (
        counters { $($(#[$counter_doc:meta])* $counter:ident,)* }
        marks { $($(#[$mark_doc:meta])* $mark:ident,)* }
        histograms { $($(#[$histogram_doc:meta])* $histogram:ident,)* }
    ) => {
        /// One shard's counters. They begin on a cache line of their own.
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct Counters {
            $($(#[$counter_doc])* pub $counter: Counter,)*
            $($(#[$mark_doc])* pub $mark: Mark,)*
            $($(#[$histogram_doc])* pub $histogram: Histogram,)*
        }

        /// All shards' counters together at one moment: the sum of each counter and bucket, the highest of each mark.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$counter_doc])* pub $counter: u64,)*
            $($(#[$mark_doc])* pub $mark: u64,)*
            $($(#[$histogram_doc])* pub $histogram: Times,)*
        }

        impl Totals {
            /// Adds one shard's share.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$counter += counters.$counter.get();)*
                $(self.$mark = self.$mark.max(counters.$mark.get());)*
                $(self.$histogram.add(counters.$histogram.get());)*
            }
        }
    };
}

counters! {
    counters {
        /// Connections that were registered.
        connections_opened,
        /// Connections that have ended.
        connections_closed,
        /// Messages that were encoded into frames, each once whatever its receivers.
        frames_encoded,
        /// Messages that were written to a connection or queued to it.
        deliveries,
        /// System calls that wrote to a connection.
        writes,
        /// Arrays that were begun, each two or more frames for a client that asked for `batch=1`.
        arrays,
        /// Frames whose last byte was in such a call: messages, pings, pongs, Close.
        frames_written,
        /// Of these calls, those that finished more than one frame.
        coalesced_writes,
        /// The frames that those finished.
        coalesced_frames,
        /// Bytes that those calls took.
        bytes_written,
        /// Messages that were compressed, each once whatever its receivers.
        compressions,
        /// Text messages that clients sent.
        frames_received,
        /// Connections closed with 4002.
        slow_consumers,
        /// Tasks that ended by a panic.
        panics,
        /// Messages for a connection that did not keep up: those that waited when it was closed with 4002, and the one for
        /// which there was no room.
        dropped_slow_consumer,
        /// Messages that waited for a connection when it was closed with 4003.
        dropped_no_pong,
        /// Messages for a connection that was being closed, or had failed.
        dropped_closing,
        /// Messages that waited for a connection when it ended otherwise.
        dropped_disconnected,
        /// Durable messages that the session had.
        dropped_duplicate,
        /// Durable messages that were let go since the database has been read for them, or is read again.
        dropped_superseded,
        /// Unread counts that a newer one had overtaken.
        dropped_outdated,
        /// Frames of clients beyond their rate.
        refused_by_rate,
        /// Text messages of clients for which the event queue had no room.
        refused_by_backlog,
        /// Client frames that the embedding program refused.
        refused_by_program,
        /// Messages of clients that were begun and not finished in time.
        refused_as_slow,
    }
    marks {
        /// The most bytes that have waited for one connection.
        queue_high_water_bytes,
        /// The most bytes of commands that have waited for one shard.
        backlog_high_water_bytes,
    }
    histograms {
        /// Writes that carried a published frame, by the time from the call that published the oldest one in it to the
        /// write's return; see [`crate::hub`] and the crate's `latency`.
        publish_to_write,
    }
}

/// A number that only grows, added to by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`. Of two threads that add at the same time, one is not counted.
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The highest of the values that one thread has seen.
#[derive(Debug, Default)]
pub struct Mark(AtomicU64);

impl Mark {
    /// Raises it to `to` where it is lower.
    pub fn raise(&self, to: usize) {
        if to as u64 > self.0.load(Relaxed) {
            self.0.store(to as u64, Relaxed);
        }
    }

    /// The highest value so far; 0 before the first.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The times at which the buckets of a [`Histogram`] end, in microseconds; beyond the last there is one more.
pub const BUCKET_BOUNDS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How often a time was up to each of [`BUCKET_BOUNDS`] and beyond the one before; counted by one thread.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKET_BOUNDS.len() + 1],
    micros: Counter,
}

impl Histogram {
    /// Counts a time.
    pub fn count(&self, micros: u64) {
        self.buckets[BUCKET_BOUNDS.partition_point(|bound| *bound < micros)].add(1);
        self.micros.add(micros);
    }

    /// What was counted.
    #[must_use]
    pub fn get(&self) -> Times {
        Times { counts: self.buckets.each_ref().map(Counter::get), micros: self.micros.get() }
    }
}

/// What a [`Histogram`] has counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How many times fell into each bucket.
    pub counts: [u64; BUCKET_BOUNDS.len() + 1],
    /// The sum of all times in microseconds.
    pub micros: u64,
}

impl Times {
    /// How many times there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn add(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.micros += other.micros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_does_not_end_before_it() {
        let shards = [Counters::default(), Counters::default()];
        for micros in [0, 50, 51, 1_000_000, 10_000_000, 10_000_001, u64::from(u32::MAX)] {
            shards[0].publish_to_write.count(micros);
        }
        shards[1].publish_to_write.count(60);
        let mut totals = Totals::default();
        for shard in &shards {
            totals.add(shard);
        }
        let times = totals.publish_to_write;
        let filled: Vec<_> = times.counts.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        assert_eq!(filled, [(0, &2), (1, &2), (13, &1), (16, &1), (17, &2)]);
        assert_eq!((times.total(), times.micros), (8, 161 + 21_000_001 + u64::from(u32::MAX)));
        assert!(BUCKET_BOUNDS.is_sorted());
    }

    #[test]
    fn counters_add_up_and_marks_do_not() {
        let shards = [Counters::default(), Counters::default()];
        for (shard, amount) in shards.iter().zip([3, 5]) {
            shard.writes.add(amount);
            shard.writes.add(1);
            shard.queue_high_water_bytes.raise(10 * amount as usize);
            shard.queue_high_water_bytes.raise(1);
        }
        let mut totals = Totals::default();
        for shard in &shards {
            totals.add(shard);
        }
        assert_eq!(totals, Totals { writes: 10, queue_high_water_bytes: 50, ..Totals::default() });
    }
}
