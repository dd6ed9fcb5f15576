//! One session's rule for durable frames: each `seq` once, in order, without a hole.
//!
//! Durable frames may reach a session twice, late, or not at all: a relay dies between publishing and removing, a new
//! leader overlaps the old one, a bus drops. The database knows what is true, so the rule is: what was seen is dropped,
//! what comes next is delivered, and anything further ahead is parked while the hole before it is read from the
//! database. That answer is final: a number that is missing from it belongs to a deleted notification.

use std::collections::BTreeMap;

/// Frames that may be parked; past it only their highest number is kept, and the rest is read again.
const MAX_PARKED: usize = 64;

/// What becomes of a durable frame that has just arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<F> {
    /// It is the next one: send it.
    Deliver(F),
    /// It was sent before.
    Duplicate,
    /// It waits for an answer that was asked for earlier.
    Parked,
    /// It waits, and what lies after [`Sequence::last`] must be asked for.
    Gap,
}

/// What is to be done after an answer was worked in.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the session is live.
    Live,
    /// Ask at once: frames arrived meanwhile that the answer did not reach.
    Ask,
    /// Ask when the send queue has room: the answer was a page of several, or did not fit.
    AskWhenDrained,
}

/// Where one session stands in its user's sequence. `F` is the frame, carried but never looked at.
#[derive(Debug)]
pub struct Sequence<F> {
    /// The last number delivered; `None` before the first, where the client gave no position.
    last: Option<u64>,
    /// The newest version of the unread count that went out.
    rev: u64,
    /// Everything behind this and up to `last` was delivered since [`Self::take_news`].
    told: u64,
    /// Everything up to here that was delivered is known to have arrived, or was never this session's to deliver.
    arrived: u64,
    /// Whether `arrived` has moved since [`Self::take_news`].
    arrived_moved: bool,
    /// Present while an answer is awaited.
    waiting: Option<Box<Waiting<F>>>,
}

#[derive(Debug)]
struct Waiting<F> {
    parked: BTreeMap<u64, F>,
    /// The highest number heard of.
    highest: u64,
}

impl<F> Sequence<F> {
    /// A session that must be answered before it is live; everything durable is parked until then.
    #[must_use]
    pub fn waiting(after: Option<u64>) -> Self {
        let waiting = Some(Box::new(Waiting { parked: BTreeMap::new(), highest: 0 }));
        let position = after.unwrap_or(0);
        Self { last: after, rev: 0, told: position, arrived: position, arrived_moved: false, waiting }
    }

    /// A session that takes up the sequence at whatever comes first: for a server without a database.
    #[must_use]
    pub fn live() -> Self {
        Self { last: None, rev: 0, told: 0, arrived: 0, arrived_moved: false, waiting: None }
    }

