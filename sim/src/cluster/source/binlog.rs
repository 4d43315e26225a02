//! The binary log of a pretend MySQL or MariaDB: its files, and the names of its transactions.
//!
//! Besides the transactions of the history it has what a real one has: transactions of other databases, statements
//! that define tables, XA transactions whose outcome comes later or that are rolled back, compressed transactions,
//! tags and domains, files that end in good order or with the server, and another server that takes over.
mod events;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::decode::binlog::binlog_encode::{EventWriter, mariadb_format, mysql_format};
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::model::gtid::{AnyGtid, BinlogFlavor, GtidPosition};
use replicator_core::model::mutation::Mutation;

use self::events::{Names, XaEnd};
use crate::cluster::trace::say;
use crate::database::Database;
use crate::model::RowChange;
use crate::random::Random;
use crate::schema::schema;

/// What the target has before the story begins.
const BEFORE: u64 = 5;

/// When the first server started, in seconds since 1970.
const STARTED: u32 = 1_700_000_000;

/// The log. Clones are the same one; it outlives its server.
#[derive(Clone, Debug)]
pub struct Binlog {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    names: Names,
    writer: EventWriter,
    files: Vec<File>,
    entries: Vec<Entry>,
    executed: GtidPosition,
    // An XA transaction that is prepared and will be committed: its number, and which one of the history it is.
    open: Option<(u64, usize)>,
    // Those that will be rolled back, whenever that is. Their rows stand in nobody's way.
    doomed: VecDeque<u64>,
    prepared: u64,
    layout: usize,
    // Whether its tables come without the names of their columns.
    is_unnamed: bool,
    // How many sessions keep tables as they are.
    locks: usize,
    // What each transaction of the history is called, as soon as it has a name.
    of_history: Vec<Option<AnyGtid>>,
}

/// A file of the log.
#[derive(Debug)]
struct File {
    name: String,
    /// What it begins with: its format, and what was before it.
    head: [Vec<u8>; 2],
    /// The event that leads to the next one. A server that died wrote none.
    end: Option<Vec<u8>>,
}

/// A transaction of the log.
#[derive(Debug)]
struct Entry {
    gtid: AnyGtid,
    file: usize,
    events: Vec<Vec<u8>>,
    // The same without the names of columns.
    unnamed: Vec<Vec<u8>>,
    // Its number in the history.
    tx: Option<usize>,
}

/// What a transaction of the history is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) mutations: &'a [Mutation],
    /// What each of them means.
    pub(super) changes: &'a [RowChange],
    /// The rows before it.
    pub(super) had: &'a Database,
    /// How its tables are laid out.
    pub(super) layout: usize,
    /// Whether the log names columns.
    pub(super) is_named: bool,
    /// When it commits, in microseconds since 1970.
    pub(super) micros: u64,
}

/// How far somebody has read.
#[derive(Debug)]
pub(super) struct Reading {
    had: GtidPosition,
    file: usize,
    entry: usize,
}

impl Binlog {
    /// A log that begins before the first transaction of the history.
    #[must_use]
    pub fn new(flavor: BinlogFlavor, checksum: Checksum, is_unnamed: bool) -> Self {
        let format = match flavor {
            BinlogFlavor::MySql => mysql_format(checksum),
            BinlogFlavor::MariaDb => mariadb_format(checksum),
        };
        let names = Names::new(flavor, BEFORE);
        let executed = GtidPosition::parse(flavor, &names.begin()).expect("a position of ours");
        let mut inner = Inner {
            names,
            writer: EventWriter::new(format, 1, STARTED),
            files: Vec::new(),
            entries: Vec::new(),
            executed,
            open: None,
            doomed: VecDeque::new(),
            prepared: 0,
            layout: 0,
            is_unnamed,
            locks: 0,
            of_history: Vec::new(),
        };
        inner.begin_file(STARTED);
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Where the history begins, as an operator gives it.
    #[must_use]
    pub fn begin(&self) -> String {
        self.lock().names.begin()
    }

    /// Whose log it is.
    #[must_use]
    pub fn flavor(&self) -> BinlogFlavor {
        self.lock().names.flavor
    }

    /// What each transaction of the history is called; `None` as long as its XA transaction has no outcome.
    #[must_use]
    pub fn names(&self) -> Vec<Option<AnyGtid>> {
        self.lock().of_history.clone()
    }

    /// Whether it does not name columns.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.lock().is_unnamed
    }

