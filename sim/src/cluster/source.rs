//! The pretend source: its transactions, what it writes down of them, and the host that serves both.
pub mod binlog;
mod dump;
mod messages;
mod sender;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::dialect::Product;
use replicator_core::model::gtid::{AnyGtid, BinlogFlavor};
use replicator_core::model::mutation::TableId;
use replicator_core::model::position::{Lsn, Position};
use replicator_core::model::time::WallTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use self::binlog::{Binlog, Content};
use self::dump::Session;
use self::messages::{Described, lsn, transaction};
use self::sender::Sender;
use super::slot::SlotState;
use super::sql::{Knobs, Role, SqlServer};
use super::trace::say;
use super::wire::Connection;
use crate::database::{Database, Rows};
use crate::fault::Setup;
use crate::model::{Commit, History};
use crate::os::wall_micros;
use crate::random::Random;
use crate::schema::LAYOUTS;
use crate::workload;

/// The name of the slot.
pub const SLOT: &str = "replicator";

/// The database that it decodes.
pub const DATABASE: &str = "shop";

/// Where the log stands when the slot is made.
pub(super) const LOG_BEGIN: Lsn = Lsn(0x100);

/// The source's tables are altered after so many transactions.
const TXS_BETWEEN_ALTERS: usize = 5;

/// The source. Clones are the same one; it outlives its host's processes.
#[derive(Clone, Debug)]
pub struct Source {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// What it writes down.
    pub log: Log,
    /// What goes wrong there.
    pub knobs: Arc<Knobs>,
    /// Whether connections are dropped at once.
    refuses: Arc<AtomicBool>,
    last_pid: Arc<AtomicI32>,
    /// Replication processes up to this one are to end.
    ended_pid: Arc<AtomicI32>,
    /// The process that reads the binary log.
    reader: Arc<AtomicI32>,
}

/// Which server the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceServer {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB, what its events end with, and whether they do not name columns.
    Binlog(BinlogFlavor, Checksum, bool),
}

/// What a source writes down of its transactions, and who reads it.
#[derive(Clone, Debug)]
pub enum Log {
    /// PostgreSQL's log: a slot, and ordinary SQL.
    Wal {
        /// The slot.
        slot: SlotState,
        /// Ordinary SQL.
        sql: SqlServer,
    },
    /// The binary log.
    Binlog(Binlog),
}

impl Log {
    /// The slot, if there is one.
    #[must_use]
    pub const fn slot(&self) -> Option<&SlotState> {
        match self {
            Self::Wal { slot, .. } => Some(slot),
            Self::Binlog(_) => None,
        }
    }
}

#[derive(Debug)]
struct State {
    setup: Setup,
    database: Database,
    version: i64,
    history: History,
    committed: Vec<WallTime>,
    confirmed_max: Lsn,
    // How many transactions were ever sent, and how often one was sent again.
    sent: usize,
    resent: usize,
    altered: usize,
    resumed: usize,
}

impl Source {
    /// A source with empty tables. `seed` decides what its server makes up.
    #[must_use]
    pub fn new(setup: Setup, server: SourceServer, seed: u64) -> Self {
        let state = State {
            setup,
            database: Database::new(false),
            version: 0,
            history: History::default(),
            committed: Vec::new(),
            confirmed_max: LOG_BEGIN,
            sent: 0,
            resent: 0,
            altered: 0,
            resumed: 0,
        };
        let log = match server {
            SourceServer::Postgres => {
                let slot = SlotState::new(SLOT, DATABASE, LOG_BEGIN);
                let role = Role::Source(slot.clone());
                Log::Wal { slot, sql: SqlServer::new(role, Product::Postgres, seed) }
            }
            SourceServer::Binlog(flavor, checksum, is_unnamed) => {
                Log::Binlog(Binlog::new(flavor, checksum, is_unnamed))
            }
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(Notify::new()),
            log,
            knobs: Arc::new(Knobs::default()),
            refuses: Arc::new(AtomicBool::new(false)),
            last_pid: Arc::new(AtomicI32::new(100)),
            ended_pid: Arc::new(AtomicI32::new(0)),
            reader: Arc::new(AtomicI32::new(0)),
        }
    }

