//! How fast one address may open connections.

use std::{collections::HashMap, net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use parking_lot::Mutex;

/// Addresses whose connect rate is remembered at the same time. Those beyond share one rate among them.
const MAX_TRACKED_ADDRESSES: usize = 65_536;

/// GCRA per address, in bounded memory.
#[derive(Debug)]
pub(crate) struct ConnectRate<C: Clock> {
    limiter: RateLimiter<IpAddr, BoundedStore, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl<C: Clock + Clone> ConnectRate<C> {
    /// At most `rate` a second, and `burst` at once. `None` where `rate` is 0. A burst below 1 would admit nobody and counts as 1.
    pub(crate) fn new(rate: u32, burst: u32, clock: C) -> Option<Self> {
        let quota =
            Quota::per_second(NonZeroU32::new(rate)?).allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        Some(Self::with_quota(quota, MAX_TRACKED_ADDRESSES, clock))
    }

    fn with_quota(quota: Quota, max_keys: usize, clock: C) -> Self {
        Self { limiter: RateLimiter::new(quota, BoundedStore::new(max_keys), clock.clone()), clock }
    }

    /// Takes one connection from `key`'s budget, or says how long until there is room for it.
    pub(crate) fn check(&self, key: IpAddr) -> Result<(), Duration> {
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Forgets the addresses that are like new; to be called now and then.
    pub(crate) fn forget_quiet(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// The state of each address: when its next connection would be on time.
#[derive(Debug)]
struct BoundedStore {
    max_keys: usize,
    state: Mutex<Arrivals>,
}

#[derive(Debug, Default)]
struct Arrivals {
    by_address: HashMap<IpAddr, Nanos>,
    /// Shared by all addresses that found the map full.
    others: Option<Nanos>,
}

impl BoundedStore {
    fn new(max_keys: usize) -> Self {
        Self { max_keys, state: Mutex::default() }
    }
}

impl StateStore for BoundedStore {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, key: &IpAddr, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut state = self.state.lock();
        let known = state.by_address.get(key).copied();
        let shares = known.is_none() && state.by_address.len() >= self.max_keys;
        let (outcome, next) = decide(if shares { state.others } else { known })?;
        if shares {
            state.others = Some(next);
        } else {
            state.by_address.insert(*key, next);
        }
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<IpAddr> for BoundedStore {
    fn retain_recent(&self, drop_below: Nanos) {
        self.state.lock().by_address.retain(|_, next| *next > drop_below);
    }

    fn shrink_to_fit(&self) {
        // Room for the usual traffic stays, so that a quiet moment does not make the map grow anew.
        self.state.lock().by_address.shrink_to(1024);
    }

    fn len(&self) -> usize {
        self.state.lock().by_address.len()
    }

    fn is_empty(&self) -> bool {
        self.state.lock().by_address.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::address_counts::limit_key;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    impl<C: Clock + Clone> ConnectRate<C> {
        /// Entries that there is memory for, and its bytes.
        fn memory(self) -> (usize, usize) {
            let entries = self.limiter.into_state_store().state.lock().by_address.capacity();
            (entries, entries * (size_of::<(IpAddr, Nanos)>() + 1))
        }
    }

    #[test]
    fn a_burst_then_a_rate_for_each_address() {
        let clock = FakeRelativeClock::default();
        let rate = ConnectRate::new(10, 3, clock.clone()).unwrap();
        for _ in 0..3 {
            rate.check(address("192.0.2.1")).unwrap();
        }
        assert_eq!(rate.check(address("192.0.2.1")).unwrap_err(), Duration::from_millis(100));
        rate.check(address("192.0.2.2")).unwrap();
        clock.advance(Duration::from_millis(100));
        rate.check(address("192.0.2.1")).unwrap();
        rate.check(address("192.0.2.1")).unwrap_err();
    }

    /// How many of the attempts of a minute, one each millisecond, are let in.
    fn minute_of_attempts(rate: u32, burst: u32, silence: Duration) -> usize {
        let clock = FakeRelativeClock::default();
        let limit = ConnectRate::new(rate, burst, clock.clone()).unwrap();
        limit.check(address("192.0.2.1")).unwrap();
        clock.advance(silence);
        (0..60_000)
            .filter(|_| {
                clock.advance(Duration::from_millis(1));
                limit.check(address("192.0.2.1")).is_ok()
            })
            .count()
    }

    #[test]
    fn a_minute_of_attempts_gets_the_burst_once_and_the_rate_throughout() {
        for (rate, burst) in [(20, 100), (1, 1), (1, 10), (200, 1000)] {
            let expected = (burst + 60 * rate) as usize;
            let admitted = minute_of_attempts(rate, burst, Duration::from_secs(1000));
            assert!((expected - 1..=expected).contains(&admitted), "{rate}, {burst}: {admitted}");
        }
    }

    #[test]
    fn a_minute_of_attempts_without_a_rest_before_gets_no_second_burst() {
        let clock = FakeRelativeClock::default();
        let limit = ConnectRate::new(20, 100, clock.clone()).unwrap();
        let mut admitted_by_minute = [0; 3];
        for admitted in &mut admitted_by_minute {
            for _ in 0..60_000 {
                clock.advance(Duration::from_millis(1));
                *admitted += usize::from(limit.check(address("192.0.2.1")).is_ok());
            }
        }
        assert!((1299..=1300).contains(&admitted_by_minute[0]), "{admitted_by_minute:?}");
        assert!(
            admitted_by_minute[1..].iter().all(|admitted| (1199..=1201).contains(admitted)),
            "{admitted_by_minute:?}"
        );
    }

    /// What is left of a million IPv4 addresses and a million IPv6 networks.
    fn after_two_millions(clock: FakeRelativeClock) -> ConnectRate<FakeRelativeClock> {
        let limit = ConnectRate::new(20, 100, clock).unwrap();
        let addresses = (0..1_000_000_u32).flat_map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            let network = [0x2001, 0xdb8, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), 0, 0, 0, 1];
            [IpAddr::from([a, b, c, d]), limit_key(IpAddr::from(network))]
        });
        for address in addresses {
            // Those beyond the cap share one budget, which is soon used up.
            let _one_of_a_crowd = limit.check(address);
        }
        limit
    }

    #[test]
    fn two_million_addresses_take_the_memory_of_the_cap() {
        let limit = after_two_millions(FakeRelativeClock::default());
        assert_eq!(limit.limiter.len(), MAX_TRACKED_ADDRESSES);
        limit.check(address("0.0.0.1")).unwrap();
        let (entries, bytes) = limit.memory();
        assert!(entries <= 2 * MAX_TRACKED_ADDRESSES && bytes <= 8 << 20, "{entries}, {bytes}");
    }

    #[test]
    fn a_crowd_that_has_left_gives_its_memory_back() {
        let clock = FakeRelativeClock::default();
        let limit = after_two_millions(clock.clone());
        clock.advance(Duration::from_secs(60));
        limit.forget_quiet();
        limit.check(address("198.51.100.1")).unwrap();
        assert_eq!(limit.limiter.len(), 1);
        assert!(limit.memory().0 <= 4096);
    }

    #[test]
    fn quiet_addresses_are_forgotten_and_busy_ones_are_not() {
        let clock = FakeRelativeClock::default();
        let rate = ConnectRate::new(10, 3, clock.clone()).unwrap();
        for last in 0..100 {
            rate.check(IpAddr::from([192, 0, 2, last])).unwrap();
        }
        clock.advance(Duration::from_secs(1));
        for _ in 0..3 {
            rate.check(address("198.51.100.1")).unwrap();
        }
        rate.forget_quiet();
        assert_eq!(rate.limiter.len(), 1);
        rate.check(address("198.51.100.1")).unwrap_err();
    }

    #[test]
    fn addresses_beyond_the_cap_share_a_rate_and_leave_the_known_ones_theirs() {
        let quota = Quota::per_second(NonZeroU32::new(1).unwrap());
        let limiter = ConnectRate::with_quota(quota, 2, FakeRelativeClock::default()).limiter;
        let check = |last| limiter.check_key(&IpAddr::from([192, 0, 2, last])).is_ok();
        assert!(check(1) && check(2));
        assert!(check(3), "the first of the others");
        assert!(!check(4) && !check(5), "the others share");
        assert_eq!(limiter.len(), 2);
        assert!(!check(1), "a known address has its own");
    }
}
