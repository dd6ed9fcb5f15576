//! Who may open a socket: the check of a connection token.
//!
//! A connection token is a JSON Web Token (RFC 7519) under HS256, and nothing but HS256. It is checked here with `hmac`,
//! `sha2`, `base64` and `serde_json` alone: the usual JWT crates bring RSA and elliptic curves along, of which the RSA
//! one has an advisory without a fix, for algorithms that must be refused anyway.
//!
//! The tokens are issued in Python, so `PyJWT`'s reading of the rules is ours too, with 60 s of leeway for `iat` and `nbf`,
//! pinned by the vectors in `tests/vectors/connection_tokens.json` that both sides run. What `PyJWT` lets through and this module refuses, since no
//! issuer writes it: JSON that RFC 8259 does not know (`NaN`, UTF-16, lone surrogates), JSON nested deeper than 127 levels,
//! numbers in strings with digits other than ASCII's. Beyond `PyJWT`'s rules a token must be of bounded size, name a
//! user and a known role, and stand for a session that has not ended.
//!
//! Nothing of a token's text is ever part of an error or of `Debug` output.

use std::{fmt, num::NonZeroU64, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Bytes that a token may have; beyond: [`TokenError::TooLong`].
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Seconds by which `iat` and `nbf` may lie ahead: the clock of the machine that issued the token, another node for
/// instance, may be ahead of ours (RFC 7519 sections 4.1.5 and 4.1.6). `exp` has no such leeway: it lies far enough away.
const CLOCK_LEEWAY_SECONDS: f64 = 60.0;

/// `aud` of every connection token.
const AUDIENCE: &str = "websocket";

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs the platform.
    Admin,
    /// Owns projects.
    Client,
}

impl Role {
    /// The role as tokens, the database and frames spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Client => "client",
        }
    }

    /// The role of that spelling, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "admin" => Some(Self::Admin),
            "client" => Some(Self::Client),
            _ => None,
        }
    }
}

/// One session of a user: the claim `sid` of a token, 16 hexadecimal digits in lower case. What it is made of is the
/// issuer's affair; to the core it is a name by which the connections of that session are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    /// The session of that spelling; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if is_plain { u64::from_str_radix(text, 16).ok().and_then(NonZeroU64::new).map(Self) } else { None }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whom a valid token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: the user's id.
    pub user_id: Arc<str>,
    /// `role`.
    pub role: Role,
    /// `name`, empty where the token has none.
    pub name: Arc<str>,
    /// `session_exp`: Unix time in seconds at which the session behind the token ends.
    pub session_expires_at: Option<u64>,
    /// `sid`: which session that is.
    pub session_id: Option<SessionId>,
}

