//! TLS on the public port: the certificate, read again when its files change, and the handshake.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 alone (ALPN), session tickets, no early data and no renegotiation. A connection keeps the
//! certificate that it was opened with; a new one is for those that come after.

mod files;
mod plain_http;

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::files::{Fingerprint, PemFiles, Pems};
use crate::{config::Config, door_socket::DoorSocket, error::Error};

/// How often the files are looked at. They are small, and no sign but their content can be relied on: a time stamp is
/// coarse, and a name may be a link that is set anew.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// First byte of a TLS handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What the front door needs for TLS. Share it by `Arc`.
pub struct Tls {
    files: PemFiles,
    /// What is in use, or was refused, when the files were last looked at with an outcome.
    settled: Mutex<Fingerprint>,
    certificate: Arc<CurrentCertificate>,
    provider: Arc<CryptoProvider>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files that `config` names, which must have passed [`Config::validate`]; `None` where it names none.
    ///
    /// [`Error::Config`] where one of them cannot be read, is not what it should be, or the two do not fit.
    pub fn load(config: &Config) -> Result<Option<Arc<Self>>, Error> {
        let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
        let files = PemFiles { cert: cert.clone(), key: key.clone() };
        let provider = Arc::new(ring::default_provider());
        let pems = files.read()?;
        let settled = pems.fingerprint();
        let first = files.certified(&pems, &provider)?;
        let certificate = Arc::new(CurrentCertificate(RwLock::new(Arc::new(first))));
        let server = server_config(&provider, &certificate)
            .map_err(|error| Error::Config { name: "tls_cert", problem: format!("TLS cannot be set up: {error}") })?;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Some(Arc::new(Self { files, settled: settled.into(), certificate, provider, acceptor })))
    }

    /// Looks at the files now and then until `stop`, and takes a new certificate. One that is not fit is refused with a
    /// line in the log, once, and the one before stays.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut doubted = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let files = self.files.clone();
            // A disk may take its time, and others wait for this thread.
            let Ok(read) = tokio::task::spawn_blocking(move || files.read()).await else { return };
            self.look(read, &mut doubted);
        }
    }

    /// Takes what was read, if it is new. Two files cannot be replaced at the same moment, so what is not fit is `doubted`
    /// and looked at once more before it is complained of.
    fn look(&self, read: Result<Pems, Error>, doubted: &mut Option<Fingerprint>) {
        let seen = match &read {
            Ok(pems) => pems.fingerprint(),
            Err(error) => Fingerprint::of_failure(error),
        };
        if *self.settled.lock() == seen {
            *doubted = None;
            return;
        }
        match read.and_then(|pems| self.files.certified(&pems, &self.provider)) {
            Ok(certified) => {
                self.certificate.replace(certified);
                tracing::info!("the TLS certificate was read anew, and new connections get it");
            }
            Err(_) if doubted.replace(seen) != Some(seen) => return,
            Err(error) => {
                tracing::warn!("the new TLS certificate is not used, and the one before stays in use: {error}");
            }
        }
        *self.settled.lock() = seen;
    }

    /// The handshake, until `deadline`. A peer that speaks plain HTTP is told so.
    pub(crate) async fn accept(&self, socket: TcpStream, deadline: Instant) -> Option<DoorSocket> {
        let mut first = [0];
        match timeout_at(deadline, socket.peek(&mut first)).await {
            Ok(Ok(1)) if first[0] == HANDSHAKE_RECORD => {}
            Ok(Ok(1)) => {
                plain_http::refuse(socket, deadline).await;
                return None;
            }
            _ => return None,
        }
        match timeout_at(deadline, self.acceptor.accept(socket)).await {
            Ok(Ok(stream)) => return Some(DoorSocket::Tls(Box::new(stream))),
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
        None
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certificate: &Arc<CurrentCertificate>,
) -> Result<ServerConfig, rustls::Error> {
    let resolver = Arc::clone(certificate);
    let mut server = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Whoever reconnects, alone or with ten thousand others, is spared the dear part of a handshake, and we remember
    // nothing for it.
    server.ticketer = ring::Ticketer::new()?;
    Ok(server)
}

/// The certificate that new connections get.
#[derive(Debug)]
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl CurrentCertificate {
    fn replace(&self, certified: CertifiedKey) {
        *self.0.write() = Arc::new(certified);
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}
