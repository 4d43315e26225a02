//! Looks at every commit of the target and holds it against the source's history.
//!
//! What is in the target must be what the source's transactions lead to that it claims to hold, each
//! whole, each once. So it is a state that the source had whenever these are the first so many.
use std::collections::{BTreeMap, BTreeSet};

use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::TableId;
use replicator_core::model::position::{Lsn, Position};

use super::claims::{Saved, Told};
use super::source::Source;
use super::sql::{CommitRecord, Key, Row, RowChange, SqlServer, Value};
use super::trace::say;
use crate::database::Rows;
use crate::model::{ChangeId, History, Model};
use crate::schema::{Tuple, index, schema};

/// The schema in which the program keeps what must survive it.
pub const STAGING_SCHEMA: &str = "_replicator";

/// The table of dead letters.
pub const DEAD_LETTERS: &str = "replicator_dlq";

/// What the target has shown so far.
#[derive(Debug)]
pub struct Checker {
    looked: usize,
    tables: Vec<Rows>,
    applied: BTreeSet<usize>,
    saved: Saved,
    // The newest version of a row that ever was in the target, gone or not.
    newest: BTreeMap<(TableId, Tuple), i64>,
    // The records of what the target holds: through where, by their keys.
    records: BTreeMap<Key, Position>,
    // Changes that became dead letters.
    dead: BTreeSet<ChangeId>,
    prefixes: Model,
    /// How many commits held more than one transaction of the source.
    pub group_commits: usize,
    /// How many commits came before an older one.
    pub out_of_order: usize,
}

impl Checker {
    /// Before the first commit.
    #[must_use]
    pub fn new() -> Self {
        Self {
            looked: 0,
            tables: schema().catalog.tables().map(|_| Rows::new()).collect(),
            applied: BTreeSet::new(),
            saved: Saved { transactions: BTreeSet::new(), lsn: None, text: String::new() },
            newest: BTreeMap::new(),
            records: BTreeMap::new(),
            dead: BTreeSet::new(),
            prefixes: Model::new(),
            group_commits: 0,
            out_of_order: 0,
        }
    }

    /// Looks at what the target has committed since the last look, and at what the source was told.
    pub fn look(&mut self, source: &Source, target: &SqlServer) {
        let fresh = target.commits_since(self.looked);
        self.looked += fresh.len();
        source.with_log(|history, named| {
            let told = Told { history, named };
            fresh.iter().for_each(|commit| self.commit(told, commit));
        });
        self.i2_what_is_acknowledged_is_saved(source.confirmed_max());
    }

    /// Whether the target holds all of the history.
    #[must_use]
    pub fn is_complete(&self, history: &History) -> bool {
        self.applied.len() == history.commits().len()
    }

    /// How many transactions the source will not be asked for again.
    #[must_use]
    pub fn saved(&self) -> usize {
        self.saved.transactions.len()
    }

