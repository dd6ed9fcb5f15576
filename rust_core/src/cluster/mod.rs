//! Many nodes as one: what goes between them by NATS.
//!
//! NATS is at-most-once, and nothing here makes it more: the database is the log. This module carries frames fast, knows
//! when something may have been lost, and says so ([`Event::Cluster`]); who is told compares with the database.
//!
//! - [`wire`]: messages as bytes; [`subject`]: where they go;
//! - [`outbox`]: what is to leave, bounded; any thread puts in;
//! - [`link`]: the task that sends, subscribes, probes and mends; [`signals`]: what it hears of the connection;
//!   [`interest`]: whom the node hears; [`echoes`]: fences and probes; [`peers`]: which other nodes are heard;
//! - [`inlet`]: the subscriptions, read in the order of each sender; [`receiver`]: from there to the hub.
//!
//! Local delivery never waits for any of it. What is for other nodes is dropped and counted while there is no link.

mod client;
mod counters;
mod echoes;
mod inlet;
mod interest;
mod link;
mod options;
mod outbox;
mod peers;
mod receiver;
mod signals;
mod subject;
mod wire;

use std::{
    cell::Cell,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        mpsc::sync_channel,
    },
    time::Duration,
};

use async_nats::Subject;
use parking_lot::Mutex;
use tokio::{
    runtime::Runtime,
    task::{JoinHandle, unconstrained},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub use client::ClusterClient;
pub use counters::ClusterStats;
pub use options::ClusterOptions;
pub(crate) use outbox::OUTBOX_BYTES;

use self::{
    counters::Counters,
    echoes::Echoes,
    inlet::Inlet,
    link::Link,
    outbox::{Item, Outbox},
    peers::Peers,
    receiver::Receiver,
    signals::Signals,
    wire::Body,
};
use crate::{
    command::{Audience, DurableFrame, ReadFrame},
    error::Error,
    events::{Event, EventQueue},
    frame::Frame,
    hub::Hub,
    index::Watch,
    log,
};

/// Reasons that are told together, at most.
const MOST_REASONS: usize = 8;

/// A cheap, shared handle, through which other nodes are reached. Every call blocks on nothing, but for a fence.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Shared>);

/// What a call sends to other nodes, made before this node's connections get theirs.
#[derive(Debug)]
pub(crate) struct Outgoing(Vec<Item>);

/// What callers and tasks share.
#[derive(Debug)]
struct Shared {
    node: u64,
    events: Arc<EventQueue>,
    outbox: Outbox,
    inlet: Inlet,
    echoes: Echoes,
    peers: Peers,
    signals: Signals,
    counters: Counters,
    /// Whether messages can leave.
    linked: AtomicBool,
    /// Whether the node hears its own echo.
    echoing: AtomicBool,
    subscriptions: AtomicUsize,
    /// What is to be told with the next tick.
    trouble: Mutex<Vec<String>>,
}

/// How long the thread may take to end. Only the lookup of a name takes longer, and nobody waits for its answer.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(100);

/// The tasks of a cluster, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Tasks {
    runtime: Runtime,
    shared: Arc<Shared>,
    stop: CancellationToken,
    link: JoinHandle<()>,
    receiver: JoinHandle<()>,
}

impl Cluster {
    /// A node with this id, 16 hexadecimal digits, that reaches nobody yet.
    pub(crate) fn new(node_id: &str, events: Arc<EventQueue>) -> Result<Self, Error> {
        let node = parse_node(node_id).ok_or_else(|| Error::Config {
            name: "node_id",
            problem: "must be 16 hexadecimal digits in lower case".to_owned(),
        })?;
        Ok(Self(Arc::new(Shared {
            node,
            events,
            outbox: Outbox::default(),
            inlet: Inlet::default(),
            echoes: Echoes::default(),
            peers: Peers::default(),
            signals: Signals::default(),
            counters: Counters::default(),
            linked: AtomicBool::new(false),
            echoing: AtomicBool::new(false),
            subscriptions: AtomicUsize::new(0),
            trouble: Mutex::default(),
        })))
    }

    /// Whom the index is to tell of users.
    pub(crate) fn watch(&self) -> Arc<dyn Watch> {
        Arc::clone(&self.0) as Arc<dyn Watch>
    }

