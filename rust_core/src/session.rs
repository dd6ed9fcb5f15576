//! One connection: what it is owed, what it may do, when it is given up.
//!
//! A session lives on one shard's thread. The shard queues frames and flushes; the session's own task (see
//! [`crate::reader`]) reads, and writes only where the socket was full. All methods here are synchronous: no borrow
//! outlives one.

mod catch_up;
mod ending;
mod heartbeat;
mod inbound;
mod outbound;
mod writing;

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt, io,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    task::Waker,
};

use bytes::Bytes;
use tokio::sync::Notify;

pub(crate) use self::outbound::Enqueued;
use self::{
    catch_up::Joining,
    ending::{Closing, PeerEnding},
    outbound::Outbound,
};
use crate::{
    admission::Slot,
    clock::Clock,
    close::CloseReason,
    command::Standing,
    config::Config,
    events::{Event, EventQueue},
    frame::Frame,
    front_door::Admitted,
    hub::connection_id,
    index::{Index, Membership},
    latency::WriteTimes,
    metrics::Counters,
    progress::Progress,
    rate_limit::RateLimit,
    rounds::Rounds,
    send_queue::Batching,
    sequence::Sequence,
    socket::Socket,
    token::{Identity, Role, SessionId},
};

/// For a session without an end.
const NEVER: u64 = u64::MAX;

/// One open connection, as of now.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Its id.
    pub connection_id: String,
    /// Whose it is.
    pub user_id: Arc<str>,
    /// The role that it acts in.
    pub role: Role,
    /// The user's name by the token.
    pub name: Arc<str>,
    /// Where it truly comes from.
    pub client_address: IpAddr,
    /// What it calls itself.
    pub user_agent: Option<Box<str>>,
    /// Unix time in seconds.
    pub connected_at: f64,
    /// Unix time in seconds of the last bytes from the client, a pong included.
    pub last_activity: f64,
    /// Number of the last durable frame that was queued to it; 0: none.
    pub last_seq: u64,
    /// Version of the last unread count that was queued to it; 0: none.
    pub last_rev: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
}

/// What all sessions of a shard share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) clock: Clock,
    pub(crate) write_times: WriteTimes,
    pub(crate) index: Arc<Index>,
    pub(crate) node_id: Arc<str>,
    /// Sessions whose task has ended, until the shard has taken them out of its registry between two passes.
    pub(crate) departed: RefCell<Vec<Rc<Session>>>,
    pub(crate) departure: Notify,
    /// Broadcasts on their way round the shard's sessions.
    pub(crate) rounds: RefCell<Rounds>,
}

/// One connection.
///
/// In this order in memory: what each write touches comes first and together, for on the way of a broadcast the cost of a
/// session is the cost of fetching its cache lines.
#[repr(C)]
pub(crate) struct Session {
    pub(crate) context: Rc<Context>,
    /// How far it is in the shard's rounds of broadcasts.
    pub(crate) seen: Cell<u64>,
    aborted: Cell<bool>,
    /// It negotiated permessage-deflate.
    pub(crate) deflates: bool,
    /// Since when a message of the client's is unfinished, in seconds of the shard's clock; 0: none is.
    unfinished_since: Cell<u32>,
    // What few sessions have at a time is boxed: the size of a session is paid for by every idle connection.
    closing: OnceCell<Box<Closing>>,
    pub(crate) socket: Socket,
    outbound: RefCell<Outbound>,
    /// The next page is wanted once the queue has drained.
    page_wanted: Cell<bool>,
    claimed_role: Role,
    /// Index in the shard's list of all sessions.
    pub(crate) position: Cell<u32>,
    /// Wakes the session's task.
    task: RefCell<Option<Waker>>,
    sequence: RefCell<Sequence<Frame>>,
    heard_ms: Cell<u64>,
    membership: Membership,
    name: Arc<str>,
    client_address: IpAddr,
    user_agent: Option<Box<str>>,
    connected_ms: u64,
    /// Present until the first answer, which confirms the identity.
    joining: RefCell<Option<Box<Joining>>>,
    /// When the outstanding sync request was queued; 0: it is still to be.
    asked_ms: Cell<u64>,
    /// Unix time in seconds at which the session behind the connection ends; [`NEVER`]: it does not.
    expires_at: Cell<u64>,
    stands_for: Cell<Option<SessionId>>,
    rate: Cell<RateLimit>,
    /// Since when refusals are counted, in seconds of the shard's clock, and how many there were.
    refusals: Cell<(u32, u32)>,
    ending: Cell<Option<Box<PeerEnding>>>,
    _slot: Slot,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("membership", &self.membership).finish_non_exhaustive()
    }
}

