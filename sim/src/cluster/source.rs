//! The pretend PostgreSQL source: its transactions, its slot, and the host that serves both.
mod messages;
mod sender;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use replicator_core::dialect::Product;
use replicator_core::model::mutation::TableId;
use replicator_core::model::position::{Lsn, Position};
use replicator_core::model::time::WallTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

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
    /// The slot.
    pub slot: SlotState,
    /// Ordinary SQL.
    sql: SqlServer,
    /// What goes wrong there.
    pub knobs: Arc<Knobs>,
    /// Whether connections are dropped at once.
    refuses: Arc<AtomicBool>,
    last_pid: Arc<AtomicI32>,
    /// Replication processes up to this one are to end.
    ended_pid: Arc<AtomicI32>,
}

#[derive(Debug)]
struct State {
    setup: Setup,
    database: Database,
    version: i64,
    history: History,
    committed: Vec<WallTime>,
    confirmed_max: Lsn,
    // The furthest transaction that was ever sent, and how many were sent again.
    sent_max: Lsn,
    resent: usize,
    altered: usize,
}

impl Source {
    /// A source with empty tables. `seed` decides what its server makes up.
    #[must_use]
    pub fn new(setup: Setup, seed: u64) -> Self {
        let slot = SlotState::new(SLOT, DATABASE, LOG_BEGIN);
        let state = State {
            setup,
            database: Database::new(false),
            version: 0,
            history: History::default(),
            committed: Vec::new(),
            confirmed_max: LOG_BEGIN,
            sent_max: LOG_BEGIN,
            resent: 0,
            altered: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(Notify::new()),
            sql: SqlServer::new(Role::Source(slot.clone()), Product::Postgres, seed),
            slot,
            knobs: Arc::new(Knobs::default()),
            refuses: Arc::new(AtomicBool::new(false)),
            last_pid: Arc::new(AtomicI32::new(100)),
            ended_pid: Arc::new(AtomicI32::new(0)),
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
        // The log also holds what is none of ours, and a commit record takes room.
        let (gap, size) = (random.pick(&[0, 8, 40]), random.pick(&[8, 16]));
        let before = Lsn(self.slot.now().written.0 + gap);
        let end = Lsn(before.0 + size);
        let count = draft.mutations.len();
        say("source", format_args!("commits {number}: {count} changes through {end}"));
        state.version = draft.version;
        state.database = draft.after;
        state.committed.push(WallTime { micros: wall_micros() });
        state.history.push(Commit {
            before: Position::Lsn(before),
            position: Position::Lsn(end),
            mutations: draft.mutations,
            changes: draft.changes,
            divisible: draft.divisible,
        });
        self.slot.change(|slot| slot.written = end);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The log grows by something that is none of ours.
    pub fn write_other(&self) {
        self.slot.change(|slot| slot.written = Lsn(slot.written.0 + 24));
        self.changed.notify_waiters();
    }

    /// The server writes down what it knows of its slot.
    pub fn checkpoint(&self) {
        self.slot.change(|slot| slot.saved = slot.confirmed_flush);
    }

    /// The server has died and comes back with what was on its disk.
    pub fn recover(&self) {
        let slot = self.slot.change(|slot| {
            slot.confirmed_flush = slot.saved;
            slot.active_pid = None;
            slot.clone()
        });
        say("source", format_args!("recovers, its slot is at {}", slot.confirmed_flush));
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
        let mut connection = Connection::new(stream);
        let Some(startup) = connection.open().await? else { return Ok(()) };
        let pid = self.last_pid.fetch_add(1, Ordering::Relaxed) + 1;
        if startup.is_replication() {
            return Sender::new(self.clone(), connection, pid).serve().await;
        }
        self.sql.serve(startup, connection.into_stream(), Arc::clone(&self.knobs)).await
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

    /// The client has it all through here. A server does not go back (server source,
    /// `LogicalConfirmReceivedLocation` in `logical.c`).
    fn confirm(&self, flushed: Lsn) {
        let mut state = self.lock();
        if state.confirmed_max < flushed {
            say("source", format_args!("hears that {flushed} is safe"));
            state.confirmed_max = flushed;
        }
        self.slot.change(|slot| {
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
        state.resent += usize::from(lsn(commit.position) <= state.sent_max);
        state.sent_max = state.sent_max.max(lsn(commit.position));
        let layout = if state.setup.alters { (tx / TXS_BETWEEN_ALTERS) % LAYOUTS } else { 0 };
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
