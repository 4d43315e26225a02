//! The staging store of one schema, together with what its target says of progress.
use std::sync::Arc;

use replicator_core::model::catalog::Catalog;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::{Durable, Failure};
use tracing::debug;

use super::stores::Stores;
use crate::clock::Clock;
use crate::metrics::{SchemaMetrics, ToStage};
use crate::net::Dial;
use crate::port::{Fence, StagedPage, Staging};
use crate::source::changefeed::feeds::Feeds;
use crate::staging::embedded::EmbeddedStore;
use crate::staging::rows::{PgRows, RowsOptions};
use crate::target::mysql::MySqlProgressTable;
use crate::target::progress::{ProgressTable, TargetProgress as _};

/// See the [module docs](self). Clones are the same store.
#[derive(Debug)]
pub(super) struct Store<D: Dial> {
    rows: Rows<D>,
    progress: Option<Arc<Progress<D>>>,
    meter: Meter,
}

/// Counts what a store does.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    pub(super) metrics: Arc<SchemaMetrics>,
    pub(super) clock: Clock,
}

/// What the target says of progress.
#[derive(Debug)]
pub(super) enum Progress<D: Dial> {
    PgWire(ProgressTable<D>),
    MySql(Box<MySqlProgressTable>),
}

impl<D: Dial> From<ProgressTable<D>> for Progress<D> {
    fn from(table: ProgressTable<D>) -> Self {
        Self::PgWire(table)
    }
}

impl<D: Dial> From<MySqlProgressTable> for Progress<D> {
    fn from(table: MySqlProgressTable) -> Self {
        Self::MySql(Box::new(table))
    }
}

#[derive(Debug)]
enum Rows<D: Dial> {
    Embedded(EmbeddedStore),
    Database(PgRows<D>),
}

impl<D: Dial> Clone for Store<D> {
    fn clone(&self) -> Self {
        let rows = match &self.rows {
            Rows::Embedded(store) => Rows::Embedded(store.clone()),
            Rows::Database(store) => Rows::Database(store.clone()),
        };
        Self { rows, progress: self.progress.clone(), meter: self.meter.clone() }
    }
}

/// Does the same with whatever store it is.
macro_rules! either {
    ($rows:expr, $store:ident => $does:expr) => {
        match $rows {
            Rows::Embedded($store) => $does,
            Rows::Database($store) => $does,
        }
    };
}

/// Whose rows they are.
pub(super) struct Owner<'a> {
    /// The schema, with its database if a request names it.
    pub(super) name: String,
    /// The database that the schema is in; empty on MySQL.
    pub(super) database: &'a str,
    /// The schema alone.
    pub(super) schema: &'a str,
    pub(super) catalog: &'a Arc<Catalog>,
    pub(super) kind: replicator_core::decode::changefeed::TargetKind,
    pub(super) feeds: &'a Feeds,
}

impl<D: Dial> Store<D> {
    pub(super) fn new(stores: &Stores<D>, owner: Owner<'_>, meter: Meter) -> Self {
        let Owner { name, database, schema, catalog, kind, feeds } = owner;
        let rows = match stores {
            Stores::Embedded(file) => {
                Rows::Embedded(file.stream(&name, feeds.partitions(&name), Arc::clone(catalog)))
            }
            Stores::Database(stores) => {
                let settings = stores.settings();
                let mut options = RowsOptions {
                    database: database.to_owned(),
                    schema: schema.to_owned(),
                    partitions: Vec::new(),
                    catalog: Arc::clone(catalog),
                    target: kind,
                    timeout: settings.timeout,
                    reader_index: settings.reader_index,
                };
                options.partitions = feeds.partitions(&options.group());
                Rows::Database(stores.rows(options))
            }
        };
        Self { rows, progress: None, meter }
    }

    /// The same store, of which only the rows of these tables are read and retired, and what the target says of
    /// them.
    pub(super) fn of(&self, lane: Lane, progress: Option<Arc<Progress<D>>>) -> Self {
        let rows = match &self.rows {
            Rows::Embedded(store) => Rows::Embedded(store.of(lane)),
            Rows::Database(store) => Rows::Database(store.of(lane)),
        };
        Self { rows, progress, meter: self.meter.clone() }
    }

