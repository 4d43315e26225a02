//! Staged rows of changefeeds in CockroachDB or PostgreSQL: the documented tables of the older tool.
//!
//! ```text
//! stage  ─► fence? ─► newest time of each row ─► staging table of its target table ─► commit
//! read   ◄─ all staging tables at once, by time
//! retire ─► fence? ─► delete the oldest rows, some thousand at a time
//! ```
//!
//! **Rows.** There is one staging table for each target table, with the documented columns, made when its
//! first row comes. `mut` holds a row in the bytes of [`replicator_core::staged`], whose first byte says
//! so: JSON begins with another, and so does gzip. What the older tool has staged is read all the same.
//! Rows are not written as JSON, because the values of a row have been read when they get here, as the
//! target wants them: to make JSON of them and to read that again costs more than all the rest, and what
//! was not sent, or is not applied, has no place in it. So the way back to the older tool is open only when
//! all staged rows are applied, and their tables are empty.
//!
//! **Applied rows** are deleted, not marked. Those that the older tool has marked are not read, are not
//! staged again, and are deleted when their time has come.
//!
//! **Rows that come late** are known by `replicator_newest`, which keeps the newest time of each row that
//! was ever staged, for ever (W-44): about 100 bytes for each row of the source with its index. Times that
//! no changefeed will send again may be deleted from it. What the older tool stages after a table was taken
//! over is not in there.
//!
//! **Promises** are in `checkpoints`, the last one of each partition (W-33). The position is in `memo`. No
//! position is taken over from the older tool: at first all rows are read that are not marked as applied,
//! whatever their time, so also those that it left behind (W-03).
//!
//! Every write checks the fence in its own transaction (W-29). Tables and names are looked up once for
//! each run: when it begins.
mod key;
mod names;
mod older;
mod promises;
mod read;
mod tables;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::decode::changefeed::{Changefeed, Limits, TargetKind};
use replicator_core::dialect::Product;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::{TableId, TimedMutation};
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::staged::StagedError;
use replicator_core::{Durable, Failure};
use tokio::sync::Mutex;
use tokio_postgres::types::Type;

use self::older::OlderError;
use self::tables::{Owner, Registers, RowTable};
use super::schema::StagingName;
use crate::net::Dial;
use crate::pg::pool::Pool;
use crate::pg::sessions::{Ask, Param, Sessions, check_fence};
use crate::port::{Fence, StagedPage, Staging};

/// The longest that it may take to take staging tables of the older tool over. An index of many rows takes minutes.
const TAKEOVER_MAX: Duration = Duration::from_secs(600);

/// Whose rows a store keeps, and how.
#[derive(Clone, Debug)]
pub struct RowsOptions {
    /// The target database, after which staging tables are named; empty on MySQL, whose schemas are in none.
    pub database: String,
    /// The target schema.
    pub schema: String,
    /// The partitions of the source, by names that mean the same in every run. A [`PartitionId`] is an
    /// index into them.
    pub partitions: Vec<String>,
    /// The target's tables. What is staged is mapped to them by names.
    pub catalog: Arc<Catalog>,
    /// What the target is: it tells how rows of the older tool are read.
    pub target: TargetKind,
    /// For one request.
    pub timeout: Duration,
    /// Whether staging tables get an index of the rows that are not applied. It helps where the older tool
    /// has left many that are.
    pub reader_index: bool,
}

impl RowsOptions {
    /// What promises of the schema are filed under, as the older tool has it. It is also the name of its
    /// one partition, if that has no other.
    #[must_use]
    pub fn group(&self) -> String {
        names::group(&self.database, &self.schema)
    }
}

/// What the runs of a group are called, where they are told apart from those of others.
fn stream(group: &str) -> String {
    format!("start-{group}")
}

/// The lease of those who work on a schema.
#[must_use]
pub fn lease_name(database: &str, schema: &str) -> String {
    stream(&names::group(database, schema))
}

/// The databases, empty where there are none, and the schemas for which promises are kept.
///
/// # Errors
///
/// See [`Failure`].
pub async fn schemas<D: Dial>(
    pool: Pool<D>,
    name: &StagingName,
    timeout: Duration,
) -> Result<Vec<[String; 2]>, Failure> {
    let sql = format!("SELECT DISTINCT group_name FROM {}", name.table("checkpoints"));
    let sessions = Sessions::new(pool, "staging", timeout);
    let rows = sessions.ask_again(async |client| client.query(&sql, &[]).await).await?;
    Ok(rows.iter().filter_map(|row| names::parts_of(row.get(0))).collect())
}

/// The staging store of one target schema. Clones are the same store.
#[derive(Debug)]
pub struct PgRows<D: Dial> {
    inner: Arc<Inner<D>>,
    /// The part of the tables that is read and retired.
    lane: Lane,
}

