//! Row messages → mutations: what an insert, update or delete of the source means for the target.
//!
//! | old row sent | because | the update becomes |
//! |---|---|---|
//! | none | the key stayed | upsert, or update if some values were not sent |
//! | key | the key changed, or is large | delete of the old key, then upsert; a move if values are missing |
//! | full | REPLICA IDENTITY FULL | as above, by the target's key; unsent values are filled from it |
use alloc::sync::Arc;

use super::pg_assemble_error::AssembleError;
use super::pg_message::{Old, Tuple};
use super::pg_relation::Mapped;
use super::row_change::{Of, Updated};
use crate::model::catalog::Table;
use crate::model::key::RowKey;
use crate::model::mutation::{Change, Mutation};
use crate::model::row::{Layout, Row};
use crate::stop::SchemaDrift;

impl Mapped {
    #[inline]
    pub(super) fn insert(&self, table: &Table, new: Tuple) -> Result<Mutation, AssembleError> {
        if new.has_unchanged() {
            return Err(AssembleError::InsertIncomplete { table: self.source.clone() });
        }
        Ok(self.of(table).insert(self.row(&self.layout, new)?)?)
    }

    pub(super) fn update(
        &self,
        table: &Table,
        old: Option<Old>,
        new: Tuple,
    ) -> Result<Updated, AssembleError> {
        self.check_identified(table)?;
        let incomplete = new.has_unchanged();
        let row = self.row(&self.layout, new)?;
        let old = old.map(|old| self.old_row(old)).transpose()?;
        Ok(self.of(table).update(old, row, incomplete)?)
    }

    pub(super) fn delete(&self, table: &Table, old: Old) -> Result<Mutation, AssembleError> {
        self.check_identified(table)?;
        Ok(self.of(table).delete(self.old_row(old)?)?)
    }

    pub(super) fn truncate(&self) -> Mutation {
        let key = RowKey::from_bytes(b"");
        Mutation { table: self.table, key, change: Change::Truncate }
    }

    #[inline]
    const fn of<'a>(&'a self, table: &'a Table) -> Of<'a> {
        Of { id: self.table, table, source: &self.source }
    }

    /// The cells of a replica identity that are not part of it are NULL without meaning it, so they
    /// get a layout in which they stand for nothing.
    fn old_row(&self, old: Old) -> Result<Row, AssembleError> {
        match old {
            Old::Key(tuple) => self.row(&self.identity, tuple),
            Old::Full(tuple) => self.row(&self.layout, tuple),
        }
    }

    #[inline]
    fn row(&self, layout: &Arc<Layout>, tuple: Tuple) -> Result<Row, AssembleError> {
        let got = usize::from(tuple.columns());
        let expected = layout.columns.len();
        let error = || AssembleError::ColumnCount { table: self.source.clone(), expected, got };
        if got != expected {
            return Err(error());
        }
        Row::new(Arc::clone(layout), tuple.cells).map_err(|_| error())
    }

