//! The open file: its database, and what of it is kept in memory.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, WriteTransaction};
use replicator_core::Failure;
use replicator_core::model::mode::Lane;
use replicator_core::model::time::Hlc;

use super::backend::Backend;
use super::group::{Group, Outcome};
use super::marks::Marks;
use super::names::{Mapping, Names};
use super::page::read_page;
use super::request::{Held, Request, Stream, answer};
use super::tables::{
    FORMAT, LATEST, LAYOUTS, MEMO, RESOLVED, STAGED, STREAM_BYTES, TABLES, TIME_BYTES, key_after,
    memo, number_of, time_of,
};
use super::{EmbeddedError, EmbeddedSettings, Totals};
use crate::disk::{Disk, Open, PART};

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) path: PathBuf,
    pub(super) bytes_max: Option<u64>,
    database: Database,
    pub(super) names: Names,
    pub(super) streams: BTreeMap<String, StreamState>,
    pub(super) totals: Totals,
}

/// What is known of a stream.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    pub(super) number: u32,
    pub(super) fence: u64,
    mapping: Option<Mapping>,
    // Up to where no rows of a lane are left, as far as this run has seen: see `retired_place`.
    retired: [Hlc; 2],
    marks: [Marks; 3],
    // How many rows the last page had.
    pub(super) rows_likely: usize,
}

/// The whole of a stream has no mark: what is left of it is looked for from its first row.
const fn retired_place(lane: &Lane) -> Option<usize> {
    match lane {
        Lane::Whole => None,
        Lane::Related(_) => Some(0),
        Lane::Independent(_) => Some(1),
    }
}

impl StreamState {
    /// A run begins, perhaps with other tables in its lanes.
    pub(super) fn begin(&mut self) {
        self.fence += 1;
        self.retired = [Hlc::default(); 2];
        self.marks = Default::default();
    }

    /// What the reads of a lane have found.
    pub(super) const fn marks(&mut self, lane: &Lane) -> &mut Marks {
        let [whole, related, independent] = &mut self.marks;
        match lane {
            Lane::Whole => whole,
            Lane::Related(_) => related,
            Lane::Independent(_) => independent,
        }
    }

    /// Up to where no rows of the lane are left.
    pub(super) fn retired(&self, lane: &Lane) -> Hlc {
        let mark = retired_place(lane).and_then(|place| self.retired.get(place));
        mark.copied().unwrap_or_default()
    }

    /// No rows of the lane are left up to this time.
    pub(super) fn retire(&mut self, lane: &Lane, through: Hlc) {
        if let Some(mark) = retired_place(lane).and_then(|place| self.retired.get_mut(place)) {
            *mark = through.max(*mark);
        }
    }

    /// A row of this time is staged.
    pub(super) fn stage(&mut self, time: Hlc) {
        for mark in &mut self.retired {
            if time <= *mark {
                *mark = Hlc::default();
            }
        }
    }

    /// What names are in the catalog of the stream's run.
    pub(super) fn mapping(&mut self, stream: &Stream) -> &mut Mapping {
        let known = self.mapping.take().filter(|mapping| mapping.is_of(&stream.catalog));
        let fresh = || Mapping::new(std::sync::Arc::clone(&stream.catalog));
        self.mapping.insert(known.unwrap_or_else(fresh))
    }
}

