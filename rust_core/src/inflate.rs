//! A client's stream with its compressed messages made plain, for the protocol machine, which knows no extensions.
//!
//! A message that is marked as compressed (RFC 7692 section 6) is gathered, decompressed, and passed on as one frame
//! that is masked by zeros. Everything else passes as it is, also what is wrong: the machine judges it. A reserved bit
//! where it has no business, on a continuation or a control frame, is refused by it as on a connection without the
//! extension.
//!
//! A message is decompressed when all of it has come, so what is held of an unfinished one is no more than what its
//! sender has sent.

use std::io;

use crate::{
    close::CloseReason,
    deflate::{self, InflateError},
    frame_header::{FrameHeader, PartialHeader},
};

/// Bytes that are read at a time.
const READ_BYTES: usize = 2048;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;

/// Why a stream cannot be made plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A message was compressed, and cannot be read.
    #[error(transparent)]
    Message(#[from] InflateError),
    /// A message began before the compressed one was finished (RFC 6455 section 5.4).
    #[error("a message began within another")]
    Interleaved,
}

impl StreamError {
    /// How the connection is closed. Data that cannot be decompressed is 1007: RFC 7692 names no code, the framing
    /// holds, and the payload is not what its frame says it is (RFC 6455 section 7.4.1).
    #[must_use]
    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::Message(InflateError::Invalid) => CloseReason::InvalidDeflate,
            Self::Message(InflateError::TooLong) => CloseReason::MessageTooBig,
            Self::Interleaved => CloseReason::ProtocolError,
        }
    }

    /// The error that [`Inflate::read`] put into one of the transport.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// The stream of one client. It has to be there while a frame or a message is unfinished, and not between two.
#[derive(Debug)]
pub struct Inflate {
    max_message_bytes: usize,
    /// What was read and not yet looked at, from `at` on.
    read: Vec<u8>,
    at: usize,
    place: Place,
    /// The compressed message that is being gathered.
    message: Option<Gathered>,
    /// What can be passed on, from `passed` on.
    plain: Vec<u8>,
    passed: usize,
    /// Nobody wants compressed messages any more.
    drops_messages: bool,
}

/// What comes next.
#[derive(Debug)]
enum Place {
    Header(PartialHeader),
    /// This many bytes of a payload that is passed on.
    Passing(u64),
    /// This many bytes of a compressed payload. `mask` begins with the key for the next byte; `last`: it ends its
    /// message.
    Gathering {
        left: u64,
        mask: [u8; 4],
        last: bool,
    },
}

/// The frames so far of a compressed message.
#[derive(Debug)]
struct Gathered {
    opcode: u8,
    payload: Vec<u8>,
}

impl Gathered {
    /// Takes the next part of the payload, which is masked.
    fn gather(&mut self, part: &[u8], mask: [u8; 4]) {
        let start = self.payload.len();
        self.payload.extend_from_slice(part);
        for group in self.payload[start..].chunks_mut(mask.len()) {
            for (byte, key) in group.iter_mut().zip(mask) {
                *byte ^= key;
            }
        }
    }
}

impl Inflate {
    /// For a stream whose first bytes were read already. A message may have `max_message_bytes`.
    #[must_use]
    pub fn new(read_ahead: Vec<u8>, max_message_bytes: usize) -> Self {
        Self {
            max_message_bytes,
            read: read_ahead,
            at: 0,
            place: Place::Header(PartialHeader::default()),
            message: None,
            plain: Vec::new(),
            passed: 0,
            drops_messages: false,
        }
    }

    /// From now on compressed messages are dropped: to be called when only the peer's Close is of interest, since they
    /// cost so much more to read than to send.
    pub fn drop_messages(&mut self) {
        self.drops_messages = true;
    }

