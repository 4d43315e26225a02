//! What a changefeed asks by HTTP: where its rows belong, what they are, and the answer.
//!
//! A success means that what the request brought is durable. Everything else is asked again by the
//! changefeed, so a request is refused as a whole and early: where it belongs is looked at before who
//! sends it, who sends it before the body is read, and a body is read only if there is room for it.
mod told;
mod unpack;
mod zstd;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_LENGTH, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use replicator_core::decode::changefeed::{
    BodyKind, Changefeed, Endpoint, FeedError, Limits, Message, Scope, TargetKind,
};
use replicator_core::model::ident::{SchemaName, TableName};
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::PartitionId;
use replicator_core::model::time::Hlc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use self::told::{Kind, Told, Verdict};
pub use self::unpack::{Coding, unpack};
use self::unpack::{Collected, Unpacker};
use super::feeds::{Feed, Feeds};
use super::inbox::{Brought, Inbox};
use crate::clock::Clock;

/// Bodies are counted in units of so many bytes.
const UNIT: usize = 1 << 10;

/// A packed body is unpacked in pieces of so many bytes.
const PIECE: usize = 4 << 10;

/// How bodies may be packed.
const CODINGS: HeaderValue = HeaderValue::from_static("gzip, zstd");

/// When a caller that is sent away may come again, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Readers of bodies that are kept for the next request, for each run.
const READERS_MAX: usize = 16;

/// How much is taken, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookLimits {
    /// Of one body.
    pub body: Limits,
    /// All bodies that are being read or wait to become durable, in bytes.
    pub bodies_bytes_max: usize,
    /// The longest that a request may take.
    pub response_timeout: Duration,
}

/// The run that takes the rows of a schema, as long as it lasts.
#[derive(Debug)]
pub struct Live {
    inbox: Inbox,
    fresh: Changefeed,
    readers: Mutex<Vec<Changefeed>>,
    feeds: Feeds,
    // Whether the schema's own feed has called. A run waits for it also if nobody knows that there is one.
    has_called: AtomicBool,
    newcomers: watch::Sender<BTreeSet<Feed>>,
}

impl Live {
    /// A run with its inbox, what reads bodies for its catalog, and the feeds that it waits for. Where others
    /// come, the run is to end, and the next one is to wait for them, too.
    #[must_use]
    pub fn new(
        inbox: Inbox,
        reader: Changefeed,
        feeds: Feeds,
        newcomers: watch::Sender<BTreeSet<Feed>>,
    ) -> Self {
        Self {
            inbox,
            fresh: reader,
            readers: Mutex::default(),
            feeds,
            has_called: AtomicBool::new(false),
            newcomers,
        }
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.inbox.is_closed()
    }

    /// The feed that a request is of.
    fn feed(&self, scope: &Scope) -> Result<Feed, FeedError> {
        match scope {
            Scope::Topics | Scope::Topic(_) => Ok(Feed::Schema),
            Scope::Query(table) => self.fresh.query_table(table).cloned().map(Feed::Table),
        }
    }

    /// The partition of a feed, if the run waits for it.
    fn partition(&self, feed: &Feed) -> Option<PartitionId> {
        if *feed == Feed::Schema {
            self.has_called.store(true, Ordering::Relaxed);
        }
        self.feeds.partition(feed)
    }

    /// Asks for a run that waits for this feed, too, and waits until this one has ended.
    async fn make_way(&self, feed: Feed) {
        let schema = self.has_called.load(Ordering::Relaxed).then_some(Feed::Schema);
        self.newcomers.send_modify(|newcomers| newcomers.extend(schema.into_iter().chain([feed])));
        self.inbox.closed().await;
    }

    /// Reads a body. It takes as long as the body is large, and waits for nothing.
    fn read(&self, scope: &Scope, kind: BodyKind, body: &[u8]) -> Result<Read, FeedError> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = readers().pop();
        let mut reader = kept.unwrap_or_else(|| self.fresh.clone());
        let read = match reader.read(scope, kind, body)? {
            Message::Rows(rows) => Read::Rows(rows.collect::<Result<_, FeedError>>()?),
            Message::Resolved(time) => Read::Resolved(time),
        };
        let mut readers = readers();
        if readers.len() < READERS_MAX {
            readers.push(reader);
        }
        Ok(read)
    }
}

/// What a body says.
#[derive(Debug, PartialEq)]
enum Read {
    Rows(Vec<TimedMutation>),
    Resolved(Hlc),
}