    /// The last number delivered, or that the client said it had.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Whether an answer is awaited.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// How many frames are parked.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.parked.len())
    }

    /// A frame with its number and the version of the unread count that it carries.
    pub fn offer(&mut self, seq: u64, rev: u64, frame: F) -> Verdict<F> {
        if self.last.is_some_and(|last| seq <= last) {
            return Verdict::Duplicate;
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.park(seq, frame);
            return Verdict::Parked;
        }
        if self.last.is_none_or(|last| seq == last + 1) {
            self.begin_at(seq.saturating_sub(1));
            self.last = Some(seq);
            self.rev = self.rev.max(rev);
            return Verdict::Deliver(frame);
        }
        let mut waiting = Box::new(Waiting { parked: BTreeMap::new(), highest: 0 });
        waiting.park(seq, frame);
        self.waiting = Some(waiting);
        Verdict::Gap
    }

    /// The head of the user's sequence as the database has it; true where the session is behind and must ask.
    pub fn announce(&mut self, head: u64) -> bool {
        match &mut self.waiting {
            Some(waiting) => {
                waiting.highest = waiting.highest.max(head);
                false
            }
            None if self.last.is_some_and(|last| last < head) => {
                self.waiting = Some(Box::new(Waiting { parked: BTreeMap::new(), highest: head }));
                true
            }
            None => false,
        }
    }

    /// The newest version of the unread count that went out; 0 before the first.
    #[must_use]
    pub fn rev(&self) -> u64 {
        self.rev
    }

    /// Whether an unread count of this version may go out: an older one than the client has may not. Several changes may
    /// share a version, since each carries the count as it was when it was relayed.
    pub fn admits_rev(&mut self, rev: u64) -> bool {
        let admitted = rev >= self.rev;
        self.rev = self.rev.max(rev);
        admitted
    }

    /// The session starts anew behind `seq`, which may lie before what it took for its place: the client's position
    /// was of another database, or too far back to be replayed. What [`Self::take_news`] did not tell yet is forgotten.
    pub fn restart(&mut self, seq: u64) {
        // Where something before it is still without proof, its proof comes first, and then that of this place.
        if self.arrived > seq || self.last.is_none_or(|last| self.arrived >= last) {
            self.arrived = seq;
        }
        self.told = seq;
        self.last = Some(seq);
    }

    /// What happened since this was last asked, or `None`: first and last number that were delivered (where nothing
    /// was, the first lies behind the last), and the number up to which all that was delivered has arrived.
    pub fn take_news(&mut self) -> Option<((u64, u64), u64)> {
        let range = (self.told + 1, self.last.unwrap_or(0));
        let moved = std::mem::take(&mut self.arrived_moved);
        self.told = self.told.max(range.1);
        (moved || range.0 <= range.1).then_some((range, self.arrived))
    }

    /// The last number delivered, where it is not known to have arrived.
    #[must_use]
    pub fn unproven(&self) -> Option<u64> {
        self.last.filter(|last| *last > self.arrived)
    }

    /// Everything up to `seq` has arrived; false, and nothing is believed, where that is beyond what was delivered.
    pub fn prove(&mut self, seq: u64) -> bool {
        if seq > self.last.unwrap_or(0) {
            return false;
        }
        if seq > self.arrived {
            self.arrived = seq;
            self.arrived_moved = true;
        }
        true
    }

    /// Takes note of the place where a session begins that had none: nothing up to there is its to deliver.
    fn begin_at(&mut self, position: u64) {
        if self.last.is_none() {
            (self.told, self.arrived, self.last) = (position, position, Some(position));
        }
    }

    /// Works in an answer: `frames` in order of their numbers, final through `through`; the database's head was `head`.
    ///
    /// `send` takes each frame that is due and says whether it had room. Where it had none, the session stays where it
    /// is and asks again once its queue has drained.
    pub fn answer(
        &mut self,
        frames: impl IntoIterator<Item = (u64, F)>,
        through: u64,
        head: u64,
        rev: u64,
        mut send: impl FnMut(F) -> bool,
    ) -> Next {
        let Some(mut waiting) = self.waiting.take() else { return Next::Live };
        self.rev = self.rev.max(rev);
        for (seq, frame) in frames {
            if self.last.is_some_and(|last| seq <= last) {
                continue;
            }
            self.begin_at(seq.saturating_sub(1));
            if !send(frame) {
                self.waiting = Some(waiting);
                return Next::AskWhenDrained;
            }
            self.last = Some(seq);
        }
        self.begin_at(through);
        let last = self.last.map_or(through, |last| last.max(through));
        self.last = Some(last);
        if last < head {
            self.waiting = Some(waiting);
            return Next::AskWhenDrained;
        }
        self.release(&mut waiting, &mut send);
        if self.last.is_some_and(|last| last < waiting.highest) {
            self.waiting = Some(waiting);
            return Next::Ask;
        }
        Next::Live
    }

    /// Sends the parked frames that follow without a hole.
    fn release(&mut self, waiting: &mut Waiting<F>, send: &mut impl FnMut(F) -> bool) {
        while let Some((seq, frame)) = waiting.parked.pop_first() {
            match self.last {
                Some(last) if seq <= last => {}
                Some(last) if seq == last + 1 && send(frame) => self.last = Some(seq),
                _ => {
                    // Read again with what is missing before it: `highest` remembers that there is something to read.
                    waiting.parked.clear();
                    return;
                }
            }
        }
    }
}

impl<F> Waiting<F> {
    fn park(&mut self, seq: u64, frame: F) {
        self.highest = self.highest.max(seq);
        if self.parked.len() < MAX_PARKED {
            self.parked.insert(seq, frame);
        } else {
            self.parked.clear();
        }
    }
}

#[cfg(test)]
mod tests;
