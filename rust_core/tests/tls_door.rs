//! The door with TLS: which handshakes it takes, what the app and the browser are told, and a certificate that changes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{fs, sync::Arc, time::Duration};

use jasaweb_rt_core::{config::Config, error::Error, tls::Tls};
use rustls::{
    HandshakeKind, ProtocolVersion,
    version::{TLS12, TLS13},
};
use support::{
    Door,
    app::{self, App, Folder},
    config,
    http::Client,
    tls::{self, Certificate, Files},
    token::{self, with_token},
    until,
    warnings::Warnings,
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

fn door(config: Config) -> (Door, Certificate, Files) {
    let certificate = Certificate::new();
    let files = Files::new(&certificate);
    (Door::open(files.given_to(config)), certificate, files)
}

#[tokio::test]
async fn both_versions_are_spoken_with_http_1_1_alone() {
    let (door, certificate, _files) = door(config());
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for offer in [vec![], vec!["http/1.1"], vec!["h2", "http/1.1"]] {
            let mut client = tls::client_config(&certificate, &[version]);
            client.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
            let stream = tls::handshake(door.address, &Arc::new(client)).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(expected));
            let agreed = (!offer.is_empty()).then_some(&b"http/1.1"[..]);
            assert_eq!(session.alpn_protocol(), agreed);
            assert_eq!(Client::over(stream).get("/", &[]).await.head.status, 404);
        }
        let mut client = tls::client_config(&certificate, &[version]);
        client.alpn_protocols = vec![b"h2".to_vec()];
        assert!(tls::handshake(door.address, &Arc::new(client)).await.is_err(), "HTTP/2 is not spoken here");
    }
}

#[tokio::test]
async fn who_comes_again_is_spared_half_the_handshake() {
    let (door, certificate, _files) = door(config());
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(tls::client_config(&certificate, &[version]));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = Client::over(tls::handshake(door.address, &client).await.unwrap());
            // The ticket comes with the answer, if not before.
            assert_eq!(client.get("/", &[]).await.head.status, 404);
            assert_eq!(client.stream.get_ref().1.handshake_kind(), Some(expected));
        }
    }
}

#[tokio::test]
async fn tls_satisfies_who_requires_it_and_a_proxys_word_goes_before_it() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let (mut door, certificate, _files) = door(Config { require_tls: true, trusted_proxies, ..config() });
    let target = with_token(&token::valid("user-1"));
    let head = tls::connect(door.address, &certificate).await.upgrade(&target, &[]).await;
    assert_eq!(head.status, 101);
    assert!(head.get("strict-transport-security").is_some());
    assert!(door.next_admitted().await.tls.is_some());
    let proto = [("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "http")];
    let refused = tls::connect(door.address, &certificate).await.refused(&target, &proto).await;
    assert_eq!(refused.head.status, 403, "its own client came by plain HTTP");
    assert_eq!(refused.head.get("strict-transport-security"), None);
}

#[tokio::test]
async fn the_app_learns_of_https_and_the_browser_is_to_keep_to_it() {
    let folder = Folder::new();
    let _app = App::start(folder.socket(), app::echo);
    let (door, certificate, _files) = door(Config { app: Some(folder.address()), ..config() });
    let mut client = tls::connect(door.address, &certificate).await;
    let response = client.get("/", &[("X-Forwarded-Proto", "http")]).await;
    assert!(response.text().contains("x-forwarded-proto: https\n"), "{}", response.text());
    assert_eq!(response.head.get("strict-transport-security"), Some("max-age=31536000"));
    for (host, promised) in [("localhost:8443", false), ("app.localhost", false), ("127.0.0.1", true), ("a.test", true)]
    {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.head.get("strict-transport-security").is_some(), promised, "{host}");
    }
    for malformed in ["TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n"] {
        client.send(malformed).await;
        let response = client.response().await;
        assert!(matches!(response.head.status, 400 | 501));
        assert_eq!(response.head.get("strict-transport-security"), Some("max-age=31536000"), "{malformed}");
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_took_in_by_https_is_told_the_same() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let door = Door::open(Config { trusted_proxies, ..config() });
    let mut client = door.connect().await;
    for (proto, promised) in [("https", true), ("http", false)] {
        let response = client.get("/", &[("X-Forwarded-Proto", proto)]).await;
        assert_eq!(response.head.get("strict-transport-security").is_some(), promised, "{proto}");
    }
    let response = client.get("/", &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "localhost")]).await;
    assert_eq!(response.head.get("strict-transport-security"), None);
}

