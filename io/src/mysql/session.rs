//! One connection, and what holds for every session of ours.
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{
    ClientIdentity, Conn, DriverError, IoError, Opts, OptsBuilder, Row, SslOpts, Value,
};
use replicator_core::dialect::mysql::Flavor;
use thiserror::Error;

use super::conninfo::{MySqlConnInfo, MySqlSslMode, MySqlTls, Place};
use super::server::{Server, ServerError};

/// The longest that connecting may take, unless the connection string says otherwise.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How soon the network is asked whether the server is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The longest wait for the answer to a question on the side, such as a ping.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Every strict mode there is, and an identity column that takes the value 0.
const SQL_MODE: &str = "STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
                        ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,\
                        NO_BACKSLASH_ESCAPES";

/// What a connection string does not say about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MySqlOptions {
    /// The longest wait for a row lock, in whole seconds.
    pub lock_wait: Duration,
    /// After this long without a statement the server ends the session, and a transaction with it.
    pub idle: Duration,
}

/// The server refused something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("ERROR {code}: {message}")]
pub struct Refusal {
    /// The error's number.
    pub code: u16,
    /// Its text. May quote values; see [`describe`](replicator_core::dialect::mysql::describe).
    pub message: String,
}

/// A statement failed.
#[derive(Debug, Error)]
pub enum MySqlError {
    /// The server refused it. The session is as good as before.
    #[error(transparent)]
    Server(Refusal),
    /// The connection broke, or the session was left in the middle of something.
    #[error("the connection to the server broke")]
    Lost(#[source] Option<mysql_async::Error>),
    /// The server did not answer in time.
    #[error("the server did not answer within {} s", ANSWER_LIMIT.as_secs())]
    Late,
}

/// No session could be opened.
#[derive(Debug, Error)]
pub enum MySqlConnectError {
    /// The connection failed, or the server refused it.
    #[error("could not connect to {to}")]
    Failed {
        /// The server, without the password.
        to: String,
        /// Why.
        #[source]
        source: mysql_async::Error,
    },
    /// Nobody answered in time.
    #[error("could not connect to {to} within {} s", limit.as_secs())]
    TimedOut {
        /// The server, without the password.
        to: String,
        /// How long we waited.
        limit: Duration,
    },
    /// It is another kind of server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// It did not take the settings of a session.
    #[error("could not set up the session")]
    SetUp(#[source] MySqlError),
}

/// Which statement of a script failed, and how.
#[derive(Debug)]
pub struct ScriptError {
    /// Its place, from 0. None after it was carried out; those before it were.
    pub at: usize,
    /// Why.
    pub reason: MySqlError,
}

/// A session. Of no use after a call that was not awaited to its end.
pub struct MySqlSession {
    conn: Conn,
    server: Server,
    broken: bool,
}

impl fmt::Debug for MySqlSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, broken, .. } = self;
        f.debug_struct("MySqlSession")
            .field("server", server)
            .field("broken", broken)
            .finish_non_exhaustive()
    }
}

