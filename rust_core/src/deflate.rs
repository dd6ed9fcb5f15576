//! DEFLATE as permessage-deflate has it (RFC 7692 section 7.2): one message at a time, without memory of the last one.
//!
//! Since no message refers to another, its compressed form is the same for every receiver. For the same reason the
//! forms of several messages can be joined into one: behind each but the last its [`TAIL`] is put back, and what stands
//! between them goes into [`stored`] blocks.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What every compressed message ends with, and is sent without (RFC 7692 section 7.2.1): the rest of an empty stored
/// block, behind which the stream stands at a byte's begin.
pub const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Level 1 of zlib-rs is faster (512 bytes of JSON: 3 µs for 9 µs; 16 KiB: 25 µs for 42 µs), but its fixed codes leave a
/// quarter to a half more to be sent, and what is compressed once is written many times. Levels above 2 take longer and
/// gain next to nothing.
const LEVEL: u32 = 2;

/// A scratch buffer that has grown beyond this many bytes is given back.
const KEPT_SCRATCH_BYTES: usize = 256 * 1024;

/// An empty stored block that is the last of its stream.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// How often the blocks of one message may end a stream. By the standard it may have any number of such ends; hardly one
/// has any, and each costs more time than its two bytes are worth.
const MAX_ENDS: u32 = 256;

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

/// Why a compressed message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// It is no DEFLATE data, or breaks off within a block.
    #[error("the compressed data is invalid")]
    Invalid,
    /// It is longer than it may be.
    #[error("the message is too long")]
    TooLong,
}

/// Appends the message behind `compressed`, which has lost its [`TAIL`], to `message`. Whatever the data would expand to,
/// no more than about twice `limit` bytes are ever made.
pub fn decompress(compressed: &[u8], limit: usize, message: &mut Vec<u8>) -> Result<(), InflateError> {
    DECOMPRESSOR.with_borrow_mut(|state| {
        state.reset(false);
        let mut inflation = Inflation { state, limit, message, made: 0, ends: 0 };
        // Where a last block was the end (RFC 7692 section 7.2.3.4), nothing has to follow. Else the stream must stand
        // between two blocks behind the tail: only there is one more block the end of it.
        if inflation.feed(compressed)? || inflation.feed(&[&TAIL[..], &END].concat())? {
            Ok(())
        } else {
            Err(InflateError::Invalid)
        }
    })
}

thread_local! {
    static DECOMPRESSOR: RefCell<Decompress> = RefCell::new(Decompress::new(false));
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
        let room = message.len() + TAIL.len();
        if self.scratch.len() < room || self.scratch.len() > KEPT_SCRATCH_BYTES {
            self.scratch = vec![0; room];
        }
        self.state.reset();
        self.state.compress(message, &mut self.scratch[..room], FlushCompress::Sync).ok()?;
        let (taken, made) = (self.state.total_in() as usize, self.state.total_out() as usize);
        // Where there is no room left, more may be to come, and what looks like the tail may be of the message.
        if taken < message.len() || made == room {
            return None;
        }
        self.scratch[..made].strip_suffix(&TAIL)
    }
}

/// One message on its way out of its compressed form.
struct Inflation<'a> {
    state: &'a mut Decompress,
    limit: usize,
    message: &'a mut Vec<u8>,
    made: usize,
    ends: u32,
}

