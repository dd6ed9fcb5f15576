//! A file descriptor that becomes readable when another thread says so: how an event loop is woken without its locks.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// The waking side and the descriptor to wait on, in one: an eventfd.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

#[cfg(target_os = "linux")]
impl Wake {
    /// Opens a non-blocking descriptor that is closed on exec.
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Makes the descriptor readable. It stays so until [`Self::clear`].
    pub(crate) fn wake(&self) {
        // EAGAIN: the count is at its top, so the descriptor is readable anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

#[cfg(target_os = "linux")]
impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The waking side and the descriptor to wait on: a socket pair, where there is no eventfd.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct Wake {
    reader: OwnedFd,
    writer: OwnedFd,
}

#[cfg(not(target_os = "linux"))]
impl Wake {
    /// Opens a non-blocking pair that is closed on exec.
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader: reader.into(), writer: writer.into() })
    }

    /// Makes the descriptor readable. It stays so until [`Self::clear`].
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.writer, &[1]);
    }

    /// Makes the descriptor unreadable.
    pub(crate) fn clear(&self) {
        while matches!(rustix::io::read(&self.reader, &mut [0; 64]), Ok(1..)) {}
    }
}

#[cfg(not(target_os = "linux"))]
impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}

impl Wake {
    /// Waits until the descriptor is readable or `timeout_ms` have gone; says whether it is.
    pub(crate) fn wait(&self, timeout_ms: u16) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        #[cfg(target_os = "linux")]
        let descriptor = &self.0;
        #[cfg(not(target_os = "linux"))]
        let descriptor = &self.reader;
        let timeout =
            Timespec { tv_sec: i64::from(timeout_ms / 1000), tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000 };
        matches!(poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&timeout)), Ok(1..))
    }
}
