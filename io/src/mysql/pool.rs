//! A bounded set of sessions to one database.
//!
//! The driver's own pool resets each session that comes back, and with it all that makes one ours; it also
//! lets anybody wait for ever.
//!
//! **Nothing that an earlier run sent is carried out later than what a new one sends** (I7). The server goes on
//! with a message whose sender is gone, and without a table of ours nothing on the target tells it not to. So
//! each session holds a lock of the server by the name of its place in the pool, for as long as the server
//! knows it; and a new run first waits until it had all of these locks.
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::dialect::mysql::text;
use replicator_core::model::time::MonoTime;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::conninfo::MySqlConnInfo;
use super::session::{MySqlConnectError, MySqlError, MySqlOptions, MySqlSession};
use crate::clock::Clock;
use crate::fingerprint::fingerprint;
use crate::pg::pool::PoolLimits;

/// A session that was idle this long is asked whether it still is one. A connection that breaks while a
/// transaction is on its way ends the run, so it is better to know before.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// The longest wait for the server to end an earlier session.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// No session could be had.
#[derive(Debug, Error)]
pub enum MySqlPoolError {
    /// All sessions are in use.
    #[error("no database session was free within {} s", waited.as_secs())]
    Exhausted {
        /// How long we waited.
        waited: Duration,
    },
    /// A new session could not be opened.
    #[error(transparent)]
    Connect(#[from] MySqlConnectError),
    /// The server still works on what an earlier session sent.
    #[error("the server is still busy with what an earlier session sent")]
    Busy,
    /// The server did not answer whether it is.
    #[error("could not ask the server for a lock")]
    Lock(#[source] MySqlError),
}

/// See the [module docs](self). Clones share the sessions.
#[derive(Clone, Debug)]
pub struct MySqlPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    conninfo: MySqlConnInfo,
    options: MySqlOptions,
    limits: PoolLimits,
    clock: Clock,
    free: Mutex<Vec<PooledSession>>,
    permits: Arc<Semaphore>,
    // Whose sessions they are, for the names of locks.
    owner: String,
    places: Arc<Mutex<BTreeSet<usize>>>,
}

/// A place in the pool, until it is dropped.
#[derive(Debug)]
struct Spot {
    index: usize,
    taken: Arc<Mutex<BTreeSet<usize>>>,
}

impl Spot {
    /// The first one that is free.
    fn take(places: &Arc<Mutex<BTreeSet<usize>>>) -> Self {
        let mut taken = places.lock().unwrap_or_else(PoisonError::into_inner);
        let index = (0..).find(|index| !taken.contains(index)).unwrap_or(usize::MAX);
        taken.insert(index);
        Self { index, taken: Arc::clone(places) }
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.index);
    }
}

/// A session of a pool. Dropping it closes the connection; hand it back with [`MySqlPool::put`] only in a
/// state in which anybody can use it.
#[derive(Debug)]
pub struct PooledSession {
    session: MySqlSession,
    born: MonoTime,
    idle_since: MonoTime,
    permit: Option<OwnedSemaphorePermit>,
    _spot: Spot,
}

impl Deref for PooledSession {
    type Target = MySqlSession;

    fn deref(&self) -> &MySqlSession {
        &self.session
    }
}

impl DerefMut for PooledSession {
    fn deref_mut(&mut self) -> &mut MySqlSession {
        &mut self.session
    }
}

impl MySqlPool {
    /// An empty pool; sessions are opened when they are needed. Of the limits, prepared statements do not
    /// matter: there are none. `owner` is whom the sessions of a run and of the next one have in common.
    #[must_use]
    pub fn new(
        conninfo: MySqlConnInfo,
        options: MySqlOptions,
        limits: PoolLimits,
        clock: Clock,
        owner: &str,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(limits.sessions_max.max(1)));
        let (free, places, owner) = (Mutex::default(), Arc::default(), owner.to_owned());
        let inner = Inner { conninfo, options, limits, clock, free, permits, owner, places };
        Self { inner: Arc::new(inner) }
    }

    /// Waits until the server has ended all sessions that an earlier pool of this owner had. To be called
    /// before the first session is taken; a second time does no harm.
    ///
    /// # Errors
    ///
    /// See [`MySqlPoolError`].
    pub async fn wait_for_earlier(&self) -> Result<(), MySqlPoolError> {
        let Inner { conninfo, options, limits, owner, .. } = &*self.inner;
        let mut session = MySqlSession::open(conninfo, options).await?;
        for index in 0..limits.sessions_max.max(1) {
            lock(&mut session, owner, index).await?;
        }
        // Dropped, and the locks with it, in a moment; but the next sessions need not wait for that.
        session.query("SELECT RELEASE_ALL_LOCKS()").await.map_err(MySqlPoolError::Lock)?;
        Ok(())
    }

    /// Takes a free session or opens one.
    ///
    /// # Errors
    ///
    /// See [`MySqlPoolError`].
    pub async fn take(&self) -> Result<PooledSession, MySqlPoolError> {
        let Inner { conninfo, options, limits, clock, permits, owner, places, .. } = &*self.inner;
        let waited = limits.wait_max;
        let permit = tokio::time::timeout(waited, Arc::clone(permits).acquire_owned())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(MySqlPoolError::Exhausted { waited })?;
        while let Some(mut session) = self.pop(clock.now()) {
            if clock.now() < session.idle_since.after(ASKED_AFTER) || session.answers().await {
                session.permit = Some(permit);
                return Ok(session);
            }
        }
        let spot = Spot::take(places);
        let mut session = MySqlSession::open(conninfo, options).await?;
        lock(&mut session, owner, spot.index).await?;
        let now = clock.now();
        let permit = Some(permit);
        Ok(PooledSession { session, born: now, idle_since: now, permit, _spot: spot })
    }

    /// Hands a session back. Must not be inside a transaction.
    pub fn put(&self, mut session: PooledSession) {
        session.permit = None;
        session.idle_since = self.inner.clock.now();
        let mut free = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(session);
    }

    /// The session that came back last, so that those which are not needed grow old and are closed.
    fn pop(&self, now: MonoTime) -> Option<PooledSession> {
        let mut free = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner);
        let PoolLimits { idle_max, age_max, .. } = self.inner.limits;
        free.retain(|session| {
            let (idle, old) = (session.idle_since.after(idle_max), session.born.after(age_max));
            now < idle && now < old
        });
        free.pop()
    }
}

/// Takes the lock of a place in the pool. It ends with the session.
async fn lock(session: &mut MySqlSession, owner: &str, index: usize) -> Result<(), MySqlPoolError> {
    // A lock's name has at most 64 characters, and means the same in capitals.
    let name = text(&format!("replicator {:016x} {index}", fingerprint(owner)));
    let seconds = LOCK_LIMIT.as_secs();
    let sql = format!("SELECT GET_LOCK({name}, {seconds})");
    let rows = session.query(&sql).await.map_err(MySqlPoolError::Lock)?;
    match rows.first().and_then(|row| row.first()).and_then(Option::as_deref) {
        Some("1") => Ok(()),
        Some(_) | None => Err(MySqlPoolError::Busy),
    }
}
