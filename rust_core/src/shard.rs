//! A thread that owns its users' sessions outright.
//!
//! A current-thread runtime, with registry, queues and sequence state as plain single-threaded data: nothing on the way
//! of a frame is locked or shared but the frame itself. In turns it takes all commands that wait and then writes to some of
//! the sessions that have something, each time all that they have. What comes between two turns goes along with the
//! sessions whose turn is still to come, so a busy shard writes several frames with each system call, and nobody waits for
//! a timer to make that happen.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    hint::black_box,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver},
    task::{LocalSet, spawn_local, yield_now},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    clock::{self, Clock},
    close::CloseReason,
    command::Command,
    config::Config,
    drain::Drain,
    due_ring::DueRing,
    events::{Ending, EventQueue},
    front_door::Admitted,
    index::Index,
    latency::WriteTimes,
    metrics::Counters,
    reader::Reader,
    rounds::Held,
    session::{Context, Enqueued, Session},
};

/// Commands taken in one turn.
const BATCH: usize = 256;

/// Sessions written to in one turn, of either kind: those with a queue of their own, and those that a broadcast goes round
/// to. Between two turns the thread reads, takes new commands and lets others join; within a long list it reads and writes.
const WRITES_PER_TURN: usize = 256;

/// Sessions, or users, whose sessions' memory is fetched together before they are written to.
const FETCHED_AHEAD: usize = 16;

/// What a shard is made of; it can be handed to the thread that becomes it.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) backlog: Arc<AtomicUsize>,
    pub(crate) clock: Clock,
    pub(crate) index: Arc<Index>,
    pub(crate) node_id: Arc<str>,
    pub(crate) commands: UnboundedReceiver<Command>,
}

/// Runs a shard on the calling thread until it is told to stop. A panic of its own costs its sessions, which come back
/// and resume, and not the process.
pub(crate) fn run(runtime: &tokio::runtime::Runtime, parts: Parts) {
    let Parts { config, events, counters, backlog, clock, index, node_id, mut commands } = parts;
    loop {
        let context = Rc::new(Context {
            config: Arc::clone(&config),
            events: Arc::clone(&events),
            counters: Arc::clone(&counters),
            clock,
            write_times: WriteTimes::default(),
            index: Arc::clone(&index),
            node_id: Arc::clone(&node_id),
            departed: RefCell::default(),
            departure: Notify::new(),
            rounds: RefCell::default(),
        });
        let shard = Shard::new(Rc::clone(&context));
        let tasks = LocalSet::new();
        let serving = shard.serve(&mut commands, &backlog);
        let ended = catch_unwind(AssertUnwindSafe(|| tasks.block_on(runtime, serving)));
        // Each task leaves its session behind, which would keep its socket and its place in the index.
        drop(tasks);
        counters.panics.add(u64::from(ended.is_err()));
        for session in context.departed.take() {
            if ended.is_err() {
                session.set_ending(1006, "", Ending::Error);
            }
            session.take_leave();
        }
        if ended.is_ok() {
            // What was sent behind the stop waits for nobody any more.
            commands.close();
            while let Some(command) = runtime.block_on(commands.recv()) {
                backlog.fetch_sub(command.cost(), Relaxed);
            }
            return;
        }
        tracing::error!("a shard panicked; its connections were closed and it goes on without them");
    }
}

/// Most users have one connection, which needs no memory of its own here.
type UserSessions = SmallVec<[Rc<Session>; 1]>;

struct Shard {
    context: Rc<Context>,
    all: Vec<Rc<Session>>,
    users: HashMap<Arc<str>, UserSessions, RandomState>,
    numbers: HashMap<u64, Rc<Session>, RandomState>,
    /// Sessions to flush.
    due: VecDeque<Rc<Session>>,
    /// Sessions that were written to a moment ago, to be flushed when their window has passed.
    later: DueRing<Rc<Session>>,
    /// Present once the server stops.
    draining: Option<Drain>,
}

impl Shard {
    fn new(context: Rc<Context>) -> Self {
        let window_ms = context.config.coalesce.as_millis() as u64;
        Self {
            context,
            all: Vec::new(),
            users: HashMap::default(),
            numbers: HashMap::default(),
            due: VecDeque::new(),
            later: DueRing::new(window_ms),
            draining: None,
        }
    }