    /// Sets out to reach NATS; what comes goes to `hub`, to be deflated from `compress_min_bytes` on.
    pub(crate) fn start(
        &self,
        options: ClusterOptions,
        hub: Option<Hub>,
        compress_min_bytes: usize,
    ) -> Result<Tasks, Error> {
        let dispatch = log::dispatch(&self.0.events);
        // Apart from the front door, whose crowds would hold up what comes from other nodes.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rt-cluster")
            .on_thread_start(move || log::enter_thread(&dispatch))
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let stop = CancellationToken::new();
        let (shared, own_stop, own_hub) = (Arc::clone(&self.0), stop.clone(), hub.clone());
        let link = runtime.spawn(async move {
            match Link::open(shared, own_hub, &options).await {
                Ok(link) => link.run(own_stop).await,
                Err(error) => tracing::error!("NATS cannot be used: {error}"),
            }
        });
        let receiver = Receiver { shared: Arc::clone(&self.0), hub, compress_min_bytes, complained: Cell::new(false) };
        // It has to see every channel empty, which a task that has used its share of the time is not shown.
        let receiver = runtime.spawn(unconstrained(receiver.run()));
        Ok(Tasks { runtime, shared: Arc::clone(&self.0), stop, link, receiver })
    }

    /// Whether there is room for a call's messages; counts where there is not.
    pub(crate) fn check_room(&self) -> Result<(), Error> {
        if self.0.outbox.is_full() {
            self.0.counters.refused.add(1);
            return Err(Error::Overloaded { limit: OUTBOX_BYTES });
        }
        Ok(())
    }

    /// Sends; false where there was nothing to send, or nobody to reach.
    pub(crate) fn put(&self, outgoing: Outgoing) -> bool {
        let is_some = !outgoing.0.is_empty();
        self.0.outbox.put(outgoing.0);
        is_some
    }

