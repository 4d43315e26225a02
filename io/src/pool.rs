//! What the pools of sessions have in common: how many there may be, and which of them are free.
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::model::time::MonoTime;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;

/// How many sessions, and how long they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most sessions at the same time, at least 1.
    pub sessions_max: usize,
    /// A session that was idle this long is closed when the pool is used next.
    pub idle_max: Duration,
    /// A session that is this old is closed when it comes back.
    pub age_max: Duration,
    /// Prepared statements kept for each session.
    pub statements_max: usize,
    /// How long to wait for a session to be free.
    pub wait_max: Duration,
}

/// All sessions are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no database session was free within {} s", waited.as_secs())]
pub struct Exhausted {
    /// How long we waited.
    pub waited: Duration,
}

/// Room for [`PoolLimits::sessions_max`] sessions. There are never more, those that nobody uses included:
/// whoever opens one has a place, and found none that was free.
#[derive(Debug)]
pub(crate) struct Places<S> {
    limits: PoolLimits,
    clock: Clock,
    free: Mutex<Vec<Kept<S>>>,
    permits: Arc<Semaphore>,
}

/// Leave to have one session.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Kept<S> {
    session: S,
    born: MonoTime,
    idle_since: MonoTime,
}

/// A session of a pool. Dropping it closes the connection; hand it back to the pool only in a state in which
/// anybody can use it.
#[derive(Debug)]
pub struct Session<S> {
    // Dropped first: until then the place is not free.
    kept: Kept<S>,
    place: Place,
}

impl<S> Deref for Session<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.kept.session
    }
}

impl<S> DerefMut for Session<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.kept.session
    }
}

impl<S> Session<S> {
    /// When somebody used it last.
    pub(crate) const fn idle_since(&self) -> MonoTime {
        self.kept.idle_since
    }

    /// Closes it, for another one in its place.
    pub(crate) fn close(self) -> Place {
        self.place
    }
}

impl<S> Places<S> {
    pub(crate) fn new(limits: PoolLimits, clock: Clock) -> Self {
        let permits = Arc::new(Semaphore::new(limits.sessions_max.max(1)));
        Self { limits, clock, free: Mutex::default(), permits }
    }

    pub(crate) const fn limits(&self) -> &PoolLimits {
        &self.limits
    }

    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Waits for a place.
    ///
    /// # Errors
    ///
    /// All are in use, for [`PoolLimits::wait_max`].
    pub(crate) async fn enter(&self) -> Result<Place, Exhausted> {
        let waited = self.limits.wait_max;
        let permit = tokio::time::timeout(waited, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(Exhausted { waited })?;
        Ok(Place { _permit: permit })
    }

    /// The session that came back last, so that those which are not needed grow old and are closed; also those
    /// that are not `usable`. `Err`: none is free, and one may be opened.
    pub(crate) fn reuse(
        &self,
        place: Place,
        mut usable: impl FnMut(&mut S) -> bool,
    ) -> Result<Session<S>, Place> {
        let now = self.clock.now();
        let PoolLimits { idle_max, age_max, .. } = self.limits;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.retain_mut(|kept| {
            let (idle, old) = (kept.idle_since.after(idle_max), kept.born.after(age_max));
            now < idle && now < old && usable(&mut kept.session)
        });
        match free.pop() {
            Some(kept) => Ok(Session { kept, place }),
            None => Err(place),
        }
    }

    /// A session that was just opened.
    pub(crate) fn opened(&self, place: Place, session: S) -> Session<S> {
        let now = self.clock.now();
        Session { kept: Kept { session, born: now, idle_since: now }, place }
    }

    /// Takes a session back. Must not be inside a transaction.
    pub(crate) fn put(&self, session: Session<S>) {
        let Session { mut kept, place } = session;
        kept.idle_since = self.clock.now();
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        // Only now: who comes in must find it, or would open one more.
        drop(place);
    }
}

#[cfg(test)]
mod tests;
