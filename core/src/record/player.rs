//! Tells machines again what was recorded, and compares what they answer.
use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use core::fmt;

use super::answer::{Answer, Said};
use super::frame::{Ending, Record, Resumed};
use crate::effect::Effects;
use crate::machine::Machine;
use crate::model::catalog::Catalog;
use crate::model::time::MonoTime;

/// Plays a recording, record by record.
#[derive(Debug, Default)]
pub struct Player {
    run: Option<Run>,
    played: Played,
    open: Option<Open>,
}

#[derive(Debug)]
struct Run {
    machine: Machine,
    catalog: Arc<Catalog>,
    steps: u64,
}

/// What was told last, and what the machine answers today.
#[derive(Debug)]
struct Open {
    now: MonoTime,
    event: String,
    answer: Answer,
}

/// How far a player is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Machines that were resumed.
    pub runs: u64,
    /// Answers that were compared.
    pub steps: u64,
    /// Effects in them.
    pub effects: u64,
    /// Whether the last event has no answer in the recording.
    pub unanswered: bool,
    /// Why the recording ends; `None` if it does not say, because it was cut off.
    pub ending: Option<Ending>,
}

/// A machine answers otherwise than it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The run, counted from 1.
    pub run: u64,
    /// The step of this run, counted from 1.
    pub step: u64,
    /// When the machine was told.
    pub now: MonoTime,
    /// What it was told, without values.
    pub event: String,
    /// What it answered.
    pub recorded: Answer,
    /// What it answers today.
    pub replayed: Answer,
}

impl Player {
    /// Plays one record.
    ///
    /// # Errors
    ///
    /// The machine answers otherwise than it did. The player is of no more use then.
    ///
    /// # Panics
    ///
    /// The machine does: a bug that was recorded, or records that no machine was ever told. Or they do not
    /// come from a [`Reader`](super::Reader).
    pub fn play(&mut self, record: Record) -> Result<(), Box<Difference>> {
        match record {
            Record::Beginning { .. } => (),
            Record::Resumed(resumed) => {
                let Resumed { config, catalog, durable, now } = *resumed;
                let machine = Machine::resume(config, Arc::clone(&catalog), durable, now);
                self.run = Some(Run { machine, catalog, steps: 0 });
                self.played.runs = self.played.runs.saturating_add(1);
            }
            Record::Told { now, event } => {
                let Some(Run { machine, catalog, steps }) = &mut self.run else {
                    panic!("an event without a machine");
                };
                *steps = steps.saturating_add(1);
                self.played.unanswered = true;
                let told = event.to_string();
                let mut effects = Effects::default();
                let answered = machine.step(now, event, &mut effects);
                let answered = answered.as_ref().map(|()| effects.as_slice());
                let answer = Answer::of(catalog, None, answered, machine);
                self.open = Some(Open { now, event: told, answer });
            }
            Record::Answered(recorded) => return self.compare(recorded),
            Record::Ended(ending) => self.played.ending = Some(ending),
        }
        Ok(())
    }

    /// How far it is.
    #[must_use]
    pub const fn played(&self) -> Played {
        self.played
    }

    /// The step that is being played: the run and the step in it, both counted from 1.
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        (self.played.runs, self.run.as_ref().map_or(0, |run| run.steps))
    }

    fn compare(&mut self, recorded: Answer) -> Result<(), Box<Difference>> {
        let Some(Open { now, event, answer }) = self.open.take() else {
            panic!("an answer without an event");
        };
        if answer != recorded {
            let (run, step) = self.place();
            let replayed = answer;
            return Err(Box::new(Difference { run, step, now, event, recorded, replayed }));
        }
        let effects = if recorded.stops { 0 } else { recorded.said.len() };
        let effects = u64::try_from(effects).unwrap_or(u64::MAX);
        let Played { steps, effects: total, unanswered, .. } = &mut self.played;
        (*steps, *total) = (steps.saturating_add(1), total.saturating_add(effects));
        *unanswered = false;
        Ok(())
    }
}

impl fmt::Display for Difference {
    /// Both answers in full; what only one of them has is marked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, step, now, event, recorded, replayed } = self;
        let nanos = now.as_nanos();
        writeln!(f, "run {run}, step {step}, {nanos} ns after the start: > {event}")?;
        for (title, answer, other) in
            [("recorded", recorded, replayed), ("replayed", replayed, recorded)]
        {
            let stops = if answer.stops { ", and stopped" } else { "" };
            writeln!(f, "{title}{stops}:")?;
            for (index, said) in answer.said.iter().enumerate() {
                let Said { line, .. } = said;
                let note = match other.said.get(index) {
                    Some(same) if same == said => "",
                    Some(Said { line: same, .. }) if same == line => "  (with other contents)",
                    Some(_) | None => "  (differs)",
                };
                writeln!(f, "  < {line}{note}")?;
            }
            if answer.stands != other.stands {
                writeln!(f, "  {:?}", answer.stands)?;
            }
        }
        Ok(())
    }
}
