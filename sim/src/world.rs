//! A world without sockets: the machine, its effects, and a source, a target and staging in memory.
//!
//! The caller picks the next [`Action`], so that a property test, a fuzzer or a seeded loop can all
//! drive it. Every promise is checked after every action.
use std::collections::BTreeMap;
use std::time::Duration;

use replicator_core::model::mutation::{ApplyOrder, ApplyRequest, Mutation, Piece};
use replicator_core::model::position::{Lsn, OpId, Position, TxSeq};
use replicator_core::model::time::{Hlc, MonoTime};
use replicator_core::{Demand, Effect, Event, Failure, OnReject, Stop};

use crate::action::{Action, Fault};
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
use crate::target::{Mood, Outcome, Target};
use crate::workload;

/// Most transactions of one world.
const COMMITS_MAX: usize = 60;
/// Most effects of dead runs that are still on the wire.
const LATE_MAX: usize = 16;
/// Most rounds until a world without faults must be done.
const ROUNDS_MAX: usize = 600;
/// Effects that are done in one round. Enough for all that one event leads to, mostly.
const EFFECTS_MAX: usize = 8;

/// The world.
#[derive(Debug)]
pub struct World {
    setup: Setup,
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
        let (fence, durable) = store.begin();
        let now = MonoTime::START;
        Self {
            now,
            run: Run::begin(setup.config, fence, durable, now),
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
                self.act(&Action::Succeed(0));
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
        property::i1_marks_are_in_order(&self.history, &self.ledger, store, acknowledged, &status);
        let is_staging =
            |effect: &&Effect| matches!(effect, Effect::Stage { .. } | Effect::SaveResolved { .. });
        let staging = self.pending.iter().filter(is_staging).count();
        property::i8_queues_are_bounded(&self.setup.config, &status, staging, self.event_bytes);
        let due = self.run.next_deadline().is_some_and(|at| at <= self.now);
        assert!(!due, "the machine asks to be woken at a time that has passed");
        self.coverage.mark_if(status.waiting > 0, Seen::BatchWaits);
        // A run knows the state of the target once it has passed what earlier runs brought in.
        let known = self.run.durable.applied.iter().map(|run| run.through).max();
        if status.applies == 0 && status.waiting == 0 && known <= status.applied {
            let count = self.history.count_through(status.applied);
            let model = self.model.after(&self.history, count, &self.ledger.dead);
            property::the_target_is_a_prefix(self.target.database(), model);
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
        let before = self.clock + random.pick(&[0, 0, 1]);
        self.clock = before + random.pick(&[1, 2]);
        self.coverage.mark_if(hands_over(&self.database, &draft.after), Seen::HandOver);
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
            | Event::DeadlineReached => 0,
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
            ApplyOrder::RowWise(_) => self.coverage.mark(Seen::RowWise),
        }
        let had = self.batches.insert(batch.first, batch.last);
        self.coverage.mark_if(had.is_some_and(|had| batch.last < had), Seen::Halved);
    }

    /// The run is over.
    fn stopped(&mut self, stop: &Stop) {
        self.say(|| format!("< stop: {stop}"));
        match stop {
            Stop::PositionWentBack { .. } | Stop::UnknownPartition { .. } => {
                panic!("the machine accuses an honest source: {stop}")
            }
            Stop::Rejected { .. } => {
                let for_a_reason = self.setup.limits || self.setup.faults.refusals > 0;
                assert!(for_a_reason, "the target refuses what the source accepted: {stop}");
            }
            Stop::RetriesExhausted { .. } => self.coverage.mark(Seen::RetriesExhausted),
            Stop::PieceLost { .. } => self.coverage.mark(Seen::PieceLost),
            Stop::StagingFailed { .. } => self.coverage.mark(Seen::StagingLost),
            Stop::Fenced => {
                assert!(self.run.fence < self.newest_fence, "fenced without another run");
                self.coverage.mark(Seen::Fenced);
            }
        }
        self.restart();
    }