    /// As [`io::Read::read`], from a stream that `receive` reads in the same way. What `receive` fails with, and a
    /// [`StreamError`] likewise, is passed on when all before it was read.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if self.passed < self.plain.len() {
                let length = buffer.len().min(self.plain.len() - self.passed);
                buffer[..length].copy_from_slice(&self.plain[self.passed..][..length]);
                self.passed += length;
                return Ok(length);
            }
            self.passed = 0;
            if self.plain.capacity() > READ_BYTES {
                self.plain = Vec::new();
            } else {
                self.plain.clear();
            }
            if self.at == self.read.len() {
                self.at = 0;
                self.read.resize(READ_BYTES, 0);
                let received = receive(&mut self.read);
                self.read.truncate(*received.as_ref().unwrap_or(&0));
                if received? == 0 {
                    return Ok(0);
                }
            }
            self.advance().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Works on what was read until something can be passed on, or nothing is left.
    fn advance(&mut self) -> Result<(), StreamError> {
        while self.plain.is_empty() && self.at < self.read.len() {
            match &mut self.place {
                Place::Header(partial) => {
                    let complete = partial.push(self.read[self.at]);
                    self.at += 1;
                    if let Some(header) = complete {
                        let bytes = *partial;
                        self.begin_payload(header, bytes.bytes())?;
                    }
                }
                Place::Passing(left) => {
                    let rest = &self.read[self.at..];
                    let length = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.plain.extend_from_slice(&rest[..length]);
                    self.at += length;
                    *left -= length as u64;
                    if *left == 0 {
                        self.place = Place::Header(PartialHeader::default());
                    }
                }
                Place::Gathering { left, mask, last } => {
                    let rest = &self.read[self.at..];
                    let length = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    if let Some(message) = &mut self.message {
                        message.gather(&rest[..length], *mask);
                    }
                    mask.rotate_left(length % 4);
                    self.at += length;
                    *left -= length as u64;
                    if *left == 0 {
                        let last = *last;
                        self.end_payload(last)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_payload(&mut self, header: FrameHeader, bytes: &[u8]) -> Result<(), StreamError> {
        let opcode = header.first & OPCODE;
        let begins = matches!(opcode, 1 | 2) && header.first & RESERVED == RSV1 && self.message.is_none();
        let goes_on = opcode == 0 && header.first & RESERVED == 0 && self.message.is_some();
        if self.message.is_some() && matches!(opcode, 1 | 2) {
            return Err(StreamError::Interleaved);
        }
        let (true, Some(mask)) = (begins || goes_on, header.mask) else {
            self.plain.extend_from_slice(bytes);
            self.place = if header.length == 0 {
                Place::Header(PartialHeader::default())
            } else {
                Place::Passing(header.length)
            };
            return Ok(());
        };
        let message = self.message.get_or_insert_with(|| Gathered { opcode, payload: Vec::new() });
        // What does not shrink grows a little; beyond that only a sender that means no good goes.
        let most = self.max_message_bytes + self.max_message_bytes / 16 + 64;
        if header.length > most.saturating_sub(message.payload.len()) as u64 {
            return Err(InflateError::TooLong.into());
        }
        self.place = Place::Gathering { left: header.length, mask, last: header.is_final() };
        if header.length == 0 { self.end_payload(header.is_final()) } else { Ok(()) }
    }

    /// The end of a compressed frame, and of its message where it is the last.
    fn end_payload(&mut self, last: bool) -> Result<(), StreamError> {
        self.place = Place::Header(PartialHeader::default());
        match self.message.take_if(|_| last) {
            Some(message) if !self.drops_messages => self.pass_on(&message),
            _ => Ok(()),
        }
    }

    /// Decompresses a message, and puts it into one masked frame. Its header has a length in eight bytes, whatever the
    /// length is, since that is known last; the machine does not mind.
    fn pass_on(&mut self, message: &Gathered) -> Result<(), StreamError> {
        let mut header = [0; 14];
        header[..2].copy_from_slice(&[FIN | message.opcode, 0xff]);
        self.plain.extend_from_slice(&header);
        deflate::decompress(&message.payload, self.max_message_bytes, &mut self.plain)?;
        let length = (self.plain.len() - header.len()) as u64;
        self.plain[2..10].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
