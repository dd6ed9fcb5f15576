//! The answers that the front door gives itself, all in the one JSON shape of the API's errors.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY},
};

use crate::http_requests::RequestPlace;

/// The body of any answer: one of ours, whole, or the app's, streamed.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    content: Either<Full<Bytes>, Incoming>,
    /// The request's place among those under way, until the last of its answer is written.
    _under_way: Option<RequestPlace>,
}

impl ReplyBody {
    fn of_ours(content: Full<Bytes>) -> Self {
        Self { content: Either::Left(content), _under_way: None }
    }

    /// What the app answered.
    pub(crate) fn of_app(content: Incoming) -> Self {
        Self { content: Either::Right(content), _under_way: None }
    }

    /// The same; the request is under way as long as the body is there.
    pub(crate) fn holding(self, under_way: RequestPlace) -> Self {
        Self { _under_way: Some(under_way), ..self }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = <Either<Full<Bytes>, Incoming> as Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.content).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// `{"success": false, "error": sentence}` under `status`.
pub(crate) fn error(status: StatusCode, sentence: &str) -> Response<ReplyBody> {
    let body = format!(r#"{{"success":false,"error":{}}}"#, serde_json::Value::from(sentence));
    let mut response = Response::new(ReplyBody::of_ours(Full::from(body)));
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
    let mut response = Response::new(ReplyBody::of_ours(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// Has browsers come to this host by https alone for a year (RFC 6797 section 7.1), unless the app says something of its
/// own about that. Subdomains are not ours to speak for.
pub(crate) fn keep_to_https(headers: &mut HeaderMap) {
    headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static("max-age=31536000"));
}
