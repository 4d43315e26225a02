//! A MySQL or MariaDB source: events of the binary log in, transactions out.
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use replicator_core::Event;
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::decode::mysql_transaction::{
    MySqlAssembleError, MySqlOptions, MySqlTables, MySqlTransactions, Told,
};
use replicator_core::model::gtid::{AnyGtid, GtidNames, TooManyIntervals};
use replicator_core::model::mutation::SourceTx;
use replicator_core::model::position::{Position, RequestId};
use replicator_core::model::time::MonoTime;
use thiserror::Error;

use super::replay::Replay;
use crate::clock::Clock;
use crate::mysql::login::ServerRefusal;
use crate::mysql::replica::{EventStream, Replica, ReplicaError, ReplicaSession};
use crate::net::Dial;
use crate::ordinals::Ordinals;
use crate::port::Source;

/// Events that are read at once if they are there, in bytes.
const READ_BYTES_MAX: usize = 1 << 20;

/// A server that says nothing for this many of its heartbeats is gone.
pub(super) const SILENT_HEARTBEATS: u32 = 30;

/// What to stream.
#[derive(Clone, Debug)]
pub struct MySqlSourceOptions {
    /// Who we are (`--replicationProcessID`).
    pub replica: Replica,
    /// How often the server is to say something, if there is nothing to say.
    pub heartbeat: Duration,
    /// What the server adds to its events: its `binlog_checksum`.
    pub checksum: Checksum,
    /// Which rows are wanted.
    pub tables: MySqlTables,
    /// Limits and policies.
    pub transactions: MySqlOptions,
    /// Transactions that are not cut in pieces, see [`MySqlTransactions::keeping_whole`].
    pub whole: BTreeSet<AnyGtid>,
}

/// Why no more changes come.
#[derive(Debug, Error)]
pub enum MySqlSourceError {
    /// The server does not begin where we ask it to.
    #[error("the source cannot send what follows the position: {0}")]
    Refused(ServerRefusal),
    /// The session has ended.
    #[error("the stream of the binary log ended")]
    Replica(#[from] ReplicaError),
    /// What the source did cannot be done here, or makes no sense.
    #[error(transparent)]
    Assemble(#[from] MySqlAssembleError),
    /// The position has more parts than we keep.
    #[error("the position of the source cannot be kept")]
    Position(#[from] TooManyIntervals),
    /// The source says nothing.
    #[error("heard nothing from the source for {} s", limit.as_secs())]
    Silent {
        /// How long we waited.
        limit: Duration,
    },
    /// The source was used after an error.
    #[error("the stream of the binary log has ended before")]
    Dead,
}

/// A stream of changes. Dead after an error. Dropping it closes the connection.
pub struct MySqlSource<D: Dial> {
    events: EventStream<D>,
    decoder: MySqlTransactions,
    ordinals: Ordinals,
    // What earlier runs have brought into the target.
    applied: GtidNames,
    replay: Option<Replay>,
    // Whether anything was told.
    begun: bool,
    told: Vec<Told>,
    clock: Clock,
    silence_limit: Duration,
    heard: MonoTime,
    // How far all is applied.
    durable: Position,
    // What is known of columns is not true of what follows a position.
    outdated: Option<(Position, MySqlAssembleError)>,
    // What went wrong while nobody could be told.
    broken: Option<TooManyIntervals>,
    dead: bool,
}

impl<D: Dial> fmt::Debug for MySqlSource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlSource").finish_non_exhaustive()
    }
}

impl<D: Dial> MySqlSource<D> {
    /// Starts streaming from where `ordinals` begin.
    ///
    /// # Errors
    ///
    /// See [`MySqlSourceError`].
    pub async fn start(
        session: ReplicaSession<D>,
        options: MySqlSourceOptions,
        ordinals: Ordinals,
        clock: Clock,
    ) -> Result<Self, MySqlSourceError> {
        let place = ordinals.begun();
        let resumable = place.resumable().clone();
        let MySqlSourceOptions { replica, heartbeat, checksum, tables, transactions, whole } =
            options;
        let decoder = MySqlTransactions::new(resumable.clone(), checksum, tables, transactions);
        let events = session.stream_after(&replica, heartbeat, &resumable).await?;
        let durable = ordinals.last();
        Ok(Self {
            events,
            decoder: decoder.keeping_whole(whole),
            applied: ordinals.applied(),
            replay: Replay::of(&place),
            ordinals,
            begun: false,
            told: Vec::new(),
            clock,
            silence_limit: heartbeat * SILENT_HEARTBEATS,
            heard: clock.now(),
            durable,
            outdated: None,
            broken: None,
            dead: false,
        })
    }

