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
    places: Arc<Semaphore>,
    by_address: AddressCounts,
    rate: Option<ConnectRate<DefaultClock>>,
    rate_held: AtomicU64,
    address_held: AtomicU64,
    full_held: AtomicU64,
}

impl HttpRequests {
    /// At most `places` at the same time, `max_per_address` of one address but no more than three quarters of all; and at most
    /// [`REQUESTS_PER_CONNECT`] times `connect_rate` a second from one address, and so many times `connect_burst` at once.
    /// A limit of 0 is off, but for that of the places.
    pub(crate) fn new(places: usize, max_per_address: usize, connect_rate: u32, connect_burst: u32) -> Self {
        let times = |number: u32| number.saturating_mul(REQUESTS_PER_CONNECT);
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            by_address: AddressCounts::new(max_per_address.min((places - places / 4).max(1))),
            rate: ConnectRate::new(times(connect_rate), times(connect_burst), DefaultClock::default()),
            rate_held: AtomicU64::new(0),
            address_held: AtomicU64::new(0),
            full_held: AtomicU64::new(0),
        }
    }

    /// Lets a request from `address` through, as soon as there is room; its place is taken until what is returned is
    /// dropped.
    pub(crate) async fn admit(self: &Arc<Self>, address: IpAddr) -> Result<UnderWay, Held> {
        self.check_rate(address)?;
        let of_address = AddressPlace::take(self, limit_key(address)).ok_or_else(|| {
            self.address_held.fetch_add(1, Relaxed);
            Held::AddressFull
        })?;
        if let Ok(Ok(place)) = timeout(WAIT_FOR_PLACE, Arc::clone(&self.places).acquire_owned()).await {
            return Ok(UnderWay { _places: Some((of_address, place)) });
        }
        self.full_held.fetch_add(1, Relaxed);
        Err(Held::Full)
    }

    /// Lets a probe from `address` through, however many requests are under way: a server that is busy is not to be taken
    /// for dead.
    pub(crate) fn admit_probe(&self, address: IpAddr) -> Result<UnderWay, Held> {
        self.check_rate(address)?;
        Ok(UnderWay { _places: None })
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
        self.by_address.shrink();
    }
}

/// The place of one request, up to the end of its response.
#[derive(Debug)]
#[must_use = "dropping it gives the request's place to another"]
pub(crate) struct UnderWay {
    _places: Option<(AddressPlace, OwnedSemaphorePermit)>,
}

#[derive(Debug)]
struct AddressPlace {
    requests: Arc<HttpRequests>,
    key: Option<IpAddr>,
}

impl AddressPlace {
    fn take(requests: &Arc<HttpRequests>, key: IpAddr) -> Option<Self> {
        let key = requests.by_address.is_on().then_some(key);
        let has_room = key.is_none_or(|key| requests.by_address.take(key));
        has_room.then(|| Self { requests: Arc::clone(requests), key })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.requests.by_address.give_back(key);
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
        let requests = Arc::new(HttpRequests::new(2, 0, 0, 0));
        let first = requests.admit(address(1)).await.unwrap();
        let _second = requests.admit(address(1)).await.unwrap();
        assert_eq!(requests.admit(address(2)).await.unwrap_err(), Held::Full);
        let _probe = requests.admit_probe(address(2)).unwrap();
        let (next, ()) = tokio::join!(requests.admit(address(2)), async { drop(first) });
        let _next = next.unwrap();
        assert_eq!(requests.counts(), Counts { full: 1, ..Counts::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_own_places_and_never_all() {
        let requests = Arc::new(HttpRequests::new(4, 100, 0, 0));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(requests.admit(address(1)).await.unwrap());
        }
        assert_eq!(requests.admit(address(1)).await.unwrap_err(), Held::AddressFull);
        let _other = requests.admit(address(2)).await.unwrap();
        drop(held);
        let _again = requests.admit(address(1)).await.unwrap();
        assert_eq!((requests.counts().address_full, requests.by_address.len()), (1, 2));
    }

    #[tokio::test]
    async fn an_address_that_is_too_fast_is_told_to_wait() {
        let requests = Arc::new(HttpRequests::new(100, 0, 1, 1));
        for _ in 0..REQUESTS_PER_CONNECT {
            drop(requests.admit(address(1)).await.unwrap());
        }
        // On a machine that is slow enough, the next ones come in time for the rate.
        let held = loop {
            if let Err(held) = requests.admit(address(1)).await {
                break held;
            }
        };
        assert!(matches!(held, Held::Rate { .. }), "{held:?}");
        drop(requests.admit(address(2)).await.unwrap());
        assert_eq!(requests.counts().rate, 1);
    }
}
