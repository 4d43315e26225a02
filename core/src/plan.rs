//! From a batch to statements, in an order that the target's constraints accept.
//!
//! Three ways:
//!
//! - **Netted.** Each row's changes are folded to one, in source order. Rows then go in groups: deletes
//!   from tables that nobody refers to, upserts parents first, deletes children first. Foreign keys are
//!   checked at the end of a statement, so rows of one table may refer to each other in any order.
//!   Refused only where unique values are handed from row to row, or tables form a cycle.
//! - **Settled.** Netted, but row by row, and some of them last. For what may
//!   be in the target already, or parts of it.
//!
//!   Rows of a table whose keys cannot be compared cannot be folded. All changes of such a table go together, each
//!   by itself, in source order.
//!
//! - **Source order.** Every change, in the order the source made them. It satisfied the same
//!   constraints there, so it does here. Neighbours of one kind share a statement. A changefeed does not
//!   tell the order inside a transaction; there [`arrange`] decides it.
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Range;

mod arrange;

pub use self::arrange::arrange;
use crate::model::catalog::{Catalog, Table};
use crate::model::key::RowKey;
use crate::model::mutation::{ApplyOrder, Change, Mutation, TableId};
use crate::model::row::{Cell, Row};

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Insert rows that are new at the source.
    Insert,
    /// Insert rows or replace them.
    Upsert,
    /// Set some columns of rows that exist.
    Update,
    /// Give a row that exists another key, and set some columns.
    Move,
    /// Delete rows by key.
    Delete,
    /// Delete all rows.
    Truncate,
}

/// One statement: rows of one table, one kind, one set of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The table.
    pub table: TableId,
    /// What to do.
    pub kind: Kind,
    /// The target columns that each row has a value for; for a delete, the key.
    pub columns: Vec<u16>,
    /// The rows. Each holds a value for each of `columns`.
    pub rows: Vec<Cow<'a, Row>>,
    /// For a move the old image of its only row, which holds the old key.
    pub from: Option<&'a Row>,
    /// The mutations it was made from, in source order only; netting loses track.
    pub at: Option<Range<usize>>,
}

/// Most rows of one statement. Enough to make the cost of a statement vanish.
const STEP_ROWS_MAX: usize = 10_000;
/// Most bytes of one statement. CockroachDB refuses messages over 16 MiB.
const STEP_BYTES_MAX: usize = 4 << 20;

/// Plans a batch. Mutations whose index is in `dead` are left out.
#[must_use]
pub fn plan<'a>(
    catalog: &Catalog,
    mutations: &'a [Mutation],
    order: &ApplyOrder,
    dead: &[usize],
) -> Vec<Step<'a>> {
    match order {
        ApplyOrder::Netted => netted(catalog, mutations, None, dead),
        ApplyOrder::Settled(last) => netted(catalog, mutations, Some(last), dead),
        ApplyOrder::Source => in_source_order(catalog, mutations, &(0..0), dead),
        ApplyOrder::RowWise(alone) => in_source_order(catalog, mutations, alone, dead),
    }
}

/// One row with its single change.
struct Net<'a> {
    // The index of the last change.
    last: usize,
    table: TableId,
    key: &'a RowKey,
    change: Cow<'a, Change>,
}

