//! The one public port: it reads HTTP heads, lets WebSocket connections in, and has everything else forwarded to the app.
//!
//! What it owns: accepted sockets, until they are handed over or closed. What it refuses: everything about `/ws` that can
//! be refused before a session exists. Cheap refusals come first and are HTTP answers; a token that does not hold is
//! answered after the upgrade, by a Close frame, since a browser cannot read the status of a refused handshake.
//!
//! Stopping takes two signals: at the first the port is closed, idle connections too, and exchanges that are under way
//! may finish; at the second whatever is left is cut. Before both, the port can be left to a successor that has it too.
//! Whoever had come before the port is closed is let in, and heard.

use std::{
    convert::Infallible,
    fmt,
    future::pending,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConnection;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Admission, Slot},
    answer::{Exchange, Standing},
    app_address::AppAddress,
    config::{Config, HANDSHAKE_TIMEOUT, MAX_HEAD_BYTES},
    door_socket::DoorSocket,
    door_stream::{DoorStream, Withhold},
    error::Error,
    http_limits::{HttpLimits, NotAdmitted},
    intake::Intake,
    listener::{Acceptor, Newcomer},
    locks::RwLock,
    proxy::{HEAD_TIMEOUT, Proxy},
    request_guard::{RequestGuard, UpgradeGate},
    tls::Tls,
    token::{Identity, TokenVerifier},
    turning_away::TurningAway,
    upgrade::{Declined, RefusalCounters},
};
pub use crate::{handshake::Resume, http_limits::HttpRefusals, listener::bind, upgrade::Refusals};

/// Path of the WebSocket endpoint.
pub const WEBSOCKET_PATH: &str = "/ws";

/// Bytes that hyper may buffer of one connection, in each direction.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// Time that a newcomer has to say something once the server stops: it may have come a moment before.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(200);

/// A WebSocket that was let in: its first frame is not yet read, and the answer to its handshake not yet sent.
#[derive(Debug)]
pub struct Admitted {
    /// The bare socket, non-blocking, `TCP_NODELAY` set, bound to no runtime.
    pub socket: std::net::TcpStream,
    /// The state of TLS on it, where it is encrypted; perhaps with bytes of the peer in it that nobody has read yet.
    pub tls: Option<Box<ServerConnection>>,
    /// What has to be sent first: the 101 that the client waits for. It goes well with the first frame.
    pub greeting: Bytes,
    /// What the client sent right behind its request: the begin of the WebSocket stream.
    pub read_ahead: Bytes,
    /// Whom the token stands for.
    pub identity: Identity,
    /// From where the client wants to go on.
    pub resume: Resume,
    /// It negotiated permessage-deflate, by which every message of its own may be compressed.
    pub deflates: bool,
    /// The client's true address, as far as trusted proxies tell.
    pub client_address: IpAddr,
    /// `User-Agent`, at most 512 characters of it.
    pub user_agent: Option<Box<str>>,
    /// The connection's place under the limits; to be kept until the socket is closed.
    pub slot: Slot,
}

/// The front door. Share it by `Arc`: [`serve`](Self::serve) runs it, the rest may be called from any thread.
pub struct FrontDoor {
    pub(crate) config: Arc<Config>,
    /// Replaced when the keys of tokens are; read once for each handshake.
    pub(crate) verifier: RwLock<TokenVerifier>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) refusals: RefusalCounters,
    pub(crate) http: HttpLimits,
    pub(crate) proxy: Option<Proxy>,
    /// Where probes go instead, if they do.
    pub(crate) probes: Option<Proxy>,
    tls: Option<Arc<Tls>>,
    intake: Arc<Intake>,
    hand_over: Box<dyn Fn(Admitted) + Send + Sync>,
    draining: AtomicBool,
    /// The port is left to a successor; and how that is told. Each request looks at it, which takes no lock.
    has_left: AtomicBool,
    leaving: CancellationToken,
}

impl fmt::Debug for FrontDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontDoor").field("admission", &self.admission).finish_non_exhaustive()
    }
}

