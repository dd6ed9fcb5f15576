//! Whom this node hears: which subscription is for what, who is about to be let go, and whose turn it is to be probed.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use async_nats::Subject;
use tokio::time::{Duration, Instant};

use super::{inlet::SlotId, subject};

/// How long a user is heard after the last connection has gone: who reloads a page is back by then.
const LINGER: Duration = Duration::from_secs(2);

/// Parts of the users that are probed together: one at each round, so that each user's turn comes in some five minutes.
const PROBE_PARTS: usize = 150;

/// Users that are probed at each round, where there are as many.
const PROBE_LEAST: usize = 16;

/// What a subscription is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topic {
    /// A user's frames.
    User(Arc<str>),
    /// What is for this node alone, its echo among it.
    Own(u64),
    /// What is for all nodes alike.
    Common(&'static str),
    /// What nodes tell programs.
    Events,
}

impl Topic {
    pub(super) fn subject(&self) -> Subject {
        match self {
            Self::User(user_id) => subject::user(user_id),
            Self::Own(node) => subject::node(*node),
            Self::Common(subject) => Subject::from_static(subject),
            Self::Events => Subject::from_static(subject::EVENTS),
        }
    }

    /// Whether what is sent there comes back here for certain: not so where one of several gets it, and the echo of the
    /// node's own subject is what the probes are measured by.
    const fn is_probed(&self) -> bool {
        matches!(self, Self::User(_) | Self::Common(_))
    }
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Interest {
    topics: BTreeMap<SlotId, Topic>,
    users: HashMap<Arc<str>, User>,
    leaving: VecDeque<(Instant, Arc<str>)>,
    last_probed: SlotId,
    control: Option<SlotId>,
}

#[derive(Debug, Default)]
struct User {
    /// `None` while there is no subscription yet.
    slot: Option<SlotId>,
    left_at: Option<Instant>,
    /// Whether the user stands in `leaving`.
    is_leaving: bool,
}

/// A user who is not heard any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    /// The subscription to end; `None`: there never was a link to make it.
    pub(super) slot: Option<SlotId>,
}

impl Interest {
    /// Users that are heard, or will be once there is a link.
    pub(super) fn users(&self) -> usize {
        self.users.len()
    }

    /// A user is here; true where that is news.
    pub(super) fn came(&mut self, user_id: &Arc<str>) -> bool {
        if let Some(user) = self.users.get_mut(user_id) {
            user.left_at = None;
            return false;
        }
        self.users.insert(Arc::clone(user_id), User::default());
        true
    }

    /// A user is not here any more.
    pub(super) fn left(&mut self, user_id: &Arc<str>, now: Instant) {
        let Some(user) = self.users.get_mut(user_id) else { return };
        user.left_at = Some(now);
        if !user.is_leaving {
            user.is_leaving = true;
            self.leaving.push_back((now + LINGER, Arc::clone(user_id)));
        }
    }

    /// Whether a subscription to it is still wanted.
    pub(super) fn wants(&self, topic: &Topic) -> bool {
        match topic {
            // One that stands already would double what comes.
            Topic::User(user_id) => self.users.get(user_id).is_some_and(|user| user.slot.is_none()),
            _ => true,
        }
    }

    /// Users who are here and have no subscription.
    pub(super) fn unheard(&self) -> Vec<Topic> {
        let unheard = self.users.iter().filter(|(_, user)| user.slot.is_none());
        unheard.map(|(user_id, _)| Topic::User(Arc::clone(user_id))).collect()
    }

    /// A subscription was made.
    pub(super) fn subscribed(&mut self, slot: SlotId, topic: Topic) {
        if let Topic::User(user_id) = &topic
            && let Some(user) = self.users.get_mut(user_id)
        {
            user.slot = Some(slot);
        }
        if topic == Topic::Common(subject::CONTROL) {
            self.control = Some(slot);
        }
        self.topics.insert(slot, topic);
    }

    /// A subscription has ended; what it was for.
    pub(super) fn ended(&mut self, slot: SlotId) -> Option<Topic> {
        let topic = self.topics.remove(&slot)?;
        if let Topic::User(user_id) = &topic
            && let Some(user) = self.users.get_mut(user_id)
        {
            user.slot = None;
        }
        Some(topic)
    }

    /// The next user who has been away for long enough.
    pub(super) fn let_go(&mut self, now: Instant) -> Option<Gone> {
        while self.leaving.front().is_some_and(|(due, _)| *due <= now) {
            let (_, user_id) = self.leaving.pop_front()?;
            let Some(user) = self.users.get_mut(&user_id) else { continue };
            match user.left_at {
                // Came back meanwhile.
                None => user.is_leaving = false,
                // Came back and left again.
                Some(left_at) if left_at + LINGER > now => self.leaving.push_back((left_at + LINGER, user_id)),
                Some(_) => {
                    let slot = user.slot;
                    self.users.remove(&user_id);
                    if let Some(slot) = slot {
                        self.topics.remove(&slot);
                    }
                    return Some(Gone { slot });
                }
            }
        }
        None
    }

