//! Everything that bounds plain HTTP, and what it refused.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use governor::clock::DefaultClock;
use ipnet::IpNet;

use crate::{
    address_counts::limit_key,
    config::Config,
    connect_rate::ConnectRate,
    descriptors::Shares,
    http_connections::{HttpConnections, Place},
    http_requests::HttpRequests,
    request_body::BodyFault,
};

/// HTTP connections of one address, and requests under way, for each WebSocket that it may have: a browser opens six at most.
pub const CONNECTIONS_PER_WEBSOCKET: usize = 6;

/// TLS handshakes that an address may begin for each WebSocket that it may open: so many times the connect rate and its
/// burst. A handshake without a ticket is the dearest thing that a stranger can ask for.
const HANDSHAKES_PER_CONNECT: u32 = 10;

/// Why a socket is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// Its address has all the connections that it may have.
    AddressFull,
    /// Its address begins TLS handshakes too fast: nothing can be told but by one more.
    TooFast,
}

/// What plain HTTP was refused since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpRefusals {
    /// 429 to its first request: an address with all the connections that it may have.
    pub address_full: u64,
    /// Closed without an answer: had waited longest without a whole request when most descriptors were in use.
    pub displaced: u64,
    /// 429, or closed before the TLS handshake: an address that makes requests, or begins handshakes, too fast.
    pub rate: u64,
    /// 429: an address with too many requests under way.
    pub requests_address_full: u64,
    /// 503: too many requests under way in all.
    pub requests_full: u64,
    /// 400 or 501: what is no request, or could be read in two ways.
    pub malformed: u64,
    /// 413 or 431: content or head.
    pub too_large: u64,
    /// 408, or closed: content that came too slowly, a response that was taken too slowly.
    pub too_slow: u64,
}

impl HttpRefusals {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.address_full
            + self.displaced
            + self.rate
            + self.requests_address_full
            + self.requests_full
            + self.malformed
            + self.too_large
            + self.too_slow
    }
}

/// The limits and what counts against them.
#[derive(Debug)]
pub(crate) struct HttpLimits {
    pub(crate) connections: Arc<HttpConnections>,
    pub(crate) requests: HttpRequests,
    /// Only where there is TLS.
    handshakes: Option<ConnectRate<DefaultClock>>,
    handshakes_held: AtomicU64,
    trusted_proxies: Vec<IpNet>,
    malformed: AtomicU64,
    too_large: AtomicU64,
    too_slow: AtomicU64,
}

impl HttpLimits {
    /// As they follow from `config` and from the process's limit of open files.
    pub(crate) fn new(config: &Config) -> Self {
        Self::with_shares(config, Shares::of_process())
    }

    fn with_shares(config: &Config, shares: Shares) -> Self {
        let per_address = config.max_connections_per_ip;
        let per_address_connections = per_address.saturating_mul(CONNECTIONS_PER_WEBSOCKET);
        let times = |number: u32| number.saturating_mul(HANDSHAKES_PER_CONNECT);
        let (rate, burst) = (times(config.connect_rate_per_ip), times(config.connect_burst_per_ip));
        let has_tls = config.tls_cert.is_some();
        Self {
            handshakes: has_tls.then(|| ConnectRate::new(rate, burst, DefaultClock::default())).flatten(),
            handshakes_held: AtomicU64::new(0),
            connections: Arc::new(HttpConnections::new(shares.sockets, per_address_connections)),
            requests: HttpRequests::new(
                shares.requests,
                per_address_connections,
                config.connect_rate_per_ip,
                config.connect_burst_per_ip,
            ),
            trusted_proxies: config.trusted_proxies.clone(),
            malformed: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
        }
    }

