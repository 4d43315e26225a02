//! A bounded set of SQL sessions to one database, each with its prepared statements.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::model::time::MonoTime;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Statement;
use tokio_postgres::types::Type;

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

/// See the [module docs](self). Clones share the sessions.
#[derive(Debug)]
pub struct Pool<D: Dial> {
    inner: Arc<Inner<D>>,
}

#[derive(Debug)]
struct Inner<D> {
    dial: D,
    conninfo: ConnInfo,
    options: SessionOptions,
    limits: PoolLimits,
    clock: Clock,
    free: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
}

/// A session with its prepared statements. Dropping it closes the connection; hand it back with
/// [`Pool::put`] only in a state in which anybody can use it.
#[derive(Debug)]
pub struct Session {
    sql: SqlSession,
    statements: BTreeMap<String, (u64, Statement)>,
    used: u64,
    statements_max: usize,
    born: MonoTime,
    idle_since: MonoTime,
    permit: Option<OwnedSemaphorePermit>,
}

impl<D: Dial> Clone for Pool<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D: Dial> Pool<D> {
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
    pub async fn take(&self) -> Result<Session, PoolError> {
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
        let sql = connect_sql(dial, conninfo, options).await?;
        Ok(Session {
            sql,
            statements: BTreeMap::new(),
            used: 0,
            statements_max: limits.statements_max.max(1),
            born: now,
            idle_since: now,
            permit: Some(permit),
        })
    }

    /// Hands a session back. Must not be inside a transaction.
    pub fn put(&self, mut session: Session) {
        session.permit = None;
        session.idle_since = self.inner.clock.now();
        let mut free = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(session);
    }

    /// The session that came back last, so that those which are not needed grow old and are closed.
    fn pop(&self, now: MonoTime) -> Option<Session> {
        let mut free = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.retain(|session| session.is_fresh(now, &self.inner.limits));
        free.pop()
    }
}

impl Session {
    /// The connection.
    #[must_use]
    pub fn client(&self) -> &tokio_postgres::Client {
        self.sql.client()
    }

    /// Prepares a statement, or finds it among those prepared before.
    ///
    /// # Errors
    ///
    /// The database refused it or the connection is gone.
    pub async fn prepare(
        &mut self,
        sql: &str,
        types: &[Type],
    ) -> Result<Statement, tokio_postgres::Error> {
        self.used = self.used.saturating_add(1);
        if let Some((last, statement)) = self.statements.get_mut(sql) {
            *last = self.used;
            return Ok(statement.clone());
        }
        let statement = self.client().prepare_typed(sql, types).await?;
        if self.statements_max <= self.statements.len() {
            let oldest = self.statements.iter().min_by_key(|(_, (last, _))| *last);
            if let Some(oldest) = oldest.map(|(sql, _)| sql.clone()) {
                self.statements.remove(&oldest);
            }
        }
        self.statements.insert(sql.to_owned(), (self.used, statement.clone()));
        Ok(statement)
    }

    fn is_fresh(&self, now: MonoTime, limits: &PoolLimits) -> bool {
        !self.client().is_closed()
            && now < self.idle_since.after(limits.idle_max)
            && now < self.born.after(limits.age_max)
    }
}
