//! The locks and atomics of the modules in which threads meet, under one name each.
//!
//! `rust_core/models` compiles the same modules over another set of them, and runs every order of their steps.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

pub(crate) use parking_lot::{Mutex, RwLock};