    fn check_identified(&self, table: &Table) -> Result<(), SchemaDrift> {
        match &self.unidentified {
            None => Ok(()),
            Some(reason) => {
                Err(SchemaDrift::NoKey { table: table.name.clone(), reason: reason.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use crate::decode::pg_fixture::{Wire, message, options};
    use crate::decode::pg_transaction::AssembleError;
    use crate::event::Event;
    use crate::model::ident::TableName;
    use crate::stop::SchemaDrift;

    /// What these changes become, without the line about their transaction.
    fn check(texts: &[&str]) -> Result<Vec<String>, AssembleError> {
        let lines = Wire::new(options()).tx(texts)?;
        Ok(lines.into_iter().skip(1).collect())
    }

    fn parent() -> TableName {
        TableName::new("public", "parent")
    }

    #[test]
    fn w12_a_key_change_deletes_the_old_row() {
        let changes = check(&["~parent 2 b < K 1 NULL"]).unwrap();
        assert_eq!(changes, ["-parent 1", "=parent 2 b"]);
        let changes = check(&["~parent 2 b < O 1 a"]).unwrap();
        assert_eq!(changes, ["-parent 1 a", "=parent 2 b"]);
    }

    #[test]
    fn w12_a_key_change_is_seen_where_key_bytes_do_not_tell_rows_apart() {
        let changes = check(&["~odd b < K a", "~odd b < K b"]).unwrap();
        assert_eq!(changes, ["-odd a", "=odd b", "=odd b"]);
    }

    #[test]
    fn w12_a_key_change_never_loses_large_values() {
        let changes = check(&["~parent 2 ? < O 1 large"]).unwrap();
        assert_eq!(changes, ["-parent 1 large", "=parent 2 large"]);
        let changes = check(&["~parent 2 ? < K 1 NULL"]).unwrap();
        assert_eq!(changes, [">parent 1 to 2 ?"]);
    }

    #[test]
    fn w41_under_full_identity_the_key_is_the_key_of_the_target() {
        let mut wire = Wire::new(options());
        let full = ":parent id* name*";
        wire.begin();
        for text in [full, "~parent 1 b < O 1 a", "~parent 1 c < O 1 b", "-parent O 1 c"] {
            wire.send(&message(text)).unwrap();
        }
        wire.commit();
        let Event::TransactionReceived(tx) = &wire.events[0] else { panic!("{:?}", wire.events) };
        assert!(tx.mutations.iter().all(|change| change.key == tx.mutations[0].key));
        assert_eq!(wire.take()[1..], ["=parent 1 b", "=parent 1 c", "-parent 1 c"]);
    }

    #[test]
    fn w41_under_full_identity_unsent_values_come_from_the_old_row() {
        let changes = check(&["~child 1 7 ? < O 1 6 large"]).unwrap();
        assert_eq!(changes, ["=child 1 7 large"]);
    }

    #[test]
    fn unsent_values_make_an_update_and_are_counted() {
        let mut wire = Wire::new(options());
        let lines = wire.tx(&["~child 1 ? ?", "~child 1 2 x", "~child 1 NULL x"]).unwrap();
        assert_eq!(lines[1..], ["~child 1 ? ?", "=child 1 2 x", "=child 1 NULL x"]);
        assert_eq!(wire.transactions.counters().unchanged_cells, 2);
    }

    #[test]
    fn a_large_key_that_did_not_change_comes_with_the_old_row() {
        assert_eq!(check(&["~parent ? b < K 1 NULL"]).unwrap(), ["=parent 1 b"]);
    }

    #[test]
    fn a_deleted_row_shows_nothing_but_what_was_sent() {
        assert_eq!(check(&["-child K 1 NULL NULL"]).unwrap(), ["-child 1"]);
        assert_eq!(check(&["-child O 1 NULL x"]).unwrap(), ["-child 1 NULL x"]);
    }

    #[test]
    fn a_key_that_no_old_row_can_show_is_refused() {
        for change in ["~mail 1 a", "-mail K 1 NULL", "~mail 2 a < K 1 NULL"] {
            let error = check(&[":mail id address*", change]).unwrap_err();
            let AssembleError::Drift(SchemaDrift::NoKey { reason, .. }) = error else {
                panic!("{error}");
            };
            assert!(reason.ends_with("ALTER TABLE \"public\".\"mail\" REPLICA IDENTITY FULL"));
        }
        assert_eq!(check(&[":mail id address*", "+mail 1 a"]).unwrap(), ["+mail 1 a"]);
    }

    #[test]
    fn a_table_without_a_key_takes_inserts_only() {
        assert_eq!(check(&["+nokey a", "+nokey a"]).unwrap(), ["+nokey a", "+nokey a"]);
        for change in ["~nokey b", "-nokey O a"] {
            let error = check(&[change]).unwrap_err();
            assert!(matches!(error, AssembleError::Drift(SchemaDrift::NoKey { .. })), "{error}");
        }
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        for change in ["+parent 1", "~parent 1 a x", "-parent K 1", "~parent 1 a < O 1"] {
            let error = check(&[change]).unwrap_err();
            assert!(matches!(error, AssembleError::ColumnCount { expected: 2, .. }), "{error}");
        }
    }

    #[test]
    fn an_insert_that_lacks_a_value_is_refused() {
        let error = AssembleError::InsertIncomplete { table: parent() };
        assert_eq!(check(&["+parent 1 ?"]), Err(error));
    }

    #[test]
    fn an_update_without_its_key_is_refused() {
        let error = check(&["~parent ? a"]).unwrap_err();
        let reason = "a row of \"public\".\"parent\" came without its key".into();
        assert_eq!(error, SchemaDrift::NoKey { table: parent(), reason }.into());
    }
}
