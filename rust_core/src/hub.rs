//! The handle to this node's connections: it knows which shard owns a user and hands the frame over.
//!
//! All connections of a user live on one shard, so a send to a user goes to one shard and keeps its order; a broadcast
//! goes once to each. Every call returns how many connections it was queued to, and blocks on nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    mpsc,
};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    close::CloseReason,
    command::{Audience, Command, DurableFrame, ReadFrame, Standing, SyncAnswer},
    config::SHARD_BACKLOG_BYTES,
    drain::Schedule,
    error::Error,
    events::Asked,
    frame::Frame,
    front_door::Admitted,
    index::Index,
    latency::Stamp,
    metrics::{Counters, Totals},
    session::ConnectionInfo,
    token::SessionId,
};

/// How long a shard may take to answer before it counts as stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A cheap, shared handle.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node_id: Arc<str>,
    index: Arc<Index>,
    shards: Vec<ShardHandle>,
    next_connection: AtomicU64,
    // Counted by whichever thread calls.
    frames_encoded: AtomicU64,
    frames_published: AtomicU64,
    sends_refused: AtomicU64,
}

/// One shard as the hub sees it.
#[derive(Debug, Clone)]
pub(crate) struct ShardHandle {
    pub(crate) commands: UnboundedSender<Command>,
    /// Bytes of commands that wait, and of broadcasts on their round.
    pub(crate) backlog: Arc<AtomicUsize>,
    pub(crate) counters: Arc<Counters>,
}

impl ShardHandle {
    fn is_overloaded(&self) -> bool {
        self.backlog.load(Relaxed) > SHARD_BACKLOG_BYTES
    }

    pub(crate) fn tell(&self, command: Command) -> Result<(), Error> {
        let cost = command.cost();
        self.backlog.fetch_add(cost, Relaxed);
        self.commands.send(command).map_err(|_| {
            self.backlog.fetch_sub(cost, Relaxed);
            Error::Stopped
        })
    }
}

impl Hub {
    pub(crate) fn new(node_id: Arc<str>, index: Arc<Index>, shards: Vec<ShardHandle>) -> Self {
        Self(Arc::new(Inner {
            node_id,
            index,
            shards,
            next_connection: AtomicU64::new(1),
            frames_encoded: AtomicU64::new(0),
            frames_published: AtomicU64::new(0),
            sends_refused: AtomicU64::new(0),
        }))
    }

    /// Hands an upgraded socket to the shard of its user. It is dropped, and so closed, where the server has stopped.
    pub fn join(&self, admitted: Admitted) {
        let shard = self.shard_of(&admitted.identity.user_id);
        let number = (self.0.next_connection.fetch_add(1, Relaxed) << 8) | shard as u64;
        let _ = self.0.shards[shard].tell(Command::Join(Box::new(admitted), number));
    }

    /// Encodes a message, to be published once or often.
    #[must_use]
    pub fn encode(&self, payload: &str) -> Frame {
        self.0.frames_encoded.fetch_add(1, Relaxed);
        Frame::text(payload)
    }

    /// To every connection of a user; `frame` makes the frame, where there is one.
    pub fn to_user(&self, user_id: &str, frame: impl FnOnce() -> Frame) -> Result<usize, Error> {
        let mut connections = 0;
        if let Some((user_id, count)) = self.0.index.find(user_id) {
            let shard = &self.0.shards[self.shard_of(&user_id)];
            self.count_refusal(check_load([shard]))?;
            shard.tell(Command::ToUser(user_id, frame().stamped(Stamp::now())))?;
            connections = count;
        }
        self.0.frames_published.fetch_add(1, Relaxed);
        Ok(connections)
    }

