//! What only the inside of the store can show: its commits, and files of another format.
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::{Change, Mutation, TableId, TimedMutation};
use replicator_core::model::row::{Cell, Layout, RowBuilder};
use replicator_core::model::time::Hlc;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::backend::Backend;
use super::request::{Request, Span, Stream, Write};
use super::tables::{MEMO, memo};
use super::{Embedded, EmbeddedError, EmbeddedSettings, Ledger};
use crate::disk::temp::TempFolder;
use crate::disk::{Disk, DiskFile, Entry, Open, StdDisk, StdFile};
use crate::port::{Fence, Staging as _};

/// Counts syncs of files, and panics instead if it shall.
#[derive(Clone, Debug, Default)]
struct CountingDisk(Arc<AtomicUsize>, Arc<AtomicBool>);

impl Disk for CountingDisk {
    type File = CountingFile;

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        StdDisk.create_dir_all(folder)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<CountingFile> {
        Ok(CountingFile(StdDisk.open(path, how)?, self.clone()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        StdDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        StdDisk.remove(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        StdDisk.list(folder)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        StdDisk.sync_dir(folder)
    }
}

#[derive(Debug)]
struct CountingFile(StdFile, CountingDisk);

impl DiskFile for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        let CountingDisk(syncs, panics) = &self.1;
        assert!(!panics.load(Ordering::SeqCst), "as it shall");
        syncs.fetch_add(1, Ordering::SeqCst);
        self.0.sync()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}

/// A stream of two tables.
fn stream() -> Arc<Stream> {
    let catalog = Arc::new(Catalog::new(["t", "u"].map(table).to_vec(), &[]));
    Arc::new(Stream { name: "s".to_owned(), partitions: Vec::new(), catalog, lane: Lane::Whole })
}

fn table(name: &str) -> Table {
    let column = Column {
        name: "id".to_owned(),
        cast: "int8".to_owned(),
        kind: KeyKind::Int,
        wire: Wire::Int8,
        nullable: false,
        made: Made::Written,
        has_default: false,
    };
    Table {
        name: TableName::new("public", name),
        columns: vec![column],
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

fn row(stream: &Stream, key: u64) -> TimedMutation {
    row_at(stream, TableId(0), key, 1)
}

fn row_at(stream: &Stream, table: TableId, key: u64, nanos: u64) -> TimedMutation {
    let mut cells = RowBuilder::new();
    cells.push(Cell::Text(key.to_string().as_bytes()));
    let layout = Arc::new(Layout { table, columns: vec![Some(0)] });
    let image = cells.finish(layout).unwrap();
    let key = stream.catalog.table(table).key_of(&image).unwrap();
    let mutation = Mutation { table, key, change: Change::Upsert(image) };
    TimedMutation { time: Hlc { nanos, logical: 0 }, mutation }
}

fn settings(folder: &TempFolder) -> EmbeddedSettings {
    EmbeddedSettings::new(folder.path().to_owned())
}

fn begin(ledger: &mut Ledger<CountingDisk>, stream: &Arc<Stream>) -> Fence {
    let (reply, mut answer) = oneshot::channel();
    ledger.perform(vec![Request::Begin(Arc::clone(stream), reply)]);
    answer.try_recv().unwrap().unwrap().0
}

#[test]
fn uploads_that_wait_together_share_one_commit() {
    let folder = TempFolder::new("embedded-group").unwrap();
    let disk = CountingDisk::default();
    let syncs = Arc::clone(&disk.0);
    let mut ledger = Ledger::open(disk, settings(&folder)).unwrap();
    let stream = stream();
    let fence = begin(&mut ledger, &stream);
    let mut group = |keys: std::ops::Range<u64>, fence: Fence| {
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        for key in keys {
            let (reply, answer) = oneshot::channel();
            let write = Write::Stage(fence, vec![row(&stream, key)], Hlc::default());
            requests.push(Request::Write(Arc::clone(&stream), write, reply));
            answers.push(answer);
        }
        let before = syncs.load(Ordering::SeqCst);
        ledger.perform(requests);
        let answers = answers.iter_mut().map(|answer| answer.try_recv().unwrap()).collect();
        (syncs.load(Ordering::SeqCst) - before, answers)
    };
    let (one, _): (usize, Vec<Result<(), Failure>>) = group(0..1, fence);
    let (many, answers) = group(1..100, fence);
    assert!(0 < one, "an answer came before the disk");
    assert_eq!(many, one, "a group takes as long as one");
    assert_eq!(answers, vec![Ok(()); 99]);
    // What is refused costs nothing.
    assert_eq!(group(0..2, Fence(0)), (0, vec![Err(Failure::Fenced); 2]));
}

/// The times of all rows of a lane, read in pages.
fn times_of<D: Disk>(ledger: &mut Ledger<D>, stream: &Arc<Stream>) -> Vec<u64> {
    let (mut times, mut after) = (Vec::new(), Hlc::default());
    loop {
        let span = Span { after, through: time(u64::MAX), rows_max: 7_000 };
        let (reply, mut answer) = oneshot::channel();
        ledger.perform(vec![Request::Read(Arc::clone(stream), span, reply)]);
        let page = answer.try_recv().unwrap().unwrap();
        times.extend(page.rows.iter().map(|row| row.time.nanos));
        after = page.rows.last().map_or(after, |row| row.time);
        if page.exhausted {
            return times;
        }
    }
}

const fn time(nanos: u64) -> Hlc {
    Hlc { nanos, logical: 0 }
}

/// More rows than one commit retires, and not all in one place.
fn one_lane_is_retired(is_read_first: bool) {
    const ROWS: u64 = 150_000;
    const THROUGH: u64 = 140_000;
    // The first third is of the other lane alone.
    let is_related = |nanos: u64| ROWS / 3 < nanos && nanos.is_multiple_of(2);
    let folder = TempFolder::new("embedded-retire").unwrap();
    let mut ledger = Ledger::open(CountingDisk::default(), settings(&folder)).unwrap();
    let whole = stream();
    let fence = begin(&mut ledger, &whole);
    let rows = (1..=ROWS).map(|at| row_at(&whole, TableId(u32::from(is_related(at))), at, at));
    let rows: Vec<TimedMutation> = rows.collect();
    let (reply, mut answer) = oneshot::channel();
    let write = Write::Stage(fence, rows, Hlc::default());
    ledger.perform(vec![Request::Write(Arc::clone(&whole), write, reply)]);
    assert_eq!(answer.try_recv().unwrap(), Ok(()));

    let lane = |lane: Lane| Arc::new(Stream { lane, ..Stream::clone(&whole) });
    let independent: Arc<BTreeSet<TableId>> = Arc::new([TableId(0)].into());
    let related = lane(Lane::Related(Arc::clone(&independent)));
    let independent = lane(Lane::Independent(independent));
    if is_read_first {
        let read = times_of(&mut ledger, &related);
        assert!(read == (1..=ROWS).filter(|at| is_related(*at)).collect::<Vec<u64>>());
    }
    let (reply, mut answer) = oneshot::channel();
    let write = Write::Retire(fence, time(THROUGH));
    let mut requests = vec![Request::Write(Arc::clone(&related), write, reply)];
    let mut commits = 0;
    while !requests.is_empty() || ledger.is_busy() {
        ledger.perform(std::mem::take(&mut requests));
        commits += 1;
    }
    assert_eq!(answer.try_recv().unwrap(), Ok(()));
    assert!(1 < commits, "nobody else had a turn");

    let all = 1..=ROWS;
    let kept = all.clone().filter(|at| !is_related(*at)).collect::<Vec<u64>>();
    assert!(times_of(&mut ledger, &independent) == kept, "rows of the other lane are gone");
    let rest = all.filter(|at| is_related(*at) && THROUGH < *at).collect::<Vec<u64>>();
    assert!(times_of(&mut ledger, &related) == rest, "not the rows up to the time are gone");
    let (reply, mut answer) = oneshot::channel();
    ledger.perform(vec![Request::Totals(reply)]);
    let rows = answer.try_recv().unwrap().unwrap().rows;
    assert_eq!(rows, u64::try_from(kept.len() + rest.len()).unwrap());
}

#[test]
fn one_lane_is_retired_in_several_commits_and_the_other_one_stays() {
    one_lane_is_retired(false);
}

#[test]
fn what_was_read_is_retired_in_several_commits_and_the_other_lane_stays() {
    one_lane_is_retired(true);
}

/// Whoever asks is told, and so is whoever waits for that.
#[tokio::test]
async fn the_end_of_the_thread_is_noticed() {
    let folder = TempFolder::new("embedded-panic").unwrap();
    let disk = CountingDisk::default();
    let panics = Arc::clone(&disk.1);
    let ledger = Ledger::open(disk, settings(&folder)).unwrap();
    let file = Embedded::on_thread(ledger, Duration::from_secs(60)).unwrap();
    let store = file.stream("s", Vec::new(), Arc::clone(&stream().catalog));
    store.begin().await.unwrap();
    panics.store(true, Ordering::SeqCst);
    let failure = store.begin().await.unwrap_err();
    assert!(matches!(failure, Failure::Rejected { .. }), "{failure:?}");
    timeout(Duration::from_secs(60), file.ended()).await.unwrap();
}

#[test]
fn a_file_of_another_format_is_left_alone() {
    let folder = TempFolder::new("embedded-format").unwrap();
    let settings = settings(&folder);
    drop(Ledger::open(StdDisk, settings.clone()).unwrap());
    let file = StdDisk.open(&settings.path(), Open::Existing).unwrap();
    let database = redb::Builder::new().create_with_backend(Backend(file)).unwrap();
    let write = database.begin_write().unwrap();
    let format: &[u8] = &[9];
    write.open_table(MEMO).unwrap().insert(("", memo::FORMAT), format).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Ledger::open(StdDisk, settings).unwrap_err();
    assert!(matches!(error, EmbeddedError::Format { found: 9, .. }), "{error}");
    assert!(error.to_string().contains("staging.redb\" has format 9"), "{error}");
}

#[test]
fn what_is_no_staging_file_is_left_alone() {
    let folder = TempFolder::new("embedded-other").unwrap();
    let settings = settings(&folder);
    std::fs::write(settings.path(), b"somebody's notes").unwrap();
    let error = Ledger::open(StdDisk, settings.clone()).unwrap_err();
    assert!(matches!(error, EmbeddedError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(settings.path()).unwrap(), b"somebody's notes");
}
