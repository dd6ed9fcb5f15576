use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// The same file that `PyJWT` is tested with.
const VECTORS: &str = include_str!("../../../tests/vectors/connection_tokens.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    token: String,
    now: f64,
    secret: String,
    previous_secret: Option<String>,
    error: Option<String>,
    identity: Option<Expected>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Expected {
    user_id: String,
    role: String,
    name: String,
    session_exp: Option<u64>,
    session_id: Option<String>,
}

impl From<Identity> for Expected {
    fn from(identity: Identity) -> Self {
        Self {
            user_id: identity.user_id.as_ref().to_owned(),
            role: identity.role.as_str().to_owned(),
            name: identity.name.as_ref().to_owned(),
            session_exp: identity.session_expires_at,
            session_id: identity.session_id.map(|id| id.to_string()),
        }
    }
}

/// `PyJWT`'s exception for the same fault, or in lower case the rule that is ours alone.
fn kind(error: TokenError) -> &'static str {
    match error {
        TokenError::Malformed | TokenError::InvalidClaim("exp" | "nbf") => "DecodeError",
        TokenError::Header => "InvalidTokenError",
        TokenError::Algorithm => "InvalidAlgorithmError",
        TokenError::Signature => "InvalidSignatureError",
        TokenError::MissingClaim(_) => "MissingRequiredClaimError",
        TokenError::InvalidClaim("iat") => "InvalidIssuedAtError",
        TokenError::InvalidClaim("sub") => "InvalidSubjectError",
        TokenError::InvalidClaim("jti") => "InvalidJTIError",
        TokenError::InvalidClaim(_) => "claimType",
        TokenError::Expired => "ExpiredSignatureError",
        TokenError::Immature => "ImmatureSignatureError",
        TokenError::Audience => "InvalidAudienceError",
        TokenError::TooLong => "tooLong",
        TokenError::NoUser => "noUser",
        TokenError::Role => "role",
        TokenError::SessionEnded => "sessionEnded",
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(VECTORS).unwrap()
}

#[test]
fn every_vector_comes_out_as_in_pyjwt() {
    for vector in vectors() {
        let previous = vector.previous_secret.as_ref().map(String::as_bytes);
        let verifier = TokenVerifier::new(vector.secret.as_bytes(), previous);
        match verifier.verify(&vector.token, vector.now) {
            Ok(identity) => {
                assert_eq!(None, vector.error, "{}", vector.name);
                assert_eq!(Some(Expected::from(identity)), vector.identity, "{}", vector.name);
            }
            Err(error) => assert_eq!(Some(kind(error)), vector.error.as_deref(), "{}", vector.name),
        }
    }
}

#[test]
fn no_part_of_a_token_or_key_is_ever_shown() {
    let shown = format!("{:?}", TokenVerifier::new(b"secret-key-secret-key-secret-key", None));
    assert_eq!(shown, "TokenVerifier { .. }");
    for vector in vectors() {
        let Err(error) = TokenVerifier::new(vector.secret.as_bytes(), None).verify(&vector.token, vector.now) else {
            continue;
        };
        let shown = format!("{error} {error:?}");
        for part in vector.token.split('.').filter(|part| part.len() > 10) {
            assert!(!shown.contains(part), "{}", vector.name);
        }
    }
}

#[test]
fn any_change_of_a_valid_token_makes_it_invalid() {
    let vectors = vectors();
    let usual = vectors.iter().find(|vector| vector.name == "a usual token").unwrap();
    let verifier = TokenVerifier::new(usual.secret.as_bytes(), None);
    for (at, original) in usual.token.char_indices() {
        let other = if original == 'A' { 'B' } else { 'A' };
        let changed = format!("{}{other}{}", &usual.token[..at], &usual.token[at + 1..]);
        assert!(verifier.verify(&changed, usual.now).is_err(), "position {at}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(token in ".{0,400}", now in any::<f64>()) {
        let _ = TokenVerifier::new(&[7; 32], None).verify(&token, now);
    }

    #[test]
    fn no_claims_make_it_panic(claims in ".{0,200}", now in any::<f64>()) {
        let verifier = TokenVerifier::new(&[7; 32], None);
        let signing_input = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
            BASE64_URL_SAFE_NO_PAD.encode(claims),
        );
        let signature = keyed(&[7; 32]).chain_update(&signing_input).finalize().into_bytes();
        let token = format!("{signing_input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        let _ = verifier.verify(&token, now);
    }

    #[test]
    fn whole_numbers_in_strings_are_read_as_they_are_written(number in any::<i32>()) {
        prop_assert_eq!(whole_number(&format!(" {number} ")), Some(f64::from(number)));
    }
}
