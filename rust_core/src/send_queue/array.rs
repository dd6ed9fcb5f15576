//! Several text messages written as one: a JSON array, for a client that asked for it by `batch=1`.
//!
//! The queue keeps the messages as they are. What an array adds, one header for all and the punctuation, is put between
//! slices of their shared bytes when they are handed to the socket. Only that an array was begun, and how far it is, has
//! to be remembered: from its first byte to its last nothing else may be written (RFC 6455 section 5.4 lets control
//! frames stand between the fragments of a message, and an array is one fragment).
//!
//! Compressed messages are joined as they are, too: behind each the tail that it lost is put back, and what is not
//! compressed, the punctuation above all, goes into stored blocks (see [`deflate`]).

use std::io::IoSlice;

use bytes::Bytes;

use super::{KEPT_CAPACITY, MAX_SLICES, SendQueue};
use crate::{
    deflate,
    frame::{self, DEFLATED_TEXT, PLAIN_TEXT, payload},
};

/// The most bytes of JSON in one array. An array is then no bigger than the largest durable message, so a client whose
/// limit takes the one takes the other, and a ping or a Close never waits long for an array that was begun.
pub const MAX_ARRAY_BYTES: usize = u16::MAX as usize;

/// A stored block's header and the punctuation that it begins with.
const STORED_LEAD: usize = 6;

/// Where a connection stands that takes arrays.
#[derive(Debug, Default)]
pub struct Batching {
    /// The client asked for arrays.
    pub enabled: bool,
    /// Not one message of the begun array is out whole.
    at_first: bool,
    /// How the messages of the begun array are joined.
    form: Form,
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
    Array(Array),
}

/// An array, or the rest of one.
#[derive(Debug)]
pub struct Array {
    /// Messages that are not out whole.
    messages: usize,
    form: Form,
    /// What stands before the first of them.
    lead: Lead,
    /// In a compressed array, what stands before each of the others, as far as one write may reach.
    stored_leads: Vec<[u8; STORED_LEAD]>,
}

/// What stands before a message in an array: a bracket behind the header, or a comma.
#[derive(Debug)]
struct Lead {
    bytes: [u8; 4 + STORED_LEAD],
    length: usize,
}

impl Lead {
    fn new(pieces: [&[u8]; 2]) -> Self {
        let mut lead = Self { bytes: [0; 4 + STORED_LEAD], length: 0 };
        for (byte, piece) in lead.bytes.iter_mut().zip(pieces.into_iter().flatten()) {
            *byte = *piece;
            lead.length += 1;
        }
        lead
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// How messages are joined.
#[derive(Debug, Default, Clone, Copy)]
enum Form {
    #[default]
    Plain,
    Deflated,
}

impl Form {
    /// What stands before a message: for one that is not compressed, in the same block.
    fn stored_lead(punctuation: u8, frame: &[u8]) -> [u8; STORED_LEAD] {
        let length = if is_deflated(frame) { 1 } else { 1 + payload(frame).len() as u16 };
        let mut lead = [punctuation; STORED_LEAD];
        lead[..STORED_LEAD - 1].copy_from_slice(&deflate::stored(length));
        lead
    }

    /// Before the first message of an array with `content` bytes behind its header, at most [`MAX_ARRAY_BYTES`].
    fn opening(self, content: usize, frame: &[u8]) -> Lead {
        let (first, bracket) = match self {
            Self::Plain => (PLAIN_TEXT, &b"["[..]),
            Self::Deflated => (DEFLATED_TEXT, &Self::stored_lead(b'[', frame)[..]),
        };
        let header = [first, 126, (content >> 8) as u8, content as u8];
        if content < 126 { Lead::new([&[first, content as u8], bracket]) } else { Lead::new([&header, bracket]) }
    }

    /// Before another message.
    fn comma(self, frame: &[u8]) -> Lead {
        match self {
            Self::Plain => Lead::new([b",", &[]]),
            Self::Deflated => Lead::new([&Self::stored_lead(b',', frame), &[]]),
        }
    }

    fn lead_len(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Deflated => STORED_LEAD,
        }
    }

    /// What stands behind a message.
    fn tail(self, frame: &[u8]) -> &'static [u8] {
        match self {
            Self::Deflated if is_deflated(frame) => &deflate::TAIL,
            _ => &[],
        }
    }

    /// What stands behind the last message. A compressed one ends with an empty block that has lost its tail.
    fn end(self) -> &'static [u8] {
        const STORED: [u8; 5] = deflate::stored(1);
        const DEFLATED: [u8; 7] = [STORED[0], STORED[1], STORED[2], STORED[3], STORED[4], b']', 0];
        match self {
            Self::Plain => b"]",
            Self::Deflated => &DEFLATED,
        }
    }

    /// Bytes of a message with all that stands around it, but for header and end.
    fn size(self, frame: &[u8]) -> usize {
        self.lead_len() + payload(frame).len() + self.tail(frame).len()
    }
}

/// An array was begun: its length is not that of the frames that it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// Position in the stream at which it begins.
    start: u64,
    /// Bytes of the frames.
    apart: usize,
    /// Bytes of the array.
    together: usize,
}

impl Begun {
    /// Where a position in the stream has moved to: what lies between the frames lies behind the array.
    #[must_use]
    pub fn moved(self, position: u64) -> u64 {
        if position <= self.start {
            return position;
        }
        position.max(self.start + self.apart as u64) - self.apart as u64 + self.together as u64
    }
}

