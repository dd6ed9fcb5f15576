//! Limits and times of the core, checked once when the server is built.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::{app_address::AppAddress, cluster::ClusterOptions, error::Error};

/// Which pages may open a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Only pages whose origin is the host that the request names.
    Same,
    /// Any page: `*`.
    Any,
    /// These origins, compared in lower case, each `scheme://host[:port]`; the same origin is allowed too.
    Listed(Vec<String>),
}

/// Everything the core can be told. A limit of 0 is off.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Config {
    /// Address of the public port.
    pub host: IpAddr,
    /// Public port; 0 lets the system choose one.
    pub port: u16,
    /// Listen on `port` beside servers of the same user that listen there already; Linux only.
    pub take_over: bool,
    /// HS256 key of connection tokens, at least 32 bytes.
    pub token_secret: Vec<u8>,
    /// The key before the last rotation, still accepted.
    pub token_secret_previous: Option<Vec<u8>>,
    /// The app to which everything but `/ws` is forwarded; `None`: such requests get 404.
    pub app: Option<AppAddress>,
    /// What answers `/healthz`, `/readyz` and `/metrics`, where `app` does not: then they tell of this process, whatever
    /// becomes of the app.
    pub probe_app: Option<AppAddress>,
    /// Whether each new session is checked and resumed by the embedding program before it gets durable frames.
    pub sync: bool,
    /// Which pages may open a socket.
    pub allowed_origins: Origins,
    /// Networks whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// PEM file with the certificate of the public port and its chain, read again when it changes; `None`: plain HTTP.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate.
    pub tls_key: Option<PathBuf>,
    /// Refuse `/ws` unless it came over TLS, to us or to a trusted proxy.
    pub require_tls: bool,
    /// Open connections in all; beyond: 503.
    pub max_connections: usize,
    /// Open connections of one user; the newest wins and the idlest older one is closed with 4004.
    pub max_connections_per_user: usize,
    /// Open connections of one address (IPv6: of one /64); beyond: 429.
    pub max_connections_per_ip: usize,
    /// New connections a second from one address; beyond the burst: 429.
    pub connect_rate_per_ip: u32,
    /// New connections that one address may open at once.
    pub connect_burst_per_ip: u32,
    /// Frames a second that one client may send.
    pub message_rate: u32,
    /// Frames that one client may send at once.
    pub message_burst: u32,
    /// Bytes of one message from a client; beyond: 1009.
    pub max_message_bytes: usize,
    /// Bytes waiting to be written to one connection; beyond: 4002.
    pub send_queue_bytes: usize,
    /// Bytes of payload from which on a message is compressed for the clients that offer permessage-deflate; 0: none is,
    /// and the offers are declined.
    pub compress_min_bytes: usize,
    /// Number of shards, each a thread; 1 to 256.
    pub workers: usize,
    /// Least time between two writes to one connection under load; zero: write at once, always.
    pub coalesce: Duration,
    /// Time between two pings of a quiet connection; zero: no pings.
    pub ping_interval: Duration,
    /// Time that a peer has to answer a ping before it is closed with 4003.
    pub pong_timeout: Duration,
    /// How to reach the other nodes; `None`: there are none.
    pub cluster: Option<ClusterOptions>,
    /// Every message goes back to its sender, a binary one too, and there is no welcome: so a suite can judge how the
    /// protocol is kept. No program that serves users sets it.
    pub echo: bool,
}

/// Time a client has to send its request head, and the upgraded peer to answer a Close frame.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request head; beyond: 431.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Bytes of frames that may wait for one shard, in its command queue or on their round, before direct sends are refused.
pub const SHARD_BACKLOG_BYTES: usize = 64 * 1024 * 1024;

impl Config {
    /// The documented defaults, listening on loopback at a port of the system's choice.
    #[must_use]
    pub fn new(token_secret: impl Into<Vec<u8>>) -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            take_over: false,
            token_secret: token_secret.into(),
            token_secret_previous: None,
            app: None,
            probe_app: None,
            sync: false,
            allowed_origins: Origins::Same,
            trusted_proxies: Vec::new(),
            tls_cert: None,
            tls_key: None,
            require_tls: false,
            max_connections: 0,
            max_connections_per_user: 10,
            max_connections_per_ip: 100,
            connect_rate_per_ip: 20,
            connect_burst_per_ip: 100,
            message_rate: 20,
            message_burst: 50,
            max_message_bytes: 65_536,
            send_queue_bytes: 1_048_576,
            compress_min_bytes: 512,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            coalesce: Duration::from_millis(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            cluster: None,
            echo: false,
        }
    }

    /// Refuses what cannot work, naming the field and the mend.
    pub fn validate(&self) -> Result<(), Error> {
        check_secrets(&self.token_secret, self.token_secret_previous.as_deref())?;
        check(self.tls_key.is_some() || self.tls_cert.is_none(), "tls_key", "must be given too, with tls_cert")?;
        check(self.tls_cert.is_some() || self.tls_key.is_none(), "tls_cert", "must be given too, with tls_key")?;
        check(self.port != 0 || !self.take_over, "take_over", "needs a port, and not 0")?;
        check(cfg!(target_os = "linux") || !self.take_over, "take_over", "must be false: only Linux shares a port so")?;
        check((1..=256).contains(&self.workers), "workers", "must be 1 to 256")?;
        check(self.max_message_bytes >= 125, "max_message_bytes", "must be at least 125")?;
        check(
            self.send_queue_bytes >= 65_536,
            "send_queue_bytes",
            "must be at least 65536, the largest durable frame",
        )?;
        check(self.coalesce <= Duration::from_secs(1), "coalesce_ms", "must be at most 1000")?;
        check(!self.pong_timeout.is_zero() || self.ping_interval.is_zero(), "pong_timeout", "must be above 0")?;
        check(
            self.connect_rate_per_ip == 0 || self.connect_burst_per_ip > 0,
            "connect_burst_per_ip",
            "must be above 0",
        )?;
        check(self.message_rate == 0 || self.message_burst > 0, "message_burst", "must be above 0")
    }
}

/// A key of HS256 is at least as long as its hash (RFC 7518 section 3.2).
pub(crate) fn check_secrets(current: &[u8], previous: Option<&[u8]>) -> Result<(), Error> {
    let problem = "must have at least 32 bytes";
    check(current.len() >= 32, "token_secret", problem)?;
    check(previous.is_none_or(|secret| secret.len() >= 32), "token_secret_previous", problem)
}

fn check(holds: bool, name: &'static str, problem: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config { name, problem: problem.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_is_refused_by_name() {
        let error = Config::new("short").validate().unwrap_err();
        assert!(matches!(error, Error::Config { name: "token_secret", .. }), "{error}");
    }

    #[test]
    fn defaults_hold() {
        Config::new([7_u8; 32]).validate().unwrap();
    }
}
