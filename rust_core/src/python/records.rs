//! What the core says of itself when it is asked, as frozen Python classes.

use std::time::Duration;

use pyo3::{prelude::*, types::PyTuple};

use crate::{
    cluster,
    events::EventQueue,
    front_door::{self, Refusals},
    metrics::{BUCKET_BOUNDS, Times, Totals},
    progress,
    server::Server,
    session,
};

/// What the core has counted since `start`, and how things stand.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct Stats {
    connections: usize,
    users: usize,
    backlog_bytes: usize,
    accepting: bool,
    connections_opened: u64,
    connections_closed: u64,
    connections_turned_away: u64,
    handshakes_refused: u64,
    refusals: Py<HandshakeRefusals>,
    http_connections: usize,
    http_refused: u64,
    http_refusals: Py<HttpRefusals>,
    frames_published: u64,
    frames_encoded: u64,
    deliveries: u64,
    writes: u64,
    arrays: u64,
    frames_written: u64,
    coalesced_writes: u64,
    coalesced_frames: u64,
    bytes_written: u64,
    compressions: u64,
    frames_received: u64,
    slow_consumers: u64,
    drops: Py<Drops>,
    panics: u64,
    queue_high_water_bytes: u64,
    backlog_high_water_bytes: u64,
    events_high_water: usize,
    publish_to_write: Py<Histogram>,
    cluster: Option<Py<ClusterStats>>,
}

impl Stats {
    /// As of now. Nothing waits for a shard.
    pub(super) fn of(py: Python<'_>, server: &Server, events: &EventQueue) -> PyResult<Self> {
        let hub = server.hub()?;
        let (totals, refusals, http_refusals) = (hub.totals(), server.refusals(), server.http_refusals());
        Ok(Self {
            connections: hub.total(),
            users: hub.users(),
            backlog_bytes: hub.backlog_bytes(),
            accepting: server.is_accepting(),
            connections_opened: totals.connections_opened,
            connections_closed: totals.connections_closed,
            connections_turned_away: server.turned_away(),
            handshakes_refused: refusals.total(),
            refusals: Py::new(py, HandshakeRefusals::from(refusals))?,
            http_connections: server.http_connections(),
            http_refused: http_refusals.total(),
            http_refusals: Py::new(py, HttpRefusals::from(http_refusals))?,
            frames_published: hub.frames_published(),
            frames_encoded: totals.frames_encoded,
            deliveries: totals.deliveries,
            writes: totals.writes,
            arrays: totals.arrays,
            frames_written: totals.frames_written,
            coalesced_writes: totals.coalesced_writes,
            coalesced_frames: totals.coalesced_frames,
            bytes_written: totals.bytes_written,
            compressions: totals.compressions,
            frames_received: totals.frames_received,
            slow_consumers: totals.slow_consumers,
            drops: Py::new(py, Drops::of(&totals, hub.sends_refused(), events))?,
            panics: totals.panics,
            queue_high_water_bytes: totals.queue_high_water_bytes,
            backlog_high_water_bytes: totals.backlog_high_water_bytes,
            events_high_water: events.high_water(),
            publish_to_write: Py::new(py, Histogram::of(py, &totals.publish_to_write)?)?,
            cluster: server.bus()?.cluster_stats().map(|stats| Py::new(py, ClusterStats::from(stats))).transpose()?,
        })
    }
}

/// How often something took how long.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct Histogram {
    bounds: Py<PyTuple>,
    counts: Py<PyTuple>,
    sum_seconds: f64,
}

impl Histogram {
    fn of(py: Python<'_>, times: &Times) -> PyResult<Self> {
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        Ok(Self {
            bounds: PyTuple::new(py, BUCKET_BOUNDS.map(seconds))?.unbind(),
            counts: PyTuple::new(py, times.counts)?.unbind(),
            sum_seconds: seconds(times.micros),
        })
    }
}

/// What did not get through since `start`, by reason.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct Drops {
    slow_consumer: u64,
    no_pong: u64,
    closing: u64,
    disconnected: u64,
    duplicate: u64,
    superseded: u64,
    outdated: u64,
    overloaded: u64,
    client_rate: u64,
    client_backlog: u64,
    client_refused: u64,
    client_slow: u64,
    events: u64,
    progress: u64,
}

impl Drops {
    fn of(totals: &Totals, overloaded: u64, events: &EventQueue) -> Self {
        Self {
            slow_consumer: totals.dropped_slow_consumer,
            no_pong: totals.dropped_no_pong,
            closing: totals.dropped_closing,
            disconnected: totals.dropped_disconnected,
            duplicate: totals.dropped_duplicate,
            superseded: totals.dropped_superseded,
            outdated: totals.dropped_outdated,
            overloaded,
            client_rate: totals.refused_by_rate,
            client_backlog: totals.refused_by_backlog,
            client_refused: totals.refused_by_program,
            client_slow: totals.refused_as_slow,
            events: events.dropped(),
            progress: events.progress.dropped(),
        }
    }
}

