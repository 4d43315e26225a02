//! Applies batches to CockroachDB or PostgreSQL.
//!
//! A batch is one round trip: BEGIN, the record, all statements and COMMIT go out together, and an error
//! makes the server skip the rest.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::dialect::{Dialect, Product, Statement};
use replicator_core::model::catalog::{Catalog, Wire};
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::{ApplyBatch, ApplyOrder, ApplyRequest, Piece, TableId};
use replicator_core::plan::{Kind, plan};
use tokio::sync::Mutex;
use tokio_postgres::types::Type;

use super::dead_letter;
use super::failure::{Progress, failure_of};
use super::guess::Guesses;
use super::record::Record;
use crate::net::Dial;
use crate::pg::pipeline::{Call, CallError, Pipeline};
use crate::pg::pool::Pool;
use crate::pool::Session;
use crate::port::{Fence, Target};

/// The sessions of a target.
pub type TargetPool<D> = Pool<D, Pipeline<<D as Dial>::Stream>>;

/// A session inside a transaction, and whose.
type Open<D> = (Fence, TargetSession<D>);

type TargetSession<D> = Session<Pipeline<<D as Dial>::Stream>>;

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
    pool: TargetPool<D>,
    options: Arc<PgTargetOptions>,
    // The statement that writes the record.
    record_sql: Arc<str>,
    // The transaction that a source transaction in pieces is applied in.
    open: Arc<Mutex<Option<Open<D>>>>,
    // `None`: the source tells which rows are new.
    guesses: Option<Arc<Guesses>>,
}

impl<D: Dial> Clone for PgTarget<D> {
    fn clone(&self) -> Self {
        let (pool, options) = (self.pool.clone(), Arc::clone(&self.options));
        let (record_sql, open) = (Arc::clone(&self.record_sql), Arc::clone(&self.open));
        Self { pool, options, record_sql, open, guesses: self.guesses.clone() }
    }
}

impl<D: Dial> PgTarget<D> {
    /// A target for one run.
    #[must_use]
    pub fn new(pool: TargetPool<D>, options: PgTargetOptions) -> Self {
        let record_sql = options.record.as_ref().map(Record::sql).unwrap_or_default().into();
        let open = Arc::new(Mutex::new(None));
        Self { pool, options: Arc::new(options), record_sql, open, guesses: None }
    }

    /// Takes rows that are upserted for new ones where they were of late, because the source does not tell.
    #[must_use]
    pub fn guessing(self) -> Self {
        Self { guesses: Some(Arc::default()), ..self }
    }

    async fn apply_now(&self, fence: Fence, request: &ApplyRequest) -> Result<(), Failure> {
        match request.batch.piece {
            Piece::Whole => self.apply_whole(fence, request).await,
            piece @ (Piece::First | Piece::Middle | Piece::Last) => {
                let work = self.work(request, Guess::Nothing)?;
                self.apply_piece(fence, request, &work, piece).await
            }
        }
    }

    async fn apply_whole(&self, fence: Fence, request: &ApplyRequest) -> Result<(), Failure> {
        let ApplyRequest { batch, order, .. } = request;
        // In another order the batch was refused before, so nothing is left to guess.
        let guess = if *order == ApplyOrder::Netted { Guess::New } else { Guess::Nothing };
        let mut work = self.work(request, guess)?;
        let mut session = self.pool.take().await.map_err(|error| transient(&error))?;
        let script = Script { begin: true, commit: true, ..Script::default() };
        let mut outcome = self.send(&mut session, fence, batch, &work, script).await;
        let wrong = self.learn(&work, &outcome);
        if wrong && session.roll_back("ROLLBACK").await.is_ok() {
            work = self.work(request, Guess::Nothing)?;
            outcome = self.send(&mut session, fence, batch, &work, script).await;
        }
        // A server that refused is as good as before; one that fell silent is not.
        let ended = matches!(outcome, Ok(Sent::Done));
        if ended || session.roll_back("ROLLBACK").await.is_ok() {
            self.pool.put(session);
        }
        outcome.map(drop).map_err(Refusal::into_failure)
    }

