//! Events as frozen Python classes.

use pyo3::{prelude::*, types::PyBytes};

use crate::events::{Asked, Event};

/// A connection was opened and registered.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
#[expect(clippy::struct_field_names, reason = "the names that Python sees, the same in every class")]
pub(super) struct Connected {
    connection_id: String,
    user_id: String,
    role: &'static str,
    name: String,
    client_address: String,
    user_agent: Option<String>,
    connected_at: f64,
}

/// A connection has ended.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct Disconnected {
    connection_id: String,
    user_id: String,
    client_address: String,
    user_agent: Option<String>,
    connected_at: f64,
    last_activity: f64,
    code: u16,
    reason: String,
    status: &'static str,
}

/// A text message from a client, valid UTF-8, within the size and rate limits; nothing else of it was checked.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct ClientFrame {
    connection_id: String,
    user_id: String,
    role: &'static str,
    session_id: Option<String>,
    frame: Py<PyBytes>,
}

/// A session waits for what lies in the database.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct SyncRequest {
    pub(super) connection_id: String,
    user_id: String,
    after: Option<u64>,
    epoch: Option<String>,
    first: bool,
    session_id: Option<String>,
}

impl SyncRequest {
    pub(super) fn asked(&self) -> Asked {
        Asked { after: self.after, first: self.first }
    }
}

/// The link to the other nodes has changed, or something may have been lost on it.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct ClusterEvent {
    connected: bool,
    reason: String,
}

/// What a node told the programs that listen to events.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct AppEvent {
    data: Py<PyBytes>,
}

/// A log record of the core.
#[pyclass(frozen, get_all, module = "jasaweb_rt._core")]
pub(super) struct LogRecord {
    level: &'static str,
    target: &'static str,
    message: String,
}

/// The Python object of an event.
pub(super) fn to_python(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    Ok(match event {
        Event::Connected { connection_id, user_id, role, name, client_address, user_agent, connected_at } => {
            let (user_id, name) = (user_id.to_string(), name.to_string());
            let (client_address, user_agent) = (client_address.to_string(), user_agent.map(String::from));
            let role = role.as_str();
            Py::new(py, Connected { connection_id, user_id, role, name, client_address, user_agent, connected_at })?
                .into_any()
        }
        Event::Disconnected {
            connection_id,
            user_id,
            client_address,
            user_agent,
            connected_at,
            last_activity,
            code,
            reason,
            ending,
        } => Py::new(
            py,
            Disconnected {
                connection_id,
                user_id: user_id.to_string(),
                client_address: client_address.to_string(),
                user_agent: user_agent.map(String::from),
                connected_at,
                last_activity,
                code,
                reason,
                status: ending.as_str(),
            },
        )?
        .into_any(),
        Event::ClientFrame { connection_id, user_id, role, session_id, frame } => {
            let frame = PyBytes::new(py, &frame).unbind();
            let (user_id, role) = (user_id.to_string(), role.as_str());
            let session_id = session_id.map(|id| id.to_string());
            Py::new(py, ClientFrame { connection_id, user_id, role, session_id, frame })?.into_any()
        }
        Event::SyncRequest { connection_id, user_id, asked: Asked { after, first }, epoch, session_id } => {
            let (user_id, epoch) = (user_id.to_string(), epoch.map(String::from));
            let session_id = session_id.map(|id| id.to_string());
            Py::new(py, SyncRequest { connection_id, user_id, after, epoch, first, session_id })?.into_any()
        }
        Event::Cluster { connected, reason } => Py::new(py, ClusterEvent { connected, reason })?.into_any(),
        Event::App { data } => Py::new(py, AppEvent { data: PyBytes::new(py, &data).unbind() })?.into_any(),
        Event::Log { level, target, message } => {
            let level = match level {
                tracing::Level::ERROR => "ERROR",
                tracing::Level::WARN => "WARNING",
                tracing::Level::INFO => "INFO",
                tracing::Level::DEBUG | tracing::Level::TRACE => "DEBUG",
            };
            Py::new(py, LogRecord { level, target, message })?.into_any()
        }
    })
}
