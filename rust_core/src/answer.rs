//! The answer to each request on a connection of the front door.

use std::{future::pending, net::IpAddr};

use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{CONNECTION, HeaderValue},
};
use tokio::sync::mpsc;

use crate::{
    admission::whole_seconds,
    door_stream::Withhold,
    forwarding::{self, Client},
    front_door::{FrontDoor, WEBSOCKET_PATH},
    http_connections::Place,
    http_requests::{Admitted, Held},
    proxy::Proxy,
    reply::{self, ReplyBody},
    request_body::BodyFault,
    request_guard::UpgradeGate,
    request_rules::{self, Objection},
    upgrade::{Declined, Upgrading},
};

/// What watches the server, which is answered to newcomers too while descriptors are short, and has places of its own beside
/// the requests that are under way.
const PROBE_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Seconds after which somebody who was turned away may try again.
const RETRY_WHEN_TURNED_AWAY: u64 = 5;

/// What becomes of a connection.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It may stay as long as it behaves; see [`Place`].
    LetIn(Place),
    /// It is turned away, for descriptors are short.
    NoRoom,
    /// It is turned away, for its address has all the connections that it may have.
    AddressFull,
}

impl Standing {
    /// Its place, if it was let in.
    pub(crate) fn place(&self) -> Option<&Place> {
        match self {
            Self::LetIn(place) => Some(place),
            Self::NoRoom | Self::AddressFull => None,
        }
    }

    /// Returns once the connection has to give way to another.
    pub(crate) async fn displaced(&self) {
        match self {
            Self::LetIn(place) => place.displaced().await,
            Self::NoRoom | Self::AddressFull => pending().await,
        }
    }
}

/// What belongs to one connection while HTTP is spoken on it.
pub(crate) struct Exchange<'a> {
    pub(crate) peer: IpAddr,
    pub(crate) encrypted: bool,
    pub(crate) standing: &'a Standing,
    pub(crate) upgrades: mpsc::Sender<Upgrading>,
    pub(crate) declined: Declined,
    pub(crate) withhold: Withhold,
    pub(crate) gate: UpgradeGate,
}

impl FrontDoor {
    /// The answer to one request. It is the connection's last where that was turned away, where most descriptors are in
    /// use, where the port was left to another server, and where what came behind the request cannot be told apart any more.
    pub(crate) async fn answer(&self, request: Request<Incoming>, exchange: &Exchange<'_>) -> Response<ReplyBody> {
        if let Some(place) = exchange.standing.place() {
            place.has_spoken();
        }
        exchange.declined.note(&request);
        let client = Client::of(exchange.peer, exchange.encrypted, request.headers(), &self.config.trusted_proxies);
        let keeps_to_https = client.https && !forwarding::is_localhost(&request, &client);
        let mut response = match exchange.standing {
            Standing::NoRoom if !is_probe(&request) => reply::retry_later(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server has no room for more connections; try again later",
                RETRY_WHEN_TURNED_AWAY,
            ),
            Standing::AddressFull => reply::retry_later(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many open connections from this address",
                RETRY_WHEN_TURNED_AWAY,
            ),
            Standing::LetIn(_) | Standing::NoRoom => self.answer_as_asked(request, &client, exchange).await,
        };
        if keeps_to_https {
            reply::keep_to_https(response.headers_mut());
        }
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        // In a crowd nobody keeps a descriptor beyond one request. Behind a successor everybody is to come to that one.
        let is_last = self.http.connections.is_crowded(self.admission.open()) || self.has_left_port();
        if !switches && (exchange.standing.place().is_none() | !exchange.gate.stays() | is_last) {
            let names_upgrade = response.status() == StatusCode::UPGRADE_REQUIRED;
            let options = if names_upgrade { "Upgrade, close" } else { "close" };
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static(options));
        }
        response
    }

    /// The answer to a request of `client`, who is not turned away.
    async fn answer_as_asked(
        &self,
        mut request: Request<Incoming>,
        client: &Client,
        exchange: &Exchange<'_>,
    ) -> Response<ReplyBody> {
        if let Err(Objection { status, sentence }) = request_rules::check(&request) {
            self.http.note_malformed();
            return reply::error(status, sentence);
        }
        if request.uri().path() == WEBSOCKET_PATH {
            return self.answer_websocket(&mut request, client, &exchange.upgrades, &exchange.withhold);
        }
        let probes = self.probes.as_ref().filter(|_| PROBE_PATHS.contains(&request.uri().path()));
        match probes.or(self.proxy.as_ref()) {
            Some(proxy) => self.forward(proxy, request, client).await,
            None => reply::error(StatusCode::NOT_FOUND, "Not found"),
        }
    }

    /// The app's answer, where the limits let the request through.
    async fn forward(&self, proxy: &Proxy, request: Request<Incoming>, client: &Client) -> Response<ReplyBody> {
        let admitted = if is_probe(&request) {
            self.http.requests.admit_probe(client.address).await
        } else {
            self.http.requests.admit(client.address, !request.body().is_end_stream()).await
        };
        let Admitted { under_way, receiving } = match admitted {
            Ok(admitted) => admitted,
            Err(held) => return held_back(held),
        };
        let response = proxy.forward(request, client, receiving).await;
        if let Some(fault) = response.extensions().get::<BodyFault>() {
            self.http.note_fault(*fault);
        }
        response.map(|body| body.holding(under_way))
    }
}

/// One with content is none, for that may be long in coming.
fn is_probe(request: &Request<Incoming>) -> bool {
    request.body().is_end_stream() && PROBE_PATHS.contains(&request.uri().path())
}

fn held_back(held: Held) -> Response<ReplyBody> {
    let (status, sentence, seconds) = match held {
        Held::Rate { wait } => {
            (StatusCode::TOO_MANY_REQUESTS, "Too many requests from this address", whole_seconds(wait))
        }
        Held::AddressFull => (StatusCode::TOO_MANY_REQUESTS, "Too many requests under way from this address", 1),
        Held::Full => (StatusCode::SERVICE_UNAVAILABLE, "Too many requests are under way; try again in a moment", 1),
    };
    reply::retry_later(status, sentence, seconds)
}
