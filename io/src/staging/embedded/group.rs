//! The writes of one commit, applied one after the other to the tables of its transaction.
use redb::{ReadableTable as _, Table, WriteTransaction};
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::staged::{StagedError, encode_key, encode_value, image};
use replicator_core::{Durable, Failure};

use super::EmbeddedError;
use super::error::row_failure;
use super::file::{OpenFile, Refused};
use super::request::{Held, Request, Stream, Write};
use super::tables::{
    LATEST, LAYOUTS, MEMO, RESOLVED, STAGED, STREAM_BYTES, TABLES, TIME_BYTES, key_after, memo,
    position_of, time_bytes, time_of,
};
use crate::port::Fence;

/// So many rows are retired by one commit at most, so that others do not wait for long.
const RETIRED_MAX: usize = 20_000;

/// What became of a request, as far as the disk lets it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is done, or refused for a reason of its own.
    Held(Held),
    /// A part is done.
    Unfinished(Request),
    /// Nothing of the group will be.
    Broken(Held, EmbeddedError),
}

/// The tables of a transaction.
pub(super) struct Group<'a> {
    file: &'a mut OpenFile,
    memo: Table<'a, (&'static str, &'static str), &'static [u8]>,
    resolved: Table<'a, (&'static str, &'static str), &'static [u8]>,
    tables: Table<'a, u32, &'static [u8]>,
    layouts: Table<'a, u32, &'static [u8]>,
    staged: Table<'a, &'static [u8], &'static [u8]>,
    latest: Table<'a, &'static [u8], &'static [u8]>,
    changed: bool,
}

/// A key and its value.
type Encoded = (Vec<u8>, Vec<u8>);

/// Whether all of a request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Finished,
    Unfinished,
}

impl<'a> Group<'a> {
    pub(super) fn new(
        file: &'a mut OpenFile,
        transaction: &'a WriteTransaction,
    ) -> Result<Self, EmbeddedError> {
        let path = file.path.clone();
        let failed = |error| EmbeddedError::database(&path, error);
        Ok(Self {
            file,
            memo: transaction.open_table(MEMO).map_err(failed)?,
            resolved: transaction.open_table(RESOLVED).map_err(failed)?,
            tables: transaction.open_table(TABLES).map_err(failed)?,
            layouts: transaction.open_table(LAYOUTS).map_err(failed)?,
            staged: transaction.open_table(STAGED).map_err(failed)?,
            latest: transaction.open_table(LATEST).map_err(failed)?,
            changed: false,
        })
    }

    /// Does one request, or a part of it.
    pub(super) fn apply(&mut self, request: Request) -> Outcome {
        match request {
            Request::Begin(stream, reply) => match self.begin(&stream) {
                Ok(began) => Outcome::Held(Held::Began(reply, Ok(began))),
                Err(Refused::Request(failure)) => Outcome::Held(Held::Began(reply, Err(failure))),
                Err(Refused::File(error)) => {
                    let failure = error.failure();
                    Outcome::Broken(Held::Began(reply, Err(failure)), error)
                }
            },
            Request::Write(stream, write, reply) => match self.write(&stream, &write) {
                Ok(Progress::Finished) => Outcome::Held(Held::Written(reply, Ok(()))),
                Ok(Progress::Unfinished) => {
                    Outcome::Unfinished(Request::Write(stream, write, reply))
                }
                Err(Refused::Request(failure)) => Outcome::Held(Held::Written(reply, Err(failure))),
                Err(Refused::File(error)) => {
                    let failure = error.failure();
                    Outcome::Broken(Held::Written(reply, Err(failure)), error)
                }
            },
            Request::Read(..)
            | Request::Text(..)
            | Request::Newest(..)
            | Request::Horizon(..)
            | Request::Streams(_)
            | Request::Totals(_)
            | Request::Close(_) => {
                unreachable!("the ledger sorts them")
            }
        }
    }

