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
use thiserror::Error;

use super::conninfo::MySqlConnInfo;
use super::session::{MySqlConnectError, MySqlError, MySqlOptions, MySqlSession};
use crate::clock::Clock;
use crate::fingerprint::fingerprint;
use crate::pool::{Exhausted, Places, PoolLimits, Session};

/// A session that was idle this long is asked whether it still is one. A connection that breaks while a
/// transaction is on its way ends the run, so it is better to know before.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// The longest wait for the server to end an earlier session.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// No session could be had.
#[derive(Debug, Error)]
pub enum MySqlPoolError {
    /// All sessions are in use.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
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
    places: Places<LockedSession>,
    // Whose sessions they are, for the names of locks.
    owner: String,
    spots: Arc<Mutex<BTreeSet<usize>>>,
}

/// A place in the pool, until it is dropped.
#[derive(Debug)]
struct Spot {
    index: usize,
    taken: Arc<Mutex<BTreeSet<usize>>>,
}

impl Spot {
    /// The first one that is free.
    fn take(spots: &Arc<Mutex<BTreeSet<usize>>>) -> Self {
        let mut taken = spots.lock().unwrap_or_else(PoisonError::into_inner);
        let index = (0..).find(|index| !taken.contains(index)).unwrap_or(usize::MAX);
        taken.insert(index);
        Self { index, taken: Arc::clone(spots) }
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.index);
    }
}

/// A session that holds the lock of its place in the pool.
#[derive(Debug)]
pub struct LockedSession {
    session: MySqlSession,
    _spot: Spot,
}

/// Dropping it closes the connection; hand it back with [`MySqlPool::put`] only in a state in which anybody can
/// use it.
pub type PooledSession = Session<LockedSession>;

impl Deref for LockedSession {
    type Target = MySqlSession;

    fn deref(&self) -> &MySqlSession {
        &self.session
    }
}

impl DerefMut for LockedSession {
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
        let (spots, owner) = (Arc::default(), owner.to_owned());
        let places = Places::new(limits, clock);
        Self { inner: Arc::new(Inner { conninfo, options, places, owner, spots }) }
    }

    /// Waits until the server has ended all sessions that an earlier pool of this owner had. To be called
    /// before the first session is taken; a second time does no harm.
    ///
    /// # Errors
    ///
    /// See [`MySqlPoolError`].
    pub async fn wait_for_earlier(&self) -> Result<(), MySqlPoolError> {
        let Inner { conninfo, options, places, owner, .. } = &*self.inner;
        let mut session = MySqlSession::open(conninfo, options).await?;
        for index in 0..places.limits().sessions_max.max(1) {
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
        let Inner { conninfo, options, places, owner, spots } = &*self.inner;
        let clock = places.clock();
        let mut place = places.enter().await?;
        loop {
            match places.reuse(place, |_| true) {
                Ok(mut session) => {
                    let asked = session.idle_since().after(ASKED_AFTER) <= clock.now();
                    if !asked || session.answers().await {
                        return Ok(session);
                    }
                    place = session.close();
                }
                Err(free) => {
                    place = free;
                    break;
                }
            }
        }
        let spot = Spot::take(spots);
        let mut session = MySqlSession::open(conninfo, options).await?;
        lock(&mut session, owner, spot.index).await?;
        Ok(places.opened(place, LockedSession { session, _spot: spot }))
    }

    /// Hands a session back. Must not be inside a transaction.
    pub fn put(&self, session: PooledSession) {
        self.inner.places.put(session);
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