    /// An operator has it name columns; of what was written before it is as if it always had.
    pub fn name_columns(&self) {
        say("source", "names columns from here on");
        self.lock().is_unnamed = false;
    }

    /// A session keeps tables as they are, or does no more.
    pub(super) fn set_locked(&self, locked: bool) {
        let mut inner = self.lock();
        inner.locks = if locked { inner.locks + 1 } else { inner.locks - 1 };
    }

    /// How the tables are laid out.
    pub(super) fn layout(&self) -> usize {
        self.lock().layout
    }

    /// Whether tables can be laid out like this now.
    pub(super) fn may_have(&self, layout: usize) -> bool {
        let inner = self.lock();
        inner.layout == layout || inner.locks == 0
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.lock().writer.format.checksum
    }

    pub(super) fn executed(&self) -> GtidPosition {
        self.lock().executed.clone()
    }

    /// The identity of the server that writes now.
    pub(super) fn server(&self) -> (u32, String) {
        let inner = self.lock();
        (inner.names.server, inner.names.uuid().to_owned())
    }

    /// How many XA transactions have no outcome.
    pub(super) fn prepared(&self) -> usize {
        let inner = self.lock();
        usize::from(inner.open.is_some()) + inner.doomed.len()
    }

    /// Writes the next transaction of the history.
    pub(super) fn commit(&self, content: Content<'_>, random: &mut Random) {
        let mut inner = self.lock();
        inner.finish();
        inner.alter(content.layout);
        let tx = inner.of_history.len();
        let way = random.below(12);
        match way {
            0 | 1 => {
                inner.prepare(content);
                let number = inner.prepared;
                inner.open = Some((number, tx));
                inner.of_history.push(None);
                if random.chance(50) {
                    inner.finish();
                }
                return;
            }
            2 => {
                inner.prepare(content);
                let number = inner.prepared;
                inner.doomed.push_back(number);
            }
            3 | 4 => inner.roll_back(),
            // Each costs a run where pieces of it were told.
            5 if random.chance(25) => {
                let gtid = inner.names.next_plain();
                inner.push_rows(gtid, content, None, |writer, content| {
                    events::rolled_back(writer, gtid, content)
                });
            }
            _ => (),
        }
        let gtid = inner.names.next(random);
        inner.of_history.push(Some(gtid));
        inner.push_rows(gtid, content, Some(tx), |writer, content| {
            events::transaction(writer, gtid, content, 8 < way)
        });
    }

    /// Writes a transaction of another database, or one of nothing.
    pub(super) fn write_other(&self, micros: u64) {
        let mut inner = self.lock();
        let gtid = inner.names.next_plain();
        let number = inner.entries.len();
        let events = events::other(&mut inner.writer, gtid, number, micros);
        inner.push(gtid, events, None);
    }

    /// What was prepared gets its outcome.
    pub(super) fn finish(&self) {
        let mut inner = self.lock();
        inner.finish();
        while !inner.doomed.is_empty() {
            inner.roll_back();
        }
    }

    /// An operator begins a new file.
    pub(super) fn flush(&self) {
        let mut inner = self.lock();
        let next = inner.file_name(inner.files.len());
        let end = events::rotate(&mut inner.writer, &next);
        inner.files.last_mut().expect("a log has a file").end = Some(end);
        inner.begin_file(0);
    }

    /// The server died, and comes back, or every other time one that has replicated from it takes its place.
    pub(super) fn recover(&self) {
        let mut inner = self.lock();
        if inner.files.len().is_multiple_of(2) {
            inner.names.take_over();
            inner.writer.server = inner.names.server;
        }
        let started = STARTED.saturating_add(u32::try_from(inner.files.len()).expect("few files"));
        inner.begin_file(started);
        let (number, uuid) = (inner.names.server, inner.names.uuid().to_owned());
        say("source", format_args!("comes back as server {number}, {uuid}"));
    }

    /// Begins to read after a position. `None` if it is not one of this log.
    pub(super) fn read(&self, had: GtidPosition) -> Option<Reading> {
        let inner = self.lock();
        if let GtidPosition::MySql(_) = &had
            && !had.is_subset(&inner.executed)
        {
            return None;
        }
        let entry = inner.entries.iter().position(|entry| !had.contains(entry.gtid));
        let entry = entry.unwrap_or(inner.entries.len());
        let file = inner.entries.get(entry).map_or(inner.files.len() - 1, |entry| entry.file);
        Some(Reading { had, file, entry })
    }

