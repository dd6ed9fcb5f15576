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

/// Listens on the address of `config`: non-blocking, reusable at once after a stop, and with `::` for IPv4 too. A port that
/// was given can be taken over by another server of the same user, with [`Config::take_over`].
///
/// [`Error::Bind`] where the port is taken or the address is not ours.
pub fn bind(config: &Config) -> Result<std::net::TcpListener, Error> {
    let address = SocketAddr::new(config.host, config.port);
    listen(address, config.take_over).map_err(|source| Error::Bind { address, source })
}

fn listen(address: SocketAddr, take_over: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::from([0_u16; 8]) {
        // The system's default differs from one to the next.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // All who share a port must want to when they bind (socket(7)). Who wants to only once it listens keeps everybody off
    // who did not ask for that, and so two servers never have one port by accident.
    socket.set_reuse_port(take_over)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(address.port() != 0 && cfg!(target_os = "linux"))?;
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
                    Ok((stream, peer)) => return receive(&mut self.shortage, stream, peer),
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

    /// Closes the port, and returns those who had come before: closing alone would reset their connections.
    pub(crate) fn close(mut self) -> Vec<Newcomer> {
        let mut last = Vec::new();
        let Ok(listener) = self.listener.into_std() else { return last };
        // Who goes on coming meanwhile must not keep it open for ever.
        for _ in 0..2 * BACKLOG {
            match listener.accept().and_then(|(stream, peer)| {
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, peer))
            }) {
                Ok((stream, peer)) => last.push(receive(&mut self.shortage, stream, peer)),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => break,
            }
        }
        last
    }
}

fn receive(shortage: &mut Shortage, stream: TcpStream, peer: SocketAddr) -> Newcomer {
    if let Err(error) = stream.set_nodelay(true) {
        // The peer is gone already; whoever reads from it will find out.
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let is_too_many = is_scarce(stream.as_raw_fd());
    if is_too_many {
        shortage.turns_away();
    }
    Newcomer { stream, peer, is_too_many }
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
    #[cfg(target_os = "linux")]
    use crate::test_support::bound_to_a_port;

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
    #[cfg(target_os = "linux")]
    fn a_port_is_shared_with_who_takes_it_over_and_with_nobody_else() {
        let (config, first) = bound_to_a_port("127.0.0.1");
        assert!(matches!(bind(&config), Err(Error::Bind { .. })));
        let second = bind(&Config { take_over: true, ..config.clone() }).unwrap();
        assert!(matches!(bind(&config), Err(Error::Bind { .. })));
        let address = first.local_addr().unwrap();
        let clients: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted = [first, second].map(|listener| std::iter::from_fn(|| listener.accept().ok()).count());
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn who_waits_when_the_port_is_closed_is_let_in_and_later_ones_meet_the_successor() {
        let (config, first) = bound_to_a_port("127.0.0.1");
        let address = first.local_addr().unwrap();
        let waiting: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let second = bind(&Config { take_over: true, ..config }).unwrap();
        let last = Acceptor::new(first, Arc::default()).unwrap().close();
        let mut let_in: Vec<_> = last.iter().map(|newcomer| newcomer.peer).collect();
        let mut expected: Vec<_> = waiting.iter().map(|client| client.local_addr().unwrap()).collect();
        let_in.sort_unstable();
        expected.sort_unstable();
        assert_eq!(let_in, expected);
        for _ in 0..50 {
            let client = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(second.accept().unwrap().1, client.local_addr().unwrap());
        }
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
