//! A bounded set of sessions to one database.
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::model::time::MonoTime;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::{ConnectError, SessionOptions, SqlSession, connect_sql};
use super::conninfo::ConnInfo;
use crate::clock::Clock;
use crate::net::Dial;

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

/// No session could be had.
#[derive(Debug, Error)]
pub enum PoolError {
    /// All sessions are in use.
    #[error("no database session was free within {} s", waited.as_secs())]
    Exhausted {
        /// How long we waited.
        waited: Duration,
    },
    /// A new session could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// A kind of session that a pool can hold.
pub trait Pooled<D: Dial>: Sized + Send {
    /// Opens a session that remembers at most `statements_max` prepared statements.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    fn open(
        dial: &D,
        conninfo: &ConnInfo,
        options: &SessionOptions,
        statements_max: usize,
    ) -> impl Future<Output = Result<Self, ConnectError>> + Send;

    /// Whether it can be used, as far as is known without asking.
    fn is_open(&mut self) -> bool;
}

/// See the [module docs](self). Clones share the sessions.
#[derive(Debug)]
pub struct Pool<D: Dial, S = SqlSession> {
    inner: Arc<Inner<D, S>>,
}

#[derive(Debug)]
struct Inner<D, S> {
    dial: D,
    conninfo: ConnInfo,
    options: SessionOptions,
    limits: PoolLimits,
    clock: Clock,
    free: Mutex<Vec<Session<S>>>,
    permits: Arc<Semaphore>,
}

/// A session of a pool. Dropping it closes the connection; hand it back with [`Pool::put`] only in a
/// state in which anybody can use it.
#[derive(Debug)]
pub struct Session<S> {
    session: S,
    born: MonoTime,
    idle_since: MonoTime,
    permit: Option<OwnedSemaphorePermit>,
}

impl<S> Deref for Session<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.session
    }
}

impl<S> DerefMut for Session<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.session
    }
}

impl<D: Dial, S> Clone for Pool<D, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D: Dial, S: Pooled<D>> Pool<D, S> {
    /// An empty pool; sessions are opened when they are needed.
    #[must_use]
    pub fn new(
        dial: D,
        conninfo: ConnInfo,
        options: SessionOptions,
        limits: PoolLimits,
        clock: Clock,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(limits.sessions_max.max(1)));
        let free = Mutex::new(Vec::new());
        Self { inner: Arc::new(Inner { dial, conninfo, options, limits, clock, free, permits }) }
    }

    /// Takes a free session or opens one.
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    pub async fn take(&self) -> Result<Session<S>, PoolError> {
        let Inner { dial, conninfo, options, limits, clock, permits, .. } = &*self.inner;
        let waited = limits.wait_max;
        let permit = tokio::time::timeout(waited, Arc::clone(permits).acquire_owned())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(PoolError::Exhausted { waited })?;
        let now = clock.now();
        if let Some(mut session) = self.pop(now) {
            session.permit = Some(permit);
            return Ok(session);
        }
        let session = S::open(dial, conninfo, options, limits.statements_max).await?;
        Ok(Session { session, born: now, idle_since: now, permit: Some(permit) })
    }

    /// Hands a session back. Must not be inside a transaction.
    pub fn put(&self, mut session: Session<S>) {
        session.permit = None;
        session.idle_since = self.inner.clock.now();
        let mut free = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(session);
    }

    /// The session that came back last, so that those which are not needed grow old and are closed.
    fn pop(&self, now: MonoTime) -> Option<Session<S>> {
        let mut free = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner);
        let PoolLimits { idle_max, age_max, .. } = self.inner.limits;
        free.retain_mut(|session| {
            let (idle, old) = (session.idle_since.after(idle_max), session.born.after(age_max));
            now < idle && now < old && session.is_open()
        });
        free.pop()
    }
}

impl<D: Dial> Pooled<D> for SqlSession {
    async fn open(
        dial: &D,
        conninfo: &ConnInfo,
        options: &SessionOptions,
        _statements_max: usize,
    ) -> Result<Self, ConnectError> {
        connect_sql(dial, conninfo, options).await
    }

    fn is_open(&mut self) -> bool {
        !self.client().is_closed()
    }
}
