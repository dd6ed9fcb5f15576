//! A server that sends each message back, for suites that judge how RFC 6455 and RFC 7692 are kept. Everything else is as
//! in a server for users: the front door, the token, the session with its reader and its queue.
//!
//! `echo SECRET` listens on loopback at a port of the system's choice, prints `host:port`, and ends when its standard
//! input does. `SECRET` signs the connection tokens; see `tests/conformance`.

use std::{
    env,
    error::Error,
    io::{self, Read as _, Write as _},
    sync::Arc,
    time::Duration,
};

use jasaweb_rt_core::{
    config::Config,
    events::EventQueue,
    server::{Server, new_node_id},
};

/// The suites' largest messages have 16 MiB.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let secret = env::args().nth(1).ok_or("usage: echo SECRET")?;
    let config = Config {
        echo: true,
        // All connections are of one user and from one address, and each sends as fast as it can.
        max_connections_per_user: 0,
        max_connections_per_ip: 0,
        connect_rate_per_ip: 0,
        message_rate: 0,
        max_message_bytes: MAX_MESSAGE_BYTES,
        send_queue_bytes: 2 * MAX_MESSAGE_BYTES,
        compress_min_bytes: 1,
        coalesce: Duration::ZERO,
        ..Config::new(secret)
    };
    let server = Server::start(config, new_node_id()?, &Arc::new(EventQueue::new()?))?;
    writeln!(io::stdout(), "{}", server.address())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    server.stop(Duration::ZERO);
    Ok(())
}
