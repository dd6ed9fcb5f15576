//! A whole server with TLS on its port: who gets in and how, what is sent, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panicking says what it needs to say")]

mod support;

use std::{sync::Arc, time::Duration};

use jasaweb_rt_core::{
    config::Config,
    events::EventQueue,
    frame::Frame,
    hub::Hub,
    server::{Server, new_node_id},
};
use support::{
    config,
    sockets::{Socket, TEXT},
    tls::{self, Certificate, Files},
    within,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A server that is stopped at the end of its test. Never on a thread of the test's runtime: a stop blocks.
struct Running {
    server: Arc<Server>,
    certificate: Certificate,
    _files: Files,
    _events: Arc<EventQueue>,
}

impl Running {
    fn start(config: Config) -> Self {
        let certificate = Certificate::new();
        let files = Files::new(&certificate);
        let events = Arc::new(EventQueue::new().unwrap());
        let config = files.given_to(Config { max_connections_per_ip: 0, connect_rate_per_ip: 0, ..config });
        let server = Arc::new(Server::start(config, new_node_id().unwrap(), &events).unwrap());
        Self { server, certificate, _files: files, _events: events }
    }

    fn hub(&self) -> &Hub {
        self.server.hub().unwrap()
    }

    async fn open(&self, user: &str, query: &str) -> Socket<TlsStream<TcpStream>> {
        let client = tls::connect(self.server.address(), &self.certificate).await;
        Socket::over(client, user, query).await.welcomed().await
    }

    async fn stop(&self, drain: Duration) {
        let server = Arc::clone(&self.server);
        within(tokio::task::spawn_blocking(move || server.stop(drain))).await.unwrap();
    }
}

#[tokio::test]
async fn a_frame_goes_either_way() {
    let running = Running::start(config());
    let mut socket = running.open("user-1", "").await;
    assert_eq!(running.hub().to_user("user-1", || Frame::text("hello")).unwrap(), 1);
    assert_eq!(socket.frame().await, (TEXT, b"hello".to_vec()));
    running.stop(Duration::ZERO).await;
}
