//! From what Python calls a frame to the bytes that go on the wire.

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyString},
};

use crate::{bus::Bus, error::Error, frame::Frame};

static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A frame from `str`, `bytes`, or a message struct, which `jasaweb_rt.messages.encode` turns into `bytes`; to be
/// deflated from `compress_min_bytes` on.
pub(super) fn extract(bus: &Bus, value: &Bound<'_, PyAny>, compress_min_bytes: usize) -> PyResult<Frame> {
    with_text(value, |text| Ok(bus.encode(text).deflatable(compress_min_bytes)))
}

/// Does something with the text of a message, which may be given as for [`extract`]. `ValueError` where it is not UTF-8.
pub(super) fn with_text<T>(value: &Bound<'_, PyAny>, act: impl FnOnce(&str) -> PyResult<T>) -> PyResult<T> {
    if let Ok(text) = value.cast::<PyString>() {
        return act(text.to_str()?);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return act(valid(bytes.as_bytes())?);
    }
    let encode = ENCODE.import(value.py(), "jasaweb_rt.messages", "encode")?;
    let encoded = encode.call1((value,))?;
    act(valid(encoded.cast::<PyBytes>()?.as_bytes())?)
}

fn valid(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8)
}
