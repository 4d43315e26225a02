//! What a search through all stories of a tiny world needs: transactions that are given, and everything
//! that can happen next.
use replicator_core::Demand;

use super::World;
use crate::action::Action;
use crate::database::Refusal;
use crate::random::Random;
use crate::story::{Statement, Writer};
use crate::workload::drafted;

/// Of more effects than this the later ones are lost in every crash.
const SUBSET_OF_MAX: usize = 4;

/// What bounds the stories of a tiny world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many of its transactions the source commits.
    pub transactions: usize,
    /// How often the process may die.
    pub crashes: usize,
    /// How many effects of dead runs may arrive.
    pub late: usize,
}

impl World {
    /// The source commits these statements.
    ///
    /// # Errors
    ///
    /// The source refused a statement, or none of them changed anything.
    pub(crate) fn commit_statements(&mut self, statements: &[Statement]) -> Result<(), Refusal> {
        let mut random = Random::new(0);
        let (setup, source) = (&self.setup, &self.database);
        let (version, database) = (self.version, source.clone());
        let mut writer = Writer { setup, random: &mut random, version, database };
        let mut done = Vec::new();
        for statement in statements {
            let statement = writer.stamped(statement);
            writer.run(statement, &mut done)?;
        }
        let after = (writer.database, writer.version);
        let draft = drafted(setup, source, &done, after, 0);
        let draft = draft.ok_or_else(|| Refusal::Rejected("nothing has changed".to_owned()))?;
        self.push(draft, &mut random);
        Ok(())
    }

    /// Everything that can happen next, each of it once. Nothing, once the world is at rest.
    #[must_use]
    pub fn moves(&self, bounds: Bounds) -> Vec<Action> {
        let mut moves = Vec::new();
        if self.run.demand() == Demand::Read {
            let speaks = (0..2).filter(|partition| self.source.speaks(*partition));
            moves.extend(speaks.map(Action::Send));
        }
        moves.extend((0..self.pending.len()).map(Action::Succeed));
        if moves.is_empty() && self.run.next_deadline().is_some() {
            moves.push(Action::Wait(1));
        }
        // A crash when nothing is under way would be one of a world at rest.
        if 0 < bounds.crashes && !moves.is_empty() {
            let subsets = 1_u64 << self.pending.len().min(SUBSET_OF_MAX);
            moves.extend((0..subsets).map(Action::Crash));
        }
        if 0 < bounds.late && !moves.is_empty() {
            moves.extend((0..self.late.len()).map(Action::Late));
        }
        moves
    }
}
