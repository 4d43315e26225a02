//! Records the runs of a world, in the way in which the program records its own.
use std::sync::Arc;

use replicator_core::model::time::MonoTime;
use replicator_core::record::{Ending, Recorder, Values};
use replicator_core::{Config, Durable, Effect, Event, Machine, Stop};

use crate::schema::schema;

/// A recording under way.
#[derive(Debug)]
pub struct Tape {
    recorder: Recorder,
    bytes: Vec<u8>,
}

impl Tape {
    /// An empty one.
    #[must_use]
    pub fn new(values: Values) -> Self {
        let mut bytes = Vec::new();
        let recorder = Recorder::begin(values, &mut bytes);
        Self { recorder, bytes }
    }

    /// A machine is resumed.
    pub fn resumed(&mut self, config: &Config, durable: &Durable, now: MonoTime) {
        let made = self.recorder.resumed(config, &schema().catalog, durable, now, &mut self.bytes);
        made.expect("the catalog of worlds is small");
    }

    /// It is told this.
    pub fn told(&mut self, now: MonoTime, event: &Event) {
        self.recorder.told(now, event, &mut self.bytes).expect("the events of worlds are small");
    }

    /// It answers this.
    pub fn answered(&mut self, answered: Result<&[Effect], &Stop>, machine: &Machine) {
        let made = self.recorder.answered(answered, machine, &mut self.bytes);
        made.expect("the answers of worlds are short");
    }

    /// The whole recording.
    #[must_use]
    pub fn finish(mut self) -> Arc<[u8]> {
        self.recorder.ended(Ending::Finished, &mut self.bytes);
        self.bytes.into()
    }
}
