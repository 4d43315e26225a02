//! Applies batches to MySQL or MariaDB.
//!
//! A batch is mostly one round trip: BEGIN, all statements and COMMIT go out in one message, and an error
//! makes the server skip the rest. What is larger than a message may be goes in several.
pub mod catalog;
mod dead_letter;
mod failure;
mod progress;
mod sql;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::dialect::mysql::{MySql, Refused, name};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::{ApplyRequest, Piece};
use replicator_core::plan::plan;
use tokio::sync::Mutex;

pub use self::dead_letter::find as find_dead_letters;
use self::failure::{Progress, failure_of};
pub use self::progress::{MySqlProgressTable, MySqlRecord};
use crate::mysql::pool::{MySqlPool, PooledSession};
use crate::mysql::server::Server;
use crate::mysql::session::ScriptError;
use crate::port::{Fence, Target};

/// Bytes of a statement, above which its rows go to another one. What MySQL makes of a larger one while it parses it
/// is more than a processor keeps close by: 256 KiB cost it an eighth more for each row. MariaDB does not mind.
const STATEMENT_BYTES: usize = 64 << 10;
/// Most bytes of a message, if the server takes as many. More would gain nothing and be held twice.
const SCRIPT_BYTES_MAX: usize = 8 << 20;
/// What is left free of a message, for what the protocol adds.
const SPARE_BYTES: usize = 1 << 10;

/// What a target needs to know.
#[derive(Clone, Debug)]
pub struct MySqlTargetOptions {
    /// The tables.
    pub catalog: Arc<Catalog>,
    /// How a transaction records what it holds, if the target has a table for that. Then everything is
    /// applied exactly once.
    pub record: Option<MySqlRecord>,
    /// Longest time for one batch.
    pub apply_timeout: Duration,
    /// Where rows go that the target refuses for good.
    pub dead_letters: Option<TableName>,
}

/// A session inside a transaction, and whose.
type Open = (Fence, PooledSession);

/// A MySQL or MariaDB target. Clones share sessions.
#[derive(Clone, Debug)]
pub struct MySqlTarget {
    pool: MySqlPool,
    options: Arc<MySqlTargetOptions>,
    // The transaction that a source transaction in pieces is applied in.
    open: Arc<Mutex<Option<Open>>>,
}

impl MySqlTarget {
    /// A target for one run.
    #[must_use]
    pub fn new(pool: MySqlPool, options: MySqlTargetOptions) -> Self {
        Self { pool, options: Arc::new(options), open: Arc::new(Mutex::new(None)) }
    }

    async fn apply_now(&self, fence: Fence, request: &ApplyRequest) -> Result<(), Failure> {
        match request.batch.piece {
            Piece::Whole => {
                let mut session = self.take().await?;
                let work = self.work(request, session.server())?;
                let script = Script { begin: true, commit: true, savepoint: false };
                let outcome = self.send(&mut session, request, &work, script).await;
                // A server that refused is as good as before; one that fell silent is not.
                let ended = matches!(outcome, Ok(Sent::Done));
                if ended || session.roll_back("ROLLBACK").await.is_ok() {
                    self.pool.put(session);
                }
                outcome.map(drop)
            }
            piece @ (Piece::First | Piece::Middle | Piece::Last) => {
                self.apply_piece(fence, request, piece).await
            }
        }
    }

