//! How to reach NATS: servers, credentials, the authority that signed their certificates.
//!
//! Everything is read and checked when the server is built, so that what cannot work is said by the name of its setting.
//! Files are read again with each new link.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str,
    time::Duration,
};

use async_nats::{Auth, AuthError, ConnectOptions, ServerAddr};
use nkeys::{KeyPair, KeyPairType};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::error::Error;

const URL: &str = "nats_url";
const CREDENTIALS: &str = "nats_credentials";
const CA: &str = "nats_ca";

/// Time that a NATS server has to answer a new link.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two pings of NATS' own. A link that answers two of them with nothing is given up.
const PING_INTERVAL: Duration = Duration::from_millis(1500);

/// Time between two tries to reach NATS, at most.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Messages that may wait for the socket, beside the outbox and within the bytes that the link allows.
const SOCKET_QUEUE: usize = 512;

/// Messages of one subscription that may wait to be read; beyond, they are lost, and that is told.
const SUBSCRIPTION_QUEUE: usize = 16 * 1024;

/// How to reach NATS.
#[derive(Clone)]
pub struct ClusterOptions {
    servers: Vec<ServerAddr>,
    login: Option<Login>,
    credentials: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// What stood before the `@` of the URLs.
#[derive(Clone, PartialEq, Eq)]
enum Login {
    Token(String),
    Password { user: String, password: String },
}

/// What was in a credentials file.
struct Credentials {
    /// The account's word for the user, where the file has one.
    jwt: Option<String>,
    key: KeyPair,
}

impl std::fmt::Debug for ClusterOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(ServerAddr::as_url_str).collect();
        formatter.debug_struct("ClusterOptions").field("servers", &servers).finish_non_exhaustive()
    }
}

impl ClusterOptions {
    /// Takes `nats://` and `tls://` URLs, with `user:password@` or `token@` or neither, the same in each; a file with an
    /// nkey seed or of the kind `.creds`; and a PEM file of authorities, which makes TLS a must. `None` where there is no
    /// URL.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the setting: an URL that is none, logins that differ or stand beside
    /// credentials, a file that cannot be read or holds something else, a file without any URL.
    pub fn parse(urls: &[String], credentials: Option<PathBuf>, ca: Option<PathBuf>) -> Result<Option<Self>, Error> {
        if urls.is_empty() {
            let alone = |name| refuse(name, "needs nats_url");
            return match (credentials, ca) {
                (Some(_), _) => Err(alone(CREDENTIALS)),
                (None, Some(_)) => Err(alone(CA)),
                (None, None) => Ok(None),
            };
        }
        let parsed: Vec<(ServerAddr, Option<Login>)> =
            urls.iter().map(|url| parse_url(url)).collect::<Result<_, _>>()?;
        let (servers, logins): (Vec<_>, Vec<_>) = parsed.into_iter().unzip();
        let mut logins = logins.into_iter();
        let login = logins.next().flatten();
        if logins.any(|other| other != login) {
            return Err(refuse(URL, "all URLs must have the same user and password, or token"));
        }
        if let Some(path) = &credentials {
            if login.is_some() {
                return Err(refuse(CREDENTIALS, "cannot be used beside a user or token in nats_url"));
            }
            Credentials::read(path)?;
        }
        if let Some(path) = &ca {
            check_ca(path)?;
        }
        Ok(Some(Self { servers, login, credentials, ca }))
    }

    pub(super) fn servers(&self) -> Vec<ServerAddr> {
        self.servers.clone()
    }

    /// As async-nats wants them, to try until NATS is there.
    pub(super) fn connect_options(&self, name: &str) -> ConnectOptions {
        let options = match (&self.login, self.credentials.clone()) {
            (Some(Login::Token(token)), _) => ConnectOptions::with_token(token.clone()),
            (Some(Login::Password { user, password }), _) => {
                ConnectOptions::with_user_and_password(user.clone(), password.clone())
            }
            (None, Some(path)) => ConnectOptions::with_auth_callback(move |nonce| {
                let path = path.clone();
                async move { sign(&path, &nonce) }
            }),
            (None, None) => ConnectOptions::new(),
        };
        let options = match &self.ca {
            Some(path) => options.add_root_certificates(path.clone()),
            None => options,
        };
        // Servers that these tell of are named without a scheme, and get the login, too.
        let must_encrypt = self.ca.is_some() || self.servers.iter().any(ServerAddr::tls_required);
        options
            .require_tls(must_encrypt)
            .name(name)
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(retry_delay)
            .client_capacity(SOCKET_QUEUE)
            .subscription_capacity(SUBSCRIPTION_QUEUE)
    }
}

/// The first try at once, then 50 ms, and twice that each time.
fn retry_delay(attempt: usize) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        attempt => RETRY_INTERVAL.min(Duration::from_millis(50 << (attempt - 2).min(8))),
    }
}

fn refuse(name: &'static str, problem: impl Into<String>) -> Error {
    Error::Config { name, problem: problem.into() }
}

