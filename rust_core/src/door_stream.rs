//! An accepted socket while HTTP is spoken on it.
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
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::door_socket::DoorSocket;

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
}

impl DoorStream {
    /// Sends everything until `withhold` is told otherwise.
    pub(crate) fn new(socket: DoorSocket, withhold: Withhold) -> Self {
        Self { socket, withhold, withheld: Vec::new() }
    }

    /// The socket, and what its new owner has to send first.
    pub(crate) fn into_parts(self) -> (DoorSocket, Bytes) {
        (self.socket, self.withheld.into())
    }

    fn is_withholding(&self) -> bool {
        self.withhold.0.load(Relaxed)
    }
}

impl AsyncRead for DoorStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_withholding() {
            self.withheld.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
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
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_sent_until_it_is_to_be_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let withhold = Withhold::default();
        let mut stream = DoorStream::new(DoorSocket::Plain(listener.accept().await.unwrap().0), withhold.clone());
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
