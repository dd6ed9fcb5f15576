//! What is still to be written to one connection, bounded in bytes.
//!
//! Whole frames only go in; the socket may take any part of them, so the queue remembers how far into the first one it
//! is. It counts every byte in and out, so that a position in the stream can be waited for (see the heartbeat).

mod array;

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

pub use self::array::{Array, Batching, Begun, MAX_ARRAY_BYTES, Plan};

/// The most frames that one `writev` is given.
pub const MAX_SLICES: usize = 64;

/// A queue whose buffer has grown beyond this many frames gives it back once it is empty.
const KEPT_CAPACITY: usize = 16;

/// The frame was not queued: with it, the queue would exceed its limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// Frames in order, the first perhaps partly written.
#[derive(Debug, Default)]
pub struct SendQueue {
    frames: VecDeque<Bytes>,
    /// Bytes of the first frame that are written.
    offset: usize,
    /// Bytes that are still to be written.
    bytes: usize,
    /// Bytes ever written.
    written: u64,
}

impl SendQueue {
    /// Appends a frame. An empty queue takes any frame, even one above `limit`: otherwise it could never be sent.
    pub fn push(&mut self, frame: Bytes, limit: usize) -> Result<(), Full> {
        if self.bytes > 0 && self.bytes + frame.len() > limit {
            return Err(Full);
        }
        self.push_control(frame);
        Ok(())
    }

    /// Appends a control frame (pong, ping, Close), which the limit does not hold back. The caller bounds their number.
    pub fn push_control(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Fills `slices` with what is to be written next and returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut filled = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(if filled == 0 { &frame[self.offset..] } else { frame });
            filled += 1;
        }
        filled
    }

    /// Takes note that the socket took the next `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        self.written += written as u64;
        while let Some(frame) = self.frames.front() {
            let left = frame.len() - self.offset;
            if written < left {
                self.offset += written;
                return;
            }
            written -= left;
            self.offset = 0;
            self.frames.pop_front();
        }
        if self.frames.capacity() > KEPT_CAPACITY {
            self.frames = VecDeque::new();
        }
    }

    /// Takes note of bytes of whole frames that went to the socket past the queue, which is empty.
    pub fn count_written(&mut self, written: usize) {
        debug_assert!(self.is_empty());
        self.written += written as u64;
    }

    /// Takes note of frames that went to the socket past the queue, which was empty: `written` of their bytes. The rest is
    /// queued.
    pub fn wrote_directly<'a>(&mut self, frames: impl Iterator<Item = &'a Bytes>, written: usize) {
        self.count_written(written);
        let mut passed = written;
        for frame in frames {
            if self.frames.is_empty() && passed >= frame.len() {
                passed -= frame.len();
                continue;
            }
            if self.frames.is_empty() {
                self.offset = passed;
                self.bytes = frame.len() - passed;
            } else {
                self.bytes += frame.len();
            }
            self.frames.push_back(frame.clone());
        }
    }

    /// Gives the buffer back where nothing waits.
    pub fn release_buffer(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }

    /// Drops every frame of which nothing was written yet. What remains is the rest of the one that was begun, without
    /// which the peer could not read what follows.
    pub fn drop_unstarted(&mut self) {
        self.frames.truncate(usize::from(self.offset > 0));
        self.bytes = self.frames.front().map_or(0, |frame| frame.len() - self.offset);
    }

    /// How many frames wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// How many of them are messages, and not control frames, which have the highest bit of their opcode set (RFC 6455
    /// section 5.5).
    #[must_use]
    pub fn messages(&self) -> usize {
        self.frames.iter().filter(|frame| frame.first().is_some_and(|first| first & 0x08 == 0)).count()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes ever written to the socket.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The position in the stream behind the last byte that waits.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.written + self.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_queue_takes_a_frame_beyond_the_limit_and_then_no_other() {
        let mut queue = SendQueue::default();
        assert_eq!(queue.push(Bytes::from_static(b"too long"), 4), Ok(()));
        assert_eq!(queue.push(Bytes::from_static(b"x"), 4), Err(Full));
    }

    #[test]
    fn messages_are_told_from_control_frames() {
        let mut queue = SendQueue::default();
        for first in [0x81, 0xC1, 0x88, 0x89, 0x8A] {
            queue.push_control(Bytes::from(vec![first, 0]));
        }
        assert_eq!((queue.len(), queue.messages()), (5, 2));
    }

    #[test]
    fn a_begun_frame_survives_the_drop() {
        let mut queue = SendQueue::default();
        for frame in [&b"first"[..], b"second"] {
            queue.push(Bytes::copy_from_slice(frame), 100).unwrap();
        }
        queue.advance(2);
        queue.drop_unstarted();
        assert_eq!((queue.bytes(), queue.end()), (3, 5));
        queue.advance(3);
        assert!(queue.is_empty());
    }

    proptest! {
        /// What the socket did not take of frames that went past the queue comes out of it.
        #[test]
        fn the_rest_of_frames_that_went_past_the_queue_is_queued(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let all = frames.concat();
            let written = cut.index(all.len() + 1);
            let frames: Vec<_> = frames.into_iter().map(Bytes::from).collect();
            let mut queue = SendQueue::default();
            queue.wrote_directly(frames.iter(), written);
            prop_assert_eq!((queue.bytes(), queue.written()), (all.len() - written, written as u64));
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = queue.slices(&mut slices);
            prop_assert_eq!(slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>(), &all[written..]);
        }

        /// Whatever the socket takes at a time, it gets the frames' bytes in order, each once.
        #[test]
        fn bytes_come_out_as_they_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..100),
            takes in prop::collection::vec(1_usize..90, 0..400),
        ) {
            let mut queue = SendQueue::default();
            for frame in &frames {
                queue.push(Bytes::copy_from_slice(frame), usize::MAX).unwrap();
            }
            let mut out = Vec::new();
            for take in takes.into_iter().chain(std::iter::repeat(7)) {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let filled = queue.slices(&mut slices);
                if filled == 0 {
                    break;
                }
                let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = take.min(offered.len());
                out.extend_from_slice(&offered[..taken]);
                queue.advance(taken);
            }
            prop_assert_eq!(out, frames.concat());
            prop_assert_eq!(queue.bytes(), 0);
            prop_assert_eq!(queue.end(), queue.written());
        }
    }
}
