//! One row change, and the groupings it travels in.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::key::RowKey;
use super::position::{Position, TxSeq};
use super::row::Row;
use super::time::{Hlc, WallTime};

/// Index of a target table in the [`Catalog`](super::catalog::Catalog). Tables are numbered parents
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// What happened to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row is gone. The image holds at least the columns of the key.
    Delete(Row),
    /// The row is new at the source. Applied as an upsert, or faster where that is safe.
    Insert(Row),
    /// The row now has these values, all of them known.
    Upsert(Row),
    /// The row now has these values, but some are unchanged and were not sent. Never an upsert: the
    /// missing ones must not become NULL.
    Update(Row),
    /// The row has another key, and some of its values are unchanged and were not sent: so the row the
    /// target has must be changed in place. The key of such a mutation is the old one.
    Move {
        /// The old image; holds at least the columns of the key.
        from: Row,
        /// The new image; holds the key.
        to: Row,
    },
    /// All rows of the table are gone. The key of such a mutation is empty.
    Truncate,
}

impl Change {
    /// The new image, unless the row is gone.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Delete(_) | Self::Truncate => None,
            Self::Insert(row) | Self::Upsert(row) | Self::Update(row) => Some(row),
            Self::Move { from: _, to } => Some(to),
        }
    }

    /// Whether the change is of one row, so that it can be folded with others of that row.
    #[must_use]
    pub const fn nets(&self) -> bool {
        match self {
            Self::Delete(_) | Self::Insert(_) | Self::Upsert(_) | Self::Update(_) => true,
            Self::Move { .. } | Self::Truncate => false,
        }
    }

    /// What `self` and then `newer` amount to, for one row.
    ///
    /// # Panics
    ///
    /// One of them is a truncate or a move: that is no change of one row.
    #[must_use]
    pub fn then(self, newer: Self) -> Self {
        match (self, newer) {
            (Self::Truncate | Self::Move { .. }, _) | (_, Self::Truncate | Self::Move { .. }) => {
                panic!("no change of one row")
            }
            (_, Self::Delete(row)) => Self::Delete(row),
            // The old row may still be in the target, so this is not a plain insert.
            (Self::Delete(_) | Self::Upsert(_) | Self::Update(_), Self::Insert(row)) => {
                Self::Upsert(row)
            }
            (Self::Insert(_), Self::Insert(row)) => Self::Insert(row),
            (Self::Insert(older), Self::Upsert(row) | Self::Update(row)) => {
                Self::Insert(row.over(&older))
            }
            (Self::Upsert(older), Self::Upsert(row) | Self::Update(row)) => {
                Self::Upsert(row.over(&older))
            }
            (Self::Update(_) | Self::Delete(_), Self::Upsert(row)) => Self::Upsert(row),
            (Self::Update(older), Self::Update(row)) => {
                let row = row.over(&older);
                if row.has_unchanged() { Self::Update(row) } else { Self::Upsert(row) }
            }
            (Self::Delete(_), Self::Update(row)) => Self::Update(row),
        }
    }
}

/// One row change on its way to the target. The unit of all our work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The target table.
    pub table: TableId,
    /// Which row. A change of the key is two mutations: a delete of the old one, then an upsert.
    pub key: RowKey,
    /// What happened to it.
    pub change: Change,
}

impl Mutation {
    /// Memory the mutation holds, in bytes, give or take a little.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        const FIXED: usize = 96;
        let row = match &self.change {
            Change::Delete(row)
            | Change::Insert(row)
            | Change::Upsert(row)
            | Change::Update(row) => row.len_bytes(),
            Change::Move { from, to } => from.len_bytes().saturating_add(to.len_bytes()),
            Change::Truncate => 0,
        };
        FIXED.saturating_add(self.key.len()).saturating_add(row)
    }
}

