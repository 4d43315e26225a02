//! Runs one machine: waits for an event, steps, starts the effects, again.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::model::mutation::ApplyRequest;
use replicator_core::model::time::MonoTime;
use replicator_core::{Demand, Effect, Effects, Event, Failure, Machine, Status, Stop};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::trace;

use crate::clock::Clock;
use crate::port::{Fence, Source, StagedPage, Staging, Target};
use crate::recorder::Recorder;

/// Why a run ended. The supervisor starts the next one; there is no other way to recover.
#[derive(Debug, Error)]
pub enum RunError<E: std::error::Error + 'static> {
    /// An adapter panicked.
    #[error("effect task died")]
    Died(#[from] JoinError),
    /// The source said nothing more.
    #[error(transparent)]
    Source(E),
    /// See [`Stop`].
    #[error(transparent)]
    Stop(#[from] Stop),
}

/// Watches a run, for metrics. Called on the run's own task: must not block.
pub trait Observer: std::fmt::Debug + Send + Sync + 'static {
    /// The source sent this.
    fn received(&self, event: &Event);
    /// The machine after a step.
    fn status(&self, status: &Status);
    /// A batch is in the target.
    fn applied(&self, request: &ApplyRequest, took: Duration);
    /// A batch did not get into the target; the machine decides what follows.
    fn failed(&self, failure: &Failure);
    /// Staging did not do what it was asked; the machine decides what follows.
    fn staging_failed(&self, failure: &Failure);
}

/// What a run needs besides its machine.
#[derive(Debug)]
pub struct Run<S, G, T> {
    /// Where changes come from.
    pub source: S,
    /// Where we keep what must survive us.
    pub staging: G,
    /// Where changes go.
    pub target: T,
    /// Marks what this run writes.
    pub fence: Fence,
    /// The clock.
    pub clock: Clock,
    /// Turns true when the run should end in good order: read no more, finish what is on its way.
    pub stop: watch::Receiver<bool>,
    /// Looks on.
    pub observer: Arc<dyn Observer>,
    /// Records it all, if somebody asked for that.
    pub recorder: Option<Recorder>,
}

/// Runs until something breaks, or until the run was asked to stop and has finished its work. Returns
/// the source then, so that it can be closed with a last word about the checkpoint.
///
/// # Errors
///
/// See [`RunError`].
pub async fn run<S: Source, G: Staging, T: Target>(
    mut machine: Machine,
    run: Run<S, G, T>,
) -> Result<S, RunError<S::Error>> {
    let Run { mut source, staging, target, fence, clock, mut stop, observer, recorder } = run;
    let mut effects = Effects::default();
    let mut running = JoinSet::new();
    // What the source said and the machine had no room for yet: at most one read of the source. And first of
    // all a step: an earlier run may have left something to do, whether the source says anything or not.
    let mut inbox: VecDeque<Event> = VecDeque::from([Event::DeadlineReached]);
    let mut heard: Vec<Event> = Vec::new();
    let mut stopping = false;
    loop {
        if running.is_empty() && machine.is_finished() {
            return Ok(source);
        }
        let has_room = machine.demand() == Demand::Read;
        source.ahead(machine.ahead());
        let event = tokio::select! {
            biased;
            event = next_of(&mut inbox), if has_room && !inbox.is_empty() => event,
            asked = stop.wait_for(|stop| *stop), if !stopping => {
                // Nobody is left who could ask for an end in good order.
                if asked.is_err() {
                    return Ok(source);
                }
                stopping = true;
                Event::StopRequested
            }
            Some(done) = running.join_next() => finished(done?, &*observer),
            () = clock.sleep_until(machine.next_deadline()) => Event::DeadlineReached,
            read = source.next(&mut heard), if has_room && inbox.is_empty() => {
                read.map_err(RunError::Source)?;
                heard.iter().for_each(|event| observer.received(event));
                inbox.extend(heard.drain(..));
                continue;
            }
        };
        let now = clock.now();
        trace!(?now, %event, "step");
        step(&mut machine, now, event, &mut effects, recorder.as_ref())?;
        for effect in effects.drain() {
            trace!(%effect, "effect");
            match effect {
                Effect::Acknowledge(position) => source.acknowledge(position),
                Effect::Answer(request) => source.answer(request),
                Effect::Apply { .. }
                | Effect::ReadStaged { .. }
                | Effect::RetireStaged { .. }
                | Effect::SaveCheckpoint { .. }
                | Effect::SaveHorizon { .. }
                | Effect::SaveResolved { .. }
                | Effect::Stage { .. } => {
                    running.spawn(perform(effect, fence, clock, staging.clone(), target.clone()));
                }
            }
        }
        if inbox.is_empty() {
            observer.status(&machine.status());
        }
    }
}

/// Steps the machine, with witnesses if there are any.
fn step(
    machine: &mut Machine,
    now: MonoTime,
    event: Event,
    effects: &mut Effects,
    recorder: Option<&Recorder>,
) -> Result<(), Stop> {
    let Some(recorder) = recorder else { return machine.step(now, event, effects) };
    recorder.told(now, &event);
    let answered = machine.step(now, event, effects);
    recorder.answered(answered.as_ref().map(|()| effects.as_slice()), machine);
    answered
}

/// Cancel safe: it never waits.
async fn next_of(inbox: &mut VecDeque<Event>) -> Event {
    match inbox.pop_front() {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

/// How an effect ended, with what an observer wants to know of it.
struct Finished {
    event: Event,
    applied: Option<(ApplyRequest, Duration)>,
}

fn finished(finished: Finished, observer: &dyn Observer) -> Event {
    let Finished { event, applied } = finished;
    match (&event, applied) {
        (Event::Failed { failure, .. }, Some(_)) => observer.failed(failure),
        (Event::Failed { failure, .. }, None) => observer.staging_failed(failure),
        (_, Some((request, took))) => observer.applied(&request, took),
        (_, None) => (),
    }
    event
}

/// Does one effect and turns its outcome into the event that reports it.
async fn perform(
    effect: Effect,
    fence: Fence,
    clock: Clock,
    staging: impl Staging,
    target: impl Target,
) -> Finished {
    let started = clock.now();
    let mut applied = None;
    let (op, outcome) = match effect {
        Effect::Apply { op, request } => {
            let outcome = target.apply(fence, request.clone()).await;
            applied = Some((request, clock.since(started)));
            (op, outcome)
        }
        Effect::ReadStaged { op, after, through, rows_max } => {
            let event = match staging.read(after, through, rows_max).await {
                Ok(StagedPage { rows, exhausted }) => Event::StagedRead { op, rows, exhausted },
                Err(failure) => Event::Failed { op, failure },
            };
            return Finished { event, applied };
        }
        Effect::RetireStaged { op, through } => (op, staging.retire(fence, through).await),
        Effect::SaveCheckpoint { op, position } => {
            (op, staging.save_checkpoint(fence, position).await)
        }
        Effect::SaveHorizon { op, through } => (op, staging.save_horizon(fence, through).await),
        Effect::SaveResolved { op, partition, resolved } => {
            (op, staging.save_resolved(fence, partition, resolved).await)
        }
        Effect::Stage { op, rows, floor } => (op, staging.stage(fence, rows, floor).await),
        Effect::Acknowledge(_) | Effect::Answer(_) => unreachable!("done by the driver itself"),
    };
    let event = match outcome {
        Ok(()) => Event::Done(op),
        Err(failure) => Event::Failed { op, failure },
    };
    Finished { event, applied }
}
