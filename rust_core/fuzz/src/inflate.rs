//! A compressed message (RFC 7692 section 7.2): what is made of it is what another implementation makes of it.
//!
//! The first byte chooses: bytes that a peer sends as a compressed message, under one of some limits, or a message that is
//! compressed, by us or as a peer may do it, and must come back.

use flate2::{Compress, Compression, FlushCompress};
use jasaweb_rt_core::deflate::{self, InflateError, TAIL};
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
};

const LIMITS: [usize; 4] = [0, 125, 1000, 65_536];

/// As many ends of a stream as one message may have.
const MAX_ENDS: usize = 256;

/// By `miniz_oxide`: the message, or none where it cannot be read or is too long.
fn expected(compressed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut message = vec![0; limit + 1];
    let mut made = 0;
    // The end is either where the message's own bytes end, or an empty last block behind the tail that was taken off.
    let ended = [compressed, &TAIL, &[0x01, 0x00, 0x00, 0xff, 0xff]].concat();
    let mut at = 0;
    for _ in 0..=MAX_ENDS {
        let mut state = DecompressorOxide::new();
        // What follows an end is another stream, and cannot refer to what was before.
        let room = &mut message[made..];
        let (status, taken, put) =
            decompress(&mut state, &ended[at..], room, 0, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
        at += taken;
        made += put;
        if status != TINFLStatus::Done || made > limit {
            return None;
        }
        if at == compressed.len() || at == ended.len() {
            message.truncate(made);
            return Some(message);
        }
    }
    None
}

fn inflated(compressed: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    // What is there already is nobody's concern.
    let mut message = b"kept".to_vec();
    deflate::decompress(compressed, limit, &mut message)?;
    assert!(message.capacity() <= 2 * (limit + 256 + b"kept".len()), "{} bytes for {limit}", message.capacity());
    Ok(message.split_off(b"kept".len()))
}

fn by_peer(message: &[u8], how: u8) -> Vec<u8> {
    let flush = if how & 0x80 == 0 { FlushCompress::Sync } else { FlushCompress::Finish };
    let mut compressed = Vec::with_capacity(message.len() * 2 + 100);
    let done =
        Compress::new(Compression::new(u32::from(how) % 10), false).compress_vec(message, &mut compressed, flush);
    assert!(done.is_ok());
    if let Some(stripped) = compressed.strip_suffix(&TAIL) { stripped.to_vec() } else { compressed }
}

/// Decompresses, in two ways.
pub fn check(data: &[u8]) {
    let [choice, how, bytes @ ..] = data else { return };
    match choice % 3 {
        0 => {
            let limit = LIMITS[usize::from(*how) % LIMITS.len()];
            assert_eq!(inflated(bytes, limit).ok(), expected(bytes, limit));
        }
        1 => {
            let compressed = by_peer(bytes, *how);
            assert_eq!(inflated(&compressed, bytes.len()).as_deref(), Ok(bytes));
            if let Some(less) = bytes.len().checked_sub(1) {
                assert_eq!(inflated(&compressed, less), Err(InflateError::TooLong));
            }
        }
        _ => {
            let message = bytes.repeat(1 + usize::from(*how));
            if let Some(compressed) = deflate::compress(&message, <[u8]>::to_vec) {
                assert!(compressed.len() < message.len());
                assert_eq!(expected(&compressed, message.len()), Some(message));
            }
        }
    }
}
