//! A world without sockets: the machine, its effects, and a source, a target and staging in memory.
//!
//! The caller picks the next [`Action`], so that a property test, a fuzzer or a seeded loop can all
//! drive it. Every promise is checked after every action.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::model::catalog::Table;
use replicator_core::model::mutation::{ApplyOrder, ApplyRequest, Change, Mutation};
use replicator_core::model::position::{Lsn, Position, TxSeq};
use replicator_core::model::time::{Hlc, MonoTime};
use replicator_core::record::Values;
use replicator_core::{Demand, Effect, Event, OnReject};

use crate::action::Action;
use crate::coverage::{Coverage, Seen};
use crate::database::Database;
use crate::fault::{Faults, Kind, Setup};
use crate::model::{Commit, History, Model};
use crate::property::{self, Ledger, Readers};
use crate::random::Random;
use crate::run::Run;
use crate::schema::schema;
use crate::source::{self, Message, PARTITIONS, Source};
use crate::store::{Fence, Store};
use crate::tape::Tape;
use crate::target::Target;
use crate::workload::{self, Draft};

mod tiny;
mod wire;

pub use self::tiny::Bounds;

/// Most transactions of one world.
const COMMITS_MAX: usize = 60;
/// Most rounds until a world without faults must be done.
const ROUNDS_MAX: usize = 600;
/// Effects that are done in one round. Enough for all that one event leads to, mostly.
const EFFECTS_MAX: usize = 8;

/// The world.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    // Whether the target accepts whatever the source accepted.
    lenient: bool,
    now: MonoTime,
    run: Run,
    // The newest fence that anybody was given.
    newest_fence: Fence,
    pending: Vec<Effect>,
    // Effects that were given up and are still on the wire, with the fence they carry.
    late: Vec<(Fence, Effect)>,
    // The source.
    clock: u64,
    version: i64,
    database: Database,
    history: History,
    source: Source,
    // The target, staging included.
    target: Target,
    ledger: Ledger,
    readers: Readers,
    model: Model,
    // How many source and target transactions there were when the target was last found to be right.
    compared: Option<(usize, usize)>,
    // What was seen.
    event_bytes: usize,
    batches: BTreeMap<TxSeq, TxSeq>,
    coverage: Coverage,
    trace: Option<Vec<String>>,
}

