//! What of a client's byte stream may reach the HTTP parser: requests whose boundaries nobody can read in two ways.
//!
//! hyper takes some of what RFC 9112 lets a recipient take: lines that end in a bare LF, several lengths that agree, a
//! length beside a transfer coding. A proxy before us may read such a request otherwise, and then the two disagree about
//! where the next one begins (request smuggling, RFC 9112 section 11.2). So the stream is followed here, byte for byte and
//! by the strict grammar, before hyper sees it. Where it leaves the grammar the parser is given [`REFUSAL`] in its place,
//! to which it answers as to any malformed request: 400, and the end of the connection.
//!
//! The bodies are followed by their framing alone, and nothing of a request is kept but the field that is being read.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

/// What the parser is given in place of what is refused. It ends every head, and no line of a head nor of a chunk's frame
/// may have these bytes.
const REFUSAL: &[u8] = b"\0\n\r\n\r\n";

/// Hexadecimal digits of a chunk's length: 256 MiB, far more than any body may have.
const MAX_CHUNK_DIGITS: u8 = 7;

/// Bytes of one chunk's extensions. Nobody sends any, and no recipient has to look at them (RFC 9112 section 7.1.1).
const MAX_EXTENSION_BYTES: u16 = 256;

/// The longest name of a field that decides about boundaries: `transfer-encoding`.
const NAME_BYTES: usize = 17;
const VALUE_BYTES: usize = 24;

/// What the front door and the guard of one connection tell each other about requests for another protocol.
///
/// Behind such a request may stand the begin of that protocol or the next request: only the answer decides. So nothing
/// behind it is judged until then, and where it stays with HTTP and something had come early, the connection ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpgradeGate(Arc<AtomicU8>);

const AWAITS_ANSWER: u8 = 1;
const HAS_MORE: u8 = 2;

impl UpgradeGate {
    /// The request under way is answered in HTTP. False where more has come behind it that was not judged: the answer must
    /// be the last.
    pub(crate) fn stays(&self) -> bool {
        self.0.fetch_and(!AWAITS_ANSWER, Relaxed) & HAS_MORE == 0
    }

    fn has_more(&self) -> bool {
        self.0.load(Relaxed) & HAS_MORE != 0
    }
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request. One empty line may come first (RFC 9112 section 2.2).
    Start,
    StartLf,
    AfterEmptyLine,
    RequestLine,
    LineLf,
    LineStart,
    Name,
    Value,
    HeadLf,
    Body(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    ChunkExtension {
        size: u64,
        length: u16,
    },
    ChunkSizeLf(u64),
    Chunk(u64),
    ChunkCr,
    ChunkLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    TrailersLf,
    /// Behind a request for another protocol.
    Answer,
}

/// The fields that decide about boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    ContentLength,
    TransferEncoding,
    Upgrade,
    Other,
}

/// What of a head is kept.
#[derive(Debug, Clone, Copy)]
struct Head {
    field: Field,
    /// Of the name that is being read, in lower case; its length counts on where it is longer.
    name: [u8; NAME_BYTES],
    name_length: usize,
    /// Of a value that matters, without leading whitespace.
    value: [u8; VALUE_BYTES],
    value_length: usize,
    content_length: Option<u64>,
    is_chunked: bool,
    asks_to_upgrade: bool,
}

impl Head {
    const NEW: Self = Self {
        field: Field::Other,
        name: [0; NAME_BYTES],
        name_length: 0,
        value: [0; VALUE_BYTES],
        value_length: 0,
        content_length: None,
        is_chunked: false,
        asks_to_upgrade: false,
    };

    fn begin_field(&mut self, first: u8) {
        self.name_length = 0;
        self.push_name(first);
    }

    fn push_name(&mut self, byte: u8) {
        if let Some(place) = self.name.get_mut(self.name_length) {
            *place = byte.to_ascii_lowercase();
        }
        self.name_length += 1;
    }