impl MySqlSession {
    /// Connects and sets the session up.
    ///
    /// # Errors
    ///
    /// See [`MySqlConnectError`].
    pub async fn open(
        conninfo: &MySqlConnInfo,
        options: &MySqlOptions,
    ) -> Result<Self, MySqlConnectError> {
        let limit = conninfo.connect_timeout.unwrap_or(CONNECT_LIMIT);
        let to = conninfo.to_string();
        let opening = tokio::time::timeout(limit, async {
            let conn = connect(conninfo).await;
            let conn =
                conn.map_err(|source| MySqlConnectError::Failed { to: to.clone(), source })?;
            set_up(conn, options).await
        });
        match opening.await {
            Ok(opened) => opened,
            Err(_) => Err(MySqlConnectError::TimedOut { to, limit }),
        }
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Runs statements, separated by semicolons, in one message. Returns how many rows each of them found
    /// or changed. Not cancel safe: dropping the future leaves the session of no use.
    ///
    /// # Errors
    ///
    /// The first statement that failed; none after it was carried out. A transaction that was open may
    /// still be.
    pub async fn run(&mut self, script: &str) -> Result<Vec<u64>, ScriptError> {
        let mut rows = Vec::new();
        if self.broken {
            return Err(ScriptError { at: 0, reason: MySqlError::Lost(None) });
        }
        self.broken = true;
        let outcome = run(&mut self.conn, script, &mut rows).await;
        self.settle(outcome).map_err(|reason| ScriptError { at: rows.len(), reason })?;
        Ok(rows)
    }

    /// Asks one question; `None` is NULL. Not cancel safe.
    ///
    /// # Errors
    ///
    /// See [`MySqlError`].
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, MySqlError> {
        if self.broken {
            return Err(MySqlError::Lost(None));
        }
        self.broken = true;
        let outcome = self.conn.query::<Row, _>(sql).await;
        let rows = self.settle(outcome)?;
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    /// Runs one statement that says where to go back to, such as ROLLBACK, within a limit.
    ///
    /// # Errors
    ///
    /// The session is of no use any more.
    pub async fn roll_back(&mut self, to: &str) -> Result<(), MySqlError> {
        let running = tokio::time::timeout(ANSWER_LIMIT, self.run(to)).await;
        let outcome = running.map_err(|_| MySqlError::Late)?;
        if let Err(ScriptError { reason, .. }) = outcome {
            self.broken = true;
            return Err(reason);
        }
        Ok(())
    }

    /// Whether the server is still there. Asks it.
    pub async fn answers(&mut self) -> bool {
        if self.broken {
            return false;
        }
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.conn.ping()).await;
        self.broken = !matches!(answer, Ok(Ok(())));
        !self.broken
    }

    /// A server that refused is as good as before; a connection that broke is not.
    fn settle<T>(&mut self, outcome: Result<T, mysql_async::Error>) -> Result<T, MySqlError> {
        let error = match outcome {
            Ok(value) => {
                self.broken = false;
                return Ok(value);
            }
            Err(error) => error,
        };
        match error {
            mysql_async::Error::Server(refusal) => {
                self.broken = self.conn.is_disconnected();
                let mysql_async::ServerError { code, message, state: _ } = refusal;
                Err(MySqlError::Server(Refusal { code, message }))
            }
            mysql_async::Error::Driver(_)
            | mysql_async::Error::Io(_)
            | mysql_async::Error::Other(_)
            | mysql_async::Error::Url(_) => Err(MySqlError::Lost(Some(error))),
        }
    }
}

async fn run(conn: &mut Conn, script: &str, rows: &mut Vec<u64>) -> Result<(), mysql_async::Error> {
    let mut result = conn.query_iter(script).await?;
    loop {
        rows.push(result.affected_rows());
        if result.is_empty() {
            // The driver keeps the error of a later statement back until somebody asks for more, and until
            // then takes it for one more result.
            let ended = result.drop_result().await;
            if ended.is_err() {
                rows.pop();
            }
            return ended;
        }
        // Goes on to the next statement's result.
        result.collect::<Row>().await?;
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        // In answers to plain queries everything is text.
        other @ (Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Date(..)
        | Value::Time(..)) => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

/// Tries with and without TLS in the order that the mode asks for.
async fn connect(conninfo: &MySqlConnInfo) -> Result<Conn, mysql_async::Error> {
    let plain = || Conn::new(opts(conninfo, None));
    let encrypted = || Conn::new(opts(conninfo, Some(ssl_opts(&conninfo.tls))));
    if matches!(conninfo.place, Place::Socket(_)) {
        return plain().await;
    }
    match conninfo.tls.mode {
        MySqlSslMode::Disable => plain().await,
        MySqlSslMode::Allow => match plain().await {
            // A server that insists on TLS refuses to go on without.
            Err(error) => encrypted().await.map_err(|_| error),
            Ok(conn) => Ok(conn),
        },
        MySqlSslMode::Prefer => match encrypted().await {
            Err(error) if is_about_tls(&error) => plain().await,
            outcome => outcome,
        },
        MySqlSslMode::Require | MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity => {
            encrypted().await
        }
    }
}

fn is_about_tls(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Driver(error) => {
            matches!(error, DriverError::NoClientSslFlagFromServer)
        }
        mysql_async::Error::Io(error) => match error {
            IoError::Tls(_) => true,
            // What the TLS library has to say about the other side comes as this.
            IoError::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        },
        mysql_async::Error::Other(_)
        | mysql_async::Error::Server(_)
        | mysql_async::Error::Url(_) => false,
    }
}

fn opts(conninfo: &MySqlConnInfo, tls: Option<SslOpts>) -> Opts {
    let password = conninfo.password.as_ref();
    let password = password.map(|secret| String::from_utf8_lossy(secret.expose()).into_owned());
    let builder = OptsBuilder::default()
        .user(Some(conninfo.user.clone()))
        .pass(password)
        .db_name(Some(conninfo.database.clone()))
        // A row that an update finds counts, whether it changes or not.
        .client_found_rows(true)
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE))
        .stmt_cache_size(0)
        .ssl_opts(tls);
    match &conninfo.place {
        Place::Tcp { host, port } => builder.ip_or_hostname(host.clone()).tcp_port(*port),
        Place::Socket(path) => builder.socket(Some(path.display().to_string())),
    }
    .into()
}

