//! The event queue between sessions and the embedding program: whoever waits at the descriptor gets all that is offered.

use std::sync::Arc;

use loom::thread;

use crate::{
    events::{Event, EventQueue},
    explore,
    progress::{Progress, ProgressLog},
};

fn record(text: String) -> Event {
    Event::Log { level: tracing::Level::INFO, target: "model", message: text }
}

fn text(event: Event) -> String {
    match event {
        Event::Log { message, .. } => message,
        other => panic!("nobody told of {other:?}"),
    }
}

/// Two shards tell while a consumer waits at the descriptor and drains `limit` events at a time: it gets all of them,
/// each shard's in order, and the descriptor is readable exactly while something waits.
///
/// # Panics
///
/// Where an event is lost, comes twice or out of order, or the consumer waits for ever: what it looks for.
pub fn nothing_is_lost(limit: usize) {
    explore(move || {
        let queue = Arc::new(EventQueue::new().unwrap_or_else(|error| panic!("{error}")));
        queue.listen();
        let shards: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|shard| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    for number in 0..2 {
                        assert!(queue.offer(record(format!("{shard}{number}"))));
                    }
                })
            })
            .collect();
        let mut seen = Vec::new();
        while seen.len() < 4 {
            queue.wait(0);
            let events = queue.drain(limit);
            assert!(!events.is_empty(), "woken for nothing");
            seen.extend(events.into_iter().map(text));
        }
        for shard in shards {
            assert!(shard.join().is_ok());
        }
        for shard in ["a", "b"] {
            let own: Vec<_> = seen.iter().filter(|text| text.starts_with(shard)).collect();
            assert_eq!(own, [&format!("{shard}0"), &format!("{shard}1")]);
        }
        assert!(queue.drain(1).is_empty());
    });
}

/// Somebody begins to listen while a shard tells: what is told from then on arrives, whatever came of what was told
/// before.
///
/// # Panics
///
/// As [`nothing_is_lost`] does.
pub fn from_the_first_listener_on() {
    explore(|| {
        let queue = Arc::new(EventQueue::new().unwrap_or_else(|error| panic!("{error}")));
        let shard = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.tell(record("early".to_owned()))
        });
        queue.listen();
        queue.tell(record("late".to_owned()));
        queue.wait(0);
        let mut seen: Vec<_> = queue.drain(10).into_iter().map(text).collect();
        assert!(shard.join().is_ok());
        seen.extend(queue.drain(10).into_iter().map(text));
        seen.retain(|text| text != "early");
        assert_eq!(seen, ["late"]);
        assert_eq!(queue.dropped(), 0);
    });
}

/// Two shards lay records down while somebody takes them: each is taken once.
///
/// # Panics
///
/// As [`nothing_is_lost`] does.
pub fn records_are_taken_once() {
    explore(|| {
        let log = Arc::new(ProgressLog::default());
        log.keep();
        let record = |number| Progress {
            connection_id: String::new(),
            user_id: "user-1".into(),
            range: (number, number),
            delivered: 0,
        };
        let noting = thread::spawn({
            let log = Arc::clone(&log);
            move || log.note(Some(record(1)))
        });
        let answering = thread::spawn({
            let log = Arc::clone(&log);
            move || log.answer(vec![record(2), record(3)])
        });
        let mut taken = log.take();
        assert!(noting.join().is_ok() && answering.join().is_ok());
        taken.append(&mut log.take());
        let mut numbers: Vec<_> = taken.iter().map(|record| record.range.0).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(log.dropped(), 0);
    });
}
