//! Looks at every commit of the target and holds it against the source's history.
//!
//! The target does not say which transactions a commit holds, but each row has a version, which only one
//! transaction made. So a commit shows transactions, and of each that it shows all rows must be there, or
//! newer. A row that is gone may be any of its deletes. A change that the target refuses leaves its row as it was.
use std::collections::BTreeMap;
use std::sync::Arc;

use replicator_core::model::ident::TableName;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::TableId;
use replicator_core::model::time::Hlc;

use super::drawn::Drawn;
use super::feed::Feeds;
use super::program::CONSISTENT;
use super::times::time_of;
use crate::cluster::checker::DEAD_LETTERS;
use crate::cluster::reach::{Reach, Reached};
use crate::cluster::sql::{CommitRecord, RowChange, SqlServer, Value};
use crate::cluster::trace::{self, say};
use crate::database::Rows;
use crate::model::{Does, History};
use crate::schema::{Tuple, index, schema};

/// A row, wherever it is.
type Place = (TableId, Tuple);

/// What the program logs when a run begins.
const BEGINS: &str = "conveyor begins";

/// What it logs when rows up to a time may be forgotten: they are in the target, and that is saved.
const RETIRES: &str = "effect=retire-staged ";

/// What the target has shown so far.
#[derive(Debug)]
pub(super) struct Checker {
    // Whether a commit holds whole transactions. Not if one feed promises what another one still brings.
    whole: bool,
    // The tables whose rows wait for their transactions.
    waiting: Lane,
    // Whether a row never goes back, also when a run begins.
    exact: bool,
    // Whether that is true of dead letters. A run in another mode may not know all that the one before it has told.
    exact_letters: bool,
    looked: usize,
    tables: Vec<Rows>,
    // What each row is in the target, after which transaction.
    past: BTreeMap<Place, Vec<(usize, Option<Tuple>)>>,
    // Whether the target refuses negative values.
    strict: bool,
    // The versions of rows that the target refuses.
    refused: BTreeMap<Place, BTreeMap<usize, i64>>,
    // Those that are dead letters, and how many runs had begun by then.
    letters: BTreeMap<(TableId, i64), usize>,
    known: usize,
    // The newest version that a row has shown, and how many runs had begun by then.
    shown: BTreeMap<Place, (usize, usize)>,
    // The newest transaction that was shown.
    newest: Option<usize>,
    // How many runs have begun, in how many lines of the trace.
    runs: usize,
    lines: usize,
    /// The time up to which rows may be forgotten.
    pub(super) retired: Hlc,
    /// What was reached.
    pub(super) reach: Reach,
}

impl Checker {
    /// Before the first commit.
    pub(super) fn new(drawn: &Drawn) -> Self {
        let waiting = match drawn.consistency == [CONSISTENT] {
            true => Lane::Whole,
            false if drawn.constraints => Lane::of(&schema().catalog).remove(0),
            false => Lane::Independent(Arc::default()),
        };
        Self {
            whole: drawn.habits.feeds == 1,
            waiting,
            exact: drawn.progress,
            exact_letters: drawn.progress && drawn.consistency.len() == 1,
            looked: 0,
            tables: schema().catalog.tables().map(|_| Rows::new()).collect(),
            past: BTreeMap::new(),
            strict: drawn.setup.limits,
            refused: BTreeMap::new(),
            letters: BTreeMap::new(),
            known: 0,
            shown: BTreeMap::new(),
            newest: None,
            runs: 0,
            lines: 0,
            retired: Hlc::default(),
            reach: Reach::default(),
        }
    }

    /// Looks at what the target has committed since the last look.
    pub(super) fn look(&mut self, feeds: &Feeds, target: &SqlServer) {
        let retired = self.retired;
        self.read_log();
        feeds.with_history(|history| self.learn(history));
        let fresh = target.commits_since(self.looked);
        if fresh.is_empty() && self.retired == retired {
            return;
        }
        self.looked += fresh.len();
        let promised = feeds.promised_max();
        feeds.with_history(|history| {
            fresh.iter().for_each(|commit| self.commit(history, promised, commit));
            self.i6_what_is_forgotten_is_in_the_target(history, retired);
        });
    }

    /// Reads what the program has logged since the last look.
    fn read_log(&mut self) {
        let Self { runs, retired, lines, .. } = self;
        *lines = trace::look(*lines, |line| {
            *runs += usize::from(line.contains(BEGINS));
            if let Some((_, through)) = line.split_once(RETIRES) {
                let time = through.split(' ').nth(1).and_then(|time| time.parse::<Hlc>().ok());
                *retired = time.expect("a retirement has a time").max(*retired);
            }
        });
    }

