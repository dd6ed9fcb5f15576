//! One connection's state: it asks for the upgrade, then counts what it gets.

use std::io::{self, Read, Write};

use memchr::memmem;
use mio::net::TcpStream;

use crate::{
    frames::{Frame, client_frame, next_frame, opcode},
    report::{Tally, now_ns},
};

/// More than this of an unfinished frame or answer is not kept: the connection is given up.
const MAX_UNFINISHED: usize = 32 * 1024 * 1024;

/// The member that says when a message was published, with the opening of its value.
const STAMP: &[u8] = b"\"stamp\":";

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The request is being sent, its answer awaited.
    Handshake,
    /// Past the 101.
    Open,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The handshake was answered by this status instead of 101; 0: by nothing.
    Refused(u16),
    /// By this close code; 1006 without one.
    Closed(u16),
}

/// A connection and what of it is unfinished.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) phase: Phase,
    /// Does not read: a client that is too slow.
    pub(crate) paused: bool,
    /// The beginning of a frame, or of the handshake's answer.
    unfinished: Vec<u8>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream, request: Vec<u8>) -> Self {
        Self { socket, phase: Phase::Handshake, paused: false, unfinished: Vec::new(), unsent: request }
    }

    /// Sends what waits.
    pub(crate) fn write(&mut self) -> Result<(), End> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => {
                    self.unsent.drain(..written);
                }
                Err(error) if is_pending(&error) => break,
                Err(_) => return Err(self.broken()),
            }
        }
        // Most connections never send again.
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        Ok(())
    }

    /// Reads all that is there.
    pub(crate) fn read(&mut self, buffer: &mut [u8], tally: &mut Tally) -> Result<(), End> {
        while !self.paused {
            match self.socket.read(buffer) {
                Ok(0) => return Err(self.broken()),
                Ok(read) => {
                    self.take(&buffer[..read], tally)?;
                    // A stream that gave less than was asked for is empty; the next bytes are a new event (epoll(7)).
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if is_pending(&error) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.broken()),
            }
        }
        Ok(())
    }

    /// Says that this side is done.
    pub(crate) fn close(&mut self) {
        self.unsent.extend_from_slice(&client_frame(opcode::CLOSE, &1000_u16.to_be_bytes()));
        // Whatever the peer makes of it, the socket goes next.
        let _ = self.write();
    }

    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> Result<(), End> {
        let now = now_ns();
        if self.phase == Phase::Open && self.unfinished.is_empty() {
            let consumed = self.take_frames(bytes, now, tally)?;
            self.unfinished.extend_from_slice(&bytes[consumed..]);
            return Ok(());
        }
        self.unfinished.extend_from_slice(bytes);
        if self.unfinished.len() > MAX_UNFINISHED {
            return Err(self.broken());
        }
        let gathered = std::mem::take(&mut self.unfinished);
        let mut consumed = 0;
        if self.phase == Phase::Handshake {
            let Some(end) = memmem::find(&gathered, b"\r\n\r\n") else {
                self.unfinished = gathered;
                return Ok(());
            };
            match status(&gathered) {
                101 => self.phase = Phase::Open,
                other => return Err(End::Refused(other)),
            }
            tally.open += 1;
            consumed = end + 4;
        }
        consumed += self.take_frames(&gathered[consumed..], now, tally)?;
        if consumed < gathered.len() {
            self.unfinished = gathered[consumed..].to_vec();
        }
        Ok(())
    }

    /// Works on whole frames; returns how many bytes they took.
    fn take_frames(&mut self, bytes: &[u8], now: u64, tally: &mut Tally) -> Result<usize, End> {
        let mut consumed = 0;
        while let Some((frame, length)) = next_frame(&bytes[consumed..]) {
            consumed += length;
            self.take_frame(&frame, now, tally)?;
        }
        tally.bytes += consumed as u64;
        Ok(consumed)
    }

    fn take_frame(&mut self, frame: &Frame<'_>, now: u64, tally: &mut Tally) -> Result<(), End> {
        match frame.opcode {
            opcode::TEXT => {
                tally.messages += 1;
                tally.compressed += u64::from(frame.compressed);
                if let Some(stamp) = stamp(frame) {
                    tally.received(stamp, now);
                }
            }
            opcode::PING => {
                self.unsent.extend_from_slice(&client_frame(opcode::PONG, frame.payload));
                self.write()?;
            }
            opcode::CLOSE => {
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                return Err(End::Closed(code));
            }
            _ => {}
        }
        Ok(())
    }

    fn broken(&self) -> End {
        match self.phase {
            Phase::Handshake => End::Refused(0),
            Phase::Open => End::Closed(1006),
        }
    }
}

fn is_pending(error: &io::Error) -> bool {
    // A socket whose connect is under way says so to a write.
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

/// The status of an HTTP/1.1 answer; 0 where it is none.
fn status(answer: &[u8]) -> u16 {
    answer
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok())
        .unwrap_or(0)
}

/// The moment that a message says it was published at.
fn stamp(frame: &Frame<'_>) -> Option<u64> {
    if frame.compressed {
        return None;
    }
    let start = memmem::find(frame.payload, STAMP)? + STAMP.len();
    let value = frame.payload.get(start..)?.trim_ascii_start();
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let mut stamp: Option<u64> = None;
    for digit in digits {
        stamp = Some(stamp.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit - b'0'))?);
    }
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &[u8]) -> Frame<'_> {
        Frame { opcode: opcode::TEXT, compressed: false, payload }
    }

    #[test]
    fn a_stamp_is_found_wherever_it_stands() {
        assert_eq!(stamp(&text(br#"{"type":"x","data":{"stamp":123,"more":4}}"#)), Some(123));
        assert_eq!(stamp(&text(br#"{"stamp": 18446744073709551615}"#)), Some(u64::MAX));
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for payload in [
            &b"{}"[..],
            br#"{"timestamp":"2026"}"#,
            br#"{"stamp":}"#,
            br#"{"stamp":"1"}"#,
            br#"{"stamp":18446744073709551616}"#,
        ] {
            assert_eq!(stamp(&text(payload)), None, "{}", String::from_utf8_lossy(payload));
        }
        assert_eq!(stamp(&Frame { compressed: true, ..text(br#"{"stamp":1}"#) }), None);
    }

    #[test]
    fn a_status_is_three_digits_of_an_http_1_1_answer() {
        assert_eq!(status(b"HTTP/1.1 429 Too Many Requests\r\n\r\n"), 429);
        assert_eq!(status(b"HTTP/1.0 200 OK\r\n\r\n"), 0);
        assert_eq!(status(b"HTTP/1.1"), 0);
    }
}
