//! Writes what machines are told and what they answer.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::answer::Answer;
use super::frame::{Ending, FILLED_BYTES_MAX};
use super::hide::Hider;
use super::nouns::{put_catalog, put_config, put_durable, put_mono, put_text};
use super::rows::{Numbers, RowWriter};
use super::wire::{MAGIC, put_frame};
use crate::config::Config;
use crate::effect::Effect;
use crate::event::Event;
use crate::machine::{Durable, Machine};
use crate::model::catalog::Catalog;
use crate::model::time::MonoTime;
use crate::stop::Stop;

pub(super) const BEGINNING: u8 = 1;
pub(super) const RESUMED: u8 = 2;
pub(super) const TOLD: u8 = 3;
pub(super) const ANSWERED: u8 = 4;
pub(super) const ENDED: u8 = 5;

/// What becomes of the values of rows.
#[derive(Clone, Copy)]
pub enum Values {
    /// They are written as they are.
    Plain,
    /// In their place come images under this key, which must be secret, random and not used again.
    Hashed([u8; 16]),
}

impl fmt::Debug for Values {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Hashed(_) => "Hashed",
        })
    }
}

/// Makes the bytes of a recording. Appends to a buffer of the caller's; what is appended is always whole
/// frames.
#[derive(Debug)]
pub struct Recorder {
    values: Values,
    run: Option<Run>,
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Run {
    catalog: Arc<Catalog>,
    hider: Option<Hider>,
    numbers: Numbers,
}

/// A frame would be larger than [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the machine was told is too large for a recording")]
pub struct TooLarge;

impl Recorder {
    /// Begins a recording.
    #[must_use]
    pub fn begin(values: Values, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(MAGIC);
        let mut payload = alloc::vec![BEGINNING];
        put_text(&mut payload, env!("CARGO_PKG_VERSION"));
        payload.push(u8::from(matches!(values, Values::Hashed(_))));
        put_frame(out, &payload);
        Self { values, run: None, payload }
    }

    /// A machine is about to be resumed with these.
    ///
    /// # Errors
    ///
    /// The catalog is huge; nothing is written.
    pub fn resumed(
        &mut self,
        config: &Config,
        catalog: &Arc<Catalog>,
        durable: &Durable,
        now: MonoTime,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let hider = match self.values {
            Values::Plain => None,
            Values::Hashed(key) => Some(Hider::new(key, Arc::clone(catalog))),
        };
        let numbers = Numbers::default();
        self.run = Some(Run { catalog: Arc::clone(catalog), hider, numbers });
        let payload = self.payload(RESUMED);
        put_config(payload, config);
        put_catalog(payload, catalog);
        put_durable(payload, durable);
        put_mono(payload, now);
        self.put(out)
    }

    /// The machine is about to be told this.
    ///
    /// # Errors
    ///
    /// There are too many rows in it; nothing is written, and nothing that follows makes sense.
    ///
    /// # Panics
    ///
    /// No machine was resumed.
    pub fn told(
        &mut self,
        now: MonoTime,
        event: &Event,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        self.payload(TOLD);
        let Some(Run { catalog, hider, numbers }) = &mut self.run else {
            panic!("no machine was resumed");
        };
        put_mono(&mut self.payload, now);
        let mut rows = RowWriter::new(catalog, numbers);
        match hider {
            Some(hider) => rows.put_event(&mut self.payload, &hider.event(event)),
            None => rows.put_event(&mut self.payload, event),
        }
        if FILLED_BYTES_MAX < rows.filled_bytes {
            return Err(TooLarge);
        }
        self.put(out)
    }

    /// The machine has answered this, and now stands there.
    ///
    /// # Errors
    ///
    /// There are too many effects; nothing is written.
    ///
    /// # Panics
    ///
    /// No machine was resumed.
    pub fn answered(
        &mut self,
        answered: Result<&[Effect], &Stop>,
        machine: &Machine,
        out: &mut Vec<u8>,
    ) -> Result<(), TooLarge> {
        let Some(Run { catalog, hider, numbers: _ }) = &self.run else {
            panic!("no machine was resumed");
        };
        let answer = Answer::of(catalog, hider.as_ref(), answered, machine);
        answer.put(self.payload(ANSWERED));
        self.put(out)
    }

    /// Nothing more is recorded, and why.
    pub fn ended(&mut self, ending: Ending, out: &mut Vec<u8>) {
        self.payload(ENDED).push(ending.code());
        put_frame(out, &self.payload);
    }

    fn payload(&mut self, kind: u8) -> &mut Vec<u8> {
        self.payload.clear();
        self.payload.push(kind);
        &mut self.payload
    }

    fn put(&mut self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        if put_frame(out, &self.payload) { Ok(()) } else { Err(TooLarge) }
    }
}
