//! The core's errors as Python sees them: builtins where one fits, ours below one base.

use pyo3::{
    create_exception,
    exceptions::{PyConnectionError, PyException, PyOSError, PyRuntimeError, PyValueError},
    prelude::*,
};

use crate::error::Error;

create_exception!(jasaweb_rt._core, RealtimeError, PyException, "Base of every error that is the core's own.");
create_exception!(
    jasaweb_rt._core,
    ServerStoppedError,
    RealtimeError,
    "The call needs a running server: before `start`, after `stop`, or in a fork of the process that made it."
);
create_exception!(
    jasaweb_rt._core,
    OverloadedError,
    RealtimeError,
    "The send backlog is full; nothing was lost that was queued before. Try again later."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Config { .. } | Error::NotUtf8 => PyValueError::new_err(text),
            Error::Bind { source, .. } | Error::Start(source) => match source.raw_os_error() {
                Some(number) => PyOSError::new_err((number, text)),
                None => PyOSError::new_err(text),
            },
            Error::AlreadyStarted => PyRuntimeError::new_err(text),
            Error::NotStarted | Error::Stopped | Error::Forked { .. } => ServerStoppedError::new_err(text),
            Error::Unlinked { .. } => PyConnectionError::new_err(text),
            Error::Overloaded { .. } | Error::NoAnswer => OverloadedError::new_err(text),
        }
    }
}
