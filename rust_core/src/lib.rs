//! The core of `jasaweb_rt`: it accepts WebSocket connections and fans frames out to users.
//!
//! # Layout
//!
//! Leaves, which know nothing of the rest: [`config`], [`error`], [`close`], [`metrics`], [`clock`], [`app_address`].
//!
//! Rules without I/O, tested without a network:
//! - [`frame`]: a message encoded once into wire bytes, shared by every connection; [`deflate`]: its compressed form;
//! - [`frame_boundary`]: whether a client's stream stands between two messages; [`inflate`]: that stream with its
//!   compressed messages made plain; [`frame_header`]: what both look at; [`protocol`]: all of it as messages;
//! - [`token`]: who may open a socket;
//! - [`handshake`]: what a WebSocket request must have and what it asks for, [`extensions`] among it; [`origin`]: which
//!   pages may send one;
//! - [`forwarding`]: who the client truly is, and which headers may pass a proxy;
//! - `request_guard`: what of a client's bytes may reach the HTTP parser; `request_rules`: what a request must be;
//! - [`send_queue`]: what is still to be written to one connection, bounded in bytes;
//! - `drain`: when a stop closes each session, and when its client is to come back;
//! - `rounds`: broadcasts on their way round all sessions of a shard;
//! - [`sequence`]: deliver, drop as duplicate, or report a gap;
//! - [`rate_limit`]: how many frames a client may send.
//!
//! The moving parts:
//! - [`front_door`]: the one public port: HTTP heads, upgrade; [`proxy`] forwards the rest to the app; `listener`: the port itself; `listeners`: who else has it;
//! - [`tls`]: the certificate of that port, and the handshake;
//! - [`admission`]: how many connections, how fast, and from where; `intake`: what happens where descriptors are short;
//! - [`http_limits`]: the limits of plain HTTP, with [`request_body`] and [`patience`] for what comes or is taken too
//!   slowly;
//! - [`bus`]: the handle through which everything is published, to this node and the others; [`cluster`]: the way there;
//! - [`hub`]: this node's part of it; it knows which shard owns a user;
//! - [`shard`]: a thread that owns its users' sessions outright;
//! - [`session`]: one connection's reader, limits, heartbeat and close; [`transport`]: the socket under the protocol;
//! - [`events`]: the bounded queue through which the embedding program is told; [`progress`]: what it asks for, how far
//!   each connection has come;
//! - [`server`]: owns the threads: start, drain, stop.
//!
//! # The way of a frame
//!
//! `Bus::publish*` → `Hub::publish*`, and NATS where there are other nodes → the owning shard's command queue → send queues of the user's sessions → one `writev` per session. A
//! broadcast is queued to nobody: the shard goes round its sessions and writes to each what it has not seen.
//! Nothing on that way takes a lock or copies the frame; a shard that needs the deflated form of a message while another
//! makes it waits for that. The only locks of the crate guard the hub's small index (user → number of connections), the
//! event queue, the progress log, the admission counters and what the cluster's tasks share with callers; none is ever
//! held while another is taken, but for the list of ready subscriptions while their table is (`cluster::inlet`).

mod address_counts;
pub mod admission;
mod answer;
pub mod app_address;
mod app_socket;
pub mod bus;
pub mod clock;
pub mod close;
pub mod cluster;
pub mod command;
pub mod config;
mod connect_rate;
pub mod deflate;
mod descriptors;
mod door_socket;
mod door_stream;
mod drain;
mod due_ring;
pub mod error;
pub mod events;
pub mod extensions;
mod farewell;
pub mod forwarding;
pub mod frame;
pub mod frame_boundary;
pub mod frame_header;
pub mod front_door;
pub mod handshake;
mod http_connections;
pub mod http_limits;
pub mod http_requests;
pub mod hub;
mod index;
pub mod inflate;
mod intake;
mod latency;
mod lingering;
mod listener;
mod listeners;
mod locks;
pub mod log;
pub mod metrics;
pub mod origin;
pub mod patience;
pub mod progress;
pub mod protocol;
pub mod proxy;
#[cfg(feature = "python")]
mod python;
pub mod rate_limit;
mod reader;
mod reply;
pub mod request_body;
mod request_guard;
mod request_rules;
mod rounds;
pub mod send_queue;
pub mod sequence;
pub mod server;
pub mod session;
mod shard;
mod socket;
#[cfg(test)]
mod test_support;
pub mod tls;
pub mod token;
mod transport;
mod turning_away;
mod upgrade;
mod wake;
