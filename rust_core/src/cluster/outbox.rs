//! What is to leave this node, in the order in which it was handed in, bounded in bytes.
//!
//! Any thread puts in and blocks on nothing; one task takes out. Word of users who came or left, and fences, stand in
//! the same line, so that a fence comes back behind every subscription that was asked for before it.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::SyncSender,
    },
};

use async_nats::Subject;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes that may wait; beyond, whoever publishes is told to try again.
pub(crate) const OUTBOX_BYTES: usize = 64 * 1024 * 1024;

/// Items that are taken at a time: what takes them has something else to look after as well.
pub(super) const TURN: usize = 1024;

/// What each item counts beside its payload.
const EACH: usize = 128;

/// One thing to do, in its turn.
#[derive(Debug)]
pub(super) enum Item {
    /// Send a message; its number is still to be set.
    Publish(Subject, Vec<u8>),
    /// A user's first session came, or the last one went.
    Interest(Arc<str>),
    /// Tell when everything before it has reached the NATS server, and come back.
    Fence(SyncSender<bool>),
    /// Hear events from now on.
    Listen,
}

impl Item {
    /// The bytes that it holds while it waits.
    pub(super) fn cost(&self) -> usize {
        EACH + if let Self::Publish(_, payload) = self { payload.len() } else { 0 }
    }
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: Mutex<VecDeque<Item>>,
    bytes: AtomicUsize,
    news: Notify,
}

impl Outbox {
    /// Puts in, whatever waits: the bound is the caller's to ask for first, so that a call of many parts goes out whole.
    pub(super) fn put(&self, items: impl IntoIterator<Item = Item>) {
        let mut waiting = self.items.lock();
        let was_empty = waiting.is_empty();
        for item in items {
            self.bytes.fetch_add(item.cost(), Relaxed);
            waiting.push_back(item);
        }
        let wake = was_empty && !waiting.is_empty();
        drop(waiting);
        if wake {
            self.news.notify_one();
        }
    }

    /// What has waited longest, [`TURN`] items at most, once something does. It counts as waiting until it is
    /// [`Self::done`] with.
    pub(super) async fn take(&self) -> VecDeque<Item> {
        loop {
            let items = self.take_now();
            if !items.is_empty() {
                return items;
            }
            self.news.notified().await;
        }
    }

    /// What has waited longest until now, [`TURN`] items at most.
    pub(super) fn take_now(&self) -> VecDeque<Item> {
        let mut waiting = self.items.lock();
        if waiting.len() <= TURN { mem::take(&mut *waiting) } else { waiting.drain(..TURN).collect() }
    }

    /// So many bytes of what was taken are off.
    pub(super) fn done(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes() > OUTBOX_BYTES
    }

    /// Bytes that wait, or are being handed over.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_taken_in_turns() {
        let outbox = Outbox::default();
        outbox.put((0..=TURN).map(|_| Item::Listen));
        assert_eq!([outbox.take_now().len(), outbox.take_now().len(), outbox.take_now().len()], [TURN, 1, 0]);
    }

    fn publish(length: usize) -> Item {
        Item::Publish("subject".into(), vec![0; length])
    }

    #[tokio::test]
    async fn it_is_full_until_what_was_taken_is_done_with() {
        let outbox = Outbox::default();
        outbox.put([publish(OUTBOX_BYTES), publish(1)]);
        assert!(outbox.is_full());
        let taken = outbox.take().await;
        assert!(outbox.is_full());
        outbox.done(taken.iter().map(Item::cost).sum());
        assert_eq!(outbox.bytes(), 0);
    }

    #[tokio::test]
    async fn whoever_takes_is_woken() {
        let outbox = Arc::new(Outbox::default());
        let taking = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.take().await.len() }
        });
        outbox.put([publish(1), Item::Listen]);
        assert!(taking.await.unwrap() >= 1);
    }
}
