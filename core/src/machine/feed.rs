//! What only changefeeds do: rows are staged, promised, and read back.
use alloc::vec::Vec;

use super::Machine;
use super::retry::Pause;
use crate::effect::{Effect, Effects};
use crate::flow::batch::Ahead;
use crate::flow::stage::{LateRows, Next, Promise};
use crate::model::mutation::{OrderedTx, TimedMutation};
use crate::model::position::{OpId, Position, RequestId};
use crate::model::time::Hlc;
use crate::plan::arrange;

impl Machine {
    /// From here on in immediate mode: rows are applied when they are durable, without waiting for a
    /// promise. Each request is a transaction, and of each row the newest version stays (W-44). `newest` is
    /// the time of the newest staged row: what is staged up to there is applied now.
    ///
    /// For tables without foreign keys. To be called before the first step.
    #[must_use]
    pub fn immediate(mut self, newest: Hlc) -> Self {
        self.frontier.be_immediate(newest);
        self
    }

    /// From here on for a target that may not tell what it has. `horizon` is what an earlier run
    /// [saved](Effect::SaveHorizon); zero if none did. What an earlier run sent to the target must have ended.
    ///
    /// To be called before the first step.
    #[must_use]
    pub fn at_least_once(mut self, horizon: Hlc) -> Self {
        let checkpoint = self.sweep.read_through();
        self.horizon.be_needed(horizon, checkpoint);
        if checkpoint < horizon {
            self.batch.hold_until(Position::Hlc(horizon));
        }
        self
    }

    /// From here on rows of times up to `time` come late. What an earlier run staged without waiting for promises lies
    /// before that, at times that say nothing of which version of a row is the newer one.
    ///
    /// To be called before the first step.
    #[must_use]
    pub fn late_through(mut self, time: Hlc) -> Self {
        self.frontier.late_through(time);
        self
    }

    /// Rows go to the store at once, unless one of them comes late: see [`Stage`](crate::flow::stage::Stage).
    pub(super) fn on_rows(
        &mut self,
        request: RequestId,
        rows: Vec<TimedMutation>,
        effects: &mut Effects,
    ) {
        let promised = self.frontier.group_with(&self.stage.promises()).max(self.floor());
        if self.frontier.is_immediate() || rows.iter().any(|row| row.time <= promised) {
            return self.stage.rows_wait(LateRows { requests: alloc::vec![request], rows });
        }
        let op = self.next_op();
        self.stage.rows_started(op, alloc::vec![request]);
        effects.push(Effect::Stage { op, rows, floor: self.floor() });
    }

    /// From here on rows come late. A feed that is new has promised nothing, but reads went further; and
    /// where an earlier run did not wait for promises, what it has applied may be forgotten already.
    fn floor(&self) -> Hlc {
        self.frontier.late().max(self.sweep.reach()).max(self.horizon.reach())
    }

    /// Starts what waited and needs not wait any more.
    pub(super) fn pump_stage(&mut self, effects: &mut Effects) {
        while let Some(next) = self.stage.take_ready() {
            let op = self.next_op();
            match next {
                Next::Save(promise) => {
                    let Promise { partition, resolved, request: _ } = promise;
                    self.stage.save_started(op, promise);
                    effects.push(Effect::SaveResolved { op, partition, resolved });
                }
                Next::Write(LateRows { requests, rows }) => {
                    let floor = match rows.iter().map(|row| row.time).max() {
                        // All of them are late, whatever their time.
                        Some(newest) if self.frontier.is_immediate() => newest.max(self.floor()),
                        Some(_) | None => self.floor(),
                    };
                    self.stage.late_rows_started(op, requests, floor);
                    effects.push(Effect::Stage { op, rows, floor });
                }
            }
        }
    }

    pub(super) fn on_durable(
        &mut self,
        (requests, late): (Vec<RequestId>, Option<Hlc>),
        effects: &mut Effects,
    ) {
        if let Some(floor) = late {
            self.frontier.arrive(floor.next());
        }
        for request in requests {
            effects.push(Effect::Answer(request));
        }
    }

    pub(super) fn on_page(&mut self, op: OpId, rows: Vec<TimedMutation>, exhausted: bool) {
        self.pause = Pause::default();
        let mut ordered: Vec<OrderedTx> = Vec::new();
        for (time, mut mutations) in self.sweep.page(op, rows, exhausted) {
            arrange(&self.catalog, &mut mutations);
            ordered.push(self.admit.staged(time, mutations));
        }
        // The range may end in silence; the checkpoint still moves to its end.
        let swept = Position::Hlc(self.sweep.read_through());
        ordered.extend(self.admit.idle_through(swept));
        self.horizon.hold(self.sweep.read_through(), ordered);
    }

    /// What is held goes on when it is durable how far it reaches, and when there is room.
    pub(super) fn pump_horizon(&mut self, effects: &mut Effects) {
        if self.pause.is_over(self.now)
            && let Some(through) = self.horizon.next_save()
        {
            let op = self.next_op();
            self.horizon.started(op, through);
            effects.push(Effect::SaveHorizon { op, through });
        }
        while self.batches_have_room()
            && let Some(tx) = self.horizon.take_ready()
        {
            self.batch.push(self.now, &self.catalog, tx);
            // More is there: a batch goes when it is full, though the target may have nothing else to do.
            let ahead = self.batches_ahead().max(Ahead::Few);
            if let Some(closed) = self.batch.take_ready(self.now, ahead) {
                self.schedule_batch(closed);
            }
        }
    }
}
