//! Accepted sockets that are no WebSockets, or not yet: how many there may be, and who goes when there are too many.
//!
//! Anybody may open them, and say nothing, or hardly anything. So where most descriptors are in use, the connection that
//! has waited longest without ever having sent a whole request gives way to a newcomer: an honest client needs a journey or
//! two for its first one. Who has sent one stays for the answer, and no longer as long as there is a crowd. Where nobody can
//! give way, newcomers are let in until descriptors are short; see [`crate::intake`].

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::address_counts::{AddressCounts, limit_key};

/// Who was let in more lately than this is not sent away: it may have spoken, and nobody has had time to listen.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// Connections that were turned away or sent away since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) address_full: u64,
    pub(crate) displaced: u64,
}

/// The limits and what counts against them.
#[derive(Debug)]
pub(crate) struct HttpConnections {
    crowd: usize,
    open: AtomicUsize,
    by_address: AddressCounts,
    strangers: Mutex<Strangers>,
    address_full: AtomicU64,
    displaced: AtomicU64,
}

/// Connections that have not sent a whole request yet, in the order in which they were let in.
#[derive(Debug, Default)]
struct Strangers {
    by_number: BTreeMap<u64, Stranger>,
    last: u64,
}

#[derive(Debug)]
struct Stranger {
    since: Instant,
    leave: Arc<Notify>,
}

impl HttpConnections {
    /// From `crowd` sockets on, WebSockets among them, newcomers displace others; an address may have `max_per_address` that
    /// are no WebSockets (0: any number), but no more than three quarters of a crowd.
    pub(crate) fn new(crowd: usize, max_per_address: usize) -> Self {
        let max_per_address = max_per_address.min((crowd - crowd / 4).max(1));
        Self {
            crowd,
            open: AtomicUsize::new(0),
            by_address: AddressCounts::new(max_per_address),
            strangers: Mutex::default(),
            address_full: AtomicU64::new(0),
            displaced: AtomicU64::new(0),
        }
    }

    /// A place for a socket that was accepted from `peer`, beside so many WebSockets; nothing where its address has all that
    /// it may have. `None` for the address of a proxy that is trusted: its clients are many, and it has limits of its own.
    pub(crate) fn admit(self: &Arc<Self>, peer: Option<IpAddr>, websockets: usize) -> Option<Place> {
        let key = peer.filter(|_| self.by_address.is_on()).map(limit_key);
        if !key.is_none_or(|key| self.by_address.take(key)) {
            self.address_full.fetch_add(1, Relaxed);
            return None;
        }
        if self.is_crowded(websockets) {
            self.displace();
        }
        self.open.fetch_add(1, Relaxed);
        let leave: Arc<Notify> = Arc::default();
        let number = self.strangers.lock().enter(Arc::clone(&leave));
        Some(Place { connections: Arc::clone(self), key, leave, number: AtomicU64::new(number) })
    }

    /// Whether somebody has to give way to the next that comes, beside so many WebSockets.
    pub(crate) fn is_crowded(&self, websockets: usize) -> bool {
        self.open().saturating_add(websockets) >= self.crowd
    }

    /// Open now, WebSockets not among them.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { address_full: self.address_full.load(Relaxed), displaced: self.displaced.load(Relaxed) }
    }

    /// To be called now and then.
    pub(crate) fn shrink(&self) {
        self.by_address.shrink();
    }

    /// Sends the stranger away that was let in first, if that was long enough ago.
    fn displace(&self) {
        let mut strangers = self.strangers.lock();
        if let Some(first) = strangers.by_number.first_entry()
            && first.get().since.elapsed() >= LEAST_WAIT
        {
            first.remove().leave.notify_one();
            self.displaced.fetch_add(1, Relaxed);
        }
    }
}

impl Strangers {
    fn enter(&mut self, leave: Arc<Notify>) -> u64 {
        self.last += 1;
        self.by_number.insert(self.last, Stranger { since: Instant::now(), leave });
        self.last
    }
}

/// The place of one connection; given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<HttpConnections>,
    key: Option<IpAddr>,
    leave: Arc<Notify>,
    /// Its number among the strangers; 0 once it is none.
    number: AtomicU64,
}