#[tokio::test]
async fn plain_http_is_told_what_this_port_speaks() {
    let (door, certificate, _files) = door(config());
    let mut client = door.connect().await;
    let response = client.get("/client/dashboard", &[]).await;
    assert_eq!(response.head.status, 400);
    assert!(response.error().contains("https:"), "{}", response.error());
    assert!(client.until_end().await.is_empty());
    assert_eq!(tls::connect(door.address, &certificate).await.get("/", &[]).await.head.status, 404);
}

/// One that says nothing, one that never goes on, one that never takes the answer's end, one that is plain and stays.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_not_waited_for() {
    let (door, _, _files) = door(config());
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n"] {
        let mut client = door.connect().await;
        client.send(begin).await;
        client.until_end().await;
    }
    door.stop().await;
}

/// With paused time, nobody is too slow in saying something.
#[tokio::test(start_paused = true)]
async fn who_is_turned_away_is_told_so() {
    let (door, certificate, _files) = door(Config { max_connections_per_ip: 1, ..config() });
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut client = tls::connect(door.address, &certificate).await;
        assert_eq!(client.get("/", &[]).await.head.status, 404);
        held.push(client);
    }
    let mut refused = tls::connect(door.address, &certificate).await;
    let response = refused.get("/", &[]).await;
    assert_eq!((response.head.status, response.head.get("retry-after")), (429, Some("5")));
    assert_eq!(response.error(), "Too many open connections from this address");
    assert_eq!(response.head.get("strict-transport-security"), Some("max-age=31536000"));
    assert!(refused.until_end().await.is_empty());
    assert_eq!((door.front.http_connections(), door.front.http_refusals().address_full), (6, 1));
}