    /// What is to be probed in this round: the next in turn, these, which have been silent, and always what tells the
    /// other nodes that this one is there.
    pub(super) fn round(&mut self, suspects: &[SlotId]) -> Vec<(SlotId, Subject)> {
        let count = PROBE_LEAST.max(self.topics.len() / PROBE_PARTS).min(self.topics.len());
        let after = self.topics.range((Excluded(self.last_probed), Unbounded));
        let turn: Vec<SlotId> =
            after.chain(self.topics.range(..=self.last_probed)).map(|(slot, _)| *slot).take(count).collect();
        self.last_probed = turn.last().copied().unwrap_or_default();
        let extra = suspects.iter().chain(&self.control).filter(|slot| !turn.contains(slot));
        turn.iter()
            .chain(extra)
            .filter_map(|slot| {
                let topic = self.topics.get(slot).filter(|topic| topic.is_probed())?;
                Some((*slot, topic.subject()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(interest: &mut Interest, name: &str, slot: SlotId) -> Arc<str> {
        let user_id: Arc<str> = name.into();
        assert!(interest.came(&user_id));
        interest.subscribed(slot, Topic::User(Arc::clone(&user_id)));
        user_id
    }

    #[test]
    fn a_user_is_let_go_two_seconds_after_the_last_leave() {
        let (mut interest, start) = (Interest::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let anna = heard(&mut interest, "anna", 1);
        interest.left(&anna, at(0));
        assert!(!interest.came(&anna));
        interest.left(&anna, at(1500));
        assert_eq!(interest.let_go(at(2000)), None);
        assert_eq!(interest.let_go(at(3499)), None);
        assert_eq!(interest.let_go(at(3500)), Some(Gone { slot: Some(1) }));
        assert_eq!((interest.users(), interest.let_go(at(9000))), (0, None));
        assert!(interest.came(&anna));
    }

    #[test]
    fn who_comes_and_goes_without_a_link_is_subscribed_once() {
        let (mut interest, start) = (Interest::default(), Instant::now());
        let anna: Arc<str> = "anna".into();
        for turn in 0..3 {
            let now = start + 3 * turn * LINGER;
            assert!(interest.came(&anna));
            if turn < 2 {
                interest.left(&anna, now);
                assert_eq!(interest.let_go(now + LINGER), Some(Gone { slot: None }));
            }
        }
        let topic = Topic::User(Arc::clone(&anna));
        assert_eq!(interest.unheard(), std::slice::from_ref(&topic));
        assert!(interest.wants(&topic));
        interest.subscribed(1, topic.clone());
        assert!(!interest.wants(&topic) && interest.unheard().is_empty());
    }

    #[test]
    fn who_comes_back_is_kept() {
        let (mut interest, start) = (Interest::default(), Instant::now());
        let anna = heard(&mut interest, "anna", 1);
        interest.left(&anna, start);
        interest.came(&anna);
        assert_eq!(interest.let_go(start + LINGER), None);
        interest.left(&anna, start + LINGER);
        assert_eq!(interest.let_go(start + 2 * LINGER), Some(Gone { slot: Some(1) }));
    }

    #[test]
    fn each_has_its_turn_and_what_was_silent_has_it_at_once() {
        let mut interest = Interest::default();
        interest.subscribed(1, Topic::Own(7));
        for slot in 2..=30 {
            heard(&mut interest, &slot.to_string(), slot);
        }
        let mut slots = |suspects: &[SlotId]| -> Vec<SlotId> {
            interest.round(suspects).into_iter().map(|(slot, _)| slot).collect()
        };
        assert_eq!(slots(&[]), (2..=16).collect::<Vec<_>>());
        assert_eq!(slots(&[3, 18]), (17..=30).chain([2, 3]).collect::<Vec<_>>());
    }

    #[test]
    fn other_nodes_are_told_each_time() {
        let mut interest = Interest::default();
        interest.subscribed(1, Topic::Common(subject::CONTROL));
        for slot in 2..=40 {
            heard(&mut interest, &slot.to_string(), slot);
        }
        for _ in 0..5 {
            assert!(interest.round(&[]).iter().any(|(slot, _)| *slot == 1));
        }
    }

    #[test]
    fn an_empty_table_has_nothing_to_probe() {
        assert!(Interest::default().round(&[4]).is_empty());
    }
}
