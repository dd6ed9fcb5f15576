//! One connection: what it is owed, what it may do, when it is given up.
//!
//! A session lives on one shard's thread. The shard queues frames and flushes; the session's own task (see
//! [`crate::reader`]) reads, and writes only where the socket was full. All methods here are synchronous: no borrow
//! outlives one.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    net::IpAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::TcpStream, sync::Notify};
use uuid::Uuid;

use crate::{
    admission::Slot,
    clock::Clock,
    close::CloseReason,
    command::SyncAnswer,
    config::Config,
    events::{Ending, Event, EventQueue},
    frame::Frame,
    front_door::Admitted,
    hub::connection_id,
    index::{Index, Membership},
    metrics::Counters,
    rate_limit::RateLimit,
    send_queue::{MAX_SLICES, SendQueue},
    sequence::{Next, Sequence, Verdict},
    token::{Identity, Role},
};

/// How long a peer may take to answer our Close frame before its socket is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a peer that has left a ping unanswered, and so has probably gone.
const SILENT_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An answer to a [`Event::SyncRequest`] that is this late is asked for again.
const SYNC_PATIENCE_MS: u64 = 5_000;

/// Client frames that may be refused within [`REFUSAL_WINDOW_MS`] before the connection is closed with 1008.
const MAX_REFUSALS: u32 = 20;
const REFUSAL_WINDOW_MS: u64 = 60_000;

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
    /// Bytes of commands that wait for the shard; the hub adds, the shard subtracts.
    pub(crate) backlog: Arc<AtomicUsize>,
    pub(crate) clock: Clock,
    pub(crate) index: Arc<Index>,
    pub(crate) node_id: Arc<str>,
    /// Sessions whose task has ended, until the shard has taken them out of its registry between two passes.
    pub(crate) departed: RefCell<Vec<Rc<Session>>>,
    pub(crate) departure: Notify,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// Nothing is to be done: it was written, it goes with a flush that is due, or it will never be sent.
    Settled,
    /// The session has to be flushed.
    FlushDue,
}

#[derive(Debug, Default)]
struct Outbound {
    queue: SendQueue,
    /// On the shard's list of sessions to flush.
    listed: bool,
    /// The socket was full: the session's task waits until it is writable.
    blocked: bool,
    last_write_ms: u64,
    ping: Option<Ping>,
    next_ping_ms: u64,
}

/// The one ping that awaits its pong.
#[derive(Debug)]
struct Ping {
    nonce: u64,
    /// Position in the stream behind its last byte.
    end: u64,
    /// Bytes written when it was last looked at, and when they last grew.
    progress: (u64, u64),
}

#[derive(Debug)]
struct Closing {
    reason: CloseReason,
    deadline_ms: u64,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) socket: TcpStream,
    pub(crate) user_id: Arc<str>,
    pub(crate) context: Rc<Context>,
    /// Wakes the session's task to look at its state anew.
    pub(crate) wake: Notify,
    /// Index in the shard's list of all sessions.
    pub(crate) position: Cell<usize>,
    membership: Membership,
    claimed_role: Role,
    name: Arc<str>,
    client_address: IpAddr,
    user_agent: Option<Box<str>>,
    connected_ms: u64,
    outbound: RefCell<Outbound>,
    sequence: RefCell<Sequence<Frame>>,
    epoch: RefCell<Option<Box<str>>>,
    /// When the outstanding sync request was queued; 0: it is still to be.
    asked_ms: Cell<u64>,
    /// The first answer, which confirms the identity, has come.
    confirmed: Cell<bool>,
    /// The next page is wanted once the queue has drained.
    page_wanted: Cell<bool>,
    expires_at: Cell<Option<u64>>,
    heard_ms: Cell<u64>,
    rate: RefCell<RateLimit>,
    refusals: Cell<(u64, u32)>,
    closing: RefCell<Option<Closing>>,
    aborted: Cell<bool>,
    ending: RefCell<Option<(u16, String, Ending)>>,
    _slot: Slot,
}