    /// Waits for an event, and takes it and those that are there with it, until they tell something.
    async fn read(&mut self, events: &mut Vec<Event>) -> Result<(), MySqlSourceError> {
        let had = events.len();
        while events.len() == had {
            if self.outdated.is_some() {
                return self.end_outdated().await;
            }
            let silent = self.heard.after(self.silence_limit);
            let mut bytes = tokio::select! {
                biased;
                event = self.events.next() => event.map_err(|error| self.lost(error))?,
                () = self.clock.sleep_until(Some(silent)) => {
                    return Err(MySqlSourceError::Silent { limit: self.silence_limit });
                }
            };
            self.heard = self.clock.now();
            let mut taken = bytes.len();
            loop {
                let decoded = self.decoder.event(&bytes, &mut self.told);
                // What was told before an error is right.
                self.hand_out(events)?;
                if let Err(error @ MySqlAssembleError::ColumnsOutdated { .. }) = decoded {
                    self.outdated = Some((self.ordinals.last(), error));
                    break;
                }
                decoded?;
                if READ_BYTES_MAX <= taken {
                    break;
                }
                bytes = tokio::select! {
                    biased;
                    event = self.events.next() => event?,
                    () = std::future::ready(()) => break,
                };
                taken = taken.saturating_add(bytes.len());
            }
        }
        Ok(())
    }

    /// Waits until all that was told is applied: the next run must not come to rows from before the change.
    async fn end_outdated(&mut self) -> Result<(), MySqlSourceError> {
        match self.outdated.take_if(|(told, _)| *told <= self.durable) {
            Some((_, error)) => Err(error.into()),
            None => std::future::pending().await,
        }
    }

    /// The server's refusal is of our position only as long as it has sent nothing.
    fn lost(&self, error: ReplicaError) -> MySqlSourceError {
        if let ReplicaError::Server(refusal) = &error
            && !self.begun
        {
            return MySqlSourceError::Refused(refusal.clone());
        }
        error.into()
    }

    fn hand_out(&mut self, events: &mut Vec<Event>) -> Result<(), MySqlSourceError> {
        self.begun |= !self.told.is_empty();
        for told in self.told.drain(..) {
            let (gtid, committed, mut mutations) = match told {
                Told::Transaction { gtid, committed, mutations } => (gtid, committed, mutations),
                Told::Piece { gtid, mutations } => {
                    let comes_again = self.replay.as_ref().is_some_and(|replay| replay.has(gtid));
                    if !comes_again && !self.applied.contains(gtid) {
                        let before = self.ordinals.last();
                        events.push(Event::PieceReceived { before, mutations });
                    }
                    continue;
                }
                Told::Idle => {
                    events.push(Event::IdleThrough(self.ordinals.last()));
                    continue;
                }
            };
            let transactions = self.decoder.transactions();
            if self.replay.as_mut().is_some_and(|replay| replay.take(gtid)) {
                if self.replay.as_ref().is_some_and(|left| left.is_over(transactions.executed())) {
                    self.replay = None;
                }
                continue;
            }
            if self.applied.contains(gtid) {
                mutations.clear();
            }
            let is_held_back = transactions.prepared_len() > 0 || self.replay.is_some();
            let held_back = is_held_back.then(|| transactions.resumable()).transpose()?;
            let position = self.ordinals.number(gtid, held_back);
            events.push(Event::TransactionReceived(SourceTx { position, committed, mutations }));
        }
        Ok(())
    }
}

impl<D: Dial> Source for MySqlSource<D> {
    type Error = MySqlSourceError;

    async fn next(&mut self, events: &mut Vec<Event>) -> Result<(), MySqlSourceError> {
        if self.dead {
            return Err(MySqlSourceError::Dead);
        }
        let outcome = match self.broken.take() {
            None => self.read(events).await,
            Some(error) => Err(error.into()),
        };
        self.dead = outcome.is_err();
        outcome
    }

    fn ahead(&mut self, _: usize) {}

    fn acknowledge(&mut self, position: Position) {
        self.durable = self.durable.max(position);
        // The server keeps its log for as long as it was told, whoever has read it.
        self.broken = self.ordinals.forget(position).err();
    }

    fn answer(&mut self, request: RequestId) {
        panic!("a MySQL source makes no requests, so there is no {request} to answer");
    }
}
