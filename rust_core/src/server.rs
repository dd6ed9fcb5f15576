//! Owns the threads: start, drain, stop.
//!
//! A stop goes in this order: the front door takes no more WebSockets, and where a successor listens on the same port, it
//! leaves the port to that one; the sessions are closed with 1001 and a time to come back, one after the other, and those
//! that are still open go on as ever; when they have gone, or the time is up, the port is closed and the shards end; then
//! what waits for other nodes is sent; and last the front door ends, whose open HTTP exchanges had the same time to finish.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{runtime::Runtime, sync::mpsc::unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::Bus,
    clock::Clock,
    cluster::{self, Cluster},
    config::{self, Config},
    error::Error,
    events::EventQueue,
    front_door::{self, FrontDoor, HttpRefusals, Refusals},
    hub::{Hub, ShardHandle},
    index::Index,
    listeners::OwnListener,
    log, shard,
    tls::Tls,
    token::TokenVerifier,
};

/// How often a stop looks whether the last connection has gone.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// How often it looks for a successor on its port.
const SUCCESSOR_POLL: Duration = Duration::from_millis(250);

/// What the front door's threads add to their niceness.
#[cfg(target_os = "linux")]
const FRONT_DOOR_NICENESS: i32 = 5;

/// How long the front door's runtime may take to end after the drain and [`LAST_WORDS`].
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(650);

/// The least time that what waits for other nodes has, of the second that a stop may take beyond the drain.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// A running server. It must be stopped: dropping it stops it without a drain.
#[derive(Debug)]
pub struct Server {
    hub: Hub,
    bus: Bus,
    address: SocketAddr,
    owner: u32,
    front_door: Arc<FrontDoor>,
    listener: Option<OwnListener>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    shards: Vec<JoinHandle<()>>,
    runtime: Runtime,
    serving: tokio::task::JoinHandle<Result<(), Error>>,
    cluster: Option<cluster::Tasks>,
    /// Ends the front door's accepting.
    stop: CancellationToken,
    /// Cuts the HTTP exchanges that are still open.
    cut: CancellationToken,
}

/// Has the calling thread give way to the shards where there are more who want a core than there are cores: whoever is in
/// comes before whoever knocks. The thread keeps about a quarter of a core that it shares with a busy shard
/// (`sched_prio_to_weight` of the kernel: 335 against 1024).
fn give_way() {
    // Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(FRONT_DOOR_NICENESS) {
        tracing::debug!("the front door has the same priority as the shards: {error}");
    }
}

/// A new id for a node: 16 hexadecimal digits, all of them random. Asked of the system each time, for a generator in the
/// process would go on alike in each of its forks. [`Error::Start`] where the system has none.
pub fn new_node_id() -> Result<Arc<str>, Error> {
    let number = getrandom::u64().map_err(|error| Error::Start(error.into()))?;
    Ok(format!("{number:016x}").into())
}

impl Server {
    /// Checks the configuration, starts the shards and listens. Events go to `events` once somebody listens to it.
    pub fn start(config: Config, node_id: Arc<str>, events: &Arc<EventQueue>) -> Result<Self, Error> {
        config.validate()?;
        let tls = Tls::load(&config)?;
        let listener = front_door::bind(&config)?;
        let address = listener.local_addr().map_err(Error::Start)?;
        let own_listener = OwnListener::of(&listener);
        let config = Arc::new(config);
        let cluster = config.cluster.as_ref().map(|_| Cluster::new(&node_id, Arc::clone(events))).transpose()?;
        let index = Arc::new(Index::new(cluster.as_ref().map(Cluster::watch)));
        let dispatch = log::dispatch(events);

        let mut handles = Vec::with_capacity(config.workers);
        let mut shards = Vec::with_capacity(config.workers);
        for number in 0..config.workers {
            let (commands, receiver) = unbounded_channel();
            let handle = ShardHandle { commands, backlog: Arc::default(), counters: Arc::default() };
            let parts = shard::Parts {
                config: Arc::clone(&config),
                events: Arc::clone(events),
                counters: Arc::clone(&handle.counters),
                backlog: Arc::clone(&handle.backlog),
                clock: Clock::start(),
                index: Arc::clone(&index),
                node_id: Arc::clone(&node_id),
                commands: receiver,
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
            let dispatch = dispatch.clone();
            let thread = std::thread::Builder::new().name(format!("rt-shard-{number}")).spawn(move || {
                log::enter_thread(&dispatch);
                shard::run(&runtime, parts);
            });
            handles.push(handle);
            shards.push(thread.map_err(Error::Start)?);
        }
        let hub = Hub::new(node_id, index, handles);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.workers)
            .thread_name("rt-front-door")
            .on_thread_start(move || {
                log::enter_thread(&dispatch);
                give_way();
            })
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let tasks = cluster
            .as_ref()
            .zip(config.cluster.clone())
            .map(|(cluster, options)| cluster.start(options, Some(hub.clone()), config.compress_min_bytes))
            .transpose()?;
        let bus = Bus::new(hub.clone(), cluster);
        let joining = hub.clone();
        let front_door = Arc::new(FrontDoor::new(Arc::clone(&config), tls, move |admitted| joining.join(admitted)));
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let serving = runtime.spawn(Arc::clone(&front_door).serve(listener, stop.clone(), cut.clone()));
        let running = Mutex::new(Some(Running { shards, runtime, serving, cluster: tasks, stop, cut }));
        Ok(Self { hub, bus, address, owner: std::process::id(), front_door, listener: own_listener, running })
    }

