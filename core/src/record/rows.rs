//! Rows and events as bytes, and back.
//!
//! A layout is spelled out where it is met first, and is a number from then on. A key is not written where
//! it is the key of its row, which it nearly always is. A value that ends in many equal bytes, as long
//! images do, is cut short.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::nouns::{
    failure, hlc, op, position, put_failure, put_hlc, put_position, put_wall, wall,
};
use super::wire::{RecordError, Rest, put_bytes, put_list, put_number, put_size};
use crate::event::Event;
use crate::model::catalog::Catalog;
use crate::model::key::RowKey;
use crate::model::mutation::{Change, Mutation, SourceTx, TableId, TimedMutation};
use crate::model::position::{PartitionId, RequestId};
use crate::model::row::{Cell, Layout, Row, RowBuilder};

type Read<T> = Result<T, RecordError>;

/// Shorter runs of equal bytes are written as they are.
const RUN_MIN: usize = 16;

/// Layouts that were met, and their numbers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    by_table: BTreeMap<TableId, Vec<(Arc<Layout>, u64)>>,
    count: u64,
}

impl Numbers {
    /// The number of a layout, and whether it is new.
    fn number(&mut self, layout: &Arc<Layout>) -> (u64, bool) {
        let of_table = self.by_table.entry(layout.table).or_default();
        // Almost always the last one, and the very same.
        let known = |had: &&(Arc<Layout>, u64)| Arc::ptr_eq(&had.0, layout) || had.0 == *layout;
        if let Some((_, number)) = of_table.iter().rev().find(known) {
            return (*number, false);
        }
        let number = self.count;
        self.count = number.saturating_add(1);
        of_table.push((Arc::clone(layout), number));
        (number, true)
    }
}

/// Writes rows.
#[derive(Debug)]
pub(super) struct RowWriter<'a> {
    catalog: &'a Catalog,
    /// Without it each layout is spelled out, so that the bytes depend on nothing but the row.
    numbers: Option<&'a mut Numbers>,
    /// What runs of equal bytes take that are not written out, in bytes.
    pub(super) filled_bytes: usize,
}

impl<'a> RowWriter<'a> {
    /// Layouts get numbers.
    pub(super) const fn new(catalog: &'a Catalog, numbers: &'a mut Numbers) -> Self {
        Self { catalog, numbers: Some(numbers), filled_bytes: 0 }
    }

    /// Layouts are spelled out each time.
    pub(super) const fn spelling(catalog: &'a Catalog) -> Self {
        Self { catalog, numbers: None, filled_bytes: 0 }
    }

    pub(super) fn put_event(&mut self, out: &mut Vec<u8>, event: &Event) {
        match event {
            Event::TransactionReceived(SourceTx { position, committed, mutations }) => {
                out.push(0);
                put_position(out, *position);
                put_wall(out, *committed);
                self.put_mutations(out, mutations);
            }
            Event::PieceReceived { before, mutations } => {
                out.push(1);
                put_position(out, *before);
                self.put_mutations(out, mutations);
            }
            Event::IdleThrough(position) => {
                out.push(2);
                put_position(out, *position);
            }
            Event::RowsReceived { request, rows } => {
                out.push(3);
                put_number(out, request.0);
                self.put_timed(out, rows);
            }
            Event::ResolvedReceived { request, partition, resolved } => {
                out.push(4);
                put_number(out, request.0);
                put_number(out, u64::from(partition.0));
                put_hlc(out, *resolved);
            }
            Event::Done(op) => {
                out.push(5);
                put_number(out, op.0);
            }
            Event::StagedRead { op, rows, exhausted } => {
                out.push(6);
                put_number(out, op.0);
                self.put_timed(out, rows);
                out.push(u8::from(*exhausted));
            }
            Event::Failed { op, failure } => {
                out.push(7);
                put_number(out, op.0);
                put_failure(out, failure);
            }
            Event::DeadlineReached => out.push(8),
            Event::StopRequested => out.push(9),
        }
    }

    pub(super) fn put_timed(&mut self, out: &mut Vec<u8>, rows: &[TimedMutation]) {
        put_list(out, rows, |out, TimedMutation { time, mutation }| {
            put_hlc(out, *time);
            self.put_mutation(out, mutation);
        });
    }

