//! The host that brings the rows: for each feed its lanes, and somebody who promises.
use std::panic::resume_unwind;
use std::time::Duration;

use replicator_core::model::time::Hlc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::caller::Caller;
use super::feed::{Feeds, Next, Part};
use super::json;
use crate::cluster::dial::SimDial;
use crate::cluster::trace::{broken, say};
use crate::random::Random;

/// The host. Clones are the same one; it outlives its processes.
#[derive(Clone, Debug)]
pub(super) struct Feeder {
    feeds: Feeds,
    // Where the program runs.
    hosts: &'static [&'static str],
    dial: SimDial,
    // The longest that a request may take.
    limit: Duration,
    // From one promise to the next, about.
    interval: Duration,
}

impl Feeder {
    pub(super) fn new(
        feeds: Feeds,
        hosts: &'static [&'static str],
        limit: Duration,
        interval: Duration,
    ) -> Self {
        Self { feeds, hosts, dial: SimDial::default(), limit, interval }
    }

    fn caller(&self) -> Caller {
        Caller::new(self.dial.clone(), self.hosts, self.limit)
    }

    /// Whether the process is about to die.
    pub(super) fn set_dying(&self, dying: bool) {
        self.dial.set_dying(dying);
    }

    /// Brings rows, for ever.
    ///
    /// # Errors
    ///
    /// None; hosts of a simulation must be able to say so.
    pub(super) async fn run(self) -> turmoil::Result {
        self.feeds.restart();
        self.call().await;
        let mut tasks = JoinSet::new();
        let mut served: Vec<(u64, usize)> = Vec::new();
        loop {
            let changed = self.feeds.changed();
            let made_up = self.feeds.made_up();
            for (feed, (generation, lanes)) in made_up.iter().copied().enumerate() {
                if served.get(feed) != Some(&(generation, lanes)) {
                    for lane in 0..lanes {
                        tasks.spawn_local(self.clone().lane(Part { feed, generation, lane }));
                    }
                    tasks.spawn_local(self.clone().promise(feed, generation));
                }
            }
            served = made_up;
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => {
                    if let Err(died) = ended && died.is_panic() {
                        resume_unwind(died.into_panic());
                    }
                }
                () = changed => (),
            }
        }
    }

    /// Each feed calls before anybody brings something: nobody waits for a feed that has never called.
    async fn call(&self) {
        let mut caller = self.caller();
        for path in &self.feeds.paths() {
            while !self.ask(&mut caller, path, &json::resolved(Hlc::default())).await {
                sleep(millis(200)).await;
            }
        }
    }

    /// Brings the rows of a lane, one request after the other.
    async fn lane(self, part: Part) {
        let mut random = Random::new(self.feeds.word());
        let mut caller = self.caller();
        let path = self.feeds.paths().swap_remove(part.feed);
        loop {
            let changed = self.feeds.changed();
            let batch = match self.feeds.next(part) {
                Next::Gone => return,
                Next::Idle => {
                    changed.await;
                    continue;
                }
                Next::Bring(batch) => batch,
            };
            let success = self.ask(&mut caller, &path, &batch.body).await;
            self.feeds.answered(part, &batch, success);
            if !success {
                sleep(millis(random.within(20, 400))).await;
            } else if random.chance(30) {
                sleep(millis(random.within(1, 100))).await;
            }
        }
    }

    /// Promises again and again.
    async fn promise(self, feed: usize, generation: u64) {
        let mut random = Random::new(self.feeds.word());
        let mut caller = self.caller();
        let path = self.feeds.paths().swap_remove(feed);
        loop {
            sleep(self.interval * u32::try_from(random.within(1, 4)).expect("small") / 2).await;
            if self.feeds.is_silent() {
                continue;
            }
            let Some(time) = self.feeds.promise(feed, generation) else { return };
            if self.ask(&mut caller, &path, &json::resolved(time)).await {
                self.feeds.promised(feed, generation, time);
            }
        }
    }

    /// Whether a request was answered with success.
    async fn ask(&self, caller: &mut Caller, path: &str, body: &str) -> bool {
        match caller.post(path, body).await {
            Ok(200) => true,
            Ok(status @ (408 | 429 | 503)) => {
                say("feeder", format_args!("is sent away with {status}"));
                false
            }
            Ok(status) => {
                broken(format!("a request is refused with {status}: {body}"));
                false
            }
            Err(error) => {
                say("feeder", format_args!("has no answer: {error}"));
                false
            }
        }
    }
}

fn millis(number: usize) -> Duration {
    Duration::from_millis(u64::try_from(number).expect("a short time"))
}
