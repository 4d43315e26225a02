//! Records runs to a file, for `sim replay`: what machines are told and what they answer.
//!
//! The driver never waits for the disk. It leaves the bytes in a buffer, a thread writes them; if the buffer
//! gets too full, or the file too large, or the disk has no room, the recording ends with a warning and
//! replication goes on without it.
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use replicator_core::model::catalog::Catalog;
use replicator_core::model::time::MonoTime;
use replicator_core::record::{self, Ending, TooLarge, Values};
use replicator_core::{Config, Durable, Effect, Event, Machine, Stop};
use thiserror::Error;
use tracing::{info, warn};

/// What waits for the disk, in bytes; more is the end of the recording.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// From one write to the next, so that many steps share one. What a killed process has not written is not
/// older than this, if the disk keeps up.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the end of the process waits for the rest to be written.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// What to record, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderSettings {
    /// A file that does not exist yet.
    pub file: PathBuf,
    /// Whether values of rows are written as they are; if not, they are hashed with a key that nobody knows.
    pub plain_values: bool,
    /// The recording ends before the file is larger than this, in bytes.
    pub bytes_max: u64,
}

/// A recording cannot begin.
#[derive(Debug, Error)]
pub enum RecorderError {
    /// There is a file of this name.
    #[error("could not record to \"{}\": it exists, and a recording overwrites nothing", file.display())]
    Exists {
        /// Which file.
        file: PathBuf,
    },
    /// The file cannot be made.
    #[error("could not record to \"{}\"", file.display())]
    Create {
        /// Which file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is no key to hash with.
    #[error("the system has no random numbers")]
    Random,
    /// There is no thread to write with.
    #[error("could not start a thread")]
    Thread(#[source] io::Error),
}

/// One recording. Clones are the same one; dropping the last of them writes what is left.
#[derive(Clone, Debug)]
pub struct Recorder {
    owner: Arc<Owner>,
}

/// What all clones share, but not the thread.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
    // Something was left to be written, the recording is over, or the thread has ended.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    recorder: record::Recorder,
    waiting: Vec<u8>,
    /// Bytes made so far, written or not.
    made_bytes: u64,
    /// Nothing more is recorded.
    over: bool,
    /// The thread has written all it could.
    written: bool,
}

impl Recorder {
    /// Makes the file, which only its owner may read, and begins.
    ///
    /// # Errors
    ///
    /// See [`RecorderError`].
    pub fn create(settings: RecorderSettings) -> Result<Self, RecorderError> {
        let RecorderSettings { file, plain_values, bytes_max } = settings;
        let values = if plain_values { Values::Plain } else { Values::Hashed(random()?) };
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        let out = opened.map_err(|source| {
            let file = file.clone();
            if source.kind() == ErrorKind::AlreadyExists {
                RecorderError::Exists { file }
            } else {
                RecorderError::Create { file, source }
            }
        })?;
        let mut waiting = Vec::new();
        let recorder = record::Recorder::begin(values, &mut waiting);
        let made_bytes = waiting.len() as u64;
        let state =
            Mutex::new(State { recorder, waiting, made_bytes, over: false, written: false });
        let shared = Arc::new(Shared { file, bytes_max, state, changed: Condvar::new() });
        let writing = Arc::clone(&shared);
        let thread = thread::Builder::new().name("recorder".to_owned());
        thread.spawn(move || writing.write(out)).map_err(RecorderError::Thread)?;
        let file = shared.file.display();
        if plain_values {
            warn!(%file, "recording what happens, values of rows included");
        } else {
            info!(%file, "recording what happens, values of rows hashed");
        }
        Ok(Self { owner: Arc::new(Owner { shared }) })
    }

    /// A machine is about to be resumed with these.
    pub fn resumed(
        &self,
        config: &Config,
        catalog: &Arc<Catalog>,
        durable: &Durable,
        now: MonoTime,
    ) {
        self.put(|recorder, out| recorder.resumed(config, catalog, durable, now, out));
    }

    /// The machine is about to be told this.
    pub fn told(&self, now: MonoTime, event: &Event) {
        self.put(|recorder, out| recorder.told(now, event, out));
    }

    /// The machine has answered this.
    pub fn answered(&self, answered: Result<&[Effect], &Stop>, machine: &Machine) {
        self.put(|recorder, out| recorder.answered(answered, machine, out));
    }

    /// The process ends. Waits some seconds until all is written.
    pub fn finish(&self) {
        let shared = &self.owner.shared;
        let mut state = shared.lock();
        if !state.over {
            let State { recorder, waiting, .. } = &mut *state;
            recorder.ended(Ending::Finished, waiting);
        }
        drop(state);
        shared.end();
    }

