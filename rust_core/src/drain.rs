//! The plan of a stop: when each session is closed, and when its client is to come back.
//!
//! Returns have a plan of their own, as even as that of the closes and a little later: each client is told the pause from
//! its close to its place there. Neighbours change places, so pauses differ, and still no more come back in a second than
//! were planned. Nothing of this is kept by a session: the plan is a list of numbers, there only while a shard drains.

use std::time::Duration;

/// The time that each close has, where there is time enough: 200 a second come back.
const EACH: Duration = Duration::from_millis(5);

/// Tenths of the time left over which closes are spread; in the rest the last peers answer theirs.
const SPREAD_TENTHS: u32 = 8;

/// The shortest pause that is told to a client. A close that came late by less leaves its return where it was planned.
const LEAST_PAUSE_MS: u64 = 500;

/// Those who are closed within such a time come back in the opposite order, so pauses differ by up to twice as much.
const SHUFFLED_MS: u64 = 250;

/// The time that each return has at the least: however short a stop is, no more than two thousand a second come back.
const EACH_RETURN: Duration = Duration::from_micros(500);

/// 2⁶⁴ divided by the golden ratio: multiples of it lie far from those before and behind.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a shard is told at a stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// From the first close to the last.
    spread: Duration,
    /// From the first return to the last.
    returns: Duration,
    /// Until the stop is over.
    left: Duration,
    /// Which of how many shards this one is, so that they do not close at the same moments.
    part: (usize, usize),
}

impl Schedule {
    /// For so many connections on all shards, and a stop that has `left`.
    pub(crate) fn new(connections: usize, left: Duration) -> Self {
        let count = u32::try_from(connections).unwrap_or(u32::MAX);
        let longest = left.saturating_mul(SPREAD_TENTHS) / 10;
        Self {
            spread: EACH.saturating_mul(count).min(longest),
            returns: EACH_RETURN.saturating_mul(count).max(EACH.saturating_mul(count).min(longest)),
            left,
            part: (0, 1),
        }
    }

    /// The same for shard `number` of `all`.
    pub(crate) fn of_shard(self, number: usize, all: usize) -> Self {
        Self { part: (number, all), ..self }
    }
}

/// The closes of one shard.
#[derive(Debug)]
pub(crate) struct Drain {
    schedule: Schedule,
    began_ms: u64,
    /// Numbers of connections, in the order in which they are closed; those before `next` are.
    order: Vec<u64>,
    next: usize,
}

impl Drain {
    /// Plans for the connections with these numbers, from `now` on, in milliseconds of the shard's clock.
    pub(crate) fn new(schedule: Schedule, numbers: impl Iterator<Item = u64>, now: u64) -> Self {
        let mut order: Vec<u64> = numbers.collect();
        // Neither in the order of arrival nor user by user.
        order.sort_unstable_by_key(|number| scattered(*number));
        Self { schedule, began_ms: now, order, next: 0 }
    }

    /// The next connection whose close is due by `until_ms`, with the pause to tell its client.
    pub(crate) fn next(&mut self, until_ms: u64, now: u64) -> Option<(u64, Duration)> {
        self.next_due_ms().filter(|due_ms| *due_ms <= until_ms)?;
        let number = self.order[self.next];
        let back_ms = self.back_ms(self.next);
        self.next += 1;
        // Who is closed late is not to come back before there was time to tell.
        let pause_ms = back_ms.saturating_sub(now).max(LEAST_PAUSE_MS / 5);
        Some((number, Duration::from_millis(pause_ms)))
    }

    /// When the next close is due; `None` once there is none.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        (self.next < self.order.len()).then(|| self.began_ms + self.place_ms(self.schedule.spread, self.next))
    }

    /// When the client of the close with this index is to come back.
    fn back_ms(&self, index: usize) -> u64 {
        let count = self.order.len();
        let shuffled = Duration::from_millis(SHUFFLED_MS).as_micros() * count as u128;
        let together =
            shuffled.checked_div(self.schedule.spread.as_micros()).unwrap_or(shuffled).clamp(1, count as u128);
        let begin = index - index % together as usize;
        let end = count.min(begin + together as usize);
        let place = begin + end - 1 - index;
        self.began_ms + LEAST_PAUSE_MS + SHUFFLED_MS + self.place_ms(self.schedule.returns, place)
    }

    /// Where this shard's place with this index lies in a span of time over which all shards' places are spread.
    fn place_ms(&self, span: Duration, index: usize) -> u64 {
        let (part, parts) = self.schedule.part;
        let (step, steps) = ((index * parts + part) as u128, (self.order.len() * parts) as u128);
        (span.as_millis() * step / steps) as u64
    }

    /// The pause for a connection that came while others were closed.
    pub(crate) fn pause_of_latecomer(number: u64) -> Duration {
        Duration::from_millis(LEAST_PAUSE_MS + scattered(number) % (2 * SHUFFLED_MS))
    }

    /// Until the stop is over.
    pub(crate) fn left(&self, now: u64) -> Duration {
        self.schedule.left.saturating_sub(Duration::from_millis(now.saturating_sub(self.began_ms)))
    }
}

