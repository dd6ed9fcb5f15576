//! From a `/ws` request to a WebSocket: the refusals in their order, the 101, and what follows it.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt as _, sync::mpsc, time::timeout};

use crate::{
    admission::{Admission, Refusal, Slot},
    close::CloseReason,
    config::HANDSHAKE_TIMEOUT,
    door_socket::DoorSocket,
    door_stream::{DoorStream, Withhold},
    farewell,
    forwarding::Client,
    front_door::{Admitted, FrontDoor},
    handshake::{self, Handshake, HandshakeError, Resume},
    origin,
    reply::{self, ReplyBody},
    token::Identity,
};

const MAX_USER_AGENT_CHARS: usize = 512;

/// Seconds after which a client may try again that came while the server was about to stop.
const RETRY_WHEN_DRAINING: u64 = 1;

/// Refused WebSocket handshakes since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// 503: draining.
    pub draining: u64,
    /// 403: not over TLS.
    pub tls: u64,
    /// 400 or 426: not a valid handshake.
    pub malformed: u64,
    /// 403: a page of a foreign origin.
    pub origin: u64,
    /// 429: an address that opens connections too fast.
    pub rate: u64,
    /// 429: an address with all the connections that it may have.
    pub address_full: u64,
    /// 503: a server with all the connections that it may have.
    pub server_full: u64,
    /// Close 1008: no token, or one that does not hold.
    pub authentication: u64,
}

impl Refusals {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.draining
            + self.tls
            + self.malformed
            + self.origin
            + self.rate
            + self.address_full
            + self.server_full
            + self.authentication
    }
}

/// The counters behind [`Refusals`], but for those that [`Admission`] keeps.
#[derive(Debug, Default)]
pub(crate) struct RefusalCounters {
    draining: AtomicU64,
    tls: AtomicU64,
    malformed: AtomicU64,
    origin: AtomicU64,
    authentication: AtomicU64,
}

impl RefusalCounters {
    pub(crate) fn snapshot(&self, admission: &Admission) -> Refusals {
        let of_admission = admission.refused();
        Refusals {
            draining: self.draining.load(Ordering::Relaxed),
            tls: self.tls.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            origin: self.origin.load(Ordering::Relaxed),
            rate: of_admission.rate,
            address_full: of_admission.address_full,
            server_full: of_admission.server_full,
            authentication: self.authentication.load(Ordering::Relaxed),
        }
    }
}

/// A request that is answered by a 101, waiting for the bare socket.
pub(crate) struct Upgrading {
    on_upgrade: OnUpgrade,
    client_address: IpAddr,
    slot: Slot,
    then: Then,
}

/// What becomes of the socket.
enum Then {
    HandOver { identity: Identity, resume: Resume, deflates: bool, user_agent: Option<Box<str>> },
    Close(CloseReason),
}

impl Upgrading {
    /// Takes the socket out of hyper's hands, once that has written the 101, and hands it over or closes it.
    pub(crate) async fn finish(self, hand_over: &(dyn Fn(Admitted) + Send + Sync)) {
        let Some((stream, greeting, read_ahead)) = bare_socket(self.on_upgrade).await else { return };
        match self.then {
            Then::Close(reason) => farewell::close(stream, read_ahead, &reason).await,
            Then::HandOver { identity, resume, deflates, user_agent } => match stream.into_std() {
                Ok((socket, tls)) => hand_over(Admitted {
                    socket,
                    tls,
                    greeting,
                    read_ahead,
                    identity,
                    resume,
                    deflates,
                    client_address: self.client_address,
                    user_agent,
                    slot: self.slot,
                }),
                Err(error) => tracing::error!(%error, "a socket could not be taken out of the runtime"),
            },
        }
    }
}

/// The socket, what has to be sent first, and what was read beyond the request's head; `None` where the connection broke
/// before the 101 was written.
async fn bare_socket(on_upgrade: OnUpgrade) -> Option<(DoorSocket, Bytes, Bytes)> {
    let upgraded = match timeout(HANDSHAKE_TIMEOUT, on_upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection broke during its upgrade");
            return None;
        }
        Err(_) => return None,
    };
    let parts = upgraded.downcast::<TokioIo<DoorStream>>().ok()?;
    // An empty rest would keep hyper's whole read buffer alive.
    let read_ahead = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    let (socket, greeting) = parts.io.into_inner().into_parts();
    Some((socket, greeting, read_ahead))
}

/// Where the socket comes out of a connection on which a request for another protocol was answered in HTTP.
///
/// At the end of such a connection hyper hands the socket over, as if it had been upgraded, and does not end the stream;
/// under TLS that would be taken for a cut.
#[derive(Debug, Default)]
pub(crate) struct Declined(Mutex<Option<OnUpgrade>>);

impl Declined {
    /// To be called for each request.
    pub(crate) fn note<B>(&self, request: &Request<B>) {
        if let Some(on_upgrade) = request.extensions().get::<OnUpgrade>() {
            *self.0.lock() = Some(on_upgrade.clone());
        }
    }

    /// Ends the stream, as hyper would have done, once it is done with a connection that was not upgraded.
    pub(crate) async fn end(&self) {
        let Some(on_upgrade) = self.0.lock().take() else { return };
        let Some(Ok(upgraded)) = on_upgrade.now_or_never() else { return };
        if let Ok(parts) = upgraded.downcast::<TokioIo<DoorStream>>() {
            // Whoever has gone does not mind.
            let _ = parts.io.into_inner().shutdown().await;
        }
    }
}

