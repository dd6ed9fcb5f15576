//! Certificates made for a test, and TLS clients that trust them or say what they find.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use jasaweb_rt_core::config::Config;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::http::Client;

/// The name that the certificates are for.
pub(crate) const NAME: &str = "rt.test";

/// A certificate that vouches for itself, with its key, both in PEM.
pub(crate) struct Certificate {
    pub(crate) cert: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("{NAME} {number}"));
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().clone() }
    }
}

/// A certificate in files that are removed with it.
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) fn new(certificate: &Certificate) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("jasaweb-rt-tls-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let files = Self { folder };
        files.replace(certificate);
        files
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    pub(crate) fn replace(&self, certificate: &Certificate) {
        fs::write(self.cert(), &certificate.cert).unwrap();
        fs::write(self.key(), &certificate.key).unwrap();
    }

    /// `config` with TLS by these files.
    pub(crate) fn given_to(&self, config: Config) -> Config {
        Config { tls_cert: Some(self.cert()), tls_key: Some(self.key()), ..config }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A client's side of TLS, which trusts `certificate` alone. Its sessions can be resumed.
pub(crate) fn client_config(certificate: &Certificate, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The outcome of a handshake by `config`.
pub(crate) async fn handshake(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    handshake_on(socket, config).await
}

/// The same on a connection that is there.
pub(crate) async fn handshake_on<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<S>> {
    TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from(NAME).unwrap(), socket).await
}

/// An HTTP client over TLS that trusts `certificate`.
pub(crate) async fn connect(address: SocketAddr, certificate: &Certificate) -> Client<TlsStream<TcpStream>> {
    let config = Arc::new(client_config(certificate, rustls::ALL_VERSIONS));
    Client::over(handshake(address, &config).await.unwrap())
}
