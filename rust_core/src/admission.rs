//! How many connections, how fast, and from where: the limits that are checked before a token is looked at.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use parking_lot::Mutex;

use crate::config::Config;

/// Addresses whose connect rate is remembered at the same time. Those beyond share one rate among them.
pub const MAX_TRACKED_ADDRESSES: usize = 65_536;

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
            Self::Rate { wait } => wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero()),
            Self::AddressFull | Self::ServerFull => RETRY_WHEN_FULL,
        }
    }
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
    max_per_address: usize,
    open: AtomicUsize,
    // One short look-up per connect and per close; a lock over it is never held across anything else.
    open_by_address: Mutex<HashMap<IpAddr, usize>>,
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
            max_per_address: config.max_connections_per_ip,
            open: AtomicUsize::new(0),
            open_by_address: Mutex::default(),
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
        if !self.take_place_of(key) {
            self.refused_by_address.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::AddressFull);
        }
        slot.key = Some(key);
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
        self.open_by_address.lock().shrink_to(1024);
    }

    fn take_place(&self) -> bool {
        let next = |open: usize| {
            let has_room = self.max_connections == 0 || open < self.max_connections;
            has_room.then_some(open + 1)
        };
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn take_place_of(&self, key: IpAddr) -> bool {
        if self.max_per_address == 0 {
            return true;
        }
        let mut open = self.open_by_address.lock();
        let count = open.entry(key).or_default();
        let has_room = *count < self.max_per_address;
        *count += usize::from(has_room);
        has_room
    }

    fn give_back_place_of(&self, key: IpAddr) {
        let mut open = self.open_by_address.lock();
        if let Some(count) = open.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&key);
            }
        }
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
            self.admission.give_back_place_of(key);
        }
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the limits of one address count under: an IPv4 address itself, of an IPv6 address its /64, for a network of that
/// size is what one subscriber is given (RFC 6177 section 2).
fn limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// GCRA per address, in bounded memory.
#[derive(Debug)]
struct ConnectRate<C: Clock> {
    limiter: RateLimiter<IpAddr, BoundedStore, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl<C: Clock + Clone> ConnectRate<C> {
    /// `None` where `rate` is 0. A burst below 1 would admit nobody and counts as 1.
    fn new(rate: u32, burst: u32, clock: C) -> Option<Self> {
        let quota =
            Quota::per_second(NonZeroU32::new(rate)?).allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        let limiter = RateLimiter::new(quota, BoundedStore::new(MAX_TRACKED_ADDRESSES), clock.clone());
        Some(Self { limiter, clock })
    }

    fn check(&self, key: IpAddr) -> Result<(), Duration> {
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    fn forget_quiet(&self) {
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
