//! The descriptor as the kernel promises it (eventfd(2)): a count that is readable while it is not zero.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use loom::sync::Condvar;

use crate::locks::Mutex;

#[derive(Debug)]
pub(crate) struct Wake {
    count: Mutex<u64>,
    readable: Condvar,
}

impl Wake {
    // The core's opens a descriptor, which may fail.
    #[allow(clippy::unnecessary_wraps, reason = "the interface of the core's")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { count: Mutex::default(), readable: Condvar::new() })
    }

    pub(crate) fn wake(&self) {
        *self.count.lock() += 1;
        self.readable.notify_all();
    }

    pub(crate) fn clear(&self) {
        *self.count.lock() = 0;
    }

    /// Waits for as long as it takes: who waits for ever was not woken.
    pub(crate) fn wait(&self, _timeout_ms: u16) -> bool {
        let mut count = self.count.lock();
        while *count == 0 {
            count = self.readable.wait(count).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        true
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        -1
    }
}