    /// To every connection of several users, each with a frame of its own. Nothing is sent where any of their shards is
    /// overloaded.
    pub fn to_many<'a>(&self, items: impl IntoIterator<Item = (&'a str, Frame)>) -> Result<usize, Error> {
        let mut connections = 0;
        let mut published = 0;
        let mut parts = Parts::new(self);
        for (user_id, frame) in items {
            published += 1;
            if let Some((user_id, count)) = self.0.index.find(user_id) {
                connections += count;
                let frame = frame.stamped(parts.stamp());
                parts.of(&user_id).push((user_id, frame));
            }
        }
        self.count_refusal(parts.send(Command::ToUsers))?;
        self.0.frames_published.fetch_add(published, Relaxed);
        Ok(connections)
    }

    /// To every connection of an audience.
    pub fn to_audience(&self, audience: Audience, frame: &Frame) -> Result<usize, Error> {
        self.count_refusal(check_load(&self.0.shards))?;
        let frame = frame.clone().stamped(Stamp::now());
        for shard in &self.0.shards {
            shard.tell(Command::ToAudience(audience, frame.clone()))?;
        }
        self.0.frames_published.fetch_add(1, Relaxed);
        Ok(match audience {
            Audience::All => self.0.index.total(),
            Audience::Role(role) => self.0.index.with_role(role),
        })
    }

    /// To one connection: 1, or 0 where it is not open.
    pub fn to_connection(&self, connection_id: &str, frame: Frame) -> Result<usize, Error> {
        let Some((number, shard)) = self.find(connection_id) else { return Ok(0) };
        self.count_refusal(check_load([shard]))?;
        shard.tell(Command::ToConnection(number, frame.stamped(Stamp::now())))?;
        self.0.frames_published.fetch_add(1, Relaxed);
        Ok(1)
    }

    /// Durable frames: each session gets those of its user in order, each once. Nothing is sent where any of their
    /// shards is overloaded.
    pub fn publish<'a>(&self, items: impl IntoIterator<Item = DurableFrame<&'a str>>) -> Result<usize, Error> {
        let mut connections = 0;
        let mut published = 0;
        let mut parts = Parts::new(self);
        for DurableFrame { user_id, seq, rev, frame } in items {
            published += 1;
            if let Some((user_id, count)) = self.0.index.find(user_id) {
                connections += count;
                let frame = frame.stamped(parts.stamp());
                parts.of(&user_id).push(DurableFrame { user_id, seq, rev, frame });
            }
        }
        parts.send(Command::Durable)?;
        self.0.frames_published.fetch_add(published, Relaxed);
        Ok(connections)
    }

    /// Changed unread counts.
    pub fn publish_read<'a>(&self, items: impl IntoIterator<Item = ReadFrame<&'a str>>) -> Result<usize, Error> {
        let mut connections = 0;
        let mut parts = Parts::new(self);
        for ReadFrame { user_id, rev, frame } in items {
            if let Some((user_id, count)) = self.0.index.find(user_id) {
                connections += count;
                let frame = frame.stamped(parts.stamp());
                parts.of(&user_id).push(ReadFrame { user_id, rev, frame });
            }
        }
        parts.send(Command::Read)?;
        Ok(connections)
    }

    /// The heads of users' sequences as committed: sessions that are behind ask for what they lack.
    pub fn announce_heads<'a>(&self, items: impl IntoIterator<Item = (&'a str, u64)>) -> Result<(), Error> {
        let mut parts = Parts::new(self);
        for (user_id, head) in items {
            if let Some((user_id, _)) = self.0.index.find(user_id) {
                parts.of(&user_id).push((user_id, head));
            }
        }
        parts.send(Command::Heads)
    }

    /// Answers a session's request; false where the connection is gone. Where it has asked for something else meanwhile,
    /// it goes on waiting for that.
    pub fn answer_sync(&self, connection_id: &str, asked: Asked, answer: SyncAnswer) -> Result<bool, Error> {
        let stamp = Stamp::now();
        let answer = SyncAnswer {
            preface: answer.preface.map(|frame| frame.stamped(stamp)),
            frames: answer.frames.into_iter().map(|(seq, frame)| (seq, frame.stamped(stamp))).collect(),
            ..answer
        };
        self.tell_connection(connection_id, |number| Command::Answer(number, asked, Box::new(answer)))
    }

    /// Sends an `error` frame for a client frame that was refused. Twenty in a minute end the connection.
    pub fn refuse(&self, connection_id: &str, frame: Frame) -> Result<bool, Error> {
        self.tell_connection(connection_id, |number| Command::Refuse(number, frame.stamped(Stamp::now())))
    }

    /// Closes a connection; false where it is not open.
    pub fn disconnect(&self, connection_id: &str, reason: CloseReason) -> Result<bool, Error> {
        self.tell_connection(connection_id, |number| Command::Close(number, reason))
    }

    /// Has a connection stand for another session of its user, which ends at `expires_at` (Unix time in seconds; `None`:
    /// not by time).
    pub fn extend_session(
        &self,
        connection_id: &str,
        expires_at: Option<u64>,
        session_id: Option<SessionId>,
    ) -> Result<bool, Error> {
        self.tell_connection(connection_id, |number| Command::ExtendSession(number, expires_at, session_id))
    }

    /// What the database says of users: connections of one who is gone are closed with 1008, those of a session that was
    /// ended with 4001, and the others act in the role from now on. However much waits, this is not refused.
    pub fn heed<'a>(&self, items: impl IntoIterator<Item = Standing<&'a str>>) -> Result<(), Error> {
        let mut parts = Parts::new(self);
        for Standing { user_id, role, ended } in items {
            if let Some((user_id, _)) = self.0.index.find(user_id) {
                parts.of(&user_id).push(Standing { user_id, role, ended });
            }
        }
        parts.hand_over(Command::Standings)
    }

    /// Believes a client that everything up to `seq` has arrived. Where that is beyond what was sent to it, it gets
    /// `refusal`, as by [`Self::refuse`]. False where it is not open.
    pub fn acknowledge(&self, connection_id: &str, seq: u64, refusal: Frame) -> Result<bool, Error> {
        let refusal = refusal.stamped(Stamp::now());
        self.tell_connection(connection_id, |number| Command::Acknowledge(number, seq, refusal))
    }

    /// Lays down in the progress log what each session has sent since this was last asked. Blocks until each shard has
    /// done so, 5 s at most; then [`Error::NoAnswer`], and a shard's records come when it gets to it.
    pub fn lay_down_progress(&self) -> Result<(), Error> {
        self.ask_shards(Command::Progress).map(|_| ())
    }

    /// Every open connection. Blocks until each shard has answered, 5 s at most; then [`Error::NoAnswer`].
    pub fn connections(&self) -> Result<Vec<ConnectionInfo>, Error> {
        Ok(self.ask_shards(Command::Snapshot)?.into_iter().flatten().collect())
    }

    /// Asks each shard, and waits for their answers.
    fn ask_shards<T>(&self, question: impl Fn(mpsc::Sender<T>) -> Command) -> Result<Vec<T>, Error> {
        let (sender, answers) = mpsc::channel();
        for shard in &self.0.shards {
            shard.tell(question(sender.clone()))?;
        }
        drop(sender);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let wait = |_| answers.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        self.0.shards.iter().map(wait).collect::<Result<_, _>>().map_err(|_| Error::NoAnswer)
    }

    /// Connections that are open.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.index.total()
    }

    /// Whether the user has an open connection.
    pub(crate) fn has_user(&self, user_id: &str) -> bool {
        self.0.index.has(user_id)
    }

    /// Users with an open connection.
    #[must_use]
    pub fn users(&self) -> usize {
        self.0.index.users()
    }

    /// Counters of all shards together, and the hub's own count of encoded messages.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.0.shards {
            totals.add(&shard.counters);
        }
        totals.frames_encoded += self.0.frames_encoded.load(Relaxed);
        totals
    }

    /// Direct sends, each a call, that were refused with [`Error::Overloaded`]. What is durable is published again by
    /// its caller, and not counted.
    #[must_use]
    pub fn sends_refused(&self) -> u64 {
        self.0.sends_refused.load(Relaxed)
    }

    /// Frames handed to the hub, each counted once whatever its audience.
    #[must_use]
    pub fn frames_published(&self) -> u64 {
        self.0.frames_published.load(Relaxed)
    }

    /// Bytes of commands that wait for their shards, and of broadcasts on their rounds.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.backlog.load(Relaxed)).sum()
    }

    /// Has every session closed within the time that is `left`; returns at once.
    pub(crate) fn drain(&self, left: Duration) {
        let (schedule, shards) = (Schedule::new(self.total(), left), &self.0.shards);
        for (number, shard) in shards.iter().enumerate() {
            let _ = shard.tell(Command::Drain(schedule.of_shard(number, shards.len())));
        }
    }

    pub(crate) fn stop(&self) {
        for shard in &self.0.shards {
            let _ = shard.tell(Command::Stop);
        }
    }

    fn shard_of(&self, user_id: &str) -> usize {
        (self.0.index.hash(user_id) as u32 as usize) % self.0.shards.len()
    }

    fn count_refusal<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if matches!(outcome, Err(Error::Overloaded { .. })) {
            self.0.sends_refused.fetch_add(1, Relaxed);
        }
        outcome
    }

    /// The number and shard of an open connection of this node.
    fn find(&self, connection_id: &str) -> Option<(u64, &ShardHandle)> {
        let (node_id, number) = connection_id.rsplit_once('-')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        let shard = self.0.shards.get((number & 0xFF) as usize)?;
        (node_id == &*self.0.node_id && self.0.index.is_open(number)).then_some((number, shard))
    }

    fn tell_connection(&self, connection_id: &str, command: impl FnOnce(u64) -> Command) -> Result<bool, Error> {
        let Some((number, shard)) = self.find(connection_id) else { return Ok(false) };
        shard.tell(command(number)).map(|()| true)
    }
}

