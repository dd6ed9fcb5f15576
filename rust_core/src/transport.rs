//! The socket under tungstenite: its reads come from the connection, its writes go to the session's send queue.
//!
//! tungstenite keeps the protocol on the read side (masks, fragments, UTF-8, control frames). What it writes, pongs and
//! the answer to a Close, must not interleave with the shared frames that the shard writes, so each of its writes is
//! taken whole into the same queue. It hands over whole frames only, because its own buffer is set to hold none.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::session::Session;

/// What tungstenite takes for a socket.
pub(crate) struct Transport(pub(crate) Rc<Session>);

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.socket.poll_read_ready(context))?;
            match self.0.socket.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    self.0.heard();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        self.0.write_control(Bytes::copy_from_slice(frame));
        Poll::Ready(Ok(frame.len()))
    }

    // The queue is flushed when it is written to, and by the session's task when the socket was full: tungstenite
    // never flushes after a Close, so nothing may depend on it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