/// The world came to rest in a state that it should not rest in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing moves any more: {what}")]
pub struct NotLive {
    what: String,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let partitions = if setup.kind == Kind::Changefeed { PARTITIONS } else { 0 };
        let mut store = Store::new(partitions);
        let lenient = !setup.limits && setup.faults.refusals == 0;
        // Rows whose keys cannot be compared have no last value that can be told.
        let nets = |table: &Table| table.nets() || !setup.tables.contains(&&*table.name.table);
        let comparable = schema().catalog.tables().all(|(_, table)| nets(table));
        match (setup.kind, setup.config.seed % 4) {
            (Kind::Changefeed, 0 | 2) if lenient && comparable => store.keep_no_records(),
            (Kind::Changefeed, 1) => store.keep_horizon(),
            (Kind::Changefeed | Kind::Ordered, _) => (),
        }
        let (fence, durable) = store.begin();
        let now = MonoTime::START;
        Self {
            lenient,
            now,
            run: Run::begin(&setup, &store, fence, durable, now),
            newest_fence: fence,
            pending: Vec::new(),
            late: Vec::new(),
            clock: 10,
            version: 0,
            database: Database::new(false),
            history: History::default(),
            source: Source::new(setup.kind, Random::new(setup.config.seed)),
            target: Target::new(store, setup.limits),
            ledger: Ledger::default(),
            readers: Readers::default(),
            model: Model::new(),
            compared: None,
            event_bytes: 0,
            batches: BTreeMap::new(),
            coverage: Coverage::default(),
            trace: None,
            setup,
        }
    }

    /// Keeps one line for everything that happens.
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// Takes the lines out.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Records all runs. Nothing must have happened yet.
    pub fn record(&mut self, values: Values) {
        // A recording does not say what a target that tells nothing needs; the product records none of those.
        self.target.store.keep_records();
        let (fence, durable) = (self.run.fence, self.run.durable.clone());
        self.run = Run::begin(&self.setup, &self.target.store, fence, durable, self.now);
        self.run.record(Tape::new(values));
    }

    /// Takes the recording out.
    pub fn take_recording(&mut self) -> Option<Arc<[u8]>> {
        self.run.take_tape().map(Tape::finish)
    }

    /// What was reached so far.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Does one action, then checks every promise.
    pub fn act(&mut self, action: &Action) {
        self.say(|| format!("# {action:?}"));
        match action {
            Action::Commit(seed) => self.commit(*seed),
            Action::Send(partition) => self.send(*partition),
            Action::Idle => self.idle(),
            Action::Resolve(partition) => self.resolve(*partition),
            Action::Rewind(partition) => {
                self.source.rewind(&self.history, *partition, self.setup.pieces);
                // An ordered source has one connection, and it is gone.
                if self.setup.kind == Kind::Ordered {
                    self.restart();
                }
            }
            Action::Succeed(number) => self.finish(*number, None),
            Action::Fail(number, fault) => self.finish(*number, Some(*fault)),
            Action::Late(number) => self.late(*number),
            Action::Wait(millis) => self.wait(Duration::from_millis(*millis)),
            Action::Crash(arrives) => self.crash(*arrives),
            Action::Stop => self.stop(),
            Action::Usurp => (self.newest_fence, _) = self.target.store.begin(),
        }
        self.check();
    }

    /// Ends all faults and runs until nothing is left to do; then the target must be the source.
    ///
    /// # Errors
    ///
    /// It is not, or it never came to an end.
    pub fn settle(&mut self) -> Result<(), NotLive> {
        self.setup.faults = Faults::NONE;
        if self.setup.config.on_reject == OnReject::Stop {
            self.target.relent();
        }
        for _ in 0..ROUNDS_MAX {
            if self.is_settled() {
                self.run.i9_it_can_be_played_again();
                return Ok(());
            }
            // A source that is idle says so now and then.
            if self.source.is_silent() {
                self.clock += 1;
                self.idle();
                (0..2).for_each(|partition| self.resolve(partition));
            }
            for partition in 0..2 {
                self.act(&Action::Send(partition));
            }
            for _ in 0..EFFECTS_MAX {
                if !self.pending.is_empty() {
                    self.act(&Action::Succeed(0));
                }
            }
            self.act(&Action::Wait(60));
        }
        let status = self.run.status();
        let (end, saved) = (self.history.end(), self.target.store.checkpoint());
        let what = format!("the source ends at {end:?}, the checkpoint is {saved:?}, {status:?}");
        Err(NotLive { what })
    }

    /// Everything is in the target and saved, and nothing is left in staging.
    fn is_settled(&mut self) -> bool {
        let saved = self.target.store.checkpoint();
        let heard = self.setup.kind == Kind::Changefeed || self.source.acknowledged() == saved;
        let done = self.history.end() <= saved
            && heard
            && self.source.is_silent()
            && self.target.store.staged_len() == 0
            && self.run.status().applies == 0;
        if done {
            let count = self.history.commits().len();
            let model = self.model.after(&self.history, count, &self.ledger.dead);
            property::the_target_is_a_prefix(self.target.database(), model);
        }
        done
    }

    fn check(&mut self) {
        let status = self.run.status();
        let (store, acknowledged) = (&self.target.store, self.source.acknowledged());
        let ledger = &mut self.ledger;
        property::i1_marks_are_in_order(&self.history, ledger, store, acknowledged, &status);
        let is_staging =
            |effect: &&Effect| matches!(effect, Effect::Stage { .. } | Effect::SaveResolved { .. });
        let staging = self.pending.iter().filter(is_staging).count();
        let replays = status.applied < self.run.horizon().map(Position::Hlc);
        let event_bytes = (!replays).then_some(self.event_bytes);
        property::i8_queues_are_bounded(&self.setup.config, &status, staging, event_bytes);
        let due = self.run.next_deadline().is_some_and(|at| at <= self.now);
        assert!(!due, "the machine asks to be woken at a time that has passed");
        self.coverage.mark_if(status.waiting > 0, Seen::BatchWaits);
        // A run knows the state of the target once it has passed what earlier runs brought in.
        let known = self.run.durable.applied.iter().map(|run| run.through).max();
        let known = known.max(self.run.horizon().map(Position::Hlc));
        if status.applies == 0 && status.waiting == 0 && known <= status.applied {
            let count = self.history.count_through(status.applied);
            // Nothing but a commit changes the target.
            let state = Some((count, self.ledger.commits));
            if self.compared != state {
                let model = self.model.after(&self.history, count, &self.ledger.dead);
                property::the_target_is_a_prefix(self.target.database(), model);
                self.compared = state;
            }
        }
    }

    fn commit(&mut self, seed: u64) {
        if self.history.commits().len() >= COMMITS_MAX {
            return;
        }
        let mut random = Random::new(seed);
        let (setup, database) = (&self.setup, &self.database);
        let Some(draft) = workload::transaction(setup, database, self.version, &mut random) else {
            return;
        };
        self.push(draft, &mut random);
    }

    /// The source has committed.
    fn push(&mut self, draft: Draft, random: &mut Random) {
        let before = self.clock + random.pick(&[0, 0, 1]);
        self.clock = before + random.pick(&[1, 2]);
        self.coverage.mark_if(hands_over(&self.database, &draft.after), Seen::HandOver);
        self.coverage.mark_if(1_000 <= draft.mutations.len(), Seen::Large);
        self.version = draft.version;
        self.database = draft.after;
        self.history.push(Commit {
            before: self.position(before),
            position: self.position(self.clock),
            mutations: draft.mutations,
            changes: draft.changes,
            divisible: draft.divisible,
        });
        let tx = self.history.commits().len() - 1;
        self.source.push(&self.history, tx, self.setup.pieces);
    }

    fn position(&self, clock: u64) -> Position {
        match self.setup.kind {
            Kind::Ordered => Position::Lsn(Lsn(clock)),
            Kind::Changefeed => Position::Hlc(time(clock)),
        }
    }

    fn idle(&mut self) {
        if self.setup.kind == Kind::Ordered {
            self.clock += 1;
            self.source.push_idle(self.position(self.clock));
        }
    }

    fn resolve(&mut self, partition: usize) {
        if self.setup.kind == Kind::Changefeed {
            self.source.push_resolved(partition, time(self.clock));
        }
    }

    fn send(&mut self, partition: usize) {
        let partition = if self.setup.kind == Kind::Ordered { 0 } else { partition };
        if self.run.demand() == Demand::Pause {
            return self.coverage.mark(Seen::Pause);
        }
        let Some((request, message)) = self.source.next(partition) else { return };
        self.look_at(partition, &message);
        let event = source::event(&self.history, partition, request, &message);
        let bytes = match &event {
            Event::TransactionReceived(tx) => bytes_of(&tx.mutations),
            Event::PieceReceived { mutations, .. } => bytes_of(mutations),
            Event::IdleThrough(_)
            | Event::RowsReceived { .. }
            | Event::ResolvedReceived { .. }
            | Event::Done(_)
            | Event::StagedRead { .. }
            | Event::Failed { .. }
            | Event::DeadlineReached
            | Event::StopRequested => 0,
        };
        self.event_bytes = self.event_bytes.max(bytes);
        self.step(event);
    }

    /// Notes what is interesting about a message.
    fn look_at(&mut self, partition: usize, message: &Message) {
        let durable = &self.run.durable;
        match message {
            Message::Transaction(tx, _) => {
                let position = self.history.commits()[*tx].position;
                let covered = Some(position) <= durable.checkpoint;
                let applied = durable.applied.iter().any(|run| run.holds(position));
                self.coverage.mark_if(covered, Seen::ResentSkipped);
                self.coverage.mark_if(applied && !covered, Seen::AppliedSkipped);
            }
            Message::Rows(tx, _) => {
                let position = self.history.commits()[*tx].position;
                let again = Some(position) <= self.target.store.checkpoint();
                self.coverage.mark_if(again, Seen::StagedAgain);
            }
            Message::Resolved(time) => {
                let had = self.target.store.resolved(source::partition_id(partition));
                self.coverage.mark_if(*time < had, Seen::OlderPromise);
                let writing = self.pending.iter().any(|e| matches!(e, Effect::Stage { .. }));
                self.coverage.mark_if(writing, Seen::PromiseWaits);
            }
            Message::Piece(..) | Message::Idle(_) => (),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        if self.run.next_deadline().is_some_and(|at| at <= self.now) {
            self.step(Event::DeadlineReached);
        }
    }

    fn step(&mut self, event: Event) {
        self.say(|| format!("> {event}"));
        let effects = match self.run.step(self.now, event) {
            Ok(effects) => effects,
            Err(stop) => return self.stopped(&stop),
        };
        for effect in effects {
            self.say(|| format!("< {effect}"));
            match effect {
                Effect::Acknowledge(position) => self.source.acknowledge(position),
                Effect::Answer(request) => {
                    if let Some((partition, message)) = self.source.answered(request) {
                        let (history, store) = (&self.history, &self.target.store);
                        property::i2_answered_rows_are_durable(history, store, partition, &message);
                    }
                }
                Effect::Apply { op, request } => {
                    self.look_at_apply(&request);
                    self.pending.push(Effect::Apply { op, request });
                }
                Effect::ReadStaged { .. }
                | Effect::RetireStaged { .. }
                | Effect::SaveCheckpoint { .. }
                | Effect::SaveHorizon { .. }
                | Effect::SaveResolved { .. }
                | Effect::Stage { .. } => self.pending.push(effect),
            }
        }
    }

    fn look_at_apply(&mut self, request: &ApplyRequest) {
        let batch = &request.batch;
        let another = self.pending.iter().any(|effect| matches!(effect, Effect::Apply { .. }));
        self.coverage.mark_if(another, Seen::TwoBatches);
        match request.order {
            ApplyOrder::Netted => (),
            ApplyOrder::Source => self.coverage.mark(Seen::SourceOrder),
            ApplyOrder::Settled(_) => self.coverage.mark(Seen::Settled),
            ApplyOrder::RowWise(_) => self.coverage.mark(Seen::RowWise),
        }
        let moves = |mutation: &Mutation| matches!(mutation.change, Change::Move { .. });
        self.coverage.mark_if(batch.mutations.iter().any(moves), Seen::Moved);
        self.coverage.mark_if(is_altered(&batch.mutations), Seen::Altered);
        let had = self.batches.insert(batch.first, batch.last);
        self.coverage.mark_if(had.is_some_and(|had| batch.last < had), Seen::Halved);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

fn time(clock: u64) -> Hlc {
    Hlc { nanos: clock / 4, logical: u32::try_from(clock % 4).expect("less than 4") }
}

fn bytes_of(mutations: &[Mutation]) -> usize {
    mutations.iter().map(Mutation::len_bytes).sum()
}

/// Whether two neighbours are rows of one table that are laid out in two ways.
fn is_altered(mutations: &[Mutation]) -> bool {
    let layout = |mutation: &Mutation| mutation.change.row().map(|row| row.layout().clone());
    mutations.windows(2).any(|pair| match (layout(&pair[0]), layout(&pair[1])) {
        (Some(one), Some(two)) => one.table == two.table && one != two,
        (_, _) => false,
    })
}

/// Whether a unique value has gone from one row to another.
fn hands_over(before: &Database, after: &Database) -> bool {
    ["mail", "pair"].iter().any(|name| {
        let id = schema().id(name);
        let columns = schema().catalog.table(id).uniques[0].columns.as_ref();
        let values = |row: &crate::schema::Tuple| -> Vec<Option<i64>> {
            columns.into_iter().flatten().map(|column| row[usize::from(*column)]).collect()
        };
        after.rows(id).iter().any(|(key, row)| {
            let taken = values(row);
            taken.iter().all(Option::is_some)
                && before.rows(id).iter().any(|(old, had)| old != key && values(had) == taken)
        })
    })
}