    async fn serve(mut self, commands: &mut UnboundedReceiver<Command>, backlog: &Arc<AtomicUsize>) {
        let config = &self.context.config;
        let shortest = config.pong_timeout.min(if config.ping_interval.is_zero() {
            config.pong_timeout
        } else {
            config.ping_interval
        });
        let period = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut sweep = interval(period);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let context = Rc::clone(&self.context);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let closing = self.draining.as_ref().and_then(Drain::next_due_ms);
            let soonest = [self.later.next_due_ms(), closing].into_iter().flatten().min();
            let wait = soonest.map(|due| due.saturating_sub(context.clock.now_ms()));
            let is_writing = self.is_writing();
            tokio::select! {
                // In this order: while there is something to write, what comes first leaves the rest no less to do.
                biased;
                _ = sweep.tick() => self.sweep(),
                taken = commands.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                () = context.departure.notified() => {}
                () = std::future::ready(()), if is_writing => {}
                () = sleep(Duration::from_millis(wait.unwrap_or_default())), if wait.is_some() => {}
            }
            context.counters.backlog_high_water_bytes.raise(backlog.load(Relaxed));
            let now = context.clock.now_ms();
            self.remove_departed(now);
            context.write_times.gather();
            let held = Held::new(backlog, batch.iter().map(Command::cost).sum());
            let ControlFlow::Continue(now) = self.take(&mut batch, held, now).await else { return };
            self.close_until(now, WRITES_PER_TURN, now);
            self.later.take_due(now, &mut self.due);
            self.write_turn(now);
            context.write_times.settle(&context.counters.publish_to_write);
            yield_now().await;
        }
    }

    fn is_writing(&self) -> bool {
        self.context.rounds.borrow().is_going() || !self.due.is_empty()
    }

    /// Works through a batch of commands, whose bytes in the backlog are `held`; returns the time behind it.
    async fn take(&mut self, batch: &mut Vec<Command>, mut held: Held, mut now: u64) -> ControlFlow<(), u64> {
        let lone = batch.len() == 1;
        for command in batch.drain(..) {
            let cost = command.cost();
            match command {
                Command::ToAudience(audience, frame) => {
                    let held = held.split(cost);
                    self.context.rounds.borrow_mut().begin(audience, frame, held, self.all.len());
                }
                Command::Join(admitted, number) => self.join(*admitted, number, now),
                Command::ToUser(user_id, frame) => {
                    self.for_each(&user_id, now, |session| session.enqueue(&frame, lone, now));
                }
                Command::ToUsers(items) => {
                    for (index, (user_id, frame)) in items.iter().enumerate() {
                        self.fetch_next(&items[index..], index, |(user_id, _)| user_id);
                        let alone = lone && is_alone(&items, index, |(user_id, _)| user_id);
                        self.for_each(user_id, now, |session| session.enqueue(frame, alone, now));
                        now = self.pause_after(index, lone, now).await;
                    }
                }
                Command::Durable(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.fetch_next(&items[index..], index, |item| &item.user_id);
                        let alone = lone && is_alone(&items, index, |item| &item.user_id);
                        self.for_each(&item.user_id, now, |session| {
                            session.enqueue_durable(item.seq, item.rev, item.frame.clone(), alone, now)
                        });
                        now = self.pause_after(index, lone, now).await;
                    }
                }
                Command::Read(items) => {
                    for item in items {
                        self.for_each(&item.user_id, now, |session| {
                            session.enqueue_read(item.rev, &item.frame, false, now)
                        });
                    }
                }
                Command::Heads(items) => {
                    for (user_id, head) in items {
                        self.for_each(&user_id, now, |session| {
                            session.announce_head(head, now);
                            Enqueued::Settled
                        });
                    }
                }
                Command::ToConnection(number, frame) => {
                    self.with(number, now, |session| session.enqueue(&frame, lone, now));
                }
                Command::Answer(number, asked, answer) => {
                    self.with(number, now, |session| session.answer(asked, *answer, now));
                }
                Command::Refuse(number, frame) => self.with(number, now, |session| session.refuse(&frame, now)),
                Command::Close(number, reason) => self.with(number, now, |session| {
                    session.begin_close(reason, now);
                    Enqueued::Settled
                }),
                Command::ExtendSession(number, expires_at, session_id) => self.with(number, now, |session| {
                    session.extend_session(expires_at, session_id);
                    Enqueued::Settled
                }),
                Command::Standings(items) => {
                    for standing in items {
                        self.for_each(&standing.user_id, now, |session| {
                            session.heed(&standing, now);
                            Enqueued::Settled
                        });
                    }
                }
                Command::Snapshot(answer) => {
                    // Who asked may have given up waiting.
                    let _ = answer.send(self.all.iter().map(|session| session.info()).collect());
                }
                Command::Acknowledge(number, seq, refusal) => self.with(number, now, |session| {
                    if session.acknowledge(seq) { Enqueued::Settled } else { session.refuse(&refusal, now) }
                }),
                Command::Progress(done) => {
                    let records = self.all.iter().filter_map(|session| session.take_progress()).collect();
                    self.context.events.progress.answer(records);
                    // Who asked may have given up waiting; it finds the records when it asks again.
                    let _ = done.send(());
                }
                Command::Drain(schedule) => {
                    let numbers = self.all.iter().map(|session| session.number());
                    self.draining = Some(Drain::new(schedule, numbers, now));
                    self.close_until(now, usize::MAX, now);
                }
                Command::Stop => {
                    // However far the plan has come, nobody's connection ends without a word.
                    self.close_until(u64::MAX, usize::MAX, now);
                    return ControlFlow::Break(());
                }
                #[cfg(test)]
                Command::Panic => panic!("as the test wanted"),
            }
        }
        ControlFlow::Continue(now)
    }

    /// Gives the thread's other tasks a turn where item number `index` of a list ends one, and other sessions too where
    /// the list is `written` at once; returns the time behind it.
    async fn pause_after(&mut self, index: usize, written: bool, now: u64) -> u64 {
        if !(index + 1).is_multiple_of(WRITES_PER_TURN) {
            return now;
        }
        if written {
            self.later.take_due(now, &mut self.due);
            self.write_turn(now);
        }
        yield_now().await;
        self.context.clock.now_ms()
    }

    /// Writes to some of the sessions that have something, or sets a date for it where one was written to a moment ago.
    fn write_turn(&mut self, now: u64) {
        for _ in 0..WRITES_PER_TURN {
            let Some(session) = self.due.pop_front() else { break };
            let due_ms = session.flush_due_ms();
            if due_ms > now {
                self.later.push(due_ms, now, session);
            } else {
                session.flush(now);
            }
        }
        for turn in 0..WRITES_PER_TURN {
            let visited = self.context.rounds.borrow_mut().visit(self.all.len());
            let Some(position) = visited else { break };
            if turn % FETCHED_AHEAD == 0 {
                fetch(self.all[position..].iter().take(FETCHED_AHEAD));
            }
            let session = &self.all[position];
            if session.catch_up(now) == Enqueued::FlushDue {
                self.due.push_back(Rc::clone(session));
            }
        }
    }

    fn join(&mut self, mut admitted: Admitted, number: u64, now: u64) {
        let greeting = std::mem::take(&mut admitted.greeting);
        let (session, read_ahead) = match Session::new(admitted, number, Rc::clone(&self.context)) {
            Ok((session, read_ahead)) => (Rc::new(session), read_ahead),
            Err(error) => {
                tracing::warn!(%error, "a socket could not be taken over");
                return;
            }
        };
        self.make_room(&session, now);
        session.seen.set(self.context.rounds.borrow().head());
        self.context.rounds.borrow_mut().added();
        session.position.set(self.all.len() as u32);
        self.all.push(Rc::clone(&session));
        self.users.entry(Arc::clone(session.user_id())).or_default().push(Rc::clone(&session));
        self.numbers.insert(number, Rc::clone(&session));
        self.context.counters.connections_opened.add(1);
        self.context.events.tell(session.connected_event());
        if session.greet(&greeting, now) == Enqueued::FlushDue {
            self.due.push_back(Rc::clone(&session));
        }
        if let Some(drain) = &self.draining {
            let retry_after = Drain::pause_of_latecomer(number);
            session.begin_close_within(CloseReason::ShuttingDown { retry_after }, now, drain.left(now));
        } else if self.context.config.sync {
            // Joined first, read then: what is committed between the two is parked, not missed.
            session.ask(now);
        }
        spawn_local(Reader::new(session, &read_ahead));
    }

    /// Where the server stops: closes those whose turn comes by `until_ms`, so many at the most.
    fn close_until(&mut self, until_ms: u64, most: usize, now: u64) {
        let Some(drain) = &mut self.draining else { return };
        for _ in 0..most {
            let Some((number, retry_after)) = drain.next(until_ms, now) else { return };
            if let Some(session) = self.numbers.get(&number) {
                session.begin_close_within(CloseReason::ShuttingDown { retry_after }, now, drain.left(now));
            }
        }
    }

    /// Where the user has as many connections as are allowed, the one that was silent longest gives way.
    fn make_room(&self, newcomer: &Session, now: u64) {
        let limit = self.context.config.max_connections_per_user;
        let Some(others) = self.users.get(newcomer.user_id()) else { return };
        let open = || others.iter().filter(|session| !session.is_closing());
        if limit > 0
            && open().count() >= limit
            && let Some(idlest) = open().min_by_key(|session| session.heard_ms())
        {
            idlest.begin_close(CloseReason::Replaced, now);
        }
    }

    /// Does something with a connection, behind what was broadcast before.
    fn with(&mut self, number: u64, now: u64, act: impl FnOnce(&Session) -> Enqueued) {
        if let Some(session) = self.numbers.get(&number) {
            let behind = session.catch_up(now);
            if act(session).or(behind) == Enqueued::FlushDue {
                self.due.push_back(Rc::clone(session));
            }
        }
    }

    /// Does something with each session of a user, behind what was broadcast before.
    fn for_each(&mut self, user_id: &str, now: u64, mut act: impl FnMut(&Session) -> Enqueued) {
        let Some(sessions) = self.users.get(user_id) else { return };
        for session in sessions {
            let behind = session.catch_up(now);
            if act(session).or(behind) == Enqueued::FlushDue {
                self.due.push_back(Rc::clone(session));
            }
        }
    }

    /// Fetches the sessions of the first users of `items`, the rest of a list from its number `index` on, each time that
    /// those of the last call are used up.
    fn fetch_next<T>(&self, items: &[T], index: usize, user_id: impl Fn(&T) -> &Arc<str>) {
        if index.is_multiple_of(FETCHED_AHEAD) {
            let users = items.iter().take(FETCHED_AHEAD).filter_map(|item| self.users.get(user_id(item)));
            fetch(users.flatten());
        }
    }

    fn sweep(&mut self) {
        let (now, unix_now) = (self.context.clock.now_ms(), clock::unix_now().as_secs());
        for session in &self.all {
            if session.beat(now, unix_now) == Enqueued::FlushDue {
                self.due.push_back(Rc::clone(session));
            }
        }
    }

    /// Takes out the sessions whose tasks have ended: between turns only, so that no turn sees its list change.
    fn remove_departed(&mut self, now: u64) {
        for session in self.context.departed.take() {
            let position = session.position.get() as usize;
            self.all.swap_remove(position);
            if let Some(moved) = self.all.get(position) {
                moved.position.set(position as u32);
                let passed = self.context.rounds.borrow().replaced(position);
                if passed && moved.catch_up(now) == Enqueued::FlushDue {
                    self.due.push_back(Rc::clone(moved));
                }
            }
            self.numbers.remove(&session.number());
            if let Some(others) = self.users.get_mut(session.user_id()) {
                others.retain(|other| other.number() != session.number());
                if others.is_empty() {
                    self.users.remove(session.user_id());
                }
            }
            session.take_leave();
        }
    }
}

/// Has the memory of several sessions fetched that are written to next.
fn fetch<'a>(sessions: impl Iterator<Item = &'a Rc<Session>>) {
    black_box(sessions.fold(0, |read, session| read ^ session.fetch()));
}

/// Whether the items before and behind one are for others, so that it can be written at once, while it is in the cache.
fn is_alone<T>(items: &[T], index: usize, user_id: impl Fn(&T) -> &Arc<str>) -> bool {
    let is_for_same = |other: Option<&T>| other.is_some_and(|other| user_id(other) == user_id(&items[index]));
    !is_for_same(items.get(index + 1)) && !is_for_same(index.checked_sub(1).map(|index| &items[index]))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
