//! A session on which a whole transaction is one round trip.
//!
//! All statements are sent before the first answer is read, with one Sync behind the last. After an error
//! the server skips everything up to that Sync (PostgreSQL documentation, "Pipelining"), so a COMMIT at
//! the end commits only if all before it went well, and the log is not filled with the complaints of a
//! transaction that has failed. Rows of a COPY go along: where the COPY was refused, the server ignores
//! them ("COPY Operations").
//!
//! tokio-postgres puts a Sync behind each statement, which costs the server a write and us a wake-up for
//! each, and nothing can follow a COPY until its answer is there.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, io};

use bytes::{BufMut as _, BytesMut};
use futures_util::FutureExt as _;
use postgres_protocol::message::frontend;
use postgres_protocol::{IsNull, Oid};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::connect::{ConnectError, SessionOptions, connect};
use super::conninfo::ConnInfo;
use super::login::WireLogin;
use super::pool::Pooled;
use super::server_error::ServerError;
use super::wire::{Message, Wire, WireError, receive, split_message};
use crate::net::Dial;

/// What is sent at once. More would only be held in memory for longer.
const CHUNK_BYTES: usize = 256 * 1024;

/// One statement with its parameters, or a COPY with its rows.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The statement.
    pub sql: &'a str,
    /// For each parameter its type and its binary form; `None` is NULL.
    pub params: Vec<(Oid, Option<&'a [u8]>)>,
    /// What `COPY … FROM STDIN` is to read.
    pub rows: Option<&'a [u8]>,
}

impl Call<'_> {
    /// A statement without parameters.
    #[must_use]
    pub const fn plain(sql: &'static str) -> Self {
        Self { sql, params: Vec::new(), rows: None }
    }
}

/// A script failed.
#[derive(Debug, Error)]
#[error("call {at} failed")]
pub struct CallError {
    /// The number of the call that failed, or the number of calls if it was something else.
    pub at: usize,
    /// How many calls the server may have seen.
    pub sent: usize,
    /// Why.
    #[source]
    pub reason: WireError,
}

/// See the [module docs](self).
pub struct Pipeline<S> {
    wire: Wire<S>,
    prepared: BTreeMap<String, Prepared>,
    prepared_max: usize,
    last_name: u32,
    used: u64,
    // Statements that the server may forget, by name.
    unwanted: Vec<u32>,
    // A script was begun whose answer was not read to the end.
    broken: bool,
}

impl<S> fmt::Debug for Pipeline<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prepared, broken) = (self.prepared.len(), self.broken);
        f.debug_struct("Pipeline")
            .field("prepared", &prepared)
            .field("broken", &broken)
            .finish_non_exhaustive()
    }
}

/// A statement that the server knows by a number.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    name: u32,
    used: u64,
}