    fn crash(&mut self, arrives: u64) {
        let applying = |effect: &&Effect| matches!(effect, Effect::Apply { .. });
        let running = self.pending.iter().filter(applying).count();
        self.coverage.mark_if(running < self.run.status().applies, Seen::RetryAtCrash);
        self.coverage.mark_if(self.target.is_open(), Seen::PiecesAtCrash);
        let fence = self.run.fence;
        let pending = std::mem::take(&mut self.pending);
        for (number, effect) in (0_u32..).zip(pending) {
            if arrives >> (number % 64) & 1 == 1 {
                self.arrive(fence, &effect, Mood::Calm).ok();
            } else {
                self.late.push((fence, effect));
            }
        }
        self.restart();
    }

    /// Resumes from what is durable.
    fn restart(&mut self) {
        self.run.i9_it_can_be_played_again();
        let fence = self.run.fence;
        self.late.extend(self.pending.drain(..).map(|effect| (fence, effect)));
        let too_many = self.late.len().saturating_sub(LATE_MAX);
        self.late.drain(..too_many);
        self.target.hang_up();
        self.batches.clear();
        let (fence, durable) = self.target.store.begin();
        self.newest_fence = fence;
        self.say(|| format!("= resume from {durable:?}"));
        self.run = Run::begin(self.setup.config, fence, durable, self.now);
        self.source.reconnect(&self.history, self.setup.pieces);
    }

    fn finish(&mut self, number: usize, fault: Option<Fault>) {
        if self.pending.is_empty() {
            return;
        }
        let effect = self.pending.remove(number % self.pending.len());
        let (op, fence) = (op_of(&effect), self.run.fence);
        let outcome = match fault {
            None => self.arrive(fence, &effect, Mood::Calm),
            Some(fault) => self.fail(&effect, fault),
        };
        let event = match outcome {
            Ok(Arrival::Done) => Event::Done(op),
            Ok(Arrival::Known) => {
                self.coverage.mark(Seen::RepeatRecognised);
                Event::Done(op)
            }
            Ok(Arrival::Page(event)) => event,
            Err(failure) => Event::Failed { op, failure },
        };
        self.step(event);
    }

    fn fail(&mut self, effect: &Effect, fault: Fault) -> Result<Arrival, Failure> {
        let fence = self.run.fence;
        let detail = "the network".to_owned();
        let is_piece = match effect {
            Effect::Apply { request, .. } => request.batch.piece != Piece::Whole,
            Effect::Acknowledge(_)
            | Effect::Answer(_)
            | Effect::ReadStaged { .. }
            | Effect::RetireStaged { .. }
            | Effect::SaveCheckpoint { .. }
            | Effect::SaveResolved { .. }
            | Effect::Stage { .. } => false,
        };
        let failure = match fault {
            Fault::Transient => Failure::Transient { detail },
            Fault::Lost => Failure::OutcomeUnknown { detail },
            Fault::Unanswered => {
                self.arrive(fence, effect, Mood::Calm).ok();
                Failure::OutcomeUnknown { detail }
            }
            Fault::Delayed => {
                self.late.push((fence, effect.clone()));
                Failure::OutcomeUnknown { detail }
            }
            Fault::Statement(number) => {
                return self.arrive(fence, effect, Mood::RefusesStatement(number));
            }
            Fault::Commit => return self.arrive(fence, effect, Mood::RefusesCommit),
        };
        if is_piece {
            self.target.hang_up();
        }
        Err(failure)
    }

    fn late(&mut self, number: usize) {
        if self.late.is_empty() {
            return;
        }
        let (fence, effect) = self.late.remove(number % self.late.len());
        if let Effect::Apply { request, .. } = &effect
            && request.batch.piece != Piece::Whole
        {
            // Its transaction is gone.
            return;
        }
        match self.arrive(fence, &effect, Mood::Calm) {
            Ok(Arrival::Known) => self.coverage.mark(Seen::DuplicateRefused),
            Ok(Arrival::Done | Arrival::Page(_)) => (),
            Err(failure) => {
                self.coverage.mark_if(failure == Failure::Fenced, Seen::LateRefused);
            }
        }
    }