    /// A client commits a transaction, or tries to. `random` decides what is in it.
    pub fn commit(&self, number: usize, mut random: Random) {
        let mut state = self.lock();
        let State { setup, database, version, .. } = &mut *state;
        let Some(draft) = workload::transaction(setup, database, *version, &mut random) else {
            return;
        };
        if setup.pieces && !draft.divisible {
            return;
        }
        let (before, position) = match &self.log {
            Log::Wal { slot, .. } => {
                // The log also holds what is none of ours, and a commit record takes room.
                let (gap, size) = (random.pick(&[0, 8, 40]), random.pick(&[8, 16]));
                let before = Lsn(slot.now().written.0 + gap);
                let end = Lsn(before.0 + size);
                slot.change(|slot| slot.written = end);
                (Position::Lsn(before), Position::Lsn(end))
            }
            Log::Binlog(log) => {
                let tx = state.history.commits().len();
                let layout = state.layout(tx);
                if !log.may_have(layout) {
                    say("source", format_args!("lets {number} wait for a table, in vain"));
                    return;
                }
                state.altered += usize::from(0 < tx && state.layout(tx - 1) != layout);
                let micros = u64::try_from(wall_micros()).expect("after 1970");
                let (mutations, changes) = (&*draft.mutations, &*draft.changes);
                let had = &state.database;
                let content = Content { mutations, changes, had, layout, is_named: true, micros };
                log.commit(content, &mut random);
                let number = u64::try_from(tx).expect("few transactions");
                (Position::Ordinal(number), Position::Ordinal(number + 1))
            }
        };
        let count = draft.mutations.len();
        say("source", format_args!("commits {number}: {count} changes through {position}"));
        state.version = draft.version;
        state.database = draft.after;
        state.committed.push(WallTime { micros: wall_micros() });
        state.history.push(Commit {
            before,
            position,
            mutations: draft.mutations,
            changes: draft.changes,
            divisible: draft.divisible,
        });
        drop(state);
        self.changed.notify_waiters();
    }

    /// The log grows by something that is none of ours.
    pub fn write_other(&self) {
        match &self.log {
            Log::Wal { slot, .. } => slot.change(|slot| slot.written = Lsn(slot.written.0 + 24)),
            Log::Binlog(log) => log.write_other(u64::try_from(wall_micros()).expect("after 1970")),
        }
        self.changed.notify_waiters();
    }

    /// The server writes down what it knows of its slot, or begins a new file.
    pub fn checkpoint(&self) {
        match &self.log {
            Log::Wal { slot, .. } => slot.change(|slot| slot.saved = slot.confirmed_flush),
            Log::Binlog(log) => log.flush(),
        }
        self.changed.notify_waiters();
    }

    /// Ends what its clients had not ended yet.
    pub fn finish(&self) {
        match &self.log {
            Log::Wal { .. } => (),
            Log::Binlog(log) => log.finish(),
        }
        self.changed.notify_waiters();
    }

    /// The server has died and comes back with what was on its disk.
    pub fn recover(&self) {
        match &self.log {
            Log::Wal { slot, .. } => {
                let slot = slot.change(|slot| {
                    slot.confirmed_flush = slot.saved;
                    slot.active_pid = None;
                    slot.clone()
                });
                say("source", format_args!("recovers, its slot is at {}", slot.confirmed_flush));
            }
            Log::Binlog(log) => log.recover(),
        }
    }

    /// An operator ends all streams.
    pub fn end_streams(&self) {
        self.ended_pid.store(self.last_pid.load(Ordering::Relaxed), Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Whether connections are dropped at once.
    pub fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Serves one connection to its end.
    ///
    /// # Errors
    ///
    /// The connection broke, or the client broke the protocol.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            return Ok(());
        }
        let pid = || self.last_pid.fetch_add(1, Ordering::Relaxed) + 1;
        let (slot, sql) = match &self.log {
            Log::Wal { slot, sql } => (slot.clone(), sql),
            Log::Binlog(log) => {
                return Session::new(self.clone(), log.clone(), stream, pid()).serve().await;
            }
        };
        let mut connection = Connection::new(stream);
        let Some(startup) = connection.open().await? else { return Ok(()) };
        let pid = pid();
        if startup.is_replication() {
            return Sender::new(self.clone(), slot, connection, pid).serve().await;
        }
        sql.serve(startup, connection.into_stream(), Arc::clone(&self.knobs)).await
    }

