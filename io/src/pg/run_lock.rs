//! Keeps the sessions of earlier runs away from a target that has no fence of ours.
//!
//! The server goes on with what a session has sent whose other end is gone, so a transaction of a dead run could
//! be committed after newer ones, and put older rows back (I7). Advisory locks (PostgreSQL documentation,
//! "Advisory Locks") keep it from that: they are held for as long as the server knows the session.
//!
//! | lock | held by | how |
//! |---|---|---|
//! | newest run | a session of the newest run that does nothing else | alone |
//! | this run | the same session; it is another lock for each run | alone |
//! | writers | each session that writes rows | shared |
//!
//! A new run first takes the lock of the newest run, so that the earlier one has lost its own. Then nobody who
//! begins a session for that one may write: such a session takes its share first, and then looks whether its run
//! has its lock still. Then the new run has the lock of the writers alone for a moment, so that sessions that
//! began before have ended. Those that do not end by themselves are ended: their owner may be paused, or its
//! network cut.
//!
//! CockroachDB answers such questions, but keeps nobody waiting. There a table of progress is needed.
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, info};

use super::connect::{ConnectError, SessionOptions, SqlSession, connect_sql};
use super::conninfo::ConnInfo;
use crate::net::Dial;

/// How often the server is asked whether a lock is free.
const POLL: Duration = Duration::from_millis(50);
/// So often it is asked before sessions are ended, and from one such try to the next.
const PATIENCE: u32 = 20;
/// So often it is asked at all.
const ASKED_MAX: u32 = 200;
/// Longest wait for an answer about a lock.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often the session that holds the locks is tried. The server may end one that does nothing.
const TRIED_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for an answer to that; a server may have much to do.
const TRIED_LIMIT: Duration = Duration::from_secs(60);

/// The locks of a run, as numbers. Those for the same rows have the first two in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLocks {
    /// Of the newest run.
    pub newest: i64,
    /// Of those who write.
    pub writers: i64,
    /// Of this run; no other one has it.
    pub run: i64,
}

/// The locks could not be had.
#[derive(Debug, Error)]
pub enum RunLockError {
    /// The server could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It did not say.
    #[error("could not ask for an advisory lock")]
    Query(#[source] tokio_postgres::Error),
    /// It did not answer.
    #[error("no answer about an advisory lock within {} s", ANSWER_LIMIT.as_secs())]
    Late,
    /// It still works on what an earlier run sent, or the sessions are not ours to end.
    #[error(
        "sessions of an earlier run are still at work, and hold the advisory lock {number}; end them with \
         pg_terminate_backend if they do not end by themselves"
    )]
    Busy {
        /// What they hold.
        number: i64,
    },
}

impl RunLocks {
    /// The statements with which a session begins that writes for the run. Each answers whether it could take
    /// a lock: the first must, the second must not.
    pub(super) fn of_writer(&self) -> [String; 2] {
        [self.writers, self.run].map(|lock| call("pg_try_advisory_lock_shared", lock))
    }
}

/// A run's locks, for as long as it lives.
#[derive(Debug)]
pub struct RunLock {
    session: SqlSession,
}

impl RunLock {
    /// Takes the locks, and waits until sessions of earlier runs have ended, at most some ten seconds for each
    /// lock. The options are those of a session that is none of the writers.
    ///
    /// # Errors
    ///
    /// See [`RunLockError`].
    pub async fn take<D: Dial>(
        dial: &D,
        conninfo: &ConnInfo,
        options: &SessionOptions,
        locks: RunLocks,
    ) -> Result<Self, RunLockError> {
        let lock = Self { session: connect_sql(dial, conninfo, options).await? };
        let RunLocks { newest, writers, run } = locks;
        // In this order: whoever has not the lock of its run begins no session that writes.
        for number in [newest, run, writers] {
            lock.wait(number).await?;
        }
        lock.says(&call("pg_advisory_unlock", writers)).await?;
        Ok(lock)
    }

    /// Returns when the locks are lost, and why.
    pub async fn lost(&self) -> String {
        loop {
            tokio::time::sleep(TRIED_EVERY).await;
            let client = self.session.client();
            match tokio::time::timeout(TRIED_LIMIT, client.check_connection()).await {
                Ok(Ok(_)) => (),
                Ok(Err(error)) => return crate::error_chain(&error),
                Err(_) => return format!("no answer within {} s", TRIED_LIMIT.as_secs()),
            }
        }
    }

    async fn says(&self, sql: &str) -> Result<bool, RunLockError> {
        let asking = self.session.client().query_one(sql, &[]);
        let answer = tokio::time::timeout(ANSWER_LIMIT, asking).await;
        Ok(answer.map_err(|_| RunLockError::Late)?.map_err(RunLockError::Query)?.get(0))
    }

    /// Takes a lock, and ends those who hold it if they do not end by themselves.
    async fn wait(&self, number: i64) -> Result<(), RunLockError> {
        let mut asked = 0;
        while !self.says(&call("pg_try_advisory_lock", number)).await? {
            asked += 1;
            if asked == ASKED_MAX {
                return Err(RunLockError::Busy { number });
            }
            if asked % PATIENCE == 0 {
                let end = end_holders(number);
                let ending = self.session.client().simple_query(&end);
                match tokio::time::timeout(ANSWER_LIMIT, ending).await {
                    Ok(Ok(_)) => info!("ending sessions of an earlier run that have not ended"),
                    // They may end by themselves all the same.
                    Ok(Err(error)) => debug!("could not end sessions of an earlier run: {error}"),
                    Err(_) => return Err(RunLockError::Late),
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

fn call(function: &str, number: i64) -> String {
    format!("SELECT pg_catalog.{function}({number})")
}

/// Ends the sessions that hold the number. Its halves are in columns of their own ("pg_locks").
fn end_holders(number: i64) -> String {
    let [h3, h2, h1, h0, l3, l2, l1, l0] = number.to_be_bytes();
    let (high, low) = (u32::from_be_bytes([h3, h2, h1, h0]), u32::from_be_bytes([l3, l2, l1, l0]));
    format!(
        "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM pg_catalog.pg_locks l \
          WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
            AND l.classid = '{high}'::OID AND l.objid = '{low}'::OID \
            AND l.pid <> pg_catalog.pg_backend_pid() AND l.database = \
                (SELECT d.oid FROM pg_catalog.pg_database d \
                  WHERE d.datname = pg_catalog.current_database())"
    )
}

#[cfg(test)]
mod tests {
    use super::end_holders;

    #[test]
    fn the_halves_of_a_number_are_told_as_the_server_has_them() {
        let sql = end_holders(-2);
        assert!(sql.contains("l.classid = '4294967295'::OID"), "{sql}");
        assert!(sql.contains("l.objid = '4294967294'::OID"), "{sql}");
    }
}
