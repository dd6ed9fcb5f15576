//! How much of something each address has at the same time. Memory is bounded by what there is: an address that has none
//! is not kept.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use parking_lot::Mutex;

/// Entries for which there stays room, so that a quiet moment does not make the map grow anew.
const USUAL: usize = 1024;

/// What the limits of one address count under: an IPv4 address itself, of an IPv6 address its /64, for a network of that
/// size is what one subscriber is given (RFC 6177 section 2).
pub(crate) fn limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Counts by [`limit_key`], with a limit for each.
#[derive(Debug)]
pub(crate) struct AddressCounts {
    limit: usize,
    // One short look-up at the begin and one at the end; the lock is never held across anything else.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

impl AddressCounts {
    /// A limit of 0 is off, and nothing is counted.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, counts: Mutex::default() }
    }

    /// Whether there is a limit at all.
    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// One more for `key`, to be given back by [`give_back`](Self::give_back); false where it has all that it may have.
    pub(crate) fn take(&self, key: IpAddr) -> bool {
        if !self.is_on() {
            return true;
        }
        let mut counts = self.counts.lock();
        let count = counts.entry(key).or_default();
        let has_room = *count < self.limit;
        *count += usize::from(has_room);
        has_room
    }

    /// One less for `key`.
    pub(crate) fn give_back(&self, key: IpAddr) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }

    /// Gives memory back that a crowd took; to be called now and then.
    pub(crate) fn shrink(&self) {
        self.counts.lock().shrink_to(USUAL);
    }

    /// Addresses that have something now.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.counts.lock().len()
    }

    /// Entries that there is memory for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.counts.lock().capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64_and_a_mapped_one_as_ipv4() {
        assert_eq!(limit_key(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
        assert_eq!(limit_key(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn a_million_addresses_that_come_and_go_leave_nothing_behind() {
        let counts = AddressCounts::new(1);
        for number in 0..1_000_000_u32 {
            let key = IpAddr::from(number.to_be_bytes());
            assert!(counts.take(key) && !counts.take(key));
            counts.give_back(key);
        }
        assert_eq!(counts.len(), 0);
        assert!(counts.capacity() <= USUAL);
    }

    #[test]
    fn a_crowd_that_has_left_gives_its_memory_back() {
        let counts = AddressCounts::new(1);
        let crowd = || (0..100_000_u32).map(|number| IpAddr::from(number.to_be_bytes()));
        assert!(crowd().all(|key| counts.take(key)));
        crowd().for_each(|key| counts.give_back(key));
        counts.shrink();
        assert!(counts.capacity() <= 2 * USUAL);
    }
}