impl Inflation<'_> {
    /// Takes all of `input`; says whether the stream ended with it. What follows an end is another stream.
    fn feed(&mut self, mut input: &[u8]) -> Result<bool, InflateError> {
        loop {
            if self.message.len() == self.message.capacity() {
                let left = self.limit + 1 - self.made;
                self.message.reserve(left.min(input.len().saturating_mul(4).max(256)));
            }
            let (taken_before, made_before) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress_vec(input, self.message, FlushDecompress::None);
            let taken = (self.state.total_in() - taken_before) as usize;
            let made = (self.state.total_out() - made_before) as usize;
            input = &input[taken..];
            self.made += made;
            // First, whatever comes behind it, or it would depend on the room that there happens to be.
            if self.made > self.limit {
                return Err(InflateError::TooLong);
            }
            if status.map_err(|_| InflateError::Invalid)? == Status::StreamEnd {
                if input.is_empty() {
                    return Ok(true);
                }
                self.ends += 1;
                if self.ends > MAX_ENDS {
                    return Err(InflateError::Invalid);
                }
                self.state.reset(false);
            } else if self.message.len() < self.message.capacity() {
                // It stopped for want of input, not of room.
                return if input.is_empty() { Ok(false) } else { Err(InflateError::Invalid) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::large;

    fn inflated(compressed: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
        let mut message = Vec::new();
        decompress(compressed, limit, &mut message).map(|()| message)
    }

    /// What a peer makes of a message that it flushes in its own way.
    fn compressed_by_peer(message: &[u8], level: u32, flush: FlushCompress) -> Vec<u8> {
        let mut compressed = Vec::with_capacity(message.len() * 2 + 100);
        Compress::new(Compression::new(level), false).compress_vec(message, &mut compressed, flush).unwrap();
        compressed
    }

    #[test]
    fn what_looks_like_the_tail_in_the_middle_of_a_message_is_not_taken_for_it() {
        let noise: Vec<u8> = (0..33_u8).map(|n| n.wrapping_mul(151).wrapping_add(43)).collect();
        for ahead in 0..noise.len() {
            for behind in 0..8 {
                let message = [&noise[..ahead], &TAIL, &noise[..behind]].concat();
                if let Some(compressed) = compress(&message, <[u8]>::to_vec) {
                    assert_eq!(inflated(&compressed, message.len()), Ok(message));
                }
            }
        }
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
        assert_eq!(inflated(&compress(text.as_bytes(), <[u8]>::to_vec).unwrap(), 600).unwrap(), text.as_bytes());
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
        assert_eq!(inflated(&joined, 100).unwrap(), format!("[{}]", messages.join(",")).into_bytes());
    }

    /// The examples of RFC 7692 section 7.2.3: the same "Hello" in every way there is.
    #[test]
    fn the_standards_own_examples() {
        let hello: [&[u8]; 5] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // A stored block.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // The last block of its stream, and an empty one behind it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks, each flushed.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            // The last block of its stream alone, as some senders leave it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for compressed in hello {
            assert_eq!(inflated(compressed, 5).unwrap(), b"Hello", "{compressed:x?}");
        }
        assert_eq!(inflated(&[0x00], 5).unwrap(), b"", "an empty message");
    }

    #[test]
    fn what_is_no_whole_message_is_invalid() {
        let whole = compressed_by_peer(&b"to be or not to be, ".repeat(20), 6, FlushCompress::Sync);
        let whole = whole.strip_suffix(&TAIL).unwrap();
        for broken in [
            &b""[..],
            // Reserved block type.
            &[0x06],
            // A stored block whose length does not agree with its complement.
            &[0x00, 0x05, 0x00, 0x00, 0x00, 0x48],
            // A distance beyond the begin.
            &[0x02, 0x0e, 0x00],
            &whole[..whole.len() / 2],
            &whole[..whole.len() - 1],
            &[whole, &[0x06]].concat(),
        ] {
            assert_eq!(inflated(broken, 1000), Err(InflateError::Invalid), "{broken:x?}");
        }
        // What one message left behind is no concern of the next.
        assert_eq!(inflated(whole, 400).unwrap().len(), 400);
    }

    #[test]
    fn no_more_is_made_than_asked_for() {
        let bomb = compressed_by_peer(&vec![0; large(32 << 20)], 9, FlushCompress::Sync);
        assert!(bomb.len() < 40_000);
        let mut message = Vec::new();
        assert_eq!(decompress(&bomb, 65_536, &mut message), Err(InflateError::TooLong));
        assert!(message.capacity() <= 2 * 65_537, "{}", message.capacity());
        let exact = compressed_by_peer(&vec![0; 65_536], 9, FlushCompress::Sync);
        assert_eq!(inflated(exact.strip_suffix(&TAIL).unwrap(), 65_536).unwrap().len(), 65_536);
        assert_eq!(inflated(exact.strip_suffix(&TAIL).unwrap(), 65_535), Err(InflateError::TooLong));
    }

    #[test]
    fn a_message_has_only_so_many_ends() {
        let last = [0x03, 0x00];
        assert_eq!(inflated(&last.repeat(100), 10).unwrap(), b"");
        assert_eq!(inflated(&last.repeat(100_000), 10), Err(InflateError::Invalid));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..2000), limit in 0_usize..5000) {
            if let Ok(message) = inflated(&bytes, limit) {
                prop_assert!(message.len() <= limit);
            }
        }

        #[test]
        fn what_a_peer_compressed_comes_back(
            parts in prop::collection::vec("[a-d]{1,9}", 1..40),
            repeat in 1_usize..400,
            level in 0_u32..10,
            finish in any::<bool>(),
        ) {
            let message = parts.concat().repeat(repeat).into_bytes();
            let flush = if finish { FlushCompress::Finish } else { FlushCompress::Sync };
            let compressed = compressed_by_peer(&message, level, flush);
            let compressed = compressed.strip_suffix(&TAIL).unwrap_or(&compressed);
            prop_assert_eq!(inflated(compressed, message.len()).unwrap(), message.clone());
            prop_assert_eq!(inflated(compressed, message.len() - 1), Err(InflateError::TooLong));
        }

        #[test]
        fn what_was_compressed_comes_back(
            parts in prop::collection::vec("[a-d]{1,9}", 1..40),
            repeat in 1_usize..400,
        ) {
            let message = parts.concat().repeat(repeat).into_bytes();
            if let Some(compressed) = compress(&message, <[u8]>::to_vec) {
                prop_assert!(compressed.len() < message.len());
                prop_assert_eq!(inflated(&compressed, message.len()).unwrap(), message);
            }
        }
    }
}
