//! A session's socket.

use std::{
    io::{self, IoSlice},
    net,
    ops::Deref,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::net::SendFlags;
use tokio::net::TcpStream;

/// A connection that is registered with its thread's reactor.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// How many bytes a write takes at most. What is full is for the kernel to say.
    #[cfg(test)]
    grain: std::cell::Cell<usize>,
}

impl Socket {
    /// Takes over a socket, which must not block.
    pub(crate) fn from_std(socket: net::TcpStream) -> io::Result<Self> {
        Ok(Self {
            stream: TcpStream::from_std(socket)?,
            #[cfg(test)]
            grain: std::cell::Cell::new(usize::MAX),
        })
    }

    /// Writes what the socket takes, without asking the reactor first, which would cost a cache line of its own. For a
    /// socket that is expected to have room: the reactor does not learn that it is full, so who finds that has to write
    /// through it before waiting for it.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.stream, self.grained(bytes), SendFlags::NOSIGNAL)?)
    }

    /// Writes what the socket takes, where the reactor believes that it takes something.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(self.grained(bytes))
    }

    /// As [`Self::try_write`], of several pieces.
    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(test)]
        let pieces = &self.grained_pieces(pieces)[..];
        self.stream.try_write_vectored(pieces)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests it is used")]
    fn grained<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }
}

#[cfg(test)]
impl Socket {
    /// Takes at most `grain` bytes of each write from now on.
    pub(crate) fn take_at_most(&self, grain: usize) {
        self.grain.set(grain);
    }

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

impl Deref for Socket {
    type Target = TcpStream;

    fn deref(&self) -> &Self::Target {
        &self.stream
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
