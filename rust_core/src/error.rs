//! Everything that can fail in the core, as its caller sees it.

use std::{io, net::SocketAddr};

/// A failure of a call into the core.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A limit or an address cannot be used as given.
    #[error("{name}: {problem}")]
    Config {
        /// The configuration field, as the caller spells it.
        name: &'static str,
        /// What is wrong with its value, and what would be right.
        problem: String,
    },
    /// The listening socket could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A thread, a runtime or an eventfd could not be made.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The call needs a running server, and `start` was not called yet.
    #[error("the server is not started")]
    NotStarted,
    /// `start` was called a second time.
    #[error("the server was started already")]
    AlreadyStarted,
    /// The call came after `stop`.
    #[error("the server is stopped")]
    Stopped,
    /// The server was made in another process: a fork has none of its threads, and would share its id with others.
    #[error("the server belongs to process {owner}: make one after the fork")]
    Forked {
        /// Id of the process that made it.
        owner: u32,
    },
    /// A shard's command queue is full; the frame was queued to nobody on that shard.
    #[error("the send backlog is full ({limit} bytes): try again later")]
    Overloaded {
        /// The bound that was reached, in bytes.
        limit: usize,
    },
    /// A shard did not answer in time: it is far behind, or has just lost its sessions by a panic.
    #[error("a shard did not answer in time: try again later")]
    NoAnswer,
    /// NATS could not be reached in time.
    #[error("cannot reach NATS: {reason}")]
    Unlinked {
        /// What the last try ended with, and the setting that may mend it.
        reason: String,
    },
    /// A frame is not valid UTF-8, so no text frame can carry it (RFC 6455 section 5.6).
    #[error("a frame must be valid UTF-8")]
    NotUtf8,
}
