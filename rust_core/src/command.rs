//! What a shard can be told.

use std::sync::{Arc, mpsc::Sender};

use crate::{
    close::CloseReason,
    drain::Schedule,
    events::Asked,
    frame::Frame,
    front_door::Admitted,
    session::ConnectionInfo,
    token::{Role, SessionId},
};

/// Who gets a frame that is for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every connection.
    All,
    /// Every connection whose user has this role.
    Role(Role),
}

/// A frame that is in the database, with its place in the user's sequence.
#[derive(Debug)]
pub struct DurableFrame<U = Arc<str>> {
    /// Whose it is.
    pub user_id: U,
    /// Its number; 1 is the first.
    pub seq: u64,
    /// The version of the unread count in it.
    pub rev: u64,
    /// The message.
    pub frame: Frame,
}

/// A changed unread count.
#[derive(Debug)]
pub struct ReadFrame<U = Arc<str>> {
    /// Whose it is.
    pub user_id: U,
    /// Its version: a session that has a newer one drops it.
    pub rev: u64,
    /// The message.
    pub frame: Frame,
}

/// What the database says of a user.
#[derive(Debug)]
pub struct Standing<U = Arc<str>> {
    /// Who.
    pub user_id: U,
    /// The role; `None`: there is no such user any more, or not with a role that has a place here.
    pub role: Option<Role>,
    /// Sessions of the user that were ended before their time.
    pub ended: Vec<SessionId>,
}

/// The answer to a [`crate::events::Event::SyncRequest`].
#[derive(Debug)]
pub struct SyncAnswer {
    /// The user's role as the database has it.
    pub role: Role,
    /// The head of the user's sequence when it was read.
    pub head: u64,
    /// The answer is final up to here: what is missing from `frames` does not exist.
    pub through: u64,
    /// The version of the unread count when it was read.
    pub rev: u64,
    /// A `sync` or `resync` frame that goes out before the rest.
    pub preface: Option<Frame>,
    /// The session starts anew at `through`, wherever it thought it was: its client pages through what lies before.
    pub restart: bool,
    /// What lies after the asked position, in order.
    pub frames: Vec<(u64, Frame)>,
}

/// One instruction to a shard. Numbers are those of connections.
#[derive(Debug)]
pub(crate) enum Command {
    Join(Box<Admitted>, u64),
    ToUser(Arc<str>, Frame),
    ToUsers(Vec<(Arc<str>, Frame)>),
    ToAudience(Audience, Frame),
    ToConnection(u64, Frame),
    Durable(Vec<DurableFrame>),
    Read(Vec<ReadFrame>),
    Heads(Vec<(Arc<str>, u64)>),
    Answer(u64, Asked, Box<SyncAnswer>),
    /// An `error` frame for a client frame that was refused; counted against the client.
    Refuse(u64, Frame),
    Close(u64, CloseReason),
    /// When the session ends that the connection stands for from now on, and which it is.
    ExtendSession(u64, Option<u64>, Option<SessionId>),
    Standings(Vec<Standing>),
    Snapshot(Sender<Vec<ConnectionInfo>>),
    /// Everything up to a number has arrived, as the client says; the frame is for where it cannot have.
    Acknowledge(u64, u64, Frame),
    /// Lays down what each session has sent; says when that is done.
    Progress(Sender<()>),
    /// Closes every session with 1001, each at its time.
    Drain(Schedule),
    Stop,
    /// Makes the shard panic, which nothing else is known to do.
    #[cfg(test)]
    Panic,
}

impl Command {
    /// The bytes that the command holds while it waits, for the bound on the backlog.
    pub(crate) fn cost(&self) -> usize {
        const EACH: usize = 64;
        match self {
            Self::ToUsers(items) => items.iter().map(|(_, frame)| frame.wire_len() + EACH).sum(),
            Self::Durable(items) => items.iter().map(|item| item.frame.wire_len() + EACH).sum(),
            Self::Read(items) => items.iter().map(|item| item.frame.wire_len() + EACH).sum(),
            Self::Answer(_, _, answer) => answer.frames.iter().map(|(_, frame)| frame.wire_len() + EACH).sum(),
            Self::ToUser(_, frame)
            | Self::ToAudience(_, frame)
            | Self::ToConnection(_, frame)
            | Self::Refuse(_, frame)
            | Self::Acknowledge(_, _, frame) => frame.wire_len() + EACH,
            Self::Heads(items) => items.len() * EACH,
            Self::Standings(items) => items.len() * EACH,
            _ => EACH,
        }
    }
}
