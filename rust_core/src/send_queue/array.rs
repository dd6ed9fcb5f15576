//! Several text messages written as one: a JSON array, for a client that asked for it by `batch=1`.
//!
//! The queue keeps the messages as they are. What an array adds, one header for all and the punctuation, is put between
//! slices of their shared bytes when they are handed to the socket. Only that an array was begun, and how far it is, has
//! to be remembered: from its first byte to its last nothing else may be written (RFC 6455 section 5.4 lets control
//! frames stand between the fragments of a message, and an array is one fragment).

use std::io::IoSlice;

use bytes::Bytes;

use super::{KEPT_CAPACITY, MAX_SLICES, SendQueue};

/// The most bytes of JSON in one array. An array is then no bigger than the largest durable message, so a client whose
/// limit takes the one takes the other, and a ping or a Close never waits long for an array that was begun.
pub const MAX_ARRAY_BYTES: usize = u16::MAX as usize;

/// First byte of a text message in one frame, not compressed (RFC 6455 section 5.2: FIN, opcode 1).
const TEXT: u8 = 0x81;

const COMMA: &[u8] = b",";
const END: &[u8] = b"]";

/// Where a connection stands that takes arrays.
#[derive(Debug, Default)]
pub struct Batching {
    /// The client asked for arrays.
    pub enabled: bool,
    /// Not one message of the begun array is out whole.
    at_first: bool,
    /// Messages of the begun array that are not out whole; 0: none is begun.
    left: u16,
}

impl Batching {
    /// For a client that takes arrays, or does not.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    /// Whether an array was begun and is not finished.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.left > 0
    }
}

/// What the next write is given.
#[derive(Debug)]
pub enum Plan {
    /// So many frames as they are; of the first, what is not written yet.
    Frames(usize),
    /// An array, or the rest of one.
    Array {
        /// How many of its messages are not out whole.
        messages: usize,
        /// What stands before the first of them.
        lead: Lead,
    },
}

/// What stands before a message in an array: the header and a bracket, or a comma.
#[derive(Debug)]
pub struct Lead {
    bytes: [u8; 5],
    length: usize,
}

impl Lead {
    const COMMA: Self = Self { bytes: [b',', 0, 0, 0, 0], length: 1 };

