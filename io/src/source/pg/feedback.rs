//! Reports to the server how far we are, whatever else is going on.
//!
//! A task of its own owns the writing half of the connection. It reports at a steady interval, earlier
//! when the server asks or when something became durable, and asks the server for a sign of life when
//! nothing was heard since the last report. A server that hears from us sends nothing by itself when it
//! is idle (server source, walsender.c, WalSndKeepaliveIfNecessary), so without asking a dead connection
//! would look like an idle one.
use std::time::Duration;
use std::{fmt, io};

use replicator_core::model::position::Lsn;
use replicator_core::model::time::MonoTime;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinError;
use tracing::trace;

use super::progress::{Progress, State};
use crate::clock::Clock;
use crate::pg::connect::AbortOnDrop;
use crate::pg::replication::FrameWriter;

/// Reports of what became durable are at least this far apart.
const GAP: Duration = Duration::from_millis(100);

/// The shortest interval that makes sense, whatever the server's settings.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// Why nothing more is reported.
#[derive(Debug, Error)]
pub enum FeedbackError {
    /// The connection broke.
    #[error("could not report to the source")]
    Write(#[from] io::Error),
    /// The server does not take what we send.
    #[error("the source did not take a report within {} s", limit.as_secs())]
    Stalled {
        /// How long we tried.
        limit: Duration,
    },
    /// The task panicked.
    #[error("the reporting task died")]
    Died(#[source] JoinError),
}

/// How often to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Report at least this often.
    pub interval: Duration,
    /// The longest that sending one report may take.
    pub write_limit: Duration,
}

impl Rhythm {
    /// As often as the operator wants, and often enough for the server: three times before it would
    /// hang up.
    #[must_use]
    pub fn new(standby_timeout: Duration, sender_timeout: Option<Duration>) -> Self {
        let limit = sender_timeout.unwrap_or(Duration::from_secs(60));
        let interval = sender_timeout.map_or(standby_timeout, |t| standby_timeout.min(t / 3));
        Self { interval: interval.max(INTERVAL_MIN), write_limit: limit.max(INTERVAL_MIN) }
    }
}

/// The running task.
pub struct Feedback<S> {
    task: AbortOnDrop<Result<FrameWriter<S>, FeedbackError>>,
}

impl<S> fmt::Debug for Feedback<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feedback").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Feedback<S> {
    /// Starts to report. The first report goes out at once.
    #[must_use]
    pub fn start(writer: FrameWriter<S>, progress: Progress, rhythm: Rhythm, clock: Clock) -> Self {
        Self { task: AbortOnDrop::spawn(report(writer, progress, rhythm, clock)) }
    }

    /// Waits for the task to end: because of trouble, or because the progress was closed. Then the writer
    /// comes back, with the last report and the end of our stream sent. Cancel safe; must not be called
    /// again after it has returned.
    ///
    /// # Errors
    ///
    /// See [`FeedbackError`].
    pub async fn ended(&mut self) -> Result<FrameWriter<S>, FeedbackError> {
        self.task.task().await.map_err(FeedbackError::Died)?
    }
}

async fn report<S: AsyncRead + AsyncWrite + Unpin>(
    mut writer: FrameWriter<S>,
    progress: Progress,
    rhythm: Rhythm,
    clock: Clock,
) -> Result<FrameWriter<S>, FeedbackError> {
    let limit = rhythm.write_limit;
    let mut schedule = Schedule::new(rhythm.interval);
    loop {
        let (now, state) = (clock.now(), progress.state());
        if now < schedule.due(&state) {
            tokio::select! {
                biased;
                () = progress.changed() => (),
                () = clock.sleep_until(Some(schedule.due(&state))) => (),
            }
            continue;
        }
        let status = state.status(now, schedule.asks(&state));
        // Before it is sent: what the server asks for meanwhile is another request.
        progress.reported();
        trace!(?status, "report");
        let sent = async {
            writer.report(&status).await?;
            if state.closing { writer.finish().await } else { Ok(()) }
        };
        tokio::time::timeout(limit, sent).await.map_err(|_| FeedbackError::Stalled { limit })??;
        if state.closing {
            return Ok(writer);
        }
        schedule.sent(now, &state);
    }
}

/// When to report. Pure.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    interval: Duration,
    /// When the last report was sent and what it said was durable.
    last: Option<(MonoTime, Lsn)>,
    /// When we asked for a sign of life.
    asked: Option<MonoTime>,
}

impl Schedule {
    const fn new(interval: Duration) -> Self {
        Self { interval, last: None, asked: None }
    }

    /// When the next report is due.
    fn due(&self, state: &State) -> MonoTime {
        let Some((last, durable)) = self.last else { return MonoTime::START };
        if state.reply_requested || state.closing {
            MonoTime::START
        } else if durable < state.durable {
            last.after(self.interval.min(GAP))
        } else {
            last.after(self.interval)
        }
    }

    /// Whether the next report should ask for an answer: nothing was heard since the last report, and
    /// we do not wait for an answer. While nobody reads, one answer waits in the socket and no more.
    fn asks(&self, state: &State) -> bool {
        let silent = self.last.is_some_and(|(last, _)| state.heard <= last);
        silent && self.asked.is_none_or(|asked| asked < state.heard)
    }

    fn sent(&mut self, now: MonoTime, state: &State) {
        if self.asks(state) {
            self.asked = Some(now);
        }
        self.last = Some((now, state.durable));
    }
}

#[cfg(test)]
mod tests;