/// The server without its login, and the login.
fn parse_url(text: &str) -> Result<(ServerAddr, Option<Login>), Error> {
    // The text may hold a password, so it is not repeated.
    let wrong = || refuse(URL, "must be URLs such as nats://nats.example:4222 or tls://nats.example:4222");
    let server: ServerAddr = text.trim().parse().map_err(|_| wrong())?;
    if !matches!(server.scheme(), "nats" | "tls") || server.host().is_empty() {
        return Err(wrong());
    }
    let decode = |part: &str| percent_decode(part).ok_or_else(wrong);
    let user = server.username().map(decode).transpose()?;
    let password = server.password().map(decode).transpose()?;
    let login = match (user, password) {
        (Some(user), Some(password)) => Some(Login::Password { user, password }),
        (Some(token), None) => Some(Login::Token(token)),
        (None, Some(_)) => return Err(wrong()),
        (None, None) => None,
    };
    let mut url = server.into_inner();
    // What logs may show holds no secret.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err(wrong());
    }
    Ok((ServerAddr::from_url(url).map_err(|_| wrong())?, login))
}

/// RFC 3986 section 2.1.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        decoded.push((high * 16 + low) as u8);
    }
    String::from_utf8(decoded).ok()
}

impl Credentials {
    fn read(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| refuse(CREDENTIALS, format!("{shown} cannot be read: {error}")))?;
        let jwt = block(&text, "NATS USER JWT").map(ToOwned::to_owned);
        let seed = match &jwt {
            Some(_) => block(&text, "USER NKEY SEED"),
            None => text.lines().map(str::trim).find(|line| line.starts_with("SU")),
        };
        let seed = seed.ok_or_else(|| refuse(CREDENTIALS, format!("{shown} holds no user's nkey seed (SU…)")))?;
        match KeyPair::from_seed(seed) {
            Ok(key) if key.key_pair_type() == KeyPairType::User => Ok(Self { jwt, key }),
            _ => Err(refuse(CREDENTIALS, format!("{shown} holds an nkey seed that is not valid, or not a user's"))),
        }
    }
}

/// What stands between `-----BEGIN name-----` and the next line of dashes.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !(line.starts_with("---") && line.contains(name)));
    lines.nth(1).filter(|line| !line.starts_with("---") && !line.is_empty())
}

/// Answers the challenge of a NATS server by the key in the file.
fn sign(path: &Path, nonce: &[u8]) -> Result<Auth, AuthError> {
    let Credentials { jwt, key } = Credentials::read(path).map_err(AuthError::new)?;
    let mut auth = Auth::new();
    auth.signature = Some(key.sign(nonce).map_err(AuthError::new)?);
    match jwt {
        Some(jwt) => auth.jwt = Some(jwt),
        None => auth.nkey = Some(key.public_key()),
    }
    Ok(auth)
}

fn check_ca(path: &Path) -> Result<(), Error> {
    let shown = path.display();
    let unreadable = |error: &dyn std::fmt::Display| refuse(CA, format!("{shown} cannot be read: {error}"));
    let pem = fs::read(path).map_err(|error: io::Error| unreadable(&error))?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
    if certificates.is_empty() {
        return Err(refuse(CA, format!("{shown} holds no certificate in PEM form")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(urls: &[&str]) -> Result<Option<ClusterOptions>, Error> {
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        ClusterOptions::parse(&urls, None, None)
    }

    #[test]
    fn without_an_url_there_is_no_cluster() {
        assert!(parse(&[]).unwrap().is_none());
        let error = ClusterOptions::parse(&[], Some("file".into()), None).unwrap_err();
        assert!(matches!(error, Error::Config { name: CREDENTIALS, .. }), "{error}");
        let error = ClusterOptions::parse(&[], None, Some("file".into())).unwrap_err();
        assert!(matches!(error, Error::Config { name: CA, .. }), "{error}");
    }

    #[test]
    fn a_login_is_taken_out_of_the_url() {
        let options = parse(&["nats://anna:p%40ss@one:4222", "nats://anna:p%40ss@two"]).unwrap().unwrap();
        assert!(options.login == Some(Login::Password { user: "anna".into(), password: "p@ss".into() }));
        let shown = format!("{options:?}");
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss") && !shown.contains("anna"), "{shown}");
        let options = parse(&["tls://s3cr3t@one"]).unwrap().unwrap();
        assert!(options.login == Some(Login::Token("s3cr3t".into())));
    }

    #[test]
    fn what_is_no_url_of_nats_is_refused_by_name_and_not_repeated() {
        for wrong in [
            &["http://one:4222"][..],
            &["ws://one"],
            &[""],
            &["nats://:s3cr3t@one"],
            &["nats://anna:s3cr3t%zz@one"],
            &["nats://anna:s3cr3t@one", "nats://two"],
            &["nats://one:s3cr3t"],
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(matches!(error, Error::Config { name: URL, .. }), "{wrong:?}: {error}");
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn tries_come_fast_and_then_once_a_second() {
        let delays: Vec<_> = (1..=8).map(|attempt| retry_delay(attempt).as_millis()).collect();
        assert_eq!(delays, [0, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(retry_delay(usize::MAX), RETRY_INTERVAL);
    }

    #[test]
    fn blocks_are_found_in_a_credentials_file() {
        let text = "-----BEGIN NATS USER JWT-----\r\neyJ\r\n------END NATS USER JWT------\r\n\r\n\
                    ***** IMPORTANT *****\r\n-----BEGIN USER NKEY SEED-----\r\nSUA\r\n------END USER NKEY SEED------\r\n";
        assert_eq!((block(text, "NATS USER JWT"), block(text, "USER NKEY SEED")), (Some("eyJ"), Some("SUA")));
        assert_eq!(block("-----BEGIN NATS USER JWT-----\n-----END", "NATS USER JWT"), None);
    }
}