    /// The handle to publish through, to this node and all others. Refused as [`Self::hub`] is.
    pub fn bus(&self) -> Result<&Bus, Error> {
        self.hub().map(|_| &self.bus)
    }

    /// The handle to this node's connections. Refused in a fork of the process that started the server: it has no
    /// threads.
    pub fn hub(&self) -> Result<&Hub, Error> {
        if std::process::id() == self.owner { Ok(&self.hub) } else { Err(Error::Forked { owner: self.owner }) }
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts tokens signed with `current`, or with `previous`, from now on. [`Error::Config`], and nothing is changed,
    /// where one is shorter than 32 bytes.
    pub fn set_token_secrets(&self, current: &[u8], previous: Option<&[u8]>) -> Result<(), Error> {
        config::check_secrets(current, previous)?;
        self.front_door.set_verifier(TokenVerifier::new(current, previous));
        Ok(())
    }

    /// While true, new WebSocket connections are refused with 503.
    pub fn set_draining(&self, draining: bool) {
        self.front_door.set_draining(draining);
    }

    /// Closes the port where another server listens on it too, so that all newcomers go there from now on; true where that is
    /// so. What is open stays. Only Linux tells.
    pub fn leave_port_to_successor(&self) -> bool {
        if !self.front_door.has_left_port() && self.listener.as_ref().is_some_and(OwnListener::is_shared) {
            self.front_door.leave_port();
        }
        self.front_door.has_left_port()
    }

    /// WebSocket requests that were refused since the start, by reason.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.front_door.refusals()
    }

    /// Whether newcomers are let in, as far as file descriptors go.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.front_door.is_accepting()
    }

    /// Connections that were turned away since the start, because descriptors were short.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.front_door.turned_away()
    }

    /// What plain HTTP was refused since the start, by reason.
    #[must_use]
    pub fn http_refusals(&self) -> HttpRefusals {
        self.front_door.http_refusals()
    }

    /// Open connections that are no WebSockets, or not yet.
    #[must_use]
    pub fn http_connections(&self) -> usize {
        self.front_door.http_connections()
    }

    /// Closes every connection with 1001, spread over at most eight tenths of `drain`, and ends all threads; returns when that
    /// is done, at the latest a second after `drain`. A second call returns at once.
    pub fn stop(&self, drain: Duration) {
        let Some(running) = self.running.lock().take() else { return };
        if std::process::id() != self.owner {
            // The threads are the parent's; there is nothing here to stop.
            std::mem::forget(running);
            return;
        }
        let deadline = Instant::now() + drain;
        self.front_door.set_draining(true);
        self.hub.drain(drain);
        self.wait_drained(deadline);
        running.stop.cancel();
        self.hub.stop();
        for shard in running.shards {
            if shard.join().is_err() {
                tracing::error!("a shard's thread ended by a panic");
            }
        }
        if let Some(cluster) = running.cluster {
            let left = deadline.saturating_duration_since(Instant::now()).max(LAST_WORDS);
            cluster.stop(left);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let served = running.runtime.block_on(async {
            let mut serving = running.serving;
            if let Ok(served) = tokio::time::timeout(left, &mut serving).await {
                return served;
            }
            running.cut.cancel();
            serving.await
        });
        if !matches!(served, Ok(Ok(()))) {
            tracing::error!("the front door ended early");
        }
        running.runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    }
}

impl Server {
    /// Waits until the last session has gone or the time is up, and has newcomers go to a successor as soon as there is one.
    fn wait_drained(&self, deadline: Instant) {
        let mut look_at = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look_at {
                look_at = now + SUCCESSOR_POLL;
                self.leave_port_to_successor();
            }
            if self.hub.total() == 0 || now >= deadline {
                return;
            }
            std::thread::sleep(DRAIN_POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}
