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
use crate::schema::{LAYOUTS, Schema, Sent, Tuple, Value, schema};
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
    // How the source lays rows out.
    layout: usize,
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
    let (after, altered) = (writer.database, writer.version);
    let layout = if setup.alters { source_layout(version) } else { 0 };
    drafted(setup, source, &done, (after, altered), layout)
}

/// The source's tables are altered after every few changes.
fn source_layout(version: i64) -> usize {
    const CHANGES: i64 = 16;
    usize::try_from(version / CHANGES).expect("versions count up") % LAYOUTS
}

/// What the source sends for statements that were run. `after` is its database afterwards, with the
/// number of its last change.
pub(crate) fn drafted(
    setup: &Setup,
    source: &Database,
    done: &[Done],
    (after, version): (Database, i64),
    layout: usize,
) -> Option<Draft> {
    after.end_transaction().ok()?;
    let alone = |id: &TableId| {
        let table = schema().catalog.table(*id);
        table.foreign_keys.is_empty() && table.uniques.is_empty() && !table.referenced
    };
    let divisible = done.iter().all(|Done { statement, .. }| match statement {
        Statement::Insert(id, rows) | Statement::Delete(id, rows) => rows.len() == 1 || alone(id),
        Statement::Replace { .. } => true,
        Statement::Truncate(_) => true,
    });
    let (mutations, changes) = (Vec::new(), Vec::new());
    let mut draft = Draft { mutations, changes, divisible, after, version, layout };
    match setup.kind {
        Kind::Ordered => done.iter().for_each(|done| draft.send_statement(done)),
        Kind::Changefeed => {
            draft.send_ends(source, done);
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
        self.push(
            table,
            row,
            change(schema().row(table, self.layout, &sent)),
            Does::Put(row.clone()),
        );
    }

    fn set(&mut self, table: TableId, had: &Tuple, row: &Tuple) {
        let (image, cells) = self.only_changed(table, had, row);
        self.push(table, row, Change::Update(image), Does::Set(cells));
    }

    /// The row gets another key and is not sent in full.
    fn shift(&mut self, id: TableId, had: &Tuple, row: &Tuple) {
        let table = schema().catalog.table(id);
        let (to, cells) = self.only_changed(id, had, row);
        let does = Does::Move(Database::key_of(table, row), cells);
        self.push(id, had, Change::Move { from: self.only_key(id, had), to }, does);
    }

    fn delete(&mut self, id: TableId, had: &Tuple) {
        self.push(id, had, Change::Delete(self.only_key(id, had)), Does::Delete);
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

    /// The image of an update that leaves out what it did not touch, and what it did.
    fn only_changed(&self, table: TableId, had: &Tuple, row: &Tuple) -> (Row, Vec<(u16, Value)>) {
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
        (schema().row(table, self.layout, &sent), cells)
    }

    /// The old image of a row, as it is sent with the default replica identity.
    fn only_key(&self, id: TableId, had: &Tuple) -> Row {
        let table = schema().catalog.table(id);
        let columns = (0_u16..).zip(had);
        let sent: Vec<Sent> = columns
            .map(|(column, value)| Sent::Value(value.filter(|_| table.key.contains(&column))))
            .collect();
        schema().row(id, self.layout, &sent)
    }
}
