//! The answers that the front door gives itself, all in the one JSON shape of the API's errors.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY},
};

/// The body of any answer: one of ours, whole, or the app's, streamed.
pub(crate) type ReplyBody = Either<Full<Bytes>, Incoming>;

/// `{"success": false, "error": sentence}` under `status`.
pub(crate) fn error(status: StatusCode, sentence: &str) -> Response<ReplyBody> {
    let body = format!(r#"{{"success":false,"error":{}}}"#, serde_json::Value::from(sentence));
    let mut response = Response::new(Either::Left(Full::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The same, with the seconds after which another try makes sense (RFC 9110 section 10.2.3).
pub(crate) fn retry_later(status: StatusCode, sentence: &str, seconds: u64) -> Response<ReplyBody> {
    let mut response = error(status, sentence);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// An answer without a body: 101.
pub(crate) fn switching_protocols(headers: HeaderMap) -> Response<ReplyBody> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// Has browsers come to this host by https alone for a year (RFC 6797 section 7.1), unless the app says something of its
/// own about that. Subdomains are not ours to speak for.
pub(crate) fn keep_to_https(headers: &mut HeaderMap) {
    headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static("max-age=31536000"));
}
