//! A transaction of the history as the messages of pgoutput.
use std::collections::BTreeMap;

use bytes::Bytes;
use replicator_core::decode::pg_encode::encode;
use replicator_core::decode::pg_message::{
    Begin, Commit as CommitMessage, Message, Old, Relation, RelationColumn, RelationId,
    ReplicaIdentity, Truncate, Tuple, Xid,
};
use replicator_core::model::catalog::Table;
use replicator_core::model::key::KeyKind;
use replicator_core::model::mutation::{Change, Mutation, TableId};
use replicator_core::model::position::{Lsn, Position};
use replicator_core::model::row::{Cell, Row};
use replicator_core::model::time::WallTime;

use crate::model::Commit;
use crate::schema::{index, schema};

/// Numbers that PostgreSQL gives to users' tables begin here (server source, `FirstNormalObjectId` in
/// `src/include/access/transam.h`).
const RELATION_FIRST: u32 = 16_384;

/// The types of whole numbers and of JSON (server source, `pg_type.dat`).
const INT8: u32 = 20;
const JSONB: u32 = 3_802;

/// The LSN of a position.
#[must_use]
pub(super) fn lsn(position: Position) -> Lsn {
    match position {
        Position::Lsn(lsn) => lsn,
        Position::Hlc(_) | Position::Ordinal(_) => panic!("an ordered source has no {position}"),
    }
}

/// Which tables a stream has described, and in which way they were laid out.
#[derive(Debug, Default)]
pub(super) struct Described {
    layouts: BTreeMap<TableId, usize>,
    /// How often one was described again.
    pub(super) again: usize,
}

impl Described {
    /// Whether the table must be described before the next row.
    fn is_news(&mut self, table: TableId, layout: usize) -> bool {
        let had = self.layouts.insert(table, layout);
        self.again += usize::from(had.is_some_and(|had| had != layout));
        had != Some(layout)
    }
}

/// The messages of one transaction, each with the position that its frame shows. A table that is not
/// described in this layout is described first.
pub(super) fn transaction(
    commit: &Commit,
    xid: u32,
    committed: WallTime,
    layout: usize,
    described: &mut Described,
) -> Vec<(Lsn, Bytes)> {
    let (before, end) = (lsn(commit.before), lsn(commit.position));
    let begin = Begin { final_lsn: before, committed, xid: Xid(xid) };
    let mut messages = vec![(before, Message::Begin(begin))];
    let mut mutations = commit.mutations.iter().peekable();
    while let Some(mutation) = mutations.next() {
        if described.is_news(mutation.table, layout) {
            // A description is not in the log.
            messages.push((Lsn(0), Message::Relation(relation(mutation.table, layout))));
        }
        let next = mutations.next_if(|next| is_rest_of_update(mutation, next));
        messages.push((before, message(mutation, next, layout)));
    }
    let last = CommitMessage { commit_lsn: before, end_lsn: end, committed };
    messages.push((end, Message::Commit(last)));
    messages.into_iter().map(|(lsn, message)| (lsn, encode(&message))).collect()
}

/// An update that changes the key and is sent in full is a delete and a write to us, and one message to
/// the source.
pub(super) fn is_rest_of_update(first: &Mutation, next: &Mutation) -> bool {
    let both = matches!((&first.change, &next.change), (Change::Delete(_), Change::Upsert(_)));
    both && first.table == next.table && first.key != next.key
}

fn message(mutation: &Mutation, next: Option<&Mutation>, layout: usize) -> Message {
    let id = mutation.table;
    let relation = relation_id(id);
    let tuple = |row: &Row| tuple(id, row, layout);
    let old = |row: &Row| Some(Old::Key(tuple(row)));
    match (&mutation.change, next.map(|next| &next.change)) {
        (Change::Delete(from), Some(Change::Upsert(to))) => {
            Message::Update { relation, old: old(from), new: tuple(to) }
        }
        (Change::Insert(row), _) => Message::Insert { relation, new: tuple(row) },
        (Change::Upsert(row) | Change::Update(row), _) => {
            Message::Update { relation, old: None, new: tuple(row) }
        }
        (Change::Move { from, to }, _) => {
            Message::Update { relation, old: old(from), new: tuple(to) }
        }
        (Change::Delete(row), _) => Message::Delete { relation, old: Old::Key(tuple(row)) },
        (Change::Truncate, _) => {
            Message::Truncate(Truncate { options: 0, relations: vec![relation] })
        }
    }
}

fn relation_id(id: TableId) -> RelationId {
    RelationId(RELATION_FIRST + id.0)
}

fn relation(id: TableId, layout: usize) -> Relation {
    let table = schema().catalog.table(id);
    let columns = order(id, table, layout).into_iter().map(|column| {
        let found = table.column(column);
        RelationColumn {
            flags: u8::from(table.key.contains(&column)),
            name: found.name.clone(),
            type_oid: if found.kind == KeyKind::Loose { JSONB } else { INT8 },
            // No length and no precision.
            type_modifier: u32::MAX,
        }
    });
    Relation {
        relation: relation_id(id),
        namespace: table.name.schema.clone(),
        name: table.name.table.clone(),
        identity: ReplicaIdentity::Default,
        columns: columns.collect(),
    }
}

/// The source's columns come in another order than the target's.
pub(super) fn order(id: TableId, table: &Table, layout: usize) -> Vec<u16> {
    let count = u16::try_from(table.columns.len()).expect("few columns");
    let mut columns: Vec<u16> = (0..count).collect();
    columns.rotate_left((index(id) + layout) % table.columns.len());
    columns
}

fn tuple(id: TableId, row: &Row, layout: usize) -> Tuple {
    let table = schema().catalog.table(id);
    let mut cells = vec![Cell::Null; table.columns.len()];
    for (column, cell) in row.columns() {
        cells[usize::from(column)] = cell;
    }
    let order = order(id, table, layout);
    Tuple::new(&order.iter().map(|column| cells[usize::from(*column)]).collect::<Vec<_>>())
}
