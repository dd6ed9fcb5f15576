//! What the cluster has counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters that several threads add to.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Count,)*
        }

        /// What was counted since the start, and how things stand.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct ClusterStats {
            /// Whether the node is linked to NATS and hears its own echo.
            pub connected: bool,
            /// Other nodes that are heard now.
            pub peers: usize,
            /// Users whose frames the node hears now.
            pub subscriptions: usize,
            /// Subscriptions that fell silent and have not been heard since.
            pub silent: usize,
            /// Bytes that wait to leave.
            pub outbox_bytes: usize,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(super) fn stats(&self) -> ClusterStats {
                ClusterStats { $($name: self.$name.get(),)* ..ClusterStats::default() }
            }
        }
    };
}

counters! {
    /// Messages that were handed to NATS for other nodes.
    published,
    /// Messages of other nodes that came, for users, audiences or connections.
    received,
    /// Messages that were dropped because there was no link.
    dropped_unlinked,
    /// Messages that were dropped because NATS takes none of their size.
    dropped_too_large,
    /// Messages of other nodes that were dropped because a shard, or the event queue, was full.
    dropped_overloaded,
    /// Calls that were refused because too much waited to leave.
    refused,
    /// Messages that could not be read, or are of another version.
    malformed,
    /// Users that the node began to hear.
    subscribed,
    /// Users that the node left off hearing.
    unsubscribed,
    /// Links to NATS that were made, the first among them.
    links,
    /// Times that messages were lost because a subscription was not read fast enough.
    slow_consumers,
    /// Subscriptions that were found silent, and made anew.
    silenced,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
