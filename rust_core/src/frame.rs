//! A message encoded once: the bytes that go on the wire, shared by every connection that gets it.
//!
//! A server's frames are not masked (RFC 6455 section 5.1), so header and payload are the same for all receivers. The
//! deflated form is the same for all too, since no message refers to the one before (RFC 7692 section 7.1.1). It is
//! made by the first shard that needs it, on its own thread; one that needs it meanwhile waits for it, which takes
//! microseconds, and less than to make it again. Cloning a frame counts references.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::{clock, close::CloseReason, deflate, latency::Stamp, metrics::Counters};

const FIN: u8 = 0x80;
/// Marks a message as compressed (RFC 7692 section 6).
const RSV1: u8 = 0x40;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// First byte of a text message as it is (RFC 6455 section 5.2).
pub const PLAIN_TEXT: u8 = FIN | TEXT;

/// First byte of a compressed text message.
pub const DEFLATED_TEXT: u8 = FIN | RSV1 | TEXT;

/// What the compressed form of a message begins with that must not be joined with others: an empty block, which inflates
/// to nothing. Only whoever has the message can tell, and the form is what there is later.
pub const ALONE: [u8; 5] = deflate::stored(0);

/// A message that is more than so many times as long as its compressed form must not be joined with others: from the
/// forms of those that may, one can tell how long the whole is at most.
pub const MAX_RATIO: usize = 8;

/// One whole WebSocket message as wire bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    wire: Bytes,
    /// For a message that may be deflated: its other form, once that was asked for; `None` in it: it is not smaller.
    deflated: Option<Arc<OnceLock<Option<Bytes>>>>,
    /// When it was published; not of the message, but of this reference to it.
    stamp: Option<Stamp>,
}

impl Frame {
    /// A text message, whose payload is UTF-8 (RFC 6455 section 5.6).
    #[must_use]
    pub fn text(payload: &str) -> Self {
        Self::plain(TEXT, payload.as_bytes())
    }

    /// A binary message.
    #[must_use]
    pub fn binary(payload: &[u8]) -> Self {
        Self::plain(BINARY, payload)
    }

    /// The same message, to be deflated for the clients that negotiated it if it has at least `min_bytes` of payload;
    /// 0: none is. Clones that were made before do not share the deflated form.
    #[must_use]
    pub fn deflatable(mut self, min_bytes: usize) -> Self {
        if min_bytes > 0 && payload(&self.wire).len() >= min_bytes {
            self.deflated = Some(Arc::default());
        }
        self
    }

    /// A ping that carries `nonce`.
    #[must_use]
    pub fn ping(nonce: u64) -> Self {
        Self::plain(PING, &nonce.to_be_bytes())
    }

    /// The Close frame of `reason`.
    #[must_use]
    pub fn close(reason: &CloseReason) -> Self {
        Self::plain(CLOSE, &reason.payload())
    }

    /// What every connection gets first.
    #[must_use]
    pub fn welcome() -> Self {
        let text = format!(
            r#"{{"type":"system_announcement","data":{{"title":"Connected","message":"Real-time updates are now active","priority":"low"}},"timestamp":"{}","id":"{}"}}"#,
            clock::timestamp(),
            Uuid::now_v7()
        );
        Self::plain(TEXT, text.as_bytes())
    }

    /// The bytes to write.
    #[must_use]
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// The text of a message that [`Self::text`] made; `None` for any other.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        if opcode(&self.wire) == TEXT { std::str::from_utf8(payload(&self.wire)).ok() } else { None }
    }

    /// The frame as it is published at this moment.
    pub(crate) fn stamped(mut self, stamp: Stamp) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// When it was published, if it was.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// How many bytes it is on the wire, header included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.wire.len()
    }

    /// The bytes to write to a client that negotiated permessage-deflate; `None`: the plain ones are to be written. The
    /// first call compresses, and counts it in `counters`.
    #[must_use]
    pub fn deflated(&self, counters: &Counters) -> Option<&Bytes> {
        let make = || {
            counters.compressions.add(1);
            let (opcode, message) = (opcode(&self.wire), payload(&self.wire));
            deflate::compress(message, |form| {
                if is_object(message) && message.len() <= MAX_RATIO * form.len() {
                    encode(RSV1 | opcode, form)
                } else {
                    encode(RSV1 | opcode, &[&ALONE, form].concat())
                }
            })
        };
        self.deflated.as_ref()?.get_or_init(make).as_ref()
    }

    fn plain(opcode: u8, payload: &[u8]) -> Self {
        Self { wire: encode(opcode, payload), deflated: None, stamp: None }
    }
}

