//! The one place that reads a clock.
use std::time::Duration;

use replicator_core::model::time::MonoTime;
use tokio::time::Instant;

/// Time since the process started. Simulated time under turmoil, real time otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> MonoTime {
        MonoTime::START.after(self.start.elapsed())
    }

    /// How long ago `earlier` was.
    #[must_use]
    pub fn since(&self, earlier: MonoTime) -> Duration {
        Duration::from_nanos(self.now().as_nanos().saturating_sub(earlier.as_nanos()))
    }

    /// Waits until `at`, or forever.
    pub async fn sleep_until(&self, at: Option<MonoTime>) {
        match at {
            Some(at) => {
                let wait = Duration::from_nanos(at.as_nanos());
                tokio::time::sleep_until(self.start + wait).await;
            }
            None => std::future::pending().await,
        }
    }
}