    /// How many changes became dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> usize {
        self.dead.len()
    }

    /// The rows that a table must have in the end.
    #[must_use]
    pub fn end(&self, history: &History, table: TableId) -> Rows {
        let all = (0..history.commits().len()).collect();
        Model::of(history, &all, &self.dead).swap_remove(index(table))
    }

    fn commit(&mut self, told: Told<'_>, commit: &CommitRecord) {
        let history = told.history;
        let mut moved = 0;
        for change in &commit.changes {
            if let Some((table, key, old, new)) = change.simulated() {
                moved += 1;
                self.i3_a_row_moves_forward(table, &key, new.as_ref());
                let rows = &mut self.tables[index(table)];
                let had = match new {
                    Some(row) => rows.insert(key, row),
                    None => rows.remove(&key),
                };
                assert!(had == old, "the target's commits do not follow from each other");
            }
        }
        let records: Vec<(Vec<usize>, Position)> =
            commit.changes.iter().filter_map(|change| told.record(change)).collect();
        for change in commit.changes.iter().filter(|change| told.is_record(change)) {
            match told.record(change) {
                Some((_, through)) => self.records.insert(change.key.clone(), through),
                None => self.records.remove(&change.key),
            };
        }
        let letters: Vec<usize> = commit.changes.iter().filter_map(letter).collect();
        moved += letters.len();
        let claimed = match records.as_slice() {
            [] => {
                assert!(moved == 0, "exactly once: a commit of {moved} rows without its record");
                0
            }
            [(held, through)] => self.claim(told, held, *through, &letters),
            _ => panic!("a commit with {} records", records.len()),
        };
        if moved > 0 || claimed > 0 {
            say("target", format_args!("commits {moved} rows of {claimed} transactions"));
            self.i4_the_target_holds_whole_transactions(history);
        }
        if let Some(saved) = told.saved(&commit.changes) {
            say("target", format_args!("saves {}", saved.text));
            self.i1_what_is_saved_is_applied(saved);
            self.staging_holds_only_what_is_not_saved();
        }
    }

    /// Notes which transactions a commit claims to hold. Returns how many are new.
    fn claim(
        &mut self,
        told: Told<'_>,
        held: &[usize],
        through: Position,
        letters: &[usize],
    ) -> usize {
        let Told { history, named } = told;
        // A binary log also has transactions that are none of the history, and such as an earlier run has brought
        // come once more without their changes.
        let Some(first) = held.first().filter(|_| named.is_none() || !held.is_empty()) else {
            assert!(named.is_some(), "a record of no transaction, through {through}");
            return 0;
        };
        let range: Vec<usize> = match named {
            None => held.to_vec(),
            Some(_) => held.iter().copied().filter(|tx| !self.applied.contains(tx)).collect(),
        };
        if self.applied.last().is_some_and(|last| first < last) {
            self.out_of_order += 1;
        }
        // A dead letter says which change of its batch it is.
        let places =
            |tx: usize| (0..history.commits()[tx].changes.len()).map(move |place| (tx, place));
        let changes: Vec<ChangeId> = range.iter().copied().flat_map(places).collect();
        for letter in letters {
            let change = changes.get(*letter).expect("a dead letter is of its batch");
            assert!(self.dead.insert(*change), "change {change:?} is a dead letter twice");
        }
        let fresh = range.into_iter().filter(|tx| self.applied.insert(*tx)).count();
        let again = named.is_none() && fresh == 0;
        assert!(!again, "exactly once: the target holds all through {through} twice");
        self.group_commits += usize::from(fresh > 1);
        fresh
    }

    fn i1_what_is_saved_is_applied(&mut self, saved: Saved) {
        let text = &saved.text;
        let forward =
            self.saved.lsn <= saved.lsn && self.saved.transactions.is_subset(&saved.transactions);
        assert!(forward, "I1: the saved position went back to {text}");
        let missing = saved.transactions.difference(&self.applied).next();
        assert!(missing.is_none(), "I1: {text} is saved, transaction {missing:?} not applied");
        self.saved = saved;
    }

    /// Otherwise staging would grow for ever.
    fn staging_holds_only_what_is_not_saved(&self) {
        // Numbers of a binary log mean something to one run only, and the records of earlier ones are kept.
        let Some(saved) = self.saved.lsn else { return };
        let covered = self.records.values().find(|through| **through <= Position::Lsn(saved));
        assert!(covered.is_none(), "{saved} is saved, and staging keeps a record of {covered:?}");
    }

    /// Nobody may forget what is not in the target with its checkpoint saved. What a slot begins with was
    /// never ours.
    fn i2_what_is_acknowledged_is_saved(&self, confirmed: Lsn) {
        if confirmed > super::source::LOG_BEGIN {
            let saved = self.saved.lsn;
            assert!(
                Some(confirmed) <= saved,
                "I2: the source was told {confirmed}, saved is {saved:?}"
            );
        }
    }

    fn i3_a_row_moves_forward(&mut self, table: TableId, key: &Tuple, new: Option<&Tuple>) {
        let Some(row) = new else { return };
        let version = row.last().copied().flatten().expect("every row has a version");
        let newest = self.newest.entry((table, key.clone())).or_insert(0);
        assert!(
            *newest < version,
            "I3: {} {key:?} shows version {version} after {newest}",
            schema().name(table)
        );
        *newest = version;
    }

    fn i4_the_target_holds_whole_transactions(&mut self, history: &History) {
        let count = self.applied.len();
        let is_prefix = self.applied.last().is_none_or(|last| last + 1 == count);
        let of_some;
        let expected: &[Rows] = if is_prefix {
            self.prefixes.after(history, count, &self.dead)
        } else {
            of_some = Model::of(history, &self.applied, &self.dead);
            &of_some
        };
        for (id, table) in schema().catalog.tables() {
            let (is, should) = (&self.tables[index(id)], &expected[index(id)]);
            assert!(
                is == should,
                "I4: {} is {is:?} and should be {should:?} with {count} transactions",
                table.name
            );
        }
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

/// Which change of its batch a dead letter is.
fn letter(change: &RowChange) -> Option<usize> {
    if change.table != TableName::new("public", DEAD_LETTERS) {
        return None;
    }
    // The columns: event, dlq_name, source_nanos, source_logical, data_after, data_before.
    let row: &Row = change.new.as_ref().expect("dead letters stay");
    let Value::Int(number) = &row[3] else { panic!("{:?} is no number", row[3]) };
    Some(usize::try_from(*number).expect("a place in a batch"))
}
