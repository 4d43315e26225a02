//! What a store asks of its file, each with the place where the answer goes.
use std::sync::Arc;

use replicator_core::model::catalog::Catalog;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::{Durable, Failure};
use tokio::sync::oneshot;

use super::Totals;
use super::tables::memo;
use crate::port::{Fence, StagedPage};

/// Whose rows and positions they are.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    /// The partitions of the source by their names. A [`PartitionId`] is an index into these: the file
    /// knows names only, so that a source may number its partitions otherwise the next time.
    pub(super) partitions: Vec<String>,
    pub(super) catalog: Arc<Catalog>,
    /// The part of it that is read and retired.
    pub(super) lane: Lane,
}

impl Stream {
    /// The fact that says how far rows of the lane may have got into the target.
    pub(super) const fn horizon(&self) -> &'static str {
        match self.lane {
            Lane::Whole | Lane::Related(_) => memo::HORIZON,
            Lane::Independent(_) => memo::HORIZON_INDEPENDENT,
        }
    }
}

/// Where an answer goes. Whoever does not wait for it any more does not get it.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// One request.
#[derive(Debug)]
pub(super) enum Request {
    Begin(Arc<Stream>, Reply<(Fence, Durable)>),
    Write(Arc<Stream>, Write, Reply<()>),
    Read(Arc<Stream>, Span, Reply<StagedPage>),
    /// The text of this fact.
    Text(Arc<Stream>, &'static str, Reply<Option<String>>),
    Newest(Arc<Stream>, Reply<Hlc>),
    Horizon(Arc<Stream>, Reply<Hlc>),
    Streams(Reply<Vec<String>>),
    Totals(Reply<Totals>),
    Close(Reply<()>),
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Write {
    Stage(Fence, Vec<TimedMutation>, Hlc),
    Retire(Fence, Hlc),
    Checkpoint(Fence, Position),
    Resolved(Fence, PartitionId, Hlc),
    Horizon(Fence, Hlc),
    Identity(String),
    /// The text of this fact.
    Text(Fence, &'static str, String),
}

/// Which rows are to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Exclusive.
    pub(super) after: Hlc,
    /// Inclusive.
    pub(super) through: Hlc,
    pub(super) rows_max: usize,
}

impl Request {
    /// Bytes of rows that it carries, give or take a little.
    pub(super) fn row_bytes(&self) -> usize {
        match self {
            Self::Write(_, Write::Stage(_, rows, _), _) => {
                rows.iter().map(|row| row.mutation.len_bytes()).sum()
            }
            Self::Begin(..)
            | Self::Write(..)
            | Self::Read(..)
            | Self::Text(..)
            | Self::Newest(..)
            | Self::Horizon(..)
            | Self::Streams(_)
            | Self::Totals(_)
            | Self::Close(_) => 0,
        }
    }

    /// Answers that it cannot be done.
    pub(super) fn refuse(self, failure: Failure) {
        match self {
            Self::Begin(_, reply) => answer(reply, Err(failure)),
            Self::Write(_, _, reply) | Self::Close(reply) => answer(reply, Err(failure)),
            Self::Read(_, _, reply) => answer(reply, Err(failure)),
            Self::Text(_, _, reply) => answer(reply, Err(failure)),
            Self::Newest(_, reply) | Self::Horizon(_, reply) => answer(reply, Err(failure)),
            Self::Streams(reply) => answer(reply, Err(failure)),
            Self::Totals(reply) => answer(reply, Err(failure)),
        }
    }
}

/// Gives an answer, if somebody waits for it.
pub(super) fn answer<T>(reply: Reply<T>, outcome: Result<T, Failure>) {
    drop(reply.send(outcome));
}

/// An answer that waits for the disk.
#[derive(Debug)]
pub(super) enum Held {
    Began(Reply<(Fence, Durable)>, Result<(Fence, Durable), Failure>),
    Written(Reply<()>, Result<(), Failure>),
}

impl Held {
    /// Gives the answer; `failed` says that nothing of it became durable, and why.
    pub(super) fn give(self, failed: Option<&Failure>) {
        match (self, failed) {
            (Self::Began(reply, outcome), None) => answer(reply, outcome),
            (Self::Written(reply, outcome), None) => answer(reply, outcome),
            (Self::Began(reply, _), Some(failure)) => answer(reply, Err(failure.clone())),
            (Self::Written(reply, _), Some(failure)) => answer(reply, Err(failure.clone())),
        }
    }
}