    /// Before the first message of an array of `json` bytes, at most [`MAX_ARRAY_BYTES`].
    fn opening(json: usize) -> Self {
        match json {
            0..=125 => Self { bytes: [TEXT, json as u8, b'[', 0, 0], length: 3 },
            _ => Self { bytes: [TEXT, 126, (json >> 8) as u8, json as u8, b'['], length: 5 },
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// An array was begun: its length is not that of the frames that it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// Bytes of the frames.
    apart: usize,
    /// Bytes of the array.
    together: usize,
}

impl Begun {
    /// Where a position in the stream that is behind the frames has moved to.
    #[must_use]
    pub fn moved(self, position: u64) -> u64 {
        position - self.apart as u64 + self.together as u64
    }
}

impl SendQueue {
    /// What a connection that takes arrays is to be written next: the rest of the array that was begun, or one made of
    /// the messages that wait, or frames as they are. The queue must hold something.
    #[must_use]
    pub fn plan(&self, batching: &Batching) -> Plan {
        let (messages, lead) = if batching.is_begun() {
            (usize::from(batching.left), self.begun_lead(batching))
        } else {
            let (messages, json) = if self.offset > 0 { (0, 0) } else { self.joinable() };
            (messages, Lead::opening(json))
        };
        if messages > 1 || batching.is_begun() {
            Plan::Array { messages, lead }
        } else {
            let others = self.frames.iter().skip(1).take(MAX_SLICES).take_while(|frame| !is_joinable(frame));
            Plan::Frames(1 + others.count())
        }
    }

    /// Fills `slices` with what `plan` says and returns how many were filled.
    pub fn planned_slices<'a>(&'a self, plan: &'a Plan, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut filling = Filling { slices, filled: 0, skipped: self.offset };
        match plan {
            Plan::Frames(count) => {
                self.frames.iter().take(*count).all(|frame| filling.add(frame));
            }
            Plan::Array { messages, lead } => {
                let leads = std::iter::once(lead.as_slice()).chain(std::iter::repeat(COMMA));
                let mut pieces = self.frames.iter().take(*messages).zip(leads);
                if pieces.all(|(frame, lead)| filling.add(lead) && filling.add(payload(frame))) {
                    filling.add(END);
                }
            }
        }
        filling.filled
    }

    /// Takes note that the socket took the next `written` bytes, at least one, of what `plan` said. Where they began an
    /// array, returns what that means for what waits behind it.
    pub fn advance_planned(&mut self, plan: &Plan, batching: &mut Batching, mut written: usize) -> Option<Begun> {
        let Plan::Array { messages, lead } = plan else {
            self.advance(written);
            return None;
        };
        let mut begun = None;
        if !batching.is_begun() {
            (batching.left, batching.at_first) = (*messages as u16, true);
            let apart = self.frames.iter().take(*messages).map(Bytes::len).sum();
            let together = self.array_bytes(*messages, lead);
            begun = Some(Begun { apart, together });
            self.bytes = self.bytes - apart + together;
        }
        self.bytes -= written;
        self.written += written as u64;
        let mut lead = lead.length;
        while let Some(frame) = self.frames.front().filter(|_| batching.is_begun()) {
            let end = if batching.left == 1 { END.len() } else { 0 };
            let left = lead + payload(frame).len() + end - self.offset;
            if written < left {
                self.offset += written;
                return begun;
            }
            written -= left;
            lead = COMMA.len();
            self.offset = 0;
            self.frames.pop_front();
            (batching.left, batching.at_first) = (batching.left - 1, false);
        }
        if self.frames.capacity() > KEPT_CAPACITY {
            self.release_buffer();
        }
        begun
    }

    /// As [`drop_unstarted`](Self::drop_unstarted), where what was begun may be an array.
    pub fn drop_unstarted_array(&mut self, batching: &Batching) {
        if !batching.is_begun() {
            return self.drop_unstarted();
        }
        let messages = usize::from(batching.left);
        self.frames.truncate(messages);
        self.bytes = self.array_bytes(messages, &self.begun_lead(batching)) - self.offset;
    }

    /// What stands before the message of the begun array that is not out whole.
    fn begun_lead(&self, batching: &Batching) -> Lead {
        if batching.at_first {
            let brackets_and_commas = usize::from(batching.left) + 1;
            Lead::opening(self.payload_bytes(batching.left.into()) + brackets_and_commas)
        } else {
            Lead::COMMA
        }
    }

    /// Bytes of an array, or of the rest of one, with what stands before it.
    fn array_bytes(&self, messages: usize, lead: &Lead) -> usize {
        lead.length + self.payload_bytes(messages) + (messages - 1) * COMMA.len() + END.len()
    }

    fn payload_bytes(&self, messages: usize) -> usize {
        self.frames.iter().take(messages).map(|frame| payload(frame).len()).sum()
    }

    /// How many messages from the front may go as one array, and its bytes of JSON.
    fn joinable(&self) -> (usize, usize) {
        let (mut messages, mut json) = (0, END.len());
        for frame in self.frames.iter().take_while(|frame| is_joinable(frame)) {
            // Each with the bracket or comma before it.
            let longer = json + 1 + payload(frame).len();
            if longer > MAX_ARRAY_BYTES {
                break;
            }
            (messages, json) = (messages + 1, longer);
        }
        (messages, json)
    }
}

/// Slices as they are filled; what was written of the first frame or message is left out.
struct Filling<'a, 'b> {
    slices: &'b mut [IoSlice<'a>; MAX_SLICES],
    filled: usize,
    skipped: usize,
}

impl<'a> Filling<'a, '_> {
    /// Adds a piece; false where there is no room for it.
    fn add(&mut self, piece: &'a [u8]) -> bool {
        let rest = piece.get(self.skipped..).unwrap_or_default();
        self.skipped -= piece.len() - rest.len();
        if rest.is_empty() {
            return true;
        }
        let Some(slice) = self.slices.get_mut(self.filled) else { return false };
        *slice = IoSlice::new(rest);
        self.filled += 1;
        true
    }
}

/// What follows the header of a frame of ours, which is not masked (RFC 6455 section 5.2).
fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// Whether a frame may stand in an array: a text message that is a JSON object by its looks. An embedding program may
/// send any text, and what is no JSON would spoil the messages beside it.
fn is_joinable(frame: &[u8]) -> bool {
    frame.first() == Some(&TEXT) && payload(frame).first() == Some(&b'{') && frame.last() == Some(&b'}')
}

#[cfg(test)]
mod tests;
