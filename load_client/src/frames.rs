//! Cuts what a server sends into frames, and makes the few that a client sends. No I/O.

/// The key that client frames are masked with. RFC 6455 section 5.3 wants it unpredictable, to keep scripts from
/// choosing the bytes on the wire; here nobody chooses them, and a constant costs nothing.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Set in the first byte: the last frame of its message; in the second: the payload is masked.
const HIGH: u8 = 0x80;
/// In the place of a length: it follows in 16 bits, or in 64 (RFC 6455 section 5.2).
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

/// Opcodes of RFC 6455 section 5.2.
pub mod opcode {
    /// The rest of a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// Text.
    pub const TEXT: u8 = 1;
    /// Close.
    pub const CLOSE: u8 = 8;
    /// Ping.
    pub const PING: u8 = 9;
    /// Pong.
    pub const PONG: u8 = 10;
}

/// A frame of a server: never masked (RFC 6455 section 5.1).
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// See [`opcode`].
    pub opcode: u8,
    /// Whether an extension changed the payload: compressed, in practice.
    pub compressed: bool,
    /// What it carries.
    pub payload: &'a [u8],
}

/// The first frame of `bytes` and how many bytes it takes; `None` while it is not there as a whole.
#[must_use]
pub fn next_frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let [first, second, ..] = *bytes else { return None };
    let (length, header): (usize, usize) = match second & 0x7f {
        LENGTH_16 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        LENGTH_64 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let end = header.checked_add(length)?;
    let payload = bytes.get(header..end)?;
    Some((Frame { opcode: first & 0x0f, compressed: first & 0x40 != 0, payload }, end))
}

/// A whole frame as a client sends it, masked.
#[must_use]
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(HIGH | opcode);
    match payload.len() {
        length @ 0..126 => frame.push(HIGH | length as u8),
        length @ 126..=0xffff => {
            frame.push(HIGH | LENGTH_16);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(HIGH | LENGTH_64);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = client_frame(opcode, payload);
        let header = frame.len() - payload.len() - 4;
        frame[1] &= 0x7f;
        frame.truncate(header);
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_of_every_length_form_are_cut_at_every_byte() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000_u32] {
            let payload: Vec<u8> = (0..length).map(|index: u32| index as u8).collect();
            let mut bytes = server_frame(opcode::TEXT, &payload);
            let end = bytes.len();
            bytes.extend_from_slice(b"next");
            for cut in [0, 1, 2, 3, 9, end / 2, end - 1] {
                if cut < end {
                    assert_eq!(next_frame(&bytes[..cut]), None, "{length} bytes, cut at {cut}");
                }
            }
            let frame = Frame { opcode: opcode::TEXT, compressed: false, payload: &payload };
            assert_eq!(next_frame(&bytes), Some((frame, end)));
        }
    }

    #[test]
    fn a_length_beyond_memory_waits_for_ever_and_nothing_overflows() {
        assert_eq!(next_frame(&[0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]), None);
    }

    #[test]
    fn a_client_frame_is_masked_by_its_key() {
        let frame = client_frame(opcode::PONG, b"seq");
        assert_eq!(frame[..2], [0x8a, 0x83]);
        let unmasked: Vec<u8> = frame[6..].iter().zip(&frame[2..6]).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(unmasked, b"seq");
    }
}
