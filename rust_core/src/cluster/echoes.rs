//! What was sent to come back to ourselves: fences, and probes of the subscriptions.
//!
//! The NATS server takes the messages of one connection in their order and gives them back in that order. So what comes
//! back on the node's own subject says that everything sent before it has reached the server, and that a probe sent
//! before it to another subject, which is not back, will not come: that subscription has gone silent.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    sync::mpsc::SyncSender,
};

use parking_lot::Mutex;

use super::inlet::SlotId;

/// What is awaited, shared by the task that sends and the one that receives.
#[derive(Debug, Default)]
pub(super) struct Echoes(Mutex<Awaited>);

#[derive(Debug, Default)]
struct Awaited {
    fences: BTreeMap<u64, SyncSender<bool>>,
    probes: HashMap<SlotId, u64>,
    /// Own echoes that were sent since the last one that came back.
    missed: u32,
    /// Subscriptions whose probe did not come back, and that nobody has seen to yet.
    silent: Vec<SlotId>,
    /// Those that were subscribed anew for that, until a probe of theirs comes back.
    suspects: HashSet<SlotId>,
}

impl Echoes {
    /// A fence leaves with this number.
    pub(super) fn fence_leaves(&self, number: u64, asker: SyncSender<bool>) {
        self.0.lock().fences.insert(number, asker);
    }

    /// A probe of a subscription leaves.
    pub(super) fn probe_leaves(&self, slot: SlotId, number: u64) {
        self.0.lock().probes.insert(slot, number);
    }

    /// An echo on the node's own subject leaves; returns how many others are out.
    pub(super) fn echo_leaves(&self) -> u32 {
        let mut awaited = self.0.lock();
        awaited.missed += 1;
        awaited.missed - 1
    }

    /// A probe came back by the subscription that it was for.
    pub(super) fn probe_came(&self, slot: SlotId, number: u64) {
        let mut awaited = self.0.lock();
        if awaited.probes.get(&slot).is_some_and(|sent| *sent <= number) {
            awaited.probes.remove(&slot);
        }
        awaited.suspects.remove(&slot);
    }

    /// Something came back on the node's own subject. True where that has shown subscriptions to be silent; it does not
    /// where `is_behind_all` is false: something that came before may still wait to be read.
    pub(super) fn echo_came(&self, number: u64, is_behind_all: bool) -> bool {
        let mut awaited = self.0.lock();
        awaited.missed = 0;
        let later = awaited.fences.split_off(&(number + 1));
        for asker in mem::replace(&mut awaited.fences, later).into_values() {
            // Nobody waits any more where the time was up.
            let _ = asker.try_send(true);
        }
        if !is_behind_all {
            return false;
        }
        let Awaited { probes, silent, .. } = &mut *awaited;
        let before = silent.len();
        probes.retain(|slot, sent| {
            let awaited = *sent > number;
            if !awaited {
                silent.push(*slot);
            }
            awaited
        });
        silent.len() > before
    }

    /// The subscriptions that have shown themselves silent since this was last asked.
    pub(super) fn take_silent(&self) -> Vec<SlotId> {
        mem::take(&mut self.0.lock().silent)
    }

    /// A subscription stands for one that was silent: it is to be probed next.
    pub(super) fn suspect(&self, slot: SlotId) {
        self.0.lock().suspects.insert(slot);
    }

    /// Subscriptions that were silent and have not come back yet.
    pub(super) fn suspects(&self) -> Vec<SlotId> {
        self.0.lock().suspects.iter().copied().collect()
    }

    /// How many of those there are.
    pub(super) fn silent(&self) -> usize {
        let awaited = self.0.lock();
        awaited.suspects.len() + awaited.silent.len()
    }

    /// A subscription has ended.
    pub(super) fn forget(&self, slot: SlotId) {
        let mut awaited = self.0.lock();
        awaited.probes.remove(&slot);
        awaited.suspects.remove(&slot);
    }

    /// The link is lost: nothing that was sent will come back, and whoever waits for a fence is told so.
    pub(super) fn lose(&self) {
        let mut awaited = self.0.lock();
        for asker in mem::take(&mut awaited.fences).into_values() {
            let _ = asker.try_send(false);
        }
        awaited.probes.clear();
        awaited.missed = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{TryRecvError, sync_channel};

    use super::*;

    #[test]
    fn a_fence_opens_by_its_own_echo_or_a_later_one() {
        let echoes = Echoes::default();
        let (first, opened_first) = sync_channel(1);
        let (second, opened_second) = sync_channel(1);
        echoes.fence_leaves(1, first);
        echoes.fence_leaves(2, second);
        echoes.echo_came(1, true);
        assert_eq!((opened_first.try_recv(), opened_second.try_recv()), (Ok(true), Err(TryRecvError::Empty)));
        echoes.lose();
        assert_eq!(opened_second.try_recv(), Ok(false));
    }

    #[test]
    fn what_did_not_come_before_the_echo_behind_it_is_silent() {
        let echoes = Echoes::default();
        echoes.probe_leaves(10, 1);
        echoes.probe_leaves(11, 2);
        echoes.probe_leaves(12, 4);
        echoes.probe_came(10, 1);
        assert!(!echoes.echo_came(3, false));
        assert!(echoes.echo_came(3, true));
        assert_eq!(echoes.take_silent(), [11]);
        echoes.suspect(20);
        assert_eq!((echoes.suspects(), echoes.silent()), (vec![20], 1));
        echoes.probe_came(20, 5);
        assert_eq!(echoes.silent(), 0);
        assert!(!echoes.echo_came(3, true));
    }

    #[test]
    fn echoes_are_missed_until_one_comes() {
        let echoes = Echoes::default();
        assert_eq!((echoes.echo_leaves(), echoes.echo_leaves()), (0, 1));
        echoes.echo_came(9, true);
        assert_eq!(echoes.echo_leaves(), 0);
    }
}
