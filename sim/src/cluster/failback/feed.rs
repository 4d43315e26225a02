//! Changefeeds and the tables that they tell of: what they bring next, what they promise, and what they
//! bring again.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::model::mutation::TableId;
use replicator_core::model::position::Position;
use replicator_core::model::time::Hlc;
use tokio::sync::Notify;

use super::json;
use super::times::{before, time_of, wall};
use crate::cluster::reach::{Reach, Reached};
use crate::cluster::trace::say;
use crate::database::{Database, Rows};
use crate::fault::Setup;
use crate::model::{Commit, History};
use crate::random::Random;
use crate::schema::{Tuple, index, schema};
use crate::story::{Statement, Writer};
use crate::workload::{self, Draft, drafted};

/// How feeds behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Habits {
    /// How many there are whose URL is the schema's.
    pub(super) feeds: usize,
    /// The tables that have one whose URL names them.
    pub(super) own: Vec<TableId>,
    /// Requests with rows of one feed at the same time, at most.
    pub(super) lanes_max: usize,
    /// Rows of a request, at most.
    pub(super) rows_max: usize,
}

/// The source's tables and its feeds. Clones are the same; they outlive the feeder's processes.
#[derive(Clone, Debug)]
pub(super) struct Feeds {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    setup: Setup,
    habits: Habits,
    database: Database,
    version: i64,
    history: History,
    // What the feeds bring, in the order of its times.
    rows: Vec<FedRow>,
    // What is committed from here on has a greater time.
    closed: Hlc,
    feeds: Vec<Feed>,
    // The greatest promise that each has sent, and that was answered of any.
    promised: Vec<Hlc>,
    kept: Hlc,
    // Whether nothing is promised for the time being.
    silent: bool,
    random: Random,
    reach: Reach,
}

#[derive(Debug)]
struct FedRow {
    time: Hlc,
    feed: usize,
    hash: usize,
    text: String,
    // Whether it is durable, as far as anybody was told.
    answered: bool,
}

#[derive(Debug)]
struct Feed {
    // Grows when it is made again. Whoever works for an older one ends.
    generation: u64,
    lanes: Vec<Lane>,
    // The greatest promise that was answered since then.
    promised: Hlc,
    // From where it goes on after the death of its process.
    saved: Hlc,
    // How often it is to bring again what it has brought.
    repeats: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    // All rows of the lane before this one were answered.
    next: usize,
    // Whether a request is under way.
    asks: bool,
}

/// Part of a feed that works by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) feed: usize,
    pub(super) generation: u64,
    pub(super) lane: usize,
}

/// What a lane is to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// The feed was made again.
    Gone,
    /// Nothing, until something changes.
    Idle,
    /// To bring rows.
    Bring(Batch),
}

/// Rows to bring.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) body: String,
    rows: Vec<usize>,
    // Where the lane goes on. `None` if they are brought again.
    through: Option<usize>,
}

impl Feeds {
    /// Feeds of empty tables.
    pub(super) fn new(setup: Setup, habits: Habits, mut random: Random) -> Self {
        let feed = |_| Feed {
            generation: 0,
            lanes: vec![Lane::default(); random.within(1, habits.lanes_max)],
            promised: Hlc::default(),
            saved: Hlc::default(),
            repeats: 0,
        };
        let feeds: Vec<Feed> = (0..habits.feeds + habits.own.len()).map(feed).collect();
        let promised = vec![Hlc::default(); feeds.len()];
        let state = State {
            setup,
            habits,
            database: Database::new(false),
            version: 0,
            history: History::default(),
            rows: Vec::new(),
            closed: Hlc::default(),
            feeds,
            promised,
            kept: Hlc::default(),
            silent: false,
            random,
            reach: Reach::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default() }
    }