/// Puts neighbours far from each other. The lowest byte of a number is its shard's.
fn scattered(number: u64) -> u64 {
    (number >> 8).wrapping_mul(GOLDEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEGAN_MS: u64 = 7_000;

    /// The closes of `counts` connections on as many shards: when, and when the client is to come back.
    fn planned(counts: &[usize], left: Duration) -> Vec<(u64, u64)> {
        let schedule = Schedule::new(counts.iter().sum(), left);
        let mut closes = Vec::new();
        for (shard, &count) in counts.iter().enumerate() {
            let numbers = (1..=count as u64).map(|number| (number << 8) | shard as u64);
            let mut drain = Drain::new(schedule.of_shard(shard, counts.len()), numbers, BEGAN_MS);
            while let Some(due_ms) = drain.next_due_ms() {
                let (_, pause) = drain.next(due_ms, due_ms).unwrap();
                assert!(pause >= Duration::from_millis(LEAST_PAUSE_MS - 1), "{pause:?}");
                closes.push((due_ms, due_ms + pause.as_millis() as u64));
            }
        }
        closes
    }

    /// The most moments of any second.
    fn most_in_a_second(mut moments: Vec<u64>) -> usize {
        moments.sort_unstable();
        let within = |(first, begin): (usize, &u64)| moments.partition_point(|moment| *moment < begin + 1000) - first;
        moments.iter().enumerate().map(within).max().unwrap_or(0)
    }

    #[test]
    fn one_connection_is_closed_at_once() {
        for left in [0, 1, 10, 3600] {
            assert_eq!(planned(&[1], Duration::from_secs(left))[0].0, BEGAN_MS);
            assert_eq!(planned(&[1, 0], Duration::from_secs(left))[0].0, BEGAN_MS);
        }
    }

    #[test]
    fn the_spread_goes_by_the_connections_and_by_the_time() {
        let spread = |connections, left| Schedule::new(connections, Duration::from_secs(left)).spread;
        assert_eq!(spread(0, 10), Duration::ZERO);
        assert_eq!(spread(200, 10), Duration::from_secs(1));
        assert_eq!(spread(10_000, 10), Duration::from_secs(8));
        assert_eq!(spread(usize::MAX, 10), Duration::from_secs(8));
        assert_eq!(spread(10_000, 0), Duration::ZERO);
        assert_eq!(Schedule::new(usize::MAX, Duration::MAX).spread, EACH * u32::MAX);
    }

    #[test]
    fn connections_that_came_together_are_not_closed_together() {
        let numbers: Vec<u64> = (1..=1000).map(|number| number << 8).collect();
        let schedule = Schedule::new(1000, Duration::from_secs(10));
        let drain = Drain::new(schedule, numbers.iter().copied(), BEGAN_MS);
        let place = |number: u64| drain.order.iter().position(|other| *other == number).unwrap();
        for pair in numbers.windows(2) {
            assert!(place(pair[0]).abs_diff(place(pair[1])) > 100);
        }
    }

    #[test]
    fn a_late_close_leaves_the_return_where_it_was() {
        let schedule = Schedule::new(1000, Duration::from_secs(10));
        let plan = || Drain::new(schedule, (1..=1000).map(|number| number << 8), BEGAN_MS);
        let (mut punctual, mut late) = (plan(), plan());
        while let Some(due_ms) = punctual.next_due_ms() {
            let stalled = due_ms + LEAST_PAUSE_MS / 2;
            let back = |(number, pause): (u64, Duration), now: u64| (number, now + pause.as_millis() as u64);
            let expected = back(punctual.next(due_ms, due_ms).unwrap(), due_ms);
            assert_eq!(back(late.next(stalled, stalled).unwrap(), stalled), expected);
        }
        assert_eq!(late.next(u64::MAX, 0), None);
    }

    #[test]
    fn a_stop_without_time_spreads_the_returns_all_the_same() {
        let returns = planned(&[5000, 5000], Duration::ZERO).into_iter().map(|(_, back)| back).collect();
        assert!((1990..=2000).contains(&most_in_a_second(returns)));
    }

    #[test]
    fn pauses_differ_and_are_short() {
        let of = |(due, back): (u64, u64)| back - due;
        let mut pauses: Vec<_> = planned(&[1000], Duration::from_secs(60)).into_iter().map(of).collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() >= 50 && pauses[0] < 510 && *pauses.last().unwrap() <= 1000, "{pauses:?}");
        let late = [256, 512, 768].map(Drain::pause_of_latecomer);
        assert!(late.iter().all(|pause| (500..1000).contains(&pause.as_millis())) && late[0] != late[1]);
    }

    #[test]
    fn the_time_that_is_left_ends() {
        let drain = Drain::new(Schedule::new(1, Duration::from_secs(2)), [256].into_iter(), BEGAN_MS);
        assert_eq!(drain.left(BEGAN_MS + 500), Duration::from_millis(1500));
        assert_eq!(drain.left(BEGAN_MS + 5000), Duration::ZERO);
    }

    proptest! {
        /// All are closed, at an even pace, within their part of the time; and in no second more come back than are closed.
        #[test]
        fn closes_and_returns_keep_the_pace(counts in prop::collection::vec(0_usize..2000, 1..5), seconds in 1_u64..60) {
            let total: usize = counts.iter().sum();
            let left = Duration::from_secs(seconds);
            let (closes, returns): (Vec<_>, Vec<_>) = planned(&counts, left).into_iter().unzip();
            prop_assert_eq!(closes.len(), total);
            let spread = Schedule::new(total, left).spread;
            prop_assert!(closes.iter().all(|at| (BEGAN_MS..=BEGAN_MS + spread.as_millis() as u64).contains(at)));
            let spread_ms = spread.as_millis() as usize;
            let planned = (total * 1000).checked_div(spread_ms).unwrap_or(total).min(total) + 1;
            // A shard's places and the whole milliseconds are not quite even.
            let leeway = counts.len() + planned / 100;
            prop_assert!(most_in_a_second(closes) <= planned + leeway);
            prop_assert!(most_in_a_second(returns) <= planned.min(2000) + leeway);
        }
    }
}
