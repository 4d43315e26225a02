//! Images of a row before and after a change → mutations.
use alloc::format;
use core::fmt;

use crate::model::catalog::Table;
use crate::model::key::RowKey;
use crate::model::mutation::{Change, Mutation, TableId};
use crate::model::row::{Cell, Row};
use crate::stop::SchemaDrift;

/// What an update becomes: a change of the row, after a delete of the old one if its key changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Updated {
    pub(super) old: Option<Mutation>,
    pub(super) new: Mutation,
    /// Values that were not sent because the update did not touch them.
    pub(super) unchanged: u64,
}

/// Whose rows they are: the target table, and what messages call the source's.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) id: TableId,
    pub(super) table: &'a Table,
    pub(super) source: &'a dyn fmt::Display,
}

impl Of<'_> {
    pub(super) fn insert(self, row: Row) -> Result<Mutation, SchemaDrift> {
        Ok(self.mutation(self.key(&row)?, Change::Insert(row)))
    }

    /// `old` is the image before the change, if there is one; unsent values are filled from it. `incomplete` is
    /// whether `new` may have such values.
    pub(super) fn update(
        self,
        old: Option<Row>,
        new: Row,
        incomplete: bool,
    ) -> Result<Updated, SchemaDrift> {
        let unchanged = if incomplete { unchanged(&new) } else { 0 };
        let Some(old) = old else {
            let key = self.key(&new)?;
            let new = self.mutation(key, change(new, unchanged > 0));
            return Ok(Updated { old: None, new, unchanged });
        };
        let row = if unchanged > 0 { new.over(&old) } else { new };
        let still_unchanged = unchanged > 0 && self::unchanged(&row) > 0;
        let (old_key, key) = (self.key(&old)?, self.key(&row)?);
        if is_same_row(self.table, &old, &old_key, &row, &key) {
            let new = self.mutation(key, change(row, still_unchanged));
            return Ok(Updated { old: None, new, unchanged });
        }
        if still_unchanged {
            let new = self.mutation(old_key, Change::Move { from: old, to: row });
            return Ok(Updated { old: None, new, unchanged });
        }
        if self.table.untold {
            // In its place, for the rows that refer to it; and again, in case it has moved already: what comes a
            // second time must do no harm.
            let moved = Change::Move { from: old, to: row.clone() };
            let (old, new) =
                (self.mutation(old_key, moved), self.mutation(key, Change::Upsert(row)));
            return Ok(Updated { old: Some(old), new, unchanged });
        }
        let old = Some(self.mutation(old_key, Change::Delete(old)));
        let new = self.mutation(key, Change::Upsert(row));
        Ok(Updated { old, new, unchanged })
    }

    pub(super) fn delete(self, old: Row) -> Result<Mutation, SchemaDrift> {
        Ok(self.mutation(self.key(&old)?, Change::Delete(old)))
    }

    const fn mutation(self, key: RowKey, change: Change) -> Mutation {
        Mutation { table: self.id, key, change }
    }

    #[inline]
    fn key(self, row: &Row) -> Result<RowKey, SchemaDrift> {
        self.table.key_of(row).map_err(|_| {
            let reason = format!("a row of {} came without its key", self.source);
            SchemaDrift::NoKey { table: self.table.name.clone(), reason }
        })
    }
}

fn change(row: Row, unchanged: bool) -> Change {
    if unchanged { Change::Update(row) } else { Change::Upsert(row) }
}

/// How many applied cells were not sent.
fn unchanged(row: &Row) -> u64 {
    let unchanged = row.columns().filter(|(_, cell)| *cell == Cell::Unchanged);
    unchanged.fold(0, |sum, _| u64::saturating_add(sum, 1))
}

/// Whether two images are of one row of the target. Keys whose bytes do not tell rows apart are
/// compared value by value: `a` and `A` may be one key or two, and taking one for two does no harm.
fn is_same_row(table: &Table, old: &Row, old_key: &RowKey, new: &Row, new_key: &RowKey) -> bool {
    if table.nets() || old_key != new_key {
        return old_key == new_key;
    }
    table.key.iter().all(|column| {
        let of = |(index, _): &(u16, Cell<'_>)| index == column;
        old.columns().find(of) == new.columns().find(of)
    })
}