    /// Writes what belongs to the whole file. Says whether there is anything to commit.
    pub(super) fn finish(mut self) -> Result<bool, EmbeddedError> {
        let fresh = self.file.names.take_fresh();
        for (number, name) in &fresh.tables {
            let inserted = self.tables.insert(number.0, &**name).map(drop);
            inserted.map_err(|error| self.failed(error))?;
        }
        for (number, names) in &fresh.layouts {
            let inserted = self.layouts.insert(number.0, &**names).map(drop);
            inserted.map_err(|error| self.failed(error))?;
        }
        // Names that nobody wrote would be missing later, though every row that uses them was refused.
        self.changed |= !fresh.tables.is_empty() || !fresh.layouts.is_empty();
        if self.changed {
            let totals = self.file.totals;
            self.put("", memo::ROWS, &totals.rows.to_be_bytes())?;
            self.put("", memo::BYTES, &totals.bytes.to_be_bytes())?;
        }
        Ok(self.changed)
    }

    fn begin(&mut self, stream: &Stream) -> Result<(Fence, Durable), Refused> {
        if !self.file.streams.contains_key(&stream.name) {
            let last = self.file.streams.values().map(|state| state.number).max();
            let number = last.map_or(0, |last| last + 1);
            let state = self.file.streams.entry(stream.name.clone()).or_default();
            state.number = number;
            self.put(&stream.name, memo::NUMBER, &u64::from(number).to_be_bytes())?;
        }
        let state = self.file.streams.entry(stream.name.clone()).or_default();
        state.begin();
        let fence = state.fence;
        self.put(&stream.name, memo::FENCE, &fence.to_be_bytes())?;
        let checkpoint = self.checkpoint(stream)?;
        let mut durable = Durable { checkpoint, applied: Vec::new(), ..Durable::default() };
        for (number, partition) in (0..).zip(&stream.partitions) {
            let resolved = self.resolved(stream, partition)?;
            durable.resolved.insert(PartitionId(number), resolved);
        }
        Ok((Fence(fence), durable))
    }

    fn write(&mut self, stream: &Stream, write: &Write) -> Result<Progress, Refused> {
        match write {
            Write::Stage(fence, rows, floor) => {
                self.check(stream, *fence)?;
                self.stage(stream, rows, *floor)?;
            }
            Write::Retire(fence, through) => {
                self.check(stream, *fence)?;
                return self.retire(stream, *through);
            }
            Write::Checkpoint(fence, position) => {
                self.check(stream, *fence)?;
                self.save_checkpoint(stream, *position)?;
            }
            Write::Resolved(fence, partition, resolved) => {
                self.check(stream, *fence)?;
                self.save_resolved(stream, *partition, *resolved)?;
            }
            Write::Horizon(fence, through) => {
                self.check(stream, *fence)?;
                self.save_horizon(stream, *through)?;
            }
            Write::Identity(identity) => {
                self.put(&stream.name, memo::IDENTITY, identity.as_bytes())?;
            }
            Write::Text(fence, fact, text) => {
                self.check(stream, *fence)?;
                self.put(&stream.name, fact, text.as_bytes())?;
            }
        }
        Ok(Progress::Finished)
    }

    fn check(&self, stream: &Stream, fence: Fence) -> Result<(), Refused> {
        let newest = self.file.streams.get(&stream.name).map(|state| state.fence);
        if newest == Some(fence.0) { Ok(()) } else { Err(Refused::Request(Failure::Fenced)) }
    }

    fn stage(
        &mut self,
        stream: &Stream,
        rows: &[TimedMutation],
        floor: Hlc,
    ) -> Result<(), Refused> {
        let encoded = self.encoded(stream, rows);
        let encoded =
            encoded.map_err(|error| Refused::Request(row_failure(&self.file.path, &error)))?;
        let bytes: usize = encoded.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.check_room(bytes)?;
        let mut oldest = Hlc { nanos: u64::MAX, logical: u32::MAX };
        for (mut key, value) in encoded {
            let row = row_of(&key);
            let sent = *time_in(&mut key);
            if sent <= time_bytes(floor) {
                if self.newest(&row)?.is_some_and(|newest| sent <= newest) {
                    continue;
                }
                *time_in(&mut key) = time_bytes(floor.next());
            }
            oldest = oldest.min(time_of(time_in(&mut key)).unwrap_or_default());
            let old = self.staged.insert(&*key, &*value);
            let old = old.map(|old| old.map(|old| old.value().len()));
            let old = old.map_err(|error| EmbeddedError::database(&self.file.path, error))?;
            self.changed = true;
            self.file.totals.replace(key.len(), old, value.len());
            self.remember(&row, sent)?;
        }
        self.file.streams.entry(stream.name.clone()).or_default().stage(oldest);
        Ok(())
    }

