//! A message encoded once: the bytes that go on the wire, shared by every connection that gets it.
//!
//! A server's frames are not masked (RFC 6455 section 5.1), so header and payload are the same for all receivers.
//! Cloning a frame counts a reference.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::{clock, close::CloseReason, error::Error};

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// One whole WebSocket message as wire bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    wire: Bytes,
}

impl Frame {
    /// A text message; refused where `payload` is not UTF-8 (RFC 6455 section 5.6).
    pub fn text(payload: &[u8]) -> Result<Self, Error> {
        std::str::from_utf8(payload).map_err(|_| Error::NotUtf8)?;
        Ok(Self::encode(TEXT, payload))
    }

    /// A ping that carries `nonce`.
    #[must_use]
    pub fn ping(nonce: u64) -> Self {
        Self::encode(PING, &nonce.to_be_bytes())
    }

    /// The Close frame of `reason`.
    #[must_use]
    pub fn close(reason: &CloseReason) -> Self {
        Self::encode(CLOSE, &reason.payload())
    }

    /// What every connection gets first.
    #[must_use]
    pub fn welcome() -> Self {
        let text = format!(
            r#"{{"type":"system_announcement","data":{{"title":"Connected","message":"Real-time updates are now active","priority":"low"}},"timestamp":"{}","id":"{}"}}"#,
            clock::timestamp(),
            Uuid::now_v7()
        );
        Self::encode(TEXT, text.as_bytes())
    }

    /// The bytes to write.
    #[must_use]
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// How many bytes it is on the wire, header included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.wire.len()
    }

    /// Base framing of RFC 6455 section 5.2: the shortest form of the length, no mask.
    fn encode(opcode: u8, payload: &[u8]) -> Self {
        let mut wire = BytesMut::with_capacity(payload.len() + 10);
        wire.put_u8(FIN | opcode);
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
        Self { wire: wire.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_takes_its_shortest_form() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::text(&vec![b'x'; length]).unwrap();
            assert_eq!(frame.wire_len(), header + length);
            assert_eq!(frame.wire()[0], 0x81);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert!(matches!(Frame::text(&[0xC3, 0x28]), Err(Error::NotUtf8)));
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