    pub(super) fn put_mutations(&mut self, out: &mut Vec<u8>, mutations: &[Mutation]) {
        put_list(out, mutations, |out, mutation| self.put_mutation(out, mutation));
    }

    fn put_mutation(&mut self, out: &mut Vec<u8>, mutation: &Mutation) {
        let Mutation { table, key, change } = mutation;
        put_number(out, u64::from(table.0));
        let own = key_of(self.catalog, *table, change);
        if own.as_ref() == Some(key) {
            out.push(0);
        } else {
            out.push(1);
            put_bytes(out, key.as_bytes());
        }
        let (kind, rows): (u8, [Option<&Row>; 2]) = match change {
            Change::Delete(row) => (0, [Some(row), None]),
            Change::Insert(row) => (1, [Some(row), None]),
            Change::Upsert(row) => (2, [Some(row), None]),
            Change::Update(row) => (3, [Some(row), None]),
            Change::Move { from, to } => (4, [Some(from), Some(to)]),
            Change::Truncate => (5, [None, None]),
        };
        out.push(kind);
        rows.into_iter().flatten().for_each(|row| self.put_row(out, row));
    }

    fn put_row(&mut self, out: &mut Vec<u8>, row: &Row) {
        let layout = row.layout();
        let (number, is_new) = match &mut self.numbers {
            Some(numbers) => numbers.number(layout),
            None => (0, true),
        };
        put_number(out, number);
        if is_new {
            put_number(out, u64::from(layout.table.0));
            put_list(out, &layout.columns, |out, column| {
                put_number(out, column.map_or(0, |column| u64::from(column).saturating_add(1)));
            });
        }
        row.cells().for_each(|cell| {
            let filled = put_cell(out, cell);
            self.filled_bytes = self.filled_bytes.saturating_add(filled);
        });
    }
}

/// The key of the row whose change it is, if it is known.
pub(super) fn key_of(catalog: &Catalog, table: TableId, change: &Change) -> Option<RowKey> {
    let row = match change {
        Change::Delete(row) | Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            row
        }
        Change::Move { from, to: _ } => from,
        Change::Truncate => return None,
    };
    catalog.table(table).key_of(row).ok()
}

/// Returns how many bytes are left out.
fn put_cell(out: &mut Vec<u8>, cell: Cell<'_>) -> usize {
    let (kind, value) = match cell {
        Cell::Null => (0, None),
        Cell::Unchanged => (1, None),
        Cell::Text(value) => (2, Some(value)),
        Cell::Binary(value) => (3, Some(value)),
    };
    let value: &[u8] = match value {
        Some(value) => value,
        None => {
            out.push(kind);
            return 0;
        }
    };
    let last = value.last().copied().unwrap_or_default();
    let run = value.iter().rev().take_while(|byte| **byte == last).count();
    if run < RUN_MIN {
        out.push(kind);
        put_bytes(out, value);
        return 0;
    }
    out.push(kind.saturating_add(2));
    let before = value.len().saturating_sub(run);
    put_bytes(out, value.get(..before).unwrap_or_default());
    out.push(last);
    put_size(out, run);
    run
}

/// Reads rows.
#[derive(Debug)]
pub(super) struct RowReader<'a> {
    pub(super) catalog: &'a Catalog,
    /// The layouts so far, by number.
    pub(super) layouts: &'a mut Vec<Arc<Layout>>,
}

