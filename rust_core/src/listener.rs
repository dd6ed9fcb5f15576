//! The listening socket of the public port.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

use crate::{
    config::Config,
    error::Error,
    intake::{Intake, Shortage, is_scarce},
};

/// Connections that the kernel keeps while they wait to be accepted; it may cap this (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Listens on the address of `config`: non-blocking, reusable at once after a stop, and with `::` for IPv4 too.
///
/// [`Error::Bind`] where the port is taken or the address is not ours.
pub fn bind(config: &Config) -> Result<std::net::TcpListener, Error> {
    let address = SocketAddr::new(config.host, config.port);
    listen(address).map_err(|source| Error::Bind { address, source })
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::from([0_u16; 8]) {
        // The system's default differs from one to the next.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connection that was accepted.
pub(crate) struct Newcomer {
    /// Without Nagle's delay.
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// It has one of the last descriptors, and is to be turned away.
    pub(crate) is_too_many: bool,
}

/// Accepts connections; an error never ends it.
pub(crate) struct Acceptor {
    listener: TcpListener,
    shortage: Shortage,
    /// The system refuses: accepting is not tried again before the next look.
    pauses: bool,
}

impl Acceptor {
    /// Must be called on a runtime with I/O; the listener must be non-blocking. `intake` is told of shortages.
    pub(crate) fn new(listener: std::net::TcpListener, intake: Arc<Intake>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::from_std(listener)?, shortage: Shortage::new(intake), pauses: false })
    }

    /// The next connection. Cancel safe.
    pub(crate) async fn accept(&mut self) -> Newcomer {
        loop {
            let look_at = self.shortage.look_at();
            tokio::select! {
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    self.pauses = !self.shortage.look();
                }
                accepted = self.listener.accept(), if !self.pauses => match accepted {
                    Ok((stream, peer)) => return self.receive(stream, peer),
                    Err(error) if is_of_one_connection(&error) => {
                        tracing::debug!(%error, "a connection ended unaccepted");
                    }
                    Err(error) => {
                        // Out of descriptors or memory: it stays in the backlog, and trying at once would spin.
                        self.shortage.refuses(&error);
                        self.pauses = true;
                    }
                },
            }
        }
    }

    fn receive(&mut self, stream: TcpStream, peer: SocketAddr) -> Newcomer {
        if let Err(error) = stream.set_nodelay(true) {
            // The peer is gone already; whoever reads from it will find out.
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
        let is_too_many = is_scarce(stream.as_raw_fd());
        if is_too_many {
            self.shortage.turns_away();
        }
        Newcomer { stream, peer, is_too_many }
    }
}

/// Errors that concern the connection that was to be accepted, not the listener (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Config {
        Config { host: host.parse().unwrap(), port, ..Config::new([7; 32]) }
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let first = bind(&at("127.0.0.1", 0)).unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind(&at("127.0.0.1", taken.port())).unwrap_err();
        assert!(
            matches!(&error, Error::Bind { address, source } if *address == taken && source.kind() == io::ErrorKind::AddrInUse),
            "{error}"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_an_error() {
        assert!(matches!(bind(&at("192.0.2.1", 0)), Err(Error::Bind { .. })));
    }

    #[test]
    fn a_port_can_be_taken_again_at_once() {
        let first = bind(&at("127.0.0.1", 0)).unwrap();
        let address = first.local_addr().unwrap();
        first.set_nonblocking(false).unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        // The side that closes first keeps the pair in TIME_WAIT.
        drop(first.accept().unwrap());
        drop((client, first));
        bind(&at("127.0.0.1", address.port())).unwrap();
    }

    #[test]
    fn ipv6_is_listened_on_and_the_unspecified_address_takes_both() {
        let Ok(listener) = bind(&at("::1", 0)) else { return };
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let both = bind(&at("::", 0)).unwrap();
        std::net::TcpStream::connect(("127.0.0.1", both.local_addr().unwrap().port())).unwrap();
    }
}
