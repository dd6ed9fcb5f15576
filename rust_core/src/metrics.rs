//! Counters, each written by the thread that it belongs to and summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One thread's counters.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        /// The sum of all threads' counters at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Totals { $($(#[$doc])* pub $name: u64,)* }

        impl Totals {
            /// Adds one thread's share.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }
        }
    };
}

counters! {
    /// Connections that were registered.
    connections_opened,
    /// Connections that have ended.
    connections_closed,
    /// Frames queued to a connection.
    deliveries,
    /// System calls that wrote to a connection.
    writes,
    /// Arrays that were begun, each two or more frames for a client that asked for `batch=1`.
    arrays,
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
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