/// A mutation that carries the source commit time it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedMutation {
    /// Commit time at the source.
    pub time: Hlc,
    /// The row change.
    pub mutation: Mutation,
}

/// A source transaction: mutations that became visible together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTx {
    /// Where the transaction ends in the source stream.
    pub position: Position,
    /// When it committed, by the source's clock.
    pub committed: WallTime,
    /// In the order the source applied them.
    pub mutations: Vec<Mutation>,
}

/// A source transaction that has its place in our order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedTx {
    /// Its place.
    pub seq: TxSeq,
    /// Where it ends in the source stream.
    pub position: Position,
    /// When it committed, by the source's clock; `None` if nobody said (an idle source).
    pub committed: Option<WallTime>,
    /// In source order.
    pub mutations: Vec<Mutation>,
}

/// Where a source transaction ends inside a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxEnd {
    /// Its place.
    pub seq: TxSeq,
    /// Where it ends in the source stream.
    pub position: Position,
    /// The index after its last mutation.
    pub before: usize,
}

/// Whether a batch is whole source transactions or a piece of a huge one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Whole transactions: begin, apply, commit.
    Whole,
    /// The first piece of a transaction that is larger than a batch: begin, apply, keep open.
    First,
    /// Neither the first nor the last piece.
    Middle,
    /// The last piece: apply, commit.
    Last,
}

impl Piece {
    /// Whether the target transaction begins with this piece.
    #[must_use]
    pub const fn begins(self) -> bool {
        matches!(self, Self::Whole | Self::First)
    }

    /// Whether the target transaction commits with this piece.
    #[must_use]
    pub const fn commits(self) -> bool {
        matches!(self, Self::Whole | Self::Last)
    }
}

/// A run of whole, adjacent transactions for one target transaction, or a piece of a huge one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyBatch {
    /// First transaction in the run.
    pub first: TxSeq,
    /// Last transaction in the run.
    pub last: TxSeq,
    /// Position of the transaction before `first`: what the run starts after.
    pub after: Option<Position>,
    /// Source position of `last`.
    pub position: Position,
    /// Commit time of the newest transaction that had one.
    pub committed: Option<WallTime>,
    /// All or a piece.
    pub piece: Piece,
    /// In source order, not netted.
    pub mutations: Vec<Mutation>,
    /// Where each transaction with mutations ends.
    pub ends: Vec<TxEnd>,
}

impl ApplyBatch {
    /// This batch without its contents.
    pub(crate) fn clone_head(&self) -> Self {
        let Self { first, last, after, position, committed, piece, mutations: _, ends: _ } = *self;
        let (mutations, ends) = (Vec::new(), Vec::new());
        Self { first, last, after, position, committed, piece, mutations, ends }
    }
}

/// How to apply a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApplyOrder {
    /// One change per row, tables in foreign-key order. Fast, right unless unique values are handed
    /// from row to row or foreign keys form a cycle; then a constraint refuses it and nothing happens.
    #[default]
    Netted,
    /// Every change in source order, which satisfied the same constraints at the source.
    Source,
    /// Like `Netted`, but each row goes alone, unless it may be part of a circle, and these go last, in this
    /// order. A row is meant by the index of its last mutation.
    Settled(Vec<usize>),
    /// Like `Source`, and each of these mutations in a statement of its own, to find the one that is
    /// refused.
    RowWise(Range<usize>),
}

impl fmt::Display for ApplyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netted => f.write_str("netted"),
            Self::Source => f.write_str("source"),
            Self::Settled(last) => write!(f, "settled {last:?}"),
            Self::RowWise(range) => write!(f, "row-wise {}..{}", range.start, range.end),
        }
    }
}

/// A batch with what is needed to apply it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyRequest {
    /// What.
    pub batch: Arc<ApplyBatch>,
    /// In which order.
    pub order: ApplyOrder,
    /// Mutations that go to the dead-letter table, by index, each with the target's words.
    pub dead: Vec<usize>,
}
