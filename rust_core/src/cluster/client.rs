//! A program without sessions of its own that reaches those of the cluster.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Cluster, ClusterOptions, ClusterStats, Tasks};
use crate::{bus::Bus, error::Error, events::EventQueue, server::new_node_id};

/// How long what waits to leave has, when the client is dropped or closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often [`ClusterClient::connect`] looks whether there is a link.
const LINK_POLL: Duration = Duration::from_millis(5);

/// A member of the cluster that has nobody connected.
#[derive(Debug)]
pub struct ClusterClient {
    bus: Bus,
    cluster: Cluster,
    options: ClusterOptions,
    owner: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    New,
    Open(Tasks),
    Closed,
}

impl ClusterClient {
    /// Reaches nobody until [`Self::connect`].
    pub fn new(options: ClusterOptions, events: Arc<EventQueue>) -> Result<Self, Error> {
        let cluster = Cluster::new(&new_node_id()?, events)?;
        let bus = Bus::remote(cluster.clone());
        Ok(Self { bus, cluster, options, owner: std::process::id(), state: Mutex::new(State::New) })
    }

    /// Links to NATS, and goes on trying where that fails; waits until there is a link, `wait` at most.
    ///
    /// # Errors
    /// [`Error::Unlinked`] where the time is up. It goes on trying all the same.
    pub fn connect(&self, wait: Duration) -> Result<(), Error> {
        self.check_owner()?;
        let deadline = Instant::now() + wait;
        {
            let mut state = self.state.lock();
            if let State::New = &*state {
                *state = State::Open(self.cluster.start(self.options.clone(), None, 0)?);
            }
        }
        loop {
            self.bus()?;
            if self.cluster.is_linked() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let unknown = || "it did not answer in time (see nats_url)".to_owned();
                return Err(Error::Unlinked { reason: self.cluster.last_error().unwrap_or_else(unknown) });
            }
            std::thread::sleep(LINK_POLL);
        }
    }

    /// What to publish through.
    pub fn bus(&self) -> Result<&Bus, Error> {
        self.check_owner()?;
        match &*self.state.lock() {
            State::New => Err(Error::NotStarted),
            State::Open(..) => Ok(&self.bus),
            State::Closed => Err(Error::Stopped),
        }
    }

    /// How things stand.
    pub fn stats(&self) -> Result<ClusterStats, Error> {
        self.bus().map(|_| self.cluster.stats())
    }

    /// Hears what nodes tell programs: each event reaches one of those that listen.
    pub fn listen(&self) -> Result<(), Error> {
        self.bus()?;
        self.cluster.listen();
        Ok(())
    }

    /// Sends what waits, 2 s at most, and ends the link. A second call returns at once.
    pub fn close(&self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Closed);
        let State::Open(tasks) = state else { return };
        if std::process::id() != self.owner {
            // The threads are the parent's.
            std::mem::forget(tasks);
            return;
        }
        tasks.stop(CLOSE_TIMEOUT);
    }

    fn check_owner(&self) -> Result<(), Error> {
        if std::process::id() == self.owner { Ok(()) } else { Err(Error::Forked { owner: self.owner }) }
    }
}

impl Drop for ClusterClient {
    fn drop(&mut self) {
        self.close();
    }
}
