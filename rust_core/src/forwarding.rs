//! Who the client truly is, and which headers may pass the front door on their way to the app.
//!
//! What a client says of itself in `Forwarded`, `X-Forwarded-*`, `X-Real-IP` and their like is worth nothing unless it comes
//! from a proxy that the configuration trusts. So all of them are dropped and exactly one true set is written: the app
//! may believe what it finds.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Request,
    header::{CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE},
    http::uri::Authority,
};
use ipnet::IpNet;

const X_FORWARDED: &str = "x-forwarded-";
/// What else proxies and content networks write, or frameworks believe, about a request's address, host or target.
const CLAIMS: [&str; 16] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-host",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Tells the app that somebody who is not trusted claimed to forward: `X-Forwarded-For` then names that somebody, who
/// may well be a proxy that nobody configured, with clients from anywhere behind it.
const X_FORWARDED_UNTRUSTED: HeaderName = HeaderName::from_static("x-forwarded-untrusted");

/// Where a request comes from, as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The peer's address or, where trusted proxies stand between, that of the first host behind them.
    pub address: IpAddr,
    /// Whether it came over TLS: to us, or by a trusted proxy's word to that proxy.
    pub https: bool,
    /// The host that the client asked for, by a trusted proxy's word.
    pub forwarded_host: Option<HeaderValue>,
    /// Whether forwarding headers came from a peer that is not trusted.
    pub claims_to_forward: bool,
}

impl Client {
    /// Reads the forwarding headers of a request from `peer`, where `peer` lies in one of the `trusted` networks. Its
    /// connection with us is `encrypted` or not; a proxy's word on its own clients' goes before that.
    ///
    /// The address is the rightmost one of `X-Forwarded-For` that is not itself trusted: what stands left of it was
    /// written by that host. A hop that is no address ends the walk at the last one that is. Protocol and host are taken
    /// from the same position of their lists, or from the leftmost where proxies pass them on without adding.
    #[must_use]
    pub fn of(peer: IpAddr, encrypted: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        if !is_trusted(peer) {
            let claims_to_forward = headers.keys().any(is_forwarding);
            return Self { address: peer, https: encrypted, forwarded_host: None, claims_to_forward };
        }
        let (mut address, mut hops) = (peer, 0);
        for hop in list(headers, &X_FORWARDED_FOR).iter().rev().map_while(|hop| parse_hop(hop)) {
            (address, hops) = (hop, hops + 1);
            if !is_trusted(address) {
                break;
            }
        }
        let proto = at_hop(&list(headers, &X_FORWARDED_PROTO), hops);
        Self {
            address,
            https: proto
                .map_or(encrypted, |proto| proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss")),
            forwarded_host: at_hop(&list(headers, &X_FORWARDED_HOST), hops).and_then(parse_host),
            claims_to_forward: false,
        }
    }
}

/// Whether the client calls this server `localhost`, a name that all programs of its machine share, whatever their ports.
pub fn is_localhost<B>(request: &Request<B>, client: &Client) -> bool {
    let authority = match (&client.forwarded_host, request.uri().authority()) {
        (Some(host), _) => Authority::try_from(host.as_bytes()).ok(),
        (None, Some(authority)) => Some(authority.clone()),
        (None, None) => request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
    };
    authority.is_some_and(|authority| {
        let host = authority.host().to_ascii_lowercase();
        host == "localhost" || host.ends_with(".localhost")
    })
}

/// Makes a client's headers fit for the app: hop-by-hop and forwarding headers out, one true set in.
///
/// `Host` stays as it came. `TE: trailers` is said anew, since trailers are passed on; `Expect` is not, since the front
/// door answers it (RFC 9110 section 10.1.1) as soon as the app takes the body.
pub fn rewrite_request(headers: &mut HeaderMap, client: &Client) {
    let takes_trailers = list(headers, &TE).iter().any(|coding| coding.eq_ignore_ascii_case("trailers"));
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    strip_forwarding(headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Ok(address) = HeaderValue::try_from(client.address.to_string()) {
        headers.insert(X_FORWARDED_FOR, address);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if client.https { "https" } else { "http" }));
    if let Some(host) = &client.forwarded_host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if client.claims_to_forward {
        headers.insert(X_FORWARDED_UNTRUSTED, HeaderValue::from_static("1"));
    }
}

/// Removes everything by which somebody says where a request came from or what it was before.
pub fn strip_forwarding(headers: &mut HeaderMap) {
    let forged: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// Removes what concerns one connection only, and what `Connection` names (RFC 9110 section 7.6.1), but for `Host`, which
/// no client may take away.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        list(headers, &CONNECTION).iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    for name in named.into_iter().filter(|name| name != HOST) {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"] {
        headers.remove(name);
    }
}

