//! The transaction of a session: its block, its statements and its end.
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::SqlServer;
use super::super::ast::Statement;
use super::super::data::{Tx, Work};
use super::super::error::{Halt, SqlError};

/// Whether a transaction was begun by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// No: it ends with the statement or the Sync.
    None,
    /// Yes.
    Open,
    /// Yes, and a statement failed.
    Failed,
}

/// See the [module docs](self). Dropping it rolls back.
#[derive(Debug)]
pub(super) struct Transaction {
    server: SqlServer,
    session: u64,
    block: Block,
    tx: Tx,
}

impl Transaction {
    pub(super) fn new(server: SqlServer, session: u64) -> Self {
        Self { server, session, block: Block::None, tx: Tx::new(session) }
    }

    pub(super) const fn session(&self) -> u64 {
        self.session
    }

    pub(super) const fn block(&self) -> Block {
        self.block
    }

    /// Refuses what a failed transaction does not allow.
    pub(super) fn admit(&self, statement: &Statement) -> Result<(), SqlError> {
        let exits = matches!(
            statement,
            Statement::Commit | Statement::Rollback | Statement::RollbackTo(_) | Statement::Empty
        );
        if self.block == Block::Failed && !exits {
            let message = "current transaction is aborted, commands ignored until end of \
                           transaction block";
            return Err(SqlError::new("25P02", message));
        }
        Ok(())
    }

    /// Carries out what is about the transaction itself, and returns its tag.
    pub(super) fn control(&mut self, statement: &Statement) -> Result<&'static str, SqlError> {
        let in_block = || match self.block {
            Block::None => {
                let message = "SAVEPOINT can only be used in transaction blocks";
                Err(SqlError::new("25P01", message))
            }
            Block::Open | Block::Failed => Ok(()),
        };
        Ok(match statement {
            Statement::Begin => {
                // What came before it in the same series of requests belongs to it.
                self.block = Block::Open;
                "BEGIN"
            }
            Statement::Rollback => {
                self.roll_back();
                "ROLLBACK"
            }
            Statement::Savepoint(name) => {
                in_block()?;
                self.tx.set_savepoint(name.clone());
                "SAVEPOINT"
            }
            Statement::Release(name) => {
                in_block()?;
                self.tx.end_savepoint(name, false)?;
                "RELEASE"
            }
            Statement::RollbackTo(name) => {
                in_block()?;
                self.tx.end_savepoint(name, true)?;
                self.block = Block::Open;
                "ROLLBACK"
            }
            Statement::Defer => {
                self.tx.defer = true;
                "SET CONSTRAINTS"
            }
            Statement::Select(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Copy { .. }
            | Statement::CreateDatabase
            | Statement::CreateSchema(_)
            | Statement::CreateTable(_)
            | Statement::CreateIndex
            | Statement::Lock(_)
            | Statement::HasColumn(..)
            | Statement::With(_)
            | Statement::Commit
            | Statement::Question(_)
            | Statement::Empty => unreachable!("no statement about a transaction"),
        })
    }

    /// Runs a statement, again and again while it has to wait for others.
    pub(super) async fn run<T>(
        &mut self,
        limit: Option<Duration>,
        mut run: impl FnMut(&mut Work<'_>) -> Result<T, Halt>,
    ) -> Result<T, SqlError> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            // Made before the attempt, so that no end of a transaction is missed.
            let ended = std::sync::Arc::clone(&self.server.ended);
            let ended = ended.notified();
            let on = match self.attempt(&mut run) {
                Ok(done) => return Ok(done),
                Err(Halt::Error(error)) => return Err(error),
                Err(Halt::Wait(on)) => on,
            };
            self.server.lock().locks.wait(self.session, on)?;
            let in_time = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, ended).await.is_ok(),
                None => {
                    ended.await;
                    true
                }
            };
            self.server.lock().locks.woke(self.session);
            if !in_time {
                return Err(SqlError::new("55P03", "canceling statement due to lock timeout"));
            }
        }
    }

    /// Runs a statement once. It either has all its effects or none.
    pub(super) fn attempt<T>(
        &mut self,
        run: impl FnOnce(&mut Work<'_>) -> Result<T, Halt>,
    ) -> Result<T, Halt> {
        let mark = self.tx.mark();
        let mut data = self.server.lock();
        let outcome = run(&mut Work {
            data: &mut data,
            tx: &mut self.tx,
            touched: Vec::new(),
            with: BTreeMap::new(),
        });
        if outcome.is_err() {
            self.tx.undo_to(mark);
        }
        outcome
    }

    /// Commits, and returns whether it did: a failed transaction is rolled back.
    ///
    /// # Errors
    ///
    /// A constraint that was put off does not hold; the transaction is rolled back.
    pub(super) async fn commit(&mut self, limit: Option<Duration>) -> Result<bool, SqlError> {
        if self.block == Block::Failed {
            self.roll_back();
            return Ok(false);
        }
        if let Err(error) = self.run(limit, |work| work.end_transaction()).await {
            self.roll_back();
            return Err(error);
        }
        self.finish();
        Ok(true)
    }

    /// The same, without waiting.
    pub(super) fn try_commit(&mut self) -> Result<(), Halt> {
        self.attempt(|work| work.end_transaction())?;
        self.finish();
        Ok(())
    }

    fn finish(&mut self) {
        let tx = std::mem::replace(&mut self.tx, Tx::new(self.session));
        self.server.lock().commit(tx);
        self.block = Block::None;
        self.server.ended.notify_waiters();
    }

    /// A statement failed. What is behind a savepoint can be rolled back alone, so the locks of the rest
    /// stay; without one all is over at once, and only its name is left.
    pub(super) fn fail(&mut self) {
        match self.block {
            Block::None => self.roll_back(),
            Block::Open | Block::Failed => {
                if !self.tx.has_savepoint() {
                    self.roll_back();
                }
                self.block = Block::Failed;
            }
        }
    }

    pub(super) fn roll_back(&mut self) {
        self.tx = Tx::new(self.session);
        self.block = Block::None;
        self.server.lock().locks.release(self.session);
        self.server.ended.notify_waiters();
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.roll_back();
    }
}
