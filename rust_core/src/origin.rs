//! Which pages may open a socket: the check of the `Origin` header (RFC 6455 section 10.2).

use hyper::{
    HeaderMap,
    header::{HOST, HeaderValue, ORIGIN},
};

use crate::config::Origins;

/// Whether the request may come from the page that it comes from.
///
/// Browsers always send `Origin`; a request without one is not from a browser, and there is no page to distrust. The
/// same origin is one whose `host[:port]` is the request's `Host`, or `forwarded_host` where a trusted proxy gave one.
/// Schemes are not compared for it: behind a proxy that ends TLS the core cannot always know its own.
#[must_use]
pub fn is_allowed(headers: &HeaderMap, allowed: &Origins, forwarded_host: Option<&HeaderValue>) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let listed = match allowed {
        Origins::Any => return true,
        Origins::Same => &[],
        Origins::Listed(listed) => listed.as_slice(),
    };
    // Two `Origin` fields cannot come from a browser; which of them to believe would be a guess.
    let (Ok(origin), None) = (origin.to_str(), origins.next()) else { return false };
    let origin = origin.to_ascii_lowercase();
    listed.contains(&origin)
        || [headers.get(HOST), forwarded_host].into_iter().flatten().any(|host| is_same(&origin, host))
}

/// Whether `origin`, in lower case, is of that host. A default port may be spelled out on either side.
fn is_same(origin: &str, host: &HeaderValue) -> bool {
    let (Some((scheme, authority)), Ok(host)) = (origin.split_once("://"), host.to_str()) else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let host = host.to_ascii_lowercase();
    let without_port = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_owned();
    !authority.is_empty() && without_port(authority) == without_port(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn allowed(origin: &str, host: &str, origins: &Origins) -> bool {
        is_allowed(&headers(&[("origin", origin), ("host", host)]), origins, None)
    }

    #[test]
    fn a_request_without_origin_is_not_from_a_page() {
        assert!(is_allowed(&headers(&[("host", "a.test")]), &Origins::Same, None));
    }

    #[test]
    fn the_same_host_and_port_in_any_case_and_scheme() {
        for (origin, host) in [
            ("http://a.test", "a.test"),
            ("https://a.test", "a.test"),
            ("HTTPS://A.Test", "a.tEST"),
            ("http://a.test:8000", "a.test:8000"),
            ("http://[::1]:8000", "[::1]:8000"),
            ("https://a.test", "a.test:443"),
            ("http://a.test:80", "a.test"),
        ] {
            assert!(allowed(origin, host, &Origins::Same), "{origin} at {host}");
        }
    }

    #[test]
    fn another_host_port_or_no_origin_at_all_is_foreign() {
        for (origin, host) in [
            ("http://b.test", "a.test"),
            ("http://a.test:8001", "a.test:8000"),
            ("http://a.test", "a.test:8000"),
            ("http://a.test.evil.test", "a.test"),
            ("http://evil.test/a.test", "a.test"),
            ("https://a.test:80", "a.test"),
            ("null", "a.test"),
            ("", "a.test"),
            ("http://", ""),
            ("a.test", "a.test"),
            ("file://a.test", "a.test"),
        ] {
            assert!(!allowed(origin, host, &Origins::Same), "{origin} at {host}");
        }
    }

    #[test]
    fn listed_origins_are_compared_whole_and_the_same_origin_stays_allowed() {
        let origins = Origins::Listed(vec!["https://site.test".to_owned()]);
        assert!(allowed("https://Site.test", "a.test", &origins));
        assert!(allowed("http://a.test", "a.test", &origins));
        assert!(!allowed("http://site.test", "a.test", &origins));
        assert!(!allowed("https://site.test:8443", "a.test", &origins));
        assert!(!allowed("null", "a.test", &origins));
    }

    #[test]
    fn any_origin_is_any() {
        assert!(allowed("null", "a.test", &Origins::Any));
    }

    #[test]
    fn a_trusted_proxys_host_counts_as_our_own() {
        let forwarded = HeaderValue::from_static("public.test");
        let request = headers(&[("origin", "https://public.test"), ("host", "inner:8000")]);
        assert!(is_allowed(&request, &Origins::Same, Some(&forwarded)));
        assert!(!is_allowed(&request, &Origins::Same, None));
    }

    #[test]
    fn two_origins_are_one_too_many() {
        let request = headers(&[("origin", "http://a.test"), ("origin", "http://a.test"), ("host", "a.test")]);
        assert!(!is_allowed(&request, &Origins::Same, None));
    }
}
