//! One session: requests, transactions, answers (PostgreSQL documentation, "Message Flow").
mod extended;
mod transaction;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use self::transaction::{Block, Transaction};
use super::advisory::Call;
use super::ast::Statement;
use super::catalog::{self, Asked};
use super::data::Row;
use super::describe::{Shape, shape};
use super::error::{Halt, SqlError};
use super::knobs::{Knobs, Loss};
use super::parse::parse_all;
use super::run::Answer;
use super::value::Value;
use super::{Role, SqlServer};
use crate::cluster::wire::{Column, Connection, Format, Refused, Request, Startup, TxStatus};

/// A session at work.
pub(super) struct Session<S> {
    server: SqlServer,
    wire: Connection<S>,
    knobs: Arc<Knobs>,
    user: String,
    database: String,
    /// `idle_in_transaction_session_timeout`.
    idle_max: Option<Duration>,
    tx: Transaction,
    statements: BTreeMap<String, Arc<Prepared>>,
    portals: BTreeMap<String, Portal>,
    /// After an error everything up to Sync is skipped.
    skipping: bool,
    /// Whether a client is in the middle of its requests.
    between: bool,
}

/// A prepared statement.
#[derive(Debug)]
struct Prepared {
    sql: String,
    statement: Statement,
    shape: Shape,
}

/// A statement with its parameters.
#[derive(Clone, Debug)]
struct Portal {
    prepared: Arc<Prepared>,
    params: Vec<Value>,
    formats: Vec<Format>,
}

/// Why a request was not carried out.
enum Trouble {
    /// The server refuses; the session goes on unless the error is fatal.
    Refused(SqlError),
    /// The session is over, without another word.
    Gone(io::Error),
}