/// Why a token was refused. It says what is wrong, and never what the token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// More than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Not three segments of unpadded base64url, or header and claims are not JSON objects (RFC 7515 section 7.1).
    #[error("the token is malformed")]
    Malformed,
    /// A header parameter that breaks its rule: `kid`, `crit`, `b64` (RFC 7515 section 4.1, RFC 7797).
    #[error("the token's header asks for something that is not supported")]
    Header,
    /// `alg` is missing or anything but `HS256`.
    #[error("the token's algorithm is not HS256")]
    Algorithm,
    /// Signed with another key, or altered.
    #[error("the token's signature does not hold")]
    Signature,
    /// A claim that must be there is not.
    #[error("the token has no claim {0:?}")]
    MissingClaim(&'static str),
    /// A claim is there, but of a type that it cannot have.
    #[error("the token's claim {0:?} has the wrong type")]
    InvalidClaim(&'static str),
    /// `exp` is now or was before.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies ahead by more than clocks may be apart.
    #[error("the token is not valid yet")]
    Immature,
    /// `aud` does not name the WebSocket endpoint: a session JWT, for one.
    #[error("the token is meant for another audience")]
    Audience,
    /// `sub` is empty, or has a NUL, which `PostgreSQL` does not keep: nobody has such an id.
    #[error("the token names no user")]
    NoUser,
    /// `role` is neither `admin` nor `client`.
    #[error("the token's role is unknown")]
    Role,
    /// The session behind the token has ended: `session_exp` is now or was before.
    #[error("the session behind the token has ended")]
    SessionEnded,
}

/// Checks connection tokens against the current key and, during a rotation, the one before.
#[derive(Clone)]
pub struct TokenVerifier {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// A verifier for tokens signed with `current`, or with `previous` where there is one.
    #[must_use]
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Self {
        Self { current: keyed(current), previous: previous.map(keyed) }
    }

    /// Whom `token` stands for at Unix time `now`, in seconds.
    pub fn verify(&self, token: &str, now: f64) -> Result<Identity, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let claims = self.verified_claims(token)?;
        check_registered_claims(&claims, now)?;
        identity(&claims, now)
    }

    /// The claims, once header and signature hold (RFC 7515 section 5.2).
    fn verified_claims(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(TokenError::Malformed)?;
        let header = object(&decode_segment(header)?)?;
        let detached = header.get("b64") == Some(&Value::Bool(false));
        if detached && !payload.is_empty() {
            return Err(TokenError::Malformed);
        }
        let payload = decode_segment(payload)?;
        let signature = decode_segment(signature)?;
        check_header(&header)?;
        if detached {
            // RFC 7797 section 3: only with `crit`, and then the payload would have to come from elsewhere.
            return Err(if header.contains_key("crit") { TokenError::Malformed } else { TokenError::Header });
        }
        if header.get("alg").and_then(Value::as_str) != Some("HS256") {
            return Err(TokenError::Algorithm);
        }
        if !self.signature_holds(signing_input.as_bytes(), &signature) {
            return Err(TokenError::Signature);
        }
        object(&payload)
    }

    /// Compares in constant time, with each key that is accepted.
    fn signature_holds(&self, signing_input: &[u8], signature: &[u8]) -> bool {
        let holds = |key: &Hmac<Sha256>| key.clone().chain_update(signing_input).verify_slice(signature).is_ok();
        holds(&self.current) || self.previous.as_ref().is_some_and(holds)
    }
}

/// HMAC with the key set up: padded with zeros to one block, or hashed first where it is longer (RFC 2104 section 2).
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0_u8; 64];
    if let Some(start) = block.get_mut(..key.len()) {
        start.copy_from_slice(key);
    } else {
        block[..32].copy_from_slice(&Sha256::digest(key));
    }
    Hmac::new(&block.into())
}

/// One segment's bytes. Like `PyJWT`, it takes the padding that some issuers leave, and nothing else that is not canonical.
fn decode_segment(segment: &str) -> Result<Vec<u8>, TokenError> {
    let stripped = segment.trim_end_matches('=');
    let padding = segment.len() - stripped.len();
    if padding > 2 || (padding > 0 && !segment.len().is_multiple_of(4)) {
        return Err(TokenError::Malformed);
    }
    BASE64_URL_SAFE_NO_PAD.decode(stripped).map_err(|_| TokenError::Malformed)
}

fn object(json: &[u8]) -> Result<Map<String, Value>, TokenError> {
    serde_json::from_slice(json).map_err(|_| TokenError::Malformed)
}

/// `kid` is a string; `crit` names only `b64`, the one extension that a verifier like this one understands.
fn check_header(header: &Map<String, Value>) -> Result<(), TokenError> {
    if header.get("kid").is_some_and(|kid| !kid.is_string()) {
        return Err(TokenError::Header);
    }
    let Some(critical) = header.get("crit") else { return Ok(()) };
    let understood = critical
        .as_array()
        .is_some_and(|names| !names.is_empty() && names.iter().all(|name| name == "b64") && header.contains_key("b64"));
    if understood { Ok(()) } else { Err(TokenError::Header) }
}

