use flate2::{Compress, Compression, FlushCompress};
use io::{Read, Write};
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::{
    Message,
    error::{CapacityError, Error, ProtocolError},
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::*;
use crate::{deflate::TAIL, test_support::large};

const LIMIT: usize = 70_000;
const TEXT: u8 = 1;
const PING: u8 = 9;
const CONTINUATION: u8 = 0;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut wire = vec![first];
    match payload.len() {
        length @ 0..=125 => wire.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            wire.push(0x80 | 0x7e);
            wire.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            wire.push(0x80 | 0x7f);
            wire.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    wire.extend_from_slice(&mask);
    wire.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    wire
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(message.len() * 2 + 100);
    Compress::new(Compression::new(6), false).compress_vec(message, &mut payload, FlushCompress::Sync).unwrap();
    payload.strip_suffix(&TAIL).unwrap().to_vec()
}

/// A payload as the frames of one message, with a ping between each two.
fn fragmented(bits: u8, payload: &[u8], fragments: usize) -> Vec<u8> {
    let size = payload.len().div_ceil(fragments).max(1);
    let mut parts: Vec<&[u8]> = payload.chunks(size).collect();
    parts.resize(fragments, &[]);
    let mut wire = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let fin = if index + 1 == fragments { FIN } else { 0 };
        wire.extend(frame(fin | if index == 0 { bits } else { CONTINUATION }, part));
        if fin == 0 {
            wire.extend(frame(FIN | PING, &[index as u8]));
        }
    }
    wire
}

/// A client's stream that comes `cut` bytes at a time, at the end of which nothing is there to be read.
struct Stream<'a> {
    inflate: Inflate,
    rest: &'a [u8],
    cut: usize,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inflate.read(buffer, |buffer| {
            if self.rest.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let length = self.rest.len().min(self.cut).min(buffer.len());
            let (now, later) = self.rest.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.rest = later;
            Ok(length)
        })
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of a stream, of which the first `ahead` bytes were read before, and how that ends.
fn read_ahead(wire: &[u8], ahead: usize, cut: usize) -> (Vec<Message>, Error) {
    let (ahead, rest) = wire.split_at(ahead.min(wire.len()));
    let mut stream = Stream { inflate: Inflate::new(ahead.to_vec(), LIMIT), rest, cut };
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let mut machine = WebSocketContext::new(Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match machine.read(&mut stream) {
            Ok(message) => messages.push(message),
            Err(error) => return (messages, error),
        }
    }
}

fn read(wire: &[u8]) -> (Vec<Message>, Error) {
    read_ahead(wire, 0, 1 << 20)
}

