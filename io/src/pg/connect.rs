//! Opens connections: each host in turn, with and without TLS as the mode allows, within a deadline.
use std::future::Future;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding as PgChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::{Client, Config};
use tracing::debug;

use super::conninfo::{ChannelBinding, ConnInfo, Host};
use super::login::LoginError;
use super::server_error::ServerError;
pub use super::session::SessionOptions;
use super::tls::{Encryption, Established, PgStream, TlsError, negotiate, ways};
use crate::net::Dial;

/// A connection could not be opened.
#[derive(Debug, Error)]
#[error("failed to connect to `{to}`")]
pub struct ConnectError {
    /// User, database, host and port.
    pub to: String,
    /// Why.
    #[source]
    pub reason: Box<ConnectFailure>,
}

/// Why a connection could not be opened.
#[derive(Debug, Error)]
pub enum ConnectFailure {
    /// Nobody answers there.
    #[error("could not reach the server")]
    Dial(#[source] io::Error),
    /// It could not be encrypted, or not in the way that is asked for.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server refused.
    #[error(transparent)]
    Server(ServerError),
    /// The login went wrong on our side, or the connection broke.
    #[error("could not log in")]
    Sql(#[source] tokio_postgres::Error),
    /// The same, on a connection whose messages are our own.
    #[error("could not log in")]
    Login(#[source] LoginError),
    /// It took too long.
    #[error("no connection within {} s", limit.as_secs())]
    TimedOut {
        /// How long we waited.
        limit: Duration,
    },
}

impl ConnectFailure {
    /// The SQLSTATE, if a server refused.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            Self::Dial(_)
            | Self::Tls(_)
            | Self::Sql(_)
            | Self::Login(_)
            | Self::TimedOut { .. } => None,
        }
    }

    /// Whether the server might let us in if the connection were encrypted, or were not: it refused us
    /// before it knew who we are, or TLS failed.
    fn asks_for_another_way(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            // Class 28: invalid authorization specification.
            Self::Server(error) => error.code.starts_with("28"),
            Self::Dial(_) | Self::Sql(_) | Self::Login(_) | Self::TimedOut { .. } => false,
        }
    }

    /// Whether the server has no rule for connections like this one, which says less than anything else.
    fn is_no_rule(&self) -> bool {
        self.code() == Some("28000")
    }
}

/// Aborts a task when dropped, so that no task outlives its owner.
#[derive(Debug)]
pub struct AbortOnDrop<T>(JoinHandle<T>);

impl<T: Send + 'static> AbortOnDrop<T> {
    /// Runs a future in a task of its own.
    #[expect(clippy::disallowed_methods, reason = "the owner of the handle ends the task")]
    pub fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// The task, to wait for it. Dropping the future aborts nothing; dropping this does.
    pub const fn task(&mut self) -> &mut JoinHandle<T> {
        &mut self.0
    }

    /// Aborts the task and waits until it is gone.
    pub async fn end(mut self) {
        self.0.abort();
        drop((&mut self.0).await);
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An SQL session. Dropping it closes the connection at once.
#[derive(Debug)]
pub struct SqlSession {
    client: Client,
    connection: AbortOnDrop<Result<(), tokio_postgres::Error>>,
}

impl SqlSession {
    /// To send statements.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Says goodbye to the server, and waits until it has hung up, at most for `limit`.
    pub async fn close(self, limit: Duration) {
        let Self { client, mut connection } = self;
        drop(client);
        let ended = tokio::time::timeout(limit, connection.task()).await;
        debug!(in_time = ended.is_ok(), "closed a session");
    }
}

/// Opens an SQL session.
///
/// # Errors
///
/// See [`ConnectFailure`]; with several hosts, why the last one failed.
pub async fn connect_sql<D: Dial>(
    dial: &D,
    conninfo: &ConnInfo,
    session: &SessionOptions,
) -> Result<SqlSession, ConnectError> {
    connect(dial, conninfo, session, &SqlLogin { config: config(conninfo, session) }).await
}

/// Logs in on a connected stream.
pub(super) trait Login<S>: Sync {
    /// What comes of it.
    type Session: Send;

    fn login(
        &self,
        stream: PgStream<S>,
    ) -> impl Future<Output = Result<Self::Session, ConnectFailure>> + Send;
}

struct SqlLogin {
    config: Config,
}

impl<S> Login<S> for SqlLogin
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    type Session = SqlSession;

    async fn login(&self, stream: PgStream<S>) -> Result<SqlSession, ConnectFailure> {
        let login = self.config.connect_raw(stream, Established).await;
        let (client, connection) = login.map_err(|error| {
            ServerError::of(&error).map_or(ConnectFailure::Sql(error), ConnectFailure::Server)
        })?;
        Ok(SqlSession { client, connection: AbortOnDrop::spawn(connection) })
    }
}

