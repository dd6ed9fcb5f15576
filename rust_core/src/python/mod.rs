//! The only place that says `pyo3`: the module `jasaweb_rt._core`.
//!
//! In: `str`, `int`, `bytes`. Out: counts, `bytes`, small frozen classes. Nothing here attaches to the interpreter on a
//! thread of the core's, and whatever may wait runs detached.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands extracted arguments over as owned values")]

mod allocator;
mod cluster;
mod config;
mod errors;
mod events;
mod frames;
mod load_client;
mod messages;
mod records;
mod server;

use pyo3::prelude::*;

/// The Rust core: sockets, sessions, fan-out.
#[pymodule(gil_used = false)]
#[pyo3(name = "_core")]
mod core_module {
    use pyo3::prelude::*;

    #[pymodule_init]
    #[expect(clippy::unnecessary_wraps, reason = "PyO3 wants a result")]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::allocator::give_back_soon();
        Ok(())
    }

    #[pymodule_export]
    use super::{
        cluster::ClusterClient,
        config::verify_token,
        errors::{OverloadedError, RealtimeError, ServerStoppedError},
        events::{AppEvent, ClientFrame, ClusterEvent, Connected, Disconnected, LogRecord, SyncRequest},
        load_client::{LoadClient, LoadReport},
        records::{ClusterStats, ConnectionInfo, Drops, HandshakeRefusals, Histogram, HttpRefusals, Progress, Stats},
        server::FanoutServer,
    };
}
