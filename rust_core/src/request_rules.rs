//! What a request must be, once its head is read, before anybody acts on it: a known method, one host, a target of a form
//! that fits.
//!
//! Wherever a request could be understood in two ways it is refused, so that this server, a proxy before it and the app
//! behind it cannot come to differ.

use hyper::{Method, Request, StatusCode, Version, header::HOST, http::uri::Authority};

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Objection {
    /// 400 or 501.
    pub(crate) status: StatusCode,
    /// What is wrong with it.
    pub(crate) sentence: &'static str,
}

const fn bad_request(sentence: &'static str) -> Objection {
    Objection { status: StatusCode::BAD_REQUEST, sentence }
}

const NOT_A_TUNNEL: Objection =
    Objection { status: StatusCode::NOT_IMPLEMENTED, sentence: "This server is not a tunnel" };
const UNKNOWN_METHOD: Objection =
    Objection { status: StatusCode::NOT_IMPLEMENTED, sentence: "The method is not known to this server" };
const ONE_HOST: Objection = bad_request("A request must have exactly one Host header");
const NO_HOST: Objection = bad_request("The Host header must be a host, and a port at most");
const OTHER_HOST: Objection = bad_request("The request target and the Host header name different hosts");
const BAD_TARGET: Objection = bad_request("The request target is not valid");

/// Methods are compared as they are written (RFC 9110 section 9.1). TRACE is not among them, since it would show a page
/// the headers that are kept from it.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Refuses what is no request to this server.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), Objection> {
    if request.method() == Method::CONNECT {
        return Err(NOT_A_TUNNEL);
    }
    if !METHODS.contains(request.method()) {
        return Err(UNKNOWN_METHOD);
    }
    check_target(request, host(request)?.as_ref())
}

/// HTTP/1.1 names its host, once, and as a URI would (RFC 9112 section 3.2).
fn host<B>(request: &Request<B>) -> Result<Option<Authority>, Objection> {
    let mut values = request.headers().get_all(HOST).iter();
    match (values.next(), values.next()) {
        (None, _) if request.version() != Version::HTTP_11 => Ok(None),
        (Some(value), None) => authority(value.as_bytes()).map(Some).ok_or(NO_HOST),
        _ => Err(ONE_HOST),
    }
}

fn authority(bytes: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(bytes).ok()?;
    let is_host = !authority.host().is_empty() && !authority.as_str().contains('@');
    // What parsers differ about is no port: an empty one, one with a sign, one beyond 65535.
    let port = authority.as_str().strip_prefix(authority.host())?;
    let is_port = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok();
    let has_whole_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_host && has_whole_port).then_some(authority)
}

/// A path; a whole URI that names the same host as the Host field, which a client has to make the same (RFC 9112 section
/// 3.2.2); or the `*` of OPTIONS.
fn check_target<B>(request: &Request<B>, host: Option<&Authority>) -> Result<(), Objection> {
    let uri = request.uri();
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if uri.path().starts_with('/') => Ok(()),
        (None, None) if uri.path() == "*" && request.method() == Method::OPTIONS => Ok(()),
        (Some("http" | "https"), Some(target)) if authority(target.as_str().as_bytes()).is_some() => match host {
            Some(host) if !target.as_str().eq_ignore_ascii_case(host.as_str()) => Err(OTHER_HOST),
            _ => Ok(()),
        },
        _ => Err(BAD_TARGET),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &str, target: &str, hosts: &[&str]) -> Result<(), Objection> {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).unwrap())
    }

    #[test]
    fn requests_to_a_path_or_to_the_host_that_they_name() {
        for (method, target, host) in [
            ("GET", "/a?b=c", "site.test"),
            ("OPTIONS", "*", "site.test:8000"),
            ("POST", "http://site.test/a", "Site.test"),
            ("GET", "https://site.test:8443", "site.test:8443"),
            ("GET", "/", "[2001:db8::1]:8000"),
            ("GET", "//other.test/", "site.test"),
        ] {
            assert_eq!(judged(method, target, &[host]), Ok(()), "{method} {target} {host}");
        }
    }

    #[test]
    fn methods_are_known_and_in_capitals() {
        for method in ["get", "Get", "TRACE", "PROPFIND", "PRI"] {
            assert_eq!(judged(method, "/", &["site.test"]), Err(UNKNOWN_METHOD), "{method}");
        }
        assert_eq!(judged("CONNECT", "site.test:443", &["site.test:443"]), Err(NOT_A_TUNNEL));
    }

    #[test]
    fn one_host_that_is_one() {
        assert_eq!(judged("GET", "/", &[]), Err(ONE_HOST));
        assert_eq!(judged("GET", "/", &["a.test", "a.test"]), Err(ONE_HOST));
        for host in ["", "user@a.test", "a.test/", "a.test, b.test", "a b", ":80", "http://a.test"] {
            assert_eq!(judged("GET", "/", &[host]), Err(NO_HOST), "{host:?}");
        }
        for port in ["", "abc", "+80", "-1", "8_0", "65536", "99999", "80:80"] {
            for host in ["a.test", "[2001:db8::1]"] {
                assert_eq!(judged("GET", "/", &[&format!("{host}:{port}")]), Err(NO_HOST), "{port:?}");
            }
        }
        for port in ["0", "80", "00080", "65535"] {
            assert_eq!(judged("GET", "/", &[&format!("a.test:{port}")]), Ok(()), "{port:?}");
        }
        let old = Request::builder().version(Version::HTTP_10).uri("/").body(()).unwrap();
        assert_eq!(check(&old), Ok(()));
    }

    #[test]
    fn a_target_and_a_host_do_not_differ() {
        for target in ["http://b.test/", "http://a.test:81/", "https://a.test.b.test/"] {
            assert_eq!(judged("GET", target, &["a.test"]), Err(OTHER_HOST), "{target}");
        }
        for (method, target) in
            [("GET", "*"), ("GET", "a.test:80"), ("GET", "ftp://a.test/"), ("GET", "http://user@a.test/")]
        {
            assert_eq!(judged(method, target, &["a.test"]), Err(BAD_TARGET), "{method} {target}");
        }
    }
}
