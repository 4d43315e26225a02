//! Writes of one row, and the constraints that they must keep.
//!
//! Limits of values and unique indexes are checked row by row, foreign keys at the end of a statement
//! or, if they are deferred, of the transaction (PostgreSQL documentation, "CREATE TABLE",
//! "Non-Deferred Uniqueness Constraints", and "SET CONSTRAINTS").
use std::collections::BTreeSet;
use std::sync::Arc;

use super::data::{Key, Row, Work};
use super::error::{Halt, SqlError};
use super::lock::{Lock, Mode};
use super::table::{ForeignKeyDef, TableDef, pick};
use super::value::Value;

/// A row that a statement changed.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub(super) table: usize,
    /// Where it was, or is if it is new.
    pub(super) key: Key,
    pub(super) old: Option<Row>,
    pub(super) new: Option<Row>,
}

impl Work<'_> {
    /// Refuses values that the table never takes.
    pub(super) fn check_values(&self, def: &TableDef, row: &[Value]) -> Result<(), SqlError> {
        let table = &def.name.table;
        for (column, value) in def.columns.iter().zip(row) {
            let name = &column.name;
            if column.not_null && *value == Value::Null {
                let message = format!(
                    "null value in column \"{name}\" of relation \"{table}\" violates not-null \
                     constraint"
                );
                return Err(SqlError::new("23502", message));
            }
            let limited = self.data.strict && def.name.schema == "public";
            if limited && matches!(value, Value::Int(number) if *number < 0) {
                let check = format!("{table}_{name}_check");
                let message = format!(
                    "new row for relation \"{table}\" violates check constraint \"{check}\""
                );
                return Err(SqlError::new("23514", message).constraint(&check));
            }
        }
        Ok(())
    }

    /// Inserts a row, gives it other values or deletes it. `at` is where an old row is.
    pub(super) fn write(
        &mut self,
        table: usize,
        at: Option<(Key, Row)>,
        new: Option<Row>,
    ) -> Result<(), Halt> {
        let def = Arc::clone(&self.data.tables[table]);
        if let Some(new) = &new {
            self.check_values(&def, new)?;
        }
        self.lock(Lock::Table(table), Mode::Share)?;
        let old = at.as_ref().map(|(_, row)| row);
        let key = match (&at, &new) {
            (Some((key, _)), None) => key.clone(),
            (_, Some(new)) if !def.key().is_empty() => pick(def.key(), new),
            (Some((key, _)), Some(_)) => key.clone(),
            (None, _) => vec![Value::Int(self.data.count())],
        };
        let same = |columns: &[usize]| match (old, &new) {
            (Some(old), Some(new)) => pick(columns, old) == pick(columns, new),
            _ => false,
        };
        let keeps = def.uniques.iter().all(|unique| same(&unique.columns));
        let mode = if old.is_some() && keeps { Mode::Change } else { Mode::Exclusive };
        if let Some((had, _)) = &at {
            self.lock(Lock::Row(table, had.clone()), mode)?;
        }
        self.lock(Lock::Row(table, key.clone()), mode)?;
        let moves = at.as_ref().is_none_or(|(had, _)| *had != key);
        if moves && self.get(table, &key).is_some() {
            let name = &def.uniques.first().expect("a key has an index").name;
            return Err(duplicate(name).into());
        }
        self.check_uniques(table, &def, &key, at.as_ref(), new.as_ref())?;
        if let Some((had, _)) = at.as_ref().filter(|_| moves) {
            self.set(table, had.clone(), None);
        }
        self.set(table, key.clone(), new.clone());
        let (key, old) = at.map_or((key, None), |(key, row)| (key, Some(row)));
        self.touched.push(Touch { table, key, old, new });
        Ok(())
    }

    fn check_uniques(
        &mut self,
        table: usize,
        def: &TableDef,
        key: &Key,
        at: Option<&(Key, Row)>,
        new: Option<&Row>,
    ) -> Result<(), Halt> {
        for (number, unique) in def.uniques.iter().enumerate().filter(|(_, unique)| !unique.primary)
        {
            let rows = at.map(|(_, row)| row).into_iter().chain(new);
            for row in rows {
                let values = pick(&unique.columns, row);
                if !values.contains(&Value::Null) {
                    self.lock(Lock::Unique(table, number, values), Mode::Exclusive)?;
                }
            }
            let Some(new) = new else { continue };
            let values = pick(&unique.columns, new);
            let old_key = at.map(|(key, _)| key);
            let taken = !values.contains(&Value::Null)
                && self.rows(table).any(|(other, row)| {
                    other != key && Some(other) != old_key && pick(&unique.columns, row) == values
                });
            if taken {
                return Err(duplicate(&unique.name).into());
            }
        }
        Ok(())
    }

    /// Checks the foreign keys that are due at the end of this statement, and keeps the others for the
    /// commit.
    pub(super) fn end_statement(&mut self) -> Result<(), Halt> {
        let touched = std::mem::take(&mut self.touched);
        let defer = self.tx.defer;
        self.check_references(&touched, |fk| !(fk.deferrable && defer))?;
        if defer {
            self.tx.deferred.extend(touched);
        }
        Ok(())
    }

    /// Checks what was put off.
    pub(super) fn end_transaction(&mut self) -> Result<(), Halt> {
        let deferred = std::mem::take(&mut self.tx.deferred);
        let outcome = self.check_references(&deferred, |fk| fk.deferrable);
        self.tx.deferred = deferred;
        outcome
    }

    fn check_references(
        &mut self,
        touched: &[Touch],
        due: impl Fn(&ForeignKeyDef) -> bool,
    ) -> Result<(), Halt> {
        for child in 0..self.data.tables.len() {
            let def = Arc::clone(&self.data.tables[child]);
            for fk in def.foreign_keys.iter().filter(|fk| due(fk)) {
                let parent = self.data.find(&fk.parent)?;
                for touch in touched.iter().filter(|touch| touch.table == child) {
                    self.check_child(&def, fk, parent, touch)?;
                }
                self.check_parents(fk, parent, child, touched)?;
            }
        }
        Ok(())
    }

    /// A row with a reference has come, or refers to another row: that one must be there, and stays.
    fn check_child(
        &mut self,
        def: &TableDef,
        fk: &ForeignKeyDef,
        parent: usize,
        touch: &Touch,
    ) -> Result<(), Halt> {
        let Some(new) = &touch.new else { return Ok(()) };
        let key = if def.key().is_empty() { touch.key.clone() } else { pick(def.key(), new) };
        // A later write of the same transaction counts, and is checked for itself.
        let Some(row) = self.get(touch.table, &key) else { return Ok(()) };
        let values = pick(&fk.columns, row);
        let had = touch.old.as_ref().map(|old| pick(&fk.columns, old));
        if values.contains(&Value::Null) || had.as_ref() == Some(&values) {
            return Ok(());
        }
        let Some(found) = self.find(parent, &fk.parent_columns, &values) else {
            let message = format!(
                "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
                def.name.table, fk.name
            );
            return Err(SqlError::new("23503", message).constraint(&fk.name).into());
        };
        self.lock(Lock::Row(parent, found), Mode::KeyShare)
    }

    /// Rows have gone that others may refer to: nobody must, unless others have taken their place.
    fn check_parents(
        &mut self,
        fk: &ForeignKeyDef,
        parent: usize,
        child: usize,
        touched: &[Touch],
    ) -> Result<(), Halt> {
        let gone = touched.iter().filter(|touch| touch.table == parent).filter_map(|touch| {
            let values = pick(&fk.parent_columns, touch.old.as_ref()?);
            let kept =
                touch.new.as_ref().is_some_and(|new| pick(&fk.parent_columns, new) == values);
            (!kept && !values.contains(&Value::Null)).then_some(values)
        });
        let gone: BTreeSet<Vec<Value>> = gone.collect();
        let gone: BTreeSet<Vec<Value>> = gone
            .into_iter()
            .filter(|values| self.find(parent, &fk.parent_columns, values).is_none())
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let refers = |row: &Row| gone.contains(&pick(&fk.columns, row));
        let referring = self.rows(child).find(|(_, row)| refers(row)).map(|(key, _)| key.clone());
        let Some(key) = referring else { return Ok(()) };
        // Somebody may be about to delete it.
        self.lock(Lock::Row(child, key), Mode::KeyShare)?;
        let names = [parent, child].map(|table| self.data.tables[table].name.table.clone());
        let message = format!(
            "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
            names[0], fk.name, names[1]
        );
        Err(SqlError::new("23503", message).constraint(&fk.name).into())
    }
}

fn duplicate(index: &str) -> SqlError {
    let message = format!("duplicate key value violates unique constraint \"{index}\"");
    SqlError::new("23505", message).constraint(index)
}