    fn put(&self, make: impl FnOnce(&mut record::Recorder, &mut Vec<u8>) -> Result<(), TooLarge>) {
        let shared = &self.owner.shared;
        let mut state = shared.lock();
        if state.over {
            return;
        }
        let State { recorder, waiting, made_bytes, over, written: _ } = &mut *state;
        let before = waiting.len();
        let made = make(recorder, waiting);
        let bytes = (waiting.len() - before) as u64;
        let ending = if made.is_err() {
            Some(Ending::TooLarge)
        } else if shared.bytes_max < made_bytes.saturating_add(bytes) {
            Some(Ending::Full)
        } else if WAITING_BYTES_MAX < waiting.len() {
            Some(Ending::Slow)
        } else {
            None
        };
        *made_bytes += bytes;
        if let Some(ending) = ending {
            waiting.truncate(before);
            recorder.ended(ending, waiting);
            *over = true;
            warn!(file = %shared.file.display(), "recording has ended: {ending}");
        }
        shared.changed.notify_all();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it has left whole frames and at worst a part of one at the end.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes nothing more, and waits for the thread to write the rest.
    fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        self.changed.notify_all();
        let ended = self.changed.wait_timeout_while(state, FINISH_MAX, |state| !state.written);
        let (state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        if !state.written {
            warn!(file = %self.file.display(), "the end of the recording is not written yet");
        }
    }

    /// What the thread does.
    fn write(&self, mut out: File) {
        loop {
            let state = self.lock();
            let nothing = |state: &mut State| state.waiting.is_empty() && !state.over;
            let waited = self.changed.wait_while(state, nothing);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let bytes = std::mem::take(&mut state.waiting);
            let over = state.over;
            drop(state);
            let result = out.write_all(&bytes);
            if let Err(error) = &result {
                warn!(file = %self.file.display(), %error, "recording has ended: could not write");
            }
            if over || result.is_err() {
                let mut state = self.lock();
                (state.over, state.written) = (true, true);
                state.waiting = Vec::new();
                return self.changed.notify_all();
            }
            thread::sleep(PAUSE);
        }
    }
}

fn random() -> Result<[u8; 16], RecorderError> {
    let mut key = [0; 16];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| RecorderError::Random)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use replicator_core::model::position::{Lsn, Position};
    use replicator_core::model::time::MonoTime;
    use replicator_core::record::{Ending, MAGIC, Reader, Record, Split, split};
    use replicator_core::{Config, Durable, Event, OnReject, Retry};

    use super::{Duration, Recorder, RecorderError, RecorderSettings};

    fn settings(name: &str, bytes_max: u64) -> RecorderSettings {
        let name = format!("replicator-recorder-{}-{name}", std::process::id());
        let file = std::env::temp_dir().join(name);
        RecorderSettings { file, plain_values: false, bytes_max }
    }

    const CONFIG: Config = Config {
        batch_rows_max: 1,
        batch_txs_max: 1,
        batch_growth_max: 1,
        batch_age_max: Duration::ZERO,
        buffered_bytes_max: 1,
        stages_max: 1,
        applies_max: 1,
        retry: Retry {
            tries_max: 1,
            delay_first: Duration::ZERO,
            delay_max: Duration::ZERO,
            factor: 1,
        },
        read_rows_max: 1,
        save_interval: Duration::ZERO,
        on_reject: OnReject::Stop,
        collapse: true,
        seed: 1,
    };

    /// Resumes a machine and tells it as many things as asked for.
    fn record(recorder: &Recorder, steps: u64) {
        use replicator_core::Machine;
        use replicator_core::model::catalog::Catalog;
        let catalog = std::sync::Arc::new(Catalog::default());
        let durable = Durable::default();
        recorder.resumed(&CONFIG, &catalog, &durable, MonoTime::START);
        let machine = Machine::resume(CONFIG, catalog, durable, MonoTime::START);
        for step in 1..=steps {
            recorder.told(MonoTime::START, &Event::IdleThrough(Position::Lsn(Lsn(step))));
            recorder.answered(Ok(&[]), &machine);
        }
    }

    /// Reads and removes the file; everything in it must be whole.
    fn records(file: &PathBuf) -> Vec<Record> {
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        let mut rest = bytes.strip_prefix(MAGIC).unwrap();
        let mut reader = Reader::new(0);
        let mut records = Vec::new();
        while let Split::Frame { payload, used } = split(rest).unwrap() {
            records.push(reader.read(payload).unwrap());
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
        records
    }

    #[test]
    fn what_is_recorded_is_in_a_file_of_its_owner() {
        let settings = settings("whole", 1 << 20);
        let recorder = Recorder::create(settings.clone()).unwrap();
        record(&recorder, 100);
        recorder.finish();
        let mode = fs::metadata(&settings.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let records = records(&settings.file);
        assert_eq!(records.len(), 2 + 200 + 1);
        assert_eq!(records.last(), Some(&Record::Ended(Ending::Finished)));
    }

    #[test]
    fn a_recording_without_an_end_is_written_all_the_same() {
        let settings = settings("dropped", 1 << 20);
        record(&Recorder::create(settings.clone()).unwrap(), 1);
        assert!(matches!(records(&settings.file).last(), Some(Record::Answered(_))));
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let settings = settings("exists", 1 << 20);
        fs::write(&settings.file, "precious").unwrap();
        let error = Recorder::create(settings.clone()).unwrap_err();
        assert!(matches!(error, RecorderError::Exists { .. }), "{error}");
        assert_eq!(fs::read(&settings.file).unwrap(), b"precious");
        fs::remove_file(&settings.file).unwrap();
    }

    #[test]
    fn a_recording_that_is_full_says_so_and_takes_no_more() {
        let settings = settings("full", 2_000);
        let recorder = Recorder::create(settings.clone()).unwrap();
        record(&recorder, 1_000);
        recorder.finish();
        let len = fs::metadata(&settings.file).unwrap().len();
        assert!((1_900..2_020).contains(&len), "{len} bytes");
        assert_eq!(records(&settings.file).last(), Some(&Record::Ended(Ending::Full)));
    }
}
