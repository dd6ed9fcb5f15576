//! A shard against a naive model, over real sockets that take little at a time.
//!
//! A program is a list of steps: passes of the shard over a few commands, and what the peers do meanwhile. Whatever it
//! is, each peer reads whole frames, each message once and in order; or it is closed with a reason, by a Close frame
//! that comes last, and what it read before is the beginning of what it was sent.

mod line;
mod peer;
mod program;

use std::{
    net::TcpStream,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::atomic::Ordering::Relaxed,
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestCaseError, TestCaseResult},
};

use self::{
    line::Line,
    peer::{Peer, message},
    program::{Order, Step, step},
};
use super::*;
use crate::{
    command::{Audience, DurableFrame, SyncAnswer},
    config::Config,
    drain::Schedule,
    events::{Asked, Event},
    frame::Frame,
    handshake::Resume,
    test_support::{admitted, config, context, handshake},
    token::Role,
};

const USER: &str = "user-1";

/// Open connections of the user; the next one replaces another.
const MOST_CONNECTIONS: usize = 3;

/// Bytes of the longest message, either way.
const LONGEST: usize = 3_000;

/// Bytes by which control frames may exceed a queue's limit: the pong that was one too many, a ping, a Close.
const CONTROL_BYTES: usize = 3 * 127;

/// The same, and the welcome: what the model does not count among the bytes on their way to a peer.
const UNCOUNTED_BYTES: usize = CONTROL_BYTES + 300;

/// Rounds in which everything that was published must have arrived.
const ROUNDS: usize = 10_000;

/// After so many of them the sockets take all that they can, or a long program would take long.
const GRAINED_ROUNDS: usize = 500;

/// The shard, its peers, and what the model expects.
struct World {
    shard: Shard,
    backlog: Arc<AtomicUsize>,
    limit: usize,
    now: u64,
    peers: Vec<Peer>,
    published: usize,
    /// Payloads of the user's durable messages; the first has number 1.
    committed: Vec<Vec<u8>>,
    /// Requests that are not answered: connection, and what it has.
    asked: Vec<(u64, Asked)>,
    /// The last answer, by the number that was answered: what was asked, and how far it reached.
    answered: Vec<(u64, Asked, u64)>,
}

impl World {
    fn new(limit: usize) -> Self {
        let config = Config {
            sync: true,
            send_queue_bytes: limit,
            max_message_bytes: LONGEST + 100,
            max_connections_per_user: MOST_CONNECTIONS,
            message_rate: 0,
            ping_interval: Duration::from_millis(30),
            pong_timeout: Duration::from_millis(100),
            ..config()
        };
        let shard = Shard::new(context(config));
        Self {
            shard,
            backlog: Arc::default(),
            limit,
            now: 0,
            peers: Vec::new(),
            published: 0,
            committed: Vec::new(),
            asked: Vec::new(),
            answered: Vec::new(),
        }
    }