    fn end_name(&mut self) {
        self.value_length = 0;
        self.field = match self.name.get(..self.name_length) {
            Some(b"content-length") => Field::ContentLength,
            Some(b"transfer-encoding") => Field::TransferEncoding,
            Some(b"upgrade") => Field::Upgrade,
            _ => Field::Other,
        };
    }

    /// False where a value that matters is longer than any that is right.
    fn push_value(&mut self, byte: u8) -> bool {
        let is_leading = self.value_length == 0 && matches!(byte, b' ' | b'\t');
        if is_leading || matches!(self.field, Field::Other | Field::Upgrade) {
            return true;
        }
        let Some(place) = self.value.get_mut(self.value_length) else { return false };
        *place = byte;
        self.value_length += 1;
        true
    }

    /// Judges the field whose line has ended. Each that tells the length may come once, and in one way only.
    fn end_field(&mut self) -> bool {
        let value = self.value[..self.value_length].trim_ascii_end();
        match self.field {
            Field::Other => true,
            Field::Upgrade => {
                self.asks_to_upgrade = true;
                true
            }
            Field::ContentLength => {
                let is_first = self.content_length.is_none() && !self.is_chunked;
                self.content_length = decimal(value);
                is_first && self.content_length.is_some()
            }
            Field::TransferEncoding => {
                let is_first = self.content_length.is_none() && !self.is_chunked;
                self.is_chunked = true;
                is_first && value.eq_ignore_ascii_case(b"chunked")
            }
        }
    }
}

