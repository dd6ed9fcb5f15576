//! The far end of a connection, and what the model knows of it.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
};

use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestCaseResult},
};

use super::{
    LONGEST, UNCOUNTED_BYTES,
    line::Line,
    program::{Act, Violation},
};
use crate::close::CloseReason;

/// A frame that a peer has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    opcode: u8,
    payload: Vec<u8>,
}

/// The far end of a connection, and what the model knows of it.
pub(super) struct Peer {
    pub(super) number: u64,
    line: Line,
    pub(super) bytes: Vec<u8>,
    /// How many of them were whole frames.
    parsed: usize,
    frames: Vec<Received>,
    pub(super) at_end: bool,
    /// What its socket has not taken yet.
    unsent: Vec<u8>,
    /// It has closed, or broken the protocol: it sends no more.
    silent: bool,
    /// It has sent a Close.
    closed: bool,
    /// Payloads of direct messages, texts and pings, in the order in which they were sent.
    pub(super) direct: Vec<Vec<u8>>,
    texts: Vec<Vec<u8>>,
    pings: Vec<Vec<u8>>,
    answered: usize,
    /// The messages that came out as events.
    pub(super) heard: Vec<Vec<u8>>,
    /// For each close code that it may be sent: how many direct messages had been published when that began.
    closes: BTreeMap<u16, usize>,
    /// The most bytes that were ever on their way to it.
    pub(super) most_unread: usize,
    pub(super) queued: usize,
    /// The code with which the shard told of its end.
    pub(super) told: Option<u16>,
}

impl Peer {
    pub(super) fn new(number: u64, line: Line) -> Self {
        Self {
            number,
            line,
            bytes: Vec::new(),
            parsed: 0,
            frames: Vec::new(),
            at_end: false,
            unsent: Vec::new(),
            silent: false,
            closed: false,
            direct: Vec::new(),
            texts: Vec::new(),
            pings: Vec::new(),
            answered: 0,
            heard: Vec::new(),
            closes: BTreeMap::new(),
            most_unread: 0,
            queued: 0,
            told: None,
        }
    }

    pub(super) fn read(&mut self, limit: usize) -> TestCaseResult {
        let mut buffer = vec![0; limit.min(64 * 1024)];
        let mut left = limit;
        while left > 0 && !self.at_end {
            let length = left.min(buffer.len());
            match self.line.read(&mut buffer[..length]) {
                Ok(0) => self.at_end = true,
                Ok(read) => {
                    self.bytes.extend_from_slice(&buffer[..read]);
                    left -= read;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(TestCaseError::fail(format!("a peer could not read: {error}"))),
            }
        }
        self.parse()
    }

    fn parse(&mut self) -> TestCaseResult {
        while let Some((received, length)) = parse(&self.bytes[self.parsed..])? {
            self.parsed += length;
            self.frames.push(received);
        }
        Ok(())
    }

    fn send(&mut self, opcode: u8, fin: bool, payload: &[u8]) {
        let mut frame = vec![(u8::from(fin) << 7) | opcode];
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 0x7E);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        let mask = [0x5a, 0x00, 0xff, 0x13];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.unsent.extend_from_slice(&frame);
    }

    fn ping(&mut self, payload: Vec<u8>) {
        self.send(0x9, true, &payload);
        self.pings.push(payload);
    }