#[tokio::test]
async fn what_is_no_handshake_disturbs_nobody() {
    let (door, certificate, _files) = door(config());
    for bytes in [&b"\x16\x03\x01\0\x05hello"[..], b"\x16\x03\x01\xff\xff", b"\x15\x03\x03\0\x02\x02\x28", b"\0\0\0\0"]
    {
        let mut client = door.connect().await;
        client.send(bytes).await;
        client.stream.shutdown().await.unwrap();
        client.until_end().await;
    }
    assert_eq!(tls::connect(door.address, &certificate).await.get("/", &[]).await.head.status, 404);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_handshake() {
    let (door, _, _files) = door(config());
    let mut client = door.connect().await;
    client.send(b"\x16\x03\x01").await;
    door.stop().await;
    assert!(client.until_end().await.is_empty());
}

/// Tries until a client that trusts `certificate` gets in.
async fn trusted(door: &Door, certificate: &Certificate) {
    let client = Arc::new(tls::client_config(certificate, rustls::ALL_VERSIONS));
    within(async {
        while tls::handshake(door.address, &client).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_no_connection_is_dropped_for_it() {
    let (door, first, files) = door(config());
    let mut before = tls::connect(door.address, &first).await;
    assert_eq!(before.get("/", &[]).await.head.status, 404);
    let second = Certificate::new();
    files.replace(&second);
    trusted(&door, &second).await;
    assert_eq!(before.get("/", &[]).await.head.status, 404, "who was there before goes on");
    let client = Arc::new(tls::client_config(&first, rustls::ALL_VERSIONS));
    assert!(tls::handshake(door.address, &client).await.is_err());
}

#[tokio::test]
async fn a_certificate_that_is_not_fit_is_complained_of_once_and_the_one_before_stays() {
    let mut warnings = Warnings::collect();
    let (door, first, files) = door(config());
    let (second, third) = (Certificate::new(), Certificate::new());
    let broken: [(&str, &str, &str); 4] = [
        ("", &first.key, "no certificate in PEM"),
        (&second.cert, &first.key, "is not the key of the certificate"),
        (&second.cert, "no key", "no private key in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &first.key, "is not valid"),
    ];
    for (number, (cert, key, complaint)) in broken.into_iter().enumerate() {
        fs::write(files.cert(), cert).unwrap();
        fs::write(files.key(), key).unwrap();
        until(|| warnings.lines().len() > number).await;
        let warning = &warnings.lines()[number];
        assert!(warning.contains(complaint) && warning.contains("stays in use"), "{warning}");
        trusted(&door, &first).await;
    }
    fs::remove_file(files.key()).unwrap();
    until(|| warnings.lines().len() > broken.len()).await;
    let warning = &warnings.lines()[broken.len()];
    assert!(warning.contains("cannot be read"), "{warning}");
    files.replace(&third);
    trusted(&door, &third).await;
    assert_eq!(warnings.lines().len(), broken.len() + 1, "once each, and none for what is fit");
}

#[test]
fn files_that_cannot_be_used_are_refused_at_the_start_with_the_mend() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let files = Files::new(&certificate);
    let refused = |files: &Files| match Tls::load(&files.given_to(config())) {
        Err(Error::Config { name, problem }) => (name, problem),
        other => panic!("{other:?}"),
    };
    assert!(Tls::load(&files.given_to(config())).unwrap().is_some());
    assert!(Tls::load(&config()).unwrap().is_none());
    for (cert, key, name, problem) in [
        (&*certificate.cert, &*other.key, "tls_key", "name the two that belong together"),
        (&certificate.key, &certificate.key, "tls_cert", "no certificate in PEM"),
        (&certificate.cert, &certificate.cert, "tls_key", "no private key in PEM"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &certificate.key, "tls_cert", "not valid PEM"),
    ] {
        fs::write(files.cert(), cert).unwrap();
        fs::write(files.key(), key).unwrap();
        let (refused_name, refused_problem) = refused(&files);
        assert!(refused_name == name && refused_problem.contains(problem), "{refused_name}: {refused_problem}");
        assert!(!refused_problem.contains("PRIVATE KEY-----\n"), "a key is shown");
    }
    fs::write(files.cert(), vec![b'x'; 1 << 21]).unwrap();
    assert!(refused(&files).1.contains("larger than 1 MiB"));
    fs::remove_file(files.cert()).unwrap();
    assert!(refused(&files).1.contains("cert.pem cannot be read: No such file"), "{}", refused(&files).1);
    fs::create_dir(files.cert()).unwrap();
    assert!(refused(&files).1.contains("not a regular file"));
    for config in
        [Config { tls_cert: Some(files.cert()), ..config() }, Config { tls_key: Some(files.key()), ..config() }]
    {
        let error = config.validate().unwrap_err();
        assert!(error.to_string().contains("must be given too"), "{error}");
    }
}

#[tokio::test]
async fn a_chain_and_its_key_may_be_one_file() {
    let certificate = Certificate::new();
    let files = Files::new(&certificate);
    fs::write(files.cert(), [&*certificate.cert, &*certificate.key].concat()).unwrap();
    let config = Config { tls_cert: Some(files.cert()), tls_key: Some(files.cert()), ..config() };
    let door = Door::open(config);
    trusted(&door, &certificate).await;
}

#[tokio::test]
async fn an_answer_that_ends_the_connection_says_so() {
    let (door, certificate, _files) = door(config());
    let client = Arc::new(tls::client_config(&certificate, rustls::ALL_VERSIONS));
    let mut stream = tls::handshake(door.address, &client).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    // Also where the connection might have become another one.
    let mut stream = tls::handshake(door.address, &client).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: close, Upgrade\r\n\r\n").await.unwrap();
    answer.clear();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn bytes_that_a_client_sends_by_single_ones_are_a_handshake_too() {
    let (door, certificate, _files) = door(config());
    let (ours, mut theirs) = tokio::io::duplex(1);
    let mut socket = TcpStream::connect(door.address).await.unwrap();
    let relay =
        tokio::spawn(async move { tokio::io::copy_bidirectional_with_sizes(&mut theirs, &mut socket, 1, 1).await });
    let client = Arc::new(tls::client_config(&certificate, rustls::ALL_VERSIONS));
    let mut stream = within(tls::handshake_on(ours, &client)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    relay.abort();
}
