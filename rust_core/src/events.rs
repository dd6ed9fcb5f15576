//! What the embedding program is told: a bounded queue and a descriptor that is readable while it holds something.
//!
//! The core never calls into the program. It queues, the program drains in batches, on whatever thread it likes.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;

use crate::{
    locks::{AtomicBool, AtomicU64, Mutex},
    progress::ProgressLog,
    token::{Role, SessionId},
    wake::Wake,
};

/// Events that may wait. Beyond it connection events and log records are dropped and counted, for the snapshot of the
/// core is the truth; client frames and requests are handed back to who sent them.
pub const MAX_EVENTS: usize = 65_536;

/// Ends of connections have as much room again, for the snapshot no longer knows how a connection ended.
const MAX_EVENTS_WITH_ENDS: usize = 2 * MAX_EVENTS;

/// Bytes of client frames, and of what nodes tell programs, that may wait. Beyond it they are handed back, and nothing
/// else is.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;

/// How a connection ended, as the connection table names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Closed by either side on purpose.
    Disconnected,
    /// The peer fell silent.
    Timeout,
    /// The transport or the protocol failed.
    Error,
}

impl Ending {
    /// The name in the table's `ConnectionStatus`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

/// What a session has asked for, and by which an answer is known to be for it: one that comes late, when the session has
/// moved on, would send what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Everything after this number is wanted; `None`: from the head on.
    pub after: Option<u64>,
    /// Whether the session is new, and its identity still to be checked.
    pub first: bool,
}

/// Something that happened in the core.
#[derive(Debug)]
pub enum Event {
    /// A connection was registered.
    Connected {
        /// Its id.
        connection_id: String,
        /// Whose it is.
        user_id: Arc<str>,
        /// Role by its token.
        role: Role,
        /// Name by its token.
        name: Arc<str>,
        /// Where it truly comes from.
        client_address: IpAddr,
        /// What it calls itself.
        user_agent: Option<Box<str>>,
        /// Unix time in seconds.
        connected_at: f64,
    },
    /// A connection has ended. It says all that [`Event::Connected`] said, which may have been dropped.
    Disconnected {
        /// Its id.
        connection_id: String,
        /// Whose it was.
        user_id: Arc<str>,
        /// Where it truly came from.
        client_address: IpAddr,
        /// What it called itself.
        user_agent: Option<Box<str>>,
        /// Unix time in seconds.
        connected_at: f64,
        /// Unix time in seconds of the last bytes from the client, a pong included.
        last_activity: f64,
        /// Close code; 1005 where the peer gave none, 1006 where it just went (RFC 6455 section 7.4.1).
        code: u16,
        /// The reason that went with it.
        reason: String,
        /// How it ended.
        ending: Ending,
    },
    /// A client sent a text message.
    ClientFrame {
        /// Its connection.
        connection_id: String,
        /// Its user.
        user_id: Arc<str>,
        /// Its role.
        role: Role,
        /// The session that it stood for when the message came, where its token named one.
        session_id: Option<SessionId>,
        /// The message as it came; UTF-8.
        frame: Bytes,
    },
    /// A session waits for [`crate::hub::Hub::answer_sync`].
    SyncRequest {
        /// Its connection.
        connection_id: String,
        /// Its user.
        user_id: Arc<str>,
        /// What is asked for.
        asked: Asked,
        /// The epoch that the client named.
        epoch: Option<Box<str>>,
        /// The session that it stands for, where its token named one.
        session_id: Option<SessionId>,
    },
    /// The link to the other nodes has changed, or something may have been lost on it: what is durable is to be compared
    /// with the database.
    Cluster {
        /// Whether there is a link now.
        connected: bool,
        /// What happened.
        reason: String,
    },
    /// What a node told the programs that listen to events.
    App {
        /// As it was given.
        data: Bytes,
    },
    /// A log record.
    Log {
        /// How grave it is.
        level: tracing::Level,
        /// The module it comes from.
        target: &'static str,
        /// The text.
        message: String,
    },
}

impl Event {
    fn frame_bytes(&self) -> usize {
        match self {
            Self::ClientFrame { frame: bytes, .. } | Self::App { data: bytes } => bytes.len(),
            _ => 0,
        }
    }

    /// How many events may wait before this one.
    fn room(&self) -> usize {
        if let Self::Disconnected { .. } = self { MAX_EVENTS_WITH_ENDS } else { MAX_EVENTS }
    }
}

/// The queue. Nobody listens until [`Self::listen`]; until then events vanish.
#[derive(Debug)]
pub struct EventQueue {
    /// What is not told but asked for.
    pub progress: ProgressLog,
    waiting: Mutex<Waiting>,
    wake: Wake,
    listened: AtomicBool,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Bytes of the client frames among them.
    frame_bytes: usize,
    /// The most events that have waited.
    most: usize,
}