    /// A place for a socket from `peer`, beside so many WebSockets. A trusted proxy's own address has no limit, for the client
    /// behind it is not known yet.
    pub(crate) fn admit(&self, peer: IpAddr, websockets: usize) -> Result<Place, NotAdmitted> {
        let peer = peer.to_canonical();
        let is_proxy = self.trusted_proxies.iter().any(|network| network.contains(&peer));
        if let Some(handshakes) = &self.handshakes
            && !is_proxy
            && handshakes.check(limit_key(peer)).is_err()
        {
            self.handshakes_held.fetch_add(1, Relaxed);
            return Err(NotAdmitted::TooFast);
        }
        self.connections.admit((!is_proxy).then_some(peer), websockets).ok_or(NotAdmitted::AddressFull)
    }

    /// Counts a request that breaks a rule.
    pub(crate) fn note_malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
    }

    /// Counts a request whose content did not come whole.
    pub(crate) fn note_fault(&self, fault: BodyFault) {
        let counter = match fault {
            BodyFault::TooLarge => &self.too_large,
            BodyFault::TooSlow => &self.too_slow,
            BodyFault::Broken => &self.malformed,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts what ended a connection early, where it was the client's doing. A head that does not come is no such thing:
    /// that is how every idle connection ends.
    pub(crate) fn note_end(&self, error: &hyper::Error) {
        if error.is_parse_too_large() {
            self.too_large.fetch_add(1, Relaxed);
        } else if error.is_parse() {
            self.malformed.fetch_add(1, Relaxed);
        } else if was_given_up(error) {
            self.too_slow.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn refusals(&self) -> HttpRefusals {
        let (connections, requests) = (self.connections.counts(), self.requests.counts());
        HttpRefusals {
            address_full: connections.address_full,
            displaced: connections.displaced,
            rate: requests.rate + self.handshakes_held.load(Relaxed),
            requests_address_full: requests.address_full,
            requests_full: requests.full,
            malformed: self.malformed.load(Relaxed),
            too_large: self.too_large.load(Relaxed),
            too_slow: self.too_slow.load(Relaxed),
        }
    }

    /// Forgets addresses that have been quiet; to be called every few seconds.
    pub(crate) fn forget_quiet_addresses(&self) {
        self.connections.shrink();
        if let Some(handshakes) = &self.handshakes {
            handshakes.forget_quiet();
        }
        self.requests.forget_quiet_addresses();
    }
}

/// Whether the peer was given up for not taking what was written: see [`crate::door_stream`].
fn was_given_up(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(config: Config) -> HttpLimits {
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let slow = Config { connect_rate_per_ip: 1, connect_burst_per_ip: 1, max_connections_per_ip: 0, ..config };
        HttpLimits::new(&Config { trusted_proxies, ..slow })
    }

    fn encrypted() -> Config {
        Config { tls_cert: Some("cert.pem".into()), tls_key: Some("key.pem".into()), ..Config::new([7; 32]) }
    }

    #[test]
    fn an_address_begins_so_many_handshakes_and_a_trusted_proxy_any_number() {
        let limits = limits(encrypted());
        let (one, other, proxy) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), [10, 0, 0, 1].into());
        for _ in 0..HANDSHAKES_PER_CONNECT {
            limits.admit(one, 0).unwrap();
        }
        // On a machine that is slow enough, the next ones come in time for the rate.
        let refused = loop {
            if let Err(refused) = limits.admit(one, 0) {
                break refused;
            }
        };
        assert_eq!(refused, NotAdmitted::TooFast);
        limits.admit(other, 0).unwrap();
        for _ in 0..10 * HANDSHAKES_PER_CONNECT {
            limits.admit(proxy, 0).unwrap();
        }
        assert_eq!(
            (limits.refusals(), limits.connections.open()),
            (HttpRefusals { rate: 1, ..HttpRefusals::default() }, 0)
        );
    }

    #[test]
    fn without_tls_there_are_no_handshakes_to_count() {
        let limits = limits(Config::new([7; 32]));
        for _ in 0..10 * HANDSHAKES_PER_CONNECT {
            limits.admit([192, 0, 2, 1].into(), 0).unwrap();
        }
        assert_eq!(limits.refusals().rate, 0);
    }
}
