//! The allocator of the extension.

use std::ffi::{c_int, c_long};

use mimalloc::MiMalloc;

/// A storm of handshakes leaves memory behind in pieces that the C library's allocator does not give back; this one does.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` in the `mimalloc.h` of libmimalloc-sys 0.1.49, which does not bind it.
const PURGE_DELAY: c_int = 15;

/// Milliseconds. At once would be a system call for each page that falls free, and each stops the other threads.
const GIVEN_BACK_AFTER: c_long = 10;

/// Has memory that nothing uses given back to the system soon, and not after a second: by then a server whose storm is
/// over allocates nothing, which is when the allocator would look at its clock, and keeps it.
#[expect(unsafe_code, reason = "the allocator's options are set in no other way")]
pub(super) fn give_back_soon() {
    // SAFETY: it stores a number, as any thread may at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, GIVEN_BACK_AFTER) }
}