impl Session {
    /// A session for an admitted socket, registered with this thread's reactor, and what was read of it already.
    pub(crate) fn new(admitted: Admitted, number: u64, context: Rc<Context>) -> io::Result<(Self, Bytes)> {
        let Admitted {
            socket,
            tls,
            greeting: _,
            read_ahead,
            identity,
            resume,
            deflates,
            client_address,
            user_agent,
            slot,
        } = admitted;
        let socket = Socket::new(socket, tls)?;
        let Identity { user_id, role, name, session_expires_at, session_id } = identity;
        let now = context.clock.now_ms();
        let membership = context.index.enter(&user_id, number);
        let (sequence, joining) = if context.config.sync {
            let epoch = resume.epoch.map(String::into_boxed_str);
            (Sequence::waiting(resume.last_seq), Some(Box::new(Joining { epoch, early_reads: Vec::new() })))
        } else {
            membership.set_role(Some(role));
            (Sequence::live(), None)
        };
        // Spread over the interval, so that connections that came together are not pinged together.
        let interval = context.config.ping_interval.as_millis() as u64;
        let first_ping = now + interval / 2 + (number >> 8).wrapping_mul(7919) % (interval / 2 + 1);
        let session = Self {
            socket,
            task: RefCell::new(None),
            position: Cell::new(0),
            seen: Cell::new(0),
            membership,
            claimed_role: role,
            name,
            client_address,
            user_agent,
            connected_ms: now,
            outbound: RefCell::new(Outbound {
                batching: Batching::new(resume.batch),
                next_ping_ms: first_ping,
                ..Outbound::default()
            }),
            sequence: RefCell::new(sequence),
            joining: RefCell::new(joining),
            asked_ms: Cell::new(0),
            page_wanted: Cell::new(false),
            expires_at: Cell::new(session_expires_at.unwrap_or(NEVER)),
            stands_for: Cell::new(session_id),
            heard_ms: Cell::new(now),
            rate: Cell::default(),
            refusals: Cell::new((0, 0)),
            closing: OnceCell::new(),
            aborted: Cell::new(false),
            deflates,
            unfinished_since: Cell::new(0),
            ending: Cell::new(None),
            _slot: slot,
            context,
        };
        Ok((session, read_ahead))
    }

    pub(crate) fn user_id(&self) -> &Arc<str> {
        self.membership.user_id()
    }

    pub(crate) fn number(&self) -> u64 {
        self.membership.number()
    }

    pub(crate) fn connection_id(&self) -> String {
        connection_id(&self.context.node_id, self.number())
    }

    /// The role that it acts in: by the database once that was asked, before by the token.
    pub(crate) fn role(&self) -> Role {
        self.membership.role().unwrap_or(self.claimed_role)
    }

    /// Whether it belongs to a role's audience; nobody does before the database confirmed it.
    pub(crate) fn is_in_audience(&self, role: Role) -> bool {
        self.membership.role() == Some(role)
    }

    /// When the client was last heard of, in milliseconds of the shard's clock.
    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms.get()
    }

    /// Takes note of bytes from the client.
    pub(crate) fn heard(&self) {
        self.heard_ms.set(self.context.clock.now_ms());
    }

    /// Takes note of how the session's task is woken.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|present| present.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// Lets the session's task look at its state anew.
    fn wake(&self) {
        if let Some(waker) = &*self.task.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Has the connection stand for another session of its user from now on.
    pub(crate) fn extend_session(&self, expires_at: Option<u64>, session_id: Option<SessionId>) {
        self.expires_at.set(expires_at.unwrap_or(NEVER));
        self.stands_for.set(session_id);
    }

    /// Takes what the database says of its user: the connection goes with the user or the session, and moves to the
    /// audience of another role. One that was not answered yet is left to its answer.
    pub(crate) fn heed(&self, standing: &Standing, now: u64) {
        match standing.role {
            None => self.begin_close(CloseReason::InvalidAuthentication, now),
            Some(_) if self.stands_for.get().is_some_and(|id| standing.ended.contains(&id)) => {
                self.begin_close(CloseReason::SessionExpired, now);
            }
            Some(role) if self.membership.role().is_some() => self.membership.set_role(Some(role)),
            Some(_) => {}
        }
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        let clock = &self.context.clock;
        ConnectionInfo {
            connection_id: self.connection_id(),
            user_id: Arc::clone(self.user_id()),
            role: self.role(),
            name: Arc::clone(&self.name),
            client_address: self.client_address,
            user_agent: self.user_agent.clone(),
            connected_at: clock.unix_seconds(self.connected_ms),
            last_activity: clock.unix_seconds(self.heard_ms.get()),
            last_seq: self.sequence.borrow().last().unwrap_or(0),
            last_rev: self.sequence.borrow().rev(),
            queued_bytes: self.outbound.borrow().queue.bytes(),
        }
    }

    /// What was queued to it, and what has arrived, since this was last asked; `None` where nothing happened.
    pub(crate) fn take_progress(&self) -> Option<Progress> {
        let (range, delivered) = self.sequence.borrow_mut().take_news()?;
        let (connection_id, user_id) = (self.connection_id(), Arc::clone(self.user_id()));
        Some(Progress { connection_id, user_id, range, delivered })
    }

    /// Everything up to `seq` has arrived, as the client says; false, and it is not believed, beyond what was sent.
    pub(crate) fn acknowledge(&self, seq: u64) -> bool {
        self.sequence.borrow_mut().prove(seq)
    }

    pub(crate) fn connected_event(&self) -> Event {
        Event::Connected {
            connection_id: self.connection_id(),
            user_id: Arc::clone(self.user_id()),
            role: self.claimed_role,
            name: Arc::clone(&self.name),
            client_address: self.client_address,
            user_agent: self.user_agent.clone(),
            connected_at: self.context.clock.unix_seconds(self.connected_ms),
        }
    }
}

#[cfg(test)]
mod counting_tests;
#[cfg(test)]
mod heartbeat_tests;
#[cfg(test)]
mod tests;