fn ssl_opts(tls: &MySqlTls) -> SslOpts {
    let mut opts = SslOpts::default();
    if let Some(roots) = &tls.roots {
        opts = opts.with_root_certs(vec![roots.clone().into()]).with_disable_built_in_roots(true);
    }
    if let Some((certificate, key)) = &tls.identity {
        let identity = ClientIdentity::new(certificate.clone().into(), key.clone().into());
        opts = opts.with_client_identity(Some(identity));
    }
    let (unchecked, nameless) = match tls.mode {
        MySqlSslMode::Disable | MySqlSslMode::Allow | MySqlSslMode::Prefer => (true, true),
        MySqlSslMode::Require => (tls.roots.is_none(), true),
        MySqlSslMode::VerifyCa => (false, true),
        MySqlSslMode::VerifyIdentity => (false, false),
    };
    opts.with_danger_accept_invalid_certs(unchecked).with_danger_skip_domain_validation(nameless)
}

/// Asks the server what it is, and sets what every session of ours relies on, whatever the server's
/// defaults: strictness, UTC, checks of constraints.
async fn set_up(mut conn: Conn, options: &MySqlOptions) -> Result<MySqlSession, MySqlConnectError> {
    let sql = format!("SHOW VARIABLES WHERE Variable_name IN ({})", Server::VARIABLES);
    let rows = conn.query::<(String, String), _>(sql).await;
    let rows = rows.map_err(|error| MySqlConnectError::SetUp(MySqlError::Lost(Some(error))))?;
    let variables: BTreeMap<String, String> = rows.into_iter().collect();
    let server = Server::of(&variables)?;
    let (wait, idle) = (options.lock_wait.as_secs().max(1), options.idle.as_secs().max(1));
    let mut sql = format!(
        "SET NAMES utf8mb4; \
         SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', autocommit = 1, \
         foreign_key_checks = 1, unique_checks = 1, innodb_lock_wait_timeout = {wait}, \
         wait_timeout = {idle}"
    );
    match server.flavor {
        Flavor::MariaDb => sql.push_str(", check_constraint_checks = 1"),
        Flavor::MySql | Flavor::MySql57 => (),
    }
    if !server.logs_statements {
        // Fewer gaps are locked, so batches that run side by side are seldom in each other's way.
        sql.push_str("; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
    }
    let mut session = MySqlSession { conn, server, broken: false };
    let set = session.run(&sql).await;
    set.map_err(|ScriptError { reason, .. }| MySqlConnectError::SetUp(reason))?;
    Ok(session)
}
