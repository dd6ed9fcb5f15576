//! The socket under tungstenite: its reads come from the connection, its writes go to the session's send queue.
//!
//! tungstenite keeps the protocol on the read side (masks, fragments, UTF-8, control frames). What it writes, pongs and
//! the answer to a Close, must not interleave with the shared frames that the shard writes, so each of its writes is
//! taken whole into the same queue. It hands over whole frames only, because its own buffer is set to hold none.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::{frame_boundary::FrameBoundary, inflate::Inflate, session::Session};

/// What tungstenite takes for a socket.
pub(crate) struct Transport<'a> {
    pub(crate) session: &'a Session,
    pub(crate) boundary: &'a mut FrameBoundary,
    /// On a connection that negotiated permessage-deflate.
    pub(crate) inflate: Option<&'a mut Inflate>,
    /// Bytes that may still be read before others have a turn. At none it is as if no more had come.
    pub(crate) allowance: &'a mut usize,
}

impl Read for Transport<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { session, boundary, inflate, allowance } = self;
        let mut receive = |buffer: &mut [u8]| {
            let most = buffer.len().min(**allowance);
            if most == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let read = session.socket.try_read(&mut buffer[..most])?;
            **allowance -= read;
            boundary.pass(&buffer[..read]);
            session.heard();
            Ok(read)
        };
        match inflate {
            Some(inflate) => inflate.read(buffer, receive),
            None => receive(buffer),
        }
    }
}

impl Write for Transport<'_> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.session.write_control(Bytes::copy_from_slice(frame));
        Ok(frame.len())
    }

    // The queue is flushed when it is written to, and by the session's task when the socket was full: tungstenite
    // never flushes after a Close, so nothing may depend on it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
