//! The staging file, one group of requests after the other. Plain and synchronous: a thread drives it in
//! production, the simulator by itself.
//!
//! All writes of a group are one durable commit, and no answer is given before it.
use std::path::PathBuf;

use replicator_core::Failure;

use super::EmbeddedError;
use super::file::OpenFile;
use super::request::{Request, answer};
use crate::disk::{Disk, DiskFile as _, Open, make_folder};

/// Where the staging file is, and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// Staged keys and values, in bytes, above which no more are accepted. The file may be some times
    /// larger. `None`: the disk is the limit.
    pub bytes_max: Option<u64>,
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
}

impl EmbeddedSettings {
    /// Without a limit of its own, and with 32 MiB of memory.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, bytes_max: None, cache_bytes: 32 << 20 }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("staging.redb")
    }
}

/// The open staging file of this process.
#[derive(Debug)]
pub struct Ledger<D: Disk> {
    disk: D,
    settings: EmbeddedSettings,
    // Held as long as the ledger lives, whatever becomes of the file. `None`: it is closed.
    lock: Option<D::File>,
    // `None` after an error: what is in memory may not be what is on the disk, so it is opened anew.
    file: Option<OpenFile>,
    // Requests of which a part is done: the next groups go on with them.
    unfinished: Vec<Request>,
}

impl<D: Disk> Ledger<D> {
    /// Opens the file, and makes it if it is not there. Reads all of it, to see whether it is whole.
    ///
    /// # Errors
    ///
    /// See [`EmbeddedError`].
    pub fn open(disk: D, settings: EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let path = settings.path();
        let failed = |source| EmbeddedError::disk(&path, source);
        make_folder(&disk, &settings.folder).map_err(failed)?;
        let lock = disk.open(&path.with_extension("lock"), Open::Create).map_err(failed)?;
        if !lock.try_lock().map_err(failed)? {
            return Err(EmbeddedError::Busy { path });
        }
        let file = OpenFile::open(&disk, &settings)?;
        let (lock, file) = (Some(lock), Some(file));
        Ok(Self { disk, settings, lock, file, unfinished: Vec::new() })
    }

    /// Whether something is left to do without new requests.
    pub(super) fn is_busy(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Does a group of requests, and answers them when what they wrote is durable. One that takes long is
    /// done in part; see [`is_busy`](Self::is_busy).
    pub(super) fn perform(&mut self, requests: Vec<Request>) {
        let mut writes = std::mem::take(&mut self.unfinished);
        let (mut others, mut closing) = (Vec::new(), Vec::new());
        for request in requests {
            match request {
                Request::Begin(..) | Request::Write(..) => writes.push(request),
                Request::Read(..)
                | Request::Text(..)
                | Request::Newest(..)
                | Request::Horizon(..)
                | Request::Streams(_)
                | Request::Totals(_) => others.push(request),
                Request::Close(reply) => closing.push(reply),
            }
        }
        self.write(writes);
        for request in others {
            self.read(request);
        }
        for reply in closing {
            self.file = None;
            self.lock = None;
            answer(reply, Ok(()));
        }
    }

    fn write(&mut self, writes: Vec<Request>) {
        if writes.is_empty() {
            return;
        }
        match self.file() {
            Ok(file) => match file.commit(writes) {
                Ok(unfinished) => self.unfinished = unfinished,
                Err(error) => self.lose(&error),
            },
            Err(failure) => writes.into_iter().for_each(|request| request.refuse(failure.clone())),
        }
    }

    fn read(&mut self, request: Request) {
        match self.file() {
            Ok(file) => {
                if let Err(error) = file.look(request) {
                    self.lose(&error);
                }
            }
            Err(failure) => request.refuse(failure),
        }
    }

    /// The file; opened again if there was an error.
    fn file(&mut self) -> Result<&mut OpenFile, Failure> {
        if self.lock.is_none() {
            let detail = "staging: the file is closed".to_owned();
            return Err(Failure::Transient { detail });
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let opened = OpenFile::open(&self.disk, &self.settings);
                opened.map_err(|error| error.failure())?
            }
        };
        Ok(self.file.insert(file))
    }

    fn lose(&mut self, error: &EmbeddedError) {
        tracing::warn!(error = %crate::error_chain(error), "the staging file is opened again");
        self.file = None;
    }
}
