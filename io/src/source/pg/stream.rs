//! A PostgreSQL source: frames in, events out.
use std::fmt;
use std::time::Duration;

use replicator_core::Event;
use replicator_core::decode::DecodeError;
use replicator_core::decode::pg_frames::Frame;
use replicator_core::decode::pg_message::Message;
use replicator_core::decode::pg_transaction::{AssembleError, PgTransactions};
use replicator_core::decode::pgoutput;
use replicator_core::model::position::{Lsn, Position, RequestId};
use replicator_core::model::time::{MonoTime, WallTime};
use thiserror::Error;
use tracing::debug;

use super::feedback::{Feedback, FeedbackError, Rhythm};
use super::pace::Pace;
use super::progress::{Heard, Progress};
use super::slot::{SlotError, inspect};
use crate::clock::Clock;
use crate::net::Dial;
use crate::pg::connect::{ConnectError, SessionOptions};
use crate::pg::conninfo::ConnInfo;
use crate::pg::replication::{
    FrameReader, FrameWriter, ReplicationClient, ReplicationError, StartOptions, SystemIdentity,
    quote_ident,
};
use crate::pg::wire::WireError;
use crate::port::Source;

/// A server that says nothing for this many times its own patience is gone.
const SILENT_TIMEOUTS: u32 = 3;

/// The patience of a server that has none set.
const SENDER_TIMEOUT: Duration = Duration::from_secs(60);

/// What to stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgSourceOptions {
    /// The slot.
    pub slot: String,
    /// The publications.
    pub publications: Vec<String>,
    /// Up to where we have everything; `None` to begin where the slot does.
    pub saved: Option<Lsn>,
    /// The system identifier that `saved` belongs to, if known: another server is refused.
    pub system_identifier: Option<u64>,
    /// Report at least this often.
    pub standby_timeout: Duration,
    /// Give up after hearing nothing for this long; `None` for three times what the server allows us. At
    /// least three times as long as between reports, so that the server had a chance.
    pub silence_limit: Option<Duration>,
    /// About the connection.
    pub session: SessionOptions,
}

/// Why no more changes come.
#[derive(Debug, Error)]
pub enum PgSourceError {
    /// There is no connection.
    #[error("could not connect to source database")]
    Connect(#[from] ConnectError),
    /// A question or the start of streaming was refused.
    #[error("could not start replication")]
    Request(#[from] ReplicationError),
    /// The slot is of no use.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Another server answers.
    #[error(
        "the source is another database cluster: its system identifier is {found}, the saved position \
         is of {saved}"
    )]
    OtherSystem {
        /// The one that the saved position belongs to.
        saved: u64,
        /// The one that answers.
        found: u64,
    },
    /// The stream broke.
    #[error("the replication stream ended")]
    Wire(#[from] WireError),
    /// A frame could not be decoded.
    #[error("could not read the replication stream")]
    Decode(#[from] DecodeError),
    /// What the source did cannot be done here, or makes no sense.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The reports do not get through.
    #[error(transparent)]
    Feedback(#[from] FeedbackError),
    /// The source says nothing.
    #[error("heard nothing from the source for {} s", limit.as_secs())]
    Silent {
        /// How long we waited.
        limit: Duration,
    },
    /// The source was used after an error.
    #[error("the replication stream has ended before")]
    Dead,
    /// The source did not take our goodbye.
    #[error("the source did not end the stream within {} s", limit.as_secs())]
    NotClosed {
        /// How long we waited.
        limit: Duration,
    },
}

impl PgSourceError {
    /// Whether another try is of no use until a human has acted.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::Slot(_) | Self::OtherSystem { .. } => true,
            Self::Assemble(error) => matches!(
                error,
                AssembleError::Drift(_)
                    | AssembleError::SameTarget { .. }
                    | AssembleError::Truncated { .. }
                    | AssembleError::StreamedTooLarge { .. }
            ),
            Self::Connect(_)
            | Self::Request(_)
            | Self::Wire(_)
            | Self::Decode(_)
            | Self::Feedback(_)
            | Self::Silent { .. }
            | Self::Dead
            | Self::NotClosed { .. } => false,
        }
    }

    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Slot(error) => Some(error.hint()),
            Self::OtherSystem { .. } => Some(
                "connect to the old source, or copy the tables again and forget the saved position",
            ),
            Self::Assemble(error) => error.hint(),
            Self::Decode(error) => error.hint(),
            Self::Connect(_)
            | Self::Request(_)
            | Self::Wire(_)
            | Self::Feedback(_)
            | Self::Silent { .. }
            | Self::Dead
            | Self::NotClosed { .. } => None,
        }
    }
}

