//! `FanoutServer`: the core as a Python object.

use std::{
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    pybacked::PyBackedStr,
};

use super::{
    cluster::close_reason,
    config,
    events::{SyncRequest, to_python},
    frames,
    messages::call_with_messages,
    records::{ConnectionInfo, Progress, Stats},
};
use crate::{
    bus::Bus,
    cluster::ClusterOptions,
    command::{Audience, DurableFrame, ReadFrame, Standing, SyncAnswer},
    config::Config,
    error::Error,
    events::EventQueue,
    frame::Frame,
    hub::Hub,
    server::{Server, new_node_id},
    tls::Tls,
    token::Role,
};

/// Accepts WebSocket connections on threads of its own and fans frames out to them.
#[pyclass(frozen, module = "jasaweb_rt._core")]
pub(super) struct FanoutServer {
    config: Config,
    /// The process that made it. A fork would share its id and its events with others.
    owner: u32,
    node_id: Arc<str>,
    events: Arc<EventQueue>,
    server: OnceLock<Server>,
    starting: Mutex<()>,
    stopped: Arc<AtomicBool>,
    /// The thread that calls back, and the process in which it runs.
    messages: Mutex<Option<(u32, JoinHandle<()>)>>,
}

impl FanoutServer {
    fn server(&self) -> Result<&Server, Error> {
        self.server.get().ok_or(Error::NotStarted)
    }

    fn hub(&self) -> Result<&Hub, Error> {
        if self.stopped.load(Ordering::Relaxed) { Err(Error::Stopped) } else { self.server()?.hub() }
    }

    fn bus(&self) -> Result<&Bus, Error> {
        if self.stopped.load(Ordering::Relaxed) { Err(Error::Stopped) } else { self.server()?.bus() }
    }

    fn frame(&self, value: &Bound<'_, PyAny>) -> PyResult<Frame> {
        frames::extract(self.bus()?, value, self.config.compress_min_bytes)
    }
}

