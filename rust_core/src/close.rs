//! The close codes of the protocol, each with its reason. The only table of them in Rust.

use std::{borrow::Cow, time::Duration};

/// Why the server ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// 1000: an orderly end.
    Normal,
    /// 1001: the server stops; the client comes back after the given time.
    ShuttingDown {
        /// How long the client should wait, spread by the server.
        retry_after: Duration,
    },
    /// 1003: a binary frame arrived.
    BinaryRefused,
    /// 1007: a text frame was not UTF-8.
    InvalidUtf8,
    /// 1007: a message was marked as compressed, and its data cannot be decompressed.
    InvalidDeflate,
    /// 1002: the peer broke the framing rules of RFC 6455.
    ProtocolError,
    /// 1009: a message beyond `max_message_bytes`.
    MessageTooBig,
    /// 1008: no token, or one that does not hold.
    InvalidAuthentication,
    /// 1008: too many connections for this user or address.
    ConnectionLimit,
    /// 1008: too many frames, or too many that were refused.
    RateLimit,
    /// 1008: a page of a foreign origin.
    OriginNotAllowed,
    /// 1008: a message was begun and not finished in time.
    SlowMessage,
    /// 1011: a fault of ours.
    InternalError,
    /// 1013: the server cannot take it now.
    TryAgainLater,
    /// 4001: the session behind the connection has ended.
    SessionExpired,
    /// 4002: the client does not read what is sent.
    SlowConsumer,
    /// 4003: a ping went unanswered.
    NoPong,
    /// 4004: the user opened one connection too many, and this was the idlest.
    Replaced,
    /// 4500: an administrator closed it.
    Administrator,
}

impl CloseReason {
    /// The status code that goes on the wire (RFC 6455 section 7.4).
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ShuttingDown { .. } => 1001,
            Self::ProtocolError => 1002,
            Self::BinaryRefused => 1003,
            Self::InvalidUtf8 | Self::InvalidDeflate => 1007,
            Self::InvalidAuthentication
            | Self::ConnectionLimit
            | Self::RateLimit
            | Self::OriginNotAllowed
            | Self::SlowMessage => 1008,
            Self::MessageTooBig => 1009,
            Self::InternalError => 1011,
            Self::TryAgainLater => 1013,
            Self::SessionExpired => 4001,
            Self::SlowConsumer => 4002,
            Self::NoPong => 4003,
            Self::Replaced => 4004,
            Self::Administrator => 4500,
        }
    }

    /// The reason that goes with the code; at most 123 bytes (RFC 6455 section 5.5).
    #[must_use]
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::ShuttingDown { retry_after } => {
                return Cow::Owned(format!("Server shutting down; retry after {} ms", retry_after.as_millis()));
            }
            Self::Normal => "",
            Self::ProtocolError => "Protocol error",
            Self::BinaryRefused => "Binary frames are not accepted",
            Self::InvalidUtf8 => "Invalid UTF-8",
            Self::InvalidDeflate => "Invalid compressed data",
            Self::MessageTooBig => "Message too big",
            Self::InvalidAuthentication => "Invalid authentication",
            Self::ConnectionLimit => "Connection limit exceeded",
            Self::RateLimit => "Rate limit exceeded",
            Self::OriginNotAllowed => "Origin not allowed",
            Self::SlowMessage => "Message not finished in time",
            Self::InternalError => "Internal server error",
            Self::TryAgainLater => "Try again later",
            Self::SessionExpired => "Session expired",
            Self::SlowConsumer => "Slow consumer",
            Self::NoPong => "No pong",
            Self::Replaced => "Replaced by a newer connection",
            Self::Administrator => "Disconnected by an administrator",
        })
    }

    /// The reason for one of the codes that an embedding program may close with; `None` for any other.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1000 => Self::Normal,
            1008 => Self::InvalidAuthentication,
            1011 => Self::InternalError,
            1013 => Self::TryAgainLater,
            4001 => Self::SessionExpired,
            4004 => Self::Replaced,
            4500 => Self::Administrator,
            _ => return None,
        })
    }

    /// The payload of the Close frame: code in network order, then the reason.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = self.code().to_be_bytes().to_vec();
        payload.extend_from_slice(self.text().as_bytes());
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_fits_a_control_frame() {
        let longest = CloseReason::ShuttingDown { retry_after: Duration::from_secs(u64::from(u32::MAX)) };
        for reason in [longest, CloseReason::BinaryRefused, CloseReason::Administrator] {
            assert!(reason.payload().len() <= 125, "{reason:?}");
        }
    }

    #[test]
    fn a_shutdown_tells_when_to_come_back() {
        let reason = CloseReason::ShuttingDown { retry_after: Duration::from_millis(1234) };
        assert_eq!((reason.code(), reason.text().as_ref()), (1001, "Server shutting down; retry after 1234 ms"));
    }
}
