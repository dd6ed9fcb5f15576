//! What comes from other nodes, to the sessions of this one: decoded, put in order, handed to the hub.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use bytes::Bytes;

use super::{
    Shared,
    inlet::{Batch, SlotId},
    wire::{self, Body, Message},
};
use crate::{
    close::CloseReason,
    command::{DurableFrame, ReadFrame},
    error::Error,
    events::Event,
    hub::Hub,
};

/// The task's own.
pub(super) struct Receiver {
    pub(super) shared: Arc<Shared>,
    /// `None` in a program without sessions.
    pub(super) hub: Option<Hub>,
    pub(super) compress_min_bytes: usize,
    /// Whether it was said that something cannot be read.
    pub(super) complained: Cell<bool>,
}

impl Receiver {
    /// Never ends by itself.
    pub(super) async fn run(self) {
        loop {
            let batch = self.shared.inlet.next().await;
            self.take(&batch);
            tokio::task::yield_now().await;
        }
    }

    fn take(&self, batch: &Batch) {
        let mut messages = Vec::with_capacity(batch.messages.len());
        for (slot, bytes) in &batch.messages {
            match wire::decode(bytes) {
                Ok(message) => messages.push((*slot, message)),
                Err(refused) => {
                    self.shared.counters.malformed.add(1);
                    if !self.complained.replace(true) {
                        tracing::warn!("{refused} came by NATS and was dropped; further ones are only counted");
                    }
                }
            }
        }
        messages.sort_by_key(|(_, message)| (message.origin, message.number));
        for (slot, message) in &messages {
            if message.origin == self.shared.node {
                self.take_own(*slot, message, batch.is_whole);
            } else {
                self.take_others(message);
            }
        }
    }

    fn take_others(&self, message: &Message<'_>) {
        let delivered = match message.body {
            Body::Probe => return self.note_peer(message.origin),
            Body::Leave => return self.shared.peers.left(message.origin),
            Body::Echo => return,
            Body::Compare => {
                self.shared.trouble("another node has lost its link");
                return;
            }
            Body::Event { data } => self.tell(data),
            body => self.deliver(body),
        };
        self.shared.counters.received.add(1);
        if let Err(Error::Overloaded { .. }) = delivered {
            self.shared.counters.dropped_overloaded.add(1);
            self.shared.trouble("this node is overloaded");
        }
    }

    /// Nodes send probes to all others, so they show who is there.
    fn note_peer(&self, node: u64) {
        if self.shared.peers.heard(node, Instant::now()) {
            tracing::info!("the node {node:016x} is heard again");
            self.shared.trouble("a node is heard again");
        }
    }

    /// What came back to its sender: the rest of its own was delivered when it was sent.
    fn take_own(&self, slot: SlotId, message: &Message<'_>, is_whole: bool) {
        match message.body {
            Body::Echo => {
                if self.shared.echoes.echo_came(message.number, is_whole) {
                    self.shared.signals.wake();
                }
                if !self.shared.echoing.swap(true, Relaxed) {
                    self.shared.report("NATS answers again");
                }
            }
            Body::Probe => self.shared.echoes.probe_came(slot, message.number),
            _ => {}
        }
    }

    fn deliver(&self, body: Body<'_>) -> Result<(), Error> {
        let Some(hub) = &self.hub else { return Ok(()) };
        let frame = |text: &str| hub.encode(text).deflatable(self.compress_min_bytes);
        match body {
            Body::Direct { user_id, text } => hub.to_user(user_id, || frame(text)).map(|_| ()),
            Body::Durable { user_id, seq, rev, text } => {
                hub.publish([DurableFrame { user_id, seq, rev, frame: frame(text) }]).map(|_| ())
            }
            Body::Read { user_id, rev, text } => {
                hub.publish_read([ReadFrame { user_id, rev, frame: frame(text) }]).map(|_| ())
            }
            Body::Head { user_id, head } => hub.announce_heads([(user_id, head)]),
            Body::Audience { audience, text } => hub.to_audience(audience, &frame(text)).map(|_| ()),
            Body::Send { connection_id, text } => hub.to_connection(connection_id, frame(text)).map(|_| ()),
            Body::Close { connection_id, code } => match CloseReason::from_code(code) {
                Some(reason) => hub.disconnect(connection_id, reason).map(|_| ()),
                None => Ok(()),
            },
            Body::Echo | Body::Probe | Body::Compare | Body::Leave | Body::Event { .. } => Ok(()),
        }
    }

    fn tell(&self, data: &[u8]) -> Result<(), Error> {
        let event = Event::App { data: Bytes::copy_from_slice(data) };
        if self.shared.events.offer(event) {
            Ok(())
        } else {
            Err(Error::Overloaded { limit: crate::events::MAX_FRAME_BYTES })
        }
    }
}
