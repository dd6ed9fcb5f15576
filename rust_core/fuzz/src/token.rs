//! A connection token: who is let in is whom a plain reading of the rules lets in.
//!
//! The first byte chooses how the rest becomes a token: as it is, as it is with a signature behind it, or as header and
//! claims that are encoded and signed, by a key that is accepted or by another one. The second says where the claims begin.
//! The plain reading is written by the RFCs and `PyJWT`, with none of the core's code, but the same JSON parser and SHA-256.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jasaweb_rt_core::token::{Identity, MAX_TOKEN_BYTES, Role, SessionId, TokenVerifier};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// The moment at which tokens are checked.
pub const NOW: u32 = 1_800_000_000;

/// The key that is accepted, the one before, which is longer than a block of SHA-256, and one that nobody knows.
const KEYS: [&[u8]; 3] = [&[7; 32], &[8; 100], &[9; 32]];

/// Base64 by the alphabet of RFC 4648 section 5, with no bits left over, padded wholly or not at all.
fn decoded(segment: &str) -> Option<Vec<u8>> {
    let digits = segment.trim_end_matches('=');
    let padding = segment.len() - digits.len();
    if padding > 0 && (padding > 2 || !segment.len().is_multiple_of(4)) {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (held < 6 && bits == 0).then_some(bytes)
}

/// RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::digest([&block.map(|byte| byte ^ 0x36)[..], message].concat());
    Sha256::digest([&block.map(|byte| byte ^ 0x5c)[..], &inner].concat()).into()
}

fn object(json: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(json).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// A time as Python's `int` reads it.
fn seconds(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Number(number) => Some(number.as_f64()?.trunc()),
        Value::String(text) => {
            let text = text.trim();
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let sound = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
            let plain = digits.replace('_', "");
            if !sound || plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let size: f64 = plain.parse().ok()?;
            Some(if text.starts_with('-') { -size } else { size })
        }
        _ => None,
    }
}

fn header_holds(header: &Map<String, Value>) -> bool {
    let critical = match header.get("crit") {
        None => true,
        Some(Value::Array(names)) => {
            !names.is_empty() && names.iter().all(|name| name == "b64") && header.contains_key("b64")
        }
        Some(_) => false,
    };
    critical
        && header.get("alg") == Some(&Value::from("HS256"))
        && header.get("kid").is_none_or(Value::is_string)
        && header.get("b64") != Some(&Value::Bool(false))
}

/// Whom a token stands for by a plain reading; `None`: nobody.
fn expected(token: &str) -> Option<Identity> {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { return None };
    let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
    let signature = decoded(signature)?;
    let is_signed = KEYS[..2].iter().any(|key| signature == hmac(key, signed));
    if token.len() > MAX_TOKEN_BYTES || !is_signed || !header_holds(&object(&decoded(header)?)?) {
        return None;
    }
    let claims = object(&decoded(payload)?)?;
    let now = f64::from(NOW);
    for name in ["iat", "nbf"] {
        if claims.get(name).is_some_and(|value| seconds(value).is_none_or(|time| time > now + 60.0)) {
            return None;
        }
    }
    let audience = match claims.get("aud")? {
        Value::String(one) => one == "websocket",
        Value::Array(all) => all.iter().all(Value::is_string) && all.contains(&Value::from("websocket")),
        _ => false,
    };
    if !audience || seconds(claims.get("exp")?)? <= now || claims.get("jti").is_some_and(|jti| !jti.is_string()) {
        return None;
    }
    let session_end = match claims.get("session_exp") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.as_f64()?.trunc()),
        Some(_) => return None,
    };
    if session_end.is_some_and(|end| end <= now) {
        return None;
    }
    let user = claims.get("sub")?.as_str().filter(|user| !user.is_empty() && !user.contains('\0'))?;
    let role = match claims.get("role")?.as_str()? {
        "admin" => Role::Admin,
        "client" => Role::Client,
        _ => return None,
    };
    let name = match claims.get("name") {
        None | Some(Value::Null) => "",
        Some(name) => name.as_str()?,
    };
    #[expect(clippy::cast_sign_loss, reason = "it lies ahead")]
    let session_expires_at = session_end.map(|end| end as u64);
    let session_id = match claims.get("sid") {
        None | Some(Value::Null) => None,
        Some(id) => Some(SessionId::parse(id.as_str()?).filter(|parsed| *id == parsed.to_string())?),
    };
    Some(Identity { user_id: user.into(), role, name: name.into(), session_expires_at, session_id })
}

fn signed(signing_input: &str, key: &[u8]) -> String {
    format!("{signing_input}.{}", BASE64_URL_SAFE_NO_PAD.encode(hmac(key, signing_input.as_bytes())))
}

/// Checks a token, and each way in which one byte of it may be altered.
pub fn check(data: &[u8]) {
    let [how, begin, rest @ ..] = data else { return };
    let key = KEYS[usize::from(how >> 2) % KEYS.len()];
    let token = match how % 4 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => signed(&String::from_utf8_lossy(rest), key),
        _ => {
            let (header, claims) = rest.split_at(usize::from(*begin).min(rest.len()));
            let encoded = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
            signed(&encoded.join("."), key)
        }
    };
    let verifier = TokenVerifier::new(KEYS[0], Some(KEYS[1]));
    let found = verifier.verify(&token, f64::from(NOW));
    assert_eq!(found.as_ref().ok(), expected(&token).as_ref(), "{token}: {found:?}");
    if found.is_ok() {
        let (mut altered, at) = (token.into_bytes(), usize::from(*begin));
        let at = at % altered.len();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8_lossy(&altered);
        assert!(verifier.verify(&altered, f64::from(NOW)).is_err(), "{altered}");
        assert!(TokenVerifier::new(KEYS[2], None).verify(&altered, f64::from(NOW)).is_err());
    }
}
