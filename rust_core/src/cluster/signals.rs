//! What async-nats tells of its connection, kept until the link's task looks.

use std::mem;

use async_nats::Event;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// Kept by whoever is told, taken by the link's task.
#[derive(Debug, Default)]
pub(super) struct Signals {
    kept: Mutex<Kept>,
    news: Notify,
    up: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Links that events told of.
    told_links: u64,
    links: u64,
    slow_consumers: u64,
    trouble: Option<String>,
    error: Option<String>,
    /// The error that was given out last, while nothing has worked since.
    told: Option<String>,
}

impl Signals {
    /// Says whether there is a link.
    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Takes note of an event.
    pub(super) fn note(&self, event: &Event) {
        {
            let mut kept = self.kept.lock();
            match event {
                Event::Connected => {
                    kept.told_links += 1;
                    kept.links = kept.links.max(kept.told_links);
                    kept.told = None;
                }
                Event::SlowConsumer(_) => kept.slow_consumers += 1,
                Event::ServerError(error) => kept.trouble = Some(error.to_string()),
                Event::ClientError(error) => {
                    let error = explain(&error.to_string());
                    if kept.told.as_ref() != Some(&error) {
                        kept.error = Some(error);
                    }
                }
                Event::Disconnected | Event::Closed | Event::LameDuckMode | Event::Draining => {}
            }
        }
        match event {
            Event::Connected => self.set_up(true),
            Event::Disconnected | Event::Closed => self.set_up(false),
            _ => {}
        }
        self.news.notify_one();
    }

    /// Compares with how things stand, since events may be lost: `connects` is how many links there have been.
    pub(super) fn check(&self, is_connected: bool, connects: u64) {
        let is_new = {
            let mut kept = self.kept.lock();
            let is_new = connects > kept.links;
            kept.links = kept.links.max(connects);
            is_new
        };
        if is_new || *self.up.borrow() != is_connected {
            self.set_up(is_connected);
            self.news.notify_one();
        }
    }

    /// Something else is to be looked after.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    /// Waits until there is something new.
    pub(super) async fn wait(&self) {
        self.news.notified().await;
    }

    /// Links that were made so far.
    pub(super) fn links(&self) -> u64 {
        self.kept.lock().links
    }

    /// Messages that were lost since this was last asked because they were not read fast enough.
    pub(super) fn take_slow_consumers(&self) -> u64 {
        mem::take(&mut self.kept.lock().slow_consumers)
    }

    /// What the server has complained of.
    pub(super) fn take_trouble(&self) -> Option<String> {
        self.kept.lock().trouble.take()
    }

    /// Why there is no link; the same reason once.
    pub(super) fn take_error(&self) -> Option<String> {
        let mut kept = self.kept.lock();
        let error = kept.error.take()?;
        kept.told = Some(error.clone());
        Some(error)
    }

    /// Why there is no link, if that was ever told since there was one.
    pub(super) fn last_error(&self) -> Option<String> {
        let kept = self.kept.lock();
        kept.error.clone().or_else(|| kept.told.clone())
    }

    fn set_up(&self, up: bool) {
        self.up.send_if_modified(|was| mem::replace(was, up) != up);
    }
}

/// An error of async-nats with the settings that it may be mended by.
fn explain(error: &str) -> String {
    let error = error.trim_start_matches("nats: ");
    let settings = match error {
        "authorization violation" => "see nats_credentials, or the user and password or token in nats_url",
        "failed signing nonce" => "see nats_credentials",
        "TLS error" => "see nats_ca",
        _ => "see nats_url; where the server speaks TLS, nats_ca",
    };
    format!("{error} ({settings})")
}

#[cfg(test)]
mod tests {
    use async_nats::ClientError;

    use super::*;

    #[test]
    fn the_same_error_is_told_once_until_there_was_a_link() {
        let signals = Signals::default();
        let up = signals.up();
        let error = || Event::ClientError(ClientError::Other("IO error".to_owned()));
        signals.note(&error());
        assert!(signals.take_error().is_some());
        signals.note(&error());
        assert!(signals.take_error().is_none());
        signals.note(&Event::Connected);
        assert!(*up.borrow());
        signals.note(&error());
        assert!(signals.take_error().is_some());
    }

    #[test]
    fn a_link_that_no_event_told_of_is_noticed() {
        let signals = Signals::default();
        let up = signals.up();
        signals.check(true, 2);
        assert_eq!((signals.links(), *up.borrow()), (2, true));
        signals.check(false, 2);
        assert!(!*up.borrow());
        signals.note(&Event::Connected);
        signals.note(&Event::Connected);
        assert_eq!(signals.links(), 2);
    }
}
