//! The hub's one shared table: how many connections a user has, and which connections are open.
//!
//! It answers two questions without asking a shard: whether anybody is there to send to, and to how many. A session
//! enters it when its shard registers it and leaves it by dropping its [`Membership`], whatever ends it.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    hash::BuildHasher,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use foldhash::fast::RandomState;

use crate::{
    locks::{AtomicUsize, RwLock},
    token::Role,
};

/// Parts of the table, each with a lock of its own, so that publishers and joins rarely meet.
const PARTS: usize = 64;

type Users = HashMap<Arc<str>, usize, RandomState>;

/// Is told when users come and leave.
pub(crate) trait Watch: std::fmt::Debug + Send + Sync {
    /// A user's first connection was entered, or the last one has left: whichever, [`Index::find`] knows. No lock of the
    /// index is held.
    fn changed(&self, user_id: &Arc<str>);
}

/// Who is connected.
#[derive(Debug)]
pub(crate) struct Index {
    hasher: RandomState,
    users: [RwLock<Users>; PARTS],
    connections: [RwLock<HashSet<u64, RandomState>>; PARTS],
    total: AtomicUsize,
    roles: [AtomicUsize; 2],
    watch: Option<Arc<dyn Watch>>,
}

impl Index {
    pub(crate) fn new(watch: Option<Arc<dyn Watch>>) -> Self {
        Self {
            hasher: RandomState::default(),
            users: std::array::from_fn(|_| RwLock::default()),
            connections: std::array::from_fn(|_| RwLock::default()),
            total: AtomicUsize::new(0),
            roles: Default::default(),
            watch,
        }
    }

    /// A number that stays the same for a user while the process lives: what shards are chosen by.
    pub(crate) fn hash(&self, user_id: &str) -> u64 {
        self.hasher.hash_one(user_id)
    }

    /// The user's shared id and number of connections; `None` where there is none.
    pub(crate) fn find(&self, user_id: &str) -> Option<(Arc<str>, usize)> {
        let users = self.users[self.part(user_id)].read();
        users.get_key_value(user_id).map(|(user_id, count)| (Arc::clone(user_id), *count))
    }

    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.connections[number as usize / 256 % PARTS].read().contains(&number)
    }

    /// Whether the user has a connection.
    pub(crate) fn has(&self, user_id: &str) -> bool {
        self.users[self.part(user_id)].read().contains_key(user_id)
    }

    /// Connections in all.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// Connections whose role is known to be this one.
    pub(crate) fn with_role(&self, role: Role) -> usize {
        self.roles[role as usize].load(Relaxed)
    }

    /// Users with a connection.
    pub(crate) fn users(&self) -> usize {
        self.users.iter().map(|part| part.read().len()).sum()
    }

    /// Enters a connection; it is counted until the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>, user_id: &Arc<str>, number: u64) -> Membership {
        let is_first = {
            let mut users = self.users[self.part(user_id)].write();
            let count = users.entry(Arc::clone(user_id)).or_default();
            *count += 1;
            *count == 1
        };
        if is_first && let Some(watch) = &self.watch {
            watch.changed(user_id);
        }
        self.connections[number as usize / 256 % PARTS].write().insert(number);
        self.total.fetch_add(1, Relaxed);
        Membership { index: Arc::clone(self), user_id: Arc::clone(user_id), number, role: Cell::new(None) }
    }

    fn part(&self, user_id: &str) -> usize {
        // The low bits choose the shard, so that a part is not one shard's alone.
        (self.hash(user_id) >> 32) as usize % PARTS
    }
}

/// One connection's place in the index.
#[derive(Debug)]
pub(crate) struct Membership {
    index: Arc<Index>,
    user_id: Arc<str>,
    number: u64,
    role: Cell<Option<Role>>,
}

impl Membership {
    /// Counts the connection to a role's audience; before that it is in none.
    pub(crate) fn set_role(&self, role: Option<Role>) {
        if let Some(old) = self.role.replace(role) {
            self.index.roles[old as usize].fetch_sub(1, Relaxed);
        }
        if let Some(new) = role {
            self.index.roles[new as usize].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn user_id(&self) -> &Arc<str> {
        &self.user_id
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn role(&self) -> Option<Role> {
        self.role.get()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.set_role(None);
        self.index.total.fetch_sub(1, Relaxed);
        self.index.connections[self.number as usize / 256 % PARTS].write().remove(&self.number);
        let mut users = self.index.users[self.index.part(&self.user_id)].write();
        if let Some(count) = users.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.user_id);
                drop(users);
                if let Some(watch) = &self.index.watch {
                    watch.changed(&self.user_id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_while_one_connection_is() {
        let index = Arc::new(Index::new(None));
        let user: Arc<str> = "user-1".into();
        let first = index.enter(&user, 256);
        let second = index.enter(&user, 512);
        second.set_role(Some(Role::Admin));
        assert_eq!(index.find("user-1").map(|(_, count)| count), Some(2));
        assert_eq!((index.total(), index.users(), index.with_role(Role::Admin)), (2, 1, 1));
        drop(second);
        assert_eq!((index.total(), index.with_role(Role::Admin)), (1, 0));
        assert!(index.is_open(256) && !index.is_open(512));
        drop(first);
        assert!(index.find("user-1").is_none() && !index.has("user-1"));
        assert_eq!(index.users(), 0);
    }

    #[derive(Debug, Default)]
    struct Seen(crate::locks::Mutex<Vec<Arc<str>>>);

    impl Watch for Seen {
        fn changed(&self, user_id: &Arc<str>) {
            self.0.lock().push(Arc::clone(user_id));
        }
    }

    #[test]
    fn the_first_and_the_last_connection_of_a_user_are_told() {
        let seen = Arc::new(Seen::default());
        let index = Arc::new(Index::new(Some(Arc::clone(&seen) as Arc<dyn Watch>)));
        let user: Arc<str> = "user-1".into();
        let connections = [index.enter(&user, 256), index.enter(&user, 512)];
        assert_eq!(seen.0.lock().len(), 1);
        drop(connections);
        assert_eq!(seen.0.lock().len(), 2);
    }
}
