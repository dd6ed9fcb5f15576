//! DEFLATE as permessage-deflate has it (RFC 7692 section 7.2): one message at a time, without memory of the one before.
//!
//! Since no message refers to another, its compressed form is the same for every receiver. For the same reason the forms of
//! several messages can be joined into one: behind each but the last its [`TAIL`] is put back, and what stands between
//! them goes into [`stored`] blocks.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress};

/// What every compressed message ends with, and is sent without (RFC 7692 section 7.2.1): the rest of an empty stored
/// block, behind which the stream stands at a byte's begin.
pub const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The most bytes of one stored block (RFC 1951 section 3.2.4).
pub const MAX_STORED_BYTES: u16 = u16::MAX;

/// Level 1 of zlib-rs takes less than half the time (16 KiB of JSON: 25 µs for 42 µs), but its fixed codes leave half as much
/// again to be sent, and what is compressed once is written many times; levels above 2 gain next to nothing.
const LEVEL: u32 = 2;

/// A scratch buffer that has grown beyond this many bytes is given back.
const KEPT_SCRATCH_BYTES: usize = 256 * 1024;

/// Header of a stored block of `length` bytes, not the last of its stream, where the stream stands at a byte's begin
/// (RFC 1951 section 3.2.4).
#[must_use]
pub const fn stored(length: u16) -> [u8; 5] {
    let [low, high] = length.to_le_bytes();
    [0, low, high, !low, !high]
}

/// Compresses `message` and hands the result, without its [`TAIL`], to `take`. `None` where it is not smaller.
///
/// The state of the compressor, some 300 KiB, belongs to the thread and is made when it first compresses.
pub fn compress<T>(message: &[u8], take: impl FnOnce(&[u8]) -> T) -> Option<T> {
    COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(message).map(take))
}

thread_local! {
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new());
}

struct Compressor {
    state: Compress,
    scratch: Vec<u8>,
}

impl Compressor {
    fn new() -> Self {
        Self { state: Compress::new(Compression::new(LEVEL), false), scratch: Vec::new() }
    }

    fn compress(&mut self, message: &[u8]) -> Option<&[u8]> {
        // Without room for more than a smaller result, the compressor gives up early on what does not shrink.
        let room = message.len() + TAIL.len() - 1;
        if self.scratch.len() < room || self.scratch.len() > KEPT_SCRATCH_BYTES {
            self.scratch = vec![0; room];
        }
        self.state.reset();
        self.state.compress(message, &mut self.scratch[..room], FlushCompress::Sync).ok()?;
        let (taken, made) = (self.state.total_in() as usize, self.state.total_out() as usize);
        if taken < message.len() {
            return None;
        }
        self.scratch[..made].strip_suffix(&TAIL)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    use super::*;

    fn inflated(compressed: &[u8], room: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(room + 1);
        Decompress::new(false)
            .decompress_vec(&[compressed, &TAIL].concat(), &mut message, FlushDecompress::Sync)
            .unwrap();
        message
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        assert_eq!(compress(b"", <[u8]>::len), None);
        assert_eq!(compress(b"{}", <[u8]>::len), None);
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..70_000).map(|_| noise()).collect();
        assert_eq!(compress(&noise, <[u8]>::len), None);
        // The thread's compressor was left in the midst of it.
        let text = "to be ".repeat(100);
        assert_eq!(inflated(&compress(text.as_bytes(), <[u8]>::to_vec).unwrap(), text.len()), text.as_bytes());
    }

    #[test]
    fn a_great_message_leaves_no_great_buffer() {
        let message = vec![b'x'; 2 * KEPT_SCRATCH_BYTES];
        assert!(compress(&message, <[u8]>::len).unwrap() < 4096);
        compress(&message[..1000], <[u8]>::len).unwrap();
        COMPRESSOR.with_borrow(|compressor| assert!(compressor.scratch.len() <= KEPT_SCRATCH_BYTES));
    }

    #[test]
    fn joined_forms_are_the_joined_messages() {
        let messages = ["one and one and one and one", "two and two and two and two", "three, three, three, three"];
        let mut joined = [&stored(1)[..], b"["].concat();
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                joined.extend_from_slice(&stored(1));
                joined.push(b',');
            }
            joined.extend(compress(message.as_bytes(), <[u8]>::to_vec).unwrap());
            joined.extend_from_slice(&TAIL);
        }
        joined.extend_from_slice(&stored(1));
        // The last block is an empty one that loses its tail like any other.
        joined.extend_from_slice(b"]\0");
        assert_eq!(inflated(&joined, 100), format!("[{}]", messages.join(",")).into_bytes());
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(
            parts in prop::collection::vec("[a-d]{1,9}", 1..40),
            repeat in 1_usize..400,
        ) {
            let message = parts.concat().repeat(repeat).into_bytes();
            if let Some(compressed) = compress(&message, <[u8]>::to_vec) {
                prop_assert!(compressed.len() < message.len());
                prop_assert_eq!(inflated(&compressed, message.len()), message);
            }
        }
    }
}
