//! What goes wrong on purpose.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::SqlError;

/// Switches that a test turns while sessions run. Each failure happens once.
#[derive(Debug, Default)]
pub struct Knobs {
    inner: Mutex<Inner>,
}

/// When a connection breaks that has sent COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Before the server looks at it: the transaction is rolled back.
    BeforeCommit,
    /// After it took effect, before the answer.
    AfterCommit,
}

#[derive(Debug, Default)]
struct Inner {
    failures: Vec<Failure>,
    loss: Option<Loss>,
    connections_max: Option<usize>,
    refuses: bool,
    delay: Duration,
    lock_wait_max: Option<Duration>,
    silence_max: Option<Duration>,
}

#[derive(Debug)]
struct Failure {
    text: String,
    error: SqlError,
}

impl Knobs {
    /// Fails the next statement whose text contains `text` with this SQLSTATE.
    pub fn fail_next(&self, text: &str, sqlstate: &str) {
        let error = SqlError::new(sqlstate, "failed on purpose");
        self.lock().failures.push(Failure { text: text.to_owned(), error });
    }

    /// The same, and the session ends.
    pub fn kill_next(&self, text: &str, sqlstate: &str) {
        let error = SqlError::fatal(sqlstate, "ended on purpose");
        self.lock().failures.push(Failure { text: text.to_owned(), error });
    }

    /// Breaks the connection of the next COMMIT.
    pub fn lose_commit(&self, loss: Loss) {
        self.lock().loss = Some(loss);
    }

    /// Takes back all failures and losses that have not happened yet.
    pub fn forget_failures(&self) {
        let mut inner = self.lock();
        inner.failures.clear();
        inner.loss = None;
    }

    /// Most sessions at the same time; `None` is no limit.
    pub fn set_connections_max(&self, count: Option<usize>) {
        self.lock().connections_max = count;
    }

    /// Whether the server says that it is starting up.
    pub fn set_refuses(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    /// How long each statement takes at least.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// `lock_timeout`; `None` waits for ever.
    pub fn set_lock_wait_max(&self, limit: Option<Duration>) {
        self.lock().lock_wait_max = limit;
    }

    /// How long the server waits for a client that fell silent in the middle of its requests, before it
    /// takes it for dead; `None` waits for ever. A real server learns it from the kernel's keepalives.
    pub fn set_silence_max(&self, limit: Option<Duration>) {
        self.lock().silence_max = limit;
    }

    pub(in crate::cluster) fn take_failure(&self, sql: &str) -> Result<(), SqlError> {
        let mut inner = self.lock();
        match inner.failures.iter().position(|failure| sql.contains(&failure.text)) {
            Some(at) => Err(inner.failures.remove(at).error),
            None => Ok(()),
        }
    }

    /// Takes the loss of a connection if it is of this kind.
    pub(super) fn take_loss(&self, kind: Loss) -> bool {
        self.lock().loss.take_if(|loss| *loss == kind).is_some()
    }

    /// Whether a session may begin that would be the one of this number.
    pub(in crate::cluster) fn admit(&self, sessions: usize) -> Result<(), SqlError> {
        let inner = self.lock();
        if inner.refuses {
            return Err(SqlError::fatal("57P03", "the database system is starting up"));
        }
        match inner.connections_max {
            Some(max) if max < sessions => {
                Err(SqlError::fatal("53300", "sorry, too many clients already"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn delay(&self) -> Duration {
        self.lock().delay
    }

    pub(super) fn lock_wait_max(&self) -> Option<Duration> {
        self.lock().lock_wait_max
    }

    pub(super) fn silence_max(&self) -> Option<Duration> {
        self.lock().silence_max
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
