//! What commits of the target say: which transactions of the source they hold, and what is safe by now.
use std::collections::BTreeSet;

use replicator_core::model::gtid::{GtidNames, GtidPosition};
use replicator_core::model::ident::TableName;
use replicator_core::model::position::{Lsn, Position};

use super::checker::STAGING_SCHEMA;
use super::source::Named;
use super::sql::{Row, RowChange, Value};
use crate::model::History;

/// The keys of the saved position, for the target schema `public`.
const LSN_KEY: &str = "pglogical-wal-offset-public";
const GTID_KEY: &str = "mysql-wal-offset-public";
/// What belongs to the second one.
const PLACE_KEY: &str = "mysql-place-public";

/// The history, and what its transactions are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) history: &'a History,
    pub(super) named: Option<&'a Named>,
}

/// What a commit saves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    /// The transactions that the source will not be asked for again.
    pub(super) transactions: BTreeSet<usize>,
    /// Where that is.
    pub(super) lsn: Option<Lsn>,
    /// As it was saved.
    pub(super) text: String,
}

impl Told<'_> {
    /// Whether it is of the table that says what the target holds.
    pub(super) fn is_record(self, change: &RowChange) -> bool {
        let table = match self.named {
            None => "replicator_applied",
            Some(_) => "replicator_applied_gtids",
        };
        change.table == TableName::new(STAGING_SCHEMA, table)
    }

    /// The transactions that a commit says it holds, and through where.
    pub(super) fn record(self, change: &RowChange) -> Option<(Vec<usize>, Position)> {
        let row: &Row = change.new.as_ref().filter(|_| self.is_record(change))?;
        // The columns: stream, fence, first_tx, after_position or gtids, through_position, applied_at.
        let position = |value: &Value| {
            let Value::Text(text) = value else { return None };
            Position::from_sortable(text)
        };
        let through = position(&row[4]).expect("a record says through where");
        let Some(Named { flavor, gtids }) = self.named else {
            let first = self.history.count_through(position(&row[3]));
            return Some(((first..self.history.count_through(Some(through))).collect(), through));
        };
        let Value::Text(text) = &row[3] else { panic!("{:?} are no names", row[3]) };
        let names = GtidNames::parse(*flavor, text).expect("names can be read");
        let has = |tx: &usize| gtids[*tx].is_some_and(|gtid| names.contains(gtid));
        Some(((0..gtids.len()).filter(has).collect(), through))
    }

    /// What a commit saves, if it does.
    pub(super) fn saved(self, changes: &[RowChange]) -> Option<Saved> {
        let Some(Named { flavor, gtids }) = self.named else {
            let text = changes.iter().find_map(|change| memo(change, LSN_KEY))?;
            let lsn: Lsn = text.parse().expect("a saved position can be read");
            let count = self.history.count_through(Some(Position::Lsn(lsn)));
            return Some(Saved { transactions: (0..count).collect(), lsn: Some(lsn), text });
        };
        let text = changes.iter().find_map(|change| memo(change, GTID_KEY));
        let place = changes.iter().find_map(|change| memo(change, PLACE_KEY));
        let (text, place) = match (text, place) {
            (None, None) => return None,
            // The position stays where it is while an XA transaction holds it back.
            (text, place) => (text.unwrap_or_default(), place.unwrap_or_default()),
        };
        let executed = place.split_once("\"executed\":\"").and_then(|(_, rest)| {
            rest.split_once('"').map(|(executed, _)| executed.replace("\\n", "\n"))
        });
        let mut transactions = BTreeSet::new();
        for text in [Some(text.clone()), executed.clone()].into_iter().flatten() {
            let position = GtidPosition::parse(*flavor, &text).expect("a position can be read");
            let has = |tx: &usize| gtids[*tx].is_some_and(|gtid| position.contains(gtid));
            transactions.extend((0..gtids.len()).filter(has));
        }
        let text = match executed {
            None => text,
            Some(executed) => format!("{executed} while held back at {text}"),
        };
        let text = text.replace('\n', "");
        Some(Saved { transactions, lsn: None, text })
    }
}

/// The text of a memo that a commit writes.
fn memo(change: &RowChange, key: &str) -> Option<String> {
    let memo = change.table == TableName::new(STAGING_SCHEMA, "memo");
    let at = change.key == [Value::Text(key.to_owned())];
    let row = change.new.as_ref().filter(|_| memo && at)?;
    let Some(Value::Bytes(bytes)) = row.get(1) else { panic!("a memo is bytes") };
    Some(String::from_utf8(bytes.clone()).expect("a memo is text"))
}