/// The claims of RFC 7519 section 4.1, in `PyJWT`'s order.
fn check_registered_claims(claims: &Map<String, Value>, now: f64) -> Result<(), TokenError> {
    for required in ["exp", "aud", "sub"] {
        if claims.get(required).is_none_or(Value::is_null) {
            return Err(TokenError::MissingClaim(required));
        }
    }
    for name in ["iat", "nbf"] {
        if time(claims, name)?.is_some_and(|time| time > now + CLOCK_LEEWAY_SECONDS) {
            return Err(TokenError::Immature);
        }
    }
    if time(claims, "exp")?.is_some_and(|time| time <= now) {
        return Err(TokenError::Expired);
    }
    check_audience(claims)?;
    for name in ["sub", "jti"] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            return Err(TokenError::InvalidClaim(name));
        }
    }
    Ok(())
}

/// A claim as whole seconds, read as Python's `int` reads it: fractions are cut off, booleans are 0 and 1, and a string
/// may hold a whole number.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, TokenError> {
    let seconds = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_f64().map(f64::trunc),
        Some(Value::Bool(value)) => Some(f64::from(u8::from(*value))),
        Some(Value::String(text)) => whole_number(text),
        Some(_) => None,
    };
    seconds.map(Some).ok_or(TokenError::InvalidClaim(name))
}

/// Python's `int(text)` for ASCII digits: blanks around it, a sign, single underscores between digits.
fn whole_number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let groups_hold = digits.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !groups_hold {
        return None;
    }
    digits.replace('_', "").parse::<f64>().ok().map(|value| sign * value)
}

/// `aud` is the endpoint's name or a list that has it.
fn check_audience(claims: &Map<String, Value>) -> Result<(), TokenError> {
    let named = match claims.get("aud") {
        None | Some(Value::Null | Value::Bool(false)) => return Err(TokenError::MissingClaim("aud")),
        Some(Value::String(one)) if one.is_empty() => return Err(TokenError::MissingClaim("aud")),
        Some(Value::Array(all)) if all.is_empty() => return Err(TokenError::MissingClaim("aud")),
        Some(Value::Object(fields)) if fields.is_empty() => return Err(TokenError::MissingClaim("aud")),
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => return Err(TokenError::MissingClaim("aud")),
        Some(Value::String(one)) => one == AUDIENCE,
        Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(|one| one == AUDIENCE),
        Some(_) => false,
    };
    if named { Ok(()) } else { Err(TokenError::Audience) }
}

/// The claims that are ours.
fn identity(claims: &Map<String, Value>, now: f64) -> Result<Identity, TokenError> {
    let user_id = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if user_id.is_empty() || user_id.contains('\0') {
        return Err(TokenError::NoUser);
    }
    let role = claims.get("role").and_then(Value::as_str).and_then(Role::parse).ok_or(TokenError::Role)?;
    let name = match claims.get("name") {
        None | Some(Value::Null) => "",
        Some(Value::String(name)) => name,
        Some(_) => return Err(TokenError::InvalidClaim("name")),
    };
    Ok(Identity {
        user_id: user_id.into(),
        role,
        name: name.into(),
        session_expires_at: session_end(claims, now)?,
        session_id: session_id(claims)?,
    })
}

fn session_id(claims: &Map<String, Value>) -> Result<Option<SessionId>, TokenError> {
    match claims.get("sid") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().and_then(SessionId::parse).map(Some).ok_or(TokenError::InvalidClaim("sid")),
    }
}

/// `session_exp` in whole seconds; a JSON number and nothing else.
#[expect(clippy::cast_sign_loss, reason = "a time at or below `now` was refused, and `now` is positive")]
fn session_end(claims: &Map<String, Value>, now: f64) -> Result<Option<u64>, TokenError> {
    let seconds = match claims.get("session_exp") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64().ok_or(TokenError::InvalidClaim("session_exp"))?.trunc(),
    };
    if seconds <= now { Err(TokenError::SessionEnded) } else { Ok(Some(seconds as u64)) }
}

#[cfg(test)]
mod tests;
