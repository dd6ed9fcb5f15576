//! A thread that owns its users' sessions outright.
//!
//! A current-thread runtime, with registry, queues and sequence state as plain single-threaded data: nothing on the way
//! of a frame is locked or shared but the frame itself. One pass takes all commands that wait, enqueues them, and then
//! writes once to each session that has something. While a pass runs the next frames gather, so a busy shard writes
//! several with each system call, and nobody waits for a timer to make that happen.

use std::{
    cell::RefCell,
    collections::HashMap,
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
    command::{Audience, Command},
    config::Config,
    due_ring::DueRing,
    events::{Ending, EventQueue},
    frame::Frame,
    front_door::Admitted,
    index::Index,
    metrics::Counters,
    reader::Reader,
    session::{Context, Enqueued, Session},
};

/// Commands taken in one pass.
const BATCH: usize = 256;

/// Sessions written to before the thread's other tasks get a turn: reads, pongs, joins.
const WRITES_PER_TURN: usize = 512;

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
            index: Arc::clone(&index),
            node_id: Arc::clone(&node_id),
            departed: RefCell::default(),
            departure: Notify::new(),
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
    /// Sessions to flush at the end of this pass.
    due: Vec<Rc<Session>>,
    /// Sessions that were written to a moment ago, to be flushed when their window has passed.
    later: DueRing<Rc<Session>>,
    draining: Option<(Duration, Duration)>,
}

impl Shard {
    fn new(context: Rc<Context>) -> Self {
        let window_ms = context.config.coalesce.as_millis() as u64;
        Self {
            context,
            all: Vec::new(),
            users: HashMap::default(),
            numbers: HashMap::default(),
            due: Vec::new(),
            later: DueRing::new(window_ms),
            draining: None,
        }
    }

