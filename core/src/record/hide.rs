//! Events and what the machine answers, with images in place of the values of rows.
//!
//! For a machine it makes no difference: told hidden events it answers with what it would have answered,
//! hidden. That is what a recording rests on, and what `sim replay` shows for each step.
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::image::Images;
use super::rows::key_of;
use crate::effect::Effect;
use crate::event::{Event, Failure};
use crate::model::catalog::Catalog;
use crate::model::key::{KeyKind, RowKey};
use crate::model::mutation::{
    ApplyBatch, ApplyRequest, Change, Mutation, SourceTx, TableId, TimedMutation,
};
use crate::model::row::{Cell, Row, RowBuilder};
use crate::stop::Stop;

/// Hides the values of rows of one catalog.
pub(super) struct Hider {
    images: Images,
    catalog: Arc<Catalog>,
    // For each table and column how the machine compares its values; `None` if it never does.
    kinds: Vec<Vec<Option<KeyKind>>>,
}

impl fmt::Debug for Hider {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hider")
    }
}

impl Hider {
    pub(super) fn new(key: [u8; 16], catalog: Arc<Catalog>) -> Self {
        let kinds = kinds(&catalog);
        Self { images: Images::new(key), catalog, kinds }
    }

    pub(super) fn event(&self, event: &Event) -> Event {
        match event {
            Event::TransactionReceived(SourceTx { position, committed, mutations }) => {
                let (position, committed) = (*position, *committed);
                let mutations = self.mutations(mutations);
                Event::TransactionReceived(SourceTx { position, committed, mutations })
            }
            Event::PieceReceived { before, mutations } => {
                Event::PieceReceived { before: *before, mutations: self.mutations(mutations) }
            }
            Event::RowsReceived { request, rows } => {
                Event::RowsReceived { request: *request, rows: self.timed(rows) }
            }
            Event::StagedRead { op, rows, exhausted } => {
                Event::StagedRead { op: *op, rows: self.timed(rows), exhausted: *exhausted }
            }
            Event::Failed { op, failure } => {
                Event::Failed { op: *op, failure: self.failure(failure) }
            }
            Event::IdleThrough(_)
            | Event::ResolvedReceived { .. }
            | Event::Done(_)
            | Event::DeadlineReached
            | Event::StopRequested => event.clone(),
        }
    }

    pub(super) fn effect(&self, effect: &Effect) -> Effect {
        match effect {
            Effect::Apply { op, request: ApplyRequest { batch, order, dead } } => {
                let mutations = self.mutations(&batch.mutations);
                let batch =
                    ApplyBatch { mutations, ends: batch.ends.clone(), ..batch.clone_head() };
                let (batch, order, dead) = (Arc::new(batch), order.clone(), dead.clone());
                Effect::Apply { op: *op, request: ApplyRequest { batch, order, dead } }
            }
            Effect::Stage { op, rows, floor } => {
                Effect::Stage { op: *op, rows: self.timed(rows), floor: *floor }
            }
            Effect::Acknowledge(_)
            | Effect::Answer(_)
            | Effect::ReadStaged { .. }
            | Effect::RetireStaged { .. }
            | Effect::SaveCheckpoint { .. }
            | Effect::SaveHorizon { .. }
            | Effect::SaveResolved { .. } => effect.clone(),
        }
    }

    pub(super) fn stop(&self, stop: &Stop) -> Stop {
        let mut stop = stop.clone();
        match &mut stop {
            Stop::Rejected { detail, .. }
            | Stop::TooManyRefused { detail, .. }
            | Stop::RetriesExhausted { detail, .. }
            | Stop::OutcomeUnknown { detail }
            | Stop::PieceLost { detail }
            | Stop::Unreadable { detail } => *detail = self.words(detail),
            Stop::PositionWentBack { .. }
            | Stop::StagingFailed { .. }
            | Stop::UnknownPartition { .. }
            | Stop::Fenced => (),
        }
        stop
    }

    /// What a database said should not have values in it, but who knows.
    fn words(&self, text: &str) -> String {
        format!("words {:032x}", u128::from_be_bytes(self.images.digest(text.as_bytes())))
    }

