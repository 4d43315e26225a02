//! The pretend sources: what they send, in which order, and what they send again.
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use replicator_core::Event;
use replicator_core::model::mutation::{Mutation, SourceTx, TimedMutation};
use replicator_core::model::position::{PartitionId, Position, RequestId};
use replicator_core::model::time::{Hlc, WallTime};

use crate::fault::Kind;
use crate::model::History;
use crate::random::Random;

/// A message of a source. Transactions are meant by their number in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction, or the last piece of one.
    Transaction(usize, Range<usize>),
    /// Another piece of a transaction.
    Piece(usize, Range<usize>),
    /// Nothing more at or before this.
    Idle(Position),
    /// Changes of one transaction, those with these numbers.
    Rows(usize, Vec<usize>),
    /// Nothing more at or before this on this partition.
    Resolved(Hlc),
}

/// How many partitions a changefeed has.
pub const PARTITIONS: u32 = 2;

/// The replication side of a source.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    // One per partition; an ordered source uses the first.
    outbox: [VecDeque<Message>; 2],
    unanswered: BTreeMap<RequestId, (usize, Message)>,
    last_request: RequestId,
    acknowledged: Option<Position>,
    // What each partition remembers to have resolved, because we answered.
    resolved: [Hlc; 2],
    cuts: Random,
}

impl Source {
    /// A source with nothing to say. `cuts` decides how transactions are cut.
    #[must_use]
    pub fn new(kind: Kind, cuts: Random) -> Self {
        Self {
            kind,
            outbox: [VecDeque::new(), VecDeque::new()],
            unanswered: BTreeMap::new(),
            last_request: RequestId(0),
            acknowledged: None,
            resolved: [Hlc::default(); 2],
            cuts,
        }
    }

    /// Has a transaction to send. `pieces` says whether it may come in pieces.
    pub fn push(&mut self, history: &History, tx: usize, pieces: bool) {
        match self.kind {
            Kind::Ordered => self.push_transaction(history, tx, pieces),
            Kind::Changefeed => {
                (0..self.outbox.len()).for_each(|partition| self.push_rows(history, tx, partition));
            }
        }
    }

    fn push_transaction(&mut self, history: &History, tx: usize, pieces: bool) {
        let commit = &history.commits()[tx];
        let mut from = 0;
        if pieces && commit.divisible && self.cuts.chance(60) {
            while from < commit.mutations.len() && self.cuts.chance(80) {
                let through = (from + self.cuts.within(1, 3)).min(commit.mutations.len());
                self.outbox[0].push_back(Message::Piece(tx, from..through));
                from = through;
            }
        }
        self.outbox[0].push_back(Message::Transaction(tx, from..commit.mutations.len()));
    }

    fn push_rows(&mut self, history: &History, tx: usize, partition: usize) {
        let mutations = &history.commits()[tx].mutations;
        let mut rows: Vec<usize> = (0..mutations.len())
            .filter(|row| partition_of(&mutations[*row]) == partition)
            .collect();
        while !rows.is_empty() {
            let count = self.cuts.within(1, rows.len());
            let rest = rows.split_off(count);
            self.outbox[partition].push_back(Message::Rows(tx, rows));
            rows = rest;
        }
    }

    /// An ordered source is idle.
    pub fn push_idle(&mut self, position: Position) {
        self.outbox[0].push_back(Message::Idle(position));
    }

    /// A partition promises.
    pub fn push_resolved(&mut self, partition: usize, time: Hlc) {
        self.outbox[partition].push_back(Message::Resolved(time));
    }