/// Why a schema has no run that could take its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The target has no such schema, or it has no tables.
    Unknown,
    /// There will be one.
    NotYet,
    /// The last one gave up, for this reason, which is for the log. Until somebody has acted the next one will,
    /// too.
    GaveUp(Arc<str>),
    /// Another replicator has it.
    Elsewhere,
}

/// Finds the run of a schema.
pub trait Runs: Send + Sync + 'static {
    /// The run that takes rows of `schema`, begun if there was none. Waits until it has begun.
    fn live(&self, schema: &SchemaName) -> impl Future<Output = Result<Arc<Live>, Absent>> + Send;
}

/// Who may bring rows.
pub trait Gate: Send + Sync + 'static {
    /// Whether a request with these headers and this query may bring rows of `schema`.
    fn admits(&self, headers: &HeaderMap, query: Option<&str>, schema: &SchemaName) -> bool;
}

/// Everybody may.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl Gate for Open {
    fn admits(&self, _: &HeaderMap, _: Option<&str>, _: &SchemaName) -> bool {
        true
    }
}

struct Webhook<R, G> {
    target: TargetKind,
    limits: WebhookLimits,
    room: Arc<Semaphore>,
    runs: R,
    gate: G,
    clock: Clock,
    told: Mutex<Told>,
}

/// Answers the requests of changefeeds, whatever their path.
pub fn router<R: Runs, G: Gate>(
    target: TargetKind,
    limits: WebhookLimits,
    runs: R,
    gate: G,
) -> Router {
    let room = Arc::new(Semaphore::new(limits.bodies_bytes_max.div_ceil(UNIT)));
    let (clock, told) = (Clock::start(), Mutex::default());
    let webhook = Webhook { target, limits, room, runs, gate, clock, told };
    Router::new().fallback(answer::<R, G>).with_state(Arc::new(webhook))
}

async fn answer<R: Runs, G: Gate>(
    State(webhook): State<Arc<Webhook<R, G>>>,
    request: Request<Body>,
) -> Response {
    let limit = webhook.limits.response_timeout;
    let mut place = String::new();
    let answered = tokio::time::timeout(limit, webhook.take(request, &mut place)).await;
    match answered.unwrap_or_else(|_| Err(Refusal::busy("it took too long"))) {
        Ok(()) => (StatusCode::OK, "OK").into_response(),
        Err(refusal) => webhook.refuse(place, refusal),
    }
}

/// Why a request is refused: what the caller reads, and what the operator does.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    public: &'static str,
    detail: String,
    // The table that it is about, if it is about one.
    table: Option<TableName>,
    // Whether it passes by itself.
    passes: bool,
}

impl Refusal {
    fn new(status: StatusCode, public: &'static str, detail: impl Into<String>) -> Self {
        Self { status, public, detail: detail.into(), table: None, passes: false }
    }

    /// The same request may be taken later.
    fn busy(detail: impl Into<String>) -> Self {
        let public = "not ready, try again";
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, public, detail);
        Self { passes: true, ..refusal }
    }

    fn full() -> Self {
        let (public, detail) = ("too many requests, try again", "there is no room for more bodies");
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, public, detail);
        Self { passes: true, ..refusal }
    }

    /// There is no run for this schema.
    fn absent(absent: &Absent, schema: &SchemaName) -> Self {
        match absent {
            Absent::Unknown => {
                let detail = format!("the target has no tables in schema {schema}");
                Self::new(StatusCode::BAD_REQUEST, "unknown schema", detail)
            }
            Absent::NotYet => Self::busy("the target or staging is not ready"),
            Absent::GaveUp(reason) => {
                let public =
                    "replication of this schema has stopped; the log of replicator says why";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, public, &**reason)
            }
            Absent::Elsewhere => {
                let public = "another replicator works on this schema, try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, public, public)
            }
        }
    }

    fn of(error: &FeedError) -> Self {
        let status = StatusCode::from_u16(error.kind().status());
        let status = status.unwrap_or(StatusCode::BAD_REQUEST);
        let table = error.table().cloned();
        Self { table, ..Self::new(status, error.public(), error.to_string()) }
    }
}