/// `settled` are rows that go last, if all are to go alone.
fn netted<'a>(
    catalog: &Catalog,
    mutations: &'a [Mutation],
    settled: Option<&[usize]>,
    dead: &[usize],
) -> Vec<Step<'a>> {
    let mut alive: Vec<(usize, &Mutation)> =
        mutations.iter().enumerate().filter(|(index, _)| !dead.contains(index)).collect();
    let nets = |table: TableId| catalog.table(table).nets();
    // The index makes the sort stable, so changes of one row stay in source order (I3).
    alive.sort_unstable_by(|(i, a), (j, b)| {
        let by_key = || if nets(a.table) { a.key.cmp(&b.key) } else { Ordering::Equal };
        a.table.cmp(&b.table).then_with(by_key).then(i.cmp(j))
    });
    let mut rows: Vec<Net<'_>> = Vec::with_capacity(alive.len());
    for (last, mutation) in alive {
        match rows.last_mut() {
            Some(net)
                if net.table == mutation.table
                    && *net.key == mutation.key
                    && nets(mutation.table) =>
            {
                net.last = last;
                let older = net.change.clone().into_owned();
                net.change = Cow::Owned(older.then(mutation.change.clone()));
            }
            Some(_) | None => rows.push(Net {
                last,
                table: mutation.table,
                key: &mutation.key,
                change: Cow::Borrowed(&mutation.change),
            }),
        }
    }
    let place = |net: &Net<'_>| settled?.iter().position(|last| *last == net.last);
    // One change of such a table takes the others with it.
    let mut together: BTreeMap<TableId, Option<usize>> = BTreeMap::new();
    for net in rows.iter().filter(|net| !nets(net.table)) {
        let last = together.entry(net.table).or_default();
        *last = (*last).max(place(net));
    }
    let ranked = rows.into_iter().map(|net| {
        let place = together.get(&net.table).copied().unwrap_or_else(|| place(&net));
        ((place, group(catalog, net.table, &net.change)), net)
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut steps = Steps::default();
    for (_, net) in ranked {
        let (kind, row) = match net.change {
            Cow::Borrowed(change) => parts(change),
            Cow::Owned(change) => owned_parts(change),
        };
        let Some(row) = row else { continue };
        let table = catalog.table(net.table);
        // Rows that refer to each other in a circle need one statement.
        let circles = table.foreign_keys.iter().any(|fk| fk.parent == net.table);
        let alone = !table.nets() || settled.is_some() && (!circles || !table.uniques.is_empty());
        if alone {
            steps.cut();
        }
        steps.push(table, net.table, kind, row, alone.then_some(net.last));
        if alone {
            steps.cut();
        }
    }
    steps.done
}

/// The order of groups; equal ones stay in key order.
fn group(catalog: &Catalog, table: TableId, change: &Change) -> impl Ord + use<> {
    let deletes = matches!(change, Change::Delete(_));
    let referenced = catalog.table(table).referenced;
    let number = i64::from(table.0);
    if !catalog.table(table).nets() {
        return (1, number, Kind::Upsert);
    }
    match (deletes, referenced) {
        (true, false) => (0, number, Kind::Delete),
        (false, _) => (1, number, kind_of(change)),
        (true, true) => (2, number.saturating_neg(), Kind::Delete),
    }
}

fn in_source_order<'a>(
    catalog: &Catalog,
    mutations: &'a [Mutation],
    alone: &Range<usize>,
    dead: &[usize],
) -> Vec<Step<'a>> {
    let mut steps = Steps::default();
    let mut in_step: BTreeSet<&RowKey> = BTreeSet::new();
    for (index, mutation) in mutations.iter().enumerate() {
        if dead.contains(&index) {
            continue;
        }
        let table = catalog.table(mutation.table);
        let (kind, row) = parts(&mutation.change);
        // One statement cannot change a row twice, and the rows of an update come in no order.
        let repeats = table.nets() && !in_step.insert(&mutation.key);
        let unordered = kind == Kind::Move || kind == Kind::Update && !table.uniques.is_empty();
        let by_itself = alone.contains(&index) || alone.end == index || unordered;
        if repeats || by_itself || !table.nets() || row.is_none() {
            steps.cut();
        }
        // A repeated insert of one key is an update to the target.
        let kind = if kind == Kind::Insert && table.nets() { Kind::Upsert } else { kind };
        let opened = match row {
            Some(row) => steps.push(table, mutation.table, kind, row, Some(index)),
            None => steps.push_truncate(mutation.table, index),
        };
        if opened {
            in_step.clear();
            in_step.insert(&mutation.key);
        }
        if let Change::Move { from, to: _ } = &mutation.change {
            steps.moved_from(from);
        }
        if unordered {
            steps.cut();
        }
    }
    steps.done
}

/// Collects rows into steps.
#[derive(Default)]
struct Steps<'a> {
    done: Vec<Step<'a>>,
    bytes: usize,
    cut: bool,
}

impl<'a> Steps<'a> {
    /// The next row opens a step of its own.
    fn cut(&mut self) {
        self.cut = true;
    }

    /// Adds a row; returns whether it opened a step.
    fn push(
        &mut self,
        table: &Table,
        id: TableId,
        kind: Kind,
        row: Cow<'a, Row>,
        index: Option<usize>,
    ) -> bool {
        let next = |index: usize| index..index.saturating_add(1);
        let bytes = row.len_bytes();
        let fits = !self.cut
            && self.bytes.saturating_add(bytes) <= STEP_BYTES_MAX
            && self.done.last().is_some_and(|step| {
                step.table == id
                    && step.kind == kind
                    && step.rows.len() < STEP_ROWS_MAX
                    && has_columns(&row, kind, &step.columns)
            });
        self.cut = false;
        if fits && let Some(step) = self.done.last_mut() {
            self.bytes = self.bytes.saturating_add(bytes);
            if let (Some(at), Some(index)) = (&mut step.at, index) {
                at.end = index.saturating_add(1);
            }
            step.rows.push(row);
            return false;
        }
        let columns = if kind == Kind::Delete { table.key.clone() } else { columns_of(&row) };
        let at = index.map(next);
        self.done.push(Step { table: id, kind, columns, rows: alloc::vec![row], from: None, at });
        self.bytes = bytes;
        true
    }

