//! A session's socket, plain or encrypted.

mod encrypted;

use std::{
    io::{self, IoSlice},
    net::{self, Shutdown},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};

use rustix::net::SendFlags;
use rustls::ServerConnection;
use tokio::net::TcpStream;

use self::encrypted::Encrypted;

/// A connection that is registered with its thread's reactor.
///
/// Where it is encrypted, what a write takes is encrypted at once, and its last record may be held back when the socket
/// is full: [`Self::is_held_up`] until [`Self::flush`] has sent it, and nothing more is taken before that.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Socket {
    /// Most connections that many servers have are plain, behind a proxy: they pay for a pointer.
    encrypted: Option<Box<Encrypted>>,
    wire: Wire,
}

impl Socket {
    /// Takes over a socket, which must not block, and what is encrypted on it, after the handshake.
    pub(crate) fn new(socket: net::TcpStream, tls: Option<Box<ServerConnection>>) -> io::Result<Self> {
        Ok(Self { encrypted: tls.map(|connection| Box::new(Encrypted::new(*connection))), wire: Wire::new(socket)? })
    }

    /// Writes what the socket takes, without asking the reactor first, which would cost a cache line of its own. For a
    /// socket that is expected to have room: the reactor does not learn that it is full, so who finds that has to write
    /// through it before waiting for it.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.encrypted {
            None => self.wire.send(bytes),
            Some(encrypted) => encrypted.write(&[IoSlice::new(bytes)], &mut self.wire.directly()),
        }
    }

    /// Writes what the socket takes, where the reactor believes that it takes something.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.encrypted {
            None => self.wire.try_write(bytes),
            Some(encrypted) => encrypted.write(&[IoSlice::new(bytes)], &mut self.wire.by_reactor()),
        }
    }

    /// As [`Self::try_write`], of several pieces, at most [`crate::send_queue::MAX_SLICES`].
    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.encrypted {
            None => self.wire.try_write_vectored(pieces),
            Some(encrypted) => encrypted.write(pieces, &mut self.wire.by_reactor()),
        }
    }

    /// Whether something that counts as written waits for the socket to have room.
    pub(crate) fn is_held_up(&self) -> bool {
        self.encrypted.as_ref().is_some_and(|encrypted| encrypted.is_held_up())
    }

    /// Sends what is held up, where the reactor believes that the socket takes something; true when nothing is any more.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        match &self.encrypted {
            None => Ok(true),
            Some(encrypted) => encrypted.flush(&mut self.wire.by_reactor()),
        }
    }

    /// Reads what has come, where the reactor believes that something has. `Ok(0)`: the peer's end.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.encrypted {
            None => self.wire.stream.try_read(buffer),
            Some(encrypted) => encrypted.read(buffer, &mut self.wire.by_reactor()),
        }
    }

    /// Whether [`Self::try_read`] may have something; else the task is woken when it may.
    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.encrypted.as_ref().is_some_and(|encrypted| encrypted.is_readable()) {
            return Poll::Ready(Ok(()));
        }
        self.wire.stream.poll_read_ready(context)
    }

    /// Whether the socket may have room; else the task is woken when it may.
    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.stream.poll_write_ready(context)
    }

    /// Ends our side of the stream, and goes on reading. False: the word of it is held up, and this has to be called again
    /// when nothing is any more.
    pub(crate) fn end(&self) -> io::Result<bool> {
        let is_said = self.say_goodbye()?;
        if is_said {
            socket2::SockRef::from(&self.wire.stream).shutdown(Shutdown::Write)?;
        }
        Ok(is_said)
    }

    /// Has TLS, if there is any, say that our side of the stream ends here and was not cut. False as with [`Self::end`].
    pub(crate) fn say_goodbye(&self) -> io::Result<bool> {
        match &self.encrypted {
            None => Ok(true),
            Some(encrypted) => encrypted.say_goodbye(&mut self.wire.by_reactor()),
        }
    }
}

#[cfg(test)]
impl Socket {
    /// Takes at most `grain` bytes of each write from now on.
    pub(crate) fn take_at_most(&self, grain: usize) {
        self.wire.grain.set(grain);
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.wire.stream.writable().await
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.wire.stream.readable().await
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.stream.as_fd()
    }
}

/// What goes on the wire as it is.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    /// How many bytes a write takes at most. What is full is for the kernel to say.
    #[cfg(test)]
    grain: std::cell::Cell<usize>,
}

impl Wire {
    fn new(socket: net::TcpStream) -> io::Result<Self> {
        Ok(Self {
            stream: TcpStream::from_std(socket)?,
            #[cfg(test)]
            grain: std::cell::Cell::new(usize::MAX),
        })
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.stream, self.grained(bytes), SendFlags::NOSIGNAL)?)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(self.grained(bytes))
    }

    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(test)]
        let pieces = &self.grained_pieces(pieces)[..];
        self.stream.try_write_vectored(pieces)
    }

    fn directly(&self) -> Records<'_> {
        Records { wire: self, directly: true }
    }

    fn by_reactor(&self) -> Records<'_> {
        Records { wire: self, directly: false }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests it is used")]
    fn grained<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }
}

#[cfg(test)]
impl Wire {
    fn grained<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[..bytes.len().min(self.grain.get())]
    }

    fn grained_pieces<'a>(&self, pieces: &'a [IoSlice<'_>]) -> Vec<IoSlice<'a>> {
        let mut left = self.grain.get();
        let mut taken = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let length = piece.len().min(left);
            taken.push(IoSlice::new(&piece[..length]));
            left -= length;
        }
        taken
    }
}

/// The wire as rustls reads and writes its records there, past the reactor or by it.
struct Records<'a> {
    wire: &'a Wire,
    directly: bool,
}

impl io::Read for Records<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.stream.try_read(buffer)
    }
}

impl io::Write for Records<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.directly { self.wire.send(bytes) } else { self.wire.try_write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
