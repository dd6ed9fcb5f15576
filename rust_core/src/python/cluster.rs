//! `ClusterClient`: the cluster for a program that has nobody connected.

use std::{
    os::fd::{AsRawFd, RawFd},
    path::PathBuf,
    sync::Arc,
};

use pyo3::{exceptions::PyValueError, prelude::*, pybacked::PyBackedStr};

use super::{config, events::to_python, frames, records::ClusterStats};
use crate::{
    close::CloseReason,
    cluster::{self, ClusterOptions},
    command::Audience,
    error::Error,
    events::EventQueue,
    frame::Frame,
    token::Role,
};

/// Publishes to the connections of a cluster's servers.
#[pyclass(frozen, module = "jasaweb_rt._core")]
pub(super) struct ClusterClient {
    client: cluster::ClusterClient,
    events: Arc<EventQueue>,
}

impl ClusterClient {
    fn frame(&self, value: &Bound<'_, PyAny>) -> PyResult<Frame> {
        // Nobody is connected here, so nothing is ever deflated here.
        frames::extract(self.client.bus()?, value, 0)
    }

    fn to_audience(&self, audience: Audience, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        self.client.bus()?.to_audience(audience, &self.frame(frame)?)?;
        Ok(())
    }
}

#[pymethods]
impl ClusterClient {
    #[new]
    #[pyo3(signature = (nats_url, nats_credentials=None, nats_ca=None))]
    fn new(nats_url: Vec<String>, nats_credentials: Option<PathBuf>, nats_ca: Option<PathBuf>) -> PyResult<Self> {
        let options = ClusterOptions::parse(&nats_url, nats_credentials, nats_ca)?
            .ok_or_else(|| PyValueError::new_err("nats_url: at least one URL is needed"))?;
        let events = Arc::new(EventQueue::new().map_err(Error::Start)?);
        Ok(Self { client: cluster::ClusterClient::new(options, Arc::clone(&events))?, events })
    }

    #[pyo3(signature = (timeout=10.0))]
    fn connect(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = config::seconds("timeout", timeout)?;
        Ok(py.detach(|| self.client.connect(timeout))?)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.client.close());
    }

    fn broadcast_to_user(&self, user_id: &str, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        let frame = self.frame(frame)?;
        self.client.bus()?.to_user(user_id, || frame)?;
        Ok(())
    }

    fn broadcast_to_users(&self, user_ids: Vec<String>, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        let frame = self.frame(frame)?;
        self.client.bus()?.to_many(user_ids.iter().map(|user_id| (user_id.as_str(), frame.clone())))?;
        Ok(())
    }

    fn broadcast_many(&self, items: Vec<(PyBackedStr, Bound<'_, PyAny>)>) -> PyResult<()> {
        let items =
            items.iter().map(|(user_id, frame)| Ok((&**user_id, self.frame(frame)?))).collect::<PyResult<Vec<_>>>()?;
        self.client.bus()?.to_many(items)?;
        Ok(())
    }

    fn broadcast_to_admins(&self, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        self.to_audience(Audience::Role(Role::Admin), frame)
    }

    fn broadcast_to_clients(&self, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        self.to_audience(Audience::Role(Role::Client), frame)
    }

    fn broadcast_to_all(&self, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        self.to_audience(Audience::All, frame)
    }

    fn send(&self, connection_id: &str, frame: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.client.bus()?.to_connection(connection_id, &self.frame(frame)?)?)
    }

    #[pyo3(signature = (connection_id, code=4500))]
    fn disconnect(&self, connection_id: &str, code: u16) -> PyResult<bool> {
        Ok(self.client.bus()?.disconnect(connection_id, close_reason(code)?)?)
    }

    fn fence(&self, py: Python<'_>, timeout_seconds: f64) -> PyResult<bool> {
        let (bus, timeout) = (self.client.bus()?, config::seconds("timeout_seconds", timeout_seconds)?);
        Ok(py.detach(|| bus.fence(timeout)))
    }

    fn listen_to_events(&self) -> PyResult<()> {
        self.events.listen();
        Ok(self.client.listen()?)
    }

    fn stats(&self) -> PyResult<ClusterStats> {
        Ok(self.client.stats()?.into())
    }

    fn fileno(&self) -> RawFd {
        self.events.listen();
        self.events.as_raw_fd()
    }

    #[pyo3(signature = (limit=4096))]
    fn drain_events(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Py<PyAny>>> {
        self.events.listen();
        self.events.drain(limit).into_iter().map(|event| to_python(py, event)).collect()
    }
}

/// The reason for a code that programs may close with.
pub(super) fn close_reason(code: u16) -> PyResult<CloseReason> {
    CloseReason::from_code(code).ok_or_else(|| {
        PyValueError::new_err(format!("code: {code} is none of 1000, 1008, 1011, 1013, 4001, 4004, 4500"))
    })
}
