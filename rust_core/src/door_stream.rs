//! An accepted socket while HTTP is spoken on it.
//!
//! What is read from it goes by the [`RequestGuard`] first. A peer that does not take what is written to it is given up
//! once the [`Patience`] with it is over. One that was answered in the middle of what it says can read that answer before
//! the socket is closed: see [`Lingering`].
//!
//! It can be told to keep what is written to it from then on. The front door does so with the answer to a WebSocket
//! handshake, so that the shard that takes the socket over sends it together with the first frame: one system call and
//! one packet less for each connection, on either side.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    door_socket::DoorSocket,
    lingering::{Lingering, has_unread},
    patience::Patience,
    request_guard::RequestGuard,
};

/// Tells a [`DoorStream`] to keep what is written from now on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Withhold(Arc<AtomicBool>);

impl Withhold {
    /// For good.
    pub(crate) fn begin(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A socket, and what was written to it and not sent.
#[derive(Debug)]
pub(crate) struct DoorStream {
    socket: DoorSocket,
    withhold: Withhold,
    withheld: Vec<u8>,
    guard: RequestGuard,
    patience: Patience,
    /// Once our side of the stream was ended while the peer may go on with its own.
    lingering: Option<Lingering>,
}

impl DoorStream {
    /// Lets in what `guard` lets pass, and sends everything until `withhold` is told otherwise.
    pub(crate) fn new(socket: DoorSocket, withhold: Withhold, guard: RequestGuard) -> Self {
        Self { socket, withhold, withheld: Vec::new(), guard, patience: Patience::default(), lingering: None }
    }

    /// The socket, and what its new owner has to send first.
    pub(crate) fn into_parts(self) -> (DoorSocket, Bytes) {
        (self.socket, self.withheld.into())
    }

    fn is_withholding(&self) -> bool {
        self.withhold.0.load(Relaxed)
    }

    /// What an attempt to send something came to, unless the peer has been waited for too long. `moved` says of its outcome
    /// how many bytes that were.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: Poll<io::Result<T>>,
        moved: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match &attempt {
            Poll::Ready(outcome) => self.patience.moved(outcome.as_ref().map_or(0, moved)),
            Poll::Pending => {
                ready!(self.patience.wait(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        attempt
    }
}

impl AsyncRead for DoorStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.guard.has_refused() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
            let passed = this.guard.pass(&buffer.filled()[before..]);
            buffer.set_filled(before + passed);
            if passed > 0 || !this.guard.has_refused() {
                return Poll::Ready(Ok(()));
            }
        }
        buffer.put_slice(this.guard.refuse(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_withholding() {
            self.withheld.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(cx, written, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_withholding() {
            let before = self.withheld.len();
            for slice in slices {
                self.withheld.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(self.withheld.len() - before));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.judge(cx, written, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.judge(cx, flushed, |()| 0)
    }

    /// Ends our side of the stream, and waits until closing the socket does no harm.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            let shut = Pin::new(&mut this.socket).poll_shutdown(cx);
            ready!(this.judge(cx, shut, |()| 0))?;
            if !this.guard.awaits_more() && !has_unread(this.socket.tcp()) {
                return Poll::Ready(Ok(()));
            }
        }
        let lingering = this.lingering.get_or_insert_with(Lingering::begin);
        lingering.poll(this.socket.tcp(), cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::request_guard::UpgradeGate;

    #[tokio::test]
    async fn what_is_written_is_sent_until_it_is_to_be_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let withhold = Withhold::default();
        let guard = RequestGuard::new(UpgradeGate::default());
        let socket = DoorSocket::Plain(listener.accept().await.unwrap().0);
        let mut stream = DoorStream::new(socket, withhold.clone(), guard);
        stream.write_all(b"sent").await.unwrap();
        withhold.begin();
        stream.write_all(b"kept ").await.unwrap();
        let slices = [IoSlice::new(b"as "), IoSlice::new(b"well")];
        assert_eq!(stream.write_vectored(&slices).await.unwrap(), 7);
        let (socket, kept) = stream.into_parts();
        assert_eq!(kept, "kept as well");
        drop(socket);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"sent");
    }
}