    fn failure(&self, failure: &Failure) -> Failure {
        match failure {
            Failure::Transient { detail } => Failure::Transient { detail: self.words(detail) },
            Failure::OutcomeUnknown { detail } => {
                Failure::OutcomeUnknown { detail: self.words(detail) }
            }
            Failure::Constraint { detail, at } => {
                Failure::Constraint { detail: self.words(detail), at: at.clone() }
            }
            Failure::Rejected { detail, at } => {
                Failure::Rejected { detail: self.words(detail), at: at.clone() }
            }
            Failure::Fenced => Failure::Fenced,
        }
    }

    fn timed(&self, rows: &[TimedMutation]) -> Vec<TimedMutation> {
        let hidden = |TimedMutation { time, mutation }: &TimedMutation| TimedMutation {
            time: *time,
            mutation: self.mutation(mutation),
        };
        rows.iter().map(hidden).collect()
    }

    fn mutations(&self, mutations: &[Mutation]) -> Vec<Mutation> {
        mutations.iter().map(|mutation| self.mutation(mutation)).collect()
    }

    fn mutation(&self, mutation: &Mutation) -> Mutation {
        let Mutation { table, key, change } = mutation;
        let hidden = match change {
            Change::Delete(row) => Change::Delete(self.row(row)),
            Change::Insert(row) => Change::Insert(self.row(row)),
            Change::Upsert(row) => Change::Upsert(self.row(row)),
            Change::Update(row) => Change::Update(self.row(row)),
            Change::Move { from, to } => Change::Move { from: self.row(from), to: self.row(to) },
            Change::Truncate => Change::Truncate,
        };
        // The key of the hidden row, if it was the key of the row.
        let own = key_of(&self.catalog, *table, change).filter(|own| own == key);
        let key = own
            .and_then(|_| key_of(&self.catalog, *table, &hidden))
            .unwrap_or_else(|| RowKey::from_bytes(&self.images.of(None, key.as_bytes())));
        Mutation { table: *table, key, change: hidden }
    }

    fn row(&self, row: &Row) -> Row {
        let layout = row.layout();
        let mut hidden = RowBuilder::new();
        for (column, cell) in layout.columns.iter().zip(row.cells()) {
            let image = |value| self.images.of(self.kind(layout.table, *column), value);
            match cell {
                Cell::Null | Cell::Unchanged => hidden.push(cell),
                Cell::Text(value) => hidden.push(Cell::Text(&image(value))),
                Cell::Binary(value) => hidden.push(Cell::Binary(&image(value))),
            }
        }
        let Ok(hidden) = hidden.finish(Arc::clone(layout)) else {
            panic!("a hidden row has as many cells")
        };
        hidden
    }

    fn kind(&self, TableId(table): TableId, column: Option<u16>) -> Option<KeyKind> {
        let table = self.kinds.get(usize::try_from(table).ok()?)?;
        *table.get(usize::from(column?))?
    }
}

/// The columns whose values tell rows apart or refer to others.
fn kinds(catalog: &Catalog) -> Vec<Vec<Option<KeyKind>>> {
    let mut kinds: Vec<Vec<Option<KeyKind>>> =
        catalog.tables().map(|(_, table)| table.columns.iter().map(|_| None).collect()).collect();
    let mut mark = |TableId(table): TableId, columns: &[u16]| {
        let of_table = usize::try_from(table).ok().and_then(|table| kinds.get_mut(table));
        let Some(of_table) = of_table else { return };
        for column in columns {
            if let Some(kind) = of_table.get_mut(usize::from(*column)) {
                *kind = Some(catalog.table(TableId(table)).column(*column).kind);
            }
        }
    };
    for (id, table) in catalog.tables() {
        mark(id, &table.key);
        table.uniques.iter().flat_map(|unique| &unique.columns).for_each(|c| mark(id, c));
        for fk in &table.foreign_keys {
            mark(id, &fk.columns);
            mark(fk.parent, &fk.parent_columns);
        }
    }
    kinds
}
