//! What a batch touches, to tell whether two batches may run side by side.
//!
//! Rows are kept as 64-bit hashes. Two rows with one hash make two batches wait for each other that
//! need not; the order of a row's own changes is never in danger.
//!
//! Known values (row keys, foreign-key values of new images) are locked row by row. A source does not
//! say which unique value or parent a changed row gave up, so these are locked by table: see `Rule`.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::model::catalog::{Catalog, ForeignKey};
use crate::model::key::RowKey;
use crate::model::mutation::{Change, Mutation, TableId};

/// Rows take on values: unique ones, references to parents.
const ACQUIRES: u8 = 1;
/// Rows give values up, nobody knows which.
const RELEASES: u8 = 2;
/// Rows go away.
const DELETES: u8 = 4;

/// Everything a batch touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Footprint {
    // Invariant after `close`: sorted, without repeats.
    writes: Vec<u64>,
    reads: Vec<u64>,
    tables: BTreeMap<TableId, u8>,
    // A piece of a huge transaction, or a truncate: runs alone.
    everything: bool,
}

impl Footprint {
    /// A batch that runs alone.
    pub(crate) fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Adds a change; returns the hash of its row.
    pub(crate) fn add(&mut self, catalog: &Catalog, mutation: &Mutation) -> u64 {
        let flags = match &mutation.change {
            Change::Delete(_) => RELEASES | DELETES,
            Change::Insert(_) => ACQUIRES,
            Change::Upsert(_) | Change::Update(_) => ACQUIRES | RELEASES,
            Change::Move { .. } => ACQUIRES | RELEASES | DELETES,
            Change::Truncate => {
                self.everything = true;
                RELEASES | DELETES
            }
        };
        *self.tables.entry(mutation.table).or_default() |= flags;
        let row = hash(mutation.table, &mutation.key);
        self.writes.push(row);
        if let Change::Move { from: _, to } = &mutation.change
            && let Ok(key) = catalog.table(mutation.table).key_of(to)
        {
            self.writes.push(hash(mutation.table, &key));
        }
        if let Some(image) = mutation.change.row() {
            let table = catalog.table(mutation.table);
            for fk in table.foreign_keys.iter().filter(|fk| refers_to_key(catalog, fk)) {
                // An unchanged reference was locked by whoever set it.
                if let Ok(parent) = table.tuple_of(&fk.columns, image) {
                    self.reads.push(hash(fk.parent, &parent));
                }
            }
        }
        row
    }

    /// Finishes the footprint, so that it can be compared.
    pub(crate) fn close(&mut self) {
        for rows in [&mut self.writes, &mut self.reads] {
            rows.sort_unstable();
            rows.dedup();
        }
    }

    /// Whether `self`, the older, must be in the target before `younger` may start.
    pub(crate) fn blocks(&self, younger: &Self, rules: &[Rule]) -> bool {
        self.everything
            || younger.everything
            || meet(&self.writes, &younger.writes)
            || meet(&self.writes, &younger.reads)
            || meet(&self.reads, &younger.writes)
            || rules.iter().any(|rule| {
                self.has(rule.older, rule.older_does)
                    && younger.has(rule.younger, rule.younger_does)
            })
    }

    fn has(&self, table: TableId, flags: u8) -> bool {
        self.tables.get(&table).is_some_and(|had| had & flags != 0)
    }
}

/// A pair of things two batches may do to two tables that must keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    older: TableId,
    older_does: u8,
    younger: TableId,
    younger_does: u8,
}

/// The rules of a catalog.
pub(crate) fn rules(catalog: &Catalog) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (id, table) in catalog.tables() {
        if !table.uniques.is_empty() {
            // A unique value may be handed from a row of the older to a row of the younger.
            rules.push(Rule {
                older: id,
                older_does: RELEASES,
                younger: id,
                younger_does: ACQUIRES,
            });
        }
        for fk in &table.foreign_keys {
            // A child must let go of its parent before the parent goes.
            let (older, younger) = (id, fk.parent);
            rules.push(Rule { older, older_does: RELEASES, younger, younger_does: DELETES });
            if !refers_to_key(catalog, fk) {
                // The parent's row is not known by the reference, so order whole tables.
                let any = ACQUIRES | RELEASES;
                rules.push(Rule {
                    older: fk.parent,
                    older_does: any,
                    younger: id,
                    younger_does: any,
                });
                rules.push(Rule {
                    older: id,
                    older_does: any,
                    younger: fk.parent,
                    younger_does: any,
                });
            }
        }
    }
    rules
}

fn refers_to_key(catalog: &Catalog, fk: &ForeignKey) -> bool {
    catalog.table(fk.parent).key == fk.parent_columns
}

/// Whether two sorted lists share an element. Steps without a branch that depends on the elements: these are
/// hashes, so that a processor would guess wrong half of the time.
fn meet(left: &[u64], right: &[u64]) -> bool {
    let (mut at_left, mut at_right) = (0_usize, 0_usize);
    while let (Some(l), Some(r)) = (left.get(at_left), right.get(at_right)) {
        if l == r {
            return true;
        }
        at_left = at_left.saturating_add(usize::from(l < r));
        at_right = at_right.saturating_add(usize::from(r < l));
    }
    false
}

/// Multiplies and folds eight bytes at a time; spreads well enough for a lock table.
fn hash(table: TableId, key: &RowKey) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = FACTOR ^ u64::from(table.0);
    let mut mix = |word: u64| {
        state = (state ^ word).wrapping_mul(FACTOR);
        state ^= state >> 29;
    };
    let (words, rest) = key.as_bytes().as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    let mut tail = [0_u8; 8];
    for (slot, byte) in tail.iter_mut().zip(rest) {
        *slot = *byte;
    }
    mix(u64::from_le_bytes(tail));
    mix(u64::try_from(key.len()).unwrap_or(u64::MAX));
    state
}

#[cfg(test)]
mod tests {
    use super::meet;

    #[test]
    fn sorted_lists_meet_where_they_share_an_element() {
        assert!(meet(&[1, 5, 9], &[2, 5]));
        assert!(!meet(&[1, 5, 9], &[2, 6, 10]));
        assert!(!meet(&[], &[1]));
    }
}
