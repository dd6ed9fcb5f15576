//! A process whose file descriptors run short: alone in its file, since the limit is the whole process's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    sync::{Mutex, PoisonError},
};

use jasaweb_rt_core::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Door, config, http, until};

/// Runs a test while no other of this file runs, for they change the one limit of their process: its runtime needs
/// descriptors as well.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Leaves room for `count` descriptors more than are open now; returns the limit that was.
fn leave(count: u64) -> Rlimit {
    let usual = getrlimit(Resource::Nofile);
    let next = u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(next + count), maximum: usual.maximum }).unwrap();
    usual
}

#[test]
fn accepting_goes_on_once_descriptors_are_free_again() {
    alone(async {
        let door = Door::open(config());
        let mut early = door.connect().await;
        assert_eq!(early.get("/", &[]).await.head.status, 404);
        assert!(door.front.is_accepting());

        // The client's own socket takes it.
        let usual = leave(1);
        let mut late = door.connect().await;
        late.send(http::request("GET", "/", &[])).await;
        until(|| !door.front.is_accepting()).await;
        assert_eq!(early.get("/", &[]).await.head.status, 404, "open connections are served all the while");

        setrlimit(Resource::Nofile, usual).unwrap();
        assert_eq!(late.response().await.head.status, 404);
        until(|| door.front.is_accepting()).await;
        assert_eq!(door.front.turned_away(), 0);
        door.stop().await;
    });
}

#[test]
fn in_a_crowd_every_answer_is_the_last_of_its_connection() {
    alone(async {
        let usual = getrlimit(Resource::Nofile);
        // A quarter is kept.
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: usual.maximum }).unwrap();
        let door = Door::open(Config { max_connections_per_ip: 0, ..config() });
        setrlimit(Resource::Nofile, usual).unwrap();
        let mut clients = Vec::new();
        for _ in 0..47 {
            let mut client = door.connect().await;
            assert_eq!(client.get("/", &[]).await.head.get("connection"), None);
            clients.push(client);
        }
        let _silent = door.connect().await;
        until(|| door.front.http_connections() == 48).await;
        assert_eq!(clients[0].get("/ws", &[]).await.head.get("connection"), Some("Upgrade, close"));
        assert_eq!(clients[0].until_end().await, b"");
        until(|| door.front.http_connections() == 47).await;
        assert_eq!(clients[1].get("/", &[]).await.head.get("connection"), None);
        door.stop().await;
    });
}

#[test]
fn newcomers_leave_the_last_descriptors_alone_and_are_told_to_come_back() {
    alone(async {
        let door = Door::open(config());
        let mut early = door.connect().await;
        assert_eq!(early.get("/", &[]).await.head.status, 404);

        let others: Vec<_> = (0..512).map(|_| File::open("/dev/null").unwrap()).collect();
        let usual = leave(32);
        let mut late = door.connect().await;
        let refused = late.get("/ws", &[]).await;
        assert_eq!(refused.head.status, 503);
        assert_eq!((refused.head.get("retry-after"), refused.head.get("connection")), (Some("5"), Some("close")));
        assert_eq!(refused.error(), "The server has no room for more connections; try again later");
        assert_eq!(late.until_end().await, b"");
        assert!(!door.front.is_accepting());
        // It is asked of the app, and there is none here.
        let mut probe = door.connect().await;
        assert_eq!(probe.get("/healthz", &[]).await.head.status, 404);
        assert_eq!(probe.until_end().await, b"");
        assert_eq!(door.front.turned_away(), 2);
        assert_eq!(early.get("/", &[]).await.head.status, 404, "open connections are served all the while");

        // More room without a higher limit.
        drop(others);
        until(|| door.front.is_accepting()).await;
        assert_eq!(door.connect().await.get("/", &[]).await.head.status, 404);
        setrlimit(Resource::Nofile, usual).unwrap();
        door.stop().await;
    });
}
