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
fn what_was_delivered_is_told_once() {
    let mut sequence: Sequence<()> = Sequence::waiting(Some(3));
    assert_eq!(sequence.take_news(), None);
    sequence.answer([(4, ()), (6, ())], 7, 7, 7, |()| true);
    assert_eq!(sequence.take_news(), Some(((4, 7), 3)));
    assert_eq!(sequence.take_news(), None);
    sequence.offer(8, 8, ());
    assert_eq!(sequence.take_news(), Some(((8, 8), 3)));
}

#[test]
fn a_session_without_a_place_tells_nothing_of_what_lies_before() {
    let mut sequence: Sequence<()> = Sequence::waiting(None);
    sequence.answer([], 100, 100, 1, |()| true);
    assert_eq!((sequence.take_news(), sequence.unproven()), (None, None));
    let mut sequence = Sequence::live();
    sequence.offer(50, 1, ());
    assert_eq!((sequence.take_news(), sequence.unproven()), (Some(((50, 50), 49)), Some(50)));
}

#[test]
fn nothing_is_proven_that_was_not_delivered() {
    let mut sequence = Sequence::live();
    assert!(!sequence.prove(5));
    sequence.offer(1, 1, ());
    sequence.offer(2, 2, ());
    assert!(sequence.prove(1));
    assert_eq!((sequence.take_news(), sequence.unproven()), (Some(((1, 2), 1)), Some(2)));
    assert!(!sequence.prove(9));
    assert_eq!((sequence.take_news(), sequence.unproven()), (None, Some(2)));
    assert!(sequence.prove(2));
    assert_eq!((sequence.take_news(), sequence.unproven()), (Some(((3, 2), 2)), None));
}

#[test]
fn a_fresh_start_proves_nothing_of_what_came_before() {
    let mut sequence = Sequence::live();
    sequence.offer(1, 1, ());
    sequence.take_news();
    sequence.restart(100);
    assert_eq!((sequence.take_news(), sequence.unproven()), (None, Some(100)));
    sequence.prove(1);
    assert_eq!(sequence.take_news(), Some(((101, 100), 1)));
    sequence.prove(100);
    sequence.restart(50);
    assert_eq!((sequence.take_news().map(|(_, arrived)| arrived), sequence.unproven()), (Some(50), None));
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
    Tell,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Commit),
        1 => (1_u64..60).prop_map(Step::Delete),
        6 => (0_u64..6).prop_map(Step::Bus),
        3 => (1_usize..20, 0_usize..20).prop_map(|(page, room)| Step::Answer { page, room }),
        1 => Just(Step::Compare),
        1 => Just(Step::Tell),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    /// Whatever the bus loses or repeats, the client sees rising numbers, and at the end all that still exist.
    #[test]
    fn every_client_ends_complete(steps in steps(), start in prop::option::of(Just(0_u64))) {
        let mut sequence = Sequence::waiting(start);
        let (mut head, mut deleted, mut seen) = (0_u64, std::collections::BTreeSet::new(), Vec::new());
        let mut told: Vec<u64> = Vec::new();
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
                Step::Tell => told.extend(sequence.take_news().into_iter().flat_map(|((from, through), _)| from..=through)),
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
        told.extend(sequence.take_news().into_iter().flat_map(|((from, through), _)| from..=through));
        let never_sent = |seq: &u64| !seen.contains(seq);
        prop_assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "told {:?}", told);
        prop_assert!(seen.iter().all(|seq| told.contains(seq)), "told {:?}, sent {:?}", told, seen);
        prop_assert!(told.iter().filter(|seq| never_sent(seq)).all(|seq| deleted.contains(seq)), "told {:?}", told);
        let start = first.unwrap_or(0);
        let missed: Vec<_> = (start + 1..=head).filter(|seq| !seen.contains(seq) && !deleted.contains(seq)).collect();
        prop_assert!(missed.is_empty(), "missed {:?} of {}", missed, head);
    }
}