    fn join(&mut self, grain: usize, encrypted: bool) {
        if self.shard.users.values().flatten().count() >= MOST_CONNECTIONS {
            self.peers.iter_mut().for_each(|peer| peer.may_be_closed(4004));
        }
        let (ours, socket) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&ours).set_send_buffer_size(1).unwrap();
        let resume = Resume { last_seq: Some(0), ..Resume::default() };
        let number = (self.peers.len() as u64 + 1) << 8;
        let (tls, theirs) = encrypted.then(handshake).unzip();
        let admitted = Admitted { tls, resume, ..admitted(TcpStream::from(OwnedFd::from(ours)), USER) };
        self.shard.join(admitted, number, self.now);
        self.shard.numbers[&number].socket.take_at_most(grain);
        self.peers.push(Peer::new(number, Line::new(socket, theirs)));
        if self.shard.draining.is_some() {
            self.peers.iter_mut().for_each(|peer| peer.may_be_closed(1001));
        }
    }

    fn pick(&self, peer: usize) -> usize {
        peer % self.peers.len()
    }

    /// A new direct message for some peers.
    fn direct(&mut self, length: usize, meant: impl Fn(usize) -> bool) -> Frame {
        let payload = message('d', self.published, length);
        self.published += 1;
        let frame = Frame::text(std::str::from_utf8(&payload).unwrap());
        for (_, peer) in self.peers.iter_mut().enumerate().filter(|(index, _)| meant(*index)) {
            peer.direct.push(payload.clone());
            peer.queued += frame.wire_len();
        }
        frame
    }

    fn durable(&mut self, seq: u64, length: usize) -> DurableFrame {
        while (self.committed.len() as u64) < seq {
            self.committed.push(message('s', self.committed.len(), length));
        }
        let frame = self.stored(seq);
        self.peers.iter_mut().for_each(|peer| peer.queued += frame.wire_len());
        DurableFrame { user_id: USER.into(), seq, rev: seq, frame }
    }

    fn stored(&self, seq: u64) -> Frame {
        Frame::text(std::str::from_utf8(&self.committed[seq as usize - 1]).unwrap())
    }

    fn answers(&mut self) -> Vec<Command> {
        let head = self.committed.len() as u64;
        let mut commands = Vec::new();
        for (number, asked, through) in self.answered.clone() {
            let frames: Vec<_> = (asked.after.unwrap() + 1..=through).map(|seq| (seq, self.stored(seq))).collect();
            if let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == number) {
                peer.queued += frames.iter().map(|(_, frame)| frame.wire_len()).sum::<usize>();
            }
            let (role, rev) = (Role::Client, head);
            let answer = SyncAnswer { role, head, through, rev, preface: None, restart: false, frames };
            commands.push(Command::Answer(number, asked, Box::new(answer)));
        }
        commands
    }

    fn command(&mut self, order: &Order) -> Vec<Command> {
        let head = self.committed.len() as u64;
        match order {
            Order::ToUser(length) => vec![Command::ToUser(USER.into(), self.direct(*length, |_| true))],
            Order::ToUsers(length) => vec![Command::ToUsers(vec![(USER.into(), self.direct(*length, |_| true))])],
            Order::ToAll(length) => vec![Command::ToAudience(Audience::All, self.direct(*length, |_| true))],
            Order::ToConnection(peer, length) => {
                let chosen = self.pick(*peer);
                let frame = self.direct(*length, |index| index == chosen);
                vec![Command::ToConnection(self.peers[chosen].number, frame)]
            }
            Order::Durable(items) => {
                let at = |away: i64| head.saturating_add_signed(away).max(1);
                vec![Command::Durable(items.iter().map(|(away, length)| self.durable(at(*away), *length)).collect())]
            }
            Order::Answer(page) => {
                self.answered = std::mem::take(&mut self.asked)
                    .into_iter()
                    .map(|(number, asked)| (number, asked, head.min(asked.after.unwrap() + page)))
                    .collect();
                self.answers()
            }
            Order::AnswerAgain => self.answers(),
            Order::Heads => vec![Command::Heads(vec![(USER.into(), head)])],
            Order::Close(peer, reason) => {
                let chosen = self.pick(*peer);
                self.peers[chosen].may_be_closed(reason.code());
                vec![Command::Close(self.peers[chosen].number, reason.clone())]
            }
            Order::Expire(peer) => {
                let chosen = self.pick(*peer);
                self.peers[chosen].may_be_closed(CloseReason::SessionExpired.code());
                vec![Command::ExtendSession(self.peers[chosen].number, Some(0), None)]
            }
            Order::Drain => {
                self.peers.iter_mut().for_each(|peer| peer.may_be_closed(1001));
                vec![Command::Drain(Schedule::new(self.shard.all.len(), Duration::from_secs(60)))]
            }
        }
    }

    /// One turn of the shard, as [`Shard::serve`] does it, and one for the tasks. Where no time has passed since the last
    /// one, only commands are taken: a broadcast is then still on its round when others come.
    async fn pass(&mut self, after: u64, orders: &[Order]) -> TestCaseResult {
        self.now += after;
        let mut batch: Vec<_> = orders.iter().flat_map(|order| self.command(order)).collect();
        for peer in &mut self.peers {
            peer.most_unread = peer.most_unread.max(peer.queued.saturating_sub(peer.bytes.len()));
        }
        self.shard.remove_departed(self.now);
        let cost = batch.iter().map(Command::cost).sum();
        self.backlog.fetch_add(cost, Relaxed);
        prop_assert!(self.shard.take(&mut batch, Held::new(&self.backlog, cost), self.now).await.is_continue());
        self.shard.close_until(self.now, WRITES_PER_TURN, self.now);
        self.shard.later.take_due(self.now, &mut self.shard.due);
        if after > 0 || orders.is_empty() {
            self.shard.write_turn(self.now);
        }
        for session in &self.shard.all {
            let (queued, largest) = (session.info().queued_bytes, LONGEST + 20);
            prop_assert!(queued <= self.limit.max(largest) + CONTROL_BYTES, "{} bytes wait", queued);
        }
        self.turn().await
    }

    /// Lets the sessions' tasks run, and takes what the shard tells.
    async fn turn(&mut self) -> TestCaseResult {
        for peer in &mut self.peers {
            peer.write();
        }
        // The first looks at the sockets, the second runs who was woken by them.
        yield_now().await;
        yield_now().await;
        for event in self.shard.context.events.drain(usize::MAX) {
            let (Event::SyncRequest { connection_id, .. }
            | Event::ClientFrame { connection_id, .. }
            | Event::Disconnected { connection_id, .. }) = &event
            else {
                continue;
            };
            let number = u64::from_str_radix(connection_id.rsplit('-').next().unwrap(), 16).unwrap();
            let peer = self.peers.iter_mut().find(|peer| peer.number == number).unwrap();
            match event {
                Event::SyncRequest { asked, .. } => self.asked.push((number, asked)),
                Event::ClientFrame { frame, .. } => peer.heard.push(frame.to_vec()),
                Event::Disconnected { code, .. } => {
                    prop_assert_eq!(peer.told.replace(code), None, "it ended twice");
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> TestCaseResult {
        match step {
            Step::Pass(after, orders) => self.pass(*after, orders).await?,
            Step::Sweep => {
                for session in &self.shard.all {
                    if session.beat(self.now, 1) == Enqueued::FlushDue {
                        self.shard.due.push_back(Rc::clone(session));
                    }
                }
                self.pass(0, &[]).await?;
            }
            Step::Join(grain, encrypted) => {
                self.join(*grain, *encrypted);
                self.turn().await?;
            }
            Step::Peer(peer, act) => {
                let chosen = self.pick(*peer);
                self.peers[chosen].act(act)?;
                self.turn().await?;
            }
        }
        self.check()
    }

    fn check(&self) -> TestCaseResult {
        self.peers.iter().try_for_each(|peer| peer.check(&self.committed, self.limit))
    }

    /// Everybody reads, and answers a Close, until this holds for all.
    async fn settle(&mut self, holds: impl Fn(&Peer, usize) -> bool) -> TestCaseResult {
        for round in 0..ROUNDS {
            if round == GRAINED_ROUNDS {
                self.shard.all.iter().for_each(|session| session.socket.take_at_most(usize::MAX));
            }
            for peer in &mut self.peers {
                peer.read(usize::MAX)?;
                if peer.close_code().is_some() {
                    peer.answer_close();
                }
            }
            if self.peers.iter().all(|peer| peer.at_end || holds(peer, self.committed.len())) {
                return self.check();
            }
            self.pass(1, &[Order::Answer(10), Order::Heads]).await?;
        }
        Err(TestCaseError::fail("something that was sent never came"))
    }

    async fn run(&mut self, encrypted: bool, steps: &[Step]) -> TestCaseResult {
        self.join(usize::MAX, encrypted);
        for step in steps {
            self.step(step).await?;
        }
        self.settle(Peer::is_complete).await?;
        for peer in 0..self.peers.len() {
            self.pass(0, &[Order::Close(peer, CloseReason::Normal)]).await?;
        }
        self.settle(|_, _| false).await?;
        // A task sees its peer's end a turn later, and in the coalescing window a session that has ended may still be listed
        // to be written to.
        for _ in 0..ROUNDS {
            if self.shard.all.is_empty() {
                break;
            }
            self.pass(1, &[]).await?;
        }
        self.pass(20, &[]).await?;
        for peer in &self.peers {
            prop_assert!(peer.close_code().is_some(), "it ended without a Close frame");
            prop_assert!(peer.was_told_rightly(), "told of {:?}", peer.told);
        }
        let slow = self.peers.iter().filter(|peer| peer.close_code() == Some(4002)).count();
        prop_assert_eq!(self.shard.context.counters.slow_consumers.get(), slow as u64);
        prop_assert_eq!(self.shard.context.index.total(), 0);
        prop_assert_eq!(self.backlog.load(Relaxed), 0);
        prop_assert!(self.shard.all.is_empty() && self.shard.users.is_empty() && self.shard.numbers.is_empty());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_whole_and_in_order_and_comes_once_or_the_connection_is_closed_with_a_reason(
        limit in prop::sample::select(vec![1_usize, 300, 3_000, 20_000, 1_000_000]),
        encrypted in any::<bool>(),
        steps in vec(step(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tasks = LocalSet::new();
        let mut world = World::new(limit);
        tasks.block_on(&runtime, world.run(encrypted, &steps))?;
    }
}
