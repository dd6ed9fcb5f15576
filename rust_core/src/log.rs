//! Log records of the core's threads, handed to the embedding program as events.
//!
//! Set as each thread's own subscriber, so that two servers in one process, or a program with a subscriber of its own,
//! do not mix.

use std::{cell::RefCell, fmt::Write as _, sync::Arc};

use tracing::{
    Level, Metadata, Subscriber,
    dispatcher::{DefaultGuard, Dispatch, set_default},
    field::{Field, Visit},
    span,
};

use crate::events::{Event, EventQueue};

/// The NATS client says each step of each try, and its errors are told to us by other means.
const NATS_CLIENT: &str = "async_nats";

/// A subscriber that writes into the event queue, from level INFO up. It keeps no spans.
struct ToEvents(Arc<EventQueue>);

/// A dispatcher whose records become [`Event::Log`].
#[must_use]
pub fn dispatch(events: &Arc<EventQueue>) -> Dispatch {
    Dispatch::new(ToEvents(Arc::clone(events)))
}

thread_local! {
    static CURRENT: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// Sends the calling thread's records there for as long as the thread lives.
pub(crate) fn enter_thread(dispatch: &Dispatch) {
    CURRENT.with_borrow_mut(|current| *current = Some(set_default(dispatch)));
}

impl Subscriber for ToEvents {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && !metadata.target().starts_with(NATS_CLIENT)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.tell(Event::Log {
            level: *event.metadata().level(),
            target: event.metadata().target(),
            message: text.message + &text.fields,
        });
    }
}

/// A record as one line: the message, then `name=value` for each field.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_an_event() {
        let events = Arc::new(EventQueue::new().unwrap());
        events.listen();
        tracing::dispatcher::with_default(&dispatch(&events), || tracing::warn!(port = 80, "cannot listen"));
        let drained = events.drain(10);
        assert!(
            matches!(&drained[..], [Event::Log { level: Level::WARN, message, .. }] if message == "cannot listen port=80"),
            "{drained:?}"
        );
    }
}