impl Session {
    /// A session for an admitted socket, registered with this thread's reactor, and what was read of it already.
    pub(crate) fn new(admitted: Admitted, number: u64, context: Rc<Context>) -> io::Result<(Self, Bytes)> {
        let Admitted { socket, read_ahead, identity, resume, client_address, user_agent, slot } = admitted;
        let socket = TcpStream::from_std(socket)?;
        let Identity { user_id, role, name, session_expires_at } = identity;
        let now = context.clock.now_ms();
        let membership = context.index.enter(&user_id, number);
        let sequence = if context.config.sync {
            Sequence::waiting(resume.last_seq)
        } else {
            membership.set_role(Some(role));
            Sequence::live()
        };
        // Spread over the interval, so that connections that came together are not pinged together.
        let interval = context.config.ping_interval.as_millis() as u64;
        let first_ping = now + interval / 2 + (number >> 8).wrapping_mul(7919) % (interval / 2 + 1);
        let session = Self {
            number,
            socket,
            wake: Notify::new(),
            position: Cell::new(0),
            membership,
            claimed_role: role,
            user_id,
            name,
            client_address,
            user_agent,
            connected_ms: now,
            outbound: RefCell::new(Outbound { next_ping_ms: first_ping, ..Outbound::default() }),
            sequence: RefCell::new(sequence),
            epoch: RefCell::new(resume.epoch.map(String::into_boxed_str)),
            asked_ms: Cell::new(0),
            confirmed: Cell::new(!context.config.sync),
            page_wanted: Cell::new(false),
            expires_at: Cell::new(session_expires_at),
            heard_ms: Cell::new(now),
            rate: RefCell::default(),
            refusals: Cell::new((0, 0)),
            closing: RefCell::new(None),
            aborted: Cell::new(false),
            ending: RefCell::new(None),
            _slot: slot,
            context,
        };
        Ok((session, read_ahead))
    }

    pub(crate) fn connection_id(&self) -> String {
        connection_id(&self.context.node_id, self.number)
    }

    /// The role that it acts in: by the database once that was asked, before by the token.
    pub(crate) fn role(&self) -> Role {
        self.membership.role().unwrap_or(self.claimed_role)
    }

    /// Whether it belongs to a role's audience; nobody does before the database confirmed it.
    pub(crate) fn is_in_audience(&self, role: Role) -> bool {
        self.membership.role() == Some(role)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.outbound.borrow().blocked
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        !self.outbound.borrow().queue.is_empty()
    }