/// A stream of changes. Dead after an error. Dropping it closes the connection at once; the server then
/// sends again what was not acknowledged.
pub struct PgSource<D: Dial> {
    reader: FrameReader<D::Stream>,
    feedback: Feedback<D::Stream>,
    decoder: PgTransactions,
    progress: Progress,
    clock: Clock,
    pace: Pace,
    // The pause that `pace` asked for, so that it is kept when `next` is cancelled.
    paused_until: Option<MonoTime>,
    // When the transaction committed whose changes come.
    committed: Option<WallTime>,
    silence_limit: Duration,
    heard: MonoTime,
    system: SystemIdentity,
    dead: bool,
}

impl<D: Dial> fmt::Debug for PgSource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgSource").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl<D: Dial> PgSource<D> {
    /// Connects, looks whether the slot can give what we miss, and starts streaming.
    ///
    /// # Errors
    ///
    /// See [`PgSourceError`].
    pub async fn connect(
        dial: &D,
        conninfo: &ConnInfo,
        options: &PgSourceOptions,
        decoder: PgTransactions,
        clock: Clock,
    ) -> Result<Self, PgSourceError> {
        let mut client = ReplicationClient::connect(dial, conninfo, &options.session).await?;
        let sender_timeout = client.sender_timeout().await?;
        let state = inspect(&mut client, &options.slot).await?;
        let found = state.system.system_identifier;
        if let Some(saved) = options.system_identifier.filter(|saved| *saved != found) {
            return Err(PgSourceError::OtherSystem { saved, found });
        }
        let from = state.start(&options.slot, options.saved)?;
        let names: Vec<String> = options.publications.iter().map(|p| quote_ident(p)).collect();
        let start = StartOptions {
            slot: &options.slot,
            from,
            plugin: &[("proto_version", "1"), ("publication_names", &names.join(","))],
        };
        let (reader, writer) = client.start(&start).await?;
        debug!(slot = options.slot, %from, version = state.version, "streaming");
        let rhythm = Rhythm::new(options.standby_timeout, sender_timeout);
        let patience = sender_timeout.unwrap_or(SENDER_TIMEOUT);
        let silence_limit = options.silence_limit.unwrap_or(patience * SILENT_TIMEOUTS);
        let silence_limit = silence_limit.max(rhythm.interval * 3);
        let streaming = Streaming { reader, writer, from, system: state.system };
        Ok(Self::start(streaming, decoder, rhythm, silence_limit, clock))
    }

    fn start(
        streaming: Streaming<D::Stream>,
        decoder: PgTransactions,
        rhythm: Rhythm,
        silence_limit: Duration,
        clock: Clock,
    ) -> Self {
        let Streaming { reader, writer, from, system } = streaming;
        let progress = Progress::new(from, clock.now());
        Self {
            reader,
            feedback: Feedback::start(writer, progress.clone(), rhythm, clock),
            decoder,
            progress,
            clock,
            pace: Pace::default(),
            paused_until: None,
            committed: None,
            silence_limit,
            heard: clock.now(),
            system,
            dead: false,
        }
    }

    /// Where we are, for metrics and for reporting what is applied. Stays good when the source is gone.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Which cluster we stream from.
    #[must_use]
    pub const fn system(&self) -> &SystemIdentity {
        &self.system
    }

    /// Reports the last acknowledged position, ends the stream and says goodbye.
    ///
    /// # Errors
    ///
    /// The server did not take it within `limit`. What it has not taken it sends again next time.
    pub async fn close(self, limit: Duration) -> Result<(), PgSourceError> {
        let Self { mut reader, mut feedback, progress, dead, .. } = self;
        if dead {
            return Err(PgSourceError::Dead);
        }
        progress.close();
        let goodbye = async {
            let writer = feedback.ended().await?;
            // With bytes left to read the kernel would reset the connection, and the server might never
            // see our last words.
            reader.drain().await;
            writer.terminate().await.map_err(FeedbackError::Write)
        };
        match tokio::time::timeout(limit, goodbye).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(PgSourceError::NotClosed { limit }),
        }
    }

    /// Waits for bytes and decodes what they complete, until that is something.
    async fn read(&mut self, events: &mut Vec<Event>) -> Result<(), PgSourceError> {
        let had = events.len();
        while events.len() == had {
            if let Some(until) = self.paused_until {
                self.clock.sleep_until(Some(until)).await;
                self.paused_until = None;
            }
            let silent = self.heard.after(self.silence_limit);
            let bytes = tokio::select! {
                biased;
                ended = self.feedback.ended() => {
                    ended?;
                    return Err(PgSourceError::Dead);
                }
                bytes = self.reader.fill() => bytes?,
                () = self.clock.sleep_until(Some(silent)) => {
                    return Err(PgSourceError::Silent { limit: self.silence_limit });
                }
            };
            self.heard = self.clock.now();
            self.decode(bytes, events)?;
            self.pace.read(bytes);
            self.paused_until = self.pace.pause().map(|pause| self.heard.after(pause));
            if self.paused_until.is_some() {
                self.reader.hush();
            }
        }
        Ok(())
    }

    /// Decodes all frames that have arrived.
    fn decode(&mut self, bytes: usize, events: &mut Vec<Event>) -> Result<(), PgSourceError> {
        let mut heard = Heard {
            at: self.heard,
            received: None,
            sent: None,
            reply_requested: false,
            bytes,
            decoded: self.decoder.counters(),
        };
        let outcome = self.decode_frames(&mut heard, events);
        heard.decoded = self.decoder.counters();
        self.progress.heard(&heard);
        outcome
    }

    fn decode_frames(
        &mut self,
        heard: &mut Heard,
        events: &mut Vec<Event>,
    ) -> Result<(), PgSourceError> {
        while let Some(frame) = self.reader.next_frame()? {
            match Frame::parse(frame)? {
                Frame::XLogData { wal_end, sent, message, .. } => {
                    heard.sent = Some(sent);
                    heard.received = heard.received.max(Some(wal_end));
                    if message.first() == Some(&b'B')
                        && let Message::Begin(begin) =
                            pgoutput::decode(message.clone()).map_err(AssembleError::Decode)?
                    {
                        self.committed = Some(begin.committed);
                    }
                    if let Some(committed) = self.committed {
                        self.pace.sent(committed, sent);
                    }
                    self.decoder.message(message, events)?;
                }
                Frame::Keepalive { wal_end, sent, reply_requested } => {
                    heard.sent = Some(sent);
                    heard.received = heard.received.max(Some(wal_end));
                    heard.reply_requested |= reply_requested;
                    if !self.decoder.in_transaction() {
                        self.pace.caught_up();
                    }
                    self.decoder.keepalive(wal_end, events);
                }
            }
        }
        Ok(())
    }
}

/// A connection on which streaming has begun.
struct Streaming<S> {
    reader: FrameReader<S>,
    writer: FrameWriter<S>,
    from: Lsn,
    system: SystemIdentity,
}

impl<D: Dial> Source for PgSource<D> {
    type Error = PgSourceError;

    async fn next(&mut self, events: &mut Vec<Event>) -> Result<(), PgSourceError> {
        if self.dead {
            return Err(PgSourceError::Dead);
        }
        let outcome = self.read(events).await;
        self.dead = outcome.is_err();
        outcome
    }

    fn ahead(&mut self, batches: usize) {
        self.pace.ahead(batches);
        if !self.pace.may_pause() {
            self.paused_until = None;
        }
    }

    fn acknowledge(&mut self, position: Position) {
        let Position::Lsn(lsn) = position else {
            panic!("a PostgreSQL source has no position such as {position}")
        };
        self.progress.durable(lsn);
    }

    fn answer(&mut self, request: RequestId) {
        panic!("a PostgreSQL source makes no requests, so there is no {request} to answer");
    }
}

#[cfg(test)]
mod tests;
