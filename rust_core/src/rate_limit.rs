//! How many frames a client may send: the generic cell rate algorithm (ITU-T I.371), in eight bytes a connection.

/// One connection's allowance. It holds the time at which it would be full again.
#[derive(Debug, Default, Clone, Copy)]
pub struct RateLimit {
    /// Theoretical arrival time of the next frame, in microseconds of the server's clock.
    arrival_us: u64,
}

impl RateLimit {
    /// Whether one more frame is within `rate` a second and `burst` at once; a rate of 0 is no limit.
    pub fn allows(&mut self, now_ms: u64, rate: u32, burst: u32) -> bool {
        if rate == 0 {
            return true;
        }
        let micros = now_ms * 1000;
        let interval = 1_000_000 / u64::from(rate);
        let next = self.arrival_us.max(micros) + interval;
        if next > micros + interval * u64::from(burst) {
            return false;
        }
        self.arrival_us = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut limit = RateLimit::default();
        let mut passed = |from_ms: u64, to_ms: u64| (from_ms..to_ms).filter(|&now| limit.allows(now, 20, 50)).count();
        assert_eq!(passed(1000, 1001), 1);
        let first_second = passed(1001, 2000);
        assert!((68..=70).contains(&first_second), "{first_second}");
        let next_minute = passed(2000, 62_000);
        assert!((1199..=1201).contains(&next_minute), "{next_minute}");
    }

    #[test]
    fn minutes_without_a_rest_between_get_no_second_burst_and_a_rest_brings_it_back() {
        let mut limit = RateLimit::default();
        let mut passed = |from_ms: u64, seconds: u64| {
            // Far beyond the rate; in Miri, which takes thousands of times as long, a little less far.
            let attempts_each_ms = if cfg!(miri) { 1 } else { 20 };
            (from_ms..from_ms + 1000 * seconds)
                .flat_map(|now| std::iter::repeat_n(now, attempts_each_ms))
                .filter(|&now| limit.allows(now, 20, 50))
                .count()
        };
        let minutes = [passed(60_000, 60), passed(120_000, 60), passed(180_000, 60)];
        assert!((1249..=1250).contains(&minutes[0]), "{minutes:?}");
        assert!(minutes[1..].iter().all(|minute| (1199..=1201).contains(minute)), "{minutes:?}");
        let first_millisecond = {
            let mut limit = limit;
            (0..1000).filter(|_| limit.allows(1_000_000, 20, 50)).count()
        };
        assert_eq!(first_millisecond, 50, "the burst, after a rest");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut limit = RateLimit::default();
        assert!((0..1000).all(|_| limit.allows(0, 0, 0)));
    }
}
