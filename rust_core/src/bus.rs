//! Everything that is published, to the connections of this node and to the other nodes.
//!
//! Without a cluster each call is the hub's, after one look. With one, room for what is to leave is asked for first, so
//! that a call that is refused has reached nobody; then this node's connections get it, then it is put in line for the
//! others. A thread's calls keep their order on every node. Counts are those of this node.

use std::time::Duration;

use crate::{
    close::CloseReason,
    cluster::{Cluster, ClusterStats, Outgoing},
    command::{Audience, DurableFrame, ReadFrame},
    error::Error,
    frame::Frame,
    hub::Hub,
};

/// The handle.
#[derive(Debug, Clone)]
pub struct Bus {
    /// `None` in a program without connections.
    hub: Option<Hub>,
    cluster: Option<Cluster>,
}

impl Bus {
    /// To the connections of `hub`, and to other nodes where there is a cluster.
    pub(crate) fn new(hub: Hub, cluster: Option<Cluster>) -> Self {
        Self { hub: Some(hub), cluster }
    }

    /// To other nodes alone.
    pub(crate) fn remote(cluster: Cluster) -> Self {
        Self { hub: None, cluster: Some(cluster) }
    }

    /// Encodes a message, to be published once or often.
    #[must_use]
    pub fn encode(&self, payload: &str) -> Frame {
        self.hub.as_ref().map_or_else(|| Frame::text(payload), |hub| hub.encode(payload))
    }

    /// To every connection of a user; `frame` makes the frame, where there is somebody to send to.
    pub fn to_user(&self, user_id: &str, frame: impl FnOnce() -> Frame) -> Result<usize, Error> {
        let Some(cluster) = &self.cluster else { return self.here(|hub| hub.to_user(user_id, frame)) };
        let frame = frame();
        self.everywhere(cluster, cluster.to_users([(user_id, &frame)]), |hub| hub.to_user(user_id, || frame))
    }

    /// To every connection of several users, each with a frame of its own.
    pub fn to_many<'a>(&self, items: impl IntoIterator<Item = (&'a str, Frame)>) -> Result<usize, Error> {
        let Some(cluster) = &self.cluster else { return self.here(|hub| hub.to_many(items)) };
        let items: Vec<_> = items.into_iter().collect();
        let outgoing = cluster.to_users(items.iter().map(|(user_id, frame)| (*user_id, frame)));
        self.everywhere(cluster, outgoing, |hub| hub.to_many(items))
    }

    /// To every connection of an audience.
    pub fn to_audience(&self, audience: Audience, frame: &Frame) -> Result<usize, Error> {
        let Some(cluster) = &self.cluster else { return self.here(|hub| hub.to_audience(audience, frame)) };
        let outgoing = cluster.to_audience(audience, frame);
        self.everywhere(cluster, outgoing, |hub| hub.to_audience(audience, frame))
    }

    /// To one connection, of whichever node: 1 where it is open here or was handed to its node, else 0.
    pub fn to_connection(&self, connection_id: &str, frame: &Frame) -> Result<usize, Error> {
        let count = self.here(|hub| hub.to_connection(connection_id, frame.clone()))?;
        match &self.cluster {
            Some(cluster) if count == 0 => {
                cluster.check_room()?;
                Ok(usize::from(cluster.put(cluster.to_connection(connection_id, frame))))
            }
            _ => Ok(count),
        }
    }

    /// Closes a connection, of whichever node: true where it is open here or was handed to its node.
    pub fn disconnect(&self, connection_id: &str, reason: CloseReason) -> Result<bool, Error> {
        let code = reason.code();
        let is_here = self.here(|hub| hub.disconnect(connection_id, reason))?;
        let there = |cluster: &Cluster| cluster.put(cluster.disconnect(connection_id, code));
        Ok(is_here || self.cluster.as_ref().is_some_and(there))
    }

    /// Durable frames: each session gets those of its user in order, each once.
    pub fn publish<'a>(&self, items: impl IntoIterator<Item = DurableFrame<&'a str>>) -> Result<usize, Error> {
        let Some(cluster) = &self.cluster else { return self.here(|hub| hub.publish(items)) };
        let items: Vec<_> = items.into_iter().collect();
        self.everywhere(cluster, cluster.to_durable(&items), |hub| hub.publish(items))
    }

    /// Changed unread counts.
    pub fn publish_read<'a>(&self, items: impl IntoIterator<Item = ReadFrame<&'a str>>) -> Result<usize, Error> {
        let Some(cluster) = &self.cluster else { return self.here(|hub| hub.publish_read(items)) };
        let items: Vec<_> = items.into_iter().collect();
        self.everywhere(cluster, cluster.to_read(&items), |hub| hub.publish_read(items))
    }

    /// The heads of users' sequences as committed: sessions that are behind ask for what they lack.
    pub fn announce_heads<'a>(&self, items: impl IntoIterator<Item = (&'a str, u64)>) -> Result<(), Error> {
        let Some(cluster) = &self.cluster else { return self.here(|hub| hub.announce_heads(items)) };
        let items: Vec<_> = items.into_iter().collect();
        self.everywhere(cluster, cluster.to_heads(&items), |hub| hub.announce_heads(items))
    }

    /// For one of the programs that listen to events; false where nobody can be reached.
    pub fn tell(&self, data: &[u8]) -> Result<bool, Error> {
        let Some(cluster) = &self.cluster else { return Ok(false) };
        cluster.check_room()?;
        Ok(cluster.put(cluster.tell(data)))
    }

    /// As [`Cluster::fence`]; without a cluster there is nothing to wait for.
    #[must_use]
    pub fn fence(&self, timeout: Duration) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.fence(timeout))
    }

    /// How things stand with the other nodes; `None` where there are none.
    #[must_use]
    pub fn cluster_stats(&self) -> Option<ClusterStats> {
        self.cluster.as_ref().map(Cluster::stats)
    }

    fn here<N: Default>(&self, act: impl FnOnce(&Hub) -> Result<N, Error>) -> Result<N, Error> {
        self.hub.as_ref().map_or_else(|| Ok(N::default()), act)
    }

    fn everywhere<N: Default>(
        &self,
        cluster: &Cluster,
        outgoing: Outgoing,
        act: impl FnOnce(&Hub) -> Result<N, Error>,
    ) -> Result<N, Error> {
        cluster.check_room()?;
        let outcome = self.here(act)?;
        cluster.put(outgoing);
        Ok(outcome)
    }
}
