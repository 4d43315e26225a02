//! One machine from resume to stop, recorded, so that it can be played again.
use replicator_core::model::time::{Hlc, MonoTime};
use replicator_core::{Config, Demand, Durable, Effect, Effects, Event, Machine, Status, Stop};
use std::sync::Arc;

use crate::fault::Setup;
use crate::schema::schema;
use crate::store::{Fence, Store};
use crate::tape::Tape;

/// What a machine answered to one event.
type Answer = Result<Vec<Effect>, Stop>;

/// A run.
#[derive(Debug)]
pub struct Run {
    /// What its writes carry.
    pub fence: Fence,
    /// What it began with.
    pub durable: Durable,
    config: Config,
    // What was saved of it, if the target tells nothing.
    horizon: Option<Hlc>,
    began: MonoTime,
    machine: Machine,
    // An effect has.
    failed: bool,
    // Everything that happened, if it is to be played again.
    steps: Option<Vec<(MonoTime, Event, Answer)>>,
    tape: Option<Tape>,
}

impl Run {
    /// Resumes a machine.
    #[must_use]
    pub fn begin(
        setup: &Setup,
        store: &Store,
        fence: Fence,
        durable: Durable,
        now: MonoTime,
    ) -> Self {
        let config = setup.config;
        let horizon = store.has_horizon().then(|| store.horizon());
        let machine = resume(config, &durable, horizon, now);
        let steps = setup.replays.then(Vec::new);
        Self {
            fence,
            durable,
            config,
            horizon,
            began: now,
            machine,
            failed: false,
            steps,
            tape: None,
        }
    }

    /// Records what follows. Nothing must have happened yet.
    pub fn record(&mut self, mut tape: Tape) {
        tape.resumed(&self.config, &self.durable, self.began);
        self.tape = Some(tape);
    }

    /// Ends the recording, if there is one.
    pub fn take_tape(&mut self) -> Option<Tape> {
        self.tape.take()
    }

    /// Tells the machine something.
    ///
    /// # Errors
    ///
    /// The run is over.
    pub fn step(&mut self, now: MonoTime, event: Event) -> Answer {
        self.failed |= matches!(event, Event::Failed { .. });
        let kept = self.steps.is_some().then(|| event.clone());
        if let Some(tape) = &mut self.tape {
            tape.told(now, &event);
        }
        let answer = step(&mut self.machine, now, event);
        if let Some(tape) = &mut self.tape {
            tape.answered(answer.as_deref(), &self.machine);
        }
        if let (Some(steps), Some(event)) = (&mut self.steps, kept) {
            steps.push((now, event, answer.clone()));
        }
        answer
    }

    /// What an earlier run may have brought into a target that tells nothing.
    #[must_use]
    pub const fn horizon(&self) -> Option<Hlc> {
        self.horizon
    }

    /// A snapshot of the machine.
    #[must_use]
    pub fn status(&self) -> Status {
        self.machine.status()
    }

    /// Whether an effect has failed, so that the machine may wait before it tries again.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether the machine was asked to stop and has finished, but for effects on their way.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.machine.is_finished()
    }

    /// Whether to read on.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.machine.demand()
    }

    /// When the machine wants to be woken.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        self.machine.next_deadline()
    }

    /// I9: the same events produce the same effects.
    pub fn i9_it_can_be_played_again(&self) {
        let Some(steps) = &self.steps else { return };
        let mut machine = resume(self.config, &self.durable, self.horizon, self.began);
        for (now, event, answer) in steps {
            let again = step(&mut machine, *now, event.clone());
            assert!(again == *answer, "I9: {event} led to {answer:?} and then to {again:?}");
        }
        let ends =
            |machine: &Machine| (machine.status(), machine.demand(), machine.next_deadline());
        let (first, second) = (ends(&self.machine), ends(&machine));
        assert!(first == second, "I9: the same events led to {first:?} and to {second:?}");
    }
}

fn resume(config: Config, durable: &Durable, horizon: Option<Hlc>, now: MonoTime) -> Machine {
    let machine = Machine::resume(config, Arc::clone(&schema().catalog), durable.clone(), now);
    match horizon {
        Some(horizon) => machine.at_least_once(horizon),
        None => machine,
    }
}

fn step(machine: &mut Machine, now: MonoTime, event: Event) -> Answer {
    let mut effects = Effects::default();
    machine.step(now, event, &mut effects)?;
    Ok(effects.drain().collect())
}