/// Digits and nothing else (RFC 9110 section 8.6).
fn decimal(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// Follows the stream of one connection.
#[derive(Debug)]
pub(crate) struct RequestGuard {
    state: State,
    head: Head,
    gate: UpgradeGate,
    /// What is left to be given of [`REFUSAL`], once something was refused.
    refusal: Option<&'static [u8]>,
}

impl RequestGuard {
    /// At the begin of a connection.
    pub(crate) fn new(gate: UpgradeGate) -> Self {
        Self { state: State::Start, head: Head::NEW, gate, refusal: None }
    }

    /// How many of the bytes that were read may reach the parser; where it is not all of them, the rest is refused, and
    /// with it whatever the client sends from then on.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Some(taken) = self.take(&bytes[at..]) else {
                self.refusal = Some(REFUSAL);
                break;
            };
            at += taken;
        }
        at
    }

    /// Whether something was refused.
    pub(crate) fn has_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Whether the client is in the middle of something, be it something that was refused, and may go on sending.
    pub(crate) fn awaits_more(&self) -> bool {
        match self.state {
            State::Start | State::StartLf | State::AfterEmptyLine => self.has_refused(),
            State::Answer => self.gate.has_more(),
            _ => true,
        }
    }

    /// At most `room` bytes of what the parser is given instead; none at the end.
    pub(crate) fn refuse(&mut self, room: usize) -> &'static [u8] {
        let left = self.refusal.unwrap_or_default();
        let (now, later) = left.split_at(room.min(left.len()));
        self.refusal = Some(later);
        now
    }

    /// Takes at least one of `bytes`, which are not empty; `None` where the first breaks the grammar.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let skipped = match self.state {
            State::Body(left) => {
                let skipped = within(left, bytes);
                let left = left - skipped as u64;
                self.state = if left == 0 { State::Start } else { State::Body(left) };
                skipped
            }
            State::Chunk(left) => {
                let skipped = within(left, bytes);
                let left = left - skipped as u64;
                self.state = if left == 0 { State::ChunkCr } else { State::Chunk(left) };
                skipped
            }
            State::Value if matches!(self.head.field, Field::Other | Field::Upgrade) => ahead(bytes, is_text),
            State::RequestLine => ahead(bytes, is_in_request_line),
            State::Answer => {
                if self.gate.0.load(Relaxed) & AWAITS_ANSWER != 0 {
                    self.gate.0.fetch_or(HAS_MORE, Relaxed);
                    return Some(bytes.len());
                }
                self.state = State::Start;
                0
            }
            _ => 0,
        };
        if skipped > 0 {
            return Some(skipped);
        }
        self.state = self.step(bytes[0])?;
        Some(1)
    }

    /// The state behind one more byte.
    fn step(&mut self, byte: u8) -> Option<State> {
        use State::{
            AfterEmptyLine, Chunk, ChunkCr, ChunkExtension, ChunkLf, ChunkSize, ChunkSizeLf, HeadLf, LineLf, LineStart,
            Name, RequestLine, Start, StartLf, Trailer, TrailerLf, TrailerStart, TrailersLf, Value,
        };
        Some(match (self.state, byte) {
            (Start, b'\r') => StartLf,
            (StartLf, b'\n') => AfterEmptyLine,
            (Start | AfterEmptyLine, _) if is_in_request_line(byte) => {
                self.head = Head::NEW;
                RequestLine
            }
            (RequestLine, b'\r') => {
                self.head.field = Field::Other;
                LineLf
            }
            (LineLf, b'\n') => {
                if !self.head.end_field() {
                    return None;
                }
                LineStart
            }
            (LineStart, b'\r') => HeadLf,
            // A line that begins with whitespace is no folded one but an error (RFC 9112 section 5.2).
            (LineStart, _) if is_in_name(byte) => {
                self.head.begin_field(byte);
                Name
            }
            (Name, b':') => {
                self.head.end_name();
                Value
            }
            (Name, _) if is_in_name(byte) => {
                self.head.push_name(byte);
                Name
            }
            (Value, b'\r') => LineLf,
            (Value, _) if is_text(byte) && self.head.push_value(byte) => Value,
            (HeadLf, b'\n') => self.end_head(),
            (ChunkSize { size, digits }, _) if byte.is_ascii_hexdigit() && digits < MAX_CHUNK_DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                ChunkSize { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (ChunkSize { size, digits: 1.. } | ChunkExtension { size, .. }, b'\r') => ChunkSizeLf(size),
            (ChunkSize { size, digits: 1.. }, b';') => ChunkExtension { size, length: 0 },
            (ChunkExtension { size, length }, _) if is_text(byte) && length < MAX_EXTENSION_BYTES => {
                ChunkExtension { size, length: length + 1 }
            }
            (ChunkSizeLf(0) | TrailerLf, b'\n') => TrailerStart,
            (ChunkSizeLf(size), b'\n') => Chunk(size),
            (ChunkCr, b'\r') => ChunkLf,
            (ChunkLf, b'\n') => ChunkSize { size: 0, digits: 0 },
            (TrailerStart, b'\r') => TrailersLf,
            (TrailerStart, _) if is_in_name(byte) => Trailer,
            (Trailer, b'\r') => TrailerLf,
            (Trailer, _) if is_text(byte) => Trailer,
            (TrailersLf, b'\n') => Start,
            _ => return None,
        })
    }

    /// What follows a head.
    fn end_head(&mut self) -> State {
        match self.head {
            Head { is_chunked: true, .. } => State::ChunkSize { size: 0, digits: 0 },
            Head { content_length: Some(length @ 1..), .. } => State::Body(length),
            // One with a body is no handshake.
            Head { asks_to_upgrade: true, .. } => {
                self.gate.0.store(AWAITS_ANSWER, Relaxed);
                State::Answer
            }
            _ => State::Start,
        }
    }
}

/// How many of `bytes` are among the next `left` of the stream.
fn within(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

/// How many of `bytes`, from the first one on, `belong`.
fn ahead(bytes: &[u8], belong: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !belong(*byte)).unwrap_or(bytes.len())
}

/// Visible characters and the spaces between the three parts. A `#` begins a fragment, which no target has (RFC 9112
/// section 3.2), and which parsers cut off or keep as they like.
fn is_in_request_line(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'#'
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A character of a field's value (RFC 9110 section 5.5): no control character but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests;
