//! Whom the front door refuses before it looks at a token, and how: limits, origins, malformed requests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::net::IpAddr;

use jasaweb_rt_core::config::{Config, Origins};
use support::{
    Door, config, http,
    token::{self, with_token},
};

type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn without_an_upgrade_426() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    for headers in [&[][..], &[("Upgrade", "h2c"), ("Connection", "Upgrade")]] {
        let response = client.get("/ws?token=x", headers).await;
        assert_eq!(response.head.status, 426);
        assert_eq!(response.error(), "Upgrade required");
        assert_eq!(response.head.get("upgrade"), Some("websocket"));
    }
    client.send(http::request("POST", "/ws", &[("Content-Length", "2")]) + "{}").await;
    assert_eq!(client.response().await.head.status, 426);
}

#[tokio::test]
async fn another_protocol_version_is_told_the_right_one() {
    let door = Door::open(config());
    let response = door.connect().await.refused("/ws", &[("Sec-WebSocket-Version", "8")]).await;
    assert_eq!(response.head.status, 426);
    assert_eq!(response.head.get("sec-websocket-version"), Some("13"));
    assert_eq!(response.error(), "Sec-WebSocket-Version must be 13");
    assert_eq!(door.front.refusals().malformed, 1);
}

#[tokio::test]
async fn a_malformed_handshake_is_told_what_is_wrong() {
    let door = Door::open(config());
    let mut client = door.connect().await;
    let cases: [(&str, Headers<'_>, &str); 5] = [
        ("/ws", &[("Sec-WebSocket-Key", "")], "Sec-WebSocket-Key must be 16 bytes in base64"),
        ("/ws", &[("Connection", "keep-alive")], "Connection must name upgrade"),
        ("/ws?last_seq=-1", &[], "last_seq must be one whole number from 0"),
        ("/ws?epoch=", &[], "epoch must be one epoch as the server named it"),
        ("/ws?batch=2", &[], "batch must be 0 or 1"),
    ];
    for (target, headers, sentence) in cases {
        let response = client.refused(target, headers).await;
        assert_eq!((response.head.status, response.error().as_str()), (400, sentence));
    }
    assert_eq!(door.front.refusals().malformed, 5);
}

#[tokio::test]
async fn a_foreign_page_is_refused_and_its_token_is_not_even_looked_at() {
    let mut door = Door::open(config());
    let target = with_token(&token::valid("user-1"));
    let response = door.connect().await.refused(&target, &[("Origin", "https://evil.test")]).await;
    assert_eq!((response.head.status, response.error().as_str()), (403, "Origin not allowed"));
    assert_eq!(door.connect().await.upgrade(&target, &[("Origin", "https://site.test")]).await.status, 101);
    door.next_admitted().await;
    let refusals = door.front.refusals();
    assert_eq!((refusals.origin, refusals.total()), (1, 1));
}

#[tokio::test]
async fn listed_origins_are_let_in() {
    let origins = Origins::Listed(vec!["https://app.test".to_owned()]);
    let door = Door::open(Config { allowed_origins: origins, ..config() });
    let target = with_token(&token::valid("user-1"));
    for (origin, status) in [("https://app.test", 101), ("https://site.test", 101), ("https://other.test", 403)] {
        assert_eq!(door.connect().await.upgrade(&target, &[("Origin", origin)]).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn a_full_server_refuses_until_a_slot_is_dropped() {
    let mut door = Door::open(Config { max_connections: 1, ..config() });
    let target = with_token(&token::valid("user-1"));
    let mut first = door.connect().await;
    assert_eq!(first.upgrade(&target, &[]).await.status, 101);
    let held = door.next_admitted().await;
    let response = door.connect().await.refused(&target, &[]).await;
    assert_eq!(response.head.status, 503);
    assert!(response.head.get("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(response.error(), "The server has no room for another connection");
    drop(held);
    assert_eq!(door.connect().await.upgrade(&target, &[]).await.status, 101);
    assert_eq!(door.front.refusals().server_full, 1);
}

#[tokio::test]
async fn an_address_has_limits_of_its_own() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let mut door = Door::open(Config { max_connections_per_ip: 1, trusted_proxies, ..config() });
    let target = with_token(&token::valid("user-1"));
    let from = |address| [("X-Forwarded-For", address)];
    assert_eq!(door.connect().await.upgrade(&target, &from("192.0.2.1")).await.status, 101);
    let _held = door.next_admitted().await;
    let response = door.connect().await.refused(&target, &from("192.0.2.1")).await;
    assert_eq!(response.head.status, 429);
    assert!(response.head.get("retry-after").is_some());
    assert_eq!(response.error(), "Too many open connections from this address");
    assert_eq!(door.connect().await.upgrade(&target, &from("192.0.2.2")).await.status, 101);
    assert_eq!(door.next_admitted().await.client_address, IpAddr::from([192, 0, 2, 2]));
    assert_eq!(door.front.refusals().address_full, 1);
}

#[tokio::test]
async fn an_address_that_connects_too_fast_is_told_to_wait() {
    let door = Door::open(Config { connect_rate_per_ip: 1, connect_burst_per_ip: 2, ..config() });
    let target = with_token(&token::valid("user-1"));
    // On a machine that is slow enough, the third comes in time for the rate.
    let response = loop {
        let mut client = door.connect().await;
        let head = client.upgrade(&target, &[]).await;
        if head.status != 101 {
            break client.body_of(head).await;
        }
    };
    assert_eq!(response.head.status, 429);
    assert_eq!(response.head.get("retry-after"), Some("1"));
    assert_eq!(response.error(), "Too many new connections from this address");
    assert_eq!(door.connect().await.get("/", &[]).await.head.status, 404, "HTTP is not limited");
    assert_eq!(door.front.refusals().rate, 1);
}

#[tokio::test]
async fn plain_connections_are_refused_where_tls_is_required() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let mut door = Door::open(Config { require_tls: true, trusted_proxies, ..config() });
    let target = with_token(&token::valid("user-1"));
    for headers in [&[][..], &[("X-Forwarded-Proto", "http")]] {
        let response = door.connect().await.refused(&target, headers).await;
        assert_eq!(response.head.status, 403);
        assert!(response.error().contains("JASAWEB_RT_TRUSTED_PROXIES"), "{}", response.error());
    }
    let through_proxy = [
        ("X-Forwarded-For", "192.0.2.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.test"),
        ("Origin", "https://public.test"),
    ];
    assert_eq!(door.connect().await.upgrade(&target, &through_proxy).await.status, 101);
    assert_eq!(door.next_admitted().await.client_address, IpAddr::from([192, 0, 2, 9]));
    assert_eq!(door.front.refusals().tls, 2);
}

#[tokio::test]
async fn nobody_else_can_claim_to_come_over_tls() {
    let door = Door::open(Config { require_tls: true, ..config() });
    let target = with_token(&token::valid("user-1"));
    let response = door.connect().await.refused(&target, &[("X-Forwarded-Proto", "https")]).await;
    assert_eq!(response.head.status, 403);
}

#[tokio::test]
async fn while_draining_only_http_goes_on() {
    let door = Door::open(config());
    let target = with_token(&token::valid("user-1"));
    door.front.set_draining(true);
    let mut client = door.connect().await;
    let response = client.refused(&target, &[]).await;
    assert_eq!((response.head.status, response.head.get("retry-after")), (503, Some("1")));
    assert_eq!(response.error(), "The server is stopping; try again later");
    assert_eq!(client.get("/", &[]).await.head.status, 404);
    door.front.set_draining(false);
    assert_eq!(client.upgrade(&target, &[]).await.status, 101);
    assert_eq!(door.front.refusals().draining, 1);
}
