//! What the included modules need of the core's tokens.

/// In which role a user acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// May do everything.
    Admin,
    /// Everybody else.
    Client,
}

/// One session of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId;