    /// What a reader gets before anything else.
    pub(super) fn head(&self, reading: &Reading) -> Vec<Vec<u8>> {
        self.lock().head(reading.file)
    }

    /// The next events, and which transaction of the history they are.
    pub(super) fn next(&self, reading: &mut Reading) -> Option<(Vec<Vec<u8>>, Option<usize>)> {
        let inner = self.lock();
        while inner.entries.get(reading.entry).is_some_and(|entry| reading.had.contains(entry.gtid))
        {
            reading.entry += 1;
        }
        let entry = inner.entries.get(reading.entry);
        let wanted = entry.map_or(inner.files.len() - 1, |entry| entry.file);
        if reading.file < wanted {
            let end = inner.files[reading.file].end.clone();
            reading.file += 1;
            let head = inner.head(reading.file);
            return Some((end.into_iter().chain(head).collect(), None));
        }
        let entry = entry?;
        reading.entry += 1;
        let events = if inner.is_unnamed { &entry.unnamed } else { &entry.events };
        Some((events.clone(), entry.tx))
    }

    /// What a server says that has nothing to say.
    pub(super) fn heartbeat(&self, reading: &Reading) -> Vec<u8> {
        let inner = self.lock();
        let name = &inner.files[reading.file].name;
        events::heartbeat(&inner.writer, name)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn file_name(&self, number: usize) -> String {
        format!("binlog.{:06}", number + 1)
    }

    fn begin_file(&mut self, started: u32) {
        let name = self.file_name(self.files.len());
        self.writer.position = 4;
        self.writer.format.started = started;
        let format = self.writer.format_event();
        let before = events::before(&mut self.writer, &self.executed);
        self.files.push(File { name, head: [format, before], end: None });
    }

    fn head(&self, number: usize) -> Vec<Vec<u8>> {
        let File { name, head, .. } = &self.files[number];
        let [format, before] = head.clone();
        vec![events::leading(&self.writer, name), format, before]
    }

    fn push(&mut self, gtid: AnyGtid, events: Vec<Vec<u8>>, tx: Option<usize>) {
        let unnamed = events.clone();
        self.push_both(gtid, events, unnamed, tx);
    }

    /// Those that have rows.
    fn push_rows(
        &mut self,
        gtid: AnyGtid,
        content: Content<'_>,
        tx: Option<usize>,
        write: impl Fn(&mut EventWriter, Content<'_>) -> Vec<Vec<u8>>,
    ) {
        let unnamed = write(&mut self.writer.clone(), Content { is_named: false, ..content });
        let events = write(&mut self.writer, content);
        self.push_both(gtid, events, unnamed, tx);
    }

    fn push_both(
        &mut self,
        gtid: AnyGtid,
        events: Vec<Vec<u8>>,
        unnamed: Vec<Vec<u8>>,
        tx: Option<usize>,
    ) {
        self.executed.insert(gtid).expect("few gaps");
        let file = self.files.len() - 1;
        self.entries.push(Entry { gtid, file, events, unnamed, tx });
    }

    /// Its tables are laid out in another way from here on.
    fn alter(&mut self, layout: usize) {
        if self.layout == layout {
            return;
        }
        self.layout = layout;
        for (_, table) in schema().catalog.tables() {
            let gtid = self.names.next_plain();
            let events = events::alter(&mut self.writer, gtid, &table.name.table);
            self.push(gtid, events, None);
        }
    }

    /// Rows that count only if an outcome says so.
    fn prepare(&mut self, content: Content<'_>) {
        self.prepared += 1;
        let gtid = self.names.next_plain();
        let number = self.prepared;
        self.push_rows(gtid, content, None, |writer, content| {
            events::prepared(writer, gtid, content, number)
        });
    }

    fn finish(&mut self) {
        let Some((number, tx)) = self.open.take() else { return };
        let gtid = self.names.next_plain();
        let events = events::outcome(&mut self.writer, gtid, number, XaEnd::Commit);
        self.of_history[tx] = Some(gtid);
        self.push(gtid, events, Some(tx));
    }

    /// One that is prepared comes to nothing.
    fn roll_back(&mut self) {
        let Some(number) = self.doomed.pop_front() else { return };
        let gtid = self.names.next_plain();
        let events = events::outcome(&mut self.writer, gtid, number, XaEnd::Rollback);
        self.push(gtid, events, None);
    }
}
