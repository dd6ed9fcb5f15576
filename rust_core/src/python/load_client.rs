//! `LoadClient`: very many clients in one thread, for `jasaweb-rt bench` and the benchmarks.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use jasaweb_rt_load_client::{
    client::{Error, LoadClient as Client},
    report::Report,
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
};

use super::{config, errors::ServerStoppedError};

/// What the clients saw since the counts were cleared.
#[pyclass(frozen, module = "jasaweb_rt._core")]
pub(super) struct LoadReport(Report);

#[pymethods]
impl LoadReport {
    #[getter]
    fn open(&self) -> u64 {
        self.0.open
    }

    #[getter]
    fn messages(&self) -> u64 {
        self.0.messages
    }

    #[getter]
    fn compressed(&self) -> u64 {
        self.0.compressed
    }

    #[getter]
    fn timed(&self) -> u64 {
        self.0.delays.len()
    }

    #[getter]
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    #[getter]
    fn closed(&self) -> Vec<(u16, u64)> {
        self.0.closed.iter().map(|(code, count)| (*code, *count)).collect()
    }

    #[getter]
    fn refused(&self) -> Vec<(u16, u64)> {
        self.0.refused.iter().map(|(status, count)| (*status, *count)).collect()
    }

    #[getter]
    fn publications(&self) -> Vec<(u64, u64, u64)> {
        self.0.publications.iter().map(|each| (each.stamp, each.received, each.last)).collect()
    }

    fn delay(&self, quantile: f64) -> PyResult<Option<f64>> {
        if !(0.0..=1.0).contains(&quantile) {
            return Err(PyValueError::new_err(format!("quantile: {quantile} is not between 0 and 1")));
        }
        let delays = &self.0.delays;
        Ok((!delays.is_empty()).then(|| Duration::from_nanos(delays.value_at_quantile(quantile)).as_secs_f64()))
    }
}

/// Clients on a thread of their own.
#[pyclass(frozen, module = "jasaweb_rt._core")]
pub(super) struct LoadClient(Mutex<Option<Client>>);

impl LoadClient {
    /// Runs detached: a call may wait for an answer of the thread.
    fn with<T: Send>(&self, py: Python<'_>, work: impl Send + FnOnce(&mut Client) -> Result<T, Error>) -> PyResult<T> {
        py.detach(|| self.0.lock().as_mut().map_or(Err(Error::Ended), work)).map_err(to_python)
    }
}

#[pymethods]
impl LoadClient {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Mutex::new(Some(Client::start().map_err(to_python)?))))
    }

    #[pyo3(signature = (address, requests, *, in_flight=256, wait=30.0))]
    fn connect(
        &self,
        py: Python<'_>,
        address: (String, u16),
        requests: Vec<Vec<u8>>,
        in_flight: usize,
        wait: f64,
    ) -> PyResult<(u64, f64)> {
        let (host, port) = address;
        let host: IpAddr =
            host.parse().map_err(|_| PyValueError::new_err(format!("address: {host:?} is no IP address")))?;
        let wait = config::seconds("wait", wait)?;
        let opened = self.with(py, |client| client.connect(SocketAddr::new(host, port), requests, in_flight, wait))?;
        Ok((opened.open, opened.elapsed.as_secs_f64()))
    }

    fn pause(&self, py: Python<'_>, count: usize, paused: bool) -> PyResult<()> {
        self.with(py, |client| client.pause(count, paused))
    }

    fn close(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.with(py, |client| client.close(count))
    }

    fn report(&self, py: Python<'_>) -> PyResult<LoadReport> {
        Ok(LoadReport(self.with(py, |client| client.report())?))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |client| client.clear())
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().take()));
    }
}

fn to_python(error: Error) -> PyErr {
    match error {
        Error::Io(source) => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, source.to_string())),
            None => PyOSError::new_err(source.to_string()),
        },
        Error::Ended => ServerStoppedError::new_err(error.to_string()),
    }
}