impl From<SqlError> for Trouble {
    fn from(error: SqlError) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// The connection breaks, as the knobs say.
fn broken() -> Trouble {
    Trouble::Gone(io::Error::from(io::ErrorKind::ConnectionAborted))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(server: SqlServer, first: &Startup, stream: S, knobs: Arc<Knobs>) -> Self {
        let session = server.next_session();
        server.sessions_open.fetch_add(1, Ordering::Relaxed);
        let user = first.get("user").unwrap_or_default().to_owned();
        let database = first.get("database").unwrap_or(&user).to_owned();
        Self {
            tx: Transaction::new(server.clone(), session),
            server,
            wire: Connection::new(stream),
            knobs,
            user,
            database,
            idle_max: idle_max(first.get("options").unwrap_or_default()),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            skipping: false,
            between: false,
        }
    }

    /// The number of the session.
    pub(super) fn number(&self) -> u64 {
        self.tx.session()
    }

    pub(super) async fn serve(mut self) -> io::Result<()> {
        let open = self.server.sessions_open.load(Ordering::Relaxed);
        if let Err(error) = self.knobs.admit(usize::try_from(open).unwrap_or(usize::MAX)) {
            self.wire.reply.error(&refused(&error));
            self.wire.send().await?;
            return self.wire.shutdown().await;
        }
        let settings =
            [("server_version", "17.10"), ("client_encoding", "UTF8"), ("TimeZone", "UTC")];
        let pid = i32::try_from(self.tx.session()).unwrap_or(i32::MAX);
        self.wire.reply.welcome(&settings, pid);
        self.wire.send().await?;
        loop {
            let request = match self.next().await {
                Ok(Some(Request::Terminate) | None) => return Ok(()),
                Ok(Some(request)) => request,
                Err(trouble) => return self.end(trouble).await,
            };
            self.between = !matches!(request, Request::Sync | Request::Query(_));
            if let Err(trouble) = self.handle(request).await {
                return self.end(trouble).await;
            }
        }
    }

    async fn end(&mut self, trouble: Trouble) -> io::Result<()> {
        match trouble {
            Trouble::Gone(error) => Err(error),
            Trouble::Refused(error) => {
                self.tx.roll_back();
                self.wire.reply.error(&refused(&error));
                self.wire.send().await?;
                self.wire.shutdown().await
            }
        }
    }

    /// The next request. A client that keeps a transaction open for too long loses it.
    async fn next(&mut self) -> Result<Option<Request>, Trouble> {
        if let Some(request) = self.wire.arrived()? {
            return Ok(Some(request));
        }
        let idles = !self.between && self.tx.block() != Block::None;
        let limit = if idles { self.idle_max } else { None };
        let limit = limit.or_else(|| self.knobs.silence_max().filter(|_| self.between));
        let Some(limit) = limit else { return Ok(self.wire.receive().await?) };
        match tokio::time::timeout(limit, self.wire.receive()).await {
            Ok(request) => Ok(request?),
            Err(_) if idles => {
                let message = "terminating connection due to idle-in-transaction timeout";
                Err(SqlError::fatal("25P03", message).into())
            }
            Err(_) => Err(Trouble::Gone(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Carries a request out. An error ends the session.
    async fn handle(&mut self, request: Request) -> Result<(), Trouble> {
        match request {
            Request::Query(sql) => self.query(&sql).await,
            Request::Sync => {
                self.skipping = false;
                if let Err(trouble) = self.commit_implicit().await {
                    self.fail(trouble)?;
                    self.skipping = false;
                }
                self.ready().await
            }
            Request::Flush => Ok(self.wire.send().await?),
            Request::Parse { .. }
            | Request::Bind { .. }
            | Request::DescribeStatement(_)
            | Request::DescribePortal(_)
            | Request::Execute { .. }
            | Request::CloseStatement(_)
            | Request::ClosePortal(_)
            | Request::CopyData(_)
            | Request::CopyDone
            | Request::CopyFail(_)
            | Request::Password(_)
            | Request::Terminate => {
                if !self.skipping
                    && let Err(trouble) = self.extended(request).await
                {
                    self.fail(trouble)?;
                    self.skipping = true;
                }
                Ok(())
            }
        }
    }

    /// Tells the client, and gives up the transaction, unless the session is over.
    fn fail(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        let Trouble::Refused(error) = trouble else { return Err(trouble) };
        if error.fatal {
            return Err(error.into());
        }
        self.tx.fail();
        self.wire.reply.error(&refused(&error));
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), Trouble> {
        self.wire.reply.ready(match self.tx.block() {
            Block::None => TxStatus::Idle,
            Block::Open => TxStatus::Open,
            Block::Failed => TxStatus::Failed,
        });
        if self.tx.block() == Block::None {
            self.portals.clear();
        }
        Ok(self.wire.send().await?)
    }

    /// A simple query: its statements are one transaction, unless they say otherwise.
    async fn query(&mut self, sql: &str) -> Result<(), Trouble> {
        let mut outcome = self.query_statements(sql).await;
        if outcome.is_ok() {
            outcome = self.commit_implicit().await;
        }
        if let Err(trouble) = outcome {
            self.fail(trouble)?;
        }
        self.ready().await
    }

    async fn query_statements(&mut self, sql: &str) -> Result<(), Trouble> {
        for statement in parse_all(sql)? {
            let shape = self.shape(sql, &statement, &[])?;
            let prepared = Prepared { sql: sql.to_owned(), statement, shape };
            if !prepared.shape.columns.is_empty() {
                self.wire.reply.columns(&columns(&prepared.shape, &[]));
            }
            self.execute(&prepared, &[], &[]).await?;
        }
        Ok(())
    }

    /// Runs a statement and answers with its rows and its tag.
    async fn execute(
        &mut self,
        prepared: &Prepared,
        params: &[Value],
        formats: &[Format],
    ) -> Result<(), Trouble> {
        let Prepared { sql, statement, shape } = prepared;
        self.tx.admit(statement)?;
        let delay = self.knobs.delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Err(error) = self.knobs.take_failure(sql) {
            if matches!(statement, Statement::Commit) {
                // A COMMIT that fails ends the transaction.
                self.tx.roll_back();
            }
            return Err(error.into());
        }
        let answer = match statement {
            Statement::Empty => {
                self.wire.reply.empty_query();
                return Ok(());
            }
            Statement::Commit => self.commit().await?,
            Statement::Copy { table, columns } => self.copy(table, columns).await?,
            Statement::Question(sql) => self.question(sql, params)?,
            Statement::Select(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::CreateDatabase
            | Statement::CreateSchema(_)
            | Statement::CreateTable(_)
            | Statement::CreateIndex
            | Statement::Lock(_)
            | Statement::HasColumn(..)
            | Statement::With(_) => {
                let limit = self.knobs.lock_wait_max();
                self.tx.run(limit, |work| work.run(statement, params)).await?
            }
            Statement::Begin
            | Statement::Rollback
            | Statement::Savepoint(_)
            | Statement::Release(_)
            | Statement::RollbackTo(_)
            | Statement::Defer => Answer::tag(self.tx.control(statement)?),
        };
        for row in &answer.rows {
            self.wire.reply.row(&encoded(row, shape, formats));
        }
        self.wire.reply.complete(&answer.tag);
        Ok(())
    }

    async fn commit(&mut self) -> Result<Answer, Trouble> {
        if self.knobs.take_loss(Loss::BeforeCommit) {
            return Err(broken());
        }
        let committed = self.tx.commit(self.knobs.lock_wait_max()).await?;
        if self.knobs.take_loss(Loss::AfterCommit) {
            return Err(broken());
        }
        Ok(Answer::tag(if committed { "COMMIT" } else { "ROLLBACK" }))
    }

    /// Ends a transaction that nobody began by name.
    async fn commit_implicit(&mut self) -> Result<(), Trouble> {
        if self.tx.block() == Block::None {
            self.tx.commit(self.knobs.lock_wait_max()).await?;
        }
        Ok(())
    }

    fn shape(&self, sql: &str, statement: &Statement, given: &[u32]) -> Result<Shape, SqlError> {
        if let Statement::Question(_) = statement {
            if Call::of(sql).is_some() {
                return Call::shape(sql);
            }
            return catalog::shape(sql, given);
        }
        shape(&self.server.lock(), statement, given)
    }

    fn question(&self, sql: &str, params: &[Value]) -> Result<Answer, SqlError> {
        let role: &Role = &self.server.role;
        let mut data = self.server.lock();
        if let Some(call) = Call::of(sql) {
            let session = self.tx.session();
            if let Call::End(number) = call {
                let holders = data.advisory.holders(session, number);
                self.server.end_sessions(&holders);
                return Ok(Answer::rows(vec![vec![Value::Bool(true)]; holders.len()]));
            }
            let done = data.advisory.call(session, call);
            return Ok(Answer::rows(vec![vec![Value::Bool(done)]]));
        }
        let (user, database) = (self.user.as_str(), self.database.as_str());
        let asked = Asked { data: &data, role, user, database, params };
        Ok(Answer::rows(catalog::answer(sql, &asked)?))
    }
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        self.server.sessions_open.fetch_sub(1, Ordering::Relaxed);
        self.server.lock().advisory.release(self.tx.session());
    }
}

/// Runs statements in one transaction, without waiting for anything.
pub(super) fn run_at_once(server: &SqlServer, sql: &str) -> Result<(), SqlError> {
    let mut tx = Transaction::new(server.clone(), server.next_session());
    let now = |halt| match halt {
        Halt::Error(error) => error,
        Halt::Wait(_) => SqlError::new("55P03", "a row is locked"),
    };
    for statement in parse_all(sql)? {
        tx.attempt(|work| work.run(&statement, &[])).map_err(now)?;
    }
    tx.try_commit().map_err(now)
}

fn refused(error: &SqlError) -> Refused {
    let SqlError { code, message, constraint, fatal } = error.clone();
    Refused { code, message, constraint, fatal }
}

/// One format is for all columns; without any it is text.
fn format(formats: &[Format], column: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(column).copied().unwrap_or(Format::Text),
    }
}

fn columns(shape: &Shape, formats: &[Format]) -> Vec<Column> {
    let columns = shape.columns.iter().enumerate();
    let column = |(at, (name, of)): (usize, &(String, super::value::Type))| Column {
        name: name.clone(),
        type_oid: of.oid(),
        format: format(formats, at),
    };
    columns.map(column).collect()
}

fn encoded(row: &Row, shape: &Shape, formats: &[Format]) -> Vec<Option<Bytes>> {
    let values = row.iter().zip(&shape.columns).enumerate();
    let value = |(at, (value, (_, of))): (usize, (&Value, &(String, super::value::Type)))| {
        value.encode(*of, format(formats, at) == Format::Binary)
    };
    values.map(value).collect()
}

/// The limit that the startup options set, in milliseconds.
fn idle_max(options: &str) -> Option<Duration> {
    let value = options.split("idle_in_transaction_session_timeout=").nth(1)?;
    let millis = value.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_millis(millis)).filter(|limit| !limit.is_zero())
}
