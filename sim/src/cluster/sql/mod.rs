//! A pretend PostgreSQL server for ordinary SQL: enough of it that the product's own adapters run
//! against it unchanged.
//!
//! ```text
//! session ─► parse ─► statement ─► run (expressions, rows, locks) ─► data
//!        └──────────► question ─► catalog ──────────────────────────┘
//! ```
//!
//! One lock around [`data`] makes a statement one step. A statement that meets a row of another open
//! transaction is undone, waits until some transaction has ended and begins again, which is what READ
//! COMMITTED allows; it keeps the locks that it has. So nothing here is concurrent but waiting.
//!
//! With the manners of CockroachDB a transaction also keeps what it reads from changing, which makes it
//! serializable in the simplest way, nothing waits for the commit, and there is no COPY. The real one
//! rather lets a transaction fail with 40001, which is left to the faults.
//!
//! DDL takes effect at once, outside of transactions. What the server does not know it refuses with
//! SQLSTATE 0A000 and the text.
mod advisory;
mod ast;
mod catalog;
mod check;
mod data;
mod describe;
mod error;
mod eval;
mod knobs;
mod lock;
mod parse;
mod run;
mod select;
mod session;
mod table;
mod token;
mod value;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::dialect::Product;
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::TableId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};

pub use self::data::{Key, Row};
pub use self::error::SqlError;
pub use self::knobs::{Knobs, Loss};
pub use self::table::{ColumnDef, ForeignKeyDef, Preset, TableDef, UniqueDef};
pub use self::value::{Base, Type, Value};
use super::slot::SlotState;
use super::wire::Startup;
use crate::database::{Database, Rows};
use crate::schema::{Tuple, schema};

/// The publication of a source: all its tables.
pub const PUBLICATION: &str = "everything";

/// What a server is for.
#[derive(Clone, Debug)]
pub enum Role {
    /// It has a slot and a publication. Its tables are described; nobody writes to them with SQL.
    Source(SlotState),
    /// Rows are written to it. It may hold the staging schema.
    Target,
}

/// What one transaction changed, without what it left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    /// The session that committed.
    pub session: u64,
    /// The rows, by table and key.
    pub changes: Vec<RowChange>,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// Its table.
    pub table: TableName,
    /// Its key.
    pub key: Key,
    /// Before; `None` if it was not there.
    pub old: Option<Row>,
    /// After; `None` if it is gone.
    pub new: Option<Row>,
}

impl RowChange {
    /// The row's table in the simulated schema, its key, and its values before and after; `None` for a
    /// row of another schema, such as staging.
    #[must_use]
    pub fn simulated(&self) -> Option<(TableId, Tuple, Option<Tuple>, Option<Tuple>)> {
        let table = schema().catalog.find(&self.table)?;
        let (old, new) = (self.old.as_deref().map(tuple), self.new.as_deref().map(tuple));
        Some((table, tuple(&self.key), old, new))
    }
}

/// The databases of one server. Clones are the same server; it outlives its sessions and its host.
#[derive(Clone, Debug)]
pub struct SqlServer {
    role: Arc<Role>,
    data: Arc<Mutex<data::Data>>,
    /// Some transaction has ended.
    ended: Arc<Notify>,
    sessions_begun: Arc<AtomicU64>,
    sessions_open: Arc<AtomicU64>,
    /// Sessions that somebody has ended (`pg_terminate_backend`).
    terminated: Arc<watch::Sender<BTreeSet<u64>>>,
}

impl SqlServer {
    /// A server with the empty tables of the simulated schema.
    ///
    /// `seed` decides what such a server makes up: the numbers in its UUIDs and its process ids.
    #[must_use]
    pub fn new(role: Role, product: Product, seed: u64) -> Self {
        let counter = i64::from(u16::try_from(seed % 1000).expect("small"));
        let mut data = data::Data::new(product, counter);
        TableDef::all_of(&schema().catalog).into_iter().for_each(|table| data.create(table));
        Self {
            role: Arc::new(role),
            data: Arc::new(Mutex::new(data)),
            ended: Arc::new(Notify::new()),
            sessions_begun: Arc::new(AtomicU64::new(seed % 1000)),
            sessions_open: Arc::new(AtomicU64::new(0)),
            terminated: Arc::new(watch::Sender::default()),
        }
    }

