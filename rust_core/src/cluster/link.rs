//! The link to NATS: one task that sends what is in the outbox, subscribes and lets go, probes, and mends.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::SyncSender},
};

use async_nats::{Client, PublishErrorKind, Subject, connection::State};
use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Duration, Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    inlet::SlotId,
    interest::{Interest, Topic},
    options::ClusterOptions,
    outbox::Item,
    subject,
    wire::{self, Body},
};
use crate::hub::Hub;

/// How often users who left are looked through, and trouble is told.
const TICK: Duration = Duration::from_millis(250);

/// Ticks between two rounds of probes.
const TICKS_A_ROUND: u32 = 8;

/// Own echoes that may be out when the next one leaves; with so many the node is not ready.
const MISSED_UNREADY: u32 = 2;

/// With so many the link is made anew. NATS' own pings have had the time to find a dead one.
const MISSED_UNLINK: u32 = 3;

/// Bytes that async-nats, which counts messages, may hold for the socket; the rest waits in the outbox, which counts bytes.
const UNFLUSHED_BYTES: usize = 1024 * 1024;

/// How long it may take to hand over the wish for another link.
const UNLINK_TIMEOUT: Duration = Duration::from_secs(1);

/// The task.
pub(super) struct Link {
    shared: Arc<Shared>,
    hub: Option<Hub>,
    client: Client,
    up: watch::Receiver<bool>,
    interest: Interest,
    /// What is to be subscribed to once there is a link.
    wanted: VecDeque<Topic>,
    number: u64,
    links: u64,
    /// Bytes that were handed over since it was known that the socket had taken them.
    unflushed: usize,
}

/// The link was lost before something was handed over.
struct Unlinked;

impl Link {
    /// Sets out to reach NATS; it goes on trying.
    pub(super) async fn open(
        shared: Arc<Shared>,
        hub: Option<Hub>,
        options: &ClusterOptions,
    ) -> Result<Self, async_nats::ConnectError> {
        let name = format!("jasaweb_rt {:016x}", shared.node);
        let heard = Arc::clone(&shared);
        let client = options
            .connect_options(&name)
            .event_callback(move |event| {
                heard.signals.note(&event);
                std::future::ready(())
            })
            .connect(options.servers())
            .await?;
        let mut wanted = VecDeque::from([Topic::Own(shared.node)]);
        if hub.is_some() {
            wanted.extend([subject::CONTROL, subject::ALL, subject::ADMINS, subject::CLIENTS].map(Topic::Common));
        }
        let (up, interest) = (shared.signals.up(), Interest::default());
        Ok(Self { shared, hub, client, up, interest, wanted, number: 0, links: 0, unflushed: 0 })
    }

