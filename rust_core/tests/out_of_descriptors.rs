//! A process whose file descriptors run short: alone in its file, since the limit is the whole process's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use jasaweb_rt_core::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    Door, config, http,
    http::Client,
    tls::{self, Certificate, Files},
    until,
};

/// Runs a test while no other of this file runs, for they change the one limit of their process: its runtime needs
/// descriptors as well. Time is paused: what is waited for is over at once, in the order of its times.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
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

/// Descriptors that are in use, so that the few that are left are among the last.
fn crowd() -> Vec<File> {
    (0..512).map(|_| File::open("/dev/null").unwrap()).collect()
}

#[test]
fn newcomers_who_say_nothing_keep_no_place_from_those_who_do() {
    alone(async {
        let door = Door::open(config());
        let _crowd = crowd();
        let usual = leave(48);
        let mut slow = door.connect().await;
        slow.send("GET /ws ").await;
        let mut silent = Vec::new();
        for _ in 0..7 {
            silent.push(door.connect().await);
        }
        until(|| door.front.turned_away() == 8).await;
        for client in &mut silent {
            assert_eq!(client.until_end().await, b"");
        }
        assert_eq!(door.connect().await.get("/ws", &[]).await.head.status, 503);
        slow.send("HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        assert_eq!(slow.response().await.head.status, 503, "who has begun has more time than who is silent");
        setrlimit(Resource::Nofile, usual).unwrap();
        door.stop().await;
    });
}

#[test]
fn who_fills_the_places_of_one_address_keeps_nobody_from_hearing_of_a_shortage() {
    alone(async {
        let door = Door::open(Config { max_connections_per_ip: 1, ..config() });
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(door.connect().await);
        }
        until(|| door.front.http_connections() == 6).await;
        for _ in 0..8 {
            let mut slow = door.connect().await;
            slow.send("G").await;
            held.push(slow);
        }
        until(|| door.front.http_refusals().address_full == 8).await;
        let mut ninth = door.connect().await;
        ninth.send(http::request("GET", "/", &[])).await;
        assert_eq!(ninth.until_end().await, b"", "their places are taken");

        let _crowd = crowd();
        let usual = leave(32);
        assert_eq!(door.connect().await.get("/", &[]).await.head.status, 503);
        setrlimit(Resource::Nofile, usual).unwrap();
        door.stop().await;
    });
}

#[test]
fn over_tls_a_newcomer_is_told_of_the_shortage_too() {
    alone(async {
        let certificate = Certificate::new();
        let files = Files::new(&certificate);
        let door = Door::open(files.given_to(config()));
        let client = Arc::new(tls::client_config(&certificate, rustls::ALL_VERSIONS));
        let _crowd = crowd();
        let usual = leave(32);
        let mut late = Client::over(tls::handshake(door.address, &client).await.unwrap());
        let refused = late.get("/ws", &[]).await;
        assert_eq!((refused.head.status, refused.head.get("retry-after")), (503, Some("5")));
        assert_eq!(refused.head.get("strict-transport-security"), Some("max-age=31536000"));
        assert_eq!(late.until_end().await, b"");
        assert_eq!(door.front.turned_away(), 1);
        setrlimit(Resource::Nofile, usual).unwrap();
        door.stop().await;
    });
}
