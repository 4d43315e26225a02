//! What the clients of the source do: small transactions that its constraints accept.
//!
//! A transaction is a few stories, a story a few statements. Each statement is run on a copy of the
//! source's database first; a story that is refused did not happen.
use std::collections::BTreeSet;

use replicator_core::model::key::RowKey;
use replicator_core::model::mutation::{ApplyOrder, Change, Mutation, TableId};
use replicator_core::model::row::Row;
use replicator_core::plan::{arrange, plan};

use crate::database::Database;
use crate::fault::{Kind, Setup};
use crate::model::{Does, RowChange};
use crate::random::Random;
use crate::schema::{Schema, Sent, Tuple, Value, schema};
use crate::story::{Done, Statement, Writer};

/// A transaction that the source has accepted.
#[derive(Debug)]
pub struct Draft {
    /// What the source sends.
    pub mutations: Vec<Mutation>,
    /// What each of them means.
    pub changes: Vec<RowChange>,
    /// Whether every change was a statement of its own.
    pub divisible: bool,
    /// The source's database afterwards.
    pub after: Database,
    /// The number of the source's last change afterwards.
    pub version: i64,
}

/// Makes a transaction. `version` is the number of the source's last change. Returns `None` if nothing
/// came of it.
#[must_use]
pub fn transaction(
    setup: &Setup,
    source: &Database,
    version: i64,
    random: &mut Random,
) -> Option<Draft> {
    let mut writer = Writer { setup, random, version, database: source.clone() };
    let mut done = Vec::new();
    for _ in 0..writer.random.within(1, 4) {
        let before = writer.database.clone();
        let story = writer.random.pick(&setup.stories);
        match writer.tell(story) {
            Ok(statements) => done.extend(statements),
            Err(_) => writer.database = before,
        }
    }
    writer.database.end_transaction().ok()?;
    let (after, version) = (writer.database, writer.version);
    let divisible = done.iter().all(|Done { statement, .. }| match statement {
        Statement::Insert(_, rows) | Statement::Delete(_, rows) => rows.len() == 1,
        Statement::Replace { .. } => true,
        Statement::Truncate(_) => true,
    });
    let mut draft = Draft { mutations: Vec::new(), changes: Vec::new(), divisible, after, version };
    match setup.kind {
        Kind::Ordered => done.iter().for_each(|done| draft.send_statement(done)),
        Kind::Changefeed => {
            draft.send_ends(source, &done);
            if !has_an_order(source, &draft.mutations) {
                return None;
            }
        }
    }
    (!draft.mutations.is_empty()).then_some(draft)
}

/// Whether the ends of the rows can be reached without going through anything else. A changefeed does not
/// tell how the source got there, so what it changed by way of other values cannot be repeated: a swap
/// of unique values, or the first rows of two tables that refer to each other.
fn has_an_order(before: &Database, ends: &[Mutation]) -> bool {
    let mut ends = ends.to_vec();
    arrange(&schema().catalog, &mut ends);
    let mut target = before.clone();
    let steps = plan(&schema().catalog, &ends, &ApplyOrder::Source, &[]);
    steps.iter().all(|step| target.run(step).is_ok()) && target.end_transaction().is_ok()
}

impl Draft {
    /// What an ordered source sends for a statement.
    fn send_statement(&mut self, done: &Done) {
        match &done.statement {
            Statement::Insert(table, rows) => {
                for row in rows {
                    self.put(*table, row, Change::Insert);
                }
            }
            Statement::Replace { table, key, row, in_full } => {
                let had = done.had.first().expect("the row was there");
                let new_key = Database::key_of(schema().catalog.table(*table), row);
                match (*key == new_key, *in_full) {
                    (true, true) => self.put(*table, row, Change::Upsert),
                    (true, false) => self.set(*table, had, row),
                    (false, true) => {
                        self.delete(*table, had);
                        self.put(*table, row, Change::Upsert);
                    }
                    (false, false) => self.shift(*table, had, row),
                }
            }
            Statement::Delete(table, _) => {
                for row in &done.had {
                    self.delete(*table, row);
                }
            }
            Statement::Truncate(table) => {
                let key = RowKey::from_bytes(b"");
                self.mutations.push(Mutation { table: *table, key, change: Change::Truncate });
                let does = Does::Truncate;
                self.changes.push(RowChange { table: *table, key: Tuple::new(), does });
            }
        }
    }

