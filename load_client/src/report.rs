//! What the clients saw.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

/// Longest delay that is told apart: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Publications whose receivers are counted at the same time; of more, the oldest is forgotten.
const MAX_PUBLICATIONS: usize = 4096;

/// Nanoseconds of `CLOCK_MONOTONIC`, which every process of a machine shares.
#[must_use]
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Who got a publication, and when the last of them did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// When it was published.
    pub stamp: u64,
    /// How many connections have received it.
    pub received: u64,
    /// When the last of them did.
    pub last: u64,
}

/// Counts since the beginning or since they were cleared, and what is open now.
#[derive(Debug, Clone)]
pub struct Report {
    /// Connections that are open now: past the handshake and not closed.
    pub open: u64,
    /// Text messages.
    pub messages: u64,
    /// Those of them that came compressed; they are not timed.
    pub compressed: u64,
    /// Bytes read, handshakes apart.
    pub bytes: u64,
    /// Connections that ended, by close code; 1006 where none came.
    pub closed: BTreeMap<u16, u64>,
    /// Handshakes that failed, by HTTP status; 0 where there was no answer.
    pub refused: BTreeMap<u16, u64>,
    /// Nanoseconds from the stamp of a message to its receipt.
    pub delays: Histogram<u64>,
    /// Receipts by stamp, oldest first.
    pub publications: Vec<Publication>,
}

/// Collects a [`Report`].
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) open: u64,
    pub(crate) messages: u64,
    pub(crate) compressed: u64,
    pub(crate) bytes: u64,
    pub(crate) closed: BTreeMap<u16, u64>,
    pub(crate) refused: BTreeMap<u16, u64>,
    delays: Histogram<u64>,
    publications: BTreeMap<u64, (u64, u64)>,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            open: 0,
            messages: 0,
            compressed: 0,
            bytes: 0,
            closed: BTreeMap::new(),
            refused: BTreeMap::new(),
            delays: Histogram::new_with_max(LONGEST, 3)?,
            publications: BTreeMap::new(),
        })
    }

    /// A message that was published at `stamp` was received at `now`.
    pub(crate) fn received(&mut self, stamp: u64, now: u64) {
        self.delays.saturating_record(now.saturating_sub(stamp));
        let (count, last) = self.publications.entry(stamp).or_insert((0, 0));
        *count += 1;
        *last = now;
        if self.publications.len() > MAX_PUBLICATIONS {
            self.publications.pop_first();
        }
    }

    /// A connection has ended that was open.
    pub(crate) fn lost(&mut self, code: u16) {
        self.open -= 1;
        *self.closed.entry(code).or_insert(0) += 1;
    }

    /// What was seen since the beginning, or since it was cleared.
    pub(crate) fn report(&self) -> Report {
        Report {
            open: self.open,
            messages: self.messages,
            compressed: self.compressed,
            bytes: self.bytes,
            closed: self.closed.clone(),
            refused: self.refused.clone(),
            delays: self.delays.clone(),
            publications: self
                .publications
                .iter()
                .map(|(stamp, (received, last))| Publication { stamp: *stamp, received: *received, last: *last })
                .collect(),
        }
    }

    /// Begins to count anew; what is open stays counted.
    pub(crate) fn clear(&mut self) {
        self.messages = 0;
        self.compressed = 0;
        self.bytes = 0;
        self.closed.clear();
        self.refused.clear();
        self.delays.reset();
        self.publications.clear();
    }
}