    /// Looks at the history, and at what its transactions are called.
    pub fn with_log<T>(&self, look: impl FnOnce(&History, Option<&Named>) -> T) -> T {
        let named = match &self.log {
            Log::Wal { .. } => None,
            Log::Binlog(log) => Some(Named { flavor: log.flavor(), gtids: log.names() }),
        };
        look(&self.lock().history, named.as_ref())
    }

    /// Looks at the history.
    pub fn with_history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock().history)
    }

    /// The furthest position that anybody has ever confirmed.
    #[must_use]
    pub fn confirmed_max(&self) -> Lsn {
        self.lock().confirmed_max
    }

    /// The rows of a table as they are now.
    #[must_use]
    pub fn rows(&self, table: TableId) -> Rows {
        self.lock().database.rows(table).clone()
    }

    /// How many times a table was described again in the middle of a stream.
    #[must_use]
    pub fn altered(&self) -> usize {
        self.lock().altered
    }

    /// How often a stream did not begin where the history does.
    #[must_use]
    pub fn resumed(&self) -> usize {
        self.lock().resumed
    }

    /// How many transactions were sent again.
    #[must_use]
    pub fn resent(&self) -> usize {
        self.lock().resent
    }

    /// Waits for something new in the log, or for something to be asked of the processes.
    async fn changed(&self) {
        self.changed.notified().await;
    }

    fn must_end(&self, pid: i32) -> bool {
        pid <= self.ended_pid.load(Ordering::Relaxed)
    }

    fn is_reader(&self, pid: i32) -> bool {
        self.reader.load(Ordering::Relaxed) == pid
    }

    /// A transaction of the history is sent.
    fn sent(&self, tx: usize) {
        let mut state = self.lock();
        state.resent += usize::from(tx < state.sent);
        state.sent = state.sent.max(tx + 1);
    }

    /// Somebody reads the binary log. A server ends the stream of whoever read it under the same name.
    fn begin_reader(&self, pid: i32, resumes: bool) {
        self.reader.store(pid, Ordering::Relaxed);
        self.lock().resumed += usize::from(resumes);
        self.changed.notify_waiters();
    }

    /// The client has it all through here. A server does not go back (server source,
    /// `LogicalConfirmReceivedLocation` in `logical.c`).
    fn confirm(&self, slot: &SlotState, flushed: Lsn) {
        let mut state = self.lock();
        if state.confirmed_max < flushed {
            say("source", format_args!("hears that {flushed} is safe"));
            state.confirmed_max = flushed;
        }
        slot.change(|slot| {
            assert!(flushed <= slot.written, "{flushed} is confirmed and not yet written");
            slot.confirmed_flush = slot.confirmed_flush.max(flushed);
            slot.restart = slot.restart.max(flushed);
        });
    }

    /// The first transaction whose commit record is not before `sent`, as messages, and where it ends.
    fn next_after(&self, sent: Lsn, described: &mut Described) -> Option<(Lsn, Vec<(Lsn, Bytes)>)> {
        let mut state = self.lock();
        let state = &mut *state;
        let commits = state.history.commits();
        let tx = commits.partition_point(|commit| lsn(commit.before) < sent);
        let commit = commits.get(tx)?;
        state.resent += usize::from(tx < state.sent);
        state.sent = state.sent.max(tx + 1);
        let layout = state.layout(tx);
        let xid = u32::try_from(tx).expect("few transactions") + 700;
        let again = described.again;
        let messages = transaction(commit, xid, state.committed[tx], layout, described);
        state.altered += described.again - again;
        Some((lsn(commit.position), messages))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How the tables are laid out in a transaction.
    fn layout(&self, tx: usize) -> usize {
        if self.setup.alters { (tx / TXS_BETWEEN_ALTERS) % LAYOUTS } else { 0 }
    }
}

/// What transactions of a history are called.
#[derive(Debug)]
pub struct Named {
    /// By which product.
    pub flavor: BinlogFlavor,
    /// Each of them, as far as it has a name.
    pub gtids: Vec<Option<AnyGtid>>,
}
