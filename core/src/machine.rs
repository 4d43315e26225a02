//! The machine: one target schema's replication, as a pure function of its events.
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use crate::config::{Config, OnReject};
use crate::effect::{Effect, Effects};
use crate::event::{Event, Failure};
use crate::flow::admit::{Admit, Admitted};
use crate::flow::apply::{Apply, Job};
use crate::flow::batch::{Ahead, Batch, Closed, Limits, OrderedPiece};
use crate::flow::breaker::Breaker;
use crate::flow::checkpoint::Checkpoint;
use crate::flow::frontier::Frontier;
use crate::flow::horizon::Horizon;
use crate::flow::pace::Pace;
use crate::flow::retire::Retire;
use crate::flow::schedule::Schedule;
use crate::flow::stage::{Promise, Stage};
use crate::flow::sweep::Sweep;
use crate::footprint::rules;
use crate::model::catalog::Catalog;
use crate::model::mutation::{
    ApplyBatch, ApplyOrder, ApplyRequest, Change, Mutation, OrderedTx, Piece,
};
use crate::model::position::{Applied, OpId, PartitionId, Position, Ticket};
use crate::model::time::{Hlc, MonoTime};
use crate::stop::Stop;

mod feed;
mod retry;
mod room;
mod view;

/// What survives a crash. The only way to build a machine, so that starting and recovering are one
/// piece of code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// All transactions up to here are in the target.
    pub checkpoint: Option<Position>,
    /// Runs of transactions beyond the checkpoint that are in the target.
    pub applied: Vec<Applied>,
    /// One entry per changefeed partition; empty for ordered sources.
    pub resolved: BTreeMap<PartitionId, Hlc>,
}

/// Whether the driver should read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Leave the source alone until the next step.
    Pause,
    /// Read the next message.
    Read,
}

/// See the [module docs](self).
#[derive(Debug)]
pub struct Machine {
    config: Config,
    catalog: Arc<Catalog>,
    now: MonoTime,
    last_op: OpId,
    // Nothing more is read, and nothing waits to be worth its while.
    stopping: bool,
    jitter: retry::Jitter,
    pause: retry::Pause,
    // Held in `schedule` and `apply`, not in the open batch.
    rows_scheduled: usize,
    bytes_scheduled: usize,
    // In the order a row passes them.
    admit: Admit,
    stage: Stage,
    frontier: Frontier,
    sweep: Sweep,
    horizon: Horizon,
    batch: Batch,
    schedule: Schedule<(ApplyBatch, usize)>,
    pace: Pace,
    apply: Apply,
    breaker: Breaker,
    checkpoint: Checkpoint,
    retire: Retire,
}

impl Machine {
    /// Builds a machine from what survived the last one.
    #[must_use]
    pub fn resume(config: Config, catalog: Arc<Catalog>, durable: Durable, now: MonoTime) -> Self {
        let swept = match durable.checkpoint {
            Some(Position::Hlc(hlc)) => hlc,
            Some(Position::Lsn(_) | Position::Ordinal(_)) | None => Hlc::default(),
        };
        let checkpoint = durable.checkpoint;
        let limits = Limits {
            rows: config.batch_rows_max,
            txs: config.batch_txs_max,
            growth: config.batch_growth_max,
            age: config.batch_age_max,
        };
        Self {
            config,
            now,
            last_op: OpId::default(),
            stopping: false,
            jitter: retry::Jitter::new(config.seed),
            pause: retry::Pause::default(),
            rows_scheduled: 0,
            bytes_scheduled: 0,
            admit: Admit::resume(checkpoint, durable.applied),
            stage: Stage::default(),
            frontier: Frontier::resume(durable.resolved),
            sweep: Sweep::resume(swept),
            horizon: Horizon::default(),
            batch: Batch::new(limits, checkpoint),
            schedule: Schedule::new(rules(&catalog)),
            pace: Pace::new(config.applies_max),
            apply: Apply::default(),
            breaker: Breaker::default(),
            checkpoint: Checkpoint::resume(checkpoint, config.save_interval),
            retire: Retire::default(),
            catalog,
        }
    }

