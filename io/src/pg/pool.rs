//! A bounded set of sessions to one database.
use std::future::Future;
use std::sync::Arc;

use thiserror::Error;

use super::connect::{ConnectError, SessionOptions, SqlSession, connect_sql};
use super::conninfo::ConnInfo;
use crate::clock::Clock;
use crate::net::Dial;
use crate::pool::{Exhausted, Places, PoolLimits, Session};

/// No session could be had.
#[derive(Debug, Error)]
pub enum PoolError {
    /// All sessions are in use.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
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
    places: Places<S>,
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
        let places = Places::new(limits, clock);
        Self { inner: Arc::new(Inner { dial, conninfo, options, places }) }
    }

    /// Takes a free session or opens one.
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    pub async fn take(&self) -> Result<Session<S>, PoolError> {
        let Inner { dial, conninfo, options, places } = &*self.inner;
        match places.reuse(places.enter().await?, S::is_open) {
            Ok(session) => Ok(session),
            Err(place) => {
                let statements_max = places.limits().statements_max;
                let session = S::open(dial, conninfo, options, statements_max).await?;
                Ok(places.opened(place, session))
            }
        }
    }

    /// Hands a session back. Must not be inside a transaction.
    pub fn put(&self, session: Session<S>) {
        self.inner.places.put(session);
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