    /// Adds what a move needs to the step that was opened for it.
    fn moved_from(&mut self, row: &'a Row) {
        if let Some(step) = self.done.last_mut() {
            step.from = Some(row);
        }
    }

    fn push_truncate(&mut self, table: TableId, index: usize) -> bool {
        let at = Some(index..index.saturating_add(1));
        let (columns, rows) = (Vec::new(), Vec::new());
        self.done.push(Step { table, kind: Kind::Truncate, columns, rows, from: None, at });
        self.cut = true;
        true
    }
}

/// Whether the row has values for exactly these columns. A delete is bound by its key alone.
fn has_columns(row: &Row, kind: Kind, columns: &[u16]) -> bool {
    kind == Kind::Delete || present(row).cmp(columns.iter().copied()) == Ordering::Equal
}

fn columns_of(row: &Row) -> Vec<u16> {
    present(row).collect()
}

fn present(row: &Row) -> impl Iterator<Item = u16> {
    row.columns().filter(|(_, cell)| *cell != Cell::Unchanged).map(|(column, _)| column)
}

const fn kind_of(change: &Change) -> Kind {
    match change {
        Change::Delete(_) => Kind::Delete,
        Change::Insert(_) => Kind::Insert,
        Change::Upsert(_) => Kind::Upsert,
        Change::Update(_) => Kind::Update,
        Change::Move { .. } => Kind::Move,
        Change::Truncate => Kind::Truncate,
    }
}

fn parts(change: &Change) -> (Kind, Option<Cow<'_, Row>>) {
    let row = match change {
        Change::Delete(row) | Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            Some(Cow::Borrowed(row))
        }
        Change::Move { from: _, to } => Some(Cow::Borrowed(to)),
        Change::Truncate => None,
    };
    (kind_of(change), row)
}