    /// Forgets what the target says of rows through this position: they will not be read again.
    pub(super) async fn forget(&self, through: Position) {
        let forgotten = match self.progress.as_deref() {
            None => Ok(()),
            Some(Progress::PgWire(table)) => table.forget(through).await,
            Some(Progress::MySql(table)) => table.forget(through).await,
        };
        if let Err(failure) = forgotten {
            // They go with the next ones.
            debug!("could not forget old progress: {failure}");
        }
    }

    /// A time at or after that of the newest staged row; zero if there is none.
    pub(super) async fn newest(&self) -> Result<Hlc, Failure> {
        either!(&self.rows, store => store.newest().await)
    }

    /// The names of the tables that had a lane of their own the last time, one a line.
    pub(super) async fn independent(&self) -> Result<Option<String>, Failure> {
        either!(&self.rows, store => store.independent().await)
    }

    pub(super) async fn save_independent(&self, fence: Fence, tables: &str) -> Result<(), Failure> {
        either!(&self.rows, store => store.save_independent(fence, tables).await)
    }

    /// Up to when rows come late, as it was saved.
    pub(super) async fn late(&self) -> Result<Option<String>, Failure> {
        either!(&self.rows, store => store.late().await)
    }

    pub(super) async fn save_late(&self, fence: Fence, times: &str) -> Result<(), Failure> {
        either!(&self.rows, store => store.save_late(fence, times).await)
    }

    /// The feeds of the schema, as they were saved.
    pub(super) async fn feeds(&self) -> Result<Option<String>, Failure> {
        either!(&self.rows, store => store.feeds().await)
    }

    pub(super) async fn save_feeds(&self, fence: Fence, feeds: &str) -> Result<(), Failure> {
        either!(&self.rows, store => store.save_feeds(fence, feeds).await)
    }

    /// What the store is called by a table of progress. `fresh` is a name for it, if it has none yet.
    pub(super) async fn named(&self, fresh: &str) -> Result<String, Failure> {
        if let Some(name) = either!(&self.rows, store => store.identity().await)? {
            return Ok(name);
        }
        either!(&self.rows, store => store.save_identity(fresh).await)?;
        Ok(fresh.to_owned())
    }
}

impl<D: Dial> Staging for Store<D> {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        either!(&self.rows, store => store.begin().await)
    }

    async fn read(&self, after: Hlc, through: Hlc, rows_max: u32) -> Result<StagedPage, Failure> {
        let page = either!(&self.rows, store => store.read(after, through, rows_max).await)?;
        self.meter.metrics.staged_read(page.rows.len());
        Ok(page)
    }

    async fn retire(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        either!(&self.rows, store => store.retire(fence, through).await)
    }

    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        let Meter { metrics, clock } = &self.meter;
        let began = clock.now();
        either!(&self.rows, store => store.save_checkpoint(fence, position).await)?;
        metrics.checkpoint_saved(clock.since(began));
        Ok(())
    }

    async fn save_resolved(
        &self,
        fence: Fence,
        partition: PartitionId,
        resolved: Hlc,
    ) -> Result<(), Failure> {
        let Meter { metrics, clock } = &self.meter;
        let began = clock.now();
        either!(&self.rows, store => store.save_resolved(fence, partition, resolved).await)?;
        metrics.resolved_saved(clock.since(began));
        Ok(())
    }

    async fn save_horizon(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        either!(&self.rows, store => store.save_horizon(fence, through).await)
    }

    async fn horizon(&self) -> Result<Hlc, Failure> {
        either!(&self.rows, store => store.horizon().await)
    }

    async fn stage(
        &self,
        fence: Fence,
        rows: Vec<TimedMutation>,
        floor: Hlc,
    ) -> Result<(), Failure> {
        let Meter { metrics, clock } = &self.meter;
        let (to_stage, began) = (ToStage::of(&rows), clock.now());
        let staged = either!(&self.rows, store => store.stage(fence, rows, floor).await);
        metrics.staged(&to_stage, clock.since(began), staged.is_ok());
        staged
    }
}
