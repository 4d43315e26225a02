//! Statements at work.
use std::collections::BTreeSet;
use std::sync::Arc;

use replicator_core::dialect::Product;

use super::ast::{Conflict, Delete, Expr, Insert, Item, Rows, Statement, Update, With};
use super::data::{Key, Row, Work};
use super::error::{Halt, SqlError};
use super::eval::{CTID, Columns, Named, Scope};
use super::lock::{Lock, Mode};
use super::select::in_order;
use super::table::{Preset, TableDef, pick};
use super::value::Value;

/// What a statement returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// As CommandComplete says it.
    pub(super) tag: String,
    /// The rows of a query.
    pub(super) rows: Vec<Row>,
}

impl Answer {
    pub(super) fn tag(tag: &str) -> Self {
        Self { tag: tag.to_owned(), rows: Vec::new() }
    }

    pub(super) fn rows(rows: Vec<Row>) -> Self {
        Self { tag: format!("SELECT {}", rows.len()), rows }
    }
}

impl Work<'_> {
    /// Runs a statement on the tables. What only a session can do is not for here.
    pub(super) fn run(&mut self, statement: &Statement, params: &[Value]) -> Result<Answer, Halt> {
        let answer = self.part(statement, params)?;
        self.end_statement()?;
        Ok(answer)
    }

    /// Runs a statement, or a part of one.
    fn part(&mut self, statement: &Statement, params: &[Value]) -> Result<Answer, Halt> {
        let scope = Scope::new(params);
        Ok(match statement {
            Statement::Select(query) => Answer::rows(self.select(query, &scope)?),
            Statement::Insert(insert) => self.insert(insert, &scope)?,
            Statement::Update(update) => self.update(update, &scope)?,
            Statement::Delete(delete) => self.delete(delete, &scope)?,
            Statement::CreateSchema(name) => {
                self.data.schemas.insert(name.clone());
                Answer::tag("CREATE SCHEMA")
            }
            // There is one, and it is the one that is meant.
            Statement::CreateDatabase => Answer::tag("CREATE DATABASE"),
            Statement::CreateTable(table) => {
                let schema = &table.name.schema;
                if !self.data.schemas.contains(schema) {
                    let message = format!("schema \"{schema}\" does not exist");
                    return Err(SqlError::new("3F000", message).into());
                }
                self.data.create(TableDef::clone(table));
                Answer::tag("CREATE TABLE")
            }
            Statement::CreateIndex => Answer::tag("CREATE INDEX"),
            Statement::Lock(table) => {
                let table = self.data.find(table)?;
                self.lock(Lock::Table(table), Mode::Exclusive)?;
                Answer::tag("LOCK TABLE")
            }
            Statement::HasColumn(table, column) => {
                let table = self.data.find(table)?;
                self.data.tables[table].column(column)?;
                Answer::tag("ALTER TABLE")
            }
            Statement::With(with) => {
                let With { name, first, then } = &**with;
                let rows = self.part(first, params)?.rows;
                let names = first.returning().iter().map(|item| item.name.clone()).collect();
                self.with.insert(name.clone(), (names, rows));
                self.part(then, params)?
            }
            Statement::Copy { .. }
            | Statement::Begin
            | Statement::Commit
            | Statement::Rollback
            | Statement::Savepoint(_)
            | Statement::Release(_)
            | Statement::RollbackTo(_)
            | Statement::Defer
            | Statement::Question(_)
            | Statement::Empty => unreachable!("the session's own business"),
        })
    }

    /// Inserts the rows of a COPY, in text.
    pub(super) fn copy(
        &mut self,
        table: usize,
        columns: &[usize],
        data: &[u8],
    ) -> Result<u64, Halt> {
        let text = std::str::from_utf8(data)
            .map_err(|_| SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\""))?;
        let def = Arc::clone(&self.data.tables[table]);
        let mut count = 0;
        for line in text.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            if cells.len() != columns.len() {
                return Err(SqlError::new("22P04", "missing or extra data for a column").into());
            }
            let mut row = self.defaults(&def, columns);
            for (column, cell) in columns.iter().zip(cells) {
                row[*column] = match cell {
                    "\\N" => Value::Null,
                    text => def.columns[*column].of.parse(&unescaped(text))?,
                };
            }
            self.write(table, None, Some(row))?;
            count += 1;
        }
        self.end_statement()?;
        Ok(count)
    }

    /// A row that has only what the table gives it.
    fn defaults(&mut self, def: &TableDef, written: &[usize]) -> Row {
        let columns = def.columns.iter().enumerate();
        let value = |(place, column): (usize, &super::table::ColumnDef)| match column.default {
            Some(Preset::Now) if !written.contains(&place) => Value::Time(self.data.counter),
            Some(Preset::Uuid) if !written.contains(&place) => {
                let number = self.data.count();
                Value::Text(format!("00000000-0000-4000-8000-{number:012x}"))
            }
            Some(Preset::Bool(value)) if !written.contains(&place) => Value::Bool(value),
            Some(Preset::Now | Preset::Uuid | Preset::Bool(_)) | None => Value::Null,
        };
        columns.map(value).collect()
    }

    fn insert(&mut self, insert: &Insert, scope: &Scope<'_>) -> Result<Answer, Halt> {
        let table = self.data.find(&insert.table)?;
        let def = Arc::clone(&self.data.tables[table]);
        let columns = insert.columns.iter().map(|name| def.column(name));
        let columns: Vec<usize> = columns.collect::<Result<_, _>>()?;
        let rows = match &insert.rows {
            Rows::Select(query) => self.select(query, scope)?,
            Rows::Values(rows) => {
                let row = |row: &Vec<Expr>| row.iter().map(|expr| self.eval(expr, scope)).collect();
                rows.iter().map(row).collect::<Result<_, Halt>>()?
            }
        };
        let (mut count, mut returned, mut seen) = (0, Vec::new(), BTreeSet::new());
        for values in rows {
            if values.len() != columns.len() {
                let message = "INSERT has another number of expressions than target columns";
                return Err(SqlError::new("42601", message).into());
            }
            let mut row = self.defaults(&def, &columns);
            for (column, value) in columns.iter().zip(values) {
                row[*column] = def.columns[*column].of.cast(value)?;
            }
            let Some(written) = self.insert_row(table, &def, insert, row, &mut seen, scope)? else {
                continue;
            };
            count += 1;
            if !insert.returning.is_empty() {
                let of = (&insert.alias, &*def);
                returned.push(self.returned(&insert.returning, of, &written, scope)?);
            }
        }
        Ok(Answer { tag: format!("INSERT 0 {count}"), rows: returned })
    }

    /// What RETURNING makes of a row of a table, which has an alias.
    fn returned(
        &mut self,
        items: &[Item],
        (alias, def): (&String, &TableDef),
        row: &Row,
        scope: &Scope<'_>,
    ) -> Result<Row, Halt> {
        let columns = Columns::Table(def);
        let scope = scope.with(Named { alias, columns, row, place: None });
        items.iter().map(|item| self.eval(&item.expr, &scope)).collect()
    }

    /// Inserts one row, or changes the one in its place. Returns what is there now if it did either.
    fn insert_row(
        &mut self,
        table: usize,
        def: &TableDef,
        insert: &Insert,
        row: Row,
        seen: &mut BTreeSet<Key>,
        scope: &Scope<'_>,
    ) -> Result<Option<Row>, Halt> {
        // Before the row in its place is looked for: `ExecInsert` in the server's nodeModifyTable.c.
        self.check_values(def, &row)?;
        let had = match &insert.conflict {
            Some(conflict) => self.in_place(table, def, conflict, &row)?,
            None => None,
        };
        let Some((key, had)) = had else {
            seen.insert(pick(def.key(), &row));
            self.write(table, None, Some(row.clone()))?;
            return Ok(Some(row));
        };
        let set = insert.conflict.as_ref().map_or(&[][..], |conflict| &conflict.set);
        if set.is_empty() {
            // DO NOTHING waits for those who are about to change or delete the row.
            let lock = Lock::Row(table, key);
            self.data.locks.probe(self.tx.session, &lock, Mode::Share)?;
            return Ok(None);
        }
        if !seen.insert(key.clone()) {
            let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
            return Err(SqlError::new("21000", message).into());
        }
        let columns = Columns::Table(def);
        let excluded = scope.with(Named { alias: "excluded", columns, row: &row, place: None });
        let scope = excluded.with(Named { alias: &insert.alias, columns, row: &had, place: None });
        if let Some(filter) = insert.conflict.as_ref().and_then(|conflict| conflict.filter.as_ref())
        {
            // Also a row that stays as it is.
            self.lock(Lock::Row(table, key.clone()), Mode::Change)?;
            if !self.holds(Some(filter), &scope)? {
                return Ok(None);
            }
        }
        let new = self.assigned(def, set, &had, &scope)?;
        self.write(table, Some((key, had)), Some(new.clone()))?;
        Ok(Some(new))
    }

    /// The row that an inserted one meets in the index that ON CONFLICT names.
    fn in_place(
        &mut self,
        table: usize,
        def: &TableDef,
        conflict: &Conflict,
        row: &Row,
    ) -> Result<Option<(Key, Row)>, Halt> {
        if conflict.columns.is_empty() {
            let found = def
                .uniques
                .iter()
                .find_map(|unique| self.find(table, &unique.columns, &pick(&unique.columns, row)));
            return Ok(found.and_then(|key| self.get(table, &key).cloned().map(|row| (key, row))));
        }
        let columns = conflict.columns.iter().map(|name| def.column(name));
        let mut named: Vec<usize> = columns.collect::<Result<_, _>>()?;
        named.sort_unstable();
        let index = def.uniques.iter().find(|unique| {
            let mut columns = unique.columns.clone();
            columns.sort_unstable();
            columns == named
        });
        let index = index.ok_or_else(|| {
            let message = "there is no unique or exclusion constraint matching the ON CONFLICT \
                           specification";
            SqlError::new("42P10", message)
        })?;
        let found = self.find(table, &index.columns, &pick(&index.columns, row));
        Ok(found.and_then(|key| self.get(table, &key).cloned().map(|row| (key, row))))
    }

    /// A row with some values of its own.
    fn assigned(
        &mut self,
        def: &TableDef,
        set: &[(String, Expr)],
        had: &Row,
        scope: &Scope<'_>,
    ) -> Result<Row, Halt> {
        let mut new = had.clone();
        for (name, expr) in set {
            let column = def.column(name)?;
            new[column] = def.columns[column].of.cast(self.eval(expr, scope)?)?;
        }
        Ok(new)
    }

    fn update(&mut self, update: &Update, scope: &Scope<'_>) -> Result<Answer, Halt> {
        let Update { table, alias, set, from, filter, returning } = update;
        let table = self.data.find(table)?;
        let def = Arc::clone(&self.data.tables[table]);
        let mut changes: Vec<(Key, Row, Row)> = Vec::new();
        let mut seen = BTreeSet::new();
        self.join(from, None, scope, &mut |work, scope| {
            for (key, row) in work.candidates(table, alias, filter.as_ref(), scope)? {
                let columns = Columns::Table(&def);
                let scope = scope.with(Named { alias, columns, row: &row, place: None });
                // Of several rows that fit one row of the table, one is taken.
                if work.holds(filter.as_ref(), &scope)? && seen.insert(key.clone()) {
                    let new = work.assigned(&def, set, &row, &scope)?;
                    changes.push((key, row, new));
                }
            }
            Ok(())
        })?;
        let (tag, mut rows) = (format!("UPDATE {}", changes.len()), Vec::new());
        // The order is the server's choice; here it is the one that helps least.
        for (key, old, new) in changes.into_iter().rev() {
            if !returning.is_empty() {
                rows.push(self.returned(returning, (alias, &def), &new, scope)?);
            }
            self.write(table, Some((key, old)), Some(new))?;
        }
        Ok(Answer { tag, rows })
    }

    fn delete(&mut self, delete: &Delete, scope: &Scope<'_>) -> Result<Answer, Halt> {
        let table = self.data.find(&delete.table)?;
        let def = Arc::clone(&self.data.tables[table]);
        let alias = &delete.table.table;
        let filter = delete.filter.as_ref();
        let mut doomed: Vec<(Key, Row)> = Vec::new();
        if let Some(keys) = self.listed_keys(&def, filter, scope)? {
            for key in keys {
                doomed.extend(self.get(table, &key).cloned().map(|row| (key, row)));
            }
        } else {
            for (key, row) in self.candidates(table, alias, filter, scope)? {
                let columns = Columns::Table(&def);
                let scope = scope.with(Named { alias, columns, row: &row, place: None });
                if self.holds(filter, &scope)? {
                    doomed.push((key, row));
                }
            }
        }
        self.cut(delete, &def, &mut doomed, scope)?;
        let (tag, mut rows) = (format!("DELETE {}", doomed.len()), Vec::new());
        for (key, row) in doomed {
            if !delete.returning.is_empty() {
                rows.push(self.returned(&delete.returning, (alias, &def), &row, scope)?);
            }
            self.write(table, Some((key, row)), None)?;
        }
        Ok(Answer { tag, rows })
    }

    /// Keeps the first rows only, which CockroachDB alone can.
    fn cut(
        &mut self,
        delete: &Delete,
        def: &TableDef,
        doomed: &mut Vec<(Key, Row)>,
        scope: &Scope<'_>,
    ) -> Result<(), Halt> {
        let Some(limit) = &delete.limit else { return Ok(()) };
        if self.data.product == Product::Postgres {
            return Err(SqlError::new("42601", "syntax error at or near \"ORDER\"").into());
        }
        let mut ordered = Vec::new();
        for (key, row) in doomed.drain(..) {
            let (alias, columns) = (&delete.table.table, Columns::Table(def));
            let scope = scope.with(Named { alias, columns, row: &row, place: None });
            ordered.push((self.order(&delete.order, &scope)?, (key, row)));
        }
        ordered.sort_by(|(one, _), (other, _)| in_order(one, other));
        let limit = self.limit(limit, scope)?;
        doomed.extend(ordered.into_iter().take(limit).map(|(_, at)| at));
        Ok(())
    }

    /// The keys in `key = ANY(list)` or `(key) IN (SELECT …)`, so that no row need be compared to each.
    fn listed_keys(
        &mut self,
        def: &TableDef,
        filter: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Result<Option<BTreeSet<Key>>, Halt> {
        let is_key = |exprs: &[Expr]| {
            let names = exprs.iter().map(|expr| {
                let Expr::Column { name, .. } = expr else { return None };
                def.column(name).ok()
            });
            !exprs.is_empty() && names.eq(def.key().iter().map(|column| Some(*column)))
        };
        if let Some(Expr::Any(one, list)) = filter
            && matches!(&**one, Expr::Column { name, .. } if name == CTID)
            && let Value::List(list) = self.eval(list, scope)?
        {
            let keys = list
                .into_iter()
                .map(|key| if let Value::List(key) = key { key } else { vec![key] });
            return Ok(Some(keys.collect()));
        }
        if let Some(Expr::Any(one, list)) = filter
            && is_key(std::slice::from_ref(one))
            && let Value::List(list) = self.eval(list, scope)?
        {
            return Ok(Some(list.into_iter().map(|value| vec![value]).collect()));
        }
        if let Some(Expr::InSelect(one, query)) = filter
            && is_key(&one.clone().list())
        {
            return Ok(Some(self.select(query, scope)?.into_iter().collect()));
        }
        Ok(None)
    }
}

/// PostgreSQL documentation, COPY, "Text Format".
fn unescaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        value.push(match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    value
}
