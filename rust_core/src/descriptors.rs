//! How the process's limit of open files is shared out, so that no crowd at the door leaves the rest without.
//!
//! A quarter of it, at most 512, is kept from a crowd of sockets: for requests on their way to the app, each of which
//! takes a descriptor on either side of the app's socket, for the database and files, and for the newcomers that others
//! give way to.

use rustix::process::{Resource, getrlimit};

const MOST_KEPT: u64 = 512;
const KEPT_SHARE: u64 = 4;

/// Of what is kept, the share of the requests is a half, and each needs two.
const REQUESTS_SHARE: u64 = 4;
const FEWEST_REQUESTS: u64 = 4;

/// How much there may be at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Sockets of clients, WebSockets or not, before strangers give way to newcomers.
    pub(crate) sockets: usize,
    /// Requests on their way to the app.
    pub(crate) requests: usize,
}

impl Shares {
    /// By `ulimit -n` as it is now.
    pub(crate) fn of_process() -> Self {
        Self::of(getrlimit(Resource::Nofile).current)
    }

    /// Of so many open files; `None`: without a limit.
    fn of(open_files: Option<u64>) -> Self {
        let kept = open_files.map_or(MOST_KEPT, |open_files| MOST_KEPT.min(open_files / KEPT_SHARE));
        let fitting = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            sockets: open_files.map_or(usize::MAX, |open_files| fitting((open_files - kept).max(1))),
            requests: fitting((kept / REQUESTS_SHARE).max(FEWEST_REQUESTS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_of_every_limit() {
        assert_eq!(Shares::of(None), Shares { sockets: usize::MAX, requests: 128 });
        assert_eq!(Shares::of(Some(20_000)), Shares { sockets: 19_488, requests: 128 });
        assert_eq!(Shares::of(Some(1024)), Shares { sockets: 768, requests: 64 });
        assert_eq!(Shares::of(Some(64)), Shares { sockets: 48, requests: 4 });
        assert_eq!(Shares::of(Some(0)), Shares { sockets: 1, requests: 4 });
    }
}