    /// Serves until `stop`; then sends what still waits, within the time that the caller gives it.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        while !stop.is_cancelled() {
            tokio::select! {
                // However much waits to leave, trouble is told and probes are sent between two turns of it.
                biased;
                () = stop.cancelled() => {}
                () = shared.signals.wait() => self.heed_signals().await,
                _ = tick.tick() => {
                    self.watch_over();
                    ticks += 1;
                    if ticks % TICKS_A_ROUND == 0 {
                        self.probe().await;
                    }
                }
                items = shared.outbox.take() => self.handle(items).await,
            }
        }
        loop {
            let rest = shared.outbox.take_now();
            if rest.is_empty() {
                break;
            }
            self.handle(rest).await;
        }
        if self.is_up() {
            // Where any of this fails, nobody is left to hear it.
            let _ = self.say(Subject::from_static(subject::CONTROL), Body::Leave).await;
            let _ = self.client.flush().await;
            // Ends all subscriptions at once; the flush returns when there is no connection any more.
            let _ = self.client.drain().await;
            let _ = self.client.flush().await;
        }
        shared.linked.store(false, Relaxed);
        shared.echoes.lose();
        shared.inlet.clear();
    }

    fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    async fn handle(&mut self, items: VecDeque<Item>) {
        for item in items {
            let cost = item.cost();
            match item {
                Item::Publish(subject, payload) => {
                    let outcome = self.publish(subject, payload).await;
                    let counters = &self.shared.counters;
                    let count = match outcome {
                        Ok(true) => &counters.published,
                        Ok(false) => &counters.dropped_too_large,
                        Err(Unlinked) => &counters.dropped_unlinked,
                    };
                    count.add(1);
                }
                Item::Interest(user_id) => self.heed_user(user_id).await,
                Item::Fence(asker) => self.fence(asker).await,
                Item::Listen => self.want(Topic::Events).await,
            }
            self.shared.outbox.done(cost);
        }
    }

    /// Sends; false where NATS would never take it.
    async fn publish(&mut self, subject: Subject, mut payload: Vec<u8>) -> Result<bool, Unlinked> {
        self.number += 1;
        wire::set_number(&mut payload, self.number);
        let length = payload.len();
        let client = &self.client;
        match while_up(&mut self.up, client.publish(subject, Bytes::from(payload))).await? {
            Ok(()) => {
                self.unflushed += length;
                if self.unflushed > UNFLUSHED_BYTES {
                    self.unflushed = 0;
                    while_up(&mut self.up, client.flush()).await?.map_err(|_| Unlinked)?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let limit = client.max_payload();
                tracing::warn!("a message of {length} bytes reaches no other node: NATS takes {limit} (max_payload)");
                Ok(false)
            }
            Err(_) => Err(Unlinked),
        }
    }

    /// Sends something of ours, which is not counted.
    async fn say(&mut self, subject: Subject, body: Body<'_>) -> Result<(), Unlinked> {
        let payload = body.encode(self.shared.node);
        self.publish(subject, payload).await.map(|_| ())
    }

    async fn fence(&mut self, asker: SyncSender<bool>) {
        self.shared.echoes.fence_leaves(self.number + 1, asker);
        if self.say(subject::node(self.shared.node), Body::Echo).await.is_err() {
            self.shared.echoes.lose();
        }
    }

    async fn heed_user(&mut self, user_id: Arc<str>) {
        if self.hub.as_ref().is_some_and(|hub| hub.has_user(&user_id)) {
            if self.interest.came(&user_id) {
                self.shared.counters.subscribed.add(1);
                self.want(Topic::User(user_id)).await;
            }
        } else {
            self.interest.left(&user_id, Instant::now());
        }
        self.shared.subscriptions.store(self.interest.users(), Relaxed);
    }

    /// Subscribes, now or once there is a link.
    async fn want(&mut self, topic: Topic) {
        if let Err(topic) = self.subscribe(topic).await {
            self.want_later(topic);
        }
    }

    /// Users are not remembered here: who of them is still unheard is known when there is a link.
    fn want_later(&mut self, topic: Topic) {
        if !matches!(topic, Topic::User(_)) {
            self.wanted.push_back(topic);
        }
    }

    /// What had to wait for a link.
    async fn subscribe_wanted(&mut self) {
        let mut topics = mem::take(&mut self.wanted);
        topics.extend(self.interest.unheard());
        while let Some(topic) = topics.pop_front() {
            if self.interest.wants(&topic)
                && let Err(topic) = self.subscribe(topic).await
            {
                self.want_later(topic);
                for later in topics {
                    self.want_later(later);
                }
                return;
            }
        }
    }

    /// Subscribes; gives the topic back where there is no link.
    async fn subscribe(&mut self, topic: Topic) -> Result<SlotId, Topic> {
        let client = &self.client;
        let subscribing = async {
            match topic {
                Topic::Events => client.queue_subscribe(topic.subject(), subject::EVENTS_GROUP.to_owned()).await,
                _ => client.subscribe(topic.subject()).await,
            }
        };
        let Ok(Ok(subscriber)) = while_up(&mut self.up, subscribing).await else { return Err(topic) };
        let slot = self.shared.inlet.add(subscriber);
        self.interest.subscribed(slot, topic);
        Ok(slot)
    }

    fn end(&mut self, slot: SlotId) {
        self.shared.inlet.remove(slot);
        self.shared.echoes.forget(slot);
    }

    /// What async-nats has told since the last time.
    async fn heed_signals(&mut self) {
        let links = self.shared.signals.links();
        if links != self.links || !self.is_up() {
            self.lose();
        }
        // Told late, the end of an earlier link passes for that of this one.
        if self.is_up() && !self.shared.linked.load(Relaxed) {
            let first = self.links == 0;
            self.shared.counters.links.add(links - self.links);
            self.links = links;
            self.shared.echoing.store(true, Relaxed);
            self.shared.peers.excuse(Instant::now().into_std());
            self.subscribe_wanted().await;
            self.shared.linked.store(true, Relaxed);
            let server = self.client.server_info();
            tracing::info!("linked to the NATS server {} at {}:{}", server.server_name, server.host, server.port);
            self.shared.report(if first { "linked" } else { "the link is back" });
            if !first {
                // What was on its way when the link was lost has not arrived, and nobody else can know.
                let _ = self.say(Subject::from_static(subject::CONTROL), Body::Compare).await;
            }
        }
        if let Some(error) = self.shared.signals.take_error() {
            tracing::warn!("cannot reach NATS: {error}; trying again");
            self.shared.report(&error);
        }
        let slow_consumers = self.shared.signals.take_slow_consumers();
        if slow_consumers > 0 {
            self.shared.counters.slow_consumers.add(slow_consumers);
            self.shared.trouble("messages came faster than they were read");
        }
        if let Some(trouble) = self.shared.signals.take_trouble() {
            tracing::warn!("the NATS server says: {trouble}");
            self.shared.trouble(&trouble);
        }
        self.renew_silent().await;
    }

    /// Makes subscriptions anew that have shown themselves silent.
    async fn renew_silent(&mut self) {
        let silent = self.shared.echoes.take_silent();
        let topics: Vec<Topic> = silent
            .into_iter()
            .filter_map(|slot| {
                self.end(slot);
                self.interest.ended(slot)
            })
            .collect();
        let Some(first) = topics.first() else { return };
        tracing::warn!(
            "{} subscriptions were silent and are made anew, that to {} first",
            topics.len(),
            first.subject()
        );
        self.shared.counters.silenced.add(topics.len() as u64);
        self.shared.trouble("a subscription was silent");
        for topic in topics {
            match self.subscribe(topic).await {
                Ok(slot) => self.shared.echoes.suspect(slot),
                Err(topic) => self.want_later(topic),
            }
        }
    }

    /// Nothing that is on its way will arrive.
    fn lose(&self) {
        self.shared.echoes.lose();
        if self.shared.linked.swap(false, Relaxed) {
            tracing::warn!("the link to NATS is lost");
            self.shared.report("the link is lost");
        }
    }

    fn watch_over(&mut self) {
        let connects = self.client.statistics().connects.load(Relaxed);
        self.shared.signals.check(self.client.connection_state() == State::Connected, connects);
        let now = Instant::now();
        while let Some(gone) = self.interest.let_go(now) {
            self.shared.counters.unsubscribed.add(1);
            if let Some(slot) = gone.slot {
                self.end(slot);
            }
        }
        self.shared.subscriptions.store(self.interest.users(), Relaxed);
        if self.is_up() {
            for node in self.shared.peers.fallen_silent(now.into_std()) {
                tracing::warn!("the node {node:016x} is not heard any more");
                self.shared.trouble("a node is not heard any more");
            }
        }
        self.shared.tell_trouble();
    }

    /// Sends probes by the subscriptions whose turn it is, and an echo behind them.
    async fn probe(&mut self) {
        if !self.is_up() {
            return;
        }
        let missed = self.shared.echoes.echo_leaves();
        if missed >= MISSED_UNREADY && self.shared.echoing.swap(false, Relaxed) {
            self.shared.report("NATS does not answer");
        }
        if missed >= MISSED_UNLINK {
            tracing::warn!("NATS has not answered {missed} times: making the link anew");
            let _ = timeout(UNLINK_TIMEOUT, self.client.force_reconnect()).await;
            return;
        }
        for (slot, subject) in self.interest.round(&self.shared.echoes.suspects()) {
            self.shared.echoes.probe_leaves(slot, self.number + 1);
            if self.say(subject, Body::Probe).await.is_err() {
                return;
            }
        }
        // Where it cannot leave, the link is lost, and that is told elsewhere.
        let _ = self.say(subject::node(self.shared.node), Body::Echo).await;
    }
}

/// Awaits what needs the link, for as long as there is one.
async fn while_up<T>(up: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Result<T, Unlinked> {
    if !*up.borrow_and_update() {
        return Err(Unlinked);
    }
    tokio::select! {
        biased;
        done = work => Ok(done),
        _ = up.wait_for(|up| !up) => Err(Unlinked),
    }
}
