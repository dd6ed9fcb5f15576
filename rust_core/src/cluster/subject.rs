//! The NATS subjects. Who shares a NATS system with others keeps apart from them by NATS accounts, not by names.

use std::fmt::Write as _;

use async_nats::Subject;
use sha2::{Digest as _, Sha256};

use crate::{command::Audience, token::Role};

/// What is for every connection.
pub(super) const ALL: &str = "jasaweb_rt.all";
/// What is for the connections of administrators.
pub(super) const ADMINS: &str = "jasaweb_rt.role.admin";
/// What is for the connections of clients.
pub(super) const CLIENTS: &str = "jasaweb_rt.role.client";
/// What nodes tell all others.
pub(super) const CONTROL: &str = "jasaweb_rt.control";
/// What is for one of the programs that listen to events, whichever.
pub(super) const EVENTS: &str = "jasaweb_rt.events";
/// The queue group of those programs: NATS hands each message to one of them.
pub(super) const EVENTS_GROUP: &str = "app";

/// Bytes of the hash that stand for a user. A subject token must hold no dot and no space, which an id may.
const HASH_BYTES: usize = 16;

/// What is for one user's connections.
pub(super) fn user(user_id: &str) -> Subject {
    let hash = Sha256::digest(user_id.as_bytes());
    let mut subject = String::with_capacity("jasaweb_rt.user.".len() + 2 * HASH_BYTES);
    subject.push_str("jasaweb_rt.user.");
    for byte in &hash[..HASH_BYTES] {
        // Writing to a String cannot fail.
        let _ = write!(subject, "{byte:02x}");
    }
    subject.into()
}

/// What is for one node: for its connections, and its own echo.
pub(super) fn node(id: u64) -> Subject {
    format!("jasaweb_rt.node.{id:016x}").into()
}

/// What is for an audience.
pub(super) const fn audience(audience: Audience) -> &'static str {
    match audience {
        Audience::All => ALL,
        Audience::Role(Role::Admin) => ADMINS,
        Audience::Role(Role::Client) => CLIENTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_subject_is_half_of_the_hash_of_the_id() {
        assert_eq!(user("abc").as_str(), "jasaweb_rt.user.ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(user("two words.and a dot > *").split('.').count(), 3);
    }

    #[test]
    fn a_node_is_named_as_in_its_connection_ids() {
        assert_eq!(node(0xAB).as_str(), "jasaweb_rt.node.00000000000000ab");
    }
}
