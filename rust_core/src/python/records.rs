//! What the core says of itself when it is asked, as frozen Python classes.

use pyo3::prelude::*;

use crate::{progress, session};

/// Counters since `start`; `connections`, `users` and `backlog_bytes` are as of now.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct Stats {
    pub(super) connections: usize,
    pub(super) users: usize,
    pub(super) connections_opened: u64,
    pub(super) connections_closed: u64,
    pub(super) handshakes_refused: u64,
    pub(super) frames_published: u64,
    pub(super) deliveries: u64,
    pub(super) writes: u64,
    pub(super) arrays: u64,
    pub(super) bytes_written: u64,
    pub(super) compressions: u64,
    pub(super) frames_received: u64,
    pub(super) slow_consumers: u64,
    pub(super) events_dropped: u64,
    pub(super) backlog_bytes: usize,
    pub(super) panics: u64,
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
