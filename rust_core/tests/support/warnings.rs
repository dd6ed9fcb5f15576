//! What is logged on a test's thread, as a server hands it on.

use std::sync::Arc;

use jasaweb_rt_core::{
    events::{Event, EventQueue},
    log,
};
use tracing::{
    Level,
    dispatcher::{DefaultGuard, set_default},
};

/// Warnings and errors in order, from its making on.
pub(crate) struct Warnings {
    events: Arc<EventQueue>,
    lines: Vec<String>,
    _guard: DefaultGuard,
}

impl Warnings {
    pub(crate) fn collect() -> Self {
        let events = Arc::new(EventQueue::new().unwrap());
        events.listen();
        let guard = set_default(&log::dispatch(&events));
        Self { events, lines: Vec::new(), _guard: guard }
    }

    /// All until now.
    pub(crate) fn lines(&mut self) -> &[String] {
        for event in self.events.drain(usize::MAX) {
            if let Event::Log { level: Level::WARN | Level::ERROR, message, .. } = event {
                self.lines.push(message);
            }
        }
        &self.lines
    }
}