    /// The newest time that was ever staged of a row.
    fn newest(&self, row: &[u8]) -> Result<Option<[u8; TIME_BYTES]>, EmbeddedError> {
        let newest = self.latest.get(row).map_err(|error| self.failed(error))?;
        let broken = || EmbeddedError::damaged(&self.file.path, &"a time has not twelve bytes");
        newest.map(|time| time.value().try_into().map_err(|_| broken())).transpose()
    }

    fn remember(&mut self, row: &[u8], time: [u8; TIME_BYTES]) -> Result<(), EmbeddedError> {
        let old = self.latest.insert(row, &time[..]);
        let old = old.map(|old| old.map(|old| old.value().to_vec()));
        let old = old.map_err(|error| EmbeddedError::database(&self.file.path, error))?;
        if let Some(old) = old.filter(|old| time[..] < old[..]) {
            let kept = self.latest.insert(row, &*old).map(drop);
            kept.map_err(|error| EmbeddedError::database(&self.file.path, error))?;
        }
        Ok(())
    }

    /// Keys and values, in the order of their keys: that is the fastest way into the file.
    fn encoded(
        &mut self,
        stream: &Stream,
        rows: &[TimedMutation],
    ) -> Result<Vec<Encoded>, StagedError> {
        let OpenFile { names, streams, .. } = &mut *self.file;
        let state = streams.entry(stream.name.clone()).or_default();
        let number = state.number;
        let mapping = state.mapping(stream);
        let mut encoded = Vec::with_capacity(rows.len());
        for TimedMutation { time, mutation } in rows {
            let table = stream.catalog.table(mutation.table);
            let row = image(&mutation.change, table)?;
            let (stored, layout) = mapping.write(names, row.layout());
            let mut key = Vec::with_capacity(48);
            key.extend_from_slice(&number.to_be_bytes());
            encode_key(*time, stored, row, table, &mut key)?;
            let mut value = Vec::with_capacity(8 + row.as_bytes().len());
            encode_value(&mutation.change, layout, table, &mut value)?;
            encoded.push((key, value));
        }
        // Stable: of two changes with one key the later one stays.
        encoded.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(encoded)
    }

