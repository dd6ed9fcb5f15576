//! What a WebSocket request must have (RFC 6455 section 4.2.1), and what it asks for: token and resume position.

mod query;

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap, Method, Request, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use self::query::Query;
use crate::{extensions, forwarding::list};

/// The subprotocol that a client offers beside `bearer.<token>`.
pub const SUBPROTOCOL: &str = "jasaweb.v1";

const BEARER_SUBPROTOCOL: &str = "bearer.";

/// From where a client wants to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// `last_seq`: the last durable frame that the client has; at most `i64::MAX`, as the database counts.
    pub last_seq: Option<u64>,
    /// `epoch`: the epoch that `last_seq` belongs to; 1 to 64 visible ASCII characters.
    pub epoch: Option<String>,
    /// `batch=1`: the client takes several frames as one JSON array.
    pub batch: bool,
}

/// Why a request is no WebSocket handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// `Sec-WebSocket-Version` is not 13: 426 that names the right one (RFC 6455 section 4.2.2).
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// The request breaks a rule of RFC 6455 section 4.2.1: 400.
    #[error("{0}")]
    Malformed(&'static str),
    /// A query option cannot be read: 400.
    #[error("{name} must be {expected}")]
    Parameter {
        /// Name of the query option.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

/// A token on its way to the check; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// The token itself, for the verifier and for nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A valid WebSocket request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The first token found: `?token=`, `?jwt=`, `Authorization: Bearer`, `Sec-WebSocket-Protocol: bearer.…`.
    pub token: Option<BearerToken>,
    /// From where to go on.
    pub resume: Resume,
    accept: String,
    offers_subprotocol: bool,
    /// The answer to an offer of permessage-deflate.
    deflate: Option<&'static str>,
}

/// Whether a request asks for a WebSocket at all. One over HTTP/1.0 cannot (RFC 9110 section 7.8).
#[must_use]
pub fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && has_item(request.headers(), &UPGRADE, "websocket")
}

impl Handshake {
    /// Checks a request for which [`is_upgrade`] holds.
    pub fn parse<B>(request: &Request<B>) -> Result<Self, HandshakeError> {
        let headers = request.headers();
        check_method_and_body(request)?;
        if !has_item(headers, &CONNECTION, "upgrade") {
            return Err(HandshakeError::Malformed("Connection must name upgrade"));
        }
        if single(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(HandshakeError::Version);
        }
        let accept = accept_key(headers)?;
        let deflate = extensions::accept_deflate(headers)
            .map_err(|extensions::Malformed| HandshakeError::Malformed("Sec-WebSocket-Extensions is malformed"))?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let offered = list(headers, &SEC_WEBSOCKET_PROTOCOL);
        let token = query
            .token
            .or(query.jwt)
            .or_else(|| authorization(headers))
            .or_else(|| offered.iter().find_map(|item| item.strip_prefix(BEARER_SUBPROTOCOL)).and_then(non_empty));
        Ok(Self {
            token: token.map(BearerToken),
            resume: Resume { last_seq: query.last_seq, epoch: query.epoch, batch: query.batch.unwrap_or(false) },
            accept,
            offers_subprotocol: offered.contains(&SUBPROTOCOL),
            deflate,
        })
    }

    /// Whether permessage-deflate is accepted.
    #[must_use]
    pub fn deflates(&self) -> bool {
        self.deflate.is_some()
    }

    /// Declines permessage-deflate, whatever was offered.
    pub fn decline_deflate(&mut self) {
        self.deflate = None;
    }

    /// The headers of the 101 (RFC 6455 section 4.2.2).
    #[must_use]
    pub fn response_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.offers_subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        if let Some(accepted) = self.deflate {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(accepted));
        }
        headers
    }
}

/// A body would have to be read before the first frame; no client sends one.
fn check_method_and_body<B>(request: &Request<B>) -> Result<(), HandshakeError> {
    if request.method() != Method::GET {
        return Err(HandshakeError::Malformed("a WebSocket handshake must be a GET"));
    }
    let headers = request.headers();
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if has_body { Err(HandshakeError::Malformed("a WebSocket handshake must not have a body")) } else { Ok(()) }
}