/// Base framing of RFC 6455 section 5.2: a whole message, the shortest form of the length, no mask.
fn encode(bits: u8, payload: &[u8]) -> Bytes {
    let mut wire = BytesMut::with_capacity(payload.len() + 10);
    wire.put_u8(FIN | bits);
    match payload.len() {
        length @ 0..=125 => wire.put_u8(length as u8),
        length @ 126..=0xFFFF => {
            wire.put_u8(126);
            wire.put_u16(length as u16);
        }
        length => {
            wire.put_u8(127);
            wire.put_u64(length as u64);
        }
    }
    wire.put_slice(payload);
    wire.freeze()
}

/// What follows the header of a frame of ours.
#[must_use]
pub fn payload(wire: &[u8]) -> &[u8] {
    let header = match wire[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    &wire[header..]
}

/// Whether a message is a JSON object by its looks.
#[must_use]
pub fn is_object(message: &[u8]) -> bool {
    message.starts_with(b"{") && message.ends_with(b"}")
}

/// Whether `wire`, of one frame, is a Close.
pub(crate) fn is_close(wire: &[u8]) -> bool {
    opcode(wire) == CLOSE
}

fn opcode(wire: &[u8]) -> u8 {
    wire.first().map_or(0, |first| first & 0x0F)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::large;

    #[test]
    fn the_length_takes_its_shortest_form() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::text(&"x".repeat(length));
            assert_eq!(frame.wire_len(), header + length);
            assert_eq!(frame.wire()[0], 0x81);
        }
    }

    #[test]
    fn the_payload_is_what_was_given() {
        for length in [0, 125, 126, 65_536] {
            let message = "x".repeat(length);
            assert_eq!(payload(Frame::text(&message).wire()), message.as_bytes());
        }
    }

    #[test]
    fn it_is_deflated_from_the_limit_on_and_only_where_that_is_smaller() {
        let counters = Counters::default();
        let frame = |length: usize| Frame::text(&"x".repeat(length));
        for plain in [frame(511).deflatable(512), frame(4096), frame(4096).deflatable(0), Frame::welcome()] {
            assert_eq!(plain.deflated(&counters), None);
        }
        assert_eq!(counters.compressions.get(), 0);
        let small = frame(512).deflatable(512);
        let wire = small.deflated(&counters).unwrap();
        assert_eq!((wire[0], usize::from(wire[1])), (0xC1, wire.len() - 2));
        assert_eq!(Frame::text("{}").deflatable(1).deflated(&counters), None);
        assert_eq!(counters.compressions.get(), 2);
    }

    #[test]
    fn a_binary_message_stays_one_when_it_is_deflated() {
        let binary = Frame::binary(&[7; 600]).deflatable(512);
        assert_eq!((binary.wire()[0], binary.deflated(&Counters::default()).unwrap()[0]), (0x82, 0xC2));
    }

    #[test]
    fn what_must_not_be_joined_is_marked() {
        let counters = Counters::default();
        let is_marked = |message: &str| {
            let frame = Frame::text(message).deflatable(1);
            payload(frame.deflated(&counters).unwrap()).starts_with(&ALONE)
        };
        let words = (0..200_u32).map(|number| (number * number).to_string()).collect::<Vec<_>>().join(" ");
        assert!(!is_marked(&format!("{{\"x\":\"{words}\"}}")));
        assert!(is_marked(&words), "no object");
        assert!(is_marked(&format!("{{\"x\":\"{}\"}}", "x".repeat(1000))), "far longer than its form");
    }

    #[test]
    fn threads_that_meet_compress_it_once() {
        let counters = Counters::default();
        let frame = Frame::text(&"x".repeat(large(1 << 20))).deflatable(1);
        let forms: Vec<Bytes> = std::thread::scope(|scope| {
            let threads: Vec<_> = std::iter::repeat_with(|| frame.clone())
                .take(4)
                .map(|clone| {
                    scope.spawn(|| {
                        let clone = clone;
                        clone.deflated(&counters).unwrap().clone()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(counters.compressions.get(), 1);
        assert!(forms.iter().all(|form| form.as_ptr() == forms[0].as_ptr()));
    }

    #[test]
    fn the_welcome_is_the_guides() {
        let frame = Frame::welcome();
        let message: serde_json::Value = serde_json::from_slice(&frame.wire()[4..]).unwrap();
        assert_eq!(message["type"], "system_announcement");
        assert_eq!(
            message["data"],
            serde_json::json!({"title": "Connected", "message": "Real-time updates are now active", "priority": "low"})
        );
        assert_eq!(message.as_object().unwrap().len(), 4);
    }
}