#[derive(Debug)]
struct Inner<D: Dial> {
    sessions: Sessions<D>,
    product: Product,
    name: StagingName,
    options: RowsOptions,
    registers: Registers,
    memo: String,
    fences: String,
    checkpoints: String,
    group: String,
    stream: String,
    position_key: String,
    horizon_key: String,
    independent_horizon_key: String,
    independent_key: String,
    late_key: String,
    feeds_key: String,
    identity_key: String,
    /// `None`: nobody has looked.
    tables: Mutex<Option<Known>>,
    older: std::sync::Mutex<Changefeed>,
}

/// Staging tables by their target tables.
type Known = BTreeMap<TableName, Arc<RowTable>>;

impl<D: Dial> Clone for PgRows<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), lane: self.lane.clone() }
    }
}

impl<D: Dial> PgRows<D> {
    /// The store for one target schema. `product` is the staging database's. The staging schema must have
    /// been [prepared](super::schema::prepare_rows).
    #[must_use]
    pub fn new(pool: Pool<D>, product: Product, name: StagingName, options: RowsOptions) -> Self {
        let group = options.group();
        let feed = Changefeed::new(
            Arc::clone(&options.catalog),
            options.schema.clone(),
            options.target,
            Limits { body_bytes_max: Limits::BODY_BYTES_MOST, ..Limits::default() },
        );
        let inner = Inner {
            sessions: Sessions::new(pool, "staging", options.timeout),
            product,
            registers: Registers::of(&name),
            memo: name.table("memo"),
            fences: name.table("replicator_fences"),
            checkpoints: name.table("checkpoints"),
            stream: stream(&group),
            position_key: format!("start-position-{group}"),
            horizon_key: format!("start-horizon-{group}"),
            independent_horizon_key: format!("start-independent-horizon-{group}"),
            independent_key: format!("start-independent-{group}"),
            late_key: format!("start-late-{group}"),
            feeds_key: format!("start-feeds-{group}"),
            identity_key: format!("start-source-{group}"),
            group,
            tables: Mutex::default(),
            older: std::sync::Mutex::new(feed),
            name,
            options,
        };
        Self { inner: Arc::new(inner), lane: Lane::Whole }
    }

    /// The same store, of which only the rows of these tables are read and retired. The horizon of independent
    /// tables is one of their own.
    #[must_use]
    pub fn of(&self, lane: Lane) -> Self {
        Self { inner: Arc::clone(&self.inner), lane }
    }

    /// The identity of the source that the saved position belongs to, as [`save_identity`] wrote it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    ///
    /// [`save_identity`]: Self::save_identity
    pub async fn identity(&self) -> Result<Option<String>, Failure> {
        self.inner.text(&self.inner.identity_key).await
    }

    /// Ties the saved position to its source. Replaces what was there.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_identity(&self, identity: &str) -> Result<(), Failure> {
        self.inner.save_identity(identity.as_bytes()).await
    }

    /// The names of the tables that had a lane of their own in the newest run that had such a lane, one a
    /// line. How far they got is the horizon of that lane.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn independent(&self) -> Result<Option<String>, Failure> {
        self.inner.text(&self.inner.independent_key).await
    }

    /// Says which tables have a lane of their own.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_independent(&self, fence: Fence, tables: &str) -> Result<(), Failure> {
        self.inner.save_text(fence, &self.inner.independent_key, tables).await
    }

    /// Up to when rows come late, as [`save_late`](Self::save_late) wrote it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn late(&self) -> Result<Option<String>, Failure> {
        self.inner.text(&self.inner.late_key).await
    }

    /// Says up to when rows come late, because what was staged before did not wait for promises.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_late(&self, fence: Fence, times: &str) -> Result<(), Failure> {
        self.inner.save_text(fence, &self.inner.late_key, times).await
    }

    /// The feeds of the schema, as [`save_feeds`](Self::save_feeds) wrote them.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn feeds(&self) -> Result<Option<String>, Failure> {
        self.inner.text(&self.inner.feeds_key).await
    }

    /// Says which feeds the schema has.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_feeds(&self, fence: Fence, feeds: &str) -> Result<(), Failure> {
        self.inner.save_text(fence, &self.inner.feeds_key, feeds).await
    }
}

impl<D: Dial> PgRows<D> {
    /// A time at or after that of the newest staged row; zero if there is none.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn newest(&self) -> Result<Hlc, Failure> {
        let tables = self.inner.tables().await?;
        Ok(tables.iter().filter_map(|table| table.marks().newest).max().unwrap_or_default())
    }
}

