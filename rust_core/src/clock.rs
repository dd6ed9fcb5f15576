//! Time as the core needs it: a coarse monotonic count for limits, and the timestamp that frames carry.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

/// Counts milliseconds from a server's start on, unmoved by changes of the system's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    start_unix: Duration,
}

impl Clock {
    /// Begins to count.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), start_unix: unix_now() }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Unix time in seconds of a moment that [`Self::now_ms`] gave.
    #[must_use]
    pub fn unix_seconds(&self, at_ms: u64) -> f64 {
        (self.start_unix + Duration::from_millis(at_ms)).as_secs_f64()
    }
}

/// Time since the Unix epoch; zero where the system's clock stands before it.
#[must_use]
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Now as frames carry it: RFC 3339 in UTC with milliseconds and `Z`.
#[must_use]
pub fn timestamp() -> String {
    DateTime::from_timestamp_millis(unix_now().as_millis() as i64)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_milliseconds_and_ends_in_z() {
        let text = timestamp();
        assert_eq!((text.len(), text.as_bytes()[19], text.as_bytes()[23]), (24, b'.', b'Z'), "{text}");
    }
}
