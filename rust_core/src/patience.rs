//! How long a client may keep us waiting while it sends a request's content, or takes a response.
//!
//! Pauses alone are no measure: who sends one byte before each would be over pauses without end. So the time that was
//! waited adds up, and bytes that move pay it off. Waiting is bounded, and so is the time for any number of bytes.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Time that a client may be waited for in all, beyond what its bytes have paid off.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that pay off one second of waiting: a client that is slower than this for long is not waited for.
pub const PATIENCE_BYTES: usize = 1024;

/// One client's account.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    owed: Duration,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Patience {
    /// The client cannot be read from, or written to, just now. Ready once it has been waited for too long; until then the
    /// task is woken when that is.
    pub(crate) fn wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = PATIENCE.saturating_sub(self.owed);
        let waiting =
            self.waiting.get_or_insert_with(|| Waiting { since: Instant::now(), alarm: Box::pin(sleep(left)) });
        waiting.alarm.as_mut().poll(context)
    }

    /// The client was there, and so many bytes moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if let Some(waiting) = self.waiting.take() {
            self.owed += waiting.since.elapsed();
        }
        if !self.owed.is_zero() {
            let paid = bytes as u64 * 1_000_000 / PATIENCE_BYTES as u64;
            self.owed = self.owed.saturating_sub(Duration::from_micros(paid));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use super::*;

    fn is_over(patience: &mut Patience) -> bool {
        patience.wait(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    async fn pause(patience: &mut Patience, seconds: u64) -> bool {
        let over = is_over(patience);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        over || is_over(patience)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_waited_for_once() {
        let mut patience = Patience::default();
        let begin = Instant::now();
        poll_fn(|context| patience.wait(context)).await;
        assert!(begin.elapsed() >= PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_add_up() {
        let mut patience = Patience::default();
        assert!(!pause(&mut patience, 14).await);
        patience.moved(1);
        assert!(!pause(&mut patience, 14).await);
        patience.moved(1);
        assert!(pause(&mut patience, 14).await);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pay_for_pauses_and_not_in_advance() {
        let mut patience = Patience::default();
        patience.moved(100 * PATIENCE_BYTES);
        for _ in 0..100 {
            assert!(!pause(&mut patience, 20).await);
            patience.moved(20 * PATIENCE_BYTES);
        }
        assert!(pause(&mut patience, 31).await);
    }
}
