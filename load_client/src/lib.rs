//! Very many WebSocket clients in one thread, to load a server and to time it.
//!
//! The client has to cost less than the server that it measures, or it would measure itself. So it is one thread with
//! one `epoll`, one buffer for everything it reads, and no task, no timer and no allocation for a message. It speaks
//! just enough of RFC 6455 to be a peer that nobody has reason to close: it answers pings, masks what it sends, and
//! takes notice of closes. It trusts the server to keep the protocol; whether it does is for other programs to test.
//!
//! Messages that name the moment they were published, by a member `"stamp"` with nanoseconds of `CLOCK_MONOTONIC`, are
//! timed. Both programs therefore run on one machine.
//!
//! - [`client`]: the handle, and the thread behind it;
//! - [`connection`]: one connection's state: handshake, frames;
//! - [`frames`]: cuts a stream of bytes into frames; no I/O;
//! - [`report`]: what was seen.

pub mod client;
pub mod connection;
pub mod frames;
pub mod report;
