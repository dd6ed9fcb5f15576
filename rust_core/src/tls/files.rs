//! The PEM files of a certificate and its key: read, checked, compared.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// The most that one of the files may have: a chain of certificates has some KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

const CERT: &str = "tls_cert";
const KEY: &str = "tls_key";

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub(super) struct PemFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// What was in the files. Not to be shown: one of them is a secret.
pub(super) struct Pems {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// Tells one content of the files, or one failure to read them, from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of_failure(error: &Error) -> Self {
        Self(Sha256::digest(error.to_string()).into())
    }
}

impl Pems {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let hash = Sha256::new().chain_update(self.cert.len().to_be_bytes()).chain_update(&self.cert);
        Fingerprint(hash.chain_update(&self.key).finalize().into())
    }
}

impl PemFiles {
    pub(super) fn read(&self) -> Result<Pems, Error> {
        Ok(Pems { cert: read(CERT, &self.cert)?, key: read(KEY, &self.key)? })
    }

    /// The certificate with its chain, and the key, which must be its own.
    pub(super) fn certified(&self, pems: &Pems, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let (cert, key) = (self.cert.display(), self.key.display());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pems.cert)
            .collect::<Result<_, _>>()
            .map_err(|error| refused(CERT, format!("{cert} is not valid PEM: {error}")))?;
        if chain.is_empty() {
            return Err(refused(CERT, format!("{cert} has no certificate in PEM (-----BEGIN CERTIFICATE-----)")));
        }
        let private = PrivateKeyDer::from_pem_slice(&pems.key).map_err(|_| {
            refused(
                KEY,
                format!("{key} has no private key in PEM that needs no passphrase (-----BEGIN PRIVATE KEY-----)"),
            )
        })?;
        CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => refused(
                KEY,
                format!("{key} is not the key of the certificate in {cert}: name the two that belong together"),
            ),
            rustls::Error::InvalidCertificate(_) => refused(
                CERT,
                format!("the first certificate in {cert}, which must be the server's own, is not valid: {error}"),
            ),
            _ => refused(
                KEY,
                format!("{key} cannot be used: {error}; take a key of RSA, ECDSA P-256 or P-384, or Ed25519"),
            ),
        })
    }
}

fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    read_file(path).map_err(|error| refused(name, format!("{} cannot be read: {error}", path.display())))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Another kind of file may keep us waiting for ever, and cannot be read a second time.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(content)
}

fn refused(name: &'static str, problem: String) -> Error {
    Error::Config { name, problem }
}