impl EventQueue {
    /// An empty queue with its descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            progress: ProgressLog::default(),
            waiting: Mutex::default(),
            wake: Wake::new()?,
            listened: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        })
    }

    /// From now on events are kept for someone who drains them.
    pub fn listen(&self) {
        self.listened.store(true, Relaxed);
    }

    /// Queues what may be lost when the queue is full.
    pub fn tell(&self, event: Event) {
        if !self.offer(event) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Queues what must not be lost in silence; false where the queue is full.
    #[must_use]
    pub fn offer(&self, event: Event) -> bool {
        if !self.listened.load(Relaxed) {
            return true;
        }
        let mut waiting = self.waiting.lock();
        let frame_bytes = waiting.frame_bytes + event.frame_bytes();
        if waiting.events.len() >= event.room() || (event.frame_bytes() > 0 && frame_bytes > MAX_FRAME_BYTES) {
            return false;
        }
        waiting.frame_bytes = frame_bytes;
        waiting.events.push_back(event);
        waiting.most = waiting.most.max(waiting.events.len());
        if waiting.events.len() == 1 {
            self.wake.wake();
        }
        true
    }

    /// Takes up to `limit` events, oldest first. The descriptor stays readable while more wait.
    #[must_use]
    pub fn drain(&self, limit: usize) -> Vec<Event> {
        let mut waiting = self.waiting.lock();
        let taken = waiting.events.len().min(limit);
        let events: Vec<Event> = waiting.events.drain(..taken).collect();
        waiting.frame_bytes -= events.iter().map(Event::frame_bytes).sum::<usize>();
        if waiting.events.is_empty() {
            self.wake.clear();
        }
        events
    }

    /// Waits up to `timeout_ms` for an event; says whether there is one.
    pub fn wait(&self, timeout_ms: u16) -> bool {
        self.wake.wait(timeout_ms)
    }

    /// How many were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The most events that have waited.
    #[must_use]
    pub fn high_water(&self) -> usize {
        self.waiting.lock().most
    }
}

impl AsRawFd for EventQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Event {
        Event::Log { level: tracing::Level::INFO, target: "test", message: text.to_owned() }
    }

    fn end() -> Event {
        Event::Disconnected {
            connection_id: String::new(),
            user_id: "user-1".into(),
            client_address: IpAddr::from([127, 0, 0, 1]),
            user_agent: None,
            connected_at: 0.0,
            last_activity: 0.0,
            code: 1000,
            reason: String::new(),
            ending: Ending::Disconnected,
        }
    }

    #[test]
    fn nothing_is_kept_while_nobody_listens() {
        let queue = EventQueue::new().unwrap();
        queue.tell(record("lost"));
        queue.listen();
        queue.tell(record("kept"));
        assert_eq!(queue.drain(10).len(), 1);
    }

    #[test]
    fn the_descriptor_is_readable_while_something_waits() {
        let queue = EventQueue::new().unwrap();
        queue.listen();
        assert!(!queue.wait(0));
        queue.tell(record("1"));
        queue.tell(record("2"));
        assert!(queue.wait(0));
        assert_eq!(queue.drain(1).len(), 1);
        assert!(queue.wait(0));
        assert_eq!(queue.drain(1).len(), 1);
        assert!(!queue.wait(0));
    }

    #[test]
    fn client_frames_are_bounded_in_bytes() {
        let queue = EventQueue::new().unwrap();
        queue.listen();
        let large = Bytes::from(vec![b'x'; MAX_FRAME_BYTES / 4]);
        let frame = || Event::ClientFrame {
            connection_id: String::new(),
            user_id: "user-1".into(),
            role: Role::Client,
            session_id: None,
            frame: large.clone(),
        };
        assert!((0..4).all(|_| queue.offer(frame())));
        assert!(!queue.offer(frame()));
        assert!(queue.offer(record("still taken")));
        assert_eq!(queue.drain(1).len(), 1);
        assert!(queue.offer(frame()));
    }

    #[test]
    fn a_full_queue_refuses_and_counts_and_still_takes_ends() {
        let queue = EventQueue::new().unwrap();
        queue.listen();
        for _ in 0..MAX_EVENTS {
            assert!(queue.offer(record("")));
        }
        assert!(!queue.offer(record("")));
        queue.tell(record(""));
        assert_eq!(queue.dropped(), 1);
        for _ in 0..MAX_EVENTS {
            assert!(queue.offer(end()));
        }
        assert!(!queue.offer(end()));
        assert_eq!(queue.drain(MAX_EVENTS).len(), MAX_EVENTS);
        assert_eq!(queue.high_water(), MAX_EVENTS_WITH_ENDS);
    }
}
