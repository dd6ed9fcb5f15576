//! Whether what was read of a client so far is whole messages, and nothing of another one.
//!
//! Between messages a WebSocket has no state, so an idle connection needs no protocol machine and no buffer. Only this
//! is kept: how much of the present frame is still to come, and whether its message goes on.

use crate::frame_header::PartialHeader;

/// Where the stream of one client stands.
#[derive(Debug, Default, Clone, Copy)]
pub struct FrameBoundary {
    /// Bytes of the present frame's payload that are still to come.
    payload_left: u64,
    header: PartialHeader,
    /// The last data frame was not the last of its message.
    in_message: bool,
}

impl FrameBoundary {
    /// Takes note of what was read.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            if let Some(header) = self.header.push(*first) {
                self.header = PartialHeader::default();
                self.payload_left = header.length;
                if !header.is_control() {
                    self.in_message = !header.is_final();
                }
            }
            bytes = rest;
        }
    }

    /// Whether nothing is unfinished.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.payload_left == 0 && self.header.bytes().is_empty() && !self.in_message
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };

    use super::*;

    fn wire(mut frame: Frame, masked: bool) -> Vec<u8> {
        if masked {
            frame.header_mut().mask = Some([0x88, 0xff, 0x7f, 0x00]);
        }
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    fn data(length: usize, kind: Data, fin: bool, masked: bool) -> Vec<u8> {
        wire(Frame::message(vec![0x81; length], OpCode::Data(kind), fin), masked)
    }

    #[test]
    fn a_fresh_connection_is_between_messages() {
        assert!(FrameBoundary::default().is_between_messages());
    }

    #[test]
    fn a_ping_between_fragments_ends_no_message() {
        let mut boundary = FrameBoundary::default();
        boundary.pass(&data(3, Data::Text, false, true));
        assert!(!boundary.is_between_messages());
        boundary.pass(&wire(Frame::ping(vec![]), true));
        assert!(!boundary.is_between_messages());
        boundary.pass(&data(0, Data::Continue, true, true));
        assert!(boundary.is_between_messages());
    }

    proptest! {
        /// However the bytes of whole frames are cut into reads, only their ends are ends.
        #[test]
        fn only_the_end_of_a_frame_is_a_boundary(
            lengths in prop::collection::vec(prop_oneof![0_usize..10, 120_usize..130, 65_530_usize..65_540], 1..6),
            masked in any::<bool>(),
            cut in 1_usize..5000,
        ) {
            let frames: Vec<_> =
                lengths.iter().map(|length| data(*length, Data::Binary, true, masked)).collect();
            let ends: Vec<_> = frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }).collect();
            let bytes = frames.concat();
            let mut boundary = FrameBoundary::default();
            let mut read = 0;
            for part in bytes.chunks(cut) {
                boundary.pass(part);
                read += part.len();
                prop_assert_eq!(boundary.is_between_messages(), ends.contains(&read));
            }
        }

        /// Nonsense neither panics nor overflows.
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            FrameBoundary::default().pass(&bytes);
        }
    }
}
