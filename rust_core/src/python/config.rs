//! What Python may set, as the core's [`Config`], and the token check for those who want it alone.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyString},
};

use crate::{
    app_address::AppAddress,
    config::Origins,
    token::{Identity, Role, SessionId, TokenVerifier},
};

/// A key: `bytes` as they are, `str` as UTF-8.
pub(super) fn secret(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_cow()?.as_bytes().to_vec()),
        Err(_) => Err(PyTypeError::new_err("a secret must be str or bytes")),
    }
}

/// How many connections fit into the process's limit of open files, by the rule of `jasaweb_rt.config`.
pub(super) fn max_connections(py: Python<'_>) -> PyResult<usize> {
    py.import("jasaweb_rt.config")?.call_method0("default_max_connections")?.extract()
}

/// A time in seconds that is given to `name`.
pub(super) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name}: must be a number of seconds, 0 or more")))
}

/// A role as the database spells it.
pub(super) fn role(text: &str) -> PyResult<Role> {
    Role::parse(text)
        .ok_or_else(|| PyValueError::new_err(format!("role: {text:?} is neither \"admin\" nor \"client\"")))
}

/// A session as tokens name it.
pub(super) fn session_id(text: &str) -> PyResult<SessionId> {
    SessionId::parse(text)
        .ok_or_else(|| PyValueError::new_err("session_id: must be 16 hexadecimal digits in lower case, not all 0"))
}

/// `*`, or a list of origins; an empty list allows the same origin alone.
pub(super) fn origins(values: &[String]) -> Origins {
    if values.is_empty() {
        Origins::Same
    } else if values.iter().any(|value| value == "*") {
        Origins::Any
    } else {
        Origins::Listed(values.iter().map(|value| value.trim_end_matches('/').to_ascii_lowercase()).collect())
    }
}

/// Networks, or single addresses, whose `X-Forwarded-*` is believed.
pub(super) fn networks(values: &[String]) -> PyResult<Vec<IpNet>> {
    values
        .iter()
        .map(|value| {
            value.parse().or_else(|_| value.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                PyValueError::new_err(format!("trusted_proxies: {value:?} is no network such as 10.0.0.0/8"))
            })
        })
        .collect()
}

/// Where an app listens, as given to `name`.
pub(super) fn app(name: &str, url: Option<&str>) -> PyResult<Option<AppAddress>> {
    let refuse = || PyValueError::new_err(format!("{name}: must be unix:/path/to/socket or http://host:port"));
    url.map(|url| AppAddress::parse(url).ok_or_else(refuse)).transpose()
}

/// User id, role, name, end of the session, session.
type Claims = (String, &'static str, String, Option<u64>, Option<String>);

/// Checks a connection token at Unix time `now`: `(user_id, role, name, session_exp, session_id)`. `ValueError` names what
/// is wrong.
#[pyfunction]
#[pyo3(signature = (token, secret, *, previous=None, now))]
pub(super) fn verify_token(
    token: &str,
    secret: &Bound<'_, PyAny>,
    previous: Option<&Bound<'_, PyAny>>,
    now: f64,
) -> PyResult<Claims> {
    let previous = previous.map(self::secret).transpose()?;
    let verifier = TokenVerifier::new(&self::secret(secret)?, previous.as_deref());
    let identity = verifier.verify(token, now).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let Identity { user_id, role, name, session_expires_at, session_id } = identity;
    let session_id = session_id.map(|id| id.to_string());
    Ok((user_id.to_string(), role.as_str(), name.to_string(), session_expires_at, session_id))
}
