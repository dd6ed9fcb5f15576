//! How many connections, how fast, and from where: the limits that are checked before a token is looked at.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::clock::DefaultClock;

use crate::{
    address_counts::{AddressCounts, limit_key},
    config::Config,
    connect_rate::ConnectRate,
};

/// Seconds to wait that a client is told where nobody knows when a place becomes free.
const RETRY_WHEN_FULL: u64 = 5;

/// Why a connection was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its address opens connections too fast.
    Rate {
        /// How long until the next one is allowed.
        wait: Duration,
    },
    /// Its address has all the connections that it may have.
    AddressFull,
    /// The server has all the connections that it may have.
    ServerFull,
}

impl Refusal {
    /// Whole seconds for `Retry-After`, at least 1.
    #[must_use]
    pub fn retry_after(self) -> u64 {
        match self {
            Self::Rate { wait } => whole_seconds(wait),
            Self::AddressFull | Self::ServerFull => RETRY_WHEN_FULL,
        }
    }
}

/// Seconds for `Retry-After`, rounded up, at least 1.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

/// How often each limit refused a connection, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalCounts {
    /// [`Refusal::Rate`].
    pub rate: u64,
    /// [`Refusal::AddressFull`].
    pub address_full: u64,
    /// [`Refusal::ServerFull`].
    pub server_full: u64,
}

/// The limits and what counts against them.
#[derive(Debug)]
pub struct Admission {
    max_connections: usize,
    open: AtomicUsize,
    open_by_address: AddressCounts,
    rate: Option<ConnectRate<DefaultClock>>,
    refused_by_rate: AtomicU64,
    refused_by_address: AtomicU64,
    refused_when_full: AtomicU64,
}

impl Admission {
    /// The limits of `config`, nothing open yet. A limit of 0 is off.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            max_connections: config.max_connections,
            open: AtomicUsize::new(0),
            open_by_address: AddressCounts::new(config.max_connections_per_ip),
            rate: ConnectRate::new(config.connect_rate_per_ip, config.connect_burst_per_ip, DefaultClock::default()),
            refused_by_rate: AtomicU64::new(0),
            refused_by_address: AtomicU64::new(0),
            refused_when_full: AtomicU64::new(0),
        }
    }

    /// Admits one connection from `address`: its place is taken until the slot is dropped.
    ///
    /// Each call counts against the rate, refused ones against nothing else.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Refusal> {
        let key = limit_key(address);
        if let Err(wait) = self.rate.as_ref().map_or(Ok(()), |rate| rate.check(key)) {
            self.refused_by_rate.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Rate { wait });
        }
        if !self.take_place() {
            self.refused_when_full.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::ServerFull);
        }
        // From here on the slot's drop gives back what was taken so far.
        let mut slot = Slot { admission: Arc::clone(self), key: None };
        if !self.open_by_address.take(key) {
            self.refused_by_address.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::AddressFull);
        }
        slot.key = self.open_by_address.is_on().then_some(key);
        Ok(slot)
    }

    /// Connections that are admitted now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refused(&self) -> RefusalCounts {
        RefusalCounts {
            rate: self.refused_by_rate.load(Ordering::Relaxed),
            address_full: self.refused_by_address.load(Ordering::Relaxed),
            server_full: self.refused_when_full.load(Ordering::Relaxed),
        }
    }

    /// Forgets addresses that have been quiet long enough to be like new; to be called every few seconds.
    pub fn forget_quiet_addresses(&self) {
        if let Some(rate) = &self.rate {
            rate.forget_quiet();
        }
        self.open_by_address.shrink();
    }

    fn take_place(&self) -> bool {
        let next = |open: usize| {
            let has_room = self.max_connections == 0 || open < self.max_connections;
            has_room.then_some(open + 1)
        };
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// The place of one admitted connection; given back on drop.
#[derive(Debug)]
#[must_use = "dropping the slot gives the connection's place to another"]
pub struct Slot {
    admission: Arc<Admission>,
    key: Option<IpAddr>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.admission.open_by_address.give_back(key);
        }
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(all: usize, per_address: usize, rate: u32, burst: u32) -> Arc<Admission> {
        let config = Config {
            max_connections: all,
            max_connections_per_ip: per_address,
            connect_rate_per_ip: rate,
            connect_burst_per_ip: burst,
            ..Config::new([7; 32])
        };
        Arc::new(Admission::new(&config))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn zero_is_no_limit() {
        let admission = admission(0, 0, 0, 0);
        let slots: Vec<_> = (0..500).map(|_| admission.admit(address("192.0.2.1")).unwrap()).collect();
        assert_eq!(admission.open(), 500);
        drop(slots);
        assert_eq!((admission.open(), admission.refused()), (0, RefusalCounts::default()));
    }

    #[test]
    fn a_full_server_takes_another_when_one_leaves() {
        let admission = admission(2, 0, 0, 0);
        let first = admission.admit(address("192.0.2.1")).unwrap();
        let _second = admission.admit(address("192.0.2.2")).unwrap();
        assert_eq!(admission.admit(address("192.0.2.3")).unwrap_err(), Refusal::ServerFull);
        drop(first);
        let _third = admission.admit(address("192.0.2.3")).unwrap();
        assert_eq!(admission.refused(), RefusalCounts { server_full: 1, ..RefusalCounts::default() });
    }

    #[test]
    fn an_address_has_its_own_limit_and_a_refusal_takes_no_place() {
        let admission = admission(3, 1, 0, 0);
        let first = admission.admit(address("192.0.2.1")).unwrap();
        for _ in 0..10 {
            assert_eq!(admission.admit(address("192.0.2.1")).unwrap_err(), Refusal::AddressFull);
        }
        assert_eq!(admission.open(), 1);
        let _other = admission.admit(address("192.0.2.2")).unwrap();
        drop(first);
        let _again = admission.admit(address("192.0.2.1")).unwrap();
        assert_eq!(admission.open(), 2);
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let admission = admission(0, 5, 0, 0);
        for last in 0..200 {
            drop(admission.admit(IpAddr::from([192, 0, 2, last])).unwrap());
        }
        assert_eq!(admission.open_by_address.len(), 0);
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64() {
        let admission = admission(0, 1, 0, 0);
        let _one = admission.admit(address("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(address("2001:db8::2")).unwrap_err(), Refusal::AddressFull);
        let _next_network = admission.admit(address("2001:db8:0:1::2")).unwrap();
    }

    #[test]
    fn retry_after_is_in_whole_seconds_rounded_up() {
        let of = |millis| Refusal::Rate { wait: Duration::from_millis(millis) }.retry_after();
        assert_eq!((of(0), of(1), of(1000), of(1001)), (1, 1, 1, 2));
        assert!(Refusal::ServerFull.retry_after() > 0);
    }

    #[test]
    fn places_come_out_even_from_many_threads() {
        let admission = admission(50, 20, 0, 0);
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let admission = &admission;
                scope.spawn(move || {
                    for round in 0..500_u16 {
                        let slot = admission.admit(IpAddr::from([192, 0, 2, thread % 3]));
                        assert!(admission.open() <= 50);
                        if round % 2 == 0 {
                            drop(slot);
                        }
                    }
                });
            }
        });
        assert_eq!(admission.open(), 0);
        assert_eq!(admission.open_by_address.len(), 0);
    }
}
