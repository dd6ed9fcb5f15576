//! What clients send, handed to the callback of an embedding program.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::{prelude::*, types::PyBytes};

use crate::events::{Event, EventQueue};

/// How long the message thread waits before it looks whether the server has stopped.
const MESSAGE_WAIT_MS: u16 = 200;

/// Client frames handed to the callback at once, at most.
const MESSAGE_BATCH: usize = 1024;

/// Waits for client frames and calls back with them, until the server has stopped or the interpreter is going away.
pub(super) fn call_with_messages(events: &EventQueue, stopped: &AtomicBool, callback: &Py<PyAny>) {
    loop {
        let last = stopped.load(Ordering::Relaxed);
        if events.wait(MESSAGE_WAIT_MS) {
            let batch = events.drain(MESSAGE_BATCH);
            if Python::try_attach(|py| call_back(py, batch, callback)).is_none() {
                return;
            }
        } else if last {
            return;
        }
    }
}

fn call_back(py: Python<'_>, batch: Vec<Event>, callback: &Py<PyAny>) {
    let frames: Vec<_> = batch
        .into_iter()
        .filter_map(|event| match event {
            Event::ClientFrame { connection_id, user_id, role, frame, .. } => {
                Some((connection_id, user_id.to_string(), role.as_str(), PyBytes::new(py, &frame).unbind()))
            }
            _ => None,
        })
        .collect();
    if !frames.is_empty()
        && let Err(error) = callback.call1(py, (frames,))
    {
        // As `threading` does it: the program sees the traceback, the next batch still comes.
        error.write_unraisable(py, Some(callback.bind(py)));
    }
}
