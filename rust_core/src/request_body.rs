//! A request's content on its way to the app: how much of it there may be, and how slowly it may come.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::{forwarding, http_requests::RequestPlace, patience::Patience};

/// Bytes of a request's content; beyond: 413.
pub const MAX_BODY_BYTES: u64 = 10 * 1024 * 1024;

/// Why a client's content does not reach the app whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    /// More than [`MAX_BODY_BYTES`].
    #[error("the request's content is too large")]
    TooLarge,
    /// The client kept us waiting for too long.
    #[error("the request's content came too slowly")]
    TooSlow,
    /// Its framing is malformed, or the client has left.
    #[error("the request's content broke off or is malformed")]
    Broken,
}

/// How the passing on of one request's content goes.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    last_ms: AtomicU64,
    fault: OnceLock<BodyFault>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0), fault: OnceLock::new() }
    }

    /// When something was last passed on to the app.
    pub(crate) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// What was wrong with the content, if anything was.
    pub(crate) fn fault(&self) -> Option<BodyFault> {
        self.fault.get().copied()
    }

    fn touch(&self) {
        self.last_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// The content itself, which notes each piece: a long upload is not a silent app.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Option<Incoming>,
    activity: Arc<Activity>,
    patience: Patience,
    taken: u64,
    /// Its place among those that are still to come. hyper drops a body at its end.
    _place: Option<RequestPlace>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, activity: Arc<Activity>, place: Option<RequestPlace>) -> Self {
        Self { body: Some(body), activity, patience: Patience::default(), taken: 0, _place: place }
    }

    /// No content.
    pub(crate) fn none(activity: Arc<Activity>) -> Self {
        Self { body: None, activity, patience: Patience::default(), taken: 0, _place: None }
    }

    fn fail<T>(&self, fault: BodyFault) -> Poll<Option<Result<T, BodyFault>>> {
        let _first_stays = self.activity.fault.set(fault);
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let mut frame = match Pin::new(body).poll_frame(cx) {
            Poll::Pending if self.patience.wait(cx).is_ready() => return self.fail(BodyFault::TooSlow),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => return self.fail(BodyFault::Broken),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.activity.touch();
        self.patience.moved(length);
        self.taken += length as u64;
        if self.taken > MAX_BODY_BYTES {
            return self.fail(BodyFault::TooLarge);
        }
        if let Some(trailers) = frame.trailers_mut() {
            // Some recipients merge them with the head's fields.
            forwarding::strip_forwarding(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