impl Place {
    /// Returns once the connection has to give way.
    pub(crate) async fn displaced(&self) {
        self.leave.notified().await;
    }

    /// It has sent a request, and is no stranger any more.
    pub(crate) fn has_spoken(&self) {
        if self.number.load(Relaxed) != 0 {
            let number = self.number.swap(0, Relaxed);
            self.connections.strangers.lock().by_number.remove(&number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.has_spoken();
        if let Some(key) = self.key {
            self.connections.by_address.give_back(key);
        }
        self.connections.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_sent_away(place: &Place) -> bool {
        place.displaced().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_longest_gives_way() {
        let connections = Arc::new(HttpConnections::new(3, 0));
        let first = connections.admit(Some(peer(1)), 0).unwrap();
        let second = connections.admit(Some(peer(2)), 0).unwrap();
        let third = connections.admit(Some(peer(3)), 0).unwrap();
        first.has_spoken();
        drop(connections.admit(Some(peer(4)), 0).unwrap());
        assert_eq!(connections.counts().displaced, 0, "nobody has waited for long");
        tokio::time::advance(LEAST_WAIT).await;
        let _fourth = connections.admit(Some(peer(4)), 0).unwrap();
        assert!(is_sent_away(&second) && !is_sent_away(&third) && !is_sent_away(&first));
        drop(second);
        assert_eq!((connections.open(), connections.counts().displaced), (3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_sent_a_request_stays() {
        let connections = Arc::new(HttpConnections::new(1, 0));
        let only = connections.admit(Some(peer(1)), 0).unwrap();
        only.has_spoken();
        only.has_spoken();
        tokio::time::advance(10 * LEAST_WAIT).await;
        drop(connections.admit(Some(peer(2)), 0).unwrap());
        assert!(!is_sent_away(&only));
    }

    #[tokio::test(start_paused = true)]
    async fn websockets_take_of_the_same_sockets() {
        let connections = Arc::new(HttpConnections::new(10, 0));
        let first = connections.admit(Some(peer(1)), 8).unwrap();
        tokio::time::advance(LEAST_WAIT).await;
        drop(connections.admit(Some(peer(1)), 8).unwrap());
        assert!(!is_sent_away(&first));
        drop(connections.admit(Some(peer(1)), 9).unwrap());
        assert!(is_sent_away(&first));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_own_limit_and_a_trusted_proxy_none() {
        let connections = Arc::new(HttpConnections::new(100, 1));
        let first = connections.admit(Some(peer(1)), 0).unwrap();
        assert!(connections.admit(Some(peer(1)), 0).is_none());
        let _other = connections.admit(Some(peer(2)), 0).unwrap();
        let _through_proxy = [connections.admit(None, 0).unwrap(), connections.admit(None, 0).unwrap()];
        drop(first);
        let _again = connections.admit(Some(peer(1)), 0).unwrap();
        assert_eq!((connections.open(), connections.counts().address_full), (4, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_does_not_have_all_sockets() {
        for (crowd, max_per_address, expected) in [(8, 100, 6), (8, 5, 5), (1, 100, 1)] {
            let connections = Arc::new(HttpConnections::new(crowd, max_per_address));
            let places: Vec<_> =
                std::iter::repeat_with(|| connections.admit(Some(peer(1)), 0)).map_while(|place| place).collect();
            assert_eq!(places.len(), expected);
            assert!(connections.admit(Some(peer(2)), 0).is_some());
        }
        let unlimited = Arc::new(HttpConnections::new(2, 0));
        let places: Vec<_> = (0..10).filter_map(|_| unlimited.admit(Some(peer(1)), 0)).collect();
        assert_eq!(places.len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_stays_of_those_who_have_gone() {
        let connections = Arc::new(HttpConnections::new(100, 5));
        for last in 0..200 {
            let place = connections.admit(Some(peer(last)), 0).unwrap();
            if last % 2 == 0 {
                place.has_spoken();
            }
        }
        assert_eq!((connections.open(), connections.by_address.len()), (0, 0));
        assert!(connections.strangers.lock().by_number.is_empty());
    }
}
