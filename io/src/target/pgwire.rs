//! Applies batches to CockroachDB or PostgreSQL.
//!
//! All statements of a transaction are sent before the first answer is read, so a batch costs one round
//! trip. An error in the middle makes the server refuse the rest and turn COMMIT into ROLLBACK.
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::future::join_all;
use replicator_core::Failure;
use replicator_core::dialect::{Array, Dialect, Product, Statement};
use replicator_core::model::catalog::{Catalog, Wire};
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::{ApplyBatch, ApplyRequest, Piece};
use replicator_core::plan::plan;
use tokio::sync::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::dead_letter;
use super::failure::{Progress, failure_of};
use super::record::Record;
use crate::net::Dial;
use crate::pg::pool::{Pool, Session};
use crate::port::{Fence, Target};

/// What a target needs to know.
#[derive(Clone, Debug)]
pub struct PgTargetOptions {
    /// Whose SQL.
    pub dialect: Dialect,
    /// The tables.
    pub catalog: Arc<Catalog>,
    /// Where a transaction records what it holds, if the staging tables are in the same database. Then
    /// everything is applied exactly once.
    pub record: Option<Record>,
    /// Longest time for one batch.
    pub apply_timeout: Duration,
    /// Where rows go that the target refuses for good.
    pub dead_letters: Option<TableName>,
}

/// A CockroachDB or PostgreSQL target. Clones share sessions.
#[derive(Debug)]
pub struct PgTarget<D: Dial> {
    pool: Pool<D>,
    options: Arc<PgTargetOptions>,
    // The transaction that a source transaction in pieces is applied in.
    open: Arc<Mutex<Option<(Fence, Session)>>>,
}

impl<D: Dial> Clone for PgTarget<D> {
    fn clone(&self) -> Self {
        let (pool, options) = (self.pool.clone(), Arc::clone(&self.options));
        Self { pool, options, open: Arc::clone(&self.open) }
    }
}

impl<D: Dial> PgTarget<D> {
    /// A target for one run.
    #[must_use]
    pub fn new(pool: Pool<D>, options: PgTargetOptions) -> Self {
        Self { pool, options: Arc::new(options), open: Arc::new(Mutex::new(None)) }
    }

    async fn apply_now(&self, fence: Fence, request: &ApplyRequest) -> Result<(), Failure> {
        let work = self.work(request)?;
        match request.batch.piece {
            Piece::Whole => {
                let mut session = self.pool.take().await.map_err(|error| transient(&error))?;
                let script = Script { begin: true, commit: true, ..Script::default() };
                let outcome = self.send(&mut session, fence, &request.batch, &work, script).await;
                // A server that refused is as good as before; one that fell silent is not.
                if outcome.is_ok() || session.client().batch_execute("ROLLBACK").await.is_ok() {
                    self.pool.put(session);
                }
                outcome
            }
            piece @ (Piece::First | Piece::Middle | Piece::Last) => {
                self.apply_piece(fence, request, &work, piece).await
            }
        }
    }