    async fn serve(mut self, commands: &mut UnboundedReceiver<Command>, backlog: &AtomicUsize) {
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
            let wait = self.later.next_due_ms().map(|due| due.saturating_sub(context.clock.now_ms()));
            tokio::select! {
                taken = commands.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                () = context.departure.notified() => {}
                _ = sweep.tick() => self.sweep(),
                () = sleep(Duration::from_millis(wait.unwrap_or_default())), if wait.is_some() => {}
            }
            self.remove_departed();
            let now = context.clock.now_ms();
            let taken = Taken { backlog, cost: batch.iter().map(Command::cost).sum() };
            if self.take(&mut batch, now).is_break() {
                return;
            }
            self.later.take_due(now, &mut self.due);
            self.flush_due(now).await;
            drop(taken);
            yield_now().await;
        }
    }

    /// Works through a batch of commands. Neighbours for many are taken together: sessions outside, frames inside, for
    /// the cost is in reaching a session, not in queueing one more frame to it.
    fn take(&mut self, batch: &mut Vec<Command>, now: u64) -> std::ops::ControlFlow<()> {
        let lone = batch.len() == 1;
        let mut broadcast: Vec<(Audience, Frame)> = Vec::new();
        for command in batch.drain(..) {
            if let Command::ToAudience(audience, frame) = command {
                broadcast.push((audience, frame));
                continue;
            }
            self.broadcast(&mut broadcast, lone, now);
            match command {
                Command::ToAudience(..) => {}
                Command::Join(admitted, number) => self.join(*admitted, number, now),
                Command::ToUsers(items) => {
                    let lone = lone && items.len() == 1;
                    for (user_id, frame) in items {
                        for_each(&self.users, &mut self.due, &user_id, |session| session.enqueue(&frame, lone, now));
                    }
                }
                Command::Durable(items) => {
                    let lone = lone && items.len() == 1;
                    for item in items {
                        for_each(&self.users, &mut self.due, &item.user_id, |session| {
                            session.enqueue_durable(item.seq, item.rev, item.frame.clone(), lone, now)
                        });
                    }
                }
                Command::Read(items) => {
                    for item in items {
                        for_each(&self.users, &mut self.due, &item.user_id, |session| {
                            session.enqueue_read(item.rev, &item.frame, false, now)
                        });
                    }
                }
                Command::Heads(items) => {
                    for (user_id, head) in items {
                        for_each(&self.users, &mut self.due, &user_id, |session| {
                            session.announce_head(head, now);
                            Enqueued::Settled
                        });
                    }
                }
                Command::ToConnection(number, frame) => {
                    self.with(number, |session| session.enqueue(&frame, lone, now));
                }
                Command::Answer(number, answer) => self.with(number, |session| session.answer(*answer, now)),
                Command::Refuse(number, frame) => self.with(number, |session| session.refuse(&frame, now)),
                Command::Close(number, reason) => self.with(number, |session| {
                    session.begin_close(reason, now);
                    Enqueued::Settled
                }),
                Command::ExtendSession(number, expires_at) => self.with(number, |session| {
                    session.extend_session(expires_at);
                    Enqueued::Settled
                }),
                Command::Snapshot(answer) => {
                    // Who asked may have given up waiting.
                    let _ = answer.send(self.all.iter().map(|session| session.info()).collect());
                }
                Command::Acknowledge(number, seq, refusal) => self.with(number, |session| {
                    if session.acknowledge(seq) { Enqueued::Settled } else { session.refuse(&refusal, now) }
                }),
                Command::Progress(done) => {
                    let records = self.all.iter().filter_map(|session| session.take_progress()).collect();
                    self.context.events.progress.answer(records);
                    // Who asked may have given up waiting; it finds the records when it asks again.
                    let _ = done.send(());
                }
                Command::Drain { spread, deadline } => {
                    self.draining = Some((spread, deadline));
                    for session in &self.all {
                        let reason = shutting_down(session.number, spread);
                        session.begin_close_within(reason, now, deadline);
                    }
                }
                Command::Stop => return std::ops::ControlFlow::Break(()),
                #[cfg(test)]
                Command::Panic => panic!("as the test wanted"),
            }
        }
        self.broadcast(&mut broadcast, lone, now);
        std::ops::ControlFlow::Continue(())
    }

    fn broadcast(&mut self, frames: &mut Vec<(Audience, Frame)>, lone: bool, now: u64) {
        if frames.is_empty() {
            return;
        }
        // To more than a turn's worth of sessions the flush writes, which yields now and then.
        let lone = lone && self.all.len() <= WRITES_PER_TURN;
        for session in &self.all {
            for (audience, frame) in &*frames {
                let meant = match audience {
                    Audience::All => true,
                    Audience::Role(role) => session.is_in_audience(*role),
                };
                if meant && session.enqueue(frame, lone, now) == Enqueued::FlushDue {
                    self.due.push(Rc::clone(session));
                }
            }
        }
        frames.clear();
    }

    /// One write to each session that has something, or a date for it where it was written to a moment ago.
    async fn flush_due(&mut self, now: u64) {
        let mut written = 0;
        for session in std::mem::take(&mut self.due) {
            let due_ms = session.flush_due_ms();
            if due_ms > now {
                self.later.push(due_ms, now, session);
                continue;
            }
            session.flush(now);
            written += 1;
            if written % WRITES_PER_TURN == 0 {
                yield_now().await;
            }
        }
    }

    fn join(&mut self, admitted: Admitted, number: u64, now: u64) {
        let (session, read_ahead) = match Session::new(admitted, number, Rc::clone(&self.context)) {
            Ok((session, read_ahead)) => (Rc::new(session), read_ahead),
            Err(error) => {
                tracing::warn!(%error, "a socket could not be taken over");
                return;
            }
        };
        self.make_room(&session, now);
        session.position.set(self.all.len());
        self.all.push(Rc::clone(&session));
        self.users.entry(Arc::clone(&session.user_id)).or_default().push(Rc::clone(&session));
        self.numbers.insert(number, Rc::clone(&session));
        self.context.counters.connections_opened.add(1);
        self.context.events.tell(session.connected_event());
        if session.enqueue(&Frame::welcome(), true, now) == Enqueued::FlushDue {
            self.due.push(Rc::clone(&session));
        }
        if let Some((spread, deadline)) = self.draining {
            session.begin_close_within(shutting_down(number, spread), now, deadline);
        } else if self.context.config.sync {
            // Joined first, read then: what is committed between the two is parked, not missed.
            session.ask(now);
        }
        spawn_local(Reader::new(session, &read_ahead));
    }

    /// Where the user has as many connections as are allowed, the one that was silent longest gives way.
    fn make_room(&self, newcomer: &Session, now: u64) {
        let limit = self.context.config.max_connections_per_user;
        let Some(others) = self.users.get(&newcomer.user_id) else { return };
        let open = || others.iter().filter(|session| !session.is_closing());
        if limit > 0
            && open().count() >= limit
            && let Some(idlest) = open().min_by_key(|session| session.heard_ms())
        {
            idlest.begin_close(CloseReason::Replaced, now);
        }
    }

    fn with(&mut self, number: u64, act: impl FnOnce(&Session) -> Enqueued) {
        if let Some(session) = self.numbers.get(&number)
            && act(session) == Enqueued::FlushDue
        {
            self.due.push(Rc::clone(session));
        }
    }

    fn sweep(&mut self) {
        let (now, unix_now) = (self.context.clock.now_ms(), clock::unix_now().as_secs());
        for session in &self.all {
            if session.beat(now, unix_now) == Enqueued::FlushDue {
                self.due.push(Rc::clone(session));
            }
        }
    }

    /// Takes out the sessions whose tasks have ended: between passes only, so that no pass sees its list change.
    fn remove_departed(&mut self) {
        for session in self.context.departed.take() {
            let position = session.position.get();
            self.all.swap_remove(position);
            if let Some(moved) = self.all.get(position) {
                moved.position.set(position);
            }
            self.numbers.remove(&session.number);
            if let Some(others) = self.users.get_mut(&session.user_id) {
                others.retain(|other| other.number != session.number);
                if others.is_empty() {
                    self.users.remove(&session.user_id);
                }
            }
            session.take_leave();
        }
    }
}

/// Commands that were taken out of the queue: their bytes are the backlog's until they are done with, or lost.
struct Taken<'a> {
    backlog: &'a AtomicUsize,
    cost: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.backlog.fetch_sub(self.cost, Relaxed);
    }
}

/// Does something with each session of a user, and lists those that are to be flushed.
fn for_each(
    users: &HashMap<Arc<str>, UserSessions, RandomState>,
    due: &mut Vec<Rc<Session>>,
    user_id: &str,
    mut act: impl FnMut(&Session) -> Enqueued,
) {
    for session in users.get(user_id).into_iter().flatten() {
        if act(session) == Enqueued::FlushDue {
            due.push(Rc::clone(session));
        }
    }
}

/// Tells each connection its own time to come back, evenly over `spread`.
fn shutting_down(number: u64, spread: Duration) -> CloseReason {
    let steps = spread.as_millis().max(1) as u64;
    let offset = (number >> 8).wrapping_mul(0x9E37_79B9_7F4A_7C15) % steps;
    CloseReason::ShuttingDown { retry_after: Duration::from_millis(500 + offset) }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