    /// What a changefeed sends: how each row ended, in the order of keys.
    fn send_ends(&mut self, before: &Database, done: &[Done]) {
        let mut touched = BTreeSet::new();
        for Done { statement, .. } in done {
            match statement {
                Statement::Insert(id, rows) => {
                    let table = schema().catalog.table(*id);
                    touched.extend(rows.iter().map(|row| (*id, Database::key_of(table, row))));
                }
                Statement::Replace { table: id, key, row, .. } => {
                    let table = schema().catalog.table(*id);
                    touched.insert((*id, key.clone()));
                    touched.insert((*id, Database::key_of(table, row)));
                }
                Statement::Delete(id, keys) => {
                    touched.extend(keys.iter().map(|key| (*id, key.clone())));
                }
                Statement::Truncate(_) => unreachable!("a changefeed does not tell of truncates"),
            }
        }
        for (table, key) in touched {
            let now = self.after.rows(table).get(&key).cloned();
            let was = before.rows(table).get(&key).cloned();
            match (now, was) {
                (Some(row), _) => self.put(table, &row, Change::Upsert),
                (None, Some(row)) => self.delete(table, &row),
                (None, None) => (),
            }
        }
    }

    fn put(&mut self, table: TableId, row: &Tuple, change: fn(Row) -> Change) {
        let sent: Vec<Sent> = row.iter().copied().map(Sent::Value).collect();
        self.push(table, row, change(schema().row(table, &sent)), Does::Put(row.clone()));
    }

    fn set(&mut self, table: TableId, had: &Tuple, row: &Tuple) {
        let (image, cells) = only_changed(table, had, row);
        self.push(table, row, Change::Update(image), Does::Set(cells));
    }

    /// The row gets another key and is not sent in full.
    fn shift(&mut self, id: TableId, had: &Tuple, row: &Tuple) {
        let table = schema().catalog.table(id);
        let (to, cells) = only_changed(id, had, row);
        let does = Does::Move(Database::key_of(table, row), cells);
        self.push(id, had, Change::Move { from: only_key(id, had), to }, does);
    }

    fn delete(&mut self, id: TableId, had: &Tuple) {
        self.push(id, had, Change::Delete(only_key(id, had)), Does::Delete);
    }

    fn push(&mut self, id: TableId, row: &Tuple, change: Change, does: Does) {
        let Schema { catalog, .. } = schema();
        let table = catalog.table(id);
        let image = match &change {
            Change::Delete(image)
            | Change::Insert(image)
            | Change::Upsert(image)
            | Change::Update(image)
            | Change::Move { from: image, to: _ } => image,
            Change::Truncate => unreachable!("no change of one row"),
        };
        let key = table.key_of(image).expect("the key is always sent");
        self.mutations.push(Mutation { table: id, key, change });
        self.changes.push(RowChange { table: id, key: Database::key_of(table, row), does });
    }
}

/// The image of an update that leaves out what it did not touch, and what it did.
fn only_changed(table: TableId, had: &Tuple, row: &Tuple) -> (Row, Vec<(u16, Value)>) {
    let key = &schema().catalog.table(table).key;
    let mut cells = Vec::new();
    let mut sent = Vec::new();
    for (column, (old, new)) in (0_u16..).zip(had.iter().zip(row)) {
        if old != new {
            cells.push((column, *new));
        }
        let unchanged = old == new && !key.contains(&column);
        sent.push(if unchanged { Sent::Unchanged } else { Sent::Value(*new) });
    }
    (schema().row(table, &sent), cells)
}

/// The old image of a row, as it is sent with the default replica identity.
fn only_key(id: TableId, had: &Tuple) -> Row {
    let table = schema().catalog.table(id);
    let columns = (0_u16..).zip(had);
    let sent: Vec<Sent> = columns
        .map(|(column, value)| Sent::Value(value.filter(|_| table.key.contains(&column))))
        .collect();
    schema().row(id, &sent)
}