    /// Takes note of what the source has committed.
    fn learn(&mut self, history: &History) {
        for (tx, commit) in history.commits().iter().enumerate().skip(self.known) {
            for change in &commit.changes {
                let row = match &change.does {
                    Does::Put(row) => Some(row.clone()),
                    Does::Delete => None,
                    Does::Set(_) | Does::Move(..) | Does::Truncate => {
                        unreachable!("a changefeed tells how rows ended")
                    }
                };
                let place = (change.table, change.key.clone());
                let refused = row
                    .clone()
                    .filter(|row| self.strict && row.iter().flatten().any(|value| *value < 0));
                let past = self.past.entry(place.clone()).or_default();
                if let Some(refused) = refused {
                    let before = past.last().and_then(|(_, row)| row.clone());
                    past.push((tx, before));
                    self.refused.entry(place).or_default().insert(tx, version(&refused));
                } else {
                    past.push((tx, row));
                }
            }
        }
        self.known = history.commits().len();
    }

    fn commit(&mut self, history: &History, promised: Hlc, commit: &CommitRecord) {
        commit.changes.iter().filter_map(letter).for_each(|letter| self.bury(letter));
        let mut changed = Vec::new();
        for change in &commit.changes {
            let Some((table, key, old, new)) = change.simulated() else { continue };
            let rows = &mut self.tables[index(table)];
            let had = match new.clone() {
                Some(row) => rows.insert(key.clone(), row),
                None => rows.remove(&key),
            };
            assert!(had == old, "the target's commits do not follow from each other");
            changed.push(((table, key), new));
        }
        let mut shown = Vec::new();
        let (mut again, mut ahead) = (0, 0);
        for (place, new) in &changed {
            let versions = self.versions(place, new.as_ref());
            let name = schema().name(place.0);
            let first = versions.first();
            let Some(first) = first else {
                panic!("{name} {:?} is {new:?}, which the source never had", place.1)
            };
            let time = time_of(&history.commits()[*first]);
            assert!(
                time <= promised || !self.waiting.has(Some(place.0)),
                "I5: {name} {:?} of {time} is applied, promised is {promised}",
                place.1
            );
            ahead += usize::from(promised < time);
            again += usize::from(self.i3_a_row_moves_forward(place, &versions));
            shown.push((place, versions));
        }
        if self.whole {
            let waiting = shown.iter().filter(|(place, _)| self.waiting.has(Some(place.0)));
            for (place, versions) in waiting {
                self.i4_a_transaction_is_whole(history, place, versions);
            }
        }
        let mut txs: Vec<usize> =
            shown.iter().filter_map(|(_, versions)| versions.last().copied()).collect();
        txs.sort_unstable();
        txs.dedup();
        say("target", format_args!("commits {} rows of transactions {txs:?}", changed.len()));
        self.reach.add(Reached::AppliedAgain, again);
        self.reach.add(Reached::AheadOfPromise, ahead);
        self.reach.add(Reached::GroupCommit, usize::from(1 < txs.len()));
        let last = txs.last().copied();
        self.reach.add(Reached::OutOfOrder, usize::from(again == 0 && last < self.newest));
        self.newest = self.newest.max(last);
    }

    /// Only what the target refuses is a dead letter, and again only if a run has begun since.
    fn bury(&mut self, letter: (TableId, i64)) {
        let (table, version) = letter;
        let mut refused = self.refused.iter().filter(|(place, _)| place.0 == table);
        let name = schema().name(table);
        assert!(
            refused.any(|(_, versions)| versions.values().any(|refused| *refused == version)),
            "version {version} of {name} is a dead letter, and the target would take it"
        );
        let runs = if self.exact_letters { 0 } else { self.runs };
        let before = self.letters.insert(letter, self.runs);
        assert!(
            before.is_none_or(|before| before < runs),
            "version {version} of {name} is a dead letter twice"
        );
        self.reach.add(Reached::DeadLetter, 1);
    }

    /// The transactions after which the row was this.
    fn versions(&self, place: &Place, row: Option<&Tuple>) -> Vec<usize> {
        let past = self.past.get(place).map(Vec::as_slice).unwrap_or_default();
        let same = past.iter().filter(|(_, version)| version.as_ref() == row);
        same.map(|(tx, _)| *tx).collect()
    }

    /// Only a run that has begun since may apply what the one before it had applied, and only where the target
    /// does not say what it has. Returns whether it did.
    fn i3_a_row_moves_forward(&mut self, place: &Place, versions: &[usize]) -> bool {
        let runs = if self.exact { 0 } else { self.runs };
        let (newest, begun) = self
            .shown
            .get(place)
            .copied()
            .map_or((None, 0), |(newest, begun)| (Some(newest), begun));
        let forward = versions.iter().copied().find(|tx| newest < Some(*tx));
        let back = forward.is_none();
        assert!(
            !back || begun < runs,
            "I3: {} {:?} shows transaction {versions:?} after {newest:?}",
            schema().name(place.0),
            place.1
        );
        // What is gone may have been gone more than once, and the oldest of it accuses nobody.
        let now = if begun < runs { versions.first().copied() } else { forward };
        let now = now.expect("it is some version");
        self.shown.insert(place.clone(), (now, runs));
        back
    }

