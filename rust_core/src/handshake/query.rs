//! The query of a WebSocket request: token and resume position where a client has no headers to put them into.

use super::HandshakeError;

const MAX_EPOCH_BYTES: usize = 64;

/// The query options of `/ws`; those of other names are no concern of ours.
#[derive(Default)]
pub(super) struct Query {
    pub(super) token: Option<String>,
    pub(super) jwt: Option<String>,
    pub(super) last_seq: Option<u64>,
    pub(super) epoch: Option<String>,
    pub(super) batch: Option<bool>,
}

impl Query {
    pub(super) fn parse(query: &str) -> Result<Self, HandshakeError> {
        let mut options = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "token" => set(&mut options.token, "token", "one URL-encoded token", url_decode(value))?,
                "jwt" => set(&mut options.jwt, "jwt", "one URL-encoded token", url_decode(value))?,
                "last_seq" => set(&mut options.last_seq, "last_seq", "one whole number from 0", sequence(value))?,
                "epoch" => set(&mut options.epoch, "epoch", "one epoch as the server named it", epoch(value))?,
                "batch" => set(&mut options.batch, "batch", "0 or 1", flag(value))?,
                _ => {}
            }
        }
        // An empty token is none: a page may build its URL before it has one.
        options.token = options.token.filter(|token| !token.is_empty());
        options.jwt = options.jwt.filter(|token| !token.is_empty());
        Ok(options)
    }
}

/// Stores a value that may be given once; `None` is a malformed one.
fn set<T>(
    option: &mut Option<T>,
    name: &'static str,
    expected: &'static str,
    value: Option<T>,
) -> Result<(), HandshakeError> {
    if value.is_none() || option.is_some() {
        return Err(HandshakeError::Parameter { name, expected });
    }
    *option = value;
    Ok(())
}

/// Digits alone: `parse` would take a sign.
fn sequence(value: &str) -> Option<u64> {
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok().filter(|number| i64::try_from(*number).is_ok())
}

fn epoch(value: &str) -> Option<String> {
    url_decode(value).filter(|epoch| {
        (1..=MAX_EPOCH_BYTES).contains(&epoch.len()) && epoch.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// `application/x-www-form-urlencoded`, as `URLSearchParams` writes it; `None` for a broken escape or invalid UTF-8.
fn url_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?].map(|digit| char::from(digit).to_digit(16));
                (digits[0]? * 16 + digits[1]?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "[ -~]{0,80}") {
            let _ = Query::parse(&query);
        }

        #[test]
        fn what_was_url_encoded_comes_back(text in ".{0,40}") {
            let encoded = text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"));
            prop_assert_eq!(url_decode(&encoded), Some(text));
        }
    }
}