/// How a call refers to its statement.
#[derive(Clone, Copy, Debug)]
struct Plan {
    name: u32,
    parse: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipeline<S> {
    fn new(wire: Wire<S>, prepared_max: usize) -> Self {
        Self {
            wire,
            prepared: BTreeMap::new(),
            prepared_max: prepared_max.max(1),
            last_name: 0,
            used: 0,
            unwanted: Vec::new(),
            broken: false,
        }
    }

    /// Runs the calls in order and returns how many rows each of them changed.
    ///
    /// Not cancel safe: dropping the future leaves the session of no use.
    ///
    /// # Errors
    ///
    /// The first call that failed; none after it was carried out. A transaction that was open is still
    /// open, and failed.
    pub async fn run(&mut self, calls: &[Call<'_>]) -> Result<Vec<u64>, CallError> {
        let closing = std::mem::take(&mut self.unwanted);
        let plans: Vec<Plan> = calls.iter().map(|call| self.plan(call.sql)).collect();
        self.broken = true;
        let sent = AtomicUsize::new(0);
        let outcome = exchange(&mut self.wire, calls, &plans, &closing, &sent).await;
        let failed = |(at, reason)| CallError { at, sent: sent.into_inner(), reason };
        match outcome {
            Ok(rows) => {
                self.broken = false;
                self.evict();
                Ok(rows)
            }
            Err((at, reason)) => {
                // A server that refused is as good as before; one that broke the protocol is not.
                self.broken = !matches!(&reason, WireError::Server(error) if !error.is_fatal());
                // Nobody knows how far the preparing of the failed call came.
                for (call, plan) in calls.iter().zip(&plans).skip(at) {
                    if plan.parse {
                        self.prepared.remove(call.sql);
                        self.unwanted.push(plan.name);
                    }
                }
                Err(failed((at, reason)))
            }
        }
    }

    /// Ends a failed transaction.
    ///
    /// # Errors
    ///
    /// The session is of no use any more.
    pub async fn roll_back(&mut self, to: &str) -> Result<(), WireError> {
        if self.broken {
            return Err(WireError::Closed);
        }
        self.broken = true;
        self.wire.query(to).await?;
        self.broken = false;
        Ok(())
    }

    fn is_usable(&mut self) -> bool {
        if self.broken {
            return false;
        }
        // An idle server says nothing, unless it hangs up.
        match self.wire.stream.read_buf(&mut self.wire.read).now_or_never() {
            None => true,
            Some(Ok(0) | Err(_)) => false,
            Some(Ok(_)) => !says_goodbye(&self.wire.read),
        }
    }

    fn plan(&mut self, sql: &str) -> Plan {
        self.used = self.used.saturating_add(1);
        if let Some(prepared) = self.prepared.get_mut(sql) {
            prepared.used = self.used;
            return Plan { name: prepared.name, parse: false };
        }
        self.last_name = self.last_name.wrapping_add(1);
        let prepared = Prepared { name: self.last_name, used: self.used };
        self.prepared.insert(sql.to_owned(), prepared);
        Plan { name: self.last_name, parse: true }
    }

    /// Gives up the statements that were not used for longest.
    fn evict(&mut self) {
        while self.prepared_max < self.prepared.len() {
            let oldest = self.prepared.iter().min_by_key(|(_, prepared)| prepared.used);
            let Some((sql, name)) = oldest.map(|(sql, prepared)| (sql.clone(), prepared.name))
            else {
                return;
            };
            self.prepared.remove(&sql);
            self.unwanted.push(name);
        }
    }
}

impl<D: Dial> Pooled<D> for Pipeline<D::Stream> {
    async fn open(
        dial: &D,
        conninfo: &ConnInfo,
        options: &SessionOptions,
        statements_max: usize,
    ) -> Result<Self, ConnectError> {
        let login = WireLogin { conninfo, session: options, replication: false };
        let wire = connect(dial, conninfo, options, &login).await?;
        Ok(Self::new(wire, statements_max))
    }

    fn is_open(&mut self) -> bool {
        self.is_usable()
    }
}

/// Whether there is an ErrorResponse among what a server said unasked.
fn says_goodbye(said: &BytesMut) -> bool {
    let mut said = said.clone();
    std::iter::from_fn(|| split_message(&mut said).ok()?.ok()).any(|message| message.tag == b'E')
}

/// Sends everything and reads all answers, both at once, so that neither side waits for the other to
/// read. An error comes with the number of the call.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    calls: &[Call<'_>],
    plans: &[Plan],
    closing: &[u32],
    sent: &AtomicUsize,
) -> Result<Vec<u64>, (usize, WireError)> {
    let Wire { stream, read, write: buffer } = wire;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sending = send(&mut writer, buffer, calls, plans, closing, sent);
    let answering = answers(&mut reader, read, calls, plans, closing.len());
    let (mut sending, mut answering) = (std::pin::pin!(sending), std::pin::pin!(answering));
    let mut unsent = None;
    loop {
        tokio::select! {
            biased;
            outcome = &mut sending, if unsent.is_none() => unsent = Some(outcome),
            answered = &mut answering => {
                // A server that hangs up says why before it does.
                return match (answered, unsent) {
                    (Err((at, WireError::Closed | WireError::Io(_))), Some(Err(error))) => {
                        Err((at, error))
                    }
                    (answered, _) => answered,
                };
            }
        }
    }
}

async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    buffer: &mut BytesMut,
    calls: &[Call<'_>],
    plans: &[Plan],
    closing: &[u32],
    sent: &AtomicUsize,
) -> Result<(), WireError> {
    buffer.clear();
    for name in closing {
        frontend::close(b'S', &statement_name(*name), buffer).map_err(WireError::Encode)?;
    }
    for (index, (call, plan)) in calls.iter().zip(plans).enumerate() {
        push_call(call, *plan, buffer).map_err(WireError::Encode)?;
        if let Some(rows) = call.rows {
            for chunk in rows.chunks(CHUNK_BYTES) {
                push_copy_data(chunk, buffer);
                sent.store(index + 1, Ordering::Relaxed);
                drain(writer, buffer).await?;
            }
            frontend::copy_done(buffer);
        }
        if CHUNK_BYTES <= buffer.len() {
            sent.store(index + 1, Ordering::Relaxed);
            drain(writer, buffer).await?;
        }
    }
    frontend::sync(buffer);
    sent.store(calls.len(), Ordering::Relaxed);
    drain(writer, buffer).await?;
    writer.flush().await?;
    Ok(())
}

async fn drain<W: AsyncWrite + Unpin>(writer: &mut W, buffer: &mut BytesMut) -> io::Result<()> {
    writer.write_all(buffer).await?;
    buffer.clear();
    Ok(())
}

fn statement_name(name: u32) -> String {
    format!("r{name}")
}

/// Parse, Bind and Execute.
fn push_call(call: &Call<'_>, plan: Plan, buffer: &mut BytesMut) -> io::Result<()> {
    let name = statement_name(plan.name);
    if plan.parse {
        frontend::parse(&name, call.sql, call.params.iter().map(|(oid, _)| *oid), buffer)?;
    }
    let values = call.params.iter().map(|(_, value)| *value);
    let serialize = |value: Option<&[u8]>, buffer: &mut BytesMut| {
        Ok(value.map_or(IsNull::Yes, |value| {
            buffer.put_slice(value);
            IsNull::No
        }))
    };
    frontend::bind("", &name, Some(1), values, serialize, Some(1), buffer).map_err(|error| {
        match error {
            frontend::BindError::Serialization(error) => io::Error::other(error),
            frontend::BindError::Conversion(error) => io::Error::other(error),
        }
    })?;
    frontend::execute("", 0, buffer)
}

fn push_copy_data(chunk: &[u8], buffer: &mut BytesMut) {
    buffer.put_u8(b'd');
    let len = u32::try_from(chunk.len()).expect("a chunk is short");
    buffer.put_u32(len + 4);
    buffer.put_slice(chunk);
}

/// Reads the answers to all calls, up to the one to Sync.
async fn answers<R: AsyncRead + Unpin>(
    reader: &mut R,
    read: &mut BytesMut,
    calls: &[Call<'_>],
    plans: &[Plan],
    closing: usize,
) -> Result<Vec<u64>, (usize, WireError)> {
    let mut rows = Vec::with_capacity(calls.len());
    let mut refused: Option<(usize, Box<ServerError>)> = None;
    let mut expected = Expected::new(closing, plans);
    loop {
        let at = expected.call.min(calls.len());
        let message = receive(reader, read).await.map_err(|error| match refused.take() {
            Some((at, refusal)) => (at, WireError::Server(refusal)),
            None => (at, error),
        })?;
        match message.tag {
            // ErrorResponse. A fatal one is the last word.
            b'E' => {
                let error = Box::new(ServerError::parse(&message.body));
                if error.is_fatal() {
                    return Err((at, WireError::Server(error)));
                }
                refused = refused.or(Some((at, error)));
            }
            // ReadyForQuery.
            b'Z' => {
                return match refused {
                    Some((at, error)) => Err((at, WireError::Server(error))),
                    None if expected.call == calls.len() => Ok(rows),
                    None => Err((at, WireError::Protocol { what: "an answer is missing" })),
                };
            }
            _ => {
                if let Some(changed) = expected.take(&message).map_err(|error| (at, error))? {
                    rows.push(changed);
                }
            }
        }
    }
}

/// Which call the next answer belongs to.
struct Expected<'a> {
    closing: usize,
    plans: &'a [Plan],
    call: usize,
}

impl<'a> Expected<'a> {
    const fn new(closing: usize, plans: &'a [Plan]) -> Self {
        Self { closing, plans, call: 0 }
    }

    /// Takes an answer that is no error. Returns the number of rows if it ends a call.
    fn take(&mut self, message: &Message) -> Result<Option<u64>, WireError> {
        match message.tag {
            // CloseComplete.
            b'3' if 0 < self.closing => {
                self.closing -= 1;
                Ok(None)
            }
            // ParseComplete, BindComplete, CopyInResponse, DataRow.
            b'1' | b'2' | b'G' | b'D' if self.call < self.plans.len() => Ok(None),
            // CommandComplete; EmptyQueryResponse.
            b'C' | b'I' if self.call < self.plans.len() => {
                self.call += 1;
                Ok(Some(rows_of(&message.body)))
            }
            _ => Err(WireError::Protocol { what: "an answer out of order" }),
        }
    }
}

/// The number at the end of a command tag, such as `INSERT 0 5`; tags without one changed nothing.
fn rows_of(tag: &[u8]) -> u64 {
    let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
    let number = tag.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
