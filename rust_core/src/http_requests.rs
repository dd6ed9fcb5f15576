//! Requests to the app: how many at the same time, how fast, and from where.
//!
//! Addresses count as they do for WebSockets, by what trusted proxies say of them. The limits follow from those of
//! WebSockets: a page that opens one makes some requests beside it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::clock::DefaultClock;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    address_counts::{AddressCounts, limit_key},
    connect_rate::ConnectRate,
};

/// Requests that an address may make for each WebSocket that it may open: so many times the connect rate and its burst.
pub const REQUESTS_PER_CONNECT: u32 = 10;

/// How long a request waits for one of those under way to end.
const WAIT_FOR_PLACE: Duration = Duration::from_secs(5);

/// Probes at the same time, however many other requests are under way. They take little time each, but the database may
/// have to answer.
const PROBES_AT_ONCE: usize = 8;

/// How long a probe waits for another one to end: whoever sent it does not wait for long either.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Why a request does not reach the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Its address makes requests too fast.
    Rate {
        /// How long until the next one is allowed.
        wait: Duration,
    },
    /// Its address has too many under way.
    AddressFull,
    /// Too many are under way in all, and none ended in time.
    Full,
}

/// Requests that were held back since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) rate: u64,
    pub(crate) address_full: u64,
    pub(crate) full: u64,
}

/// The limits and what counts against them.
#[derive(Debug)]
pub(crate) struct HttpRequests {
    under_way: Arc<Places>,
    /// Of those under way, the ones whose content is still to come: a head alone is cheap to send, and does not take the
    /// places of requests that the app can answer at once.
    receiving: Arc<Places>,
    probes: Arc<Places>,
    rate: Option<ConnectRate<DefaultClock>>,
    rate_held: AtomicU64,
    address_held: AtomicU64,
    full_held: AtomicU64,
}

impl HttpRequests {
    /// At most `places` at the same time, half of them still with content to come; `max_per_address` of one address but no
    /// more than three quarters of either; and at most [`REQUESTS_PER_CONNECT`] times `connect_rate` a second from one
    /// address, and so many times `connect_burst` at once. A limit of 0 is off, but for that of the places.
    pub(crate) fn new(places: usize, max_per_address: usize, connect_rate: u32, connect_burst: u32) -> Self {
        let times = |number: u32| number.saturating_mul(REQUESTS_PER_CONNECT);
        Self {
            under_way: Arc::new(Places::new(places, max_per_address)),
            receiving: Arc::new(Places::new((places / 2).max(1), max_per_address)),
            probes: Arc::new(Places::new(PROBES_AT_ONCE, max_per_address)),
            rate: ConnectRate::new(times(connect_rate), times(connect_burst), DefaultClock::default()),
            rate_held: AtomicU64::new(0),
            address_held: AtomicU64::new(0),
            full_held: AtomicU64::new(0),
        }
    }

    /// Lets a request from `address` through, as soon as there is room for it and for its content, if there is some to
    /// come.
    pub(crate) async fn admit(&self, address: IpAddr, has_content: bool) -> Result<Admitted, Held> {
        self.check_rate(address)?;
        let key = limit_key(address);
        let admitted = async {
            // Who waits for this holds no place of those that have none to come.
            let receiving = if has_content { Some(self.receiving.take(key).await?) } else { None };
            Ok(Admitted { under_way: self.under_way.take(key).await?, receiving })
        };
        self.within(WAIT_FOR_PLACE, admitted).await
    }

    /// Lets a probe from `address` through, as soon as there is room for one more, however many other requests are under
    /// way: a server that is busy is not to be taken for dead.
    pub(crate) async fn admit_probe(&self, address: IpAddr) -> Result<Admitted, Held> {
        self.check_rate(address)?;
        let key = limit_key(address);
        let admitted = async { Ok(Admitted { under_way: self.probes.take(key).await?, receiving: None }) };
        self.within(PROBE_WAIT, admitted).await
    }

    /// What comes of waiting for so long; counted where that is nothing.
    async fn within(
        &self,
        wait: Duration,
        admitted: impl Future<Output = Result<Admitted, Held>>,
    ) -> Result<Admitted, Held> {
        let outcome = timeout(wait, admitted).await.unwrap_or(Err(Held::Full));
        match outcome {
            Err(Held::AddressFull) => self.address_held.fetch_add(1, Relaxed),
            Err(Held::Full) => self.full_held.fetch_add(1, Relaxed),
            Ok(_) | Err(Held::Rate { .. }) => 0,
        };
        outcome
    }

    fn check_rate(&self, address: IpAddr) -> Result<(), Held> {
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.check(limit_key(address)).map_err(|wait| {
            self.rate_held.fetch_add(1, Relaxed);
            Held::Rate { wait }
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            rate: self.rate_held.load(Relaxed),
            address_full: self.address_held.load(Relaxed),
            full: self.full_held.load(Relaxed),
        }
    }

    /// Forgets addresses that have been quiet long enough to be like new; to be called every few seconds.
    pub(crate) fn forget_quiet_addresses(&self) {
        if let Some(rate) = &self.rate {
            rate.forget_quiet();
        }
        self.under_way.by_address.shrink();
        self.receiving.by_address.shrink();
        self.probes.by_address.shrink();
    }
}

/// The places of a request that was let through.
#[derive(Debug)]
#[must_use = "dropping it gives the request's places to others"]
pub(crate) struct Admitted {
    /// To be kept up to the end of its response.
    pub(crate) under_way: RequestPlace,
    /// To be kept up to the end of its content.
    pub(crate) receiving: Option<RequestPlace>,
}

/// So many places in all, and so many for one address.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    by_address: AddressCounts,
}

