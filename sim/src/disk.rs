//! A disk that can be trusted as far as a real one: what was not synced may be gone or torn after a power
//! loss, and anything may fail.
//!
//! What is durable is `turmoil-fs`'s to know. This file adds one fault at an operation of the caller's
//! choice, locks, and a disk that lies about its syncs, to see that a test notices it.
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replicator_io::disk::{Disk, DiskFile, Entry, Open};
use turmoil_fs::Fs;
use turmoil_fs::shim::std::fs::{self as shim, File, OpenOptions};

use crate::random::Random;

/// What happens at the operation it was planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power is gone, before the operation or after it: it and all later ones fail until
    /// [`SimDisk::restart`].
    PowerLoss,
    /// The operation fails; a write may have written a part.
    IoError,
    /// From here on nothing grows and no file is made, until [`SimDisk::clear_space`].
    Full,
}

/// A pretend disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    fs: Fs,
    state: Arc<Mutex<State>>,
}

struct State {
    random: Random,
    operations: u64,
    planned: Option<(u64, Fault)>,
    // How often the power came back. Files opened before that are of no use.
    life: u64,
    off: bool,
    full: bool,
    lies: bool,
    locked: BTreeSet<PathBuf>,
}

/// How an operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Works,
    /// It takes effect, but nobody will know.
    DiesAfter,
}

impl SimDisk {
    /// An empty disk with blocks of 512 bytes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let fs = Fs::builder().seed(seed).block_size(512).short_read_probability(0.02);
        Self::over(fs.build(), seed)
    }

    /// A disk over a file system with settings of its own.
    #[must_use]
    pub fn over(fs: Fs, seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            operations: 0,
            planned: None,
            life: 0,
            off: false,
            full: false,
            lies: false,
            locked: BTreeSet::new(),
        };
        Self { fs, state: Arc::new(Mutex::new(state)) }
    }

    /// Plans a fault for the operation that comes after `operations` more.
    pub fn plan(&self, operations: u64, fault: Fault) {
        let mut state = self.lock();
        state.planned = Some((state.operations + operations, fault));
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// Whether a planned fault has not happened.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.lock().planned.is_some()
    }

    /// What was planned and has not happened does not happen. There is room again.
    pub fn forget_plan(&self) {
        let mut state = self.lock();
        state.planned = None;
        state.full = false;
    }

    /// From here on syncs do nothing.
    pub fn lie(&self) {
        self.lock().lies = true;
    }

    /// There is room again.
    pub fn clear_space(&self) {
        self.lock().full = false;
    }

    /// The process that uses it is gone: what it wrote is there, and it writes nothing more.
    pub fn end_process(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.locked.clear();
    }

    /// The power is gone and comes back. What was not durable is gone, or torn. No fault is planned.
    pub fn restart(&self) {
        let mut state = self.lock();
        self.fs.crash();
        state.life += 1;
        state.off = false;
        state.planned = None;
        state.locked.clear();
    }

    /// The time that files are written at, since 1970.
    pub fn set_now(&self, now: Duration) {
        self.fs.set_now(now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation. `grows` says whether it needs room.
    fn begin(&self, life: Option<u64>, grows: bool) -> io::Result<Course> {
        let mut state = self.lock();
        if state.off || life.is_some_and(|life| life != state.life) {
            return Err(io::Error::other("the power is gone"));
        }
        state.operations += 1;
        let due = state.planned.filter(|(at, _)| *at < state.operations);
        if let Some((_, fault)) = due {
            state.planned = None;
            match fault {
                Fault::Full => state.full = true,
                Fault::IoError => return Err(io::Error::other("input/output error")),
                Fault::PowerLoss => {
                    state.off = true;
                    if state.random.chance(50) {
                        return Err(io::Error::other("the power is gone"));
                    }
                    return Ok(Course::DiesAfter);
                }
            }
        }
        if state.full && grows {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(Course::Works)
    }

    /// Does an operation.
    fn perform<T>(
        &self,
        life: Option<u64>,
        grows: bool,
        operation: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let course = self.begin(life, grows)?;
        let _entered = self.fs.enter();
        let outcome = operation().map_err(kind_of);
        match course {
            Course::Works => outcome,
            Course::DiesAfter => Err(io::Error::other("the power is gone")),
        }
    }
}

/// The pretend file system has errors without a kind.
fn kind_of(error: io::Error) -> io::Error {
    match error.to_string().as_str() {
        "No space left on device" => ErrorKind::StorageFull.into(),
        "No such file or directory" => ErrorKind::NotFound.into(),
        _ => error,
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.perform(None, true, || shim::create_dir_all(folder))
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<SimFile> {
        let grows = {
            let _entered = self.fs.enter();
            matches!(how, Open::Create | Open::Truncate) && !shim::exists(path)
        };
        let file = self.perform(None, grows, || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options.create(matches!(how, Open::Create | Open::Truncate));
            options.truncate(how == Open::Truncate);
            options.open(path)
        })?;
        let life = self.lock().life;
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(SimFile { disk, path, life, file: Some(file), locked: Mutex::new(false) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(None, false, || shim::rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.perform(None, false, || shim::remove_file(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        self.perform(None, false, || {
            let mut found = Vec::new();
            for entry in shim::read_dir(folder)? {
                let entry = entry?;
                let about = entry.metadata()?;
                if let Ok(name) = entry.file_name().into_string()
                    && about.is_file()
                {
                    found.push(Entry { name, bytes: about.len(), modified: about.modified()? });
                }
            }
            found.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(found)
        })
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        let lies = self.lock().lies;
        self.perform(None, false, || if lies { Ok(()) } else { shim::sync_dir(folder) })
    }
}

/// An open file of a pretend disk.
pub struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
    // `None` only while it is dropped.
    file: Option<File>,
    locked: Mutex<bool>,
}

impl SimFile {
    fn perform<T>(
        &self,
        grows: bool,
        operation: impl FnOnce(&File) -> io::Result<T>,
    ) -> io::Result<T> {
        let file = self.file.as_ref().expect("open until it is dropped");
        self.disk.perform(Some(self.life), grows, || operation(file))
    }

    fn holds_lock(&self) -> MutexGuard<'_, bool> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.perform(false, |file| Ok(file.metadata()?.len()))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.perform(false, |file| file.read_exact_at(bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = self.perform(true, |file| file.write_all_at(bytes, offset));
        if written.is_err() && !self.disk.is_off() {
            // What fails half-way leaves a half.
            let part = self.disk.lock().random.within(0, bytes.len());
            let _entered = self.disk.fs.enter();
            let file = self.file.as_ref().expect("open until it is dropped");
            drop(file.write_all_at(&bytes[..part], offset));
        }
        written
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.perform(true, |file| file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        let lies = self.disk.lock().lies;
        self.perform(false, |file| if lies { Ok(()) } else { file.sync_data() })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.perform(false, |_| Ok(()))?;
        let taken = self.disk.lock().locked.insert(self.path.clone());
        *self.holds_lock() |= taken;
        Ok(taken)
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let holds = *self.holds_lock();
        let mut state = self.disk.lock();
        if holds && state.life == self.life {
            state.locked.remove(&self.path);
        }
        drop(state);
        let _entered = self.disk.fs.enter();
        drop(self.file.take());
    }
}