/// The key is 16 bytes in base64 (RFC 6455 section 4.2.1, item 5).
fn accept_key(headers: &HeaderMap) -> Result<String, HandshakeError> {
    single(headers, &SEC_WEBSOCKET_KEY)
        .filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .map(|key| derive_accept_key(key.as_bytes()))
        .ok_or(HandshakeError::Malformed("Sec-WebSocket-Key must be 16 bytes in base64"))
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1); the scheme is compared without regard to case.
fn authorization(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = single(headers, &AUTHORIZATION)?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { non_empty(token.trim()) } else { None }
}

fn has_item(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    list(headers, name).iter().any(|found| found.eq_ignore_ascii_case(item))
}

/// The value of a field that may stand only once; `None` where it is missing or repeated.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::trim),
        _ => None,
    }
}

fn non_empty(text: &str) -> Option<String> {
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use hyper::http::request;

    use super::*;

    /// The request of RFC 6455 section 1.3.
    fn request(target: &str) -> request::Builder {
        Request::get(target)
            .header("host", "server.example.com")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
    }

    fn parse(builder: request::Builder) -> Result<Handshake, HandshakeError> {
        Handshake::parse(&builder.body(()).unwrap())
    }

    fn token(builder: request::Builder) -> Option<String> {
        parse(builder).unwrap().token.map(|token| token.reveal().to_owned())
    }

    /// With one header taken out, and one put in.
    fn altered(name: &'static str, value: Option<&'static str>) -> Result<Handshake, HandshakeError> {
        let mut request = request("/ws").body(()).unwrap();
        request.headers_mut().remove(name);
        if let Some(value) = value {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Handshake::parse(&request)
    }

    #[test]
    fn the_standards_own_example() {
        let headers = parse(request("/ws")).unwrap().response_headers();
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(
            (&headers["upgrade"], &headers["connection"]),
            (&"websocket".parse().unwrap(), &"Upgrade".parse().unwrap())
        );
        assert!(!headers.contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn only_http_1_1_with_upgrade_websocket_asks_for_one() {
        let asks = |builder: request::Builder| is_upgrade(&builder.body(()).unwrap());
        assert!(asks(request("/ws")));
        assert!(asks(Request::get("/ws").header("upgrade", "h2c, WebSocket")));
        assert!(!asks(Request::get("/ws")));
        assert!(!asks(Request::get("/ws").header("upgrade", "h2c")));
        assert!(!asks(request("/ws").version(Version::HTTP_10)));
    }

    #[test]
    fn what_breaks_a_rule_is_malformed() {
        for (name, value) in [
            ("connection", None),
            ("connection", Some("keep-alive")),
            ("sec-websocket-key", None),
            ("sec-websocket-key", Some("")),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ")),
            ("sec-websocket-key", Some("c2hvcnQ=")),
            ("sec-websocket-key", Some("!!!!IHNhbXBsZSBub25jZQ==")),
            ("content-length", Some("1")),
            ("transfer-encoding", Some("chunked")),
        ] {
            let outcome = altered(name, value);
            assert!(matches!(outcome, Err(HandshakeError::Malformed(_))), "{name}: {value:?}: {outcome:?}");
        }
        let two_keys = request("/ws").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        assert!(matches!(parse(two_keys), Err(HandshakeError::Malformed(_))));
        assert!(matches!(parse(request("/ws").method("POST")), Err(HandshakeError::Malformed(_))));
    }

    #[test]
    fn what_may_differ_may_differ() {
        altered("connection", Some("keep-alive, UPGRADE")).unwrap();
        altered("content-length", Some("0")).unwrap();
    }

    #[test]
    fn another_version_is_told_apart() {
        for value in [None, Some("8"), Some("13, 8"), Some("")] {
            assert_eq!(altered("sec-websocket-version", value), Err(HandshakeError::Version));
        }
    }

    #[test]
    fn every_way_to_carry_a_token_in_their_order() {
        let offer = "jasaweb.v1, bearer.from.the.protocol";
        assert_eq!(token(request("/ws")), None);
        assert_eq!(token(request("/ws?token=a.b.c")).unwrap(), "a.b.c");
        assert_eq!(token(request("/ws?jwt=a.b.c")).unwrap(), "a.b.c");
        assert_eq!(token(request("/ws").header("authorization", "Bearer a.b.c")).unwrap(), "a.b.c");
        assert_eq!(token(request("/ws").header("authorization", "bearer  a.b.c ")).unwrap(), "a.b.c");
        assert_eq!(token(request("/ws").header("sec-websocket-protocol", offer)).unwrap(), "from.the.protocol");
        let all =
            |target| request(target).header("authorization", "Bearer head").header("sec-websocket-protocol", offer);
        assert_eq!(token(all("/ws?jwt=j&token=t")).unwrap(), "t");
        assert_eq!(token(all("/ws?jwt=j&token=")).unwrap(), "j");
        assert_eq!(token(all("/ws?x=1")).unwrap(), "head");
        assert_eq!(token(request("/ws").header("authorization", "Basic dTpw")), None);
        assert_eq!(token(request("/ws").header("authorization", "Bearer ")), None);
        assert_eq!(token(request("/ws").header("sec-websocket-protocol", "bearer.")), None);
    }

    #[test]
    fn the_subprotocol_is_selected_when_it_was_offered_and_only_then() {
        let selected = |offer: &str| {
            let handshake = parse(request("/ws").header("sec-websocket-protocol", offer)).unwrap();
            handshake.response_headers().get("sec-websocket-protocol").cloned()
        };
        for offer in ["jasaweb.v1", "bearer.a.b.c, jasaweb.v1", "graphql-ws,jasaweb.v1"] {
            assert_eq!(selected(offer).unwrap(), "jasaweb.v1", "{offer}");
        }
        for offer in ["bearer.a.b.c", "graphql-ws", "JASAWEB.V1"] {
            assert_eq!(selected(offer), None, "{offer}");
        }
    }

    #[test]
    fn deflate_is_answered_where_it_was_offered_and_not_declined() {
        let answer = |handshake: &Handshake| handshake.response_headers().get("sec-websocket-extensions").cloned();
        let offer = |value: &'static str| parse(request("/ws").header("sec-websocket-extensions", value));
        let mut accepted = offer("permessage-deflate; client_max_window_bits").unwrap();
        assert!(accepted.deflates());
        assert_eq!(
            answer(&accepted).unwrap(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        );
        accepted.decline_deflate();
        for plain in [accepted, parse(request("/ws")).unwrap(), offer("permessage-deflate; no=way").unwrap()] {
            assert!(!plain.deflates());
            assert_eq!(answer(&plain), None);
        }
        assert!(matches!(offer("permessage-deflate;"), Err(HandshakeError::Malformed(_))));
    }

    #[test]
    fn a_token_is_not_shown() {
        let handshake = parse(request("/ws?token=very.secret.text")).unwrap();
        assert!(!format!("{handshake:?}").contains("secret"));
    }

    #[test]
    fn resume_options_are_read() {
        let resume = |target| parse(request(target)).unwrap().resume;
        assert_eq!(resume("/ws"), Resume::default());
        let full = Resume { last_seq: Some(42), epoch: Some("E-1".to_owned()), batch: true };
        assert_eq!(resume("/ws?last_seq=42&epoch=E%2D1&batch=1"), full);
        assert_eq!(resume("/ws?last_seq=0&batch=0"), Resume { last_seq: Some(0), ..Resume::default() });
        assert_eq!(resume("/ws?last_seq=9223372036854775807").last_seq, Some(i64::MAX as u64));
        assert_eq!(resume("/ws?&other=%zz&=&v"), Resume::default(), "others' options are no concern");
    }

    #[test]
    fn a_malformed_option_is_named() {
        for (query, expected) in [
            ("last_seq=", "last_seq"),
            ("last_seq", "last_seq"),
            ("last_seq=-1", "last_seq"),
            ("last_seq=+1", "last_seq"),
            ("last_seq=1.5", "last_seq"),
            ("last_seq=9223372036854775808", "last_seq"),
            ("last_seq=1&last_seq=1", "last_seq"),
            ("epoch=", "epoch"),
            ("epoch=a%20b", "epoch"),
            ("epoch=a+b", "epoch"),
            ("epoch=%zz", "epoch"),
            ("epoch=%C3%A9", "epoch"),
            ("batch=true", "batch"),
            ("batch=", "batch"),
            ("token=%f", "token"),
            ("token=%FF", "token"),
            ("token=a&token=b", "token"),
            ("jwt=%", "jwt"),
        ] {
            let outcome = parse(request(&format!("/ws?{query}")));
            assert!(
                matches!(outcome, Err(HandshakeError::Parameter { name, .. }) if name == expected),
                "{query}: {outcome:?}"
            );
        }
        let long = format!("/ws?epoch={}", "e".repeat(65));
        assert!(parse(request(&long)).is_err());
    }
}
