//! Who may open a socket: the check of a connection token.

use std::sync::Arc;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs the platform.
    Admin,
    /// Owns projects.
    Client,
}

impl Role {
    /// The role as tokens, the database and frames spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Client => "client",
        }
    }

    /// The role of that spelling, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "admin" => Some(Self::Admin),
            "client" => Some(Self::Client),
            _ => None,
        }
    }
}

/// Whom a valid token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: the user's id.
    pub user_id: Arc<str>,
    /// `role`.
    pub role: Role,
    /// `name`, empty where the token has none.
    pub name: Arc<str>,
    /// `session_exp`: Unix time in seconds at which the session behind the token ends.
    pub session_expires_at: Option<u64>,
}
