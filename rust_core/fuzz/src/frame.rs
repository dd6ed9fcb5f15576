//! A client's stream after the handshake: what it is read as may not depend on how it comes.
//!
//! The first byte says whether messages may be compressed and how long they may be, the second how the rest, the stream, is
//! cut into reads. What is read of it bit by bit, the protocol machine dropped and made anew between messages as a session
//! does it, is what is read of it at once, by one machine; without compression that is tungstenite's own reading. Where a
//! message ends is checked against a plain reading of the headers.

use std::io::{self, Read, Write};

use bytes::Bytes;
use jasaweb_rt_core::{
    frame_boundary::FrameBoundary,
    protocol::{Line, Protocol, close_reason},
};
use tokio_tungstenite::tungstenite::{
    Message,
    error::Error as Failure,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

const LIMITS: [usize; 4] = [125, 200, 2000, 65_536];

/// A stream that comes in pieces; behind each there is nothing to be read for now.
struct Pieces<'a> {
    left: &'a [u8],
    /// Bytes of the present piece that are still to come.
    piece: usize,
    /// Everything that was answered.
    answers: Vec<Bytes>,
}

impl Line for Pieces<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.piece.min(buffer.len()).min(self.left.len());
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (now, later) = self.left.split_at(length);
        buffer[..length].copy_from_slice(now);
        (self.left, self.piece) = (later, self.piece - length);
        Ok(length)
    }

    fn send_control(&mut self, frame: Bytes) {
        self.answers.push(frame);
    }
}

/// The same for tungstenite alone.
struct Bare<'a>(Pieces<'a>);

impl Read for Bare<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buffer)
    }
}

impl Write for Bare<'_> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.0.send_control(Bytes::copy_from_slice(frame));
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What became of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<Message>,
    answers: Vec<Bytes>,
    /// Why it was read no further; `None`: all of it was taken.
    end: Option<End>,
}

#[derive(Debug, PartialEq)]
enum End {
    /// The peer has closed.
    Closed,
    /// With which code it is closed that broke a rule.
    Fault(u16),
}

fn end_of(failure: &Failure) -> Option<End> {
    match failure {
        Failure::ConnectionClosed => Some(End::Closed),
        Failure::Io(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        fault => {
            let reason = close_reason(fault);
            let code = reason.unwrap_or_else(|| panic!("no peer can bring about {fault:?}")).code();
            assert!([1002, 1007, 1009].contains(&code), "{fault:?} is answered by {code}");
            Some(End::Fault(code))
        }
    }
}

/// As a session reads: the machine is dropped wherever nothing is unfinished.
fn in_pieces(deflates: bool, limit: usize, stream: &[u8], mut sizes: impl FnMut() -> usize) -> Outcome {
    let ahead = sizes().min(stream.len());
    let mut line = Pieces { left: &stream[ahead..], piece: 0, answers: Vec::new() };
    let mut present = Some(Protocol::new(deflates, limit, &stream[..ahead]));
    let (mut messages, mut boundary) = (Vec::new(), FrameBoundary::default());
    let mut seen = 0;
    loop {
        let protocol = present.get_or_insert_with(|| Protocol::new(deflates, limit, &[]));
        match protocol.read(&mut line) {
            Ok(message) => messages.push(message),
            Err(failure) => {
                if let Some(end) = end_of(&failure) {
                    return Outcome { messages, answers: line.answers, end: Some(end) };
                }
                let come = stream.len() - line.left.len();
                boundary.pass(&stream[seen..come]);
                seen = come;
                assert_eq!(boundary.is_between_messages(), ends_a_message(&stream[..come]), "after {come} bytes");
                if protocol.is_between_messages() {
                    assert!(boundary.is_between_messages());
                    present = None;
                }
                if line.left.is_empty() {
                    return Outcome { messages, answers: line.answers, end: None };
                }
                line.piece = sizes();
            }
        }
    }
}

/// What tungstenite by itself makes of it.
fn by_tungstenite(limit: usize, stream: &[u8]) -> Outcome {
    let config = WebSocketConfig::default().max_message_size(Some(limit)).max_frame_size(Some(limit));
    let mut machine = WebSocketContext::new(Role::Server, Some(config));
    let mut line = Bare(Pieces { left: stream, piece: stream.len(), answers: Vec::new() });
    let mut messages = Vec::new();
    loop {
        match machine.read(&mut line) {
            Ok(message) => messages.push(message),
            Err(failure) => return Outcome { messages, answers: line.0.answers, end: end_of(&failure) },
        }
    }
}

/// Whether a stream of sound frames ends with one, and with its message (RFC 6455 sections 5.2 and 5.4).
fn ends_a_message(mut stream: &[u8]) -> bool {
    let mut within = false;
    while !stream.is_empty() {
        let Some((first, mask, length, header)) = header(stream) else { return false };
        let Some(rest) = stream.get(header + mask..).filter(|rest| rest.len() as u64 >= length) else { return false };
        stream = &rest[length as usize..];
        if first & 0x0f < 8 {
            within = first & 0x80 == 0;
        }
    }
    !within
}

/// First byte, bytes of the mask, of the payload and of the rest of the header.
fn header(stream: &[u8]) -> Option<(u8, usize, u64, usize)> {
    let (first, second) = (*stream.first()?, *stream.get(1)?);
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    Some(match second & 0x7f {
        126 => (first, mask, u64::from(u16::from_be_bytes(stream.get(2..4)?.try_into().ok()?)), 4),
        127 => (first, mask, u64::from_be_bytes(stream.get(2..10)?.try_into().ok()?), 10),
        short => (first, mask, u64::from(short), 2),
    })
}

/// Reads the stream in several ways.
pub fn check(data: &[u8]) {
    let [options, cut, stream @ ..] = data else { return };
    let (deflates, limit) = (options & 1 != 0, LIMITS[usize::from(options >> 1) % LIMITS.len()]);
    let whole = in_pieces(deflates, limit, stream, || stream.len());
    let mut state = u32::from(*cut) + 1;
    let cut_up = in_pieces(deflates, limit, stream, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % (1 + usize::from(*cut))
    });
    assert_eq!(cut_up, whole);
    if !deflates {
        assert_eq!(by_tungstenite(limit, stream), whole);
    }
    assert!(whole.messages.iter().all(|message| message.len() <= limit));
}