fn config(conninfo: &ConnInfo, session: &SessionOptions) -> Config {
    let mut config = Config::new();
    config
        .user(&conninfo.user)
        .dbname(&conninfo.database)
        .application_name(session.application_name(conninfo))
        .options(session.startup_options(conninfo))
        // TLS is set up before tokio-postgres sees the stream: see `Established`.
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct)
        .channel_binding(match conninfo.tls.channel_binding {
            ChannelBinding::Disable => PgChannelBinding::Disable,
            ChannelBinding::Prefer => PgChannelBinding::Prefer,
            ChannelBinding::Require => PgChannelBinding::Require,
        });
    if let Some(password) = &conninfo.password {
        config.password(password.expose());
    }
    config
}

/// Tries each host, in each way, until one lets us in.
pub(super) async fn connect<D: Dial, L: Login<D::Stream>>(
    dial: &D,
    conninfo: &ConnInfo,
    session: &SessionOptions,
    login: &L,
) -> Result<L::Session, ConnectError> {
    let limit = session.connect_timeout(conninfo);
    let mut last = None;
    for host in &conninfo.hosts {
        let attempt = connect_host(dial, conninfo, host, login);
        let outcome = match tokio::time::timeout(limit, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectFailure::TimedOut { limit }),
        };
        match outcome {
            Ok(session) => return Ok(session),
            Err(reason) => last = Some((host, reason)),
        }
    }
    let (host, reason) = last.expect("a connection string has at least one host");
    let ConnInfo { user, database, .. } = conninfo;
    let Host { name, port, .. } = host;
    let to = format!("user={user} database={database} host={name} port={port}");
    Err(ConnectError { to, reason: Box::new(reason) })
}

async fn connect_host<D: Dial, L: Login<D::Stream>>(
    dial: &D,
    conninfo: &ConnInfo,
    host: &Host,
    login: &L,
) -> Result<L::Session, ConnectFailure> {
    let (way, other_way) = ways(conninfo.tls.mode, host);
    let (first, encrypted) = match connect_once(dial, conninfo, host, way, login).await {
        Ok(session) => return Ok(session),
        Err(failed) => failed,
    };
    let Some(other_way) = other_way.filter(|other| {
        // A server without TLS has been tried in the clear already.
        let changes = (*other == Encryption::Required) != encrypted;
        changes && first.asks_for_another_way()
    }) else {
        return Err(first);
    };
    debug!(host = host.name, "trying with the other encryption");
    match connect_once(dial, conninfo, host, other_way, login).await {
        Ok(session) => Ok(session),
        Err((second, _)) if second.is_no_rule() && !first.is_no_rule() => Err(first),
        Err((second, _)) => Err(second),
    }
}

/// One connection. An error comes with whether the connection was encrypted, or meant to be.
async fn connect_once<D: Dial, L: Login<D::Stream>>(
    dial: &D,
    conninfo: &ConnInfo,
    host: &Host,
    encryption: Encryption,
    login: &L,
) -> Result<L::Session, (ConnectFailure, bool)> {
    let stream = dial.dial(&host.dialed(), host.port).await;
    let stream = stream.map_err(|error| (ConnectFailure::Dial(error), false))?;
    let stream = negotiate(stream, encryption, &conninfo.tls, host).await;
    let stream = stream.map_err(|error| (ConnectFailure::Tls(error), true))?;
    let encrypted = stream.is_encrypted();
    login.login(stream).await.map_err(|failure| (failure, encrypted))
}