    /// Hands to the socket what it takes; one that was closed takes nothing any more.
    pub(super) fn write(&mut self) {
        while !self.unsent.is_empty() {
            match self.line.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.unsent.clear(),
            }
        }
        self.line.send_on();
    }

    pub(super) fn act(&mut self, act: &Act) -> TestCaseResult {
        if let Act::Read(bytes) = act {
            return self.read(*bytes);
        }
        if self.silent {
            return Ok(());
        }
        match act {
            Act::Read(_) => {}
            Act::Ping(length) => self.ping(vec![b'p'; usize::from(*length).min(125)]),
            Act::Pong => self.send(0xA, true, b"unasked"),
            Act::AnswerPings => {
                let nonces: Vec<_> = self.payloads(0x9).skip(self.answered).cloned().collect();
                self.answered += nonces.len();
                for nonce in nonces {
                    self.send(0xA, true, &nonce);
                }
            }
            Act::Text(length, fragments) => {
                let text = message('t', self.texts.len(), *length);
                let parts: Vec<_> = text.chunks(text.len().div_ceil(*fragments)).map(<[u8]>::to_vec).collect();
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        self.ping(format!("between {index}").into_bytes());
                    }
                    self.send(u8::from(index == 0), index + 1 == parts.len(), part);
                }
                self.texts.push(text);
            }
            Act::Close => {
                self.may_be_closed(1000);
                self.send(0x8, true, &1000_u16.to_be_bytes());
                (self.silent, self.closed) = (true, true);
            }
            Act::Violate(violation) => {
                let code = match violation {
                    Violation::Binary => {
                        self.send(0x2, true, b"binary");
                        CloseReason::BinaryRefused
                    }
                    Violation::NotUtf8 => {
                        self.send(0x1, true, &[0xc3, 0x28]);
                        CloseReason::InvalidUtf8
                    }
                    Violation::TooBig => {
                        self.send(0x1, true, &vec![b'x'; 2 * LONGEST]);
                        CloseReason::MessageTooBig
                    }
                    Violation::ReservedBit => {
                        self.unsent.extend_from_slice(&[0xF1, 0x80, 0, 0, 0, 0]);
                        CloseReason::ProtocolError
                    }
                    Violation::NotMasked => {
                        self.unsent.extend_from_slice(&[0x81, 0]);
                        CloseReason::ProtocolError
                    }
                };
                self.may_be_closed(code.code());
                self.silent = true;
            }
        }
        self.write();
        Ok(())
    }

    /// Answers the shard's Close, unless it was the answer to one, and ends its side of the stream.
    pub(super) fn answer_close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.send(0x8, true, &[]);
        }
        self.silent = true;
        self.write();
        if self.unsent.is_empty() {
            self.line.end();
        }
    }

    /// Something has begun that ends the connection by this code.
    pub(super) fn may_be_closed(&mut self, code: u16) {
        let published = self.direct.len();
        self.closes.entry(code).or_insert(published);
    }

    fn payloads(&self, opcode: u8) -> impl Iterator<Item = &Vec<u8>> {
        self.frames.iter().filter(move |frame| frame.opcode == opcode).map(|frame| &frame.payload)
    }

    pub(super) fn messages(&self, kind: u8) -> Vec<&Vec<u8>> {
        self.payloads(0x1).filter(|payload| payload[0] == kind).collect()
    }

    pub(super) fn close_code(&self) -> Option<u16> {
        self.payloads(0x8).next().map(|payload| u16::from_be_bytes([payload[0], payload[1]]))
    }

    /// The shard told of its end by the code that it was closed with, or closed with itself.
    pub(super) fn was_told_rightly(&self) -> bool {
        let closed_first = self.closes.contains_key(&1000) && self.told == Some(1000);
        closed_first || (self.told.is_some() && self.told == self.close_code())
    }

    /// All that was sent to it and by it has arrived.
    pub(super) fn is_complete(&self, head: usize) -> bool {
        self.messages(b'd').len() == self.direct.len()
            && self.messages(b's').len() == head
            && self.payloads(0xA).count() == self.pings.len()
            && self.heard.len() == self.texts.len()
    }

    /// What holds at any time: what was read is the beginning of what was sent, and nothing follows a Close.
    pub(super) fn check(&self, committed: &[Vec<u8>], limit: usize) -> TestCaseResult {
        if let Some(first) = self.payloads(0x1).next() {
            prop_assert!(first.starts_with(b"{\"type\":\"system_announcement\""), "the welcome comes first");
        }
        is_beginning("direct messages", &self.messages(b'd'), &self.direct)?;
        is_beginning("durable messages", &self.messages(b's'), committed)?;
        is_beginning("pongs", &self.payloads(0xA).collect::<Vec<_>>(), &self.pings)?;
        is_beginning("client messages", &self.heard.iter().collect::<Vec<_>>(), &self.texts)?;
        let known = 1 + self.messages(b'd').len() + self.messages(b's').len();
        prop_assert!(self.payloads(0x1).count() <= known, "a message that nobody sent");
        let Some(code) = self.close_code() else { return Ok(()) };
        prop_assert_eq!(self.frames.last().map(|last| last.opcode), Some(0x8), "a frame behind the Close");
        prop_assert_eq!(self.parsed, self.bytes.len(), "bytes behind the Close");
        match (code, self.closes.get(&code)) {
            (4003 | 4002, Some(_)) | (4003, None) => {}
            (4002, None) => {
                prop_assert!(self.most_unread + UNCOUNTED_BYTES > limit, "closed as slow, and it was not");
            }
            (_, Some(published)) => {
                prop_assert!(self.messages(b'd').len() >= *published, "an orderly close lost messages");
            }
            (_, None) => return Err(TestCaseError::fail(format!("closed by {code}, and nobody wanted that"))),
        }
        Ok(())
    }
}

fn is_beginning(what: &str, received: &[&Vec<u8>], sent: &[Vec<u8>]) -> TestCaseResult {
    prop_assert!(received.len() <= sent.len(), "more {} than were sent", what);
    for (index, (received, sent)) in received.iter().zip(sent).enumerate() {
        prop_assert!(*received == sent, "{}: number {} is not what was sent", what, index);
    }
    Ok(())
}

/// The first frame and its length, where it is whole.
fn parse(bytes: &[u8]) -> Result<Option<(Received, usize)>, TestCaseError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    prop_assert_eq!(first & 0xF0, 0x80, "every frame of ours is a whole message");
    let (header, length) = match (second, rest) {
        (0..=125, _) => (2, usize::from(*second)),
        (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        (126, _) => return Ok(None),
        _ => return Err(TestCaseError::fail(format!("no length of ours begins with {second}"))),
    };
    if bytes.len() < header + length {
        return Ok(None);
    }
    let payload = bytes[header..header + length].to_vec();
    Ok(Some((Received { opcode: first & 0xF, payload }, header + length)))
}

/// A payload that says what it is: kind and number, and then `length` bytes more.
pub(super) fn message(kind: char, number: usize, length: usize) -> Vec<u8> {
    let mut payload = format!("{kind}{number} ").into_bytes();
    payload.resize(payload.len() + length, b'x');
    payload
}