/// Whether every shard that is to be told something still takes it.
fn check_load<'a>(shards: impl IntoIterator<Item = &'a ShardHandle>) -> Result<(), Error> {
    if shards.into_iter().any(ShardHandle::is_overloaded) {
        return Err(Error::Overloaded { limit: SHARD_BACKLOG_BYTES });
    }
    Ok(())
}

/// The id of a connection as the world sees it: the node's id, then the number.
pub(crate) fn connection_id(node_id: &str, number: u64) -> String {
    format!("{node_id}-{number:x}")
}

/// Items for several users, sorted by the shards that own them.
struct Parts<'a, T> {
    hub: &'a Hub,
    items: Vec<Vec<T>>,
    /// When the first item was found a receiver: a call that finds none need not know the time.
    stamp: Option<Stamp>,
}

impl<'a, T> Parts<'a, T> {
    fn new(hub: &'a Hub) -> Self {
        Self { hub, items: std::iter::repeat_with(Vec::new).take(hub.0.shards.len()).collect(), stamp: None }
    }

    fn stamp(&mut self) -> Stamp {
        *self.stamp.get_or_insert_with(Stamp::now)
    }

    fn of(&mut self, user_id: &str) -> &mut Vec<T> {
        &mut self.items[self.hub.shard_of(user_id)]
    }

    fn send(self, command: impl Fn(Vec<T>) -> Command) -> Result<(), Error> {
        let shards = &self.hub.0.shards;
        check_load(shards.iter().zip(&self.items).filter(|(_, items)| !items.is_empty()).map(|(shard, _)| shard))?;
        self.hand_over(command)
    }

    /// Without asking whether the shards are overloaded.
    fn hand_over(self, command: impl Fn(Vec<T>) -> Command) -> Result<(), Error> {
        for (shard, items) in self.hub.0.shards.iter().zip(self.items) {
            if !items.is_empty() {
                shard.tell(command(items))?;
            }
        }
        Ok(())
    }
}