    /// Of one of the transactions that a row may show all other rows are there, or newer.
    fn i4_a_transaction_is_whole(&self, history: &History, place: &Place, versions: &[usize]) {
        let whole = |tx: &usize| {
            let changes = &history.commits()[*tx].changes;
            let mut changes = changes.iter().filter(|change| self.waiting.has(Some(change.table)));
            changes.all(|change| self.reaches(&(change.table, change.key.clone()), *tx))
        };
        assert!(
            versions.iter().any(whole),
            "I4: {} {:?} shows transaction {versions:?}, of which other rows are missing",
            schema().name(place.0),
            place.1
        );
    }

    /// What may be forgotten since `before` is in the target, or something newer. Not if a feed brings what
    /// another one has promised, or if lanes retire by themselves.
    fn i6_what_is_forgotten_is_in_the_target(&self, history: &History, before: Hlc) {
        if !self.whole || self.waiting != Lane::Whole {
            return;
        }
        let commits = history.commits();
        let from = commits.partition_point(|commit| time_of(commit) <= before);
        for (tx, commit) in commits.iter().enumerate().skip(from) {
            let time = time_of(commit);
            if self.retired < time {
                break;
            }
            let missing = commit
                .changes
                .iter()
                .find(|change| !self.reaches(&(change.table, change.key.clone()), tx));
            if let Some(change) = missing {
                let (name, retired) = (schema().name(change.table), self.retired);
                panic!(
                    "I6: {name} {:?} of transaction {tx} at {time} is not in the target, and may be \
                     forgotten up to {retired}",
                    change.key
                );
            }
        }
    }

    /// Whether a row shows a transaction that changed it, or a later one.
    fn reaches(&self, place: &Place, tx: usize) -> bool {
        let row = self.tables[index(place.0)].get(&place.1);
        let shown = self.versions(place, row).last().copied();
        let refused = self.refused.get(place);
        let mut refused = refused.into_iter().flat_map(|versions| versions.range(tx..));
        match shown.filter(|shown| tx <= *shown) {
            Some(shown) if tx < shown || self.is_told(place, tx) => true,
            // Rows that come late are one with what came before them.
            Some(_) | None => {
                refused.any(|(_, version)| self.letters.contains_key(&(place.0, *version)))
            }
        }
    }

    /// Whether a change that the target refuses is a dead letter.
    fn is_told(&self, place: &Place, tx: usize) -> bool {
        let version = self.refused.get(place).and_then(|versions| versions.get(&tx));
        version.is_none_or(|version| self.letters.contains_key(&(place.0, *version)))
    }

    /// The rows that a table must have in the end, which has `is`, of what was committed up to the last look. A row
    /// whose last change was refused may be any of what it was before.
    pub(super) fn end(&self, feeds: &Feeds, table: TableId, is: &Rows) -> Rows {
        let mut rows = feeds.rows(table);
        for ((_, key), _) in self.refused.iter().filter(|(place, _)| place.0 == table) {
            let place = (table, key.clone());
            let last = self.past.get(&place).and_then(|past| past.last());
            if last.is_some_and(|(tx, _)| self.refused[&place].contains_key(tx)) {
                rows.remove(key);
                rows.extend(is.get(key).map(|row| (key.clone(), row.clone())));
            }
        }
        rows
    }

    /// A row whose last change the target refuses, and that is no dead letter.
    pub(super) fn untold(&self) -> Option<String> {
        let last = |(place, past): (&Place, &Vec<(usize, Option<Tuple>)>)| {
            let (tx, _) = past.last()?;
            let text =
                || format!("{} {:?} of {tx} is no dead letter", schema().name(place.0), place.1);
            (!self.is_told(place, *tx)).then(text)
        };
        self.past.iter().find_map(last)
    }
}

/// The version of a row, which is its last column.
fn version(row: &Tuple) -> i64 {
    row.last().copied().flatten().expect("every row has a version")
}

/// Which version of a row of which table became a dead letter.
fn letter(change: &RowChange) -> Option<(TableId, i64)> {
    if change.table != TableName::new("public", DEAD_LETTERS) {
        return None;
    }
    // event, dlq_name, source_nanos, source_logical, data_after, data_before
    let row = change.new.as_ref().expect("dead letters stay");
    let (Value::Text(name), Value::Text(after)) = (&row[1], &row[4]) else {
        panic!("{row:?} is no dead letter")
    };
    let mut tables = schema().catalog.tables();
    let table = tables.find(|(_, table)| table.name.to_string() == *name);
    let version = after.split_once("\"v\":\"").and_then(|(_, rest)| rest.split('"').next());
    let version = version.and_then(|version| version.parse().ok());
    Some((table.expect("a table of ours").0, version.expect("a row has a version")))
}
