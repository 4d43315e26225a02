//! Requests to a database of ours, each on a session of its own and with a deadline.
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::dialect::{Class, Product, classify};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::net::Dial;
use crate::pg::pool::Pool;

/// How often a request that may be repeated is tried, and the first pause; each further one is three
/// times as long.
const TRIES_MAX: u32 = 5;
const DELAY_FIRST: Duration = Duration::from_millis(20);

/// The way to a database. Clones share sessions.
#[derive(Debug)]
pub(crate) struct Sessions<D: Dial> {
    pool: Pool<D>,
    // Which database it is.
    side: &'static str,
    timeout: Duration,
}

impl<D: Dial> Clone for Sessions<D> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), side: self.side, timeout: self.timeout }
    }
}

/// Why a request was not done.
#[derive(Debug)]
enum Refused {
    Failed(Failure),
    /// Nobody is to blame: it may work at once.
    Again(Failure),
}

impl<D: Dial> Sessions<D> {
    /// `side` is which database it is, for the operator. `timeout` is for one request.
    pub(crate) const fn new(pool: Pool<D>, side: &'static str, timeout: Duration) -> Self {
        Self { pool, side, timeout }
    }

    /// The same sessions with another deadline.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { pool: self.pool.clone(), side: self.side, timeout }
    }

    /// Runs one request on a session, with a deadline. The session is dropped if the request fails.
    pub(crate) async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        self.ask_once(request).await.map_err(|refused| match refused {
            Refused::Failed(failure) | Refused::Again(failure) => failure,
        })
    }

    /// Runs a request that may be repeated. A conflict with another transaction or a lost connection is
    /// not its end; the deadline is for each try.
    pub(crate) async fn ask_again<T>(
        &self,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error> + Clone,
    ) -> Result<T, Failure> {
        let mut delay = DELAY_FIRST;
        for _ in 1..TRIES_MAX {
            match self.ask_once(request.clone()).await {
                Ok(value) => return Ok(value),
                Err(Refused::Failed(failure)) => return Err(failure),
                Err(Refused::Again(_)) => tokio::time::sleep(delay).await,
            }
            delay = delay.saturating_mul(3);
        }
        self.ask(request).await
    }

    async fn ask_once<T>(
        &self,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Refused> {
        let side = self.side;
        let work = async {
            let session = self.pool.take().await.map_err(|error| {
                let detail = format!("{side}: {}", crate::error_chain(&error));
                Refused::Failed(Failure::Transient { detail })
            })?;
            let value = request(session.client()).await.map_err(|error| refused(side, &error))?;
            self.pool.put(session);
            Ok(value)
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            let detail = format!("{side} did not answer within {} s", self.timeout.as_secs());
            Err(Refused::Failed(Failure::Transient { detail }))
        })
    }
}

fn refused(side: &str, error: &Error) -> Refused {
    let failure = failure_of(side, error);
    // Class 40: the server undid the transaction. The others: somebody made the same table or index at the
    // same time. No code: the connection is lost.
    let made_twice = |code: &str| ["23505", "42710", "42P07"].contains(&code);
    let again =
        error.code().is_none_or(|code| code.code().starts_with("40") || made_twice(code.code()));
    if again { Refused::Again(failure) } else { Refused::Failed(failure) }
}

fn failure_of(side: &str, error: &Error) -> Failure {
    let detail = format!("{side}: {}", crate::error_chain(error));
    match error.code().map(|code| (code.code(), classify(code.code()))) {
        Some(("22012", _)) => Failure::Fenced,
        Some(("42501", _)) => Failure::Transient {
            detail: format!(
                "{detail}; grant the user of the {side} connection all rights on that table, or on the \
                 staging schema and its tables"
            ),
        },
        Some(("53100", _)) => Failure::Transient {
            detail: format!("{detail}; free space on the disk of the {side} database"),
        },
        Some((_, Class::Rejected | Class::Constraint)) => Failure::Rejected { detail, at: None },
        Some((_, Class::Transient | Class::OutcomeUnknown)) | None => Failure::Transient { detail },
    }
}

/// The SQL that divides by zero unless the fence is the newest, which also stops the statements behind
/// it. `$1` = stream, `$2` = fence.
///
/// On PostgreSQL the lock makes a new run wait for this transaction; CockroachDB is serializable and
/// needs none.
pub(crate) fn check_fence(fences: &str, product: Product) -> String {
    let lock = match product {
        Product::Postgres => " FOR SHARE",
        Product::Cockroach => "",
    };
    format!(
        "SELECT 1 / (CASE WHEN \
         (SELECT fence FROM {fences} WHERE stream = $1{lock}) = $2 THEN 1 ELSE 0 END)"
    )
}

/// The SQL that takes the next fence. `$1` = stream. Waits for every transaction of the older run that
/// holds a share of the row.
pub(crate) fn take_fence(fences: &str) -> String {
    format!(
        "INSERT INTO {fences} AS f (stream, fence) VALUES ($1, 1) \
         ON CONFLICT (stream) DO UPDATE SET fence = f.fence + 1, since = now() RETURNING fence"
    )
}

/// A parameter with its type.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// One statement.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param<'a>>,
}

/// Runs statements as one transaction, all sent at once: an error stops those behind it. Returns the
/// rows of each.
pub(crate) async fn transaction(client: &Client, asks: &[Ask<'_>]) -> Result<Vec<Vec<Row>>, Error> {
    let plain = async |sql: &'static str| client.batch_execute(sql).await.map(|()| Vec::new());
    let mut requests: Vec<Request<'_>> = Vec::with_capacity(asks.len() + 2);
    requests.push(Box::pin(plain("BEGIN")));
    for ask in asks {
        requests.push(Box::pin(client.query_typed(&ask.sql, &ask.params)));
    }
    requests.push(Box::pin(plain("COMMIT")));
    let mut answers = in_order(requests).await?;
    answers.pop();
    Ok(answers.split_off(1))
}

/// Runs statements one by one, all sent at once. Returns the rows of each.
pub(crate) async fn all(client: &Client, asks: &[Ask<'_>]) -> Result<Vec<Vec<Row>>, Error> {
    let mut requests: Vec<Request<'_>> = Vec::with_capacity(asks.len());
    for ask in asks {
        requests.push(Box::pin(client.query_typed(&ask.sql, &ask.params)));
    }
    in_order(requests).await
}

type Request<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + Send + 'a>>;

/// Waits for all. They are first polled, and so sent, in their order. Returns the first error.
async fn in_order(mut requests: Vec<Request<'_>>) -> Result<Vec<Vec<Row>>, Error> {
    let mut answers: Vec<Option<Result<Vec<Row>, Error>>> = requests.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (request, answer) in requests.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match request.as_mut().poll(context) {
                    Poll::Ready(ready) => *answer = Some(ready),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    answers.into_iter().map(|answer| answer.expect("all are ready")).collect()
}