    /// Whether nothing is left to send and everything is answered.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.outbox.iter().all(VecDeque::is_empty) && self.unanswered.is_empty()
    }

    /// Whether a partition has something to send.
    #[must_use]
    pub fn speaks(&self, partition: usize) -> bool {
        !self.outbox[partition].is_empty()
    }

    /// Takes the next message of a partition.
    pub fn next(&mut self, partition: usize) -> Option<(RequestId, Message)> {
        let message = self.outbox[partition].pop_front()?;
        self.last_request = RequestId(self.last_request.0 + 1);
        if self.kind == Kind::Changefeed {
            self.unanswered.insert(self.last_request, (partition, message.clone()));
        }
        Some((self.last_request, message))
    }

    /// A request was answered; returns what it was, unless the source has given up on it.
    pub fn answered(&mut self, request: RequestId) -> Option<(usize, Message)> {
        let (partition, message) = self.unanswered.remove(&request)?;
        if let Message::Resolved(time) = message {
            self.resolved[partition] = self.resolved[partition].max(time);
        }
        Some((partition, message))
    }

    /// What we told an ordered source.
    #[must_use]
    pub fn acknowledged(&self) -> Option<Position> {
        self.acknowledged
    }

    /// Remembers what we told it.
    pub fn acknowledge(&mut self, position: Position) {
        self.acknowledged = self.acknowledged.max(Some(position));
    }

    /// Our process has died and connects again.
    pub fn reconnect(&mut self, history: &History, pieces: bool) {
        match self.kind {
            Kind::Ordered => self.send_since(history, self.acknowledged, pieces),
            Kind::Changefeed => {
                for (_, (partition, message)) in
                    std::mem::take(&mut self.unanswered).into_iter().rev()
                {
                    self.outbox[partition].push_front(message);
                }
            }
        }
    }

    /// The source has died and has forgotten some of what we told it: PostgreSQL writes a slot's
    /// confirmed position now and then (PostgreSQL documentation, "Replication Slots"), a changefeed
    /// its resolved timestamps.
    pub fn rewind(&mut self, history: &History, partition: usize, pieces: bool) {
        let older = self.cuts.below(history.count_through(self.end_of_past(partition)) + 1);
        match self.kind {
            Kind::Ordered => {
                let after = older.checked_sub(1).map(|tx| history.commits()[tx].position);
                self.send_since(history, after, pieces);
            }
            Kind::Changefeed => {
                self.unanswered.retain(|_, (of, _)| *of != partition);
                self.outbox[partition].clear();
                for tx in older..history.commits().len() {
                    self.push_rows(history, tx, partition);
                }
            }
        }
    }

    fn end_of_past(&self, partition: usize) -> Option<Position> {
        match self.kind {
            Kind::Ordered => self.acknowledged,
            Kind::Changefeed => Some(Position::Hlc(self.resolved[partition])),
        }
    }

    fn send_since(&mut self, history: &History, after: Option<Position>, pieces: bool) {
        self.outbox[0].clear();
        for tx in history.count_through(after)..history.commits().len() {
            self.push_transaction(history, tx, pieces);
        }
    }
}

/// Each row always travels on the same partition.
#[must_use]
pub fn partition_of(mutation: &Mutation) -> usize {
    let sum =
        mutation.key.as_bytes().iter().fold(mutation.table.0, |sum, byte| sum + u32::from(*byte));
    usize::from(sum % PARTITIONS != 0)
}

/// The number of a partition.
#[must_use]
pub fn partition_id(partition: usize) -> PartitionId {
    PartitionId(u32::try_from(partition).expect("few partitions"))
}

/// What the machine is told about a message.
#[must_use]
pub fn event(history: &History, partition: usize, request: RequestId, message: &Message) -> Event {
    match message {
        Message::Transaction(tx, range) => {
            let commit = &history.commits()[*tx];
            let committed = WallTime { micros: i64::try_from(*tx).expect("few transactions") };
            let mutations = commit.mutations[range.clone()].to_vec();
            Event::TransactionReceived(SourceTx { position: commit.position, committed, mutations })
        }
        Message::Piece(tx, range) => {
            let commit = &history.commits()[*tx];
            let mutations = commit.mutations[range.clone()].to_vec();
            Event::PieceReceived { before: commit.before, mutations }
        }
        Message::Idle(position) => Event::IdleThrough(*position),
        Message::Rows(tx, rows) => {
            let commit = &history.commits()[*tx];
            let Position::Hlc(time) = commit.position else {
                unreachable!("a changefeed has times")
            };
            let timed =
                |row: &usize| TimedMutation { time, mutation: commit.mutations[*row].clone() };
            Event::RowsReceived { request, rows: rows.iter().map(timed).collect() }
        }
        Message::Resolved(resolved) => {
            let partition = partition_id(partition);
            Event::ResolvedReceived { request, partition, resolved: *resolved }
        }
    }
}