impl<R: Runs, G: Gate> Webhook<R, G> {
    /// Takes what a request brings. `place` becomes where it belongs, once its sender may know that.
    async fn take(&self, request: Request<Body>, place: &mut String) -> Result<(), Refusal> {
        let (head, body) = request.into_parts();
        let endpoint = Endpoint::parse(self.target, head.uri.path()).map_err(|error| {
            Refusal::new(StatusCode::NOT_FOUND, error.public(), error.to_string())
        })?;
        if !self.gate.admits(&head.headers, head.uri.query(), &endpoint.schema) {
            let public = "missing or invalid access token";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, public, public));
        }
        *place = endpoint.schema.to_string();
        if head.method != Method::POST && head.method != Method::PUT {
            let public = "only POST and PUT bring rows";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, public, public));
        }
        let coding = check_headers(&head.headers, &self.limits.body)?;
        let live = self.live(&endpoint).await?;
        live.feed(&endpoint.scope).map_err(|error| Refusal::of(&error))?;
        let (body, _room) = self.body(coding, body).await?;
        self.hand_in(live, &endpoint, body).await
    }

    async fn live(&self, endpoint: &Endpoint) -> Result<Arc<Live>, Refusal> {
        let live = self.runs.live(&endpoint.schema).await;
        live.map_err(|absent| Refusal::absent(&absent, &endpoint.schema))
    }

    /// Hands what a body brings to a run that waits for the feed. Only what can be read makes a feed.
    async fn hand_in(
        &self,
        mut live: Arc<Live>,
        endpoint: &Endpoint,
        body: Bytes,
    ) -> Result<(), Refusal> {
        loop {
            let feed = live.feed(&endpoint.scope).map_err(|error| Refusal::of(&error))?;
            let message = live.read(&endpoint.scope, endpoint.body, &body);
            let message = message.map_err(|error| Refusal::of(&error))?;
            if message == Read::Rows(Vec::new()) {
                return Ok(());
            }
            let Some(partition) = live.partition(&feed) else {
                // As a rule once in the life of a feed. The next run may have another catalog.
                drop(message);
                live.make_way(feed).await;
                live = self.live(endpoint).await?;
                continue;
            };
            drop(body);
            let brought = match message {
                Read::Rows(rows) => Brought::Rows(rows),
                Read::Resolved(time) => Brought::Resolved(partition, time),
            };
            let handed_in = live.inbox.hand_in(brought).await;
            return handed_in.map_err(|ended| Refusal::busy(ended.to_string()));
        }
    }

    /// Reads a body while there is room, which is taken until the request is answered.
    async fn body(
        &self,
        coding: Coding,
        body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let limit = self.limits.body.body_bytes_max;
        let mut unpacker = Unpacker::new(coding, Collected::new(limit, Arc::clone(&self.room)));
        let mut frames = body.into_data_stream();
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(|error| {
                let detail = crate::error_chain(&error);
                Refusal::new(StatusCode::BAD_REQUEST, "the body ended too early", detail)
            })?;
            for piece in frame.chunks(PIECE) {
                unpacker.push(piece)?;
                if coding != Coding::Plain {
                    // Unpacking takes longer than reading; others must not wait for all of it.
                    tokio::task::yield_now().await;
                }
            }
        }
        unpacker.finish()
    }

    /// What the caller is told is short and says nothing about us; the log has the rest under the same
    /// number, which it has once for many of the same kind.
    fn refuse(&self, place: String, refusal: Refusal) -> Response {
        let Refusal { status, public, detail, table, passes } = refusal;
        let code = status.as_u16();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = match passes {
            true => Verdict::Told { incident: told.next_incident() },
            false => told.refused(self.clock.now(), Kind { place, table, public }),
        };
        drop(told);
        let incident = match verdict {
            Verdict::Tell { incident, omitted } => {
                warn!(incident, status = code, omitted, "request refused: {detail}");
                incident
            }
            Verdict::Told { incident } => {
                debug!(incident, status = code, "request refused: {detail}");
                incident
            }
        };
        let text = format!("{public} (incident {incident})\n");
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            return (status, [(RETRY_AFTER, RETRY_SECONDS)], text).into_response();
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            return (status, [(ALLOW, HeaderValue::from_static("POST, PUT"))], text)
                .into_response();
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return (status, [(ACCEPT_ENCODING, CODINGS)], text).into_response();
        }
        (status, text).into_response()
    }
}

/// What can be told before the body is read: whether it is too large, and how it is packed.
fn check_headers(headers: &HeaderMap, limits: &Limits) -> Result<Coding, Refusal> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if let Some(length) = length.and_then(|text| text.parse::<u64>().ok())
        && usize::try_from(length).unwrap_or(usize::MAX) > limits.body_bytes_max
    {
        let what = replicator_core::decode::changefeed::Part::Body;
        return Err(Refusal::of(&FeedError::TooLarge { what, limit: limits.body_bytes_max }));
    }
    Coding::of(headers).ok_or_else(|| {
        let public = "the body is encoded in a way that is not understood";
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, public, public)
    })
}

#[cfg(test)]
mod tests;
