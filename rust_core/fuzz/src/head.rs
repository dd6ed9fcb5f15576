//! The head of an HTTP request: what the front door takes it for.
//!
//! The first byte says where it comes from, and whether over TLS, the rest is the head. What the core reads of it is compared
//! with a plainer reading; and the app, to which the request goes on, must take it to be from the same client.

use std::net::{IpAddr, Ipv4Addr};

use hyper::{
    HeaderMap, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, TE, TRANSFER_ENCODING,
    },
};
use ipnet::IpNet;
use jasaweb_rt_core::{
    config::Origins,
    extensions::{self, Malformed},
    forwarding::{Client, rewrite_request},
    handshake::{BearerToken, Handshake, is_upgrade},
    origin,
};

const MAX_HEADERS: usize = 100;

/// A head as hyper hands it over, which has `httparse` read it too.
fn request(head: &[u8]) -> Option<Request<()>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(head).ok()?.is_complete().then_some(())?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut request = Request::builder().method(parsed.method?).uri(parsed.path?).version(version);
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    request.body(()).ok()
}

/// The answer to the offers of permessage-deflate, where no value is in quotes.
fn expected_answer(headers: &HeaderMap) -> Result<Option<String>, Malformed> {
    let mut answer = None;
    for line in headers.get_all("sec-websocket-extensions") {
        let line = line.to_str().map_err(|_| Malformed)?;
        for offer in line.split(',').map(blank).filter(|offer| !offer.is_empty()) {
            let mut parts = offer.split(';').map(blank);
            let name = parts.next().filter(|name| is_token(name)).ok_or(Malformed)?;
            let mut parameters = Vec::new();
            for part in parts {
                let (name, value) =
                    part.split_once('=').map_or((part, None), |(name, value)| (blank(name), Some(blank(value))));
                if !is_token(name) || value.is_some_and(|value| !is_token(value)) {
                    return Err(Malformed);
                }
                parameters.push((name, value));
            }
            if answer.is_none() && name == "permessage-deflate" {
                answer = answer_to(&parameters);
            }
        }
    }
    Ok(answer)
}

/// RFC 7692 section 7.1, for a server that always has the full window.
fn answer_to(parameters: &[(&str, Option<&str>)]) -> Option<String> {
    let mut names: Vec<&str> = parameters.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    let bits: Vec<String> = (8..=15).map(|bits| bits.to_string()).collect();
    let holds = names.len() == parameters.len()
        && parameters.iter().all(|(name, value)| match (*name, *value) {
            ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None)
            | ("server_max_window_bits", Some("15")) => true,
            ("client_max_window_bits", Some(value)) => bits.iter().any(|bits| bits == value),
            _ => false,
        });
    let window = if names.contains(&"server_max_window_bits") { "; server_max_window_bits=15" } else { "" };
    let accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    holds.then(|| format!("{accepted}{window}"))
}

fn blank(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// The value of a query option, as a browser's `URLSearchParams` would read it.
fn option(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let (_, value) =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|pair| pair.0 == name)?;
    let pair = format!("value={value}");
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
}