    /// A piece is put in its transaction behind a savepoint, so that it can be tried in another order.
    async fn apply_piece(
        &self,
        fence: Fence,
        request: &ApplyRequest,
        work: &[Work],
        piece: Piece,
    ) -> Result<(), Failure> {
        let mut open = self.open.lock().await;
        let had = open.take().filter(|(opened_by, _)| *opened_by == fence);
        let (mut session, begin) = match (had, piece) {
            (Some((_, session)), _) => (session, false),
            (None, Piece::First) => {
                (self.pool.take().await.map_err(|error| transient(&error))?, true)
            }
            (None, Piece::Middle | Piece::Last | Piece::Whole) => {
                let detail = "the transaction that earlier pieces are in is gone".to_owned();
                return Err(Failure::Transient { detail });
            }
        };
        let script = Script { begin, commit: piece.commits(), savepoint: true };
        match self.send(&mut session, fence, &request.batch, work, script).await {
            Ok(()) if piece.commits() => self.pool.put(session),
            Ok(()) => *open = Some((fence, session)),
            Err(failure @ (Failure::Constraint { .. } | Failure::Rejected { .. })) => {
                if session.client().batch_execute("ROLLBACK TO SAVEPOINT piece").await.is_ok() {
                    *open = Some((fence, session));
                }
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The work of a request, in order.
    fn work(&self, request: &ApplyRequest) -> Result<Vec<Work>, Failure> {
        let PgTargetOptions { dialect, catalog, .. } = &*self.options;
        let ApplyRequest { batch, order, dead } = request;
        let mut work = plan(catalog, &batch.mutations, order, dead)
            .into_iter()
            .map(|step| {
                let table = catalog.table(step.table);
                let name = table.name.to_string();
                if let Some((sql, data)) = dialect.copy(table, &step) {
                    let does = Does::Copy { sql, data: data.into() };
                    return Ok(Work { table: name, at: step.at, does });
                }
                let statement = dialect.statement(table, &step).map_err(|error| {
                    // The code is the one by which the server would have refused it.
                    let detail = format!("cannot bind a row of {name}: {error} (SQLSTATE 22P02)");
                    Failure::Rejected { detail, at: step.at.clone() }
                })?;
                Ok(Work { table: name, at: step.at, does: Does::Execute(statement) })
            })
            .collect::<Result<Vec<Work>, Failure>>()?;
        if !dead.is_empty() {
            work.push(self.dead_letters(request)?);
        }
        Ok(work)
    }

    fn dead_letters(&self, request: &ApplyRequest) -> Result<Work, Failure> {
        let PgTargetOptions { dialect, catalog, dead_letters, .. } = &*self.options;
        let Some(name) = dead_letters else { panic!("dead letters without a table for them") };
        let table = dead_letter::find(catalog, name)
            .map_err(|error| Failure::Transient { detail: error.to_string() })?;
        let (sql, params) = dead_letter::statement(dialect, catalog, table, request);
        let does = Does::Execute(Statement { sql, params, rows_min: None });
        Ok(Work { table: name.to_string(), at: None, does })
    }

    /// Sends one transaction, or the part of one that `script` says.
    async fn send(
        &self,
        session: &mut Session,
        fence: Fence,
        batch: &ApplyBatch,
        work: &[Work],
        script: Script,
    ) -> Result<(), Failure> {
        let prepared = prepare(session, work).await?;
        let record = match &self.options.record {
            Some(record) if script.commit => Some(record.prepare(session, fence, batch).await?),
            Some(_) | None => None,
        };
        // Work whose result must be seen before the commit keeps the commit back.
        let commit_along = script.commit && !work.iter().any(Work::must_be_seen);
        let progress = Progress { commit_sent: commit_along, at: None, table: None };

        let client = session.client();
        let opening = self.opening(script);
        let opened = simple(client, &opening);
        let recorded = async {
            match &record {
                Some(record) => record.send(client).await,
                None => Ok(1),
            }
        };
        let worked = run(client, work, &prepared, commit_along);
        let closed =
            async { if commit_along { simple(client, closing(script)).await } else { Ok(()) } };
        let (opened, recorded, worked, closed) = if work.iter().any(Work::is_copy) {
            // COPY owns the connection while it runs, so nothing can be sent behind it.
            let (opened, recorded) = futures_util::join!(opened, recorded);
            (opened, recorded, worked.await, closed.await)
        } else {
            futures_util::join!(opened, recorded, worked, closed)
        };

        opened.map_err(|error| failure_of(&error, &progress))?;
        match recorded {
            Ok(0) => return Err(Failure::Fenced),
            Ok(_) => (),
            Err(error) => return Record::outcome(&error, &progress),
        }
        worked?;
        closed.map_err(|error| failure_of(&error, &progress))?;
        if !commit_along {
            let progress = Progress { commit_sent: script.commit, ..progress };
            let closed = simple(client, closing(script)).await;
            closed.map_err(|error| failure_of(&error, &progress))?;
        }
        Ok(())
    }

    fn opening(&self, script: Script) -> String {
        let mut sql = String::new();
        if script.begin {
            sql.push_str("BEGIN;");
            // Cycles that the source closed at its commit are closed at ours.
            let deferrable = self.options.catalog.has_deferrable();
            if deferrable && self.options.dialect.product == Product::Postgres {
                sql.push_str("SET CONSTRAINTS ALL DEFERRED;");
            }
        }
        if script.savepoint {
            sql.push_str("SAVEPOINT piece;");
        }
        sql
    }
}

const fn closing(script: Script) -> &'static str {
    match (script.savepoint, script.commit) {
        (false, false) => "",
        (false, true) => "COMMIT",
        (true, false) => "RELEASE SAVEPOINT piece",
        (true, true) => "RELEASE SAVEPOINT piece; COMMIT",
    }
}

/// Prepares every statement; COPY needs none.
async fn prepare(
    session: &mut Session,
    work: &[Work],
) -> Result<Vec<Option<tokio_postgres::Statement>>, Failure> {
    let mut prepared = Vec::with_capacity(work.len());
    for item in work {
        let Does::Execute(Statement { sql, params, .. }) = &item.does else {
            prepared.push(None);
            continue;
        };
        let types: Vec<Type> = params.iter().map(|array| type_of(array.wire())).collect();
        let statement = session.prepare(sql, &types).await;
        let progress = item.progress(false);
        prepared.push(Some(statement.map_err(|error| failure_of(&error, &progress))?));
    }
    Ok(prepared)
}

/// Runs the work in order. Statements between two COPYs go out together.
async fn run(
    client: &Client,
    work: &[Work],
    prepared: &[Option<tokio_postgres::Statement>],
    commit_sent: bool,
) -> Result<(), Failure> {
    let mut rest = prepared;
    for run in work.chunk_by(|a, b| !a.is_copy() && !b.is_copy()) {
        let (statements, after) = rest.split_at(run.len());
        rest = after;
        let results = join_all(run.iter().zip(statements).map(|(item, statement)| async move {
            match (&item.does, statement) {
                (Does::Copy { sql, data }, _) => copy(client, sql, data.clone()).await,
                (Does::Execute(Statement { params, .. }), Some(statement)) => {
                    client.execute_raw(statement, params.iter().map(Bound)).await
                }
                (Does::Execute(_), None) => unreachable!("every statement was prepared"),
            }
        }))
        .await;
        for (item, rows) in run.iter().zip(results) {
            let rows = rows.map_err(|error| failure_of(&error, &item.progress(commit_sent)))?;
            item.check(rows)?;
        }
    }
    Ok(())
}

async fn copy(client: &Client, sql: &str, data: Bytes) -> Result<u64, tokio_postgres::Error> {
    let mut sink = pin!(client.copy_in::<_, Bytes>(sql).await?);
    sink.send(data).await?;
    sink.finish().await
}

async fn simple(client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    if sql.is_empty() { Ok(()) } else { client.batch_execute(sql).await }
}

impl<D: Dial> Target for PgTarget<D> {
    async fn apply(&self, fence: Fence, request: ApplyRequest) -> Result<(), Failure> {
        let limit = self.options.apply_timeout;
        match tokio::time::timeout(limit, self.apply_now(fence, &request)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // The session is dropped, and with it whatever it had not committed; but it may have.
                let detail = format!("the target did not answer within {} s", limit.as_secs());
                Err(Failure::OutcomeUnknown { detail })
            }
        }
    }
}

/// What to send besides the statements.
#[derive(Clone, Copy, Debug, Default)]
struct Script {
    begin: bool,
    savepoint: bool,
    commit: bool,
}

/// One piece of work for the server.
struct Work {
    table: String,
    at: Option<std::ops::Range<usize>>,
    does: Does,
}

enum Does {
    Execute(Statement),
    Copy { sql: String, data: Bytes },
}

impl Work {
    const fn is_copy(&self) -> bool {
        matches!(self.does, Does::Copy { .. })
    }