    /// A frame for each of these users.
    pub(crate) fn to_users<'a>(&self, items: impl IntoIterator<Item = (&'a str, &'a Frame)>) -> Outgoing {
        self.prepare(items.into_iter().filter_map(|(user_id, frame)| {
            let text = frame.message()?;
            Some((subject::user(user_id), Body::Direct { user_id, text }))
        }))
    }

    /// A frame for an audience: one message, however many nodes there are.
    pub(crate) fn to_audience(&self, audience: Audience, frame: &Frame) -> Outgoing {
        let subject = Subject::from_static(subject::audience(audience));
        self.prepare(frame.message().map(|text| (subject, Body::Audience { audience, text })))
    }

    /// Durable frames.
    pub(crate) fn to_durable(&self, items: &[DurableFrame<&str>]) -> Outgoing {
        self.prepare(items.iter().filter_map(|DurableFrame { user_id, seq, rev, frame }| {
            let text = frame.message()?;
            Some((subject::user(user_id), Body::Durable { user_id, seq: *seq, rev: *rev, text }))
        }))
    }

    /// Changed unread counts.
    pub(crate) fn to_read(&self, items: &[ReadFrame<&str>]) -> Outgoing {
        self.prepare(items.iter().filter_map(|ReadFrame { user_id, rev, frame }| {
            let text = frame.message()?;
            Some((subject::user(user_id), Body::Read { user_id, rev: *rev, text }))
        }))
    }

    /// The heads of users' sequences.
    pub(crate) fn to_heads(&self, items: &[(&str, u64)]) -> Outgoing {
        self.prepare(items.iter().map(|&(user_id, head)| (subject::user(user_id), Body::Head { user_id, head })))
    }

    /// A frame for one connection of another node; nothing where its id names none.
    pub(crate) fn to_connection(&self, connection_id: &str, frame: &Frame) -> Outgoing {
        let message = self.other_node(connection_id).zip(frame.message());
        self.prepare(message.map(|(node, text)| (subject::node(node), Body::Send { connection_id, text })))
    }

    /// Closes one connection of another node; nothing where its id names none.
    pub(crate) fn disconnect(&self, connection_id: &str, code: u16) -> Outgoing {
        let body = Body::Close { connection_id, code };
        self.prepare(self.other_node(connection_id).map(|node| (subject::node(node), body)))
    }

    /// For one of the programs that listen to events.
    pub(crate) fn tell(&self, data: &[u8]) -> Outgoing {
        self.prepare([(Subject::from_static(subject::EVENTS), Body::Event { data })])
    }

    /// Hears what nodes tell programs, from now on.
    pub(crate) fn listen(&self) {
        self.0.outbox.put([Item::Listen]);
    }

    /// Waits until the NATS server has taken everything that was sent, and every subscription that was asked for, before
    /// this call; false where there is no link, it is lost meanwhile, or `timeout` is over.
    #[must_use]
    pub fn fence(&self, timeout: Duration) -> bool {
        if !self.is_linked() {
            return false;
        }
        let (asker, answer) = sync_channel(1);
        self.0.outbox.put([Item::Fence(asker)]);
        answer.recv_timeout(timeout).unwrap_or(false)
    }

    /// How things stand.
    #[must_use]
    pub fn stats(&self) -> ClusterStats {
        ClusterStats {
            connected: self.is_linked() && self.0.echoing.load(Relaxed),
            peers: self.0.peers.count(),
            subscriptions: self.0.subscriptions.load(Relaxed),
            silent: self.0.echoes.silent(),
            outbox_bytes: self.0.outbox.bytes(),
            ..self.0.counters.stats()
        }
    }

    /// Whether messages can leave.
    fn is_linked(&self) -> bool {
        self.0.linked.load(Relaxed)
    }

    /// Why there is none, where that is known.
    fn last_error(&self) -> Option<String> {
        self.0.signals.last_error()
    }

    /// The messages as they leave; none, and they are counted, where there is no link.
    fn prepare<'a>(&self, messages: impl IntoIterator<Item = (Subject, Body<'a>)>) -> Outgoing {
        let messages = messages.into_iter();
        if !self.is_linked() {
            self.0.counters.dropped_unlinked.add(messages.count() as u64);
            return Outgoing(Vec::new());
        }
        Outgoing(messages.map(|(subject, body)| Item::Publish(subject, body.encode(self.0.node))).collect())
    }

    /// The node of a connection, where it is another one.
    fn other_node(&self, connection_id: &str) -> Option<u64> {
        let (node, number) = connection_id.rsplit_once('-')?;
        u64::from_str_radix(number, 16).ok()?;
        parse_node(node).filter(|node| *node != self.0.node)
    }
}

impl Shared {
    /// Tells how things stand, at once; where the queue of events is full, with a later tick.
    fn report(&self, reason: &str) {
        if !self.offer(reason) {
            self.trouble(reason);
        }
    }

    fn offer(&self, reason: &str) -> bool {
        let connected = self.linked.load(Relaxed) && self.echoing.load(Relaxed);
        self.events.offer(Event::Cluster { connected, reason: reason.to_owned() })
    }

    /// Something may be lost. It is told with the next tick, however often it comes.
    fn trouble(&self, reason: &str) {
        let mut trouble = self.trouble.lock();
        if trouble.len() < MOST_REASONS && !trouble.iter().any(|told| told == reason) {
            trouble.push(reason.to_owned());
        }
    }

    fn tell_trouble(&self) {
        let trouble = mem::take(&mut *self.trouble.lock());
        if !trouble.is_empty() && !self.offer(&trouble.join("; ")) {
            for reason in &trouble {
                self.trouble(reason);
            }
        }
    }
}

impl Watch for Shared {
    fn changed(&self, user_id: &Arc<str>) {
        self.outbox.put([Item::Interest(Arc::clone(user_id))]);
    }
}

impl Tasks {
    /// Sends what waits, within `left`, and ends.
    pub(crate) fn stop(mut self, left: Duration) {
        self.stop.cancel();
        if self.runtime.block_on(async { timeout(left, &mut self.link).await }).is_err() {
            tracing::warn!("what waited for NATS was not sent in the time of the stop");
            self.link.abort();
            self.shared.linked.store(false, Relaxed);
            self.shared.echoes.lose();
        }
        self.receiver.abort();
        self.runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    }
}

fn parse_node(node_id: &str) -> Option<u64> {
    let is_hex = node_id.len() == 16 && node_id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u64::from_str_radix(node_id, 16).ok() } else { None }
}