/// The items of a comma-separated field, over all its lines, in order (RFC 9110 section 5.6.1).
pub(crate) fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// Some programs take `_` in a name for `-`, so both count.
fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins_with = |claim: &str| {
        let mut letters = name.iter().map(|letter| if *letter == b'_' { b'-' } else { *letter });
        claim.bytes().all(|letter| letters.next() == Some(letter))
    };
    begins_with(X_FORWARDED) || CLAIMS.iter().any(|claim| claim.len() == name.len() && begins_with(claim))
}

/// The item that the proxy `hops` hops away wrote; lists grow to the right.
fn at_hop<'a>(items: &[&'a str], hops: usize) -> Option<&'a str> {
    items.get(items.len().saturating_sub(hops.max(1))).copied()
}

/// `192.0.2.1`, `192.0.2.1:5000`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5000`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let address = hop
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<std::net::SocketAddr>().map(|with_port| with_port.ip()))
        .or_else(|error| match hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().map(IpAddr::V6),
            None => Err(error),
        });
    address.ok().map(|address| address.to_canonical())
}

fn parse_host(host: &str) -> Option<HeaderValue> {
    let authority = host.parse::<Authority>().ok()?;
    if authority.as_str().contains('@') { None } else { HeaderValue::from_str(host).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn client(peer: &str, pairs: &[(&'static str, &str)]) -> Client {
        Client::of(peer.parse().unwrap(), false, &headers(pairs), &trusted())
    }

    fn address(peer: &str, forwarded_for: &str) -> String {
        client(peer, &[("x-forwarded-for", forwarded_for)]).address.to_string()
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        let said =
            [("x-forwarded-for", "192.0.2.9"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "other.test")];
        let client = client("198.51.100.7", &said);
        assert_eq!(client.address, IpAddr::from([198, 51, 100, 7]));
        assert_eq!((client.https, client.forwarded_host, client.claims_to_forward), (false, None, true));
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        assert_eq!(address(PROXY, "192.0.2.9"), "192.0.2.9");
        assert_eq!(address(PROXY, "203.0.113.1, 192.0.2.9"), "192.0.2.9", "left of it stands what the client wrote");
        assert_eq!(address(PROXY, "203.0.113.1, 192.0.2.9, 10.1.1.1,10.2.2.2"), "192.0.2.9");
        assert_eq!(address(PROXY, "10.3.3.3, 10.1.1.1"), "10.3.3.3", "all trusted: the farthest");
        assert_eq!(address("fd00::5", "2001:db8::1"), "2001:db8::1");
        assert_eq!(address("::ffff:10.0.0.1", "::ffff:192.0.2.9"), "192.0.2.9", "mapped IPv4 is IPv4");
    }

    #[test]
    fn hops_come_with_ports_and_brackets_and_over_several_lines() {
        assert_eq!(address(PROXY, "192.0.2.9:4711"), "192.0.2.9");
        assert_eq!(address(PROXY, "[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(address(PROXY, "[2001:db8::1]"), "2001:db8::1");
        let two_lines = client(PROXY, &[("x-forwarded-for", "203.0.113.1"), ("x-forwarded-for", "192.0.2.9")]);
        assert_eq!(two_lines.address.to_string(), "192.0.2.9");
    }

    #[test]
    fn a_hop_that_is_no_address_ends_the_walk() {
        assert_eq!(address(PROXY, "unknown"), PROXY);
        assert_eq!(address(PROXY, "192.0.2.9, unknown, 10.1.1.1"), "10.1.1.1");
        assert_eq!(address(PROXY, ""), PROXY);
        assert_eq!(address(PROXY, "[192.0.2.9]"), PROXY);
    }

    #[test]
    fn protocol_and_host_are_of_the_same_hop_as_the_address() {
        let of = |forwarded_for: &str, proto: &str| {
            client(PROXY, &[("x-forwarded-for", forwarded_for), ("x-forwarded-proto", proto)]).https
        };
        assert!(of("192.0.2.9", "https"));
        assert!(of("192.0.2.9", "WSS"));
        assert!(!of("192.0.2.9", "http"));
        assert!(!of("192.0.2.9", "https, http"), "the left one is the client's own claim");
        assert!(of("192.0.2.9, 10.1.1.1", "https, http"), "TLS ended at the outer proxy");
        assert!(of("192.0.2.9, 10.1.1.1", "https"), "the inner proxy passed on what it got");
        assert!(client(PROXY, &[("x-forwarded-proto", "https")]).https, "a proxy that names no address");
    }

    #[test]
    fn a_forwarded_host_must_be_a_host() {
        let host = |value: &str| client(PROXY, &[("x-forwarded-host", value)]).forwarded_host;
        assert_eq!(host("site.test:8443").unwrap(), "site.test:8443");
        assert_eq!(host("evil.test, site.test").unwrap(), "site.test");
        for broken in ["user@site.test", "site.test/path", "a b", ""] {
            assert_eq!(host(broken), None, "{broken}");
        }
    }

    #[test]
    fn what_the_client_forged_is_gone_and_one_true_set_is_there() {
        let mut request = headers(&[
            ("host", "site.test"),
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-prefix", "/admin"),
            ("x-forwarded-untrusted", "0"),
            ("x-real-ip", "192.0.2.1"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ]);
        let client = Client::of(IpAddr::from([198, 51, 100, 7]), false, &request, &trusted());
        rewrite_request(&mut request, &client);
        let expected = headers(&[
            ("host", "site.test"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-untrusted", "1"),
        ]);
        assert_eq!(request, expected);
    }

    #[test]
    fn no_claim_gets_through_under_any_spelling() {
        let mut request = HeaderMap::new();
        let names = CLAIMS.iter().copied().chain(["x-forwarded-for", "x-forwarded-proto", "x-forwarded-anything"]);
        for name in names.flat_map(|name| [name.to_owned(), name.replace('-', "_"), name.replacen('-', "_", 1)]) {
            for _ in 0..2 {
                request.append(HeaderName::try_from(name.as_str()).unwrap(), HeaderValue::from_static("192.0.2.1"));
            }
        }
        request.insert("x-forward", HeaderValue::from_static("is none"));
        strip_forwarding(&mut request);
        assert_eq!(request, headers(&[("x-forward", "is none")]));
    }

    #[test]
    fn connection_cannot_name_the_host_away() {
        let mut request = headers(&[("connection", "host, x-hop"), ("host", "site.test"), ("x-hop", "1")]);
        strip_hop_by_hop(&mut request);
        assert_eq!(request, headers(&[("host", "site.test")]));
    }

    #[test]
    fn a_trusted_proxys_word_is_passed_on_once() {
        let mut request = headers(&[
            ("x-forwarded-for", "203.0.113.1, 192.0.2.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "site.test"),
        ]);
        let client = Client::of(PROXY.parse().unwrap(), false, &request, &trusted());
        rewrite_request(&mut request, &client);
        let expected = headers(&[
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "site.test"),
        ]);
        assert_eq!(request, expected);
    }

    #[test]
    fn headers_of_one_hop_and_those_that_connection_names_end_here() {
        let mut request = headers(&[
            ("connection", "keep-alive, X-Hop"),
            ("connection", "upgrade"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("te", "trailers, deflate"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("expect", "100-continue"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
        ]);
        let client = Client::of(IpAddr::from([198, 51, 100, 7]), false, &request, &[]);
        rewrite_request(&mut request, &client);
        let expected = headers(&[
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(request, expected);
    }

    #[test]
    fn connection_cannot_name_the_true_set_away() {
        let mut request = headers(&[("connection", "x-forwarded-for, x-forwarded-proto, x-forwarded-untrusted")]);
        let client = Client::of(IpAddr::from([198, 51, 100, 7]), false, &request, &[]);
        rewrite_request(&mut request, &client);
        assert_eq!(request["x-forwarded-for"], "198.51.100.7");
        assert_eq!(request["x-forwarded-proto"], "http");
    }
}
