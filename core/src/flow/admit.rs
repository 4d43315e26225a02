//! Station 1: hold the source to its contract and give every transaction its place.
use alloc::vec::Vec;

use crate::model::mutation::{Mutation, OrderedTx, SourceTx};
use crate::model::position::{Applied, Position, TxSeq};
use crate::model::time::{Hlc, WallTime};
use crate::stop::Stop;

/// The order of transactions.
#[derive(Debug)]
pub(crate) struct Admit {
    resumed_at: Option<Position>,
    // Runs of transactions beyond `resumed_at` that an earlier run brought into the target.
    applied: Vec<Applied>,
    // Invariant: nothing at or before `last` is admitted again.
    last: Option<Position>,
    seq: TxSeq,
    // The place of the transaction whose pieces are coming in, or `None` inside if it is skipped.
    in_pieces: Option<Option<TxSeq>>,
}

/// What became of a transaction that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// The target has it and the checkpoint covers it: nothing is left to do.
    Known,
    /// A transaction with its place. Empty if the target has it but the checkpoint does not say so.
    Placed(OrderedTx),
    /// The rest of a transaction that came in pieces.
    LastPiece(OrderedTx),
}

impl Admit {
    pub(crate) fn resume(checkpoint: Option<Position>, applied: Vec<Applied>) -> Self {
        let (last, seq, in_pieces) = (checkpoint, TxSeq::default(), None);
        Self { resumed_at: checkpoint, applied, last, seq, in_pieces }
    }

    /// A source that reconnects repeats everything since the position we last acknowledged.
    pub(crate) fn transaction(&mut self, tx: SourceTx) -> Result<Admitted, Stop> {
        let SourceTx { position, committed, mutations } = tx;
        let in_pieces = self.in_pieces.take();
        if Some(position) <= self.resumed_at {
            return Ok(Admitted::Known);
        }
        if let Some(had) = self.last
            && position <= had
        {
            return Err(Stop::PositionWentBack { had, got: position });
        }
        if let Some(Some(seq)) = in_pieces {
            self.last = Some(position);
            let tx = OrderedTx { seq, position, committed: Some(committed), mutations };
            return Ok(Admitted::LastPiece(tx));
        }
        let known = self.is_applied(position);
        if in_pieces.is_some() && !known {
            // Its pieces were skipped as known, so the source went back on where they end.
            let had = self.last.unwrap_or(position);
            return Err(Stop::PositionWentBack { had, got: position });
        }
        let mutations = if known { Vec::new() } else { mutations };
        Ok(Admitted::Placed(self.place(position, Some(committed), mutations)))
    }

    /// Returns the place of the transaction that this piece belongs to, or `None` if the target has it
    /// already. `before` is where its commit record starts.
    pub(crate) fn piece(&mut self, before: Position) -> Result<Option<TxSeq>, Stop> {
        if let Some(place) = self.in_pieces {
            return Ok(place);
        }
        let known = Some(before) < self.resumed_at
            || self.applied.iter().any(|run| run.holds_after(before));
        if !known
            && let Some(had) = self.last
            && before < had
        {
            return Err(Stop::PositionWentBack { had, got: before });
        }
        let place = (!known).then(|| {
            self.seq = self.seq.next();
            self.seq
        });
        self.in_pieces = Some(place);
        Ok(place)
    }

    /// Returns an empty transaction if `position` is news, so that the checkpoint moves on while
    /// the source is idle and the source can drop its log.
    pub(crate) fn idle_through(&mut self, position: Position) -> Option<OrderedTx> {
        assert!(self.in_pieces.is_none(), "the source is idle inside a transaction");
        (self.last < Some(position)).then(|| self.place(position, None, Vec::new()))
    }

    /// Places a transaction that was put together from staged rows. Empty if the target has it but the
    /// checkpoint does not say so.
    pub(crate) fn staged(&mut self, time: Hlc, mutations: Vec<Mutation>) -> OrderedTx {
        let position = Position::Hlc(time);
        let mutations = if self.is_applied(position) { Vec::new() } else { mutations };
        self.place(position, None, mutations)
    }

    /// Whether an earlier run brought this transaction into the target, beyond the checkpoint.
    fn is_applied(&self, position: Position) -> bool {
        self.applied.iter().any(|run| run.holds(position))
    }

    fn place(
        &mut self,
        position: Position,
        committed: Option<WallTime>,
        mutations: Vec<Mutation>,
    ) -> OrderedTx {
        assert!(self.last < Some(position), "transactions out of order");
        self.last = Some(position);
        self.seq = self.seq.next();
        OrderedTx { seq: self.seq, position, committed, mutations }
    }

    /// Whether a transaction is coming in piece by piece.
    pub(crate) fn is_in_pieces(&self) -> bool {
        self.in_pieces.is_some()
    }

    /// The last position that was admitted.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last
    }
}