fn is_blocked(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn failure(error: &Error) -> Option<StreamError> {
    if let Error::Io(error) = error { StreamError::of(error) } else { None }
}

#[test]
fn what_came_before_a_failure_is_delivered() {
    let good = frame(FIN | RSV1 | TEXT, &compressed(b"good"));
    let wire = [good, frame(FIN | TEXT, b"plain"), frame(FIN | RSV1 | TEXT, b"\xff\xff")].concat();
    let (messages, error) = read(&wire);
    assert_eq!(messages, [Message::text("good"), Message::text("plain")]);
    assert_eq!(failure(&error), Some(StreamError::Message(InflateError::Invalid)));
}

#[test]
fn a_bomb_is_too_big_and_so_is_what_is_announced_as_one() {
    let too_long = Some(StreamError::Message(InflateError::TooLong));
    let bomb = compressed(&vec![b' '; large(50 << 20)]);
    assert!(bomb.len() < LIMIT);
    assert_eq!(failure(&read(&frame(FIN | RSV1 | TEXT, &bomb)).1), too_long);
    assert_eq!(failure(&read(&fragmented(RSV1 | TEXT, &bomb, 7)).1), too_long);
    let (messages, _) = read(&frame(FIN | RSV1 | TEXT, &compressed(&vec![b' '; LIMIT])));
    assert_eq!(messages, [Message::text(" ".repeat(LIMIT))]);
    // Nothing of it has to come for that.
    for length in [2 * LIMIT as u64, u64::MAX] {
        let announced = [&[FIN | RSV1 | TEXT, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(failure(&read(&announced).1), too_long);
    }
    // Nor do many small frames without an end add up to more than one great one may have.
    let part = vec![0; LIMIT / 2];
    let endless = [frame(RSV1 | TEXT, &part), frame(CONTINUATION, &part), frame(CONTINUATION, &part)].concat();
    assert_eq!(failure(&read(&endless).1), too_long);
}

#[test]
fn a_plain_message_that_is_too_big_is_left_to_the_machine() {
    let (_, error) = read(&frame(FIN | TEXT, &vec![b' '; LIMIT + 1]));
    assert!(matches!(error, Error::Capacity(CapacityError::MessageTooLong { .. })), "{error}");
}

#[test]
fn noise_that_does_not_shrink_fits_all_the_same() {
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..LIMIT).map(|_| byte()).collect();
    let payload = compressed(&noise);
    assert!(payload.len() > LIMIT);
    assert_eq!(read(&frame(FIN | RSV1 | 2, &payload)).0, [Message::binary(noise)]);
}

#[test]
fn a_reserved_bit_where_it_has_no_business_is_the_machines_to_refuse() {
    let begun = frame(RSV1 | TEXT, &compressed(b"begun"));
    for wire in [
        frame(FIN | RSV1 | CONTINUATION, b"x"),
        frame(FIN | RSV1 | PING, b"x"),
        frame(FIN | RSV1 | 8, b""),
        frame(FIN | 0x60 | TEXT, b"x"),
        frame(FIN | 0x10 | TEXT, b"x"),
        frame(FIN | RSV1 | 3, b"x"),
        [begun.clone(), frame(FIN | RSV1 | CONTINUATION, b"x")].concat(),
        [begun, frame(FIN | RSV1 | PING, b"x")].concat(),
        // Without a mask.
        vec![FIN | RSV1 | TEXT, 1, b'x'],
        frame(FIN | CONTINUATION, b"x"),
        // Compressed within a plain one.
        [frame(TEXT, b"begun"), frame(FIN | RSV1 | TEXT, &compressed(b"x"))].concat(),
    ] {
        let (messages, error) = read(&wire);
        assert!(messages.is_empty());
        assert!(matches!(error, Error::Protocol(_)), "{wire:x?}: {error}");
    }
    assert!(matches!(
        read(&frame(FIN | RSV1 | CONTINUATION, b"x")).1,
        Error::Protocol(ProtocolError::NonZeroReservedBits)
    ));
}

#[test]
fn no_message_begins_within_a_compressed_one() {
    for second in [frame(FIN | TEXT, b"x"), frame(FIN | RSV1 | TEXT, &compressed(b"x"))] {
        let (_, error) = read(&[frame(RSV1 | TEXT, &compressed(b"begun")), second].concat());
        assert_eq!(failure(&error), Some(StreamError::Interleaved));
    }
}

#[test]
fn dropped_messages_are_not_even_looked_into() {
    let bad = fragmented(RSV1 | TEXT, b"\xff\xff\xff", 2);
    let wire = [bad, frame(FIN | TEXT, b"plain"), frame(FIN | 8, b"")].concat();
    let mut stream = Stream { inflate: Inflate::new(Vec::new(), LIMIT), rest: &wire, cut: 10 };
    stream.inflate.drop_messages();
    let mut machine = WebSocketContext::new(Role::Server, None);
    let mut next = || machine.read(&mut stream).unwrap();
    assert_eq!([next(), next(), next()], [Message::Ping(vec![0].into()), Message::text("plain"), Message::Close(None)]);
}

#[test]
fn text_that_was_compressed_must_be_utf8_too() {
    let (_, error) = read(&frame(FIN | RSV1 | TEXT, &compressed(&[0xc3, 0x28])));
    assert!(matches!(error, Error::Utf8(_)), "{error}");
}

#[test]
fn a_close_within_a_compressed_message_ends_it() {
    let wire = [frame(RSV1 | TEXT, &compressed(b"begun")), frame(FIN | 8, &1000_u16.to_be_bytes())].concat();
    assert!(matches!(read(&wire).0[..], [Message::Close(Some(_))]));
}

#[derive(Debug, Clone)]
struct Sent {
    text: String,
    deflated: bool,
    fragments: usize,
}

fn sent() -> impl Strategy<Value = Sent> {
    let text = prop_oneof!["[a-z]{0,20}", "[ab]{100,200}", "[a-zäöü]{1,10}".prop_map(|word| word.repeat(900))];
    (text, any::<bool>(), 1_usize..5).prop_map(|(text, deflated, fragments)| Sent { text, deflated, fragments })
}

proptest! {
    /// However messages are compressed, fragmented, mixed with pings and cut into reads, they come out as they were.
    #[test]
    fn messages_come_out_as_they_were_sent(
        sent in prop::collection::vec(sent(), 1..6),
        ahead in 0_usize..300,
        cut in prop_oneof![1_usize..4, 4_usize..5000],
    ) {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for Sent { text, deflated, fragments } in &sent {
            wire.extend(if *deflated {
                fragmented(RSV1 | TEXT, &compressed(text.as_bytes()), *fragments)
            } else {
                fragmented(TEXT, text.as_bytes(), *fragments)
            });
            expected.extend((0..fragments - 1).map(|index| Message::Ping(vec![index as u8].into())));
            expected.push(Message::text(text.clone()));
        }
        let (messages, error) = read_ahead(&wire, ahead, cut);
        prop_assert_eq!(messages, expected);
        prop_assert!(is_blocked(&error), "{}", error);
    }

    /// Nonsense neither panics nor hangs.
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 1_usize..100) {
        let _ = read_ahead(&bytes, 0, cut);
    }

    /// Nor does what looks like a compressed message.
    #[test]
    fn any_payload_is_taken(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
        cut in 1_usize..100,
    ) {
        let wire: Vec<u8> = payloads.iter().flat_map(|payload| frame(FIN | RSV1 | TEXT, payload)).collect();
        let _ = read_ahead(&wire, 0, cut);
    }
}