    /// COPY cannot be followed by anything unseen; an update may find that its row is missing.
    const fn must_be_seen(&self) -> bool {
        match &self.does {
            Does::Execute(statement) => statement.rows_min.is_some(),
            Does::Copy { .. } => true,
        }
    }

    fn progress(&self, commit_sent: bool) -> Progress<'_> {
        Progress { commit_sent, at: self.at.clone(), table: Some(&self.table) }
    }

    fn check(&self, rows: u64) -> Result<(), Failure> {
        let Does::Execute(Statement { rows_min: Some(rows_min), .. }) = &self.does else {
            return Ok(());
        };
        let missing = rows_min.saturating_sub(rows);
        if missing == 0 {
            return Ok(());
        }
        let table = &self.table;
        let detail = format!(
            "{missing} rows to update are missing in {table}; the source did not send their \
             unchanged columns, so they cannot be inserted"
        );
        Err(Failure::Rejected { detail, at: self.at.clone() })
    }
}

/// An array parameter that is encoded already.
#[derive(Debug)]
struct Bound<'a>(&'a Array);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn type_of(wire: Wire) -> Type {
    match wire {
        Wire::Text => Type::TEXT_ARRAY,
        Wire::Int2 => Type::INT2_ARRAY,
        Wire::Int4 => Type::INT4_ARRAY,
        Wire::Int8 => Type::INT8_ARRAY,
    }
}

fn transient(error: &dyn std::error::Error) -> Failure {
    Failure::Transient { detail: crate::error_chain(error) }
}