impl FrontDoor {
    /// Answers a request for `/ws`, cheapest refusals first. With a 101 goes an [`Upgrading`] through `upgrades`; that of a
    /// socket that is handed over is withheld, for the shard to send.
    pub(crate) fn answer_websocket(
        &self,
        request: &mut Request<Incoming>,
        client: &Client,
        upgrades: &mpsc::Sender<Upgrading>,
        withhold: &Withhold,
    ) -> Response<ReplyBody> {
        if !handshake::is_upgrade(request) {
            return upgrade_required("Upgrade required");
        }
        let (mut handshake, slot) = match self.check_before_token(request, client) {
            Ok(passed) => passed,
            Err(refusal) => return *refusal,
        };
        let then = self.judge_token(&handshake, request);
        let hands_over = matches!(then, Then::HandOver { .. });
        if !hands_over {
            // Who says farewell reads on, and reads no compressed message.
            handshake.decline_deflate();
        }
        let upgrading =
            Upgrading { on_upgrade: hyper::upgrade::on(&mut *request), client_address: client.address, slot, then };
        if upgrades.try_send(upgrading).is_err() {
            // One connection is upgraded once; hyper reads no request behind a 101.
            return reply::error(StatusCode::BAD_REQUEST, "This connection was upgraded already");
        }
        if hands_over {
            withhold.begin();
        }
        reply::switching_protocols(handshake.response_headers())
    }

    /// All that can be refused by an HTTP answer.
    fn check_before_token(
        &self,
        request: &Request<Incoming>,
        client: &Client,
    ) -> Result<(Handshake, Slot), Box<Response<ReplyBody>>> {
        let counted = |counter: &AtomicU64, response| {
            counter.fetch_add(1, Ordering::Relaxed);
            Box::new(response)
        };
        if self.is_draining() {
            return Err(counted(&self.refusals.draining, draining()));
        }
        if self.config.require_tls && !client.https {
            return Err(counted(&self.refusals.tls, tls_required()));
        }
        let mut handshake =
            Handshake::parse(request).map_err(|error| counted(&self.refusals.malformed, bad_handshake(error)))?;
        if self.config.compress_min_bytes == 0 {
            handshake.decline_deflate();
        }
        let forwarded_host = client.forwarded_host.as_ref();
        if !origin::is_allowed(request.headers(), &self.config.allowed_origins, forwarded_host) {
            return Err(counted(&self.refusals.origin, reply::error(StatusCode::FORBIDDEN, "Origin not allowed")));
        }
        let slot = self.admission.admit(client.address).map_err(|refusal| Box::new(not_admitted(refusal)))?;
        Ok((handshake, slot))
    }

    fn judge_token(&self, handshake: &Handshake, request: &Request<Incoming>) -> Then {
        let token = handshake.token.as_ref().map_or("", |token| token.reveal());
        let judged = self.verifier.read().verify(token, unix_now());
        match judged {
            Ok(identity) => Then::HandOver {
                identity,
                resume: handshake.resume.clone(),
                deflates: handshake.deflates(),
                user_agent: request.headers().get(USER_AGENT).and_then(user_agent),
            },
            Err(error) => {
                self.refusals.authentication.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "a token was refused");
                Then::Close(CloseReason::InvalidAuthentication)
            }
        }
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

fn user_agent(value: &HeaderValue) -> Option<Box<str>> {
    let text: String = String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_USER_AGENT_CHARS).collect();
    if text.is_empty() { None } else { Some(text.into()) }
}

fn upgrade_required(sentence: &str) -> Response<ReplyBody> {
    let mut response = reply::error(StatusCode::UPGRADE_REQUIRED, sentence);
    // RFC 9110 section 15.5.22: a 426 names the protocol, and `Connection` names the `Upgrade` field.
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}

fn bad_handshake(error: HandshakeError) -> Response<ReplyBody> {
    if error != HandshakeError::Version {
        return reply::error(StatusCode::BAD_REQUEST, &error.to_string());
    }
    let mut response = upgrade_required(&error.to_string());
    response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn draining() -> Response<ReplyBody> {
    reply::retry_later(StatusCode::SERVICE_UNAVAILABLE, "The server is stopping; try again later", RETRY_WHEN_DRAINING)
}

fn tls_required() -> Response<ReplyBody> {
    reply::error(
        StatusCode::FORBIDDEN,
        "WebSocket connections are accepted over TLS only: connect with wss://, name the proxy that ends TLS in \
         JASAWEB_RT_TRUSTED_PROXIES, or set JASAWEB_RT_REQUIRE_TLS=false",
    )
}

fn not_admitted(refusal: Refusal) -> Response<ReplyBody> {
    let (status, sentence) = match refusal {
        Refusal::Rate { .. } => (StatusCode::TOO_MANY_REQUESTS, "Too many new connections from this address"),
        Refusal::AddressFull => (StatusCode::TOO_MANY_REQUESTS, "Too many open connections from this address"),
        Refusal::ServerFull => (StatusCode::SERVICE_UNAVAILABLE, "The server has no room for another connection"),
    };
    reply::retry_later(status, sentence, refusal.retry_after())
}
