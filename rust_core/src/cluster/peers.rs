//! Which other nodes are heard: what may be lost between two NATS servers shows on no link of ours.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// A node of which nothing has come for so long is cut off, or dead. It says something every 2 s.
const SILENT_AFTER: Duration = Duration::from_secs(7);

/// A node that has been silent for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(600);

/// The nodes that have been heard.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<u64, Peer>>);

#[derive(Debug)]
struct Peer {
    heard_at: Instant,
    is_silent: bool,
}

impl Peers {
    /// Something came from a node; true where it had been silent.
    pub(super) fn heard(&self, node: u64, now: Instant) -> bool {
        let heard = Peer { heard_at: now, is_silent: false };
        self.0.lock().insert(node, heard).is_some_and(|before| before.is_silent)
    }

    /// A node has ended in order.
    pub(super) fn left(&self, node: u64) {
        self.0.lock().remove(&node);
    }

    /// There is a link again: nothing could be heard meanwhile.
    pub(super) fn excuse(&self, now: Instant) {
        for peer in self.0.lock().values_mut() {
            peer.heard_at = now;
        }
    }

    /// The nodes that have just fallen silent.
    pub(super) fn fallen_silent(&self, now: Instant) -> Vec<u64> {
        let mut fallen = Vec::new();
        self.0.lock().retain(|node, peer| {
            let silence = now.saturating_duration_since(peer.heard_at);
            if silence >= SILENT_AFTER && !peer.is_silent {
                peer.is_silent = true;
                fallen.push(*node);
            }
            silence < GONE_AFTER
        });
        fallen
    }

    /// How many are heard.
    pub(super) fn count(&self) -> usize {
        self.0.lock().values().filter(|peer| !peer.is_silent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_and_so_is_its_end() {
        let (peers, start) = (Peers::default(), Instant::now());
        assert!(!peers.heard(1, start));
        assert!(!peers.heard(2, start + SILENT_AFTER));
        assert_eq!(peers.fallen_silent(start + SILENT_AFTER), [1]);
        assert_eq!((peers.fallen_silent(start + SILENT_AFTER).len(), peers.count()), (0, 1));
        assert!(peers.heard(1, start + SILENT_AFTER));
        assert!(!peers.heard(1, start + SILENT_AFTER));
        assert_eq!(peers.count(), 2);
    }

    #[test]
    fn who_left_or_could_not_be_heard_is_not_silent() {
        let (peers, start) = (Peers::default(), Instant::now());
        peers.heard(1, start);
        peers.heard(2, start);
        peers.left(1);
        peers.excuse(start + SILENT_AFTER);
        assert_eq!(peers.fallen_silent(start + SILENT_AFTER).len(), 0);
        peers.fallen_silent(start + SILENT_AFTER + GONE_AFTER);
        assert_eq!(peers.0.lock().len(), 0);
    }
}
