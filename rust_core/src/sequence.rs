//! One session's rule for durable frames: each `seq` once, in order, without a hole.
//!
//! Durable frames may reach a session twice, late, or not at all: a relay dies between publishing and committing, a new
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
        Self { last: after, rev: 0, waiting: Some(Box::new(Waiting { parked: BTreeMap::new(), highest: 0 })) }
    }

    /// A session that takes up the sequence at whatever comes first: for a server without a database.
    #[must_use]
    pub fn live() -> Self {
        Self { last: None, rev: 0, waiting: None }
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
    /// was of another database, or too far back to be replayed.
    pub fn restart(&mut self, seq: u64) {
        self.last = Some(seq);
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
            if !send(frame) {
                self.waiting = Some(waiting);
                return Next::AskWhenDrained;
            }
            self.last = Some(seq);
        }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn next_is_delivered_once() {
        let mut sequence = Sequence::live();
        assert_eq!(sequence.offer(5, 1, 'a'), Verdict::Deliver('a'));
        assert_eq!(sequence.offer(5, 1, 'a'), Verdict::Duplicate);
        assert_eq!(sequence.offer(6, 2, 'b'), Verdict::Deliver('b'));
    }

    #[test]
    fn a_gap_is_asked_for_once_and_a_deleted_number_is_skipped() {
        let mut sequence = Sequence::live();
        sequence.offer(1, 1, 1);
        assert_eq!(sequence.offer(4, 4, 4), Verdict::Gap);
        assert_eq!(sequence.offer(5, 5, 5), Verdict::Parked);
        let mut sent = Vec::new();
        let next = sequence.answer([(2, 2)], 4, 4, 4, |frame| {
            sent.push(frame);
            true
        });
        assert_eq!((next, sent), (Next::Live, vec![2, 5]));
        assert_eq!(sequence.last(), Some(5));
    }

    #[test]
    fn an_older_unread_count_is_held_back() {
        let mut sequence = Sequence::<()>::live();
        assert!(sequence.admits_rev(3));
        assert!(sequence.admits_rev(3));
        assert!(!sequence.admits_rev(2));
        assert_eq!(sequence.rev(), 3);
    }

    #[test]
    fn what_does_not_fit_is_asked_for_again() {
        let mut sequence = Sequence::waiting(Some(0));
        let mut room = 1;
        let next = sequence.answer([(1, 1), (2, 2)], 2, 2, 2, |_| {
            room -= 1;
            room >= 0
        });
        assert_eq!((next, sequence.last()), (Next::AskWhenDrained, Some(1)));
    }

    /// What happens to a session: frames as a lossy, repeating bus brings them, and answers from a true database.
    #[derive(Debug, Clone)]
    enum Step {
        Commit,
        Delete(u64),
        Bus(u64),
        Answer { page: usize, room: usize },
        Compare,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Commit),
            1 => (1_u64..60).prop_map(Step::Delete),
            6 => (0_u64..6).prop_map(Step::Bus),
            3 => (1_usize..20, 0_usize..20).prop_map(|(page, room)| Step::Answer { page, room }),
            1 => Just(Step::Compare),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        /// Whatever the bus loses or repeats, the client sees rising numbers, and at the end all that still exist.
        #[test]
        fn every_client_ends_complete(steps in steps(), start in prop::option::of(Just(0_u64))) {
            let mut sequence = Sequence::waiting(start);
            let (mut head, mut deleted, mut seen) = (0_u64, std::collections::BTreeSet::new(), Vec::new());
            let mut first = None;
            let answer = |sequence: &mut Sequence<u64>, head: u64, deleted: &std::collections::BTreeSet<u64>, page: usize, room: usize, seen: &mut Vec<u64>, first: &mut Option<u64>| {
                let after = sequence.last().unwrap_or(head);
                first.get_or_insert(after);
                let through = head.min(after + page as u64);
                let rows: Vec<_> = (after + 1..=through).filter(|seq| !deleted.contains(seq)).map(|seq| (seq, seq)).collect();
                let mut room = room;
                sequence.answer(rows, through, head, head, |seq| {
                    if room == 0 { return false }
                    room -= 1;
                    seen.push(seq);
                    true
                })
            };
            for step in steps {
                match step {
                    Step::Commit => head += 1,
                    Step::Delete(seq) if seq <= head => { deleted.insert(seq); }
                    Step::Bus(back) if head > back => {
                        let seq = head - back;
                        if let Verdict::Deliver(seq) = sequence.offer(seq, seq, seq) { seen.push(seq) }
                    }
                    Step::Answer { page, room } if sequence.is_waiting() => {
                        answer(&mut sequence, head, &deleted, page, room, &mut seen, &mut first);
                    }
                    Step::Compare => { sequence.announce(head); }
                    _ => {}
                }
            }
            sequence.announce(head);
            for _ in 0..400 {
                if !sequence.is_waiting() { break }
                answer(&mut sequence, head, &deleted, 50, 50, &mut seen, &mut first);
            }
            prop_assert!(!sequence.is_waiting());
            prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", seen);
            let start = first.unwrap_or(0);
            let missed: Vec<_> = (start + 1..=head).filter(|seq| !seen.contains(seq) && !deleted.contains(seq)).collect();
            prop_assert!(missed.is_empty(), "missed {:?} of {}", missed, head);
        }
    }
}