    /// A piece is put in its transaction behind a savepoint, so that it can be tried in another order.
    async fn apply_piece(
        &self,
        fence: Fence,
        request: &ApplyRequest,
        piece: Piece,
    ) -> Result<(), Failure> {
        let mut open = self.open.lock().await;
        let had = open.take().filter(|(opened_by, _)| *opened_by == fence);
        let (mut session, begin) = match (had, piece) {
            (Some((_, session)), _) => (session, false),
            (None, Piece::First) => (self.take().await?, true),
            (None, Piece::Middle | Piece::Last | Piece::Whole) => {
                let detail = "the transaction that earlier pieces are in is gone".to_owned();
                return Err(Failure::Transient { detail });
            }
        };
        let work = match self.work(request, session.server()) {
            Ok(work) => work,
            Err(failure) => {
                // Nothing of it was sent. An opening piece comes again as one.
                *open = Some((fence, session)).filter(|_| !begin);
                return Err(failure);
            }
        };
        let script = Script { begin, commit: piece.commits(), savepoint: true };
        match self.send(&mut session, request, &work, script).await {
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

    /// Sends one transaction, or the part of one that `script` says.
    async fn send(
        &self,
        session: &mut PooledSession,
        request: &ApplyRequest,
        work: &[Work],
        script: Script,
    ) -> Result<Sent, Failure> {
        // Work whose result must be seen before the commit keeps the commit back.
        let commit_along = !work.iter().any(|item| item.rows_min.is_some());
        let record = self.options.record.as_ref().filter(|_| script.commit);
        let recorded = record.map(|record| (record, record.statements(&request.batch)));
        let mut lines: Vec<Line<'_>> = script.opening().map(Line::Plain).collect();
        if let Some((record, statements)) = &recorded {
            lines.extend(statements.iter().map(|sql| Line::Record(record, sql)));
        }
        lines.extend(work.iter().map(Line::Work));
        if commit_along {
            lines.extend(script.closing().map(Line::Plain));
        }
        let sent = send_lines(session, &lines, commit_along && script.commit).await?;
        if sent == Sent::Done && !commit_along {
            let lines: Vec<Line<'_>> = script.closing().map(Line::Plain).collect();
            return send_lines(session, &lines, script.commit).await;
        }
        Ok(sent)
    }

    async fn take(&self) -> Result<PooledSession, Failure> {
        let taken = self.pool.take().await;
        taken.map_err(|error| Failure::Transient { detail: crate::error_chain(&error) })
    }

    /// The work of a request, in order.
    fn work(&self, request: &ApplyRequest, server: &Server) -> Result<Vec<Work>, Failure> {
        let MySqlTargetOptions { catalog, dead_letters, .. } = &*self.options;
        let ApplyRequest { batch, order, dead } = request;
        let message_max = server.packet_bytes_max.saturating_sub(SPARE_BYTES);
        let my = MySql {
            flavor: server.flavor,
            statement_bytes: STATEMENT_BYTES.min(message_max),
            statement_bytes_max: message_max,
        };
        let mut work = Vec::new();
        for step in plan(catalog, &batch.mutations, order, dead) {
            let table = catalog.table(step.table);
            let shown = name(&table.name);
            let statements = my.statements(table, &step).map_err(|refused| {
                let (Refused::Value { at, .. } | Refused::Large { at, .. }) = &refused;
                let detail = format!("cannot write a row of {shown}: {refused}");
                Failure::Rejected { detail, at: at.clone() }
            })?;
            work.extend(statements.into_iter().map(|statement| Work {
                table: shown.clone(),
                at: statement.at,
                sql: statement.sql,
                rows_min: statement.rows_min,
            }));
        }
        if !dead.is_empty() {
            let Some(letters) = dead_letters else {
                panic!("dead letters without a table for them")
            };
            let sql = dead_letter::statement(catalog, letters, request)
                .map_err(|error| Failure::Transient { detail: error.to_string() })?;
            work.push(Work { table: name(letters), at: None, sql, rows_min: None });
        }
        Ok(work)
    }
}

impl Target for MySqlTarget {
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
#[derive(Clone, Copy, Debug)]
struct Script {
    begin: bool,
    savepoint: bool,
    commit: bool,
}

impl Script {
    fn opening(self) -> impl Iterator<Item = &'static str> {
        let begin = self.begin.then_some("BEGIN");
        begin.into_iter().chain(self.savepoint.then_some("SAVEPOINT piece"))
    }

    fn closing(self) -> impl Iterator<Item = &'static str> {
        let release = self.savepoint.then_some("RELEASE SAVEPOINT piece");
        release.into_iter().chain(self.commit.then_some("COMMIT"))
    }
}

/// One statement.
#[derive(Debug)]
struct Work {
    table: String,
    at: Option<Range<usize>>,
    sql: String,
    rows_min: Option<u64>,
}

impl Work {
    fn check(&self, rows: u64) -> Result<(), Failure> {
        let missing = self.rows_min.map_or(0, |rows_min| rows_min.saturating_sub(rows));
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

/// What became of a script that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// It was carried out.
    Done,
    /// The batch is in already. The transaction that found out is still open.
    Known,
}

/// One statement of a script, and what it is for.
#[derive(Clone, Copy, Debug)]
enum Line<'a> {
    Plain(&'static str),
    Record(&'a MySqlRecord, &'a str),
    Work(&'a Work),
}

impl<'a> Line<'a> {
    const fn sql(self) -> &'a str {
        match self {
            Line::Plain(sql) => sql,
            Line::Record(_, sql) => sql,
            Line::Work(work) => work.sql.as_str(),
        }
    }
}

/// Sends lines in as few messages as possible. If they commit, the last one does.
async fn send_lines(
    session: &mut PooledSession,
    lines: &[Line<'_>],
    commits: bool,
) -> Result<Sent, Failure> {
    let packet = session.server().packet_bytes_max.saturating_sub(SPARE_BYTES);
    let message_max = packet.min(SCRIPT_BYTES_MAX);
    let mut rest = lines;
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        for line in rest {
            let with = bytes + line.sql().len() + 1;
            if 0 < count && message_max < with {
                break;
            }
            (count, bytes) = (count + 1, with);
        }
        let (sent, later) = rest.split_at(count);
        let mut message = String::with_capacity(bytes);
        for (index, line) in sent.iter().enumerate() {
            message.push_str(if index == 0 { "" } else { ";" });
            message.push_str(line.sql());
        }
        let rows = match session.run(&message).await {
            Ok(rows) => rows,
            Err(error) => {
                let outcome = refused(&error, sent, commits && later.is_empty());
                return outcome.map(|()| Sent::Known);
            }
        };
        for (line, rows) in sent.iter().zip(rows) {
            if let Line::Work(work) = line {
                work.check(rows)?;
            }
        }
        rest = later;
    }
    Ok(Sent::Done)
}

/// What the error of one of these lines means. It is none if the batch is in already.
fn refused(error: &ScriptError, sent: &[Line<'_>], commit_sent: bool) -> Result<(), Failure> {
    let ScriptError { at, reason } = error;
    let progress = Progress { commit_sent, at: None, table: None };
    match sent.get(*at) {
        Some(Line::Record(record, _)) => record.outcome(reason, &progress),
        Some(Line::Work(work)) => {
            let (at, table) = (work.at.clone(), Some(work.table.as_str()));
            Err(failure_of(reason, &Progress { at, table, ..progress }))
        }
        Some(Line::Plain(_)) | None => Err(failure_of(reason, &progress)),
    }
}