    /// Takes one event and appends to `effects` what is to be done about it.
    ///
    /// # Errors
    ///
    /// The machine cannot go on; see [`Stop`]. Drop it and resume a new one.
    ///
    /// # Panics
    ///
    /// The driver broke its contract (time went back, a completion nobody waits for), or we have
    /// a bug.
    pub fn step(&mut self, now: MonoTime, event: Event, effects: &mut Effects) -> Result<(), Stop> {
        assert!(self.now <= now, "time went back");
        self.now = now;
        match event {
            Event::TransactionReceived(tx) => match self.admit.transaction(tx)? {
                Admitted::Known => (),
                Admitted::Placed(tx) => self.batch.push(now, &self.catalog, tx),
                Admitted::LastPiece(tx) => self.on_last_piece(tx),
            },
            Event::PieceReceived { before, mutations } => self.on_piece(before, mutations)?,
            Event::IdleThrough(position) => {
                if let Some(tx) = self.admit.idle_through(position) {
                    self.batch.push(now, &self.catalog, tx);
                }
            }
            Event::RowsReceived { request, rows } => self.on_rows(request, rows, effects),
            Event::ResolvedReceived { request, partition, resolved } => {
                if !self.frontier.knows(partition) {
                    return Err(Stop::UnknownPartition { partition });
                }
                self.stage.promise(Promise { partition, resolved, request });
            }
            Event::StagedRead { op, rows, exhausted } => self.on_page(op, rows, exhausted),
            Event::Done(op) => self.on_done(op, effects),
            Event::Failed { op, failure } => self.on_failed(op, failure, effects)?,
            Event::DeadlineReached => (),
            Event::StopRequested => {
                self.stopping = true;
                self.checkpoint.hurry();
            }
        }
        self.pump(effects);
        self.check();
        Ok(())
    }

