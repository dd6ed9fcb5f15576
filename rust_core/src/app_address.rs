//! Where the app listens: on a Unix socket, or on a TCP port, perhaps of another machine.

use std::path::PathBuf;

use hyper::{Uri, http::uri::Scheme};

/// The address of an app that HTTP is spoken with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppAddress {
    /// A Unix socket. Whoever may write to it may speak to the app.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name, or an address without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl AppAddress {
    /// Reads `unix:/path/to/socket` or `http://host:port`; `None` for anything else. There is no default for the port.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("unix:") {
            return (!path.is_empty() && !path.contains('\0')).then(|| Self::Unix(path.into()));
        }
        let url: Uri = url.parse().ok()?;
        let authority = url.authority()?;
        let is_plain = url.scheme() == Some(&Scheme::HTTP)
            && url.path_and_query().is_none_or(|rest| rest == "/")
            && !authority.as_str().contains('@');
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        match authority.port_u16() {
            Some(port) if is_plain && port != 0 && !host.is_empty() => Some(Self::Tcp { host: host.to_owned(), port }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> AppAddress {
        AppAddress::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(AppAddress::parse("unix:/run/app.sock"), Some(AppAddress::Unix("/run/app.sock".into())));
        assert_eq!(AppAddress::parse("http://app.internal:8001"), Some(tcp("app.internal", 8001)));
        assert_eq!(AppAddress::parse("http://10.0.0.7:8001/"), Some(tcp("10.0.0.7", 8001)));
        assert_eq!(AppAddress::parse("http://[::1]:8001"), Some(tcp("::1", 8001)));
    }

    #[test]
    fn anything_else_is_refused() {
        let wrong = [
            "",
            "unix:",
            "unix:/a\0b",
            "/run/app.sock",
            "app:8001",
            "http://app",
            "http://app:0",
            "http://app:65536",
            "https://app:8001",
            "http://user@app:8001",
            "http://app:8001/path",
            "http://app:8001/?query",
            "http://:8001",
        ];
        for url in wrong {
            assert_eq!(AppAddress::parse(url), None, "{url}");
        }
    }
}