    /// A client commits a transaction, or tries to. `random` decides what is in it.
    pub(super) fn commit(&self, number: usize, mut random: Random) {
        let mut state = self.lock();
        let State { setup, database, version, .. } = &*state;
        let Some(draft) = workload::transaction(setup, database, *version, &mut random) else {
            return;
        };
        let (before, now) = (state.closed, wall(random.below(1_000)));
        // Two commits may share a nanosecond.
        let time = if before < now && random.chance(80) { now } else { before.next() };
        state.commit(number, draft, time);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A client commits one statement.
    pub(super) fn run(&self, number: usize, statement: &Statement) {
        let mut state = self.lock();
        let State { setup, database, version, .. } = &*state;
        let mut random = Random::new(0);
        let (version, database) = (*version, database.clone());
        let mut writer = Writer { setup, random: &mut random, version, database };
        let statement = writer.stamped(statement);
        let mut done = Vec::new();
        writer.run(statement, &mut done).expect("the source takes it");
        let after = (writer.database, writer.version);
        let draft = drafted(setup, &state.database, &done, after, 0).expect("something is done");
        let time = state.closed.next().max(wall(0));
        state.commit(number, draft, time);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A feed is made again, from an older time, as an operator does.
    pub(super) fn rewind(&self, random: &mut Random) {
        let mut state = self.lock();
        let feed = random.below(state.feeds.len());
        let promised = state.feeds[feed].promised;
        // What it had not promised would be lost.
        let times: Vec<Hlc> = state.history.commits().iter().map(time_of).collect();
        let count = times.partition_point(|time| *time <= promised);
        let cursor =
            random.below(count + 1).checked_sub(1).map_or_else(Hlc::default, |at| times[at]);
        state.begin(feed, cursor);
        self.changed.notify_waiters();
    }

    /// All feeds are made again, from the beginning.
    pub(super) fn rewind_all(&self) {
        let mut state = self.lock();
        (0..state.feeds.len()).for_each(|feed| state.begin(feed, Hlc::default()));
        drop(state);
        self.changed.notify_waiters();
    }

    /// A feed brings some of its rows again.
    pub(super) fn repeat(&self, random: &mut Random) {
        let mut state = self.lock();
        let feed = random.below(state.feeds.len());
        state.feeds[feed].repeats += random.within(1, 4);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The process that brings the rows has died and comes back with what it had saved.
    pub(super) fn restart(&self) {
        let mut state = self.lock();
        for feed in 0..state.feeds.len() {
            let saved = state.feeds[feed].saved;
            state.begin(feed, saved);
        }
    }

    /// The program is about to die.
    pub(super) fn note_death(&self) {
        let mut state = self.lock();
        let asks = state.feeds.iter().flat_map(|feed| &feed.lanes).filter(|lane| lane.asks).count();
        state.reach.add(Reached::DiedUnanswered, asks);
    }

    /// Waits until something has changed since the call.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + use<'_> {
        self.changed.notified()
    }

    /// How feeds are made up now: generations, with their lanes.
    pub(super) fn made_up(&self) -> Vec<(u64, usize)> {
        self.lock().feeds.iter().map(|feed| (feed.generation, feed.lanes.len())).collect()
    }

    /// A number for somebody who draws.
    pub(super) fn word(&self) -> u64 {
        self.lock().random.word()
    }

    /// What a lane brings next.
    pub(super) fn next(&self, part: Part) -> Next {
        let mut state = self.lock();
        if state.feeds[part.feed].generation != part.generation {
            return Next::Gone;
        }
        let count = state.habits.rows_max;
        let count = state.random.within(1, count);
        let again = state.again(part, count).map(|rows| (rows, None));
        let Some((mut rows, through)) = again.or_else(|| state.fresh(part, count)) else {
            return Next::Idle;
        };
        if state.random.chance(30) {
            // Those of one row stay in their order.
            rows.sort_by_key(|row| state.rows[*row].hash);
        }
        state.feeds[part.feed].lanes[part.lane].asks = true;
        let late = rows.iter().filter(|row| state.rows[**row].time <= state.kept).count();
        let again = rows.iter().filter(|row| state.rows[**row].answered).count();
        state.reach.add(Reached::LateRows, late);
        state.reach.add(Reached::BroughtAgain, again);
        let texts: Vec<&str> = rows.iter().map(|row| state.rows[*row].text.as_str()).collect();
        Next::Bring(Batch { body: json::rows(&texts), rows, through })
    }

    /// Rows were answered with success, or were not.
    pub(super) fn answered(&self, part: Part, batch: &Batch, success: bool) {
        let mut state = self.lock();
        if success {
            batch.rows.iter().for_each(|row| state.rows[*row].answered = true);
        }
        let feed = &mut state.feeds[part.feed];
        if feed.generation == part.generation {
            let lane = &mut feed.lanes[part.lane];
            lane.asks = false;
            lane.next = batch.through.filter(|_| success).unwrap_or(lane.next);
        }
    }

    /// Whether nothing is promised from here on.
    pub(super) fn set_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    /// Whether nothing is promised for the time being.
    pub(super) fn is_silent(&self) -> bool {
        self.lock().silent
    }

    /// What a feed promises now; `None` if it was made again.
    pub(super) fn promise(&self, feed: usize, generation: u64) -> Option<Hlc> {
        let mut state = self.lock();
        if state.feeds[feed].generation != generation {
            return None;
        }
        let most = state.complete(feed);
        let time = match state.random.below(10) {
            // Not more than was promised before.
            0 => most.min(state.feeds[feed].promised),
            // With one of the commits.
            1 | 2 => {
                let commits = state.history.commits();
                let count = commits.partition_point(|commit| time_of(commit) <= most);
                let commit = count.checked_sub(1).map(|last| time_of(&commits[last]));
                commit.unwrap_or(most)
            }
            _ => most,
        };
        let among = state.feeds.iter().flat_map(|feed| &feed.lanes).any(|lane| lane.asks);
        let again = time <= state.kept && Hlc::default() < state.kept;
        state.reach.add(Reached::PromiseAmongRows, usize::from(among));
        state.reach.add(Reached::PromisedAgain, usize::from(again));
        state.promised[feed] = state.promised[feed].max(time);
        Some(time)
    }

    /// A promise was answered with success.
    pub(super) fn promised(&self, feed: usize, generation: u64, time: Hlc) {
        let mut state = self.lock();
        state.kept = state.kept.max(time);
        let saves = state.random.chance(50);
        let feed = &mut state.feeds[feed];
        if feed.generation == generation {
            feed.promised = feed.promised.max(time);
            if saves {
                feed.saved = feed.promised;
            }
        }
    }

    /// The greatest time that was ever promised, by all who can be told apart.
    pub(super) fn promised_max(&self) -> Hlc {
        let state = self.lock();
        let (schema, own) = state.promised.split_at(state.habits.feeds);
        let schema = schema.iter().max().copied().unwrap_or_default();
        own.iter().copied().fold(schema, Hlc::min)
    }

    /// What the URL of each feed has behind that of the schema.
    pub(super) fn paths(&self) -> Vec<String> {
        let state = self.lock();
        let Habits { feeds, own, .. } = &state.habits;
        let own = own.iter().map(|table| format!("/{}", schema().name(*table)));
        std::iter::repeat_n(String::new(), *feeds).chain(own).collect()
    }

    /// When the last transaction was committed.
    pub(super) fn end(&self) -> Hlc {
        self.with_history(|history| history.commits().last().map(time_of).unwrap_or_default())
    }

    /// Whether all rows and the promises of all of them were answered.
    pub(super) fn is_done(&self) -> bool {
        let end = self.end();
        let mut state = self.lock();
        (0..state.feeds.len())
            .all(|feed| end <= state.complete(feed) && end <= state.feeds[feed].promised)
    }

    /// Looks at the history.
    pub(super) fn with_history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock().history)
    }