    /// Learns from what became of a batch which rows are new. Returns whether it failed for a wrong guess.
    fn learn(&self, work: &[Work], outcome: &Result<Sent, Refusal>) -> bool {
        let Some(guesses) = &self.guesses else { return false };
        match outcome {
            Ok(Sent::Done) => {
                work.iter().filter_map(|item| item.guessed).for_each(|table| guesses.right(table));
                false
            }
            Ok(Sent::Known) => false,
            Err(Refusal { failure, item }) => {
                let refused = match failure {
                    Failure::Constraint { .. } | Failure::Rejected { .. } => true,
                    Failure::Transient { .. }
                    | Failure::OutcomeUnknown { .. }
                    | Failure::Fenced => false,
                };
                let item = item.filter(|_| refused).and_then(|index| work.get(index));
                let table = item.and_then(|item| item.guessed);
                table.into_iter().for_each(|table| guesses.wrong(table));
                table.is_some()
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
        let sent = self.send(&mut session, fence, &request.batch, work, script).await;
        match sent.map_err(Refusal::into_failure) {
            Ok(Sent::Done) if piece.commits() => self.pool.put(session),
            Ok(Sent::Done) => *open = Some((fence, session)),
            Ok(Sent::Known) => {
                if session.roll_back("ROLLBACK").await.is_ok() {
                    self.pool.put(session);
                }
            }
            Err(failure @ (Failure::Constraint { .. } | Failure::Rejected { .. })) => {
                if session.roll_back("ROLLBACK TO SAVEPOINT piece").await.is_ok() {
                    *open = Some((fence, session));
                }
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The work of a request, in order.
    fn work(&self, request: &ApplyRequest, guess: Guess) -> Result<Vec<Work>, Failure> {
        let PgTargetOptions { dialect, catalog, .. } = &*self.options;
        let ApplyRequest { batch, order, dead } = request;
        let mut work = plan(catalog, &batch.mutations, order, dead)
            .into_iter()
            .map(|mut step| {
                let table = catalog.table(step.table);
                let name = table.name.to_string();
                let kind = step.kind;
                if guess == Guess::New
                    && kind == Kind::Upsert
                    && let Some(guesses) = &self.guesses
                    && guesses.are_new(step.table)
                {
                    step.kind = Kind::Insert;
                }
                if let Some((sql, data)) = dialect.copy(table, &step) {
                    let guessed = (step.kind != kind).then_some(step.table);
                    let does = Does::Copy { sql, data };
                    return Ok(Work { table: name, at: step.at, does, guessed });
                }
                step.kind = kind;
                let statement = dialect.statement(table, &step).map_err(|error| {
                    // The code is the one by which the server would have refused it.
                    let detail = format!("cannot bind a row of {name}: {error} (SQLSTATE 22P02)");
                    Failure::Rejected { detail, at: step.at.clone() }
                })?;
                let does = Does::Execute(statement);
                Ok(Work { table: name, at: step.at, does, guessed: None })
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
        Ok(Work { table: name.to_string(), at: None, does, guessed: None })
    }

    /// Sends one transaction, or the part of one that `script` says.
    async fn send(
        &self,
        session: &mut TargetSession<D>,
        fence: Fence,
        batch: &ApplyBatch,
        work: &[Work],
        script: Script,
    ) -> Result<Sent, Refusal> {
        let record = self.options.record.as_ref().filter(|_| script.commit);
        let recorded = record.map(|record| record.of(fence, batch)).transpose();
        let recorded = recorded.map_err(|failure| Refusal { failure, item: None })?;
        // Work whose result must be seen before the commit keeps the commit back.
        let commit_along = !work.iter().any(Work::must_be_seen);

        let mut calls: Vec<Call<'_>> = self.opening(script).map(Call::plain).collect();
        let record_at = recorded.as_ref().map(|recorded| {
            calls.push(recorded.call(&self.record_sql));
            calls.len() - 1
        });
        let work_at = calls.len();
        calls.extend(work.iter().map(Work::call));
        if commit_along {
            calls.extend(closing(script).map(Call::plain));
        }
        let rows = match session.run(&calls).await {
            Ok(rows) => rows,
            Err(CallError { at, sent, reason }) => {
                let index = at.checked_sub(work_at).filter(|index| *index < work.len());
                let item = index.and_then(|index| work.get(index));
                let commit_sent = commit_along && script.commit && sent == calls.len();
                let progress = Progress {
                    commit_sent,
                    at: item.and_then(|item| item.at.clone()),
                    table: item.map(|item| item.table.as_str()),
                };
                let failure = match record.filter(|_| Some(at) == record_at) {
                    Some(record) => match record.outcome(&reason, &progress) {
                        Ok(()) => return Ok(Sent::Known),
                        Err(failure) => failure,
                    },
                    None => failure_of(&reason, &progress),
                };
                return Err(Refusal { failure, item: index });
            }
        };
        for (item, rows) in work.iter().zip(rows.iter().skip(work_at)) {
            item.check(*rows).map_err(|failure| Refusal { failure, item: None })?;
        }
        if !commit_along {
            let calls: Vec<Call<'_>> = closing(script).map(Call::plain).collect();
            session.run(&calls).await.map_err(|CallError { reason, .. }| {
                let progress = Progress { commit_sent: script.commit, at: None, table: None };
                Refusal { failure: failure_of(&reason, &progress), item: None }
            })?;
        }
        Ok(Sent::Done)
    }

    fn opening(&self, script: Script) -> impl Iterator<Item = &'static str> {
        // Cycles that the source closed at its commit are closed at ours.
        let deferrable = self.options.catalog.has_deferrable()
            && self.options.dialect.product == Product::Postgres;
        let begin = script.begin.then_some("BEGIN");
        let defer = (script.begin && deferrable).then_some("SET CONSTRAINTS ALL DEFERRED");
        let savepoint = script.savepoint.then_some("SAVEPOINT piece");
        begin.into_iter().chain(defer).chain(savepoint)
    }
}

fn closing(script: Script) -> impl Iterator<Item = &'static str> {
    let release = script.savepoint.then_some("RELEASE SAVEPOINT piece");
    let commit = script.commit.then_some("COMMIT");
    release.into_iter().chain(commit)
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

/// What became of a script that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// It was carried out.
    Done,
    /// The batch is in already. The transaction that found out is still open, and failed.
    Known,
}

/// A script failed.
#[derive(Debug)]
struct Refusal {
    failure: Failure,
    /// The work that was refused, if it was work.
    item: Option<usize>,
}

impl Refusal {
    fn into_failure(self) -> Failure {
        self.failure
    }
}

/// What is taken for granted about rows that are upserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    Nothing,
    /// That they are new, if they were of late.
    New,
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
    /// The table whose rows are taken for new ones, though nobody said so.
    guessed: Option<TableId>,
}

enum Does {
    Execute(Statement),
    Copy { sql: String, data: Vec<u8> },
}

impl Work {
    fn call(&self) -> Call<'_> {
        match &self.does {
            Does::Execute(Statement { sql, params, .. }) => {
                let params = params.iter();
                let params =
                    params.map(|array| (type_of(array.wire()).oid(), Some(array.as_bytes())));
                Call { sql, params: params.collect(), rows: None }
            }
            Does::Copy { sql, data } => Call { sql, params: Vec::new(), rows: Some(data) },
        }
    }

    /// An update may find that its row is missing.
    const fn must_be_seen(&self) -> bool {
        match &self.does {
            Does::Execute(statement) => statement.rows_min.is_some(),
            Does::Copy { .. } => false,
        }
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