impl RowReader<'_> {
    pub(super) fn event(&mut self, rest: &mut Rest<'_>) -> Read<Event> {
        Ok(match rest.byte("an event")? {
            0 => Event::TransactionReceived(SourceTx {
                position: position(rest)?,
                committed: wall(rest)?,
                mutations: self.mutations(rest)?,
            }),
            1 => Event::PieceReceived { before: position(rest)?, mutations: self.mutations(rest)? },
            2 => Event::IdleThrough(position(rest)?),
            3 => Event::RowsReceived {
                request: RequestId(rest.number("a request")?),
                rows: self.timed(rest)?,
            },
            4 => Event::ResolvedReceived {
                request: RequestId(rest.number("a request")?),
                partition: PartitionId(rest.small("a partition")?),
                resolved: hlc(rest)?,
            },
            5 => Event::Done(op(rest)?),
            6 => Event::StagedRead {
                op: op(rest)?,
                rows: self.timed(rest)?,
                exhausted: rest.bool("a page")?,
            },
            7 => Event::Failed { op: op(rest)?, failure: failure(rest)? },
            8 => Event::DeadlineReached,
            9 => Event::StopRequested,
            _ => return Err(RecordError::Value { what: "an event" }),
        })
    }

    fn timed(&mut self, rest: &mut Rest<'_>) -> Read<Vec<TimedMutation>> {
        rest.list("rows", |rest| {
            Ok(TimedMutation { time: hlc(rest)?, mutation: self.mutation(rest)? })
        })
    }

    fn mutations(&mut self, rest: &mut Rest<'_>) -> Read<Vec<Mutation>> {
        rest.list("mutations", |rest| self.mutation(rest))
    }

    fn mutation(&mut self, rest: &mut Rest<'_>) -> Read<Mutation> {
        let what = "a mutation";
        let table = self.table(rest)?;
        let key = match rest.byte(what)? {
            0 => None,
            1 => Some(RowKey::from_bytes(rest.bytes("a key")?)),
            _ => return Err(RecordError::Value { what: "a key" }),
        };
        let change = match rest.byte(what)? {
            0 => Change::Delete(self.row(rest, table)?),
            1 => Change::Insert(self.row(rest, table)?),
            2 => Change::Upsert(self.row(rest, table)?),
            3 => Change::Update(self.row(rest, table)?),
            4 => Change::Move { from: self.row(rest, table)?, to: self.row(rest, table)? },
            5 => Change::Truncate,
            _ => return Err(RecordError::Value { what }),
        };
        let key = key.or_else(|| key_of(self.catalog, table, &change));
        let key = key.ok_or(RecordError::Value { what: "a key" })?;
        Ok(Mutation { table, key, change })
    }

    fn table(&self, rest: &mut Rest<'_>) -> Read<TableId> {
        let table = TableId(rest.small("a table")?);
        self.catalog.get(table).ok_or(RecordError::Value { what: "a table" })?;
        Ok(table)
    }

    fn row(&mut self, rest: &mut Rest<'_>, table: TableId) -> Read<Row> {
        let layout = self.layout(rest)?;
        if layout.table != table {
            return Err(RecordError::Value { what: "a layout" });
        }
        let mut row = RowBuilder::new();
        for _ in &layout.columns {
            cell(rest, &mut row)?;
        }
        row.finish(layout).map_err(|_| RecordError::Value { what: "a row" })
    }

    fn layout(&mut self, rest: &mut Rest<'_>) -> Read<Arc<Layout>> {
        let what = "a layout";
        let number: usize = rest.small(what)?;
        if let Some(layout) = self.layouts.get(number) {
            return Ok(Arc::clone(layout));
        }
        if number != self.layouts.len() {
            return Err(RecordError::Value { what });
        }
        let table = self.table(rest)?;
        let count = self.catalog.table(table).columns.len();
        let columns = rest.list(what, |rest| match rest.small::<u16>(what)?.checked_sub(1) {
            Some(column) if count <= usize::from(column) => Err(RecordError::Value { what }),
            column => Ok(column),
        })?;
        let layout = Arc::new(Layout { table, columns });
        self.layouts.push(Arc::clone(&layout));
        Ok(layout)
    }
}

fn cell(rest: &mut Rest<'_>, row: &mut RowBuilder) -> Read<()> {
    let what = "a value";
    let kind = rest.byte(what)?;
    match kind {
        0 => row.push(Cell::Null),
        1 => row.push(Cell::Unchanged),
        2 => row.push(Cell::Text(rest.bytes(what)?)),
        3 => row.push(Cell::Binary(rest.bytes(what)?)),
        4 | 5 => {
            let before = rest.bytes(what)?;
            let (last, run) = (rest.byte(what)?, rest.small::<usize>(what)?);
            let left = rest.filled_bytes_max.checked_sub(run);
            rest.filled_bytes_max = left.ok_or(RecordError::Value { what })?;
            let mut value = before.to_vec();
            value.resize(before.len().saturating_add(run), last);
            row.push(if kind == 4 { Cell::Text(&value) } else { Cell::Binary(&value) });
        }
        _ => return Err(RecordError::Value { what }),
    }
    Ok(())
}