    /// The rows of a table as they are now.
    pub(super) fn rows(&self, table: TableId) -> Rows {
        self.lock().database.rows(table).clone()
    }

    /// What was reached.
    pub(super) fn reach(&self) -> Reach {
        self.lock().reach.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn commit(&mut self, number: usize, draft: Draft, time: Hlc) {
        say("source", format_args!("commits {number}: {} rows at {time}", draft.changes.len()));
        for change in &draft.changes {
            let Habits { feeds, own, .. } = &self.habits;
            let (feed, text) = match own.iter().position(|table| *table == change.table) {
                Some(own) => (feeds + own, json::result(change, time)),
                None => (index(change.table) % feeds, json::row(change, time)),
            };
            self.rows.push(FedRow {
                time,
                feed,
                hash: hash(change.table, &change.key),
                text,
                answered: false,
            });
        }
        self.version = draft.version;
        self.database = draft.after;
        self.history.push(Commit {
            before: Position::Hlc(self.closed),
            position: Position::Hlc(time),
            mutations: draft.mutations,
            changes: draft.changes,
            divisible: draft.divisible,
        });
        self.closed = time;
    }

    /// A feed begins after a time, which it has promised.
    fn begin(&mut self, feed: usize, cursor: Hlc) {
        let next = self.rows.partition_point(|row| row.time <= cursor);
        let lanes = self.random.within(1, self.habits.lanes_max);
        let had = &mut self.feeds[feed];
        had.generation += 1;
        had.lanes = vec![Lane { next, asks: false }; lanes];
        had.promised = cursor;
        had.saved = cursor;
        say("feeder", format_args!("feed {feed} begins after {cursor} on {lanes} lanes"));
    }

    fn is_of(&self, row: usize, part: Part) -> bool {
        let FedRow { feed, hash, .. } = self.rows[row];
        feed == part.feed && hash % self.feeds[feed].lanes.len() == part.lane
    }

    /// Rows that a lane has brought already, if it is to bring some again.
    fn again(&mut self, part: Part, count: usize) -> Option<Vec<usize>> {
        let next = self.feeds[part.feed].lanes[part.lane].next;
        if self.feeds[part.feed].repeats == 0 || next == 0 || self.random.chance(50) {
            return None;
        }
        let from = self.random.below(next);
        let rows: Vec<usize> =
            (from..next).filter(|row| self.is_of(*row, part)).take(count).collect();
        if rows.is_empty() {
            return None;
        }
        self.feeds[part.feed].repeats -= 1;
        Some(rows)
    }

    /// The rows of a lane that come next, and where it goes on after them.
    fn fresh(&mut self, part: Part, count: usize) -> Option<(Vec<usize>, Option<usize>)> {
        let next = self.feeds[part.feed].lanes[part.lane].next;
        let rows: Vec<usize> =
            (next..self.rows.len()).filter(|row| self.is_of(*row, part)).take(count).collect();
        match rows.last() {
            Some(last) => {
                let through = last + 1;
                Some((rows, Some(through)))
            }
            None => {
                self.feeds[part.feed].lanes[part.lane].next = self.rows.len();
                None
            }
        }
    }

    /// The greatest time up to which a feed has brought all, and nothing will be committed any more.
    fn complete(&mut self, feed: usize) -> Hlc {
        let generation = self.feeds[feed].generation;
        let missing = |lane: usize| {
            let part = Part { feed, generation, lane };
            let next = self.feeds[feed].lanes[lane].next;
            (next..self.rows.len()).find(|row| self.is_of(*row, part))
        };
        match (0..self.feeds[feed].lanes.len()).filter_map(missing).min() {
            Some(row) => before(self.rows[row].time),
            None => {
                // It goes on, also where the calendar was set back.
                let next = Hlc { nanos: self.closed.nanos + 1_000, logical: 0 };
                self.closed = next.max(wall(0));
                self.closed
            }
        }
    }
}

/// The same for all changes of a row.
fn hash(table: TableId, key: &Tuple) -> usize {
    let numbers = key.iter().map(|value| value.map_or(7, i64::unsigned_abs));
    let mut random = Random::new(numbers.fold(u64::from(table.0), |sum, number| {
        Random::new(sum.wrapping_mul(31).wrapping_add(number)).word()
    }));
    random.below(1 << 20)
}