#[pymethods]
impl FanoutServer {
    #[new]
    #[pyo3(signature = (
        *, token_secret, host="127.0.0.1", port=0, token_secret_previous=None, allowed_origins=Vec::new(),
        trusted_proxies=Vec::new(), require_tls=None, max_connections=None, max_connections_per_user=10,
        max_connections_per_ip=100, connect_rate_per_ip=20, connect_burst_per_ip=100, message_rate=20,
        message_burst=50, max_message_bytes=65536, send_queue_bytes=1_048_576, compress_min_bytes=512, workers=None,
        coalesce_ms=10, ping_interval=25.0, pong_timeout=10.0, tls_cert=None, tls_key=None, app_url=None, probe_url=None,
        sync=false, nats_url=Vec::new(), nats_credentials=None, nats_ca=None, take_over=false,
    ))]
    #[expect(clippy::too_many_arguments, reason = "each limit of the contract is a keyword")]
    fn new(
        token_secret: &Bound<'_, PyAny>,
        host: &str,
        port: u16,
        token_secret_previous: Option<&Bound<'_, PyAny>>,
        allowed_origins: Vec<String>,
        trusted_proxies: Vec<String>,
        require_tls: Option<bool>,
        max_connections: Option<usize>,
        max_connections_per_user: usize,
        max_connections_per_ip: usize,
        connect_rate_per_ip: u32,
        connect_burst_per_ip: u32,
        message_rate: u32,
        message_burst: u32,
        max_message_bytes: usize,
        send_queue_bytes: usize,
        compress_min_bytes: usize,
        workers: Option<usize>,
        coalesce_ms: u64,
        ping_interval: f64,
        pong_timeout: f64,
        tls_cert: Option<std::path::PathBuf>,
        tls_key: Option<std::path::PathBuf>,
        app_url: Option<&str>,
        probe_url: Option<&str>,
        sync: bool,
        nats_url: Vec<String>,
        nats_credentials: Option<std::path::PathBuf>,
        nats_ca: Option<std::path::PathBuf>,
        take_over: bool,
    ) -> PyResult<Self> {
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        let host: std::net::IpAddr = host
            .parse()
            .map_err(|_| PyValueError::new_err(format!("host: {host:?} is no IP address, such as 0.0.0.0")))?;
        let defaults = Config::new(config::secret(token_secret)?);
        let config = Config {
            host,
            port,
            take_over,
            token_secret_previous: token_secret_previous.map(config::secret).transpose()?,
            tls_cert,
            tls_key,
            app: config::app("app_url", app_url)?,
            probe_app: config::app("probe_url", probe_url)?,
            sync,
            allowed_origins: config::origins(&allowed_origins),
            trusted_proxies: config::networks(&trusted_proxies)?,
            require_tls: require_tls.unwrap_or(!host.is_loopback()),
            max_connections: max_connections.map_or_else(|| config::max_connections(token_secret.py()), Ok)?,
            max_connections_per_user,
            max_connections_per_ip,
            connect_rate_per_ip,
            connect_burst_per_ip,
            message_rate,
            message_burst,
            max_message_bytes,
            send_queue_bytes,
            compress_min_bytes,
            workers: workers.unwrap_or(defaults.workers),
            coalesce: Duration::from_millis(coalesce_ms),
            ping_interval: config::seconds("ping_interval", ping_interval)?,
            pong_timeout: config::seconds("pong_timeout", pong_timeout)?,
            cluster: ClusterOptions::parse(&nats_url, nats_credentials, nats_ca)?,
            ..defaults
        };
        config.validate()?;
        // Read again at the start; what is wrong with them shows here, with everything else that is.
        Tls::load(&config)?;
        Ok(Self {
            config,
            owner: std::process::id(),
            node_id: new_node_id()?,
            events: Arc::new(EventQueue::new().map_err(Error::Start)?),
            server: OnceLock::new(),
            starting: Mutex::new(()),
            stopped: Arc::default(),
            messages: Mutex::new(None),
        })
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let _starting = self.starting.lock();
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            if self.owner != std::process::id() {
                return Err(Error::Forked { owner: self.owner });
            }
            if self.server.get().is_some() {
                return Err(Error::AlreadyStarted);
            }
            let server = Server::start(self.config.clone(), Arc::clone(&self.node_id), &self.events)?;
            self.server.set(server).map_err(|_| Error::AlreadyStarted)
        })?;
        Ok(())
    }

    #[pyo3(signature = (drain_seconds=10.0))]
    fn stop(&self, py: Python<'_>, drain_seconds: f64) -> PyResult<()> {
        let drain = config::seconds("drain_seconds", drain_seconds)?;
        py.detach(|| {
            // A start that is under way is waited for; one that comes later is refused.
            let starting = self.starting.lock();
            let server = self.server.get();
            self.stopped.fetch_or(server.is_none(), Ordering::Relaxed);
            drop(starting);
            if let Some(server) = server {
                server.stop(drain);
            }
            self.stopped.store(true, Ordering::Relaxed);
            let Some((owner, thread)) = self.messages.lock().take() else { return };
            if owner != std::process::id() {
                // A fork has the handle and not the thread.
                std::mem::forget(thread);
            } else if thread.thread().id() != std::thread::current().id() {
                // Not so in a callback that stops the server: it would wait for itself. A panic was reported where it
                // happened.
                let _ = thread.join();
            }
        });
        Ok(())
    }

    #[getter]
    fn address(&self) -> PyResult<(String, u16)> {
        let address = self.server()?.address();
        Ok((address.ip().to_string(), address.port()))
    }

    #[getter]
    fn node_id(&self) -> &str {
        &self.node_id
    }

    fn broadcast_to_user(&self, user_id: &str, frame: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (bus, compress_min_bytes) = (self.bus()?, self.config.compress_min_bytes);
        // Many are sent to who is not there, so the frame is made last.
        frames::with_text(frame, |text| Ok(bus.to_user(user_id, || bus.encode(text).deflatable(compress_min_bytes))?))
    }

    fn broadcast_to_users(&self, user_ids: Vec<String>, frame: &Bound<'_, PyAny>) -> PyResult<usize> {
        let frame = self.frame(frame)?;
        Ok(self.bus()?.to_many(user_ids.iter().map(|user_id| (user_id.as_str(), frame.clone())))?)
    }

    fn broadcast_to_admins(&self, frame: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.bus()?.to_audience(Audience::Role(Role::Admin), &self.frame(frame)?)?)
    }

    fn broadcast_to_clients(&self, frame: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.bus()?.to_audience(Audience::Role(Role::Client), &self.frame(frame)?)?)
    }

    fn broadcast_to_all(&self, frame: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.bus()?.to_audience(Audience::All, &self.frame(frame)?)?)
    }

    fn broadcast_many(&self, py: Python<'_>, items: Vec<(PyBackedStr, Bound<'_, PyAny>)>) -> PyResult<usize> {
        let bus = self.bus()?;
        let frames = items.iter().map(|(_, frame)| self.frame(frame)).collect::<PyResult<Vec<_>>>()?;
        let users: Vec<PyBackedStr> = items.into_iter().map(|(user_id, _)| user_id).collect();
        Ok(py.detach(|| bus.to_many(users.iter().map(|user_id| &**user_id).zip(frames)))?)
    }

    fn send(&self, connection_id: &str, frame: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.bus()?.to_connection(connection_id, &self.frame(frame)?)?)
    }

    #[pyo3(signature = (connection_id, code=4500))]
    fn disconnect(&self, connection_id: &str, code: u16) -> PyResult<bool> {
        Ok(self.bus()?.disconnect(connection_id, close_reason(code)?)?)
    }

    fn publish_event(&self, data: &[u8]) -> PyResult<bool> {
        Ok(self.bus()?.tell(data)?)
    }

    fn fence(&self, py: Python<'_>, timeout_seconds: f64) -> PyResult<bool> {
        let (bus, timeout) = (self.bus()?, config::seconds("timeout_seconds", timeout_seconds)?);
        Ok(py.detach(|| bus.fence(timeout)))
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        Stats::of(py, self.server()?, &self.events)
    }

    fn connections(&self, py: Python<'_>) -> PyResult<Vec<ConnectionInfo>> {
        let hub = self.hub()?;
        Ok(py.detach(|| hub.connections())?.into_iter().map(ConnectionInfo::from).collect())
    }

    fn take_progress(&self, py: Python<'_>) -> Vec<Progress> {
        self.events.progress.keep();
        if let Ok(hub) = self.hub() {
            // A shard that is late or gone has lost nothing: its records come when this is called again.
            let _ = py.detach(|| hub.lay_down_progress());
        }
        self.events.progress.take().into_iter().map(Progress::from).collect()
    }

    fn acknowledge(&self, connection_id: &str, seq: u64, refusal: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.hub()?.acknowledge(connection_id, seq, self.frame(refusal)?)?)
    }

    fn on_message(&self, callback: Py<PyAny>) -> PyResult<()> {
        let mut messages = self.messages.lock();
        if messages.is_some() {
            return Err(PyRuntimeError::new_err("on_message was called already: one callback takes the messages"));
        }
        self.events.listen();
        let (events, stopped) = (Arc::clone(&self.events), Arc::clone(&self.stopped));
        let thread = std::thread::Builder::new()
            .name("rt-messages".to_owned())
            .spawn(move || call_with_messages(&events, &stopped, &callback))
            .map_err(Error::Start)?;
        *messages = Some((std::process::id(), thread));
        Ok(())
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

    fn publish(&self, items: Vec<(String, u64, u64, Bound<'_, PyAny>)>) -> PyResult<usize> {
        let bus = self.bus()?;
        let items = items
            .iter()
            .map(|(user_id, seq, rev, frame)| {
                Ok(DurableFrame { user_id: user_id.as_str(), seq: *seq, rev: *rev, frame: self.frame(frame)? })
            })
            .collect::<PyResult<Vec<_>>>()?;
        Ok(bus.publish(items)?)
    }

    #[pyo3(signature = (items, *, local=false))]
    fn publish_read(&self, items: Vec<(String, u64, Bound<'_, PyAny>)>, local: bool) -> PyResult<usize> {
        let items = items
            .iter()
            .map(|(user_id, rev, frame)| {
                Ok(ReadFrame { user_id: user_id.as_str(), rev: *rev, frame: self.frame(frame)? })
            })
            .collect::<PyResult<Vec<_>>>()?;
        Ok(if local { self.hub()?.publish_read(items) } else { self.bus()?.publish_read(items) }?)
    }

    #[pyo3(signature = (items, *, local=false))]
    fn announce_heads(&self, items: Vec<(String, u64)>, local: bool) -> PyResult<()> {
        let heads = items.iter().map(|(user_id, head)| (user_id.as_str(), *head));
        Ok(if local { self.hub()?.announce_heads(heads) } else { self.bus()?.announce_heads(heads) }?)
    }

    #[pyo3(signature = (request, *, role, head, through, rev, restart=false, preface=None, frames=Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "the fields of one answer, by keyword")]
    fn answer_sync(
        &self,
        request: &SyncRequest,
        role: &str,
        head: u64,
        through: u64,
        rev: u64,
        restart: bool,
        preface: Option<&Bound<'_, PyAny>>,
        frames: Vec<(u64, Bound<'_, PyAny>)>,
    ) -> PyResult<bool> {
        let role = config::role(role)?;
        let preface = preface.map(|preface| self.frame(preface)).transpose()?;
        let frames =
            frames.into_iter().map(|(seq, frame)| Ok((seq, self.frame(&frame)?))).collect::<PyResult<Vec<_>>>()?;
        let answer = SyncAnswer { role, head, through, rev, preface, restart, frames };
        Ok(self.hub()?.answer_sync(&request.connection_id, request.asked(), answer)?)
    }

    fn refuse(&self, connection_id: &str, frame: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.hub()?.refuse(connection_id, self.frame(frame)?)?)
    }

    #[pyo3(signature = (connection_id, expires_at, session_id=None))]
    fn extend_session(&self, connection_id: &str, expires_at: Option<u64>, session_id: Option<&str>) -> PyResult<bool> {
        let session_id = session_id.map(config::session_id).transpose()?;
        Ok(self.hub()?.extend_session(connection_id, expires_at, session_id)?)
    }

    fn heed(&self, items: Vec<(String, Option<String>, Vec<String>)>) -> PyResult<()> {
        let standings = items
            .iter()
            .map(|(user_id, role, ended)| {
                let role = role.as_deref().map(config::role).transpose()?;
                let ended = ended.iter().map(|id| config::session_id(id)).collect::<PyResult<_>>()?;
                Ok(Standing { user_id: user_id.as_str(), role, ended })
            })
            .collect::<PyResult<Vec<_>>>()?;
        Ok(self.hub()?.heed(standings)?)
    }

    #[pyo3(signature = (current, previous=None))]
    fn set_token_secrets(&self, current: &Bound<'_, PyAny>, previous: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (current, previous) = (config::secret(current)?, previous.map(config::secret).transpose()?);
        Ok(self.server()?.set_token_secrets(&current, previous.as_deref())?)
    }

    fn set_draining(&self, draining: bool) -> PyResult<()> {
        self.server()?.set_draining(draining);
        Ok(())
    }

    fn leave_port_to_successor(&self, py: Python<'_>) -> PyResult<bool> {
        let server = self.server()?;
        // It reads a table of the system's.
        Ok(py.detach(|| server.leave_port_to_successor()))
    }
}

impl Drop for FanoutServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Its threads never wait for the interpreter, so they may be waited for while attached.
        drop(self.server.take());
    }
}
