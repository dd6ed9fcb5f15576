//! Connections that are not let in, and are told so.
//!
//! Being told costs descriptors and time, so there are few places for it. Each reason has its own: whoever fills those of
//! one address keeps nobody from hearing that descriptors are short, nor the probes from their answer. And a place is kept
//! only by who says something.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Standing,
    front_door::{FrontDoor, has_spoken},
};

/// Newcomers that are told the same at a time; more are just closed. Each needs up to three descriptors.
const AT_ONCE: usize = 8;

/// Time until a newcomer's first byte. A client sends it right behind the connection, be it for TLS or for HTTP.
const TIME_TO_SPEAK: Duration = Duration::from_millis(500);

/// Time for all that a newcomer is told.
const TIME_TO_ANSWER: Duration = Duration::from_secs(5);

/// The places, by what newcomers are told.
#[derive(Debug)]
pub(crate) struct TurningAway {
    no_room: Arc<Semaphore>,
    address_full: Arc<Semaphore>,
}

impl TurningAway {
    pub(crate) fn new() -> Self {
        let places = || Arc::new(Semaphore::new(AT_ONCE));
        Self { no_room: places(), address_full: places() }
    }

    /// A place for one of this standing, if one is free; for who was let in there are none.
    pub(crate) fn place(&self, standing: &Standing) -> Option<OwnedSemaphorePermit> {
        let places = match standing {
            Standing::LetIn(_) => return None,
            Standing::NoRoom => &self.no_room,
            Standing::AddressFull => &self.address_full,
        };
        Arc::clone(places).try_acquire_owned().ok()
    }
}

impl FrontDoor {
    /// A connection that is not let in: one answer, within a few seconds, where it says something at once. Its `place` is
    /// kept as long.
    pub(crate) async fn turn_away(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        standing: Standing,
        stop: CancellationToken,
        place: OwnedSemaphorePermit,
    ) {
        let deadline = Instant::now() + TIME_TO_ANSWER;
        let answered = async {
            if timeout(TIME_TO_SPEAK, has_spoken(&stream)).await == Ok(true)
                && let Some(socket) = self.secure(stream, deadline).await
            {
                self.converse(socket, peer, &standing, stop).await;
            }
        };
        // Who takes longer than that is closed without.
        let _ = timeout_at(deadline, Box::pin(answered)).await;
        drop(place);
    }
}