impl OpenFile {
    /// Opens the file, or makes it.
    pub(super) fn open<D: Disk>(
        disk: &D,
        settings: &EmbeddedSettings,
    ) -> Result<Self, EmbeddedError> {
        let path = settings.path();
        let file = match disk.open(&path, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                create(disk, settings, &path)?;
                disk.open(&path, Open::Existing)
                    .map_err(|source| EmbeddedError::disk(&path, source))?
            }
            Err(source) => return Err(EmbeddedError::disk(&path, source)),
        };
        let mut builder = Builder::new();
        builder.set_cache_size(settings.cache_bytes).set_check_integrity_on_open(true);
        let opened = builder.create_with_backend(Backend(file));
        let database = opened.map_err(|error| EmbeddedError::database(&path, error))?;
        let mut file = Self {
            path,
            bytes_max: settings.bytes_max,
            database,
            names: Names::default(),
            streams: BTreeMap::new(),
            totals: Totals::default(),
        };
        file.load()?;
        Ok(file)
    }

    fn load(&mut self) -> Result<(), EmbeddedError> {
        let path = self.path.clone();
        let failed = |error: redb::Error| EmbeddedError::database(&path, error);
        let damaged = |detail: &str| EmbeddedError::damaged(&path, &detail);
        let read = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = read.open_table(MEMO).map_err(|error| failed(error.into()))?;
        for entry in table.iter().map_err(|error| failed(error.into()))? {
            let (key, value) = entry.map_err(|error| failed(error.into()))?;
            let ((stream, fact), value) = (key.value(), value.value());
            let number = || number_of(value).ok_or_else(|| damaged("a number has no eight bytes"));
            match (stream, fact) {
                ("", memo::FORMAT) => check_format(value, &path)?,
                ("", memo::ROWS) => self.totals.rows = number()?,
                ("", memo::BYTES) => self.totals.bytes = number()?,
                (stream, memo::NUMBER) => {
                    let number = u32::try_from(number()?);
                    let number = number.map_err(|_| damaged("there are too many streams"))?;
                    self.stream(stream).number = number;
                }
                (stream, memo::FENCE) => self.stream(stream).fence = number()?,
                // Read when somebody asks; facts that a later version adds are none of ours.
                (_, _) => (),
            }
        }
        let table = read.open_table(TABLES).map_err(|error| failed(error.into()))?;
        for entry in table.iter().map_err(|error| failed(error.into()))? {
            let (number, name) = entry.map_err(|error| failed(error.into()))?;
            let loaded = self.names.load_table(number.value(), name.value());
            loaded.map_err(|error| EmbeddedError::damaged(&path, &error))?;
        }
        let table = read.open_table(LAYOUTS).map_err(|error| failed(error.into()))?;
        for entry in table.iter().map_err(|error| failed(error.into()))? {
            let (number, names) = entry.map_err(|error| failed(error.into()))?;
            let loaded = self.names.load_layout(number.value(), names.value());
            loaded.map_err(|error| EmbeddedError::damaged(&path, &error))?;
        }
        Ok(())
    }

    fn stream(&mut self, name: &str) -> &mut StreamState {
        self.streams.entry(name.to_owned()).or_default()
    }

    /// Does what is to be written, in one commit, and answers when that is durable. Returns those of which
    /// a part is left to do.
    pub(super) fn commit(&mut self, writes: Vec<Request>) -> Result<Vec<Request>, EmbeddedError> {
        let (mut held, mut unfinished) = (Vec::new(), Vec::new());
        let mut writes = writes.into_iter();
        let committed = self.write_all(&mut writes, &mut held, &mut unfinished);
        let failure = committed.as_ref().err().map(EmbeddedError::failure);
        held.into_iter().for_each(|held| held.give(failure.as_ref()));
        if let Some(failure) = failure {
            unfinished.drain(..).chain(writes).for_each(|request| request.refuse(failure.clone()));
        }
        committed.map(|()| unfinished)
    }

    fn write_all(
        &mut self,
        writes: &mut impl Iterator<Item = Request>,
        held: &mut Vec<Held>,
        unfinished: &mut Vec<Request>,
    ) -> Result<(), EmbeddedError> {
        let path = self.path.clone();
        let failed = |error: redb::Error| EmbeddedError::database(&path, error);
        let transaction = self.begin_write()?;
        let changed = {
            let mut group = Group::new(self, &transaction)?;
            for request in writes {
                match group.apply(request) {
                    Outcome::Held(answer) => held.push(answer),
                    Outcome::Unfinished(request) => unfinished.push(request),
                    Outcome::Broken(answer, error) => {
                        held.push(answer);
                        return Err(error);
                    }
                }
            }
            group.finish()?
        };
        if changed {
            transaction.commit().map_err(|error| failed(error.into()))
        } else {
            transaction.abort().map_err(|error| failed(error.into()))
        }
    }

    fn begin_write(&self) -> Result<WriteTransaction, EmbeddedError> {
        let transaction = self.database.begin_write();
        transaction.map_err(|error| EmbeddedError::database(&self.path, error))
    }

    /// Answers a request that changes nothing.
    pub(super) fn look(&mut self, request: Request) -> Result<(), EmbeddedError> {
        let read = self.database.begin_read();
        let read = match read.map_err(|error| EmbeddedError::database(&self.path, error)) {
            Ok(read) => read,
            Err(error) => {
                request.refuse(error.failure());
                return Err(error);
            }
        };
        match request {
            Request::Read(stream, span, reply) => {
                let page = read_page(self, &read, &stream, span);
                settle(reply, page)
            }
            Request::Text(stream, key, reply) => settle(reply, self.text(&read, &stream, key)),
            Request::Newest(stream, reply) => settle(reply, self.newest(&read, &stream)),
            Request::Horizon(stream, reply) => settle(reply, self.horizon(&read, &stream)),
            Request::Streams(reply) => {
                answer(reply, Ok(self.streams.keys().cloned().collect()));
                Ok(())
            }
            Request::Totals(reply) => {
                answer(reply, Ok(self.totals));
                Ok(())
            }
            Request::Begin(..) | Request::Write(..) | Request::Close(_) => {
                unreachable!("the ledger sorts them")
            }
        }
    }

    fn text(
        &self,
        read: &redb::ReadTransaction,
        stream: &Stream,
        key: &'static str,
    ) -> Result<Option<String>, Refused> {
        let failed = |error: redb::Error| Refused::File(EmbeddedError::database(&self.path, error));
        let table = read.open_table(MEMO).map_err(|error| failed(error.into()))?;
        let value = table.get((&*stream.name, key));
        let value = value.map_err(|error| failed(error.into()))?;
        Ok(value.map(|value| String::from_utf8_lossy(value.value()).into_owned()))
    }

    fn horizon(&self, read: &redb::ReadTransaction, stream: &Stream) -> Result<Hlc, Refused> {
        let failed = |error: redb::Error| Refused::File(EmbeddedError::database(&self.path, error));
        let table = read.open_table(MEMO).map_err(|error| failed(error.into()))?;
        let value = table.get((&*stream.name, stream.horizon()));
        let Some(value) = value.map_err(|error| failed(error.into()))? else {
            return Ok(Hlc::default());
        };
        let broken = || EmbeddedError::damaged(&self.path, &"a horizon cannot be read");
        time_of(value.value()).ok_or_else(|| Refused::File(broken()))
    }

    /// The time of the last staged row of a stream.
    fn newest(&self, read: &redb::ReadTransaction, stream: &Stream) -> Result<Hlc, Refused> {
        let failed = |error: redb::Error| Refused::File(EmbeddedError::database(&self.path, error));
        let Some(state) = self.streams.get(&stream.name) else { return Ok(Hlc::default()) };
        let staged = read.open_table(STAGED).map_err(|error| failed(error.into()))?;
        let first = state.number.to_be_bytes();
        let before = key_after(state.number, Hlc { nanos: u64::MAX, logical: u32::MAX });
        let range = staged.range::<&[u8]>(&first[..]..&before[..]);
        let last = range.map_err(|error| failed(error.into()))?.next_back();
        let last = last.transpose().map_err(|error| failed(error.into()))?;
        let time = last.and_then(|(key, _)| {
            time_of(key.value().get(STREAM_BYTES..STREAM_BYTES + TIME_BYTES)?)
        });
        Ok(time.unwrap_or_default())
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Refused {
    /// For a reason of its own.
    Request(Failure),
    /// The file is of no use any more.
    File(EmbeddedError),
}

impl From<EmbeddedError> for Refused {
    fn from(error: EmbeddedError) -> Self {
        Self::File(error)
    }
}

fn settle<T>(
    reply: super::request::Reply<T>,
    outcome: Result<T, Refused>,
) -> Result<(), EmbeddedError> {
    match outcome {
        Ok(value) => answer(reply, Ok(value)),
        Err(Refused::Request(failure)) => answer(reply, Err(failure)),
        Err(Refused::File(error)) => {
            answer(reply, Err(error.failure()));
            return Err(error);
        }
    }
    Ok(())
}

fn check_format(value: &[u8], path: &Path) -> Result<(), EmbeddedError> {
    match value {
        [FORMAT] => Ok(()),
        [found] => {
            Err(EmbeddedError::Format { path: path.to_owned(), found: *found, known: FORMAT })
        }
        _ => Err(EmbeddedError::damaged(path, &"its format is not one byte")),
    }
}

/// Makes the file under another name, so that nobody ever sees a half of it.
fn create<D: Disk>(
    disk: &D,
    settings: &EmbeddedSettings,
    path: &Path,
) -> Result<(), EmbeddedError> {
    let disk_failed = |source| EmbeddedError::disk(path, source);
    let failed = |error: redb::Error| EmbeddedError::database(path, error);
    let part = path.with_extension(format!("redb{PART}"));
    let file = disk.open(&part, Open::Truncate).map_err(disk_failed)?;
    let database = Builder::new()
        .set_cache_size(settings.cache_bytes)
        .create_with_backend(Backend(file))
        .map_err(|error| failed(error.into()))?;
    let transaction = database.begin_write().map_err(|error| failed(error.into()))?;
    {
        let mut table = transaction.open_table(MEMO).map_err(|error| failed(error.into()))?;
        let format: &[u8] = &[FORMAT];
        table.insert(("", memo::FORMAT), format).map_err(|error| failed(error.into()))?;
    }
    transaction.open_table(RESOLVED).map_err(|error| failed(error.into()))?;
    transaction.open_table(TABLES).map_err(|error| failed(error.into()))?;
    transaction.open_table(LAYOUTS).map_err(|error| failed(error.into()))?;
    transaction.open_table(STAGED).map_err(|error| failed(error.into()))?;
    transaction.open_table(LATEST).map_err(|error| failed(error.into()))?;
    transaction.commit().map_err(|error| failed(error.into()))?;
    database.close().map_err(|error| failed(error.into()))?;
    disk.rename(&part, path).map_err(disk_failed)?;
    disk.sync_dir(&settings.folder).map_err(disk_failed)
}
