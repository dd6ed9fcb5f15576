//! A process without a free file descriptor: alone in its file, since the limit is the whole process's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{fs::File, os::fd::AsRawFd as _};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Door, config, http, within};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Passes on that an error was logged.
struct Errors(UnboundedSender<()>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        let _ = self.0.send(());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn accepting_goes_on_once_descriptors_are_free_again() {
    let (sender, mut errors) = unbounded_channel();
    tracing::subscriber::set_global_default(Errors(sender)).unwrap();
    let door = Door::open(config());
    let mut early = door.connect().await;
    assert_eq!(early.get("/", &[]).await.head.status, 404);

    let usual = getrlimit(Resource::Nofile);
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    let one_more = Rlimit { current: Some(u64::try_from(next).unwrap() + 1), maximum: usual.maximum };
    setrlimit(Resource::Nofile, one_more).unwrap();
    let mut late = door.connect().await;
    late.send(http::request("GET", "/", &[])).await;
    for _ in 0..3 {
        within(errors.recv()).await.unwrap();
    }
    assert_eq!(early.get("/", &[]).await.head.status, 404, "open connections are served all the while");

    setrlimit(Resource::Nofile, usual).unwrap();
    assert_eq!(late.response().await.head.status, 404);
    door.stop().await;
}
