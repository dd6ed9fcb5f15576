//! From what Python calls a frame to the bytes that go on the wire.

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyString},
};

use crate::frame::Frame;

static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A frame from `str`, `bytes`, or a message struct, which `jasaweb_rt.messages.encode` turns into `bytes`; to be
/// deflated from `compress_min_bytes` on.
pub(super) fn extract(value: &Bound<'_, PyAny>, compress_min_bytes: usize) -> PyResult<Frame> {
    Ok(plain(value)?.deflatable(compress_min_bytes))
}

fn plain(value: &Bound<'_, PyAny>) -> PyResult<Frame> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Frame::text(bytes.as_bytes())?);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Frame::text(text.to_cow()?.as_bytes())?);
    }
    let encode = ENCODE.import(value.py(), "jasaweb_rt.messages", "encode")?;
    let encoded = encode.call1((value,))?;
    Ok(Frame::text(encoded.cast::<PyBytes>()?.as_bytes())?)
}
