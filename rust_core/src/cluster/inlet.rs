//! The subscriptions, read by one task.
//!
//! async-nats gives each subscription a channel of its own, so the order between two subjects would be lost: a frame to
//! everybody could overtake one to a user that was published before it. So all channels are emptied until none has
//! anything, and what was found is put into the order of its numbers, each sender's for itself. NATS keeps the order of
//! a sender over all subjects, and a message that is in its channel has all earlier ones in theirs.

use std::{
    collections::HashMap,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use async_nats::Subscriber;
use bytes::Bytes;
use foldhash::fast::RandomState;
use futures_util::Stream as _;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Messages that are put in order together, at most. Where more have come, the order between subjects may be lost.
const BATCH: usize = 65_536;

/// One subscription; no two have had the same.
pub(super) type SlotId = u64;

/// Messages that came, with the subscriptions that they came by.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<(SlotId, Bytes)>,
    /// Whether every message that came before one of these is among them, or was before.
    pub(super) is_whole: bool,
}

/// All subscriptions of this node.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    slots: Mutex<Slots>,
    ready: Arc<Ready>,
}

#[derive(Debug, Default)]
struct Slots {
    by_id: HashMap<SlotId, Slot, RandomState>,
    last: SlotId,
}

#[derive(Debug)]
struct Slot {
    subscriber: Subscriber,
    flag: Arc<Flag>,
}

/// The subscriptions that may have something.
#[derive(Debug, Default)]
struct Ready {
    ids: Mutex<Vec<SlotId>>,
    news: Notify,
}

/// Wakes the one task for one subscription.
#[derive(Debug)]
struct Flag {
    id: SlotId,
    raised: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.ready.ids.lock().push(self.id);
            self.ready.news.notify_one();
        }
    }
}

impl Inlet {
    /// Reads a subscription from now on.
    pub(super) fn add(&self, subscriber: Subscriber) -> SlotId {
        let mut slots = self.slots.lock();
        slots.last += 1;
        let id = slots.last;
        let flag = Arc::new(Flag { id, raised: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        slots.by_id.insert(id, Slot { subscriber, flag: Arc::clone(&flag) });
        drop(slots);
        // Its channel knows nobody to wake until it is looked into.
        flag.wake();
        id
    }

    /// Ends a subscription, with what waits in it.
    pub(super) fn remove(&self, id: SlotId) {
        let removed = self.slots.lock().by_id.remove(&id);
        drop(removed);
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        let removed = mem::take(&mut self.slots.lock().by_id);
        drop(removed);
    }

    /// The messages that have come; waits for the first.
    pub(super) async fn next(&self) -> Batch {
        loop {
            let batch = self.collect();
            if !batch.messages.is_empty() {
                return batch;
            }
            self.ready.news.notified().await;
        }
    }

    fn collect(&self) -> Batch {
        let mut messages = Vec::new();
        let mut slots = self.slots.lock();
        loop {
            let mut ids = mem::take(&mut *self.ready.ids.lock());
            if ids.is_empty() {
                return Batch { messages, is_whole: true };
            }
            while let Some(id) = ids.pop() {
                if messages.len() >= BATCH {
                    ids.push(id);
                    self.ready.ids.lock().append(&mut ids);
                    self.ready.news.notify_one();
                    return Batch { messages, is_whole: false };
                }
                if let Some(slot) = slots.by_id.get_mut(&id)
                    && slot.empty_into(id, &mut messages)
                {
                    slots.by_id.remove(&id);
                }
            }
        }
    }
}

impl Slot {
    /// Takes what is there; true where the subscription has ended.
    fn empty_into(&mut self, id: SlotId, found: &mut Vec<(SlotId, Bytes)>) -> bool {
        // Before the look: what comes after it raises the flag again.
        self.flag.raised.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self.subscriber).poll_next(&mut context) {
                Poll::Ready(Some(message)) => found.push((id, message.payload)),
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
    }
}