    fn check_room(&self, bytes: usize) -> Result<(), Refused> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let (held, path) = (self.file.totals.bytes, self.file.path.display());
        match self.file.bytes_max {
            Some(bytes_max) if bytes_max < held.saturating_add(bytes) => {
                let detail = format!(
                    "staging: file \"{path}\" holds {held} bytes of rows and may hold {bytes_max}; \
                     nothing more is accepted until rows are applied"
                );
                Err(Refused::Request(Failure::Transient { detail }))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn retire(&mut self, stream: &Stream, through: Hlc) -> Result<Progress, Refused> {
        let Some(state) = self.file.streams.get(&stream.name) else {
            return Ok(Progress::Finished);
        };
        // Other lanes have rows of these times, too, which are not to be looked at each time.
        let from = state.retired(&stream.lane);
        let mut first = key_after(state.number, from).to_vec();
        if from == Hlc::default() {
            first.truncate(STREAM_BYTES);
        }
        let before = key_after(state.number, through);
        let path = self.file.path.clone();
        let failed = |error| EmbeddedError::database(&path, error);
        let OpenFile { names, streams, totals, .. } = &mut *self.file;
        let state = streams.entry(stream.name.clone()).or_default();
        let mut retired = 0;
        while retired < RETIRED_MAX && first[..] < before[..] {
            // To let redb remove a whole range is cheaper than to take rows out one by one.
            let end = {
                // Not longer: redb panics if pages that are still being read are changed.
                let mut rows = self.staged.range(&first[..]..&before[..]).map_err(failed)?;
                let Some(row) = rows.next().transpose().map_err(failed)? else { break };
                let time = row.0.value().get(STREAM_BYTES..).and_then(<[u8]>::first_chunk);
                let time = time.and_then(|time: &[u8; TIME_BYTES]| time_of(time));
                let marks = state.marks(&stream.lane);
                match time.and_then(|time| marks.reach(time, through, RETIRED_MAX)) {
                    Some(reach) => key_after(state.number, reach).to_vec(),
                    None => {
                        let next = rows.nth(RETIRED_MAX).transpose().map_err(failed)?;
                        next.map_or_else(|| before.to_vec(), |(key, _)| key.value().to_vec())
                    }
                }
            };
            let mapping = state.mapping(stream);
            let stays = |key: &[u8], value: &[u8]| {
                // One that cannot be read is not retired.
                let goes = mapping.is_in(names, &stream.lane, key).unwrap_or(false);
                if goes {
                    totals.remove(key.len(), value.len());
                    retired += 1;
                }
                !goes
            };
            self.staged.retain_in(&first[..]..&end[..], stays).map_err(failed)?;
            first = end;
        }
        self.changed |= 0 < retired;
        if RETIRED_MAX <= retired && first[..] < before[..] {
            return Ok(Progress::Unfinished);
        }
        state.retire(&stream.lane, through);
        state.marks(&stream.lane).forget(through);
        Ok(Progress::Finished)
    }

    fn checkpoint(&self, stream: &Stream) -> Result<Option<Position>, EmbeddedError> {
        let value = self.memo.get((&*stream.name, memo::CHECKPOINT));
        let value = value.map_err(|error| self.failed(error))?;
        let broken = || EmbeddedError::damaged(&self.file.path, &"a saved position cannot be read");
        value.map(|value| position_of(value.value()).ok_or_else(broken)).transpose()
    }

    fn save_checkpoint(&mut self, stream: &Stream, position: Position) -> Result<(), Refused> {
        if self.checkpoint(stream)? < Some(position) {
            self.put(&stream.name, memo::CHECKPOINT, position.to_sortable().as_bytes())?;
        }
        Ok(())
    }

    fn resolved(&self, stream: &Stream, partition: &str) -> Result<Hlc, EmbeddedError> {
        let value = self.resolved.get((&*stream.name, partition));
        let value = value.map_err(|error| self.failed(error))?;
        let broken = || EmbeddedError::damaged(&self.file.path, &"a promise cannot be read");
        let Some(value) = value else { return Ok(Hlc::default()) };
        time_of(value.value()).ok_or_else(broken)
    }

    fn save_resolved(
        &mut self,
        stream: &Stream,
        partition: PartitionId,
        resolved: Hlc,
    ) -> Result<(), Refused> {
        let index = usize::try_from(partition.0).ok();
        let Some(name) = index.and_then(|index| stream.partitions.get(index)) else {
            let detail = format!("staging: stream \"{}\" has no {partition}", stream.name);
            return Err(Refused::Request(Failure::Rejected { detail, at: None }));
        };
        if self.resolved(stream, name)? < resolved {
            let time = time_bytes(resolved);
            let inserted = self.resolved.insert((&*stream.name, &**name), &time[..]).map(drop);
            inserted.map_err(|error| self.failed(error))?;
            self.changed = true;
        }
        Ok(())
    }

    fn save_horizon(&mut self, stream: &Stream, through: Hlc) -> Result<(), EmbeddedError> {
        let saved = self.memo.get((&*stream.name, stream.horizon()));
        let saved = saved.map_err(|error| self.failed(error))?;
        let time = time_bytes(through);
        if saved.is_some_and(|saved| time[..] <= *saved.value()) {
            return Ok(());
        }
        self.put(&stream.name, stream.horizon(), &time)
    }

    fn put(&mut self, stream: &str, fact: &str, value: &[u8]) -> Result<(), EmbeddedError> {
        let inserted = self.memo.insert((stream, fact), value).map(drop);
        inserted.map_err(|error| self.failed(error))?;
        self.changed = true;
        Ok(())
    }

    fn failed(&self, error: impl Into<redb::Error>) -> EmbeddedError {
        EmbeddedError::database(&self.file.path, error)
    }
}

/// What a staged row's key says of the row: all but its time.
fn row_of(key: &[u8]) -> Vec<u8> {
    let (stream, rest) = key.split_at(STREAM_BYTES);
    let (_, row) = rest.split_at(TIME_BYTES);
    [stream, row].concat()
}

fn time_in(key: &mut [u8]) -> &mut [u8; TIME_BYTES] {
    let time = key.get_mut(STREAM_BYTES..).and_then(|rest| rest.first_chunk_mut());
    time.expect("a key has a time")
}