    /// When the client was last heard of, in milliseconds of the shard's clock.
    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms.get()
    }

    /// Takes note of bytes from the client.
    pub(crate) fn heard(&self) {
        self.heard_ms.set(self.context.clock.now_ms());
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        let clock = &self.context.clock;
        ConnectionInfo {
            connection_id: self.connection_id(),
            user_id: Arc::clone(&self.user_id),
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

    pub(crate) fn connected_event(&self) -> Event {
        Event::Connected {
            connection_id: self.connection_id(),
            user_id: Arc::clone(&self.user_id),
            role: self.claimed_role,
            name: Arc::clone(&self.name),
            client_address: self.client_address,
            user_agent: self.user_agent.clone(),
        }
    }

    pub(crate) fn disconnected_event(&self) -> Event {
        let (code, reason, ending) = self.ending.borrow_mut().take().unwrap_or_else(|| match &*self.closing.borrow() {
            Some(closing) => (closing.reason.code(), closing.reason.text().into_owned(), ending_of(&closing.reason)),
            None => (1006, String::new(), Ending::Disconnected),
        });
        Event::Disconnected {
            connection_id: self.connection_id(),
            user_id: Arc::clone(&self.user_id),
            code,
            reason,
            ending,
        }
    }

    /// Remembers how the peer ended it, unless we did first.
    pub(crate) fn set_ending(&self, code: u16, reason: &str, ending: Ending) {
        if !self.is_closing() {
            self.ending.borrow_mut().get_or_insert_with(|| (code, reason.to_owned(), ending));
        }
    }
}

/// Frames on their way out.
impl Session {
    /// Queues a frame. `lone`: no other follows in this pass, so a quiet session is written to at once.
    pub(crate) fn enqueue(&self, frame: &Frame, lone: bool, now: u64) -> Enqueued {
        if self.is_closing() || self.aborted.get() {
            return Enqueued::Settled;
        }
        self.context.counters.deliveries.add(1);
        let mut outbound = self.outbound.borrow_mut();
        if lone && outbound.queue.is_empty() && !outbound.blocked && self.is_quiet(&outbound, now) {
            match self.socket.try_write(frame.wire()) {
                Ok(written) => {
                    self.wrote(&mut outbound, written, now);
                    outbound.queue.wrote_directly(frame.wire(), written);
                    if outbound.queue.is_empty() {
                        return Enqueued::Settled;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbound.queue.push_control(frame.wire().clone());
                }
                Err(error) => {
                    drop(outbound);
                    self.fail(&error);
                    return Enqueued::Settled;
                }
            }
        } else if outbound.queue.push(frame.wire().clone(), self.context.config.send_queue_bytes).is_err() {
            drop(outbound);
            self.context.counters.slow_consumers.add(1);
            self.begin_close(CloseReason::SlowConsumer, now);
            return Enqueued::Settled;
        }
        if outbound.listed || outbound.blocked {
            return Enqueued::Settled;
        }
        outbound.listed = true;
        Enqueued::FlushDue
    }

    /// Queues a durable frame by the session's rule.
    pub(crate) fn enqueue_durable(&self, seq: u64, rev: u64, frame: Frame, lone: bool, now: u64) -> Enqueued {
        if self.is_closing() {
            return Enqueued::Settled;
        }
        let verdict = self.sequence.borrow_mut().offer(seq, rev, frame);
        match verdict {
            Verdict::Deliver(frame) => self.enqueue(&frame, lone, now),
            Verdict::Gap => {
                self.ask(now);
                Enqueued::Settled
            }
            Verdict::Duplicate | Verdict::Parked => Enqueued::Settled,
        }
    }

    /// Queues a changed unread count unless the session has a newer one.
    pub(crate) fn enqueue_read(&self, rev: u64, frame: &Frame, lone: bool, now: u64) -> Enqueued {
        // Before the first answer nothing is older than what that answer will say.
        if self.confirmed.get() && self.sequence.borrow_mut().admits_rev(rev) {
            self.enqueue(frame, lone, now)
        } else {
            Enqueued::Settled
        }
    }

    /// The earliest time in milliseconds at which a flush keeps to the coalescing window; `now` or before: at once.
    pub(crate) fn flush_due_ms(&self) -> u64 {
        self.outbound.borrow().last_write_ms + self.context.config.coalesce.as_millis() as u64
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&self, now: u64) {
        let mut outbound = self.outbound.borrow_mut();
        outbound.listed = false;
        while !outbound.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = outbound.queue.slices(&mut slices);
            let result = match &slices[..filled] {
                [lone] => self.socket.try_write(lone),
                several => self.socket.try_write_vectored(several),
            };
            match result {
                Ok(written) => {
                    self.wrote(&mut outbound, written, now);
                    outbound.queue.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbound.blocked = true;
                    self.wake.notify_one();
                    break;
                }
                Err(error) => {
                    drop(outbound);
                    self.fail(&error);
                    return;
                }
            }
        }
        outbound.blocked &= !outbound.queue.is_empty();
        let drained = outbound.queue.bytes() <= self.context.config.send_queue_bytes / 4;
        drop(outbound);
        if drained && self.page_wanted.replace(false) {
            self.ask(now);
        }
    }

    /// Takes a control frame from tungstenite. After our own Close nothing follows it (RFC 6455 section 5.5.1).
    pub(crate) fn write_control(&self, frame: Bytes) {
        if self.is_closing() {
            return;
        }
        let now = self.context.clock.now_ms();
        let full = {
            let mut outbound = self.outbound.borrow_mut();
            outbound.queue.push_control(frame);
            outbound.queue.bytes() > self.context.config.send_queue_bytes
        };
        if full {
            self.begin_close(CloseReason::SlowConsumer, now);
        } else {
            self.flush(now);
        }
    }

    fn is_quiet(&self, outbound: &Outbound, now: u64) -> bool {
        now >= outbound.last_write_ms + self.context.config.coalesce.as_millis() as u64
    }

    fn wrote(&self, outbound: &mut Outbound, written: usize, now: u64) {
        outbound.last_write_ms = now;
        self.context.counters.writes.add(1);
        self.context.counters.bytes_written.add(written as u64);
    }
}

/// What it asks of the database, by way of the embedding program.
impl Session {
    /// Asks for what lies after the last delivered frame; tries again from [`Self::beat`] where the queue is full.
    pub(crate) fn ask(&self, now: u64) {
        let request = Event::SyncRequest {
            connection_id: self.connection_id(),
            user_id: Arc::clone(&self.user_id),
            after: self.sequence.borrow().last(),
            epoch: self.epoch.borrow().clone(),
            first: !self.confirmed.get(),
        };
        self.asked_ms.set(if self.context.events.offer(request) { now.max(1) } else { 0 });
    }

    /// Works in an answer; returns whether the session has to be flushed.
    pub(crate) fn answer(&self, answer: SyncAnswer, now: u64) -> Enqueued {
        if self.is_closing() || !self.sequence.borrow().is_waiting() {
            return Enqueued::Settled;
        }
        self.membership.set_role(Some(answer.role));
        self.confirmed.set(true);
        self.epoch.replace(None);
        let mut due = Enqueued::Settled;
        if let Some(preface) = &answer.preface {
            due = self.enqueue(preface, false, now);
        }
        if answer.restart {
            self.sequence.borrow_mut().restart(answer.through);
        }
        let next = self.sequence.borrow_mut().answer(answer.frames, answer.through, answer.head, answer.rev, |frame| {
            let mut outbound = self.outbound.borrow_mut();
            let queued = outbound.queue.push(frame.wire().clone(), self.context.config.send_queue_bytes).is_ok();
            self.context.counters.deliveries.add(u64::from(queued));
            if queued && !outbound.listed && !outbound.blocked {
                outbound.listed = true;
                due = Enqueued::FlushDue;
            }
            queued
        });
        match next {
            Next::Live => {}
            Next::AskWhenDrained if self.has_unwritten() => self.page_wanted.set(true),
            Next::Ask | Next::AskWhenDrained => self.ask(now),
        }
        due
    }

    /// Hears what the head of the user's sequence is, and asks where it is behind.
    pub(crate) fn announce_head(&self, head: u64, now: u64) {
        if self.sequence.borrow_mut().announce(head) {
            self.ask(now);
        }
    }

    pub(crate) fn extend_session(&self, expires_at: Option<u64>) {
        self.expires_at.set(expires_at);
    }
}

/// What the client sends.
impl Session {
    /// Whether one more frame from the client is within its rate; closes with 1008 where it is not.
    pub(crate) fn admits_frame(&self) -> bool {
        let (config, now) = (&self.context.config, self.context.clock.now_ms());
        let allowed = self.rate.borrow_mut().allows(now, config.message_rate, config.message_burst);
        if !allowed {
            self.begin_close(CloseReason::RateLimit, now);
        }
        allowed
    }

    /// Hands a text message to the embedding program; closes with 1013 where that is too far behind.
    pub(crate) fn deliver_text(&self, frame: Bytes) {
        self.context.counters.frames_received.add(1);
        let delivered = self.context.events.offer(Event::ClientFrame {
            connection_id: self.connection_id(),
            user_id: Arc::clone(&self.user_id),
            role: self.role(),
            frame,
        });
        if !delivered {
            self.begin_close(CloseReason::TryAgainLater, self.context.clock.now_ms());
        }
    }

    /// Counts a client frame that was refused; one too many ends the connection.
    pub(crate) fn count_refusal(&self, now: u64) {
        let (since, count) = self.refusals.get();
        let (since, count) = if count == 0 || now >= since + REFUSAL_WINDOW_MS { (now, 1) } else { (since, count + 1) };
        self.refusals.set((since, count));
        if count >= MAX_REFUSALS {
            self.begin_close(CloseReason::RateLimit, now);
        }
    }

    /// Takes note of a pong. Only the payload of the ping that is out counts.
    pub(crate) fn pong(&self, payload: &[u8]) {
        let mut outbound = self.outbound.borrow_mut();
        if outbound.ping.as_ref().is_some_and(|ping| ping.nonce.to_be_bytes() == *payload) {
            outbound.ping = None;
        }
    }
}

/// Its end.
impl Session {
    /// Sends a Close frame as the last one, behind what was queued, and gives the peer a while to answer. A peer that is
    /// closed for not keeping up, or that has probably gone, gets the Close in place of what was queued.
    pub(crate) fn begin_close(&self, reason: CloseReason, now: u64) {
        let timeout = if reason == CloseReason::NoPong { SILENT_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
        self.begin_close_within(reason, now, timeout);
    }

    pub(crate) fn begin_close_within(&self, reason: CloseReason, now: u64, timeout: Duration) {
        if self.is_closing() || self.aborted.get() {
            return;
        }
        {
            let mut outbound = self.outbound.borrow_mut();
            if matches!(reason, CloseReason::SlowConsumer | CloseReason::NoPong) {
                outbound.queue.drop_unstarted();
            }
            outbound.queue.push_control(Frame::close(&reason).wire().clone());
        }
        let deadline_ms = now + timeout.min(CLOSE_TIMEOUT).as_millis() as u64;
        self.closing.replace(Some(Closing { reason, deadline_ms }));
        self.flush(now);
        self.wake.notify_one();
    }

    /// The peer has closed and was answered: what is still owed may be written, nothing is added.
    pub(crate) fn finish(&self, now: u64) {
        if !self.is_closing() {
            let deadline_ms = now + CLOSE_TIMEOUT.as_millis() as u64;
            self.closing.replace(Some(Closing { reason: CloseReason::Normal, deadline_ms }));
        }
    }

    /// Gives the connection up at once.
    pub(crate) fn abort(&self) {
        self.aborted.set(true);
        self.wake.notify_one();
    }

    /// The socket has failed.
    pub(crate) fn fail(&self, error: &io::Error) {
        self.set_ending(1006, &error.to_string(), Ending::Error);
        self.abort();
    }

    /// Called now and then: deadlines, the heartbeat, requests that were not answered.
    pub(crate) fn beat(&self, now: u64, unix_now: u64) {
        if let Some(deadline_ms) = self.closing.borrow().as_ref().map(|closing| closing.deadline_ms) {
            if now >= deadline_ms {
                self.abort();
            }
            return;
        }
        if self.expires_at.get().is_some_and(|end| unix_now >= end) {
            self.begin_close(CloseReason::SessionExpired, now);
            return;
        }
        if self.sequence.borrow().is_waiting()
            && !self.page_wanted.get()
            && now >= self.asked_ms.get() + if self.asked_ms.get() == 0 { 0 } else { SYNC_PATIENCE_MS }
        {
            self.ask(now);
        }
        if self.is_overdue(now) {
            self.begin_close(CloseReason::NoPong, now);
        } else {
            self.ping_when_due(now);
        }
    }

    /// Whether the ping that is out has gone unanswered for too long. Its clock starts when it was written, and a
    /// connection that still takes or sends bytes is not overdue.
    fn is_overdue(&self, now: u64) -> bool {
        let mut outbound = self.outbound.borrow_mut();
        let written = outbound.queue.written();
        let Some(ping) = &mut outbound.ping else { return false };
        let reached = written.min(ping.end);
        if reached > ping.progress.0 {
            ping.progress = (reached, now);
        }
        let since = ping.progress.1.max(self.heard_ms.get());
        now.saturating_sub(since) >= self.context.config.pong_timeout.as_millis() as u64
    }

    fn ping_when_due(&self, now: u64) {
        let interval = self.context.config.ping_interval.as_millis() as u64;
        {
            let mut outbound = self.outbound.borrow_mut();
            if interval == 0 || outbound.ping.is_some() || now < outbound.next_ping_ms {
                return;
            }
            outbound.next_ping_ms = now + interval;
            let nonce = Uuid::now_v7().as_u64_pair().1;
            let progress = (outbound.queue.written(), now);
            outbound.queue.push_control(Frame::ping(nonce).wire().clone());
            let end = outbound.queue.end();
            outbound.ping = Some(Ping { nonce, end, progress });
            if outbound.blocked || outbound.listed {
                return;
            }
        }
        self.flush(now);
    }
}

/// How the connection table names the end that a close of ours brings.
fn ending_of(reason: &CloseReason) -> Ending {
    match reason {
        CloseReason::NoPong => Ending::Timeout,
        CloseReason::ProtocolError
        | CloseReason::InvalidUtf8
        | CloseReason::BinaryRefused
        | CloseReason::MessageTooBig
        | CloseReason::InternalError
        | CloseReason::SlowConsumer => Ending::Error,
        _ => Ending::Disconnected,
    }
}