/// WebSocket requests that were refused since `start`, by reason.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct HandshakeRefusals {
    draining: u64,
    tls: u64,
    malformed: u64,
    origin: u64,
    rate: u64,
    address_full: u64,
    server_full: u64,
    authentication: u64,
}

impl From<Refusals> for HandshakeRefusals {
    fn from(refusals: Refusals) -> Self {
        let Refusals { draining, tls, malformed, origin, rate, address_full, server_full, authentication } = refusals;
        Self { draining, tls, malformed, origin, rate, address_full, server_full, authentication }
    }
}

/// What plain HTTP was refused since `start`, by reason.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct HttpRefusals {
    address_full: u64,
    displaced: u64,
    rate: u64,
    requests_address_full: u64,
    requests_full: u64,
    malformed: u64,
    too_large: u64,
    too_slow: u64,
}

impl From<front_door::HttpRefusals> for HttpRefusals {
    fn from(refusals: front_door::HttpRefusals) -> Self {
        let front_door::HttpRefusals {
            address_full,
            displaced,
            rate,
            requests_address_full,
            requests_full,
            malformed,
            too_large,
            too_slow,
        } = refusals;
        Self { address_full, displaced, rate, requests_address_full, requests_full, malformed, too_large, too_slow }
    }
}

/// How things stand with the other nodes, and what was counted of it.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct ClusterStats {
    connected: bool,
    peers: usize,
    subscriptions: usize,
    silent: usize,
    outbox_bytes: usize,
    published: u64,
    received: u64,
    dropped_unlinked: u64,
    dropped_too_large: u64,
    dropped_overloaded: u64,
    refused: u64,
    malformed: u64,
    subscribed: u64,
    unsubscribed: u64,
    links: u64,
    slow_consumers: u64,
    silenced: u64,
}

impl From<cluster::ClusterStats> for ClusterStats {
    fn from(stats: cluster::ClusterStats) -> Self {
        let cluster::ClusterStats {
            connected,
            peers,
            subscriptions,
            silent,
            outbox_bytes,
            published,
            received,
            dropped_unlinked,
            dropped_too_large,
            dropped_overloaded,
            refused,
            malformed,
            subscribed,
            unsubscribed,
            links,
            slow_consumers,
            silenced,
        } = stats;
        Self {
            connected,
            peers,
            subscriptions,
            silent,
            outbox_bytes,
            published,
            received,
            dropped_unlinked,
            dropped_too_large,
            dropped_overloaded,
            refused,
            malformed,
            subscribed,
            unsubscribed,
            links,
            slow_consumers,
            silenced,
        }
    }
}

/// One open connection, as of now.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct ConnectionInfo {
    pub(super) connection_id: String,
    pub(super) user_id: String,
    pub(super) role: &'static str,
    pub(super) name: String,
    pub(super) client_address: String,
    pub(super) user_agent: Option<String>,
    pub(super) connected_at: f64,
    pub(super) last_activity: f64,
    pub(super) last_seq: u64,
    pub(super) last_rev: u64,
    pub(super) queued_bytes: usize,
}

impl From<session::ConnectionInfo> for ConnectionInfo {
    fn from(info: session::ConnectionInfo) -> Self {
        Self {
            connection_id: info.connection_id,
            user_id: info.user_id.to_string(),
            role: info.role.as_str(),
            name: info.name.to_string(),
            client_address: info.client_address.to_string(),
            user_agent: info.user_agent.map(String::from),
            connected_at: info.connected_at,
            last_activity: info.last_activity,
            last_seq: info.last_seq,
            last_rev: info.last_rev,
            queued_bytes: info.queued_bytes,
        }
    }
}

/// What was queued to one connection since the last time it was asked, and what of it has arrived.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct Progress {
    pub(super) connection_id: String,
    pub(super) user_id: String,
    pub(super) from_seq: u64,
    pub(super) through_seq: u64,
    pub(super) delivered_seq: u64,
}

impl From<progress::Progress> for Progress {
    fn from(progress: progress::Progress) -> Self {
        let (from_seq, through_seq) = progress.range;
        Self {
            connection_id: progress.connection_id,
            user_id: progress.user_id.to_string(),
            from_seq,
            through_seq,
            delivered_seq: progress.delivered,
        }
    }
}
