//! What must hold of bytes that strangers send, whatever they are.
//!
//! Each module has a function `check` that takes any bytes and panics where something does not hold. Coverage-guided fuzzers
//! look for such bytes (`make fuzz`); what they have collected so far, under `corpus`, is run through the same functions by
//! the tests.
//!
//! - [`mod@frame`]: a client's stream after the handshake, as messages;
//! - [`inflate`]: a compressed message, and what is made of it;
//! - [`token`]: a connection token;
//! - [`head`]: the head of an HTTP request: handshake, origin, forwarding.

#![allow(clippy::missing_panics_doc, reason = "every function here panics where something does not hold")]

pub mod frame;
pub mod head;
pub mod inflate;
pub mod token;