fn check_handshake(request: &Request<()>) {
    let headers = request.headers();
    let _ = is_upgrade(request);
    let answer = extensions::accept_deflate(headers);
    let is_quoted = headers.get_all("sec-websocket-extensions").iter().any(|line| line.as_bytes().contains(&b'"'));
    if !is_quoted {
        assert_eq!(answer.map(|answer| answer.map(str::to_owned)), expected_answer(headers));
    }
    let Ok(mut handshake) = Handshake::parse(request) else { return };
    assert_eq!((request.method().as_str(), headers.get_all(SEC_WEBSOCKET_KEY).iter().count()), ("GET", 1));
    assert!(!headers.contains_key(TRANSFER_ENCODING));
    assert!(headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0"));
    assert_eq!(handshake.deflates(), matches!(answer, Ok(Some(_))));
    let uri = request.uri();
    let in_query = option(uri, "token").filter(|token| !token.is_empty()).or_else(|| option(uri, "jwt"));
    if let Some(token) = in_query.filter(|token| !token.is_empty()) {
        assert_eq!(handshake.token.as_ref().map(BearerToken::reveal), Some(token.as_str()));
        assert!(!format!("{handshake:?}").contains(&format!("{token:?}")) || token.len() < 8, "a token is shown");
    }
    assert_eq!(handshake.resume.last_seq, option(uri, "last_seq").map(|seq| seq.parse().unwrap_or(u64::MAX)));
    assert_eq!(handshake.resume.epoch, option(uri, "epoch"));
    assert_eq!(handshake.resume.batch, option(uri, "batch").as_deref() == Some("1"));
    handshake.decline_deflate();
    assert!(!handshake.response_headers().contains_key("sec-websocket-extensions"));
}

fn check_origin(headers: &HeaderMap, forwarded_host: Option<&HeaderValue>) {
    let origins: Vec<&HeaderValue> = headers.get_all(ORIGIN).iter().collect();
    let listed = Origins::Listed(vec!["https://site.test".to_owned()]);
    let [same, of_list, any] =
        [Origins::Same, listed, Origins::Any].map(|allowed| origin::is_allowed(headers, &allowed, forwarded_host));
    assert!(any && (of_list || !same));
    let [origin] = origins[..] else {
        assert_eq!(same, origins.is_empty());
        return;
    };
    let hosts: Vec<&HeaderValue> = headers.get("host").into_iter().chain(forwarded_host).collect();
    let of_host = |host: &str| {
        [("http", ":80"), ("https", ":443")].iter().any(|(scheme, port)| {
            let bare = host.strip_suffix(port).unwrap_or(host);
            [bare, &format!("{bare}{port}")].iter().any(|host| {
                let is_named = !host.is_empty() && *host != *port;
                is_named && origin.as_bytes().eq_ignore_ascii_case(format!("{scheme}://{host}").as_bytes())
            })
        })
    };
    let expected = hosts.iter().any(|host| host.to_str().is_ok_and(of_host));
    assert_eq!(same, expected, "{origin:?} at {hosts:?}");
    assert_eq!(of_list, expected || origin.as_bytes().eq_ignore_ascii_case(b"https://site.test"));
}

fn check_forwarding(mut headers: HeaderMap, client: &Client) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    rewrite_request(&mut headers, client);
    let ours = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-untrusted"];
    for name in headers.keys() {
        let says_who = ["forwarded", "x-real-ip"].contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-");
        let is_ours = ours.contains(&name.as_str());
        assert!(!says_who || is_ours, "{name} passed");
        assert!(!is_ours || headers.get_all(name).iter().count() == 1, "{name} is there twice");
        assert!(is_ours || name == TE || name == HOST || !named.contains(name), "{name} was for this connection only");
    }
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "expect", "proxy-authorization"] {
        assert!(!headers.contains_key(name), "{name} passed");
    }
    assert!(headers.get_all(TE).iter().all(|codings| codings == "trailers"));

    // The app believes the front door, and nobody else.
    let gateway = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let seen = Client::of(gateway, false, &headers, &[IpNet::from(gateway)]);
    assert_eq!(Client { claims_to_forward: client.claims_to_forward, ..seen }, *client);
    assert_eq!(headers.contains_key("x-forwarded-untrusted"), client.claims_to_forward);

    let mut again = headers.clone();
    rewrite_request(&mut again, client);
    assert_eq!(again, headers, "the second time it changes something");
}

/// Reads a head in all the ways in which the front door does.
pub fn check(data: &[u8]) {
    let [from, head @ ..] = data else { return };
    let Some(request) = request(head) else { return };
    let peers: [IpAddr; 4] = [
        [10, 0, 0, 1].into(),
        [198, 51, 100, 7].into(),
        [0, 0, 0, 0, 0, 0xffff, 0x0a00, 1].into(),
        [0xfd00, 0, 0, 0, 0, 0, 0, 5].into(),
    ];
    let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().filter_map(|network| network.parse().ok()).collect();
    let peer = peers[usize::from(*from) % peers.len()];
    let client = Client::of(peer, *from & 4 != 0, request.headers(), &trusted);
    assert!(!client.claims_to_forward || client.address == peer);
    check_handshake(&request);
    check_origin(request.headers(), client.forwarded_host.as_ref());
    check_forwarding(request.headers().clone(), &client);
}
