//! What is in the target, written down in the target; see [`progress`](super::super::progress).
//!
//! Of MySQL's own: a transaction checks the fence in a statement before the record, which fails unless the row of
//! the fence is as it was, and otherwise keeps it so until the end of the transaction. Records are deleted one by
//! one by their keys, so that nobody waits for a transaction that adds one.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::dialect::mysql::{name, text};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::ApplyBatch;
use replicator_core::model::position::{Applied, Position};
use tokio::sync::Mutex;

use super::super::progress::{ProgressTableError, TargetProgress, check_shape, stream_of};
use super::failure::{Progress, failure_of};
use crate::fingerprint::fingerprint;
use crate::mysql::conninfo::MySqlConnInfo;
use crate::mysql::session::{MySqlError, MySqlOptions, MySqlSession, Refusal, ScriptError};
use crate::port::Fence;

/// Records that are deleted by one transaction at most.
const FORGOTTEN_MAX: usize = 200;

/// The longest wait for another run that begins.
const LOCK_SECONDS: u32 = 5;

/// A duplicate key, and a question with two answers.
const DUPLICATE: u16 = 1062;
const TWO_ANSWERS: u16 = 1242;

/// A table of progress.
#[derive(Debug)]
pub struct MySqlProgressTable {
    conninfo: MySqlConnInfo,
    options: MySqlOptions,
    timeout: Duration,
    table: TableName,
    stream: &'static str,
    // One thing at a time is asked. `None`: not connected.
    session: Arc<Mutex<Option<MySqlSession>>>,
}

/// How the transactions of a run record what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MySqlRecord {
    table: String,
    stream: &'static str,
    fence: Fence,
}

impl MySqlRecord {
    /// The statements that go before a batch: the check of the fence, and the record.
    pub(super) fn statements(&self, batch: &ApplyBatch) -> [String; 2] {
        let Self { table, stream, fence: Fence(fence) } = self;
        // The whole key, so that nothing but this row is locked.
        let check = format!(
            "SELECT IF((SELECT fence FROM {table} WHERE {} AND fence = {fence} LOCK IN SHARE MODE) \
             <=> {fence}, 1, (SELECT 1 UNION SELECT 2))",
            fence_row(stream)
        );
        let after = batch.after.map(Position::to_sortable);
        let after = after.map_or_else(|| "NULL".to_owned(), |after| text(&after));
        let record = format!(
            "INSERT INTO {table} (stream, fence, first_tx, after_position, through_position) \
             VALUES ('{stream}', {fence}, {}, {after}, {})",
            batch.first.0,
            text(&batch.position.to_sortable())
        );
        [check, record]
    }

    /// What a refusal of the check means, or of the record: a later run, a batch that is in already, or
    /// trouble.
    pub(super) fn outcome(
        &self,
        error: &MySqlError,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let MySqlError::Server(Refusal { code, .. }) = error else {
            return Err(failure_of(error, progress));
        };
        match *code {
            TWO_ANSWERS => Err(Failure::Fenced),
            DUPLICATE => Ok(()),
            _ => Err(failure_of(error, progress)),
        }
    }
}

impl MySqlProgressTable {
    /// The table of this name, whose shape is checked. It is for the rows of its own schema. `timeout` is for
    /// one request.
    ///
    /// # Errors
    ///
    /// See [`ProgressTableError`].
    pub fn find(
        conninfo: MySqlConnInfo,
        options: MySqlOptions,
        catalog: &Catalog,
        table: &TableName,
        timeout: Duration,
    ) -> Result<Self, ProgressTableError> {
        check_shape(catalog, table, || {
            format!(
                "CREATE TABLE {} (stream VARCHAR(64), fence BIGINT, first_tx BIGINT, \
                 after_position VARCHAR(64), through_position VARCHAR(64) NOT NULL, \
                 PRIMARY KEY (stream, first_tx, fence)) ENGINE = InnoDB;",
                name(table)
            )
        })?;
        let (table, stream) = (table.clone(), stream_of(&Lane::Whole));
        Ok(Self { conninfo, options, timeout, table, stream, session: Arc::default() })
    }

    /// The row of the fence, and the records.
    async fn begin_by(
        &self,
        session: &mut MySqlSession,
        store: &str,
    ) -> Result<[Rows; 2], Refused> {
        let table = name(&self.table);
        let engine = format!(
            "SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            text(&self.table.schema),
            text(&self.table.table)
        );
        if field(&session.query(&engine).await?) != Some("InnoDB") {
            return Err(Refused::Engine);
        }
        // Two runs that begin at once must not both make the row of the fence.
        let lock = text(&format!("replicator {:016x} begins", fingerprint(&table)));
        let had = session.query(&format!("SELECT GET_LOCK({lock}, {LOCK_SECONDS})")).await?;
        if field(&had) != Some("1") {
            return Err(Refused::Busy);
        }
        let (stream, fence_row, store) = (self.stream, fence_row(self.stream), text(store));
        session.query("BEGIN").await?;
        let find = format!("SELECT 1 FROM {table} WHERE {fence_row} FOR UPDATE");
        if session.query(&find).await?.is_empty() {
            let make = format!(
                "INSERT INTO {table} (stream, fence, first_tx, through_position) \
                 VALUES ('{stream}', 0, 0, {store})"
            );
            session.query(&make).await?;
        }
        // Waits for those that hold a share of it.
        session.query(&format!("UPDATE {table} SET fence = fence + 1 WHERE {fence_row}")).await?;
        // Only a read that locks tells what is there now, and not when the transaction began.
        let look = format!(
            "SELECT fence, through_position = {store} FROM {table} WHERE {fence_row} FOR UPDATE"
        );
        let fence = session.query(&look).await?;
        if fence.first().and_then(|row| row.get(1)?.as_deref()) != Some("1") {
            let forget = format!("DELETE FROM {table} WHERE stream = '{stream}' AND first_tx > 0");
            session.query(&forget).await?;
            let own = format!("UPDATE {table} SET through_position = {store} WHERE {fence_row}");
            session.query(&own).await?;
        }
        let read = format!(
            "SELECT after_position, through_position FROM {table} \
             WHERE stream = '{stream}' AND first_tx > 0 ORDER BY through_position LOCK IN SHARE MODE"
        );
        let rows = session.query(&read).await?;
        session.query("COMMIT").await?;
        session.query(&format!("DO RELEASE_LOCK({lock})")).await?;
        Ok([fence, rows])
    }

