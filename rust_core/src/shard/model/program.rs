//! What a program may consist of, and how it is made up.

use proptest::{collection::vec, prelude::*};

use super::LONGEST;
use crate::close::CloseReason;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A pass over these orders, so many milliseconds after the last.
    Pass(u64, Vec<Order>),
    /// The shard's sweep: heartbeats, ends of sessions.
    Sweep,
    /// Another connection, whose socket takes at most so many bytes at a time, and which may be encrypted.
    Join(usize, bool),
    /// What a peer does.
    Peer(usize, Act),
}

/// What the shard is told. Numbers are those of peers, modulo how many there are, and lengths of messages.
#[derive(Debug, Clone)]
pub(super) enum Order {
    ToUser(usize),
    ToUsers(usize),
    ToAll(usize),
    ToConnection(usize, usize),
    /// Several durable frames: each so many places away from the head, which moves where they go beyond it.
    Durable(Vec<(i64, usize)>),
    /// Answers all sessions that have asked, by pages of so many frames.
    Answer(u64),
    /// Gives the last answers once more, as where a request was made twice.
    AnswerAgain,
    Heads,
    Close(usize, CloseReason),
    Expire(usize),
    Drain,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Reads at most so many bytes.
    Read(usize),
    Ping(u8),
    /// Sends a pong that nobody asked for.
    Pong,
    /// Answers the pings that it has read.
    AnswerPings,
    /// Sends a message of so many bytes in so many fragments, with a ping between each two.
    Text(usize, usize),
    /// Closes properly.
    Close,
    Violate(Violation),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Violation {
    Binary,
    NotUtf8,
    TooBig,
    ReservedBit,
    NotMasked,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0_usize..60, 2 => 110_usize..130, 1 => 0..LONGEST]
}

fn order() -> impl Strategy<Value = Order> {
    let reason = prop::sample::select(vec![
        CloseReason::Normal,
        CloseReason::InvalidAuthentication,
        CloseReason::RateLimit,
        CloseReason::InternalError,
        CloseReason::TryAgainLater,
        CloseReason::SlowConsumer,
        CloseReason::NoPong,
        CloseReason::Administrator,
    ]);
    prop_oneof![
        8 => length().prop_map(Order::ToUser),
        4 => length().prop_map(Order::ToUsers),
        6 => length().prop_map(Order::ToAll),
        4 => (any::<usize>(), length()).prop_map(|(peer, length)| Order::ToConnection(peer, length)),
        8 => vec((-4_i64..4, length()), 1..6).prop_map(Order::Durable),
        6 => (1_u64..20).prop_map(Order::Answer),
        2 => Just(Order::AnswerAgain),
        1 => Just(Order::Heads),
        1 => (any::<usize>(), reason).prop_map(|(peer, reason)| Order::Close(peer, reason)),
        1 => any::<usize>().prop_map(Order::Expire),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let violation = prop::sample::select(vec![
        Violation::Binary,
        Violation::NotUtf8,
        Violation::TooBig,
        Violation::ReservedBit,
        Violation::NotMasked,
    ]);
    prop_oneof![
        8 => prop_oneof![1_usize..4, 1_usize..300, Just(100_000)].prop_map(Act::Read),
        4 => any::<u8>().prop_map(Act::Ping),
        2 => Just(Act::Pong),
        4 => Just(Act::AnswerPings),
        4 => (length(), 1_usize..5).prop_map(|(length, fragments)| Act::Text(length, fragments)),
        1 => Just(Act::Close),
        1 => violation.prop_map(Act::Violate),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let grain = prop::sample::select(vec![1, 2, 7, 100, 1_000, usize::MAX]);
    prop_oneof![
        12 => (0_u64..20, vec(order(), 0..5)).prop_map(|(after, orders)| Step::Pass(after, orders)),
        2 => Just(Step::Sweep),
        1 => (grain, any::<bool>()).prop_map(|(grain, encrypted)| Step::Join(grain, encrypted)),
        12 => (any::<usize>(), act()).prop_map(|(peer, act)| Step::Peer(peer, act)),
        // At most once in most programs, for it ends everything.
        1 => prop::bool::weighted(0.1).prop_map(|drain| {
            Step::Pass(0, if drain { vec![Order::Drain] } else { Vec::new() })
        }),
    ]
}