impl FrontDoor {
    /// A front door with the limits and keys of `config`, which must have passed [`Config::validate`]; with `tls`, which is
    /// what [`Tls::load`] made of it, it speaks nothing else.
    ///
    /// `hand_over` is called once for each WebSocket that was let in, on the runtime that serves, and must not block.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        tls: Option<Arc<Tls>>,
        hand_over: impl Fn(Admitted) + Send + Sync + 'static,
    ) -> Self {
        let proxy = |address: &Option<AppAddress>| address.clone().map(|address| Proxy::new(address, HEAD_TIMEOUT));
        Self {
            tls,
            verifier: RwLock::new(TokenVerifier::new(&config.token_secret, config.token_secret_previous.as_deref())),
            admission: Arc::new(Admission::new(&config)),
            refusals: RefusalCounters::default(),
            intake: Arc::default(),
            http: HttpLimits::new(&config),
            proxy: proxy(&config.app),
            probes: proxy(&config.probe_app),
            hand_over: Box::new(hand_over),
            draining: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            leaving: CancellationToken::new(),
            config,
        }
    }

    /// Checks tokens by `verifier` from now on. Connections that are open stay.
    pub fn set_verifier(&self, verifier: TokenVerifier) {
        *self.verifier.write() = verifier;
    }

    /// While true, new WebSocket connections are refused with 503; HTTP goes on.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// Whether new WebSocket connections are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Closes the port, for another server listens on it too and is to have all newcomers from now on. HTTP connections that
    /// are open end with their next answer. For good; sockets that were handed over are not touched.
    pub fn leave_port(&self) {
        self.has_left.store(true, Ordering::Relaxed);
        self.leaving.cancel();
    }

    /// Whether the port was left to another server.
    pub(crate) fn has_left_port(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// WebSocket handshakes that were refused since the start, by reason.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.refusals.snapshot(&self.admission)
    }

    /// What plain HTTP was refused since the start, by reason.
    #[must_use]
    pub fn http_refusals(&self) -> HttpRefusals {
        self.http.refusals()
    }

    /// Open connections that are no WebSockets, or not yet.
    #[must_use]
    pub fn http_connections(&self) -> usize {
        self.http.connections.open()
    }

    /// Whether newcomers are let in as far as file descriptors go; while not, all but probes are answered by 503.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.intake.is_open()
    }

    /// Connections that were turned away since the start, because descriptors were short.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.intake.turned_away()
    }

    /// Accepts connections until `stop`, then closes the port and returns when all that were under way are done, at the
    /// latest at `cut`. The caller cancels `cut` when its deadline has passed.
    ///
    /// Must run on a tokio runtime with I/O and time. [`Error::Start`] where the listener cannot be registered with it.
    pub async fn serve(
        self: Arc<Self>,
        listener: std::net::TcpListener,
        stop: CancellationToken,
        cut: CancellationToken,
    ) -> Result<(), Error> {
        let mut connections = JoinSet::new();
        if let Some(tls) = &self.tls {
            connections.spawn(Arc::clone(tls).watch(stop.clone()));
        }
        let acceptor = Acceptor::new(listener, Arc::clone(&self.intake)).map_err(Error::Start)?;
        self.accept_until(&stop, acceptor, &mut connections).await;
        let finished = async {
            while let Some(ended) = connections.join_next().await {
                note_panic(ended);
            }
        };
        tokio::select! {
            () = finished => {}
            () = cut.cancelled() => {}
        }
        connections.shutdown().await;
        Ok(())
    }

    /// Returns at `stop`, with the port closed.
    async fn accept_until(
        self: &Arc<Self>,
        stop: &CancellationToken,
        acceptor: Acceptor,
        connections: &mut JoinSet<()>,
    ) {
        let mut forget = tokio::time::interval(FORGET_INTERVAL);
        let turning_away = TurningAway::new();
        let mut acceptor = Some(acceptor);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.leaving.cancelled(), if acceptor.is_some() => {
                    self.close_port(acceptor.take(), &turning_away, stop, connections);
                }
                newcomer = next_of(&mut acceptor) => self.receive(newcomer, &turning_away, stop, connections),
                Some(ended) = connections.join_next() => note_panic(ended),
                _ = forget.tick() => {
                    self.admission.forget_quiet_addresses();
                    self.http.forget_quiet_addresses();
                }
            }
        }
        // A request that is still being read comes too late for a WebSocket.
        self.set_draining(true);
        self.close_port(acceptor, &turning_away, stop, connections);
    }

    fn close_port(
        self: &Arc<Self>,
        acceptor: Option<Acceptor>,
        turning_away: &TurningAway,
        stop: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        for newcomer in acceptor.map(Acceptor::close).unwrap_or_default() {
            self.receive(newcomer, turning_away, stop, connections);
        }
    }

    /// Finds out what becomes of a connection, and lets it.
    fn receive(
        self: &Arc<Self>,
        newcomer: Newcomer,
        turning_away: &TurningAway,
        stop: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        let Newcomer { stream, peer, is_too_many } = newcomer;
        let place = self.http.admit(peer.ip(), self.admission.open());
        let standing = match place {
            Err(NotAdmitted::TooFast) => return,
            _ if is_too_many => Standing::NoRoom,
            Ok(place) => Standing::LetIn(place),
            Err(NotAdmitted::AddressFull) => Standing::AddressFull,
        };
        if matches!(standing, Standing::LetIn(_)) {
            connections.spawn(Arc::clone(self).serve_connection(stream, peer, standing, stop.clone()));
        } else if let Some(place) = turning_away.place(&standing) {
            connections.spawn(Arc::clone(self).turn_away(stream, peer, standing, stop.clone(), place));
        }
    }

    /// One connection that was let in, from its begin to its end or its hand-over, unless it has to give way to another.
    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        standing: Standing,
        stop: CancellationToken,
    ) {
        tokio::select! {
            () = self.serve_undisturbed(stream, peer, &standing, stop) => {}
            () = standing.displaced() => {}
        }
    }

    /// What HTTP needs, 20 KiB with its buffers, is there only once the peer has said something: then most of them are
    /// served in one go, and of very many that come at once few need it at the same time.
    async fn serve_undisturbed(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        standing: &Standing,
        stop: CancellationToken,
    ) {
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let too_late = async {
            stop.cancelled().await;
            sleep(LAST_WORDS_TIMEOUT).await;
        };
        let secured = async {
            match timeout_at(deadline, has_spoken(&stream)).await {
                Ok(true) => self.secure(stream, deadline).await,
                _ => None,
            }
        };
        let socket = tokio::select! {
            socket = secured => socket,
            () = too_late => None,
        };
        if let Some(socket) = socket {
            Box::pin(self.converse(socket, peer, standing, stop)).await;
        }
    }

    /// The socket as HTTP goes over it: with TLS where there is a certificate; `None` where the handshake failed or was not
    /// done at `deadline`.
    pub(crate) async fn secure(&self, stream: TcpStream, deadline: Instant) -> Option<DoorSocket> {
        match &self.tls {
            None => Some(DoorSocket::Plain(stream)),
            Some(tls) => Box::pin(tls.accept(stream, deadline)).await,
        }
    }

    /// HTTP on a connection, to its end or its hand-over.
    pub(crate) async fn converse(
        &self,
        socket: DoorSocket,
        peer: SocketAddr,
        standing: &Standing,
        stop: CancellationToken,
    ) {
        let (upgrades, mut pending) = mpsc::channel(1);
        let (withhold, gate) = (Withhold::default(), UpgradeGate::default());
        let encrypted = socket.is_encrypted();
        let stream = DoorStream::new(socket, withhold.clone(), RequestGuard::new(gate.clone()));
        let declined = Declined::default();
        let exchange = Exchange { peer: peer.ip(), encrypted, standing, upgrades, declined, withhold, gate };
        let service = service_fn(|request| {
            let exchange = &exchange;
            async move { Ok::<_, Infallible>(self.answer(request, exchange).await) }
        });
        let mut talk = pin!(http1_server().serve_connection(TokioIo::new(stream), service).with_upgrades());
        let mut stopping = false;
        let upgrading = loop {
            tokio::select! {
                // Who had spoken before the stop is heard: what was never begun would be ended without an answer.
                biased;
                outcome = talk.as_mut() => {
                    self.note_end(outcome);
                    break pending.try_recv().ok();
                }
                upgrading = pending.recv() => {
                    // The 101 is on its way; a peer that does not take it must not keep its slot.
                    if let Ok(outcome) = timeout(HANDSHAKE_TIMEOUT, talk.as_mut()).await {
                        self.note_end(outcome);
                        break upgrading;
                    }
                    return;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    talk.as_mut().graceful_shutdown();
                }
            }
        };
        match upgrading {
            Some(upgrading) => upgrading.finish(&self.hand_over).await,
            None => exchange.declined.end().await,
        }
    }

    fn note_end(&self, outcome: hyper::Result<()>) {
        if let Err(error) = outcome {
            self.http.note_end(&error);
            tracing::debug!(%error, "an HTTP connection ended early");
        }
    }
}

/// Whether the peer of a new connection says something, once it does or ends. That a socket is readable means nothing yet:
/// the runtime takes each new one for that.
pub(crate) async fn has_spoken(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]).await, Ok(1..))
}

/// The next newcomer; none ever comes once the port is closed.
async fn next_of(acceptor: &mut Option<Acceptor>) -> Newcomer {
    match acceptor {
        Some(acceptor) => acceptor.accept().await,
        None => pending().await,
    }
}

fn http1_server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .half_close(true);
    server
}

fn note_panic(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a connection of the front door panicked");
    }
}
