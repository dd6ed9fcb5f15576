//! Connection tokens as the app issues them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

pub(crate) const SECRET: &str = "the-key-of-the-front-doors-own-tests";

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of these claims.
pub(crate) fn signed(claims: &Value) -> String {
    signed_with(SECRET, claims)
}

/// A token of these claims, under another key.
pub(crate) fn signed_with(secret: &str, claims: &Value) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signing_input = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&signing_input);
    format!("{signing_input}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A token that holds, for `user`.
pub(crate) fn valid(user: &str) -> String {
    let claims = json!({ "aud": "websocket", "sub": user, "role": "client", "name": "Budi", "exp": now() + 300 });
    signed(&claims)
}

/// The target of a WebSocket request with a token in its query.
pub(crate) fn with_token(token: &str) -> String {
    format!("/ws?token={token}")
}
