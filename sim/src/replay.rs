//! Plays what the program recorded of itself with `--recordTrace`: tells machines the same again and
//! compares what they answer, step by step.
use std::fmt;
use std::io::{self, Read};
use std::panic::AssertUnwindSafe;

use replicator_core::record::{
    Difference, FILLED_BYTES_MAX, MAGIC, Played, Player, Reader, Record, RecordError, Split, split,
};
use thiserror::Error;

use crate::quiet::quietly;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 1 << 20;

/// What came of a recording.
#[derive(Debug)]
pub struct Report {
    /// The program that made it, and whether it hashed values.
    pub made: Option<(String, bool)>,
    /// How far it was played.
    pub played: Played,
    /// Where the last frame is cut off, in bytes from the start; `None` if it is whole.
    pub cut_at: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a replay ended.
#[derive(Debug)]
pub enum Outcome {
    /// With the same answers, to the end of the recording.
    Identical,
    /// With another answer.
    Differs(Box<Difference>),
    /// With a bug.
    Panicked {
        /// The run, counted from 1.
        run: u64,
        /// The step of this run, counted from 1.
        step: u64,
        /// What it says.
        message: String,
        /// Whether it had an answer when it was recorded. If not, that was probably the end of it, too.
        answered: bool,
    },
}

/// The file cannot be played.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("could not read the recording: {0}")]
    Read(#[from] io::Error),
    /// It is no recording, or it was changed.
    #[error("malformed from byte {at} on: {error}")]
    Malformed {
        /// Where, in bytes from the start.
        at: u64,
        /// What is wrong.
        error: RecordError,
    },
}

/// Plays a recording to its end, or to the first answer that differs.
///
/// # Errors
///
/// See [`ReplayError`].
pub fn replay(mut file: impl Read) -> Result<Report, ReplayError> {
    let mut magic = [0; MAGIC.len()];
    let mut at = 0;
    let malformed = |at: u64, error: RecordError| ReplayError::Malformed { at, error };
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *MAGIC => at += MAGIC.len() as u64,
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        Ok(()) | Err(_) => return Err(malformed(at, RecordError::Magic)),
    }
    let mut reader = Reader::new(FILLED_BYTES_MAX);
    let mut playing = Playing { player: Player::default(), made: None, broken: None };
    let mut held = Vec::new();
    loop {
        let mut used = 0;
        while let Split::Frame { payload, used: frame } =
            split(&held[used..]).map_err(|error| malformed(at, error))?
        {
            let record = reader.read(payload).map_err(|error| malformed(at, error))?;
            if let Some(outcome) = playing.play(record) {
                return Ok(playing.report(None, outcome));
            }
            used += frame;
            at += frame as u64;
        }
        held.drain(..used);
        let before = held.len();
        (&mut file).take(READ_BYTES as u64).read_to_end(&mut held)?;
        if held.len() == before {
            let cut_at = (!held.is_empty()).then_some(at);
            let outcome = playing.broken.take().map_or(Outcome::Identical, Broken::last);
            return Ok(playing.report(cut_at, outcome));
        }
    }
}

struct Playing {
    player: Player,
    made: Option<(String, bool)>,
    broken: Option<Broken>,
}

/// Where and how the machine broke.
struct Broken {
    run: u64,
    step: u64,
    message: String,
}

impl Broken {
    fn outcome(self, answered: bool) -> Outcome {
        let Self { run, step, message } = self;
        Outcome::Panicked { run, step, message, answered }
    }

    /// Nothing follows in the recording.
    fn last(self) -> Outcome {
        self.outcome(false)
    }
}

impl Playing {
    /// Plays a record; returns how it ends if it ends here.
    fn play(&mut self, record: Record) -> Option<Outcome> {
        if let Record::Beginning { version, hashed } = &record {
            self.made = Some((version.clone(), *hashed));
        }
        if let Some(broken) = self.broken.take() {
            return Some(broken.outcome(matches!(record, Record::Answered(_))));
        }
        match quietly(AssertUnwindSafe(|| self.player.play(record))) {
            Ok(Ok(())) => None,
            Ok(Err(difference)) => Some(Outcome::Differs(difference)),
            Err(message) => {
                let (run, step) = self.player.place();
                self.broken = Some(Broken { run, step, message });
                None
            }
        }
    }

    fn report(self, cut_at: Option<u64>, outcome: Outcome) -> Report {
        Report { made: self.made, played: self.player.played(), cut_at, outcome }
    }
}

impl fmt::Display for Report {
    /// What a reader should know, the outcome last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, played, cut_at, outcome } = self;
        let Played { runs, steps, effects, unanswered, ending } = *played;
        if let Some((version, hashed)) = made {
            let values = if *hashed { "hashed" } else { "in it" };
            writeln!(f, "recorded by replicator {version}, values of rows {values}")?;
        }
        match outcome {
            Outcome::Identical => {
                match (cut_at, ending) {
                    (Some(at), _) => writeln!(f, "cut off after {at} bytes, as by a kill")?,
                    (None, None) => writeln!(f, "it does not say why it ends, as after a kill")?,
                    (None, Some(ending)) => writeln!(f, "it ends because {ending}")?,
                }
                if unanswered {
                    writeln!(f, "what the machine was told last has no answer in it")?;
                }
                write!(f, "replays identically: {runs} runs, {steps} steps, {effects} effects")
            }
            Outcome::Differs(difference) => {
                write!(f, "{difference}differs after {steps} steps that replay identically")
            }
            Outcome::Panicked { run, step, message, answered } => {
                let then = if *answered { "had an answer" } else { "broke" };
                write!(f, "run {run}, step {step}: the machine breaks where it {then}: {message}")
            }
        }
    }
}
