//! A client's bytes as the messages that they are: tungstenite's machine, and what stands before it.
//!
//! It does no I/O of its own: bytes come from a [`Line`], and what has to be answered, pongs and a Close, goes to it. All of
//! it is needed only while a message or a frame is unfinished; between two it may be dropped and made anew.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::{
    Message,
    error::{CapacityError, Error as Failure, ProtocolError},
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use crate::{
    close::CloseReason,
    frame_boundary::FrameBoundary,
    inflate::{Inflate, StreamError},
};

/// Bytes that tungstenite reads at a time.
const READ_BUFFER_BYTES: usize = 2048;

/// The connection under the protocol.
pub trait Line {
    /// As [`io::Read::read`] of a socket that does not block.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Takes a whole frame that the peer's own demands: a pong, or the answer to a Close.
    fn send_control(&mut self, frame: Bytes);
}

/// The server's side of one client's stream.
#[derive(Debug)]
pub struct Protocol {
    machine: WebSocketContext,
    boundary: FrameBoundary,
    /// On a connection that negotiated permessage-deflate.
    inflate: Option<Box<Inflate>>,
}

impl Protocol {
    /// For a stream that stands between two messages, but for the bytes that were read already. `deflates`: its messages
    /// may be compressed (RFC 7692). None may have more than `max_message_bytes`, plain.
    #[must_use]
    pub fn new(deflates: bool, max_message_bytes: usize, read_ahead: &[u8]) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(64 * 1024)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let mut boundary = FrameBoundary::default();
        boundary.pass(read_ahead);
        let (inflate, read_ahead) = if deflates {
            (Some(Box::new(Inflate::new(read_ahead.to_vec(), max_message_bytes))), Vec::new())
        } else {
            (None, read_ahead.to_vec())
        };
        Self {
            machine: WebSocketContext::from_partially_read(read_ahead, Role::Server, Some(config)),
            boundary,
            inflate,
        }
    }

    /// The next message, control frames among them. [`Failure::Io`] is the line's own, `WouldBlock` where there is no more
    /// for now, or says by [`close_reason`] what is wrong with a compressed message; whatever else fails is final.
    pub fn read(&mut self, line: &mut impl Line) -> Result<Message, Failure> {
        let Self { machine, boundary, inflate } = self;
        machine.read(&mut Stream { line, boundary, inflate: inflate.as_deref_mut() })
    }

    /// From now on compressed messages are dropped: to be called when only the peer's Close is of interest.
    pub fn drop_messages(&mut self) {
        if let Some(inflate) = &mut self.inflate {
            inflate.drop_messages();
        }
    }

    /// Whether nothing is unfinished of all that was received.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.boundary.is_between_messages()
    }
}

/// How a connection is closed whose peer broke a rule; `None` where it was not the peer's doing.
#[must_use]
pub fn close_reason(failure: &Failure) -> Option<CloseReason> {
    match failure {
        Failure::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseReason::MessageTooBig),
        Failure::Utf8(_) => Some(CloseReason::InvalidUtf8),
        Failure::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Failure::Protocol(_) => Some(CloseReason::ProtocolError),
        Failure::Io(error) => StreamError::of(error).map(StreamError::close_reason),
        _ => None,
    }
}

/// What tungstenite takes for a socket. It hands over whole frames only, because its own buffer is set to hold none.
struct Stream<'a, L> {
    line: &'a mut L,
    boundary: &'a mut FrameBoundary,
    inflate: Option<&'a mut Inflate>,
}

impl<L: Line> Read for Stream<'_, L> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { line, boundary, inflate } = self;
        let mut receive = |buffer: &mut [u8]| {
            let read = line.receive(buffer)?;
            boundary.pass(&buffer[..read]);
            Ok(read)
        };
        match inflate {
            Some(inflate) => inflate.read(buffer, receive),
            None => receive(buffer),
        }
    }
}

impl<L: Line> Write for Stream<'_, L> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.line.send_control(Bytes::copy_from_slice(frame));
        Ok(frame.len())
    }

    // Who takes the frames sends them by itself: tungstenite never flushes after a Close, so nothing may depend on it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