impl<D: Dial> Inner<D> {
    fn owner(&self) -> Owner<'_> {
        Owner {
            product: self.product,
            name: &self.name,
            registers: &self.registers,
            group: &self.group,
            database: &self.options.database,
            schema: &self.options.schema,
            catalog: &self.options.catalog,
            reader_index: self.options.reader_index,
        }
    }

    /// The check that comes first in every transaction that writes.
    fn check<'a>(&'a self, fence: &'a i64) -> Ask<'a> {
        let params: Vec<Param<'_>> = vec![(&self.stream, Type::TEXT), (fence, Type::INT8)];
        Ask { sql: check_fence(&self.fences, self.product), params }
    }

    /// Looks the tables up, in place of what was known.
    async fn load(&self, known: &mut Option<Known>) -> Result<(), Failure> {
        let owner = self.owner();
        // Only what takes long is waited for that long: the connection may be dead.
        let takes_over = self.sessions.ask_again(async |client| owner.takes_over(client).await);
        let sessions = match takes_over.await? {
            true => self.sessions.with_timeout(TAKEOVER_MAX),
            false => self.sessions.clone(),
        };
        let tables = sessions.ask_again(async |client| owner.load(client).await).await?;
        let named = |table: RowTable| (table.target.clone(), Arc::new(table));
        *known = Some(tables.into_iter().map(named).collect());
        Ok(())
    }

    /// All tables that hold rows or may.
    async fn tables(&self) -> Result<Vec<Arc<RowTable>>, Failure> {
        let mut known = self.tables.lock().await;
        if known.is_none() {
            self.load(&mut known).await?;
        }
        Ok(known.iter().flat_map(BTreeMap::values).map(Arc::clone).collect())
    }

    /// The staging table of a target table; made if it is not there.
    async fn table(&self, id: TableId) -> Result<Arc<RowTable>, Failure> {
        let target = &self.options.catalog.table(id).name;
        let mut known = self.tables.lock().await;
        if known.is_none() {
            self.load(&mut known).await?;
        }
        let known = known.get_or_insert_default();
        if let Some(table) = known.get(target) {
            return Ok(Arc::clone(table));
        }
        let owner = self.owner();
        let opened = self.sessions.ask_again(async |client| owner.open(client, target).await);
        let table = Arc::new(opened.await?);
        known.insert(target.clone(), Arc::clone(&table));
        Ok(table)
    }
}

impl<D: Dial> Staging for PgRows<D> {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        self.inner.begin().await
    }

    async fn read(&self, after: Hlc, through: Hlc, rows_max: u32) -> Result<StagedPage, Failure> {
        self.inner.read(&self.lane, after, through, rows_max).await
    }

    async fn retire(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.inner.retire(&self.lane, fence, through).await
    }

    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        self.inner.save_checkpoint(fence, position).await
    }

    async fn save_resolved(
        &self,
        fence: Fence,
        partition: PartitionId,
        resolved: Hlc,
    ) -> Result<(), Failure> {
        self.inner.save_resolved(fence, partition, resolved).await
    }

    async fn save_horizon(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.inner.save_horizon(&self.lane, fence, through).await
    }

    async fn horizon(&self) -> Result<Hlc, Failure> {
        self.inner.horizon(&self.lane).await
    }

    async fn stage(
        &self,
        fence: Fence,
        rows: Vec<TimedMutation>,
        floor: Hlc,
    ) -> Result<(), Failure> {
        self.inner.stage(fence, &rows, floor).await
    }
}

/// A fence as the database has it.
fn number(fence: Fence) -> i64 {
    i64::try_from(fence.0).unwrap_or(i64::MAX)
}

/// A time as the database has it. No changefeed has later ones than fit.
fn columns_of(time: Hlc) -> (i64, i64) {
    match i64::try_from(time.nanos) {
        Ok(nanos) => (nanos, i64::from(time.logical)),
        Err(_) => (i64::MAX, i64::MAX),
    }
}

fn time_of(nanos: i64, logical: i64) -> Hlc {
    Hlc {
        nanos: u64::try_from(nanos).unwrap_or(0),
        logical: u32::try_from(logical).unwrap_or(u32::MAX),
    }
}

/// Why a staged row cannot be written or read back.
#[derive(Debug)]
enum Unread {
    /// The database does not say what a number stands for.
    NoLayout,
    /// The target has no such table.
    NoTable,
    /// The row itself.
    Row(StagedError),
    /// A row of the older tool.
    Older(OlderError),
}

impl From<StagedError> for Unread {
    fn from(error: StagedError) -> Self {
        Self::Row(error)
    }
}

impl Unread {
    /// As the machine hears of it; `table` is the staging table, and `target` whose rows are in there.
    fn failure(&self, table: &str, target: &TableName) -> Failure {
        let detail = match self {
            Self::NoTable => format!(
                "staging: rows of table {target} are staged, but the target has no such table; create \
                 it again, so that they can be applied, or delete them from {table}"
            ),
            Self::NoLayout => format!(
                "staging: a row in {table} has columns that replicator_layouts does not name; restore \
                 that table"
            ),
            Self::Row(error @ StagedError::Column { .. }) => format!(
                "staging: staged rows in {table} cannot be applied: {error}; add it to the target again, \
                 or change the target after all staged rows are applied"
            ),
            Self::Row(error) => {
                format!("staging: a row for {table}: {}", crate::error_chain(error))
            }
            Self::Older(error) => format!(
                "staging: a row in {table} that an older replicator has staged cannot be read: {}; let \
                 that one apply its rows, or delete the row",
                crate::error_chain(error)
            ),
        };
        Failure::Rejected { detail, at: None }
    }
}
