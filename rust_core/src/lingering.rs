//! The end of a connection whose peer may still be sending.
//!
//! A socket that is closed with something unread, or for which something comes afterwards, is reset, and a reset may take
//! the last answer from its receiver. So where a peer was answered before it had said all, our side is ended first, and
//! what still comes is read and thrown away, up to a bound (RFC 9112 section 9.6).

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Time that the peer has to read the answer and to end its side.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that are thrown away at most: whoever sends more does not listen.
const MAX_DISCARDED: usize = 64 * 1024;

/// Bytes that are read at a time.
const PIECE: usize = 4 * 1024;

/// What is left of patience with one peer.
#[derive(Debug)]
pub(crate) struct Lingering {
    bytes_left: usize,
    alarm: Pin<Box<Sleep>>,
}

impl Lingering {
    /// From now on. Must be called on a runtime with time.
    pub(crate) fn begin() -> Self {
        Self { bytes_left: MAX_DISCARDED, alarm: Box::pin(sleep(PATIENCE)) }
    }

    /// Throws away what comes from a socket whose own side was ended. Ready at the peer's end, be it a reset, and when
    /// patience is used up: the socket can be closed.
    pub(crate) fn poll(&mut self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; PIECE];
        while self.bytes_left > 0 && self.alarm.as_mut().poll(cx).is_pending() {
            if ready!(socket.poll_read_ready(cx)).is_err() {
                break;
            }
            match socket.try_read(&mut piece) {
                Ok(length @ 1..) => self.bytes_left = self.bytes_left.saturating_sub(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

/// Waits until `socket`, whose own side was ended, can be closed without harm, or until patience is used up.
pub(crate) async fn linger(socket: &TcpStream) {
    let mut lingering = Lingering::begin();
    poll_fn(|cx| lingering.poll(socket, cx)).await;
}

/// Whether something has come that nobody has read: closing the socket now would reset the connection.
pub(crate) fn has_unread(socket: &TcpStream) -> bool {
    rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}
