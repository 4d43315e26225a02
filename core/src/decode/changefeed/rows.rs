//! The rows of one body, one after the other.
use alloc::vec::Vec;
use core::ptr;

use super::Changefeed;
use super::body::{Lines, Payload};
use super::envelope::{Element, Envelope, Fate, Guess};
use super::error::{FeedError, Part, RowFault};
use super::json::{Elements, Kind, Raw};
use super::shape::{Misfit, Plan, keyless};
use crate::model::catalog::Table;
use crate::model::mutation::{Change, Mutation, TableId, TimedMutation};
use crate::stop::SchemaDrift;

/// Where rows of a body come from.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Payload(Payload<'a>),
    Lines(Lines<'a>),
    Nothing,
}

/// To which table rows belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// Each says it.
    Topics,
    /// All to this one.
    Table(TableId),
    /// All to this one. They are results of a query: the key of its source says nothing about that of
    /// the target.
    Query(TableId),
}

/// The rows of one body, in the order in which they stand there.
///
/// None of them may be used before the end has come: an error in a later one refuses them all. After
/// an error there are no more.
#[derive(Debug)]
pub struct Rows<'a> {
    pub(super) feed: &'a mut Changefeed,
    pub(super) input: Input<'a>,
    pub(super) destination: Destination,
    /// How many were read.
    pub(super) count: usize,
}

impl Iterator for Rows<'_> {
    type Item = Result<TimedMutation, FeedError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row().transpose();
        if matches!(row, None | Some(Err(_))) {
            self.input = Input::Nothing;
        }
        row
    }
}

impl Rows<'_> {
    fn next_row(&mut self) -> Result<Option<TimedMutation>, FeedError> {
        loop {
            let guess = self.feed.guess();
            let element = match &mut self.input {
                Input::Payload(payload) => payload.next_element(guess)?,
                Input::Lines(lines) => lines.next_element(guess)?,
                Input::Nothing => None,
            };
            let Some(element) = element else { return Ok(None) };
            self.count = self.count.saturating_add(1);
            let limits = self.feed.limits;
            if limits.rows_max < self.count {
                return Err(FeedError::TooLarge { what: Part::Rows, limit: limits.rows_max });
            }
            if limits.row_bytes_max < element.text.len() {
                return Err(FeedError::TooLarge { what: Part::Row, limit: limits.row_bytes_max });
            }
            if let Some(row) = self.feed.row(self.destination, element, self.count)? {
                return Ok(Some(row));
            }
        }
    }
}

impl Changefeed {
    /// What the next row is taken for, until its topic is read.
    fn guess(&mut self) -> Option<Guess<'_>> {
        let plan = self.plans.get(&self.last?)?;
        Some(Guess { plan, room: &mut self.room })
    }

    /// Reads one row, the `row`th of its body; `None` if nothing happened to it.
    fn row(
        &mut self,
        destination: Destination,
        element: Element<'_>,
        row: usize,
    ) -> Result<Option<TimedMutation>, FeedError> {
        let refuse = |fault| FeedError::Row { row, fault };
        let guessed = element.guessed;
        let envelope = Envelope::new(element).map_err(refuse)?;
        let (id, by_query) = match destination {
            Destination::Topics => {
                let topic = envelope.topic.ok_or(RowFault::NoTopic).map_err(refuse)?;
                (self.table_of(topic, row)?, false)
            }
            Destination::Table(id) => (id, false),
            Destination::Query(id) => (id, true),
        };
        let table = self.catalog.table(id);
        let plan = self.plans.entry(id).or_insert_with(|| Plan::new(self.target, id, table));
        let guessed = guessed.filter(|_| self.last == Some(id));
        self.last = Some(id);
        let change = match envelope.fate {
            Fate::Is(object) if guessed.is_some_and(|text| ptr::eq(text, object.text)) => {
                plan.take(&self.room).map(Change::Upsert)
            }
            Fate::Is(object) => plan.row(table, object, &mut self.room).map(Change::Upsert),
            Fate::Gone => match key_of_gone(plan, table, by_query, &envelope) {
                Ok(None) => return Ok(None),
                Ok(Some(values)) => plan.gone(table, &values, &mut self.room).map(Change::Delete),
                Err(misfit) => Err(misfit),
            },
        };
        let mutation = change.and_then(|change| mutation(table, id, change));
        let mutation = mutation.map_err(|misfit| error(table, row, misfit))?;
        Ok(Some(TimedMutation { time: envelope.time, mutation }))
    }
}

fn mutation(table: &Table, id: TableId, change: Change) -> Result<Mutation, Misfit> {
    let key = match &change {
        Change::Delete(row) | Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            table.key_of(row).ok()
        }
        Change::Move { .. } | Change::Truncate => None,
    };
    let Some(key) = key else {
        return Err(Misfit::Row(RowFault::NoKey { table: table.name.clone() }));
    };
    Ok(Mutation { table: id, key, change })
}

/// The values of the key of a row that is gone, in the order of the target's key; `None` if there never
/// was such a row.
fn key_of_gone<'a>(
    plan: &Plan,
    table: &Table,
    by_query: bool,
    envelope: &Envelope<'a>,
) -> Result<Option<Vec<Raw<'a>>>, Misfit> {
    if table.key.is_empty() {
        return Err(Misfit::Drift(keyless(table)));
    }
    // What the row was wins over its key. In there a collated string is the bytes by which it sorts,
    // and a hash-sharded key begins with the number of its shard.
    let before = envelope.before;
    if let Some(Some(before)) = before
        && let Some(values) = plan.key_values(table, before)
    {
        return Ok(Some(values));
    }
    let no_key = || Misfit::Row(RowFault::NoKey { table: table.name.clone() });
    match (envelope.key.filter(|_| !by_query), before) {
        (Some(key), _) if key.kind == Kind::Array => {
            let mut values = Vec::with_capacity(table.key.len());
            let mut elements = Elements::new(key);
            // The row was read to its end before: no element can be broken.
            while let Ok(Some(value)) = elements.next_element() {
                values.push(value);
            }
            if values.len() == table.key.len() {
                return Ok(Some(values));
            }
            let (got, expected) = (values.len(), table.key.len());
            let table = table.name.clone();
            Err(Misfit::Row(RowFault::KeyLength { table, got, expected }))
        }
        (Some(key), _) if key.kind == Kind::Object => {
            plan.key_values(table, key).map(Some).ok_or_else(no_key)
        }
        (Some(_), _) => {
            Err(Misfit::Row(RowFault::Member { member: "key", wanted: "an array or an object" }))
        }
        (None, Some(Some(_))) => {
            let reason = "a deleted row came without columns of the target's key".into();
            Err(Misfit::Drift(SchemaDrift::NoKey { table: table.name.clone(), reason }))
        }
        // Written and deleted by one transaction.
        (None, Some(None)) => Ok(None),
        (None, None) => Err(no_key()),
    }
}

fn error(table: &Table, row: usize, misfit: Misfit) -> FeedError {
    match misfit {
        Misfit::Row(fault) => FeedError::Row { row, fault },
        Misfit::Drift(drift) => FeedError::Drift { row, drift },
        Misfit::Value(column, fault) => {
            let column = table.column(column).name.clone();
            FeedError::Value { row, table: table.name.clone(), column, fault }
        }
    }
}
