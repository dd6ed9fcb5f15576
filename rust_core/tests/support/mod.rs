//! What the tests of the front door share: a door on a port of its own, an app on a Unix socket, a raw HTTP client.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod app;
pub(crate) mod http;
pub(crate) mod sockets;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod warnings;

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use jasaweb_rt_core::{
    config::Config,
    error::Error,
    front_door::{Admitted, FrontDoor, bind},
    hub::Hub,
    tls::Tls,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::http::Client;

/// Fails a test that waits for what never comes. Longer than any time-out of the code under test, so that with paused
/// time it is not the first to be over.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(100), future).await.expect("nothing came within the deadline")
}

/// Waits until `condition` holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The defaults, without what time brings about: pings, which most clients here do not answer, and a rate of connections.
pub(crate) fn config() -> Config {
    Config { ping_interval: Duration::ZERO, connect_rate_per_ip: 0, ..Config::new(token::SECRET) }
}

/// Bytes that wait for the one connection that is open.
pub(crate) fn queued_bytes(hub: &Hub) -> usize {
    loop {
        match hub.connections() {
            Ok(connections) => return connections[0].queued_bytes,
            // Its shard was stopped for some seconds.
            Err(Error::NoAnswer) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A running front door.
pub(crate) struct Door {
    pub(crate) front: Arc<FrontDoor>,
    pub(crate) address: SocketAddr,
    pub(crate) admitted: UnboundedReceiver<Admitted>,
    pub(crate) stop: CancellationToken,
    pub(crate) cut: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), Error>>,
}

impl Door {
    pub(crate) fn open(config: Config) -> Self {
        let (hand_over, admitted) = unbounded_channel();
        Self::open_with(config, admitted, move |socket| drop(hand_over.send(socket)))
    }

    pub(crate) fn open_with(
        config: Config,
        admitted: UnboundedReceiver<Admitted>,
        hand_over: impl Fn(Admitted) + Send + Sync + 'static,
    ) -> Self {
        let hand_over = move |mut admitted: Admitted| {
            // As a shard does it; a new socket takes it whole.
            let greeting = std::mem::take(&mut admitted.greeting);
            match &mut admitted.tls {
                None => admitted.socket.write_all(&greeting).unwrap(),
                Some(tls) => {
                    tls.writer().write_all(&greeting).unwrap();
                    while tls.wants_write() {
                        tls.write_tls(&mut admitted.socket).unwrap();
                    }
                }
            }
            hand_over(admitted);
        };
        config.validate().unwrap();
        let listener = bind(&config).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Tls::load(&config).unwrap();
        let front = Arc::new(FrontDoor::new(Arc::new(config), tls, hand_over));
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(Arc::clone(&front).serve(listener, stop.clone(), cut.clone()));
        Self { front, address, admitted, stop, cut, serving }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// The next socket that was handed over.
    pub(crate) async fn next_admitted(&mut self) -> Admitted {
        within(self.admitted.recv()).await.unwrap()
    }

    /// Stops, and waits until everything has gone.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        within(self.serving).await.unwrap().unwrap();
    }
}
