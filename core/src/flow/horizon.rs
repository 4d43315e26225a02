//! Station 4a (changefeeds only): say how far rows may get into the target, before they do.
//!
//! Some targets cannot tell what they have. After a crash such a one has some of what lies between the
//! checkpoint and the horizon, and nothing beyond. To apply all of that again transaction by transaction
//! would show old values once more, and might be refused: what was taken from a row since, such as a
//! unique value or a parent, another one has. So the next run applies it as one batch of last values.
use alloc::collections::VecDeque;
use alloc::vec::{IntoIter, Vec};

use crate::model::mutation::{Mutation, OrderedTx};
use crate::model::position::{OpId, TxSeq};
use crate::model::time::Hlc;

/// So many pages are held before no more is read: one that goes on, and one that is saved meanwhile. More of them would
/// only take memory.
const PAGES_MAX: usize = 2;

/// What was read, until it is durable how far it reaches.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    // `None`: the target tells what it has, and nothing is held.
    saved: Option<Hlc>,
    saving: Option<(OpId, Hlc)>,
    held: VecDeque<Held>,
    bytes: usize,
    replays: bool,
}

#[derive(Debug)]
struct Held {
    through: Hlc,
    bytes: usize,
    transactions: IntoIter<OrderedTx>,
}

impl Horizon {
    /// From here on the target tells nothing. An earlier run saved `horizon`, and `checkpoint`.
    pub(crate) fn be_needed(&mut self, horizon: Hlc, checkpoint: Hlc) {
        self.saved = Some(horizon);
        self.replays = checkpoint < horizon;
    }

    /// Whether a batch that begins with this transaction may be in the target, or parts of it.
    pub(crate) fn replays(&self, first: TxSeq) -> bool {
        self.replays && first == TxSeq::default().next()
    }

    /// Nothing beyond this time is in the target.
    pub(crate) fn reach(&self) -> Hlc {
        self.saved.unwrap_or_default()
    }

    /// Takes what was read up to a time, as it was read: in order.
    pub(crate) fn hold(&mut self, through: Hlc, transactions: Vec<OrderedTx>) {
        let mutations = transactions.iter().flat_map(|tx| &tx.mutations);
        let bytes = mutations.map(Mutation::len_bytes).fold(0, usize::saturating_add);
        self.bytes = self.bytes.saturating_add(bytes);
        self.held.push_back(Held { through, bytes, transactions: transactions.into_iter() });
    }

    /// Whether another page may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.held.len() < PAGES_MAX
    }

    /// The horizon to persist next, if it moved and no save is under way.
    pub(crate) fn next_save(&self) -> Option<Hlc> {
        let last = self.held.back()?.through;
        (self.saving.is_none() && self.saved? < last).then_some(last)
    }

    pub(crate) fn started(&mut self, op: OpId, through: Hlc) {
        self.saving = Some((op, through));
    }

    pub(crate) fn finished(&mut self, op: OpId) -> bool {
        match self.saving.take_if(|(saving, _)| *saving == op) {
            Some((_, through)) => {
                self.saved = self.saved.max(Some(through));
                true
            }
            None => false,
        }
    }

    pub(crate) fn failed(&mut self, op: OpId) -> bool {
        self.saving.take_if(|(saving, _)| *saving == op).is_some()
    }

    /// Takes the oldest transaction that is held, if it may go on.
    pub(crate) fn take_ready(&mut self) -> Option<OrderedTx> {
        loop {
            let page = self.held.front_mut()?;
            if self.saved.is_some_and(|saved| saved < page.through) {
                return None;
            }
            if let Some(transaction) = page.transactions.next() {
                return Some(transaction);
            }
            let bytes = self.held.pop_front().map_or(0, |page| page.bytes);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes of rows that are held.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}
