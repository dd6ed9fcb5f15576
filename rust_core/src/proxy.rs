//! The way to the app: everything but `/ws` is forwarded to it, streamed in both directions.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{
    Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Incoming},
    header::{CONNECTION, HOST, HeaderValue},
    http::uri::{Authority, Scheme},
};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::Instant;

use crate::{
    app_address::AppAddress,
    app_socket::{Answered, AppConnector},
    forwarding::{self, Client},
    http_requests::RequestPlace,
    reply::{self, ReplyBody},
    request_body::{Activity, BodyFault, MAX_BODY_BYTES, RequestBody},
};

/// Time without any sign of life from either side until a response head is given up.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// An idle connection to the app is closed after this, before the app closes it on its own side.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const POOL_MAX_IDLE: usize = 64;
const RETRY_SECONDS: u64 = 1;

/// What a request goes to the app by.
type AppClient = legacy::Client<AppConnector, RequestBody>;

/// Forwards requests to the app. Cheap to share by reference; its connections are pooled.
#[derive(Debug)]
pub struct Proxy {
    pooled: AppClient,
    /// Opens a connection for each request.
    fresh: AppClient,
    head_timeout: Duration,
    unreachable: AtomicBool,
}

impl Proxy {
    /// A proxy to the app at `address`. `head_timeout` runs while no byte of the request's body is passed on and the app
    /// has not begun to answer; the front door uses [`HEAD_TIMEOUT`].
    #[must_use]
    pub fn new(address: AppAddress, head_timeout: Duration) -> Self {
        let connector = AppConnector::new(address);
        let client = |most_idle| {
            legacy::Client::builder(TokioExecutor::new())
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .pool_max_idle_per_host(most_idle)
                .pool_timer(TokioTimer::new())
                .set_host(false)
                .build(connector.clone())
        };
        Self { pooled: client(POOL_MAX_IDLE), fresh: client(0), head_timeout, unreachable: AtomicBool::new(false) }
    }

    /// Forwards `request` and answers with the app's response, its body still streaming.
    ///
    /// Where there is none: 503 with `Retry-After` if the app cannot be reached, 502 if it broke off before the response
    /// head, 504 if it kept silent; 413, 408 or 400 where the request's content is too large, too slow or malformed. A
    /// break later on ends the client's connection, which is all that HTTP leaves.
    ///
    /// An app that ends closes its idle connections, perhaps while a request is on its way there. One that changes nothing
    /// and has no content is then asked once more, by a connection of its own (RFC 9110 section 9.2.2).
    ///
    /// `receiving` is kept as long as content is to come.
    pub(crate) async fn forward(
        &self,
        request: Request<Incoming>,
        client: &Client,
        receiving: Option<RequestPlace>,
    ) -> Response<ReplyBody> {
        if request.body().size_hint().lower() > MAX_BODY_BYTES {
            return Failure::Content(BodyFault::TooLarge).into_response();
        }
        let activity = Arc::new(Activity::new());
        let outcome = match prepare(request, client, &activity, receiving) {
            Some(request) => self.response_head(request, &activity).await,
            None => return reply::error(StatusCode::BAD_REQUEST, "The request target is not valid"),
        };
        match outcome {
            Ok(response) => pass_on(response),
            Err(failure) => failure.into_response(),
        }
    }

    async fn response_head(
        &self,
        request: Request<RequestBody>,
        activity: &Arc<Activity>,
    ) -> Result<Response<Incoming>, Failure> {
        let again = repeatable(&request, activity);
        let mut outcome = self.ask(&self.pooled, request, activity).await?;
        if let (Err(error), Some(again)) = (&outcome, again)
            && error.connect_info().is_some_and(Answered::on)
        {
            outcome = self.ask(&self.fresh, again, activity).await?;
        }
        self.judge(outcome, activity.fault())
    }

