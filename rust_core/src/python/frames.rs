//! From what Python calls a frame to the bytes that go on the wire.

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyString},
};

use crate::{frame::Frame, hub::Hub};

static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A frame for `hub` from `str`, `bytes`, or a message struct, which `jasaweb_rt.messages.encode` turns into `bytes`; to
/// be deflated from `compress_min_bytes` on.
pub(super) fn extract(hub: &Hub, value: &Bound<'_, PyAny>, compress_min_bytes: usize) -> PyResult<Frame> {
    Ok(plain(hub, value)?.deflatable(compress_min_bytes))
}

fn plain(hub: &Hub, value: &Bound<'_, PyAny>) -> PyResult<Frame> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(hub.encode(bytes.as_bytes())?);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(hub.encode(text.to_cow()?.as_bytes())?);
    }
    let encode = ENCODE.import(value.py(), "jasaweb_rt.messages", "encode")?;
    let encoded = encode.call1((value,))?;
    Ok(hub.encode(encoded.cast::<PyBytes>()?.as_bytes())?)
}
