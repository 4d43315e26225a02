//! Reads what is in the frames of a recording.
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::answer::Answer;
use super::nouns::{catalog, config, durable, mono};
use super::recorder::{ANSWERED, BEGINNING, ENDED, RESUMED, TOLD};
use super::rows::RowReader;
use super::wire::{RecordError, Rest};
use crate::config::Config;
use crate::event::Event;
use crate::machine::Durable;
use crate::model::catalog::Catalog;
use crate::model::row::Layout;
use crate::model::time::MonoTime;

/// What values of one byte over and over may take in one frame, in bytes, if the reader has no other wish.
pub const FILLED_BYTES_MAX: usize = 256 << 20;

/// What is in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A recording begins.
    Beginning {
        /// The program that made it.
        version: String,
        /// Whether values are hashed.
        hashed: bool,
    },
    /// A machine was resumed; the one before it has ended.
    Resumed(Box<Resumed>),
    /// The machine was told something.
    Told {
        /// When.
        now: MonoTime,
        /// What.
        event: Event,
    },
    /// The machine answered what it was told last.
    Answered(Answer),
    /// Nothing more was recorded.
    Ended(Ending),
}

/// What a machine was resumed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Its limits.
    pub config: Config,
    /// The target's tables.
    pub catalog: Arc<Catalog>,
    /// What had survived.
    pub durable: Durable,
    /// When.
    pub now: MonoTime,
}

/// Why a recording ends before its process does, or with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process ended, and was not killed.
    Finished,
    /// The recording is as large as it may be.
    Full,
    /// The disk was too slow to keep up with.
    Slow,
    /// What the machine was told was too large for a frame.
    TooLarge,
}

impl Ending {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Full => 1,
            Self::Slow => 2,
            Self::TooLarge => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Finished),
            1 => Some(Self::Full),
            2 => Some(Self::Slow),
            3 => Some(Self::TooLarge),
            _ => None,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "the program ended",
            Self::Full => "the recording had reached its largest size",
            Self::Slow => "the disk was too slow for the recording",
            Self::TooLarge => "what the machine was told was too large for a recording",
        })
    }
}

/// Reads frames one after the other. Takes at most about thirty times the memory of a frame, and the limit
/// for filled values; besides that what the catalog and the layouts of one run take.
#[derive(Debug)]
pub struct Reader {
    filled_bytes_max: usize,
    run: Option<(Arc<Catalog>, Vec<Arc<Layout>>)>,
    place: Place,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The beginning.
    Start,
    /// A machine.
    NoMachine,
    /// Something to tell the machine, or another machine.
    Machine,
    /// The machine's answer.
    Question,
    /// Nothing.
    End,
}

impl Reader {
    /// A reader at the first frame. `filled_bytes_max` is what values of one byte over and over may take in
    /// one frame, in bytes.
    #[must_use]
    pub const fn new(filled_bytes_max: usize) -> Self {
        Self { filled_bytes_max, run: None, place: Place::Start }
    }

    /// Reads the next frame. After an error the reader is of no more use.
    ///
    /// # Errors
    ///
    /// It is no frame of ours, or comes at the wrong place.
    pub fn read(&mut self, payload: &[u8]) -> Result<Record, RecordError> {
        let mut rest = Rest::new(payload, self.filled_bytes_max);
        let kind = rest.byte("a frame")?;
        let (record, place) = match (kind, self.place) {
            (BEGINNING, Place::Start) => {
                let version = rest.text("the version")?;
                let hashed = rest.bool("whether values are hashed")?;
                (Record::Beginning { version, hashed }, Place::NoMachine)
            }
            (RESUMED, Place::NoMachine | Place::Machine) => {
                (Record::Resumed(Box::new(self.resumed(&mut rest)?)), Place::Machine)
            }
            (TOLD, Place::Machine) => {
                let (now, event) = self.told(&mut rest)?;
                (Record::Told { now, event }, Place::Question)
            }
            (ANSWERED, Place::Question) => {
                let answer = Answer::read(&mut rest)?;
                let place = if answer.stops { Place::NoMachine } else { Place::Machine };
                (Record::Answered(answer), place)
            }
            // What was too large is not answered.
            (ENDED, Place::NoMachine | Place::Machine | Place::Question) => {
                let ending = Ending::from_code(rest.byte("the end")?);
                let ending = ending.ok_or(RecordError::Value { what: "the end" })?;
                (Record::Ended(ending), Place::End)
            }
            (kind, _) => return Err(RecordError::Order { what: name(kind) }),
        };
        rest.end()?;
        self.place = place;
        Ok(record)
    }

    fn resumed(&mut self, rest: &mut Rest<'_>) -> Result<Resumed, RecordError> {
        let (config, catalog) = (config(rest)?, Arc::new(catalog(rest)?));
        self.run = Some((Arc::clone(&catalog), Vec::new()));
        Ok(Resumed { config, catalog, durable: durable(rest)?, now: mono(rest)? })
    }

    fn told(&mut self, rest: &mut Rest<'_>) -> Result<(MonoTime, Event), RecordError> {
        let now = mono(rest)?;
        let Some((catalog, layouts)) = &mut self.run else {
            return Err(RecordError::Order { what: name(TOLD) });
        };
        Ok((now, RowReader { catalog, layouts }.event(rest)?))
    }
}

const fn name(kind: u8) -> &'static str {
    match kind {
        BEGINNING => "a beginning",
        RESUMED => "a machine",
        TOLD => "an event",
        ANSWERED => "an answer",
        ENDED => "an end",
        _ => "a frame of an unknown kind",
    }
}