    /// What comes of one try by `client`, unless the app keeps silent.
    async fn ask(
        &self,
        client: &AppClient,
        request: Request<RequestBody>,
        activity: &Activity,
    ) -> Result<Result<Response<Incoming>, legacy::Error>, Failure> {
        let mut response = pin!(client.request(request));
        loop {
            let silent_until = activity.last() + self.head_timeout;
            tokio::select! {
                outcome = &mut response => return Ok(outcome.inspect(|response| Answered::note(response.extensions()))),
                () = tokio::time::sleep_until(silent_until) => {
                    if activity.last() + self.head_timeout <= Instant::now() {
                        tracing::warn!("the app did not begin to answer in time");
                        return Err(Failure::Silent);
                    }
                }
            }
        }
    }

    /// Tells an app that is not there from one that broke off, and logs only when that changes.
    fn judge(
        &self,
        outcome: Result<Response<Incoming>, legacy::Error>,
        fault: Option<BodyFault>,
    ) -> Result<Response<Incoming>, Failure> {
        let outcome = outcome.map_err(|error| match fault {
            _ if error.is_connect() => Failure::Unreachable,
            Some(fault) => Failure::Content(fault),
            None => broken_off(&error),
        });
        let unreachable = matches!(outcome, Err(Failure::Unreachable));
        if self.unreachable.swap(unreachable, Ordering::Relaxed) != unreachable {
            if unreachable {
                tracing::warn!("the app cannot be reached");
            } else {
                tracing::info!("the app can be reached again");
            }
        }
        outcome
    }
}

/// The request as the app gets it.
fn prepare(
    request: Request<Incoming>,
    client: &Client,
    activity: &Arc<Activity>,
    receiving: Option<RequestPlace>,
) -> Option<Request<RequestBody>> {
    let (mut head, body) = request.into_parts();
    if let Some(authority) = head.uri.authority() {
        // A target in absolute form outdoes the Host field (RFC 9112 section 3.2.2).
        head.headers.insert(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
    }
    forwarding::rewrite_request(&mut head.headers, client);
    head.uri = app_uri(head.uri)?;
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Some(Request::from_parts(head, RequestBody::new(body, Arc::clone(activity), receiving)))
}

/// The same request for a second try, where it is safe to send one (RFC 9110 section 9.2.1) and there is no content.
fn repeatable(request: &Request<RequestBody>, activity: &Arc<Activity>) -> Option<Request<RequestBody>> {
    if !request.method().is_safe() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(RequestBody::none(Arc::clone(activity)));
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

fn broken_off(error: &legacy::Error) -> Failure {
    tracing::warn!(error = error as &dyn std::error::Error, "the app broke off before it answered");
    Failure::BrokenOff
}

/// Why there is no response of the app.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Unreachable,
    BrokenOff,
    Silent,
    Content(BodyFault),
}

impl Failure {
    fn into_response(self) -> Response<ReplyBody> {
        match self {
            Self::Unreachable => reply::retry_later(
                StatusCode::SERVICE_UNAVAILABLE,
                "The application cannot be reached; try again in a moment",
                RETRY_SECONDS,
            ),
            Self::BrokenOff => reply::error(StatusCode::BAD_GATEWAY, "The application broke off before it answered"),
            Self::Silent => reply::error(StatusCode::GATEWAY_TIMEOUT, "The application did not answer in time"),
            Self::Content(fault) => {
                let (status, sentence) = match fault {
                    BodyFault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The request's content is too large"),
                    BodyFault::TooSlow => (StatusCode::REQUEST_TIMEOUT, "The request's content came too slowly"),
                    BodyFault::Broken => (StatusCode::BAD_REQUEST, "The request's content is malformed"),
                };
                let mut response = reply::error(status, sentence);
                // What is left of the content is not read.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response.extensions_mut().insert(fault);
                response
            }
        }
    }
}

/// The app's response as the client gets it.
fn pass_on(response: Response<Incoming>) -> Response<ReplyBody> {
    if response.status().is_informational() {
        // No upgrade was asked for, so a 101 answers nothing.
        return Failure::BrokenOff.into_response();
    }
    let mut response = response.map(ReplyBody::of_app);
    forwarding::strip_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The target with a scheme and an authority, which the pool keys its connections by; neither goes on the wire.
fn app_uri(target: Uri) -> Option<Uri> {
    let mut parts = target.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("app"));
    Uri::from_parts(parts).ok()
}