impl SendQueue {
    /// What a connection that takes arrays is to be written next: the rest of the array that was begun, or one made of
    /// the messages that wait, or frames as they are.
    #[must_use]
    pub fn plan(&self, batching: &Batching) -> Plan {
        let (messages, form) = if batching.is_begun() {
            (usize::from(batching.left), batching.form)
        } else if self.offset > 0 {
            (0, Form::Plain)
        } else {
            self.joinable()
        };
        if (messages > 1 || batching.is_begun())
            && let Some(first) = self.frames.front()
        {
            let opens = batching.at_first || !batching.is_begun();
            let lead = if opens { form.opening(self.content(messages, form), first) } else { form.comma(first) };
            let stored_leads = match form {
                Form::Plain => Vec::new(),
                Form::Deflated => {
                    let others = self.frames.iter().take(messages.min(MAX_SLICES)).skip(1);
                    others.map(|frame| Form::stored_lead(b',', frame)).collect()
                }
            };
            return Plan::Array(Array { messages, form, lead, stored_leads });
        }
        let others = self.frames.iter().skip(1).take(MAX_SLICES).take_while(|frame| !is_joinable(frame));
        Plan::Frames(1 + others.count())
    }

    /// Fills `slices` with what `plan` says and returns how many were filled.
    pub fn planned_slices<'a>(&'a self, plan: &'a Plan, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut filling = Filling { slices, filled: 0, skipped: self.offset };
        match plan {
            Plan::Frames(count) => {
                self.frames.iter().take(*count).all(|frame| filling.add(frame));
            }
            Plan::Array(array) => {
                let stored = array.stored_leads.iter().map(|lead| &lead[..]);
                let leads = std::iter::once(array.lead.as_slice()).chain(stored).chain(std::iter::repeat(&b","[..]));
                let mut pieces = self.frames.iter().take(array.messages).zip(leads);
                let all_fit = pieces.all(|(frame, lead)| {
                    filling.add(lead) && filling.add(payload(frame)) && filling.add(array.form.tail(frame))
                });
                if all_fit {
                    filling.add(array.form.end());
                }
            }
        }
        filling.filled
    }

    /// Takes note that the socket took the next `written` bytes, at least one, of what `plan` said. Where they began an
    /// array, returns what that means for what waits behind it.
    pub fn advance_planned(&mut self, plan: &Plan, batching: &mut Batching, mut written: usize) -> Option<Begun> {
        let Plan::Array(array) = plan else {
            self.advance(written);
            return None;
        };
        let form = array.form;
        let mut begun = None;
        if !batching.is_begun() {
            *batching = Batching { at_first: true, form, left: array.messages as u16, ..*batching };
            let apart = self.frames.iter().take(array.messages).map(Bytes::len).sum();
            let together = self.array_bytes(array);
            begun = Some(Begun { start: self.written, apart, together });
            self.bytes = self.bytes - apart + together;
        }
        self.bytes -= written;
        self.written += written as u64;
        let mut lead = array.lead.length;
        while let Some(frame) = self.frames.front().filter(|_| batching.is_begun()) {
            let end = if batching.left == 1 { form.end().len() } else { 0 };
            let left = lead + payload(frame).len() + form.tail(frame).len() + end - self.offset;
            if written < left {
                self.offset += written;
                return begun;
            }
            written -= left;
            lead = form.lead_len();
            self.offset = 0;
            self.frames.pop_front();
            batching.left -= 1;
            batching.at_first = false;
        }
        if self.frames.capacity() > KEPT_CAPACITY {
            self.release_buffer();
        }
        begun
    }

    /// As [`drop_unstarted`](Self::drop_unstarted), where what was begun may be an array.
    pub fn drop_unstarted_array(&mut self, batching: &Batching) {
        match self.plan(batching) {
            Plan::Array(array) if batching.is_begun() => {
                self.frames.truncate(array.messages);
                self.bytes = self.array_bytes(&array) - self.offset;
            }
            _ => self.drop_unstarted(),
        }
    }

    /// Bytes of an array, or of the rest of one with the whole of the message that is not out whole.
    fn array_bytes(&self, array: &Array) -> usize {
        array.lead.length - array.form.lead_len() + self.content(array.messages, array.form)
    }

    /// Bytes of an array of the first `messages`, or of the rest of one, without its header.
    fn content(&self, messages: usize, form: Form) -> usize {
        self.frames.iter().take(messages).map(|frame| form.size(frame)).sum::<usize>() + form.end().len()
    }

    /// How many messages from the front may go as one array, and how they are joined: where one of them is compressed,
    /// so is the array.
    fn joinable(&self) -> (usize, Form) {
        let (mut messages, mut form) = (0, Form::Plain);
        let (mut json, mut plain, mut deflated) = (1, Form::Plain.end().len(), Form::Deflated.end().len());
        for frame in self.frames.iter().take_while(|frame| is_joinable(frame)) {
            let ratio = if is_deflated(frame) { frame::MAX_RATIO } else { 1 };
            json += 1 + payload(frame).len() * ratio;
            plain += Form::Plain.size(frame);
            deflated += Form::Deflated.size(frame);
            let longer = if is_deflated(frame) { Form::Deflated } else { form };
            let content = match longer {
                Form::Plain => plain,
                Form::Deflated => deflated,
            };
            if json.max(content) > MAX_ARRAY_BYTES {
                break;
            }
            (messages, form) = (messages + 1, longer);
        }
        (messages, form)
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

fn is_deflated(frame: &[u8]) -> bool {
    frame.first() == Some(&DEFLATED_TEXT)
}

/// Whether a frame may stand in an array: a text message that is a JSON object by its looks. An embedding program may
/// send any text, and what is no JSON would spoil the messages beside it.
fn is_joinable(frame: &[u8]) -> bool {
    match frame.first() {
        Some(&PLAIN_TEXT) => frame::is_object(payload(frame)),
        Some(&DEFLATED_TEXT) => !payload(frame).starts_with(&frame::ALONE),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