    /// Whose manners it has.
    #[must_use]
    pub fn product(&self) -> Product {
        self.lock().product
    }

    /// Whether the tables of the simulated schema refuse negative numbers.
    pub fn set_strict(&self, strict: bool) {
        self.lock().strict = strict;
    }

    /// Takes the foreign keys and the unique indexes of the simulated schema away, as an operator may.
    pub fn drop_constraints(&self) {
        self.lock().tables.iter_mut().for_each(|table| Arc::make_mut(table).drop_constraints());
    }

    /// Runs one ordinary session, from the answer to `first` to its end.
    ///
    /// Whatever is open is rolled back when it ends or is dropped.
    ///
    /// # Errors
    ///
    /// The connection broke, or the client broke the protocol.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        first: Startup,
        stream: S,
        knobs: Arc<Knobs>,
    ) -> io::Result<()> {
        let session = session::Session::new(self.clone(), &first, stream, knobs);
        let number = session.number();
        let mut terminated = self.terminated.subscribe();
        tokio::select! {
            biased;
            _ = terminated.wait_for(|sessions| sessions.contains(&number)) => Ok(()),
            ended = session.serve() => ended,
        }
    }

    fn end_sessions(&self, numbers: &[u64]) {
        self.terminated.send_modify(|sessions| sessions.extend(numbers));
    }

    /// Everything that was committed, in order.
    #[must_use]
    pub fn commits(&self) -> Vec<CommitRecord> {
        self.lock().commits.clone()
    }

    /// How many transactions have changed something.
    #[must_use]
    pub fn commit_count(&self) -> usize {
        self.lock().commits.len()
    }

    /// The transactions after the first `count`.
    #[must_use]
    pub fn commits_since(&self, count: usize) -> Vec<CommitRecord> {
        self.lock().commits.get(count..).unwrap_or_default().to_vec()
    }

    /// The committed rows of a table of the simulated schema.
    #[must_use]
    pub fn rows(&self, table: TableId) -> Rows {
        let rows = self.table(&schema().catalog.table(table).name).unwrap_or_default();
        rows.iter().map(|(key, row)| (tuple(key), tuple(row))).collect()
    }

    /// The committed rows of any table, in the order of their keys; `None` if there is no such table.
    #[must_use]
    pub fn table(&self, name: &TableName) -> Option<Vec<(Key, Row)>> {
        let data = self.lock();
        let table = data.find(name).ok()?;
        Some(data.rows[table].iter().map(|(key, row)| (key.clone(), row.clone())).collect())
    }

    /// The committed rows of the simulated schema.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::holding(schema().catalog.tables().map(|(id, _)| self.rows(id)).collect())
    }

    /// Runs statements as an operator would, and commits them.
    ///
    /// # Errors
    ///
    /// A statement was refused, or a row is locked by an open transaction; nothing was changed.
    pub fn run(&self, sql: &str) -> Result<(), SqlError> {
        session::run_at_once(self, sql)
    }

    fn lock(&self) -> MutexGuard<'_, data::Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_session(&self) -> u64 {
        self.sessions_begun.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The values of a row of the simulated schema: NULL and whole numbers.
fn tuple(row: &[Value]) -> Tuple {
    let number = |value: &Value| match value {
        Value::Null => None,
        Value::Int(number) => Some(*number),
        Value::Text(text) => Some(text.parse().expect("a number in a simulated row")),
        other @ (Value::Bool(_)
        | Value::Bytes(_)
        | Value::Time(_)
        | Value::Decimal(_)
        | Value::Span(_)
        | Value::List(_)) => {
            panic!("{other:?} in a simulated row")
        }
    };
    row.iter().map(number).collect()
}
