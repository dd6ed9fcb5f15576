//! The only place that says `pyo3`: the module `jasaweb_rt._core`.
//!
//! In: `str`, `int`, `bytes`. Out: counts, `bytes`, small frozen classes. Nothing here attaches to the interpreter on a
//! thread of the core's, and whatever may wait runs detached.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands extracted arguments over as owned values")]

mod config;
mod errors;
mod events;
mod frames;
mod load_client;
mod records;
mod server;

use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// A storm of handshakes leaves memory behind in pieces that the C library's allocator does not give back; this one does.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The Rust core: sockets, sessions, fan-out.
#[pymodule(gil_used = false)]
#[pyo3(name = "_core")]
mod core_module {
    #[pymodule_export]
    use super::{
        config::verify_token,
        errors::{OverloadedError, RealtimeError, ServerStoppedError},
        events::{ClientFrame, Connected, Disconnected, LogRecord, SyncRequest},
        load_client::{LoadClient, LoadReport},
        records::{ConnectionInfo, Drops, HandshakeRefusals, Histogram, Progress, Stats},
        server::FanoutServer,
    };
}