impl Places {
    fn new(count: usize, max_per_address: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            by_address: AddressCounts::new(max_per_address.min((count - count / 4).max(1))),
        }
    }

    /// A place for the address of `key`, as soon as there is one.
    async fn take(self: &Arc<Self>, key: IpAddr) -> Result<RequestPlace, Held> {
        let of_address = OfAddress::take(self, key).ok_or(Held::AddressFull)?;
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| Held::Full)?;
        Ok(RequestPlace { _of_address: of_address, _permit: permit })
    }
}

/// The place of one request; given back on drop.
#[derive(Debug)]
pub(crate) struct RequestPlace {
    _of_address: OfAddress,
    _permit: OwnedSemaphorePermit,
}

/// One of the places that an address may have.
#[derive(Debug)]
struct OfAddress {
    places: Arc<Places>,
    key: Option<IpAddr>,
}

impl OfAddress {
    fn take(places: &Arc<Places>, key: IpAddr) -> Option<Self> {
        let key = places.by_address.is_on().then_some(key);
        let has_room = key.is_none_or(|key| places.by_address.take(key));
        has_room.then(|| Self { places: Arc::clone(places), key })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.places.by_address.give_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_place_and_not_for_ever() {
        let requests = HttpRequests::new(2, 0, 0, 0);
        let first = requests.admit(address(1), false).await.unwrap();
        let _second = requests.admit(address(1), false).await.unwrap();
        assert_eq!(requests.admit(address(2), false).await.unwrap_err(), Held::Full);
        let _probe = requests.admit_probe(address(2)).await.unwrap();
        let (next, ()) = tokio::join!(requests.admit(address(2), false), async { drop(first) });
        let _next = next.unwrap();
        assert_eq!(requests.counts(), Counts { full: 1, ..Counts::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_own_places_and_never_all() {
        let requests = HttpRequests::new(4, 100, 0, 0);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(requests.admit(address(1), false).await.unwrap());
        }
        assert_eq!(requests.admit(address(1), false).await.unwrap_err(), Held::AddressFull);
        let _other = requests.admit(address(2), false).await.unwrap();
        drop(held);
        let _again = requests.admit(address(1), false).await.unwrap();
        assert_eq!((requests.counts().address_full, requests.under_way.by_address.len()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn probes_have_places_of_their_own() {
        let requests = HttpRequests::new(4, 100, 0, 0);
        let mut held = Vec::new();
        for last in [0, 1].into_iter().cycle().take(PROBES_AT_ONCE) {
            held.push(requests.admit_probe(address(last)).await.unwrap());
        }
        assert_eq!(requests.admit_probe(address(2)).await.unwrap_err(), Held::Full);
        let _request = requests.admit(address(2), false).await.unwrap();
        let (next, ()) = tokio::join!(requests.admit_probe(address(2)), async { held.truncate(PROBES_AT_ONCE - 1) });
        let _next = next.unwrap();
        assert_eq!(requests.counts(), Counts { full: 1, ..Counts::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_does_not_have_all_probes() {
        let requests = HttpRequests::new(4, 100, 0, 0);
        let mut held = Vec::new();
        while let Ok(probe) = requests.admit_probe(address(1)).await {
            held.push(probe);
        }
        assert_eq!((held.len(), requests.counts().address_full), (6, 1));
        let _other = requests.admit_probe(address(2)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_places_are_for_requests_without_content_to_come() {
        let requests = HttpRequests::new(4, 0, 0, 0);
        let first = requests.admit(address(1), true).await.unwrap();
        let second = requests.admit(address(2), true).await.unwrap();
        assert_eq!(requests.admit(address(3), true).await.unwrap_err(), Held::Full);
        let _without =
            [requests.admit(address(3), false).await.unwrap(), requests.admit(address(3), false).await.unwrap()];
        drop(first.under_way);
        assert_eq!(requests.admit(address(3), true).await.unwrap_err(), Held::Full, "its content is still to come");
        drop(second.receiving);
        let _third = requests.admit(address(3), true).await.unwrap();
        assert_eq!(requests.counts(), Counts { full: 2, ..Counts::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_does_not_have_all_places_for_content() {
        let requests = HttpRequests::new(8, 100, 0, 0);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(requests.admit(address(1), true).await.unwrap());
        }
        assert_eq!(requests.admit(address(1), true).await.unwrap_err(), Held::AddressFull);
        let _other = requests.admit(address(2), true).await.unwrap();
        let _without = requests.admit(address(1), false).await.unwrap();
        drop(held);
        let _again = requests.admit(address(1), true).await.unwrap();
        assert_eq!((requests.counts().address_full, requests.receiving.by_address.len()), (1, 2));
    }

    #[tokio::test]
    async fn an_address_that_is_too_fast_is_told_to_wait() {
        let requests = HttpRequests::new(100, 0, 1, 1);
        for _ in 0..REQUESTS_PER_CONNECT {
            drop(requests.admit(address(1), false).await.unwrap());
        }
        // On a machine that is slow enough, the next ones come in time for the rate.
        let held = loop {
            if let Err(held) = requests.admit(address(1), false).await {
                break held;
            }
        };
        assert!(matches!(held, Held::Rate { .. }), "{held:?}");
        drop(requests.admit(address(2), false).await.unwrap());
        assert_eq!(requests.counts().rate, 1);
    }
}
