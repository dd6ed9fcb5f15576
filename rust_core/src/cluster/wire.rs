//! What nodes tell each other, as bytes.
//!
//! A header of 18 bytes: version, kind, the sender's node, the number that the sender gave the message; numbers are in
//! network order. Then what the kind has: a place in a sequence, an id behind its length, and last the text of a frame.
//! Whatever does not read so is refused as a whole.

use std::str;

use crate::{command::Audience, token::Role};

/// The first byte. A node drops what has another, so nodes of two versions may run side by side during an upgrade.
const VERSION: u8 = 1;

/// Where the number lies, which is set when the message leaves.
const NUMBER: std::ops::Range<usize> = 10..18;

const HEADER_BYTES: usize = NUMBER.end;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// The node, or the program, that sent it.
    pub(super) origin: u64,
    /// Grows with each message that the origin sends, whatever the subject.
    pub(super) number: u64,
    pub(super) body: Body<'a>,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// A frame for a user's connections.
    Direct { user_id: &'a str, text: &'a str },
    /// A frame that is in the database.
    Durable { user_id: &'a str, seq: u64, rev: u64, text: &'a str },
    /// A changed unread count.
    Read { user_id: &'a str, rev: u64, text: &'a str },
    /// The head of a user's sequence.
    Head { user_id: &'a str, head: u64 },
    /// A frame for many.
    Audience { audience: Audience, text: &'a str },
    /// A frame for one connection.
    Send { connection_id: &'a str, text: &'a str },
    /// Closes one connection.
    Close { connection_id: &'a str, code: u16 },
    /// Nothing, to the sender's own subject: that it comes back is all.
    Echo,
    /// Nothing, to a subject that the sender hears: that it comes back is all.
    Probe,
    /// Messages of the sender may have been lost: compare with the database.
    Compare,
    /// The sender ends in order.
    Leave,
    /// For a program that listens to events.
    Event { data: &'a [u8] },
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Of another version.
    #[error("a message of version {0}")]
    Version(u8),
    /// Of a kind that this version does not have.
    #[error("a message of unknown kind {0}")]
    Kind(u8),
    /// Not as long as it says, or not UTF-8, or out of range.
    #[error("a message that is malformed")]
    Malformed,
}

impl Body<'_> {
    const fn kind(&self) -> u8 {
        match self {
            Self::Direct { .. } => 1,
            Self::Durable { .. } => 2,
            Self::Read { .. } => 3,
            Self::Head { .. } => 4,
            Self::Audience { .. } => 5,
            Self::Send { .. } => 6,
            Self::Close { .. } => 7,
            Self::Echo => 8,
            Self::Probe => 9,
            Self::Compare => 10,
            Self::Leave => 11,
            Self::Event { .. } => 12,
        }
    }

    /// The message of `origin`, whose number is still to be set.
    pub(super) fn encode(&self, origin: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.size_hint());
        bytes.extend_from_slice(&[VERSION, self.kind()]);
        bytes.extend_from_slice(&origin.to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        match *self {
            Self::Direct { user_id, text } => put(&mut bytes, &[], user_id, text.as_bytes()),
            Self::Durable { user_id, seq, rev, text } => put(&mut bytes, &[seq, rev], user_id, text.as_bytes()),
            Self::Read { user_id, rev, text } => put(&mut bytes, &[rev], user_id, text.as_bytes()),
            Self::Head { user_id, head } => put(&mut bytes, &[head], user_id, &[]),
            Self::Audience { audience, text } => {
                bytes.push(audience_byte(audience));
                bytes.extend_from_slice(text.as_bytes());
            }
            Self::Send { connection_id, text } => put(&mut bytes, &[], connection_id, text.as_bytes()),
            Self::Close { connection_id, code } => put(&mut bytes, &[u64::from(code)], connection_id, &[]),
            Self::Echo | Self::Probe | Self::Compare | Self::Leave => {}
            Self::Event { data } => bytes.extend_from_slice(data),
        }
        bytes
    }

    /// Bytes that follow the header, at most.
    fn size_hint(&self) -> usize {
        const NUMBERS: usize = 20;
        NUMBERS
            + match self {
                Self::Direct { user_id: id, text }
                | Self::Durable { user_id: id, text, .. }
                | Self::Read { user_id: id, text, .. }
                | Self::Send { connection_id: id, text } => id.len() + text.len(),
                Self::Head { user_id: id, .. } | Self::Close { connection_id: id, .. } => id.len(),
                Self::Audience { text, .. } => text.len(),
                Self::Echo | Self::Probe | Self::Compare | Self::Leave => 0,
                Self::Event { data } => data.len(),
            }
    }
}

/// Gives an encoded message its number.
pub(super) fn set_number(message: &mut [u8], number: u64) {
    if let Some(place) = message.get_mut(NUMBER) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// Reads a message, which anybody may have sent.
pub(super) fn decode(bytes: &[u8]) -> Result<Message<'_>, Refused> {
    let mut rest = Rest(bytes);
    match rest.byte()? {
        VERSION => {}
        version => return Err(Refused::Version(version)),
    }
    let (kind, origin, number) = (rest.byte()?, rest.number()?, rest.number()?);
    let body = match kind {
        1 => Body::Direct { user_id: rest.id()?, text: rest.text()? },
        2 => {
            let (seq, rev) = (rest.number()?, rest.number()?);
            Body::Durable { user_id: rest.id()?, seq, rev, text: rest.text()? }
        }
        3 => {
            let rev = rest.number()?;
            Body::Read { user_id: rest.id()?, rev, text: rest.text()? }
        }
        4 => {
            let head = rest.number()?;
            Body::Head { user_id: rest.id()?, head }
        }
        5 => Body::Audience { audience: rest.audience()?, text: rest.text()? },
        6 => Body::Send { connection_id: rest.id()?, text: rest.text()? },
        7 => {
            let code = u16::try_from(rest.number()?).map_err(|_| Refused::Malformed)?;
            Body::Close { connection_id: rest.id()?, code }
        }
        8 => Body::Echo,
        9 => Body::Probe,
        10 => Body::Compare,
        11 => Body::Leave,
        12 => Body::Event { data: rest.take(rest.0.len())? },
        kind => return Err(Refused::Kind(kind)),
    };
    if rest.0.is_empty() { Ok(Message { origin, number, body }) } else { Err(Refused::Malformed) }
}

fn put(bytes: &mut Vec<u8>, numbers: &[u64], id: &str, text: &[u8]) {
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&(id.len() as u32).to_be_bytes());
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(text);
}

const fn audience_byte(audience: Audience) -> u8 {
    match audience {
        Audience::All => 0,
        Audience::Role(Role::Admin) => 1,
        Audience::Role(Role::Client) => 2,
    }
}

/// What of a message has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Refused::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Refused> {
        self.take(COUNT)?.try_into().map_err(|_| Refused::Malformed)
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, Refused> {
        self.array().map(u64::from_be_bytes)
    }

    fn id(&mut self) -> Result<&'a str, Refused> {
        let length = u32::from_be_bytes(self.array()?);
        str::from_utf8(self.take(length as usize)?).map_err(|_| Refused::Malformed)
    }

    fn text(&mut self) -> Result<&'a str, Refused> {
        str::from_utf8(self.take(self.0.len())?).map_err(|_| Refused::Malformed)
    }

    fn audience(&mut self) -> Result<Audience, Refused> {
        match self.byte()? {
            0 => Ok(Audience::All),
            1 => Ok(Audience::Role(Role::Admin)),
            2 => Ok(Audience::Role(Role::Client)),
            _ => Err(Refused::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODIES: [Body<'_>; 14] = [
        Body::Direct { user_id: "anna", text: "{}" },
        Body::Direct { user_id: "", text: "" },
        Body::Durable { user_id: "anna", seq: 7, rev: 9, text: "{\"a\":\"é\"}" },
        Body::Read { user_id: "anna", rev: 3, text: "{}" },
        Body::Head { user_id: "anna", head: u64::MAX },
        Body::Audience { audience: Audience::All, text: "{}" },
        Body::Audience { audience: Audience::Role(Role::Admin), text: "{}" },
        Body::Send { connection_id: "00000000000000ab-100", text: "{}" },
        Body::Close { connection_id: "00000000000000ab-100", code: 4004 },
        Body::Echo,
        Body::Probe,
        Body::Compare,
        Body::Leave,
        Body::Event { data: b"\xff\x00" },
    ];

    #[test]
    fn what_was_encoded_is_read() {
        for body in BODIES {
            let mut bytes = body.encode(5);
            set_number(&mut bytes, 6);
            assert_eq!(decode(&bytes), Ok(Message { origin: 5, number: 6, body }));
        }
    }

    #[test]
    fn another_version_and_an_unknown_kind_are_told_apart() {
        let mut bytes = Body::Probe.encode(1);
        bytes[1] = 200;
        assert_eq!(decode(&bytes), Err(Refused::Kind(200)));
        bytes[0] = 2;
        assert_eq!(decode(&bytes), Err(Refused::Version(2)));
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_refused() {
        for body in BODIES {
            let bytes = body.encode(1);
            for length in 0..HEADER_BYTES {
                assert_eq!(decode(&bytes[..length]), Err(Refused::Malformed), "{body:?}");
            }
        }
        for body in [Body::Probe, Body::Compare, Body::Head { user_id: "anna", head: 1 }] {
            let mut bytes = body.encode(1);
            bytes.push(0);
            assert_eq!(decode(&bytes), Err(Refused::Malformed), "{body:?}");
        }
        let mut bytes = Body::Direct { user_id: "anna", text: "{}" }.encode(1);
        bytes.push(0xFF);
        assert_eq!(decode(&bytes), Err(Refused::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_changed_message_is_another_message_or_none(which in 0..BODIES.len(), at: prop::sample::Index, to: u8) {
            let mut bytes = BODIES[which].encode(1);
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(message) = decode(&bytes) {
                let mut again = message.body.encode(message.origin);
                set_number(&mut again, message.number);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
