//! The socket under the protocol: its bytes come from the connection, its answers go to the session's send queue.
//!
//! Pongs and the answer to a Close must not interleave with the shared frames that the shard writes, so each is taken whole
//! into the same queue. That is flushed when it is written to, and by the session's task when the socket was full.

use std::io;

use bytes::Bytes;

use crate::{protocol::Line, session::Session};

/// A session's socket, for one turn.
pub(crate) struct Transport<'a> {
    pub(crate) session: &'a Session,
    /// Bytes that may still be read before others have a turn. At none it is as if no more had come.
    pub(crate) allowance: &'a mut usize,
}

impl Line for Transport<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(*self.allowance);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.session.socket.try_read(&mut buffer[..most])?;
        *self.allowance -= read;
        self.session.heard();
        Ok(read)
    }

    fn send_control(&mut self, frame: Bytes) {
        self.session.write_control(frame);
    }
}