    async fn forget_by(&self, session: &mut MySqlSession, through: &str) -> Result<(), Refused> {
        let (table, stream) = (name(&self.table), self.stream);
        // No lock is waited for: what is not committed yet is not that old.
        let find = format!(
            "SELECT first_tx, fence FROM {table} WHERE stream = '{stream}' AND first_tx > 0 \
             AND through_position <= {through}"
        );
        let rows = session.query(&find).await?;
        for rows in rows.chunks(FORGOTTEN_MAX) {
            let deletes = rows.iter().filter_map(|row| {
                let (first, fence) = (row.first()?.as_ref()?, row.get(1)?.as_ref()?);
                Some(format!(
                    "DELETE FROM {table} WHERE stream = '{stream}' AND first_tx = {first} \
                     AND fence = {fence};"
                ))
            });
            let deletes: String = deletes.collect();
            let sent = session.run(&format!("BEGIN;{deletes}COMMIT")).await;
            sent.map_err(|ScriptError { reason, .. }| reason)?;
        }
        Ok(())
    }

    /// Asks on the session of the table, which is dropped if that goes wrong.
    async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(&mut MySqlSession) -> Result<T, Refused>,
    ) -> Result<T, Failure> {
        let mut place = self.session.lock().await;
        let had = place.take();
        let asking = async {
            let mut session = match had {
                Some(session) => session,
                None => {
                    let opened = MySqlSession::open(&self.conninfo, &self.options).await;
                    opened.map_err(|error| {
                        let detail = format!("target: {}", crate::error_chain(&error));
                        Failure::Transient { detail }
                    })?
                }
            };
            let answer = request(&mut session).await.map_err(|refused| self.failure(refused))?;
            Ok((session, answer))
        };
        let limit = self.timeout;
        let asked = tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| {
            let detail = format!("the target did not answer within {} s", limit.as_secs());
            Err(Failure::Transient { detail })
        });
        let (session, answer) = asked?;
        *place = Some(session);
        Ok(answer)
    }

    fn failure(&self, refused: Refused) -> Failure {
        let table = name(&self.table);
        match refused {
            Refused::By(error) => {
                let progress = Progress { commit_sent: false, at: None, table: Some(&table) };
                failure_of(&error, &progress)
            }
            Refused::Busy => {
                let detail = format!("target: another run begins to write to {table}");
                Failure::Transient { detail }
            }
            Refused::Engine => {
                let detail = format!(
                    "target: table {table} of --targetProgressTable must be an InnoDB table, so that it \
                     changes with the rows; run: ALTER TABLE {table} ENGINE = InnoDB;"
                );
                Failure::Rejected { detail, at: None }
            }
        }
    }

    fn unreadable(&self) -> Failure {
        let detail = format!(
            "target: table {} of --targetProgressTable holds what cannot be read; delete the rows whose \
             stream is '{}', and what is staged is applied again",
            name(&self.table),
            self.stream
        );
        Failure::Rejected { detail, at: None }
    }
}

impl TargetProgress for MySqlProgressTable {
    type Record = MySqlRecord;

    fn of(&self, lane: &Lane) -> Self {
        let Self { conninfo, options, timeout, table, session, .. } = self;
        Self {
            conninfo: conninfo.clone(),
            options: *options,
            timeout: *timeout,
            table: table.clone(),
            stream: stream_of(lane),
            session: Arc::clone(session),
        }
    }

    async fn begin(&self, store: &str) -> Result<(MySqlRecord, Vec<Applied>), Failure> {
        let rows = self.ask(async |session| self.begin_by(session, store).await).await?;
        let [fence, rows] = rows;
        let fence = fence.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        let fence = fence.map(Fence).ok_or_else(|| self.unreadable())?;
        let applied = rows.iter().map(|row| {
            let [after, through] = row.as_slice() else { return None };
            Applied::from_sortable(after.as_deref(), through.as_deref()?)
        });
        let applied: Option<Vec<Applied>> = applied.collect();
        let record = MySqlRecord { table: name(&self.table), stream: self.stream, fence };
        Ok((record, applied.ok_or_else(|| self.unreadable())?))
    }

    async fn forget(&self, through: Position) -> Result<(), Failure> {
        let through = text(&through.to_sortable());
        self.ask(async |session| self.forget_by(session, &through).await).await
    }
}

/// The condition for the row of the fence.
fn fence_row(stream: &str) -> String {
    format!("stream = '{stream}' AND first_tx = 0")
}

type Rows = Vec<Vec<Option<String>>>;

/// Why a request was not done.
#[derive(Debug)]
enum Refused {
    By(MySqlError),
    Busy,
    Engine,
}

impl From<MySqlError> for Refused {
    fn from(error: MySqlError) -> Self {
        Self::By(error)
    }
}

/// The only field of an answer.
fn field(rows: &Rows) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}