    /// When to send [`Event::DeadlineReached`], if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        let save = self.checkpoint.deadline().map(|at| self.pause.end().max(at));
        let stations = [self.batch.deadline(), self.apply.deadline(), save];
        stations.into_iter().chain([self.pause.deadline(self.now)]).flatten().min()
    }

    /// Moves everything as far as it will go. Read this to see the whole route.
    fn pump(&mut self, effects: &mut Effects) {
        self.pump_stage(effects);
        let staging_answers = self.pause.is_over(self.now);
        self.pump_horizon(effects);
        let ahead = if self.stopping { Ahead::Nothing } else { self.batches_ahead() };
        if let Some(closed) = self.batch.take_ready(self.now, ahead) {
            self.schedule_batch(closed);
        }
        while let Some(job) = self.apply.take_rested(self.now) {
            self.start_apply(job, effects);
        }
        while self.apply.len() < self.pace.limit()
            && let Some((ticket, (batch, bytes))) = self.schedule.take_runnable()
        {
            self.start_batch(ticket, batch, bytes, effects);
        }
        // A batch that waits for rows which are staged cannot be finished without them.
        let swept = Position::Hlc(self.sweep.read_through());
        if staging_answers
            && (!self.stopping || self.batch.is_held_beyond(swept))
            && self.trunk_has_room()
            && let Some((after, through)) = self.sweep.next_range(self.frontier.group())
        {
            let op = self.next_op();
            self.sweep.started(op, through);
            let rows_max = self.config.read_rows_max;
            effects.push(Effect::ReadStaged { op, after, through, rows_max });
        }
        if self.schedule.len() == 0 && self.apply.len() < self.pace.limit() {
            self.pace.is_idle();
        }
        if staging_answers && let Some(position) = self.checkpoint.next_save(self.now) {
            let op = self.next_op();
            self.checkpoint.started(op, self.now, position);
            effects.push(Effect::SaveCheckpoint { op, position });
        }
        if staging_answers && let Some(through) = self.retire.next() {
            let op = self.next_op();
            self.retire.started(op, through);
            effects.push(Effect::RetireStaged { op, through });
        }
    }

    /// The open batch goes first, then the piece alone.
    fn on_piece(&mut self, before: Position, mutations: Vec<Mutation>) -> Result<(), Stop> {
        let first = !self.admit.is_in_pieces();
        let Some(seq) = self.admit.piece(before)? else { return Ok(()) };
        if let Some(closed) = self.batch.take_open() {
            self.schedule_batch(closed);
        }
        let piece = if first { Piece::First } else { Piece::Middle };
        let contents = OrderedPiece { committed: None, mutations };
        let closed = self.batch.piece(seq, piece, before, contents);
        self.schedule_batch(closed);
        Ok(())
    }

    fn on_last_piece(&mut self, tx: OrderedTx) {
        let OrderedTx { seq, position, committed, mutations } = tx;
        let contents = OrderedPiece { committed, mutations };
        let closed = self.batch.piece(seq, Piece::Last, position, contents);
        self.schedule_batch(closed);
    }

    fn on_done(&mut self, op: OpId, effects: &mut Effects) {
        if let Some(durable) = self.stage.rows_durable(op) {
            self.on_durable(durable, effects);
        } else if let Some(promise) = self.stage.save_finished(op) {
            self.frontier.advance(promise.partition, promise.resolved);
            effects.push(Effect::Answer(promise.request));
        } else if let Some(job) = self.apply.finish(op) {
            self.on_applied(job, effects);
        } else if let Some(position) = self.checkpoint.saved(op) {
            self.pause = retry::Pause::default();
            match position {
                Position::Hlc(through) => self.retire.allow(through),
                Position::Lsn(_) | Position::Ordinal(_) => {
                    effects.push(Effect::Acknowledge(position));
                }
            }
        } else {
            let known = self.retire.finished(op) || self.horizon.finished(op);
            assert!(known, "completion nobody waits for: {op}");
            self.pause = retry::Pause::default();
        }
    }

    fn on_applied(&mut self, mut job: Job, effects: &mut Effects) {
        if job.request.batch.piece.commits() {
            self.checkpoint.applied(&job.request.batch);
        }
        if job.request.dead.is_empty() {
            self.breaker.seen(job.request.batch.mutations.len());
        }
        if let Some(batch) = job.rest.pop() {
            job.request = self.request(batch);
            job.tries = 0;
            return self.start_apply(job, effects);
        }
        self.pace.applied(self.now, job.rows);
        self.schedule.release(job.ticket);
        self.rows_scheduled = self.rows_scheduled.saturating_sub(job.rows);
        self.bytes_scheduled = self.bytes_scheduled.saturating_sub(job.bytes);
    }

    fn on_failed(&mut self, op: OpId, failure: Failure, effects: &mut Effects) -> Result<(), Stop> {
        if failure == Failure::Fenced {
            return Err(Stop::Fenced);
        }
        if let Some(job) = self.apply.finish(op) {
            return self.on_apply_failed(job, failure, effects);
        }
        if let Failure::Rejected { detail, .. } = &failure
            && self.sweep.failed(op)
        {
            return Err(Stop::Unreadable { detail: detail.clone() });
        }
        // After a pause a lost read, save or retirement starts afresh.
        let again = self.sweep.failed(op) || self.checkpoint.failed(op) || self.retire.failed(op);
        if again || self.horizon.failed(op) {
            self.pause.begin(self.now, &mut self.jitter, &self.config.retry);
            return Ok(());
        }
        // A later promise must not overtake lost rows, so start over from what is durable.
        Err(Stop::StagingFailed { op })
    }

    /// The one place that decides what a failed batch leads to.
    fn on_apply_failed(
        &mut self,
        mut job: Job,
        failure: Failure,
        effects: &mut Effects,
    ) -> Result<(), Stop> {
        job.tries = job.tries.saturating_add(1);
        let whole = job.request.batch.piece == Piece::Whole;
        if let Failure::Constraint { at, .. } = &failure
            && self.horizon.replays(job.request.batch.first)
            && retry::settle(&mut job, at.clone())
        {
            self.start_apply(job, effects);
            return Ok(());
        }
        match failure {
            // It may yet commit, perhaps so long after a repetition that nothing tells of that one any
            // more. The next run waits for it or fences it off, and looks up what became of it.
            Failure::OutcomeUnknown { detail } => Err(Stop::OutcomeUnknown { detail }),
            Failure::Transient { detail } if whole => self.rest(job, detail),
            Failure::Transient { detail } => Err(Stop::PieceLost { detail }),
            Failure::Constraint { .. } | Failure::Rejected { .. }
                if matches!(job.request.order, ApplyOrder::Netted | ApplyOrder::Settled(_)) =>
            {
                job.request.order = ApplyOrder::Source;
                self.start_apply(job, effects);
                Ok(())
            }
            // Another batch may have to come first, but only if there is one.
            Failure::Constraint { detail, .. }
                if job.request.order == ApplyOrder::Source
                    && job.tries < self.config.retry.tries_max
                    && whole
                    && self.apply.len() > 0 =>
            {
                self.rest(job, detail)
            }
            // What needs one statement, such as rows in a circle, may be cut apart by a transaction between.
            Failure::Constraint { .. }
                if job.request.order == ApplyOrder::Source
                    && job.request.dead.is_empty()
                    && retry::divides(&job) =>
            {
                retry::halve(&mut job);
                self.start_apply(job, effects);
                Ok(())
            }
            Failure::Constraint { detail, at } | Failure::Rejected { detail, at } => {
                self.on_rejected(job, detail, at, effects)
            }
            Failure::Fenced => Err(Stop::Fenced),
        }
    }

    /// Narrows a refused batch down to the refused change.
    fn on_rejected(
        &mut self,
        mut job: Job,
        detail: String,
        at: Option<Range<usize>>,
        effects: &mut Effects,
    ) -> Result<(), Stop> {
        match at {
            Some(range) if range.len() > 1 => {
                job.request.order = ApplyOrder::RowWise(range);
                self.start_apply(job, effects);
                Ok(())
            }
            Some(range) if let OnReject::DeadLetter { percent_max } = self.config.on_reject => {
                self.bury(&mut job, range.start, percent_max, detail)?;
                self.start_apply(job, effects);
                Ok(())
            }
            // Refused at commit: a deferred constraint. Halve until it is one transaction.
            None if retry::divides(&job) => {
                retry::halve(&mut job);
                self.start_apply(job, effects);
                Ok(())
            }
            Some(_) | None => Err(retry::rejected(&job.request.batch, at, detail)),
        }
    }

    /// Makes one change of a batch a dead letter, unless there are too many already.
    fn bury(
        &mut self,
        job: &mut Job,
        index: usize,
        percent_max: u8,
        detail: String,
    ) -> Result<(), Stop> {
        let ApplyRequest { batch, order, dead } = &mut job.request;
        assert!(!dead.contains(&index), "a dead letter was applied");
        if dead.is_empty() {
            self.breaker.seen(batch.mutations.len());
        }
        if self.breaker.refused(percent_max) {
            let (refused, seen) = self.breaker.counts();
            let table = batch.mutations.get(index).map(|mutation| mutation.table);
            return Err(Stop::TooManyRefused { refused, seen, table, detail });
        }
        dead.push(index);
        *order = ApplyOrder::Source;
        job.tries = 0;
        Ok(())
    }

    fn rest(&mut self, job: Job, detail: String) -> Result<(), Stop> {
        let tries = job.tries;
        if tries > self.config.retry.tries_max {
            let retries = tries.saturating_sub(1);
            return Err(Stop::RetriesExhausted { retries, detail });
        }
        let delay = self.jitter.delay(&self.config.retry, tries);
        self.apply.rest(self.now.after(delay), job);
        Ok(())
    }

    fn schedule_batch(&mut self, closed: Closed) {
        self.rows_scheduled = self.rows_scheduled.saturating_add(closed.batch.mutations.len());
        self.bytes_scheduled = self.bytes_scheduled.saturating_add(closed.bytes);
        let Closed { batch, footprint, bytes } = closed;
        self.schedule.push(footprint, (batch, bytes));
    }

    fn start_batch(
        &mut self,
        ticket: Ticket,
        batch: ApplyBatch,
        bytes: usize,
        effects: &mut Effects,
    ) {
        let rows = batch.mutations.len();
        let request = self.request(Arc::new(batch));
        let job = Job { ticket, request, rest: Vec::new(), tries: 0, bytes, rows };
        if rows == 0 && job.request.batch.piece == Piece::Whole {
            return self.on_applied(job, effects);
        }
        self.start_apply(job, effects);
    }

    fn start_apply(&mut self, job: Job, effects: &mut Effects) {
        let op = self.next_op();
        effects.push(Effect::Apply { op, request: job.request.clone() });
        self.apply.start(op, job);
    }

    /// How a batch is tried first.
    fn request(&self, batch: Arc<ApplyBatch>) -> ApplyRequest {
        let replays = self.horizon.replays(batch.first);
        let nets = (self.config.collapse || replays)
            && batch.mutations.iter().all(|mutation| {
                let table = self.catalog.table(mutation.table);
                let acts = table.untold && matches!(mutation.change, Change::Delete(_));
                // In source order a replay would undo what later transactions of it rest on.
                (table.nets() || replays) && mutation.change.nets() && !acts
            });
        let order = if nets { ApplyOrder::Netted } else { ApplyOrder::Source };
        ApplyRequest { batch, order, dead: Vec::new() }
    }

    fn next_op(&mut self) -> OpId {
        self.last_op = OpId(self.last_op.0.saturating_add(1));
        self.last_op
    }

    fn check(&self) {
        self.checkpoint.check();
        assert!(self.apply.len() <= self.config.applies_max, "too many batches on their way");
    }
}
