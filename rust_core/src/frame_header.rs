//! The header of a client's frame (RFC 6455 section 5.2), taken byte by byte as it comes. It checks nothing: what is
//! wrong with a header is for the protocol machine to say.

/// Longest header of a client's frame: two bytes, a length in eight, a mask in four.
const MAX_BYTES: usize = 14;

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    /// The key that the payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    pub length: u64,
}

impl FrameHeader {
    /// The last frame of its message.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    /// A control frame, which may stand between the fragments of a message and does not end it.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.first & 0x08 != 0
    }
}

/// A header of which some bytes may be missing.
#[derive(Debug, Default, Clone, Copy)]
pub struct PartialHeader {
    bytes: [u8; MAX_BYTES],
    length: u8,
}

impl PartialHeader {
    /// Takes the next byte; the header, where that was its last. No byte may follow then.
    pub fn push(&mut self, byte: u8) -> Option<FrameHeader> {
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
        self.complete()
    }

    /// The bytes that have come.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn complete(&self) -> Option<FrameHeader> {
        let [first, second, rest @ ..] = self.bytes() else { return None };
        let (length_bytes, short) = match second & 0x7f {
            0x7e => (2, 0),
            0x7f => (8, 0),
            short => (0, u64::from(short)),
        };
        let (long, mask) = rest.split_at_checked(length_bytes)?;
        let mask = if second & 0x80 == 0 { None } else { Some(mask.try_into().ok()?) };
        let length = long.iter().fold(short, |length, byte| length << 8 | u64::from(*byte));
        Some(FrameHeader { first: *first, mask, length })
    }
}
