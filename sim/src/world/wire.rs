//! What becomes of the machine's effects: they arrive, fail, come late, or die with their run.
use replicator_core::model::mutation::{ApplyOrder, ApplyRequest, Piece};
use replicator_core::model::position::{OpId, Position};
use replicator_core::{Demand, Effect, Event, Failure, Stop};

use super::World;
use crate::action::Fault;
use crate::coverage::Seen;
use crate::fault::Kind;
use crate::property;
use crate::run::Run;
use crate::store::Fence;
use crate::target::{Mood, Outcome};

/// Most effects of dead runs that are still on the wire.
const LATE_MAX: usize = 16;
/// Most effects and waits until a run that was asked to end has done so.
const STOPPING_MAX: usize = 1_000;

impl World {
    /// The run is over.
    pub(super) fn stopped(&mut self, stop: &Stop) {
        self.say(|| format!("< stop: {stop}"));
        match stop {
            Stop::PositionWentBack { .. } | Stop::UnknownPartition { .. } => {
                panic!("the machine accuses an honest source: {stop}")
            }
            Stop::Rejected { .. } => {
                assert!(!self.lenient, "the target refuses what the source accepted: {stop}");
            }
            Stop::Unreadable { .. } => panic!("the store cannot read what it wrote: {stop}"),
            Stop::TooManyRefused { .. } => panic!("the share of refused rows has no limit: {stop}"),
            Stop::RetriesExhausted { .. } => self.coverage.mark(Seen::RetriesExhausted),
            Stop::OutcomeUnknown { .. } => self.coverage.mark(Seen::OutcomeUnknown),
            Stop::PieceLost { .. } => self.coverage.mark(Seen::PieceLost),
            Stop::StagingFailed { .. } => self.coverage.mark(Seen::StagingLost),
            Stop::Fenced => {
                assert!(self.run.fence < self.newest_fence, "fenced without another run");
                self.coverage.mark(Seen::Fenced);
            }
        }
        self.restart();
    }

    pub(super) fn crash(&mut self, arrives: u64) {
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

    /// A run that is asked to stop ends without waiting for anything but its effects: unless one of them fails.
    pub(super) fn stop(&mut self) {
        let (fence, began) = (self.run.fence, self.now);
        self.coverage.mark_if(self.run.status().buffered_rows > 0, Seen::StoppedBusy);
        let replays = self.run.status().applied < self.run.horizon().map(Position::Hlc);
        let mut reads = self.reads();
        self.step(Event::StopRequested);
        for _ in 0..STOPPING_MAX {
            // It has stopped for another reason, and the next one runs.
            if self.run.fence != fence {
                return;
            }
            if self.pending.is_empty() {
                if self.run.is_finished() {
                    assert!(self.run.has_failed() || self.now == began, "it waited");
                    let status = self.run.status();
                    assert!(status.checkpoint == status.applied, "where it ended is not saved");
                    return self.restart();
                }
                let due = self.run.next_deadline().expect("what failed is tried again");
                self.now = self.now.max(due);
                self.step(Event::DeadlineReached);
            } else {
                let left = self.reads();
                let paused = self.run.demand() == Demand::Pause;
                assert!(paused && (left <= reads || replays), "it reads on");
                reads = left;
                self.finish(0, None);
            }
        }
        panic!("a run that shall end goes on: {:?}", self.run.status());
    }

    fn reads(&self) -> usize {
        self.pending.iter().filter(|effect| matches!(effect, Effect::ReadStaged { .. })).count()
    }

    /// Resumes from what is durable.
    pub(super) fn restart(&mut self) {
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
        let tape = self.run.take_tape();
        self.run = Run::begin(&self.setup, &self.target.store, fence, durable, self.now);
        if let Some(tape) = tape {
            self.run.record(tape);
        }
        self.source.reconnect(&self.history, self.setup.pieces);
    }

    pub(super) fn finish(&mut self, number: usize, fault: Option<Fault>) {
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
            Ok(Arrival::Known) => panic!("a batch is sent twice in one run"),
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
            | Effect::SaveHorizon { .. }
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

    pub(super) fn late(&mut self, number: usize) {
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
            Ok(Arrival::Done | Arrival::Known | Arrival::Page(_)) => (),
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
            let applied = &self.run.durable.applied;
            let is_applied = |time| applied.iter().any(|run| run.holds(Position::Hlc(time)));
            let skipped = rows.iter().any(|row| is_applied(row.time));
            self.coverage.mark_if(skipped, Seen::AppliedSkipped);
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
            Effect::SaveHorizon { through, .. } => store.save_horizon(*through),
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
            Effect::Stage { rows, floor, .. } => store.stage(rows, *floor),
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
        let replays =
            !self.target.store.tells() && batch.after < self.run.horizon().map(Position::Hlc);
        let outcome = self.target.apply(fence, request, mood);
        if let Err(failure @ (Failure::Constraint { .. } | Failure::Rejected { .. })) = &outcome {
            // In source order it satisfied the same constraints before. So an older batch is missing, or
            // rows of a changefeed that need one statement were cut apart by another transaction.
            let cut = self.setup.kind == Kind::Changefeed && batch.ends.len() > 1;
            let nets = matches!(request.order, ApplyOrder::Netted | ApplyOrder::Settled(_));
            let in_order = !nets && !cut && !replays;
            assert!(!(in_order && self.lenient), "a batch was let go too early: {failure}");
        }
        match outcome? {
            Outcome::Known => Ok(Arrival::Known),
            Outcome::Open => Ok(Arrival::Done),
            Outcome::Committed(contents) => {
                let newer = self.history.count_through(Some(batch.position));
                self.coverage.mark_if(self.ledger.reaches(newer), Seen::OutOfOrder);
                self.coverage.mark_if(!contents.dead.is_empty(), Seen::DeadLetter);
                self.coverage.mark_if(batch.piece == Piece::Last, Seen::PiecesCommitted);
                let again = self.run.horizon().filter(|_| replays);
                let before = self.ledger.replay(&self.history, again);
                self.coverage.mark_if(0 < before, Seen::Replayed);
                let count = self.ledger.commit(&self.history, batch, &contents);
                self.coverage.mark_if(count > 1, Seen::GroupCommit);
                self.readers.look(self.target.database());
                Ok(Arrival::Done)
            }
        }
    }
}

/// What an effect that arrived has to tell.
enum Arrival {
    Done,
    Known,
    Page(Event),
}

fn op_of(effect: &Effect) -> OpId {
    match effect {
        Effect::Apply { op, .. }
        | Effect::ReadStaged { op, .. }
        | Effect::RetireStaged { op, .. }
        | Effect::SaveCheckpoint { op, .. }
        | Effect::SaveHorizon { op, .. }
        | Effect::SaveResolved { op, .. }
        | Effect::Stage { op, .. } => *op,
        Effect::Acknowledge(_) | Effect::Answer(_) => unreachable!("never pending"),
    }
}
