//! Who listens on the public port beside us. A successor may, so that it lets clients in before we are done.
//!
//! Linux tells it in `/proc/net/tcp`, where listening sockets come first (proc(5)). Elsewhere nobody can.

use std::{
    fs::{File, metadata},
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
};

/// `TCP_LISTEN` of the kernel.
const LISTENING: &str = "0A";

/// The listening socket of a server, as the system names it.
#[derive(Debug)]
pub(crate) struct OwnListener {
    table: &'static str,
    inode: u64,
}

impl OwnListener {
    /// `None` where the system does not tell.
    pub(crate) fn of(listener: &TcpListener) -> Option<Self> {
        let table = match listener.local_addr().ok()? {
            SocketAddr::V4(_) => "/proc/net/tcp",
            SocketAddr::V6(_) => "/proc/net/tcp6",
        };
        let inode = metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).ok()?.ino();
        Some(Self { table, inode })
    }

    /// Whether another socket listens on the same address and port; false once our own is closed.
    pub(crate) fn is_shared(&self) -> bool {
        File::open(self.table).is_ok_and(|table| is_shared(BufReader::new(table), self.inode))
    }
}

/// Reads the table as far as the listening sockets go, behind which there may be very many others.
fn is_shared(table: impl BufRead, inode: u64) -> bool {
    let listening = table.lines().skip(1).map_while(Result::ok).map_while(|line| {
        let mut fields = line.split_ascii_whitespace();
        let address = fields.nth(1)?.to_owned();
        let state = fields.nth(1)?;
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        (state == LISTENING).then_some((address, inode))
    });
    let listening: Vec<(String, u64)> = listening.collect();
    let own = listening.iter().find(|(_, other)| *other == inode);
    own.is_some_and(|(address, _)| listening.iter().filter(|(other, _)| other == address).count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, listener::bind, test_support::bound_to_a_port};

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0000000000000000 100 0 0 10 0
   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0000000000000000 100 0 0 10 0
   3: 00000000:1F40 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0000000000000000 20 4 30 10 -1
   4: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn another_on_the_same_address_is_seen() {
        let found = [11, 12, 13, 14, 15, 16].map(|inode| is_shared(TABLE.as_bytes(), inode));
        assert_eq!(found, [true, false, true, false, false, false], "behind the listening ones nothing is looked at");
        assert!(!is_shared(&b""[..], 11) && !is_shared(&b"a\nb c\n"[..], 11));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_successor_is_seen_while_it_listens() {
        let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
        for host in ["127.0.0.1", "::1"].into_iter().take(if has_ipv6 { 2 } else { 1 }) {
            let (config, first) = bound_to_a_port(host);
            let own = OwnListener::of(&first).unwrap();
            assert!(!own.is_shared());
            let second = bind(&Config { take_over: true, ..config }).unwrap();
            assert!(own.is_shared() && OwnListener::of(&second).unwrap().is_shared());
            drop(second);
            assert!(!own.is_shared());
        }
    }
}