fn owned_parts<'a>(change: Change) -> (Kind, Option<Cow<'a, Row>>) {
    let kind = kind_of(&change);
    let row = match change {
        Change::Delete(row) | Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            Some(Cow::Owned(row))
        }
        Change::Move { from: _, to } => Some(Cow::Owned(to)),
        Change::Truncate => None,
    };
    (kind, row)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::plan;
    use crate::fixture::{catalog, mutations, show};
    use crate::model::mutation::ApplyOrder;

    fn planned(texts: &[&str], order: &ApplyOrder) -> Vec<String> {
        let catalog = catalog();
        let mutations = mutations(&catalog, texts);
        let steps = plan(&catalog, &mutations, order, &[]);
        steps.iter().map(|step| show(&catalog, step)).collect()
    }

    fn netted(texts: &[&str]) -> Vec<String> {
        planned(texts, &ApplyOrder::Netted)
    }

    #[test]
    fn w02_insert_then_delete_of_one_key_leaves_no_row() {
        assert_eq!(netted(&["+parent 1 a", "-parent 1"]), ["Delete parent [1]"]);
        assert_eq!(netted(&["=parent 1 a", "=parent 1 b", "-parent 1"]), ["Delete parent [1]"]);
    }

    #[test]
    fn w02_delete_then_insert_of_one_key_leaves_the_new_row() {
        assert_eq!(netted(&["-parent 1", "+parent 1 b"]), ["Upsert parent [1,b]"]);
    }

    #[test]
    fn w09_the_last_of_many_changes_of_one_row_wins() {
        let texts: Vec<String> = (0..500).map(|n| alloc::format!("=parent 1 v{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(netted(&texts), ["Upsert parent [1,v499]"]);
    }

    #[test]
    fn w10_a_moved_child_is_written_between_its_new_and_its_old_parent() {
        let steps = netted(&["+parent 2 new", "=child 5 2 moved", "-parent 1"]);
        assert_eq!(
            steps,
            ["Insert parent [2,new]", "Upsert child [5,2,moved]", "Delete parent [1]"]
        );
    }

    #[test]
    fn children_are_deleted_before_parents() {
        let steps = netted(&["-child 5", "-parent 1"]);
        assert_eq!(steps, ["Delete child [5]", "Delete parent [1]"]);
    }

    #[test]
    fn a_freed_unique_value_is_deleted_before_it_is_taken() {
        let steps = netted(&["-mail 1", "+mail 2 a@b"]);
        assert_eq!(steps, ["Delete mail [1]", "Insert mail [2,a@b]"]);
    }

    #[test]
    fn an_update_without_unchanged_columns_stays_an_update_of_what_it_has() {
        let steps = netted(&["~child 1 10 ?", "~child 1 11 ?"]);
        assert_eq!(steps, ["Update child [1,11]"]);
        let steps = netted(&["+child 1 10 wide", "~child 1 11 ?"]);
        assert_eq!(steps, ["Insert child [1,11,wide]"]);
    }

    #[test]
    fn rows_with_different_columns_do_not_share_a_statement() {
        let steps = netted(&["~child 1 10 ?", "~child 2 ? x"]);
        assert_eq!(steps, ["Update child [1,10]", "Update child [2,x]"]);
    }

    #[test]
    fn source_order_keeps_every_change() {
        let texts = ["+mail 1 a", "+mail 2 b", "=mail 1 tmp", "=mail 2 a", "=mail 1 b", "-mail 3"];
        let steps = planned(&texts, &ApplyOrder::Source);
        let expected = [
            "Upsert mail [1,a] [2,b]",
            "Upsert mail [1,tmp] [2,a]",
            "Upsert mail [1,b]",
            "Delete mail [3]",
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn changes_of_a_table_whose_keys_cannot_be_compared_stay_together_in_source_order() {
        let texts =
            ["+odd b", "+child 1 10 x", "+odd A", "-odd a", "+parent 10 y", "-odd b", "+odd a"];
        let odd = [
            "Insert odd [b]",
            "Insert odd [A]",
            "Delete odd [a]",
            "Delete odd [b]",
            "Insert odd [a]",
        ];
        let others = ["Insert parent [10,y]", "Insert child [1,10,x]"];
        assert_eq!(netted(&texts), [&odd[..], &others].concat());
        let settled = |last: &[usize]| planned(&texts, &ApplyOrder::Settled(last.to_vec()));
        assert_eq!(settled(&[0]), [&others[..], &odd].concat());
        // The last of them tells where all of them go.
        assert_eq!(settled(&[0, 4]), [&others[1..], &odd, &others[..1]].concat());
        assert_eq!(settled(&[4, 2]), [&others[1..], &others[..1], &odd].concat());
    }

    /// Only what goes alone can be named as refused, and put last: also a row that refers to one that goes last.
    #[test]
    fn where_rows_are_to_settle_each_of_them_goes_alone() {
        let texts = ["+parent 1 a", "+parent 2 b", "+child 5 1 x", "+child 6 2 y"];
        let [one, two] = ["Insert parent [1,a]", "Insert parent [2,b]"];
        let [of_one, of_two] = ["Insert child [5,1,x]", "Insert child [6,2,y]"];
        let settled = |last: &[usize]| planned(&texts, &ApplyOrder::Settled(last.to_vec()));
        assert_eq!(settled(&[]), [one, two, of_one, of_two]);
        assert_eq!(settled(&[0, 2]), [two, of_two, one, of_one]);
    }

    #[test]
    fn row_wise_puts_each_suspect_in_a_statement_of_its_own() {
        let texts = ["+parent 1 a", "+parent 2 b", "+parent 3 c", "+parent 4 d"];
        let steps = planned(&texts, &ApplyOrder::RowWise(1..3));
        let expected = [
            "Upsert parent [1,a]",
            "Upsert parent [2,b]",
            "Upsert parent [3,c]",
            "Upsert parent [4,d]",
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_truncate_keeps_its_place() {
        let steps = planned(&["+parent 1 a", "!parent", "+parent 1 b"], &ApplyOrder::Source);
        assert_eq!(steps, ["Upsert parent [1,a]", "Truncate parent", "Upsert parent [1,b]"]);
    }

    #[test]
    fn dead_letters_are_left_out() {
        let catalog = catalog();
        let mutations = mutations(&catalog, &["+parent 1 a", "+parent 2 b"]);
        let steps = plan(&catalog, &mutations, &ApplyOrder::Source, &[0]);
        let shown: Vec<String> = steps.iter().map(|step| show(&catalog, step)).collect();
        assert_eq!(shown, ["Upsert parent [2,b]"]);
    }

    #[test]
    fn keys_whose_equality_is_not_in_their_text_are_never_merged() {
        let steps = planned(&["+odd A", "+odd a"], &ApplyOrder::Source);
        assert_eq!(steps, ["Insert odd [A]", "Insert odd [a]"]);
    }
}