    /// What an effect does where it arrives.
    fn arrive(&mut self, fence: Fence, effect: &Effect, mood: Mood) -> Result<Arrival, Failure> {
        if let Effect::ReadStaged { op, after, through, rows_max } = effect {
            let (rows, exhausted) = self.target.store.read(*after, *through, *rows_max);
            self.coverage.mark_if(!exhausted, Seen::Paged);
            let bytes = rows.iter().map(|row| row.mutation.len_bytes()).sum();
            self.event_bytes = self.event_bytes.max(bytes);
            return Ok(Arrival::Page(Event::StagedRead { op: *op, rows, exhausted }));
        }
        if !self.target.store.admits(fence) {
            return Err(Failure::Fenced);
        }
        property::i7_the_fence_holds(self.newest_fence, fence);
        let store = &mut self.target.store;
        match effect {
            Effect::Apply { request, .. } => return self.apply(fence, request, mood),
            Effect::RetireStaged { through, .. } => {
                property::i6_only_what_is_saved_is_retired(store, *through);
                store.retire(*through);
            }
            Effect::SaveCheckpoint { position, .. } => {
                let idle = self.history.find(*position).is_none();
                self.coverage.mark_if(idle, Seen::IdleSaved);
                store.save_checkpoint(*position);
            }
            Effect::SaveResolved { partition, resolved, .. } => {
                let partition_index = usize::try_from(partition.0).expect("few partitions");
                property::i5_a_promise_comes_after_its_rows(
                    &self.history,
                    store,
                    partition_index,
                    *resolved,
                );
                store.save_resolved(*partition, *resolved);
            }
            Effect::Stage { rows, .. } => store.stage(rows),
            Effect::ReadStaged { .. } | Effect::Acknowledge(_) | Effect::Answer(_) => {
                unreachable!("changes nothing")
            }
        }
        Ok(Arrival::Done)
    }

    fn apply(
        &mut self,
        fence: Fence,
        request: &ApplyRequest,
        mood: Mood,
    ) -> Result<Arrival, Failure> {
        let batch = &request.batch;
        match self.target.apply(fence, request, mood)? {
            Outcome::Known => Ok(Arrival::Known),
            Outcome::Open => Ok(Arrival::Done),
            Outcome::Committed(contents) => {
                let newer = self.history.count_through(Some(batch.position));
                self.coverage.mark_if(self.ledger.reaches(newer), Seen::OutOfOrder);
                self.coverage.mark_if(!contents.dead.is_empty(), Seen::DeadLetter);
                self.coverage.mark_if(batch.piece == Piece::Last, Seen::PiecesCommitted);
                let count = self.ledger.commit(&self.history, batch, &contents);
                self.coverage.mark_if(count > 1, Seen::GroupCommit);
                self.readers.look(self.target.database());
                Ok(Arrival::Done)
            }
        }
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

/// What an effect that arrived has to tell.
enum Arrival {
    Done,
    Known,
    Page(Event),
}

fn time(clock: u64) -> Hlc {
    Hlc { nanos: clock / 4, logical: u32::try_from(clock % 4).expect("less than 4") }
}

fn bytes_of(mutations: &[Mutation]) -> usize {
    mutations.iter().map(Mutation::len_bytes).sum()
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

fn op_of(effect: &Effect) -> OpId {
    match effect {
        Effect::Apply { op, .. }
        | Effect::ReadStaged { op, .. }
        | Effect::RetireStaged { op, .. }
        | Effect::SaveCheckpoint { op, .. }
        | Effect::SaveResolved { op, .. }
        | Effect::Stage { op, .. } => *op,
        Effect::Acknowledge(_) | Effect::Answer(_) => unreachable!("never pending"),
    }
}
