//! Station 6: let batches run side by side unless they touch the same thing.
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::footprint::{Footprint, Rule};
use crate::model::position::Ticket;

/// Batches that wait for older ones.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    rules: Vec<Rule>,
    last_ticket: Ticket,
    // Invariant: one entry for every batch that waits or runs.
    held: BTreeMap<Ticket, Footprint>,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: Ticket,
    blockers: BTreeSet<Ticket>,
    batch: T,
}

impl<T> Schedule<T> {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            last_ticket: Ticket::default(),
            held: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, footprint: Footprint, batch: T) {
        self.last_ticket = Ticket(self.last_ticket.0.saturating_add(1));
        let ticket = self.last_ticket;
        let blockers = self
            .held
            .iter()
            .filter(|(_, older)| older.blocks(&footprint, &self.rules))
            .map(|(ticket, _)| *ticket)
            .collect();
        self.held.insert(ticket, footprint);
        self.waiting.push_back(Waiting { ticket, blockers, batch });
    }

    /// Takes the oldest batch that nothing older is in the way of.
    pub(crate) fn take_runnable(&mut self) -> Option<(Ticket, T)> {
        let index = self.waiting.iter().position(|waiting| waiting.blockers.is_empty())?;
        let Waiting { ticket, batch, .. } = self.waiting.remove(index)?;
        Some((ticket, batch))
    }

    /// The batch is in the target; whoever waited for it may go.
    pub(crate) fn release(&mut self, ticket: Ticket) {
        let held = self.held.remove(&ticket).is_some();
        assert!(held, "released a batch that was not held: {ticket:?}");
        for waiting in &mut self.waiting {
            waiting.blockers.remove(&ticket);
        }
    }

    /// Batches that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Batches that wait or run.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }
}
