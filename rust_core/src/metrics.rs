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
    ) => {
        /// One shard's counters. They begin on a cache line of their own.
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct Counters {
            $($(#[$counter_doc])* pub $counter: Counter,)*
            $($(#[$mark_doc])* pub $mark: Mark,)*
        }

        /// All shards' counters together at one moment: the sum of each counter, the highest of each mark.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$counter_doc])* pub $counter: u64,)*
            $($(#[$mark_doc])* pub $mark: u64,)*
        }

        impl Totals {
            /// Adds one shard's share.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$counter += counters.$counter.get();)*
                $(self.$mark = self.$mark.max(counters.$mark.get());)*
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
    }
    marks {
        /// The most bytes that have waited for one connection.
        queue_high_water_bytes,
        /// The most bytes of commands that have waited for one shard.
        backlog_high_water_bytes,
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

#[cfg(test)]
mod tests {
    use super::*;

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
