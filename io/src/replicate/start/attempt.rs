//! One run of one schema's conveyor.
use std::convert::Infallible;
use std::sync::Arc;

use replicator_core::decode::changefeed::Changefeed;
use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::{SchemaName, TableName};
use replicator_core::model::position::PartitionId;
use replicator_core::model::time::Hlc;
use replicator_core::{Config, Durable, Machine};
use tokio::sync::watch;
use tracing::info;

use super::super::ground::connect;
use super::super::onlooker::Onlooker;
use super::super::side::{Side, growth, session_options, watch};
use super::super::trouble::{Trouble, trouble_of};
use super::conveyor::{Shared, State};
use super::mysql::{GROWTH, MySqlSide};
use super::store::{Owner, Store};
use super::target::Found;
use crate::driver::{self, Run, RunError};
use crate::mysql::conninfo::MySqlConnInfo;
use crate::net::Dial;
use crate::pg::connect::{AbortOnDrop, SessionOptions};
use crate::pg::conninfo::ConnInfo;
use crate::pg::pool::{Pool, PoolLimits};
use crate::port::{Fence, Staging as _, Target};
use crate::source::changefeed::inbox::{self, Requests};
use crate::source::changefeed::webhook::Live;
use crate::supervisor::Ended;
use crate::target::catalog;
use crate::target::pgwire::{PgTarget, TargetPool};
use crate::target::progress::ProgressTable;
use crate::target::record::Record;

/// Connections for the table of progress, which is asked for one thing at a time.
const PROGRESS_SESSIONS: usize = 2;

/// A run that is under way.
type Running = AbortOnDrop<Result<Requests, RunError<Infallible>>>;

/// One run, from the first connection to the last.
pub(super) struct Attempt<D: Dial> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) schema: SchemaName,
    pub(super) state: watch::Sender<State>,
}

impl<D: Dial> Attempt<D> {
    pub(super) async fn run(self) -> Ended {
        let ended = self.try_run().await;
        // Whoever waits for a run waits for the next one.
        self.state.send_if_modified(|state| match state {
            State::Live(_) => {
                *state = State::Starting;
                true
            }
            State::Starting | State::Unknown => false,
        });
        let metrics = &self.shared.metrics;
        match ended {
            Ok(()) => {
                metrics.run_ended("stopped");
                Ended::Stopped
            }
            Err(Trouble::Lasting(reason)) => {
                metrics.run_ended(&reason);
                Ended::GaveUp { reason }
            }
            Err(Trouble::Settings(reason) | Trouble::Passing(reason)) => {
                metrics.run_ended(&reason);
                Ended::Failed { reason }
            }
        }
    }

    async fn try_run(&self) -> Result<(), Trouble> {
        match &self.shared.found {
            Found::PgWire { conninfo, product } => self.run_pgwire(conninfo, *product).await,
            Found::MySql { conninfo } => self.run_mysql(conninfo).await,
        }
    }

    async fn run_pgwire(&self, conninfo: &ConnInfo, product: Product) -> Result<(), Trouble> {
        let Shared { dial, settings, clock, .. } = &*self.shared;
        let schema = &self.schema.schema;
        let options = SessionOptions::default();
        let session = connect(dial, "target", conninfo, &options).await?;
        let catalog = catalog::load(session.client(), product, schema)
            .await
            .map_err(|error| Trouble::settings("target", &error))?;
        drop(session);
        let catalog = self.known(catalog)?;
        let dialect = Dialect { product, database: conninfo.database.clone() };
        let side = Side {
            dial,
            target: conninfo,
            dialect: &dialect,
            schema,
            on_reject: settings.core.on_reject,
            dlq_table: &settings.dlq_table,
            apply_timeout: settings.apply_timeout,
            schema_refresh: settings.schema_refresh,
        };
        let mut begun = self.begin(&catalog).await?;
        let record = match &settings.progress_table {
            None => None,
            Some(name) => {
                let table = self.progress(name, conninfo, product, &catalog)?;
                Some(begun.follow(table, settings.core.seed).await?)
            }
        };
        let options = session_options(product, settings.apply_timeout);
        let limits = settings.target_pool;
        let pool: TargetPool<D> =
            Pool::new(dial.clone(), conninfo.clone(), options, limits, *clock);
        let target = PgTarget::new(pool, side.options(&catalog, record)?).guessing();
        let running = self.go_on(begun, target, &catalog, growth(product));
        let ended = side.watch(running, &catalog).await?;
        ended.map(drop).map_err(|error| trouble_of(&error, &catalog, |never| match *never {}))
    }

    async fn run_mysql(&self, conninfo: &MySqlConnInfo) -> Result<(), Trouble> {
        let Shared { settings, clock, .. } = &*self.shared;
        let side = MySqlSide { conninfo, settings, schema: &self.schema.schema };
        let catalog = self.known(side.catalog().await?)?;
        let begun = self.begin(&catalog).await?;
        let target = side.target(&catalog, *clock).await?;
        let running = self.go_on(begun, target, &catalog, GROWTH);
        let ended = watch(running, side.schema_changed(&catalog)).await?;
        ended.map(drop).map_err(|error| trouble_of(&error, &catalog, |never| match *never {}))
    }

    /// The tables of the schema, if there are any.
    fn known(&self, catalog: Catalog) -> Result<Arc<Catalog>, Trouble> {
        if catalog.tables().next().is_none() {
            self.state.send_replace(State::Unknown);
            let schema = &self.schema.schema;
            return Err(Trouble::Lasting(format!("the target has no tables in schema {schema}")));
        }
        let catalog = Arc::new(catalog);
        self.shared.metrics.set_tables(&catalog);
        Ok(catalog)
    }

    /// The table of progress in the target.
    fn progress(
        &self,
        name: &str,
        conninfo: &ConnInfo,
        product: Product,
        catalog: &Catalog,
    ) -> Result<ProgressTable<D>, Trouble> {
        let Shared { dial, settings, clock, .. } = &*self.shared;
        let options = session_options(product, settings.apply_timeout);
        let limits = PoolLimits { sessions_max: PROGRESS_SESSIONS, ..settings.target_pool };
        let pool = Pool::new(dial.clone(), conninfo.clone(), options, limits, *clock);
        let name = TableName::new(&self.schema.schema, name);
        ProgressTable::find(pool, product, catalog, &name, settings.apply_timeout)
            .map_err(|error| Trouble::Settings(error.to_string()))
    }

    /// Begins a run: from here on no earlier one writes to staging.
    async fn begin(&self, catalog: &Arc<Catalog>) -> Result<Begun<D>, Trouble> {
        let Shared { settings, found, staging, .. } = &*self.shared;
        let owner = Owner {
            name: self.schema.to_string(),
            database: found.named(),
            schema: &self.schema.schema,
            catalog,
            kind: found.kind(),
        };
        let store = Store::new(staging, owner);
        let (fence, mut durable) = store.begin().await.map_err(|f| Trouble::staging(&f))?;
        durable.resolved.entry(PartitionId(0)).or_default();
        info!(schema = %self.schema, resolved = %durable.resolved[&PartitionId(0)], "conveyor begins");
        let immediate = match settings.immediate {
            false => None,
            true => Some(self.immediate(&store, catalog).await?),
        };
        let horizon = store.horizon().await.map_err(|f| Trouble::staging(&f))?;
        Ok(Begun { store, fence, durable, horizon, immediate })
    }

    /// Without promises nobody can tell which of two rows comes first, so there must be no rule about it.
    async fn immediate(&self, store: &Store<D>, catalog: &Catalog) -> Result<Hlc, Trouble> {
        let mut tables = catalog.tables();
        if let Some((_, table)) = tables.find(|(_, table)| !table.foreign_keys.is_empty()) {
            return Err(Trouble::Lasting(format!(
                "--immediate is for tables without foreign keys, but table {} of the target has some; leave \
                 the flag out, or drop them for the time being",
                table.name
            )));
        }
        store.newest().await.map_err(|failure| Trouble::staging(&failure))
    }

    /// Goes on into this target.
    fn go_on<T: Target>(
        &self,
        begun: Begun<D>,
        target: T,
        catalog: &Arc<Catalog>,
        growth: usize,
    ) -> Running {
        let Shared { settings, found, stop, metrics, clock, .. } = &*self.shared;
        let Begun { store: staging, fence, durable, horizon, immediate } = begun;
        let config = Config { batch_growth_max: growth, ..settings.core };
        // Also where the target tells what it has: it may not have told the run before, or not tell the next.
        let machine = Machine::resume(config, Arc::clone(catalog), durable, clock.now());
        let mut machine = machine.at_least_once(horizon);
        if let Some(newest) = immediate {
            machine = machine.immediate(newest.max(horizon));
        }
        let (inbox, source) = inbox::open();
        let limits = settings.webhook.body;
        let schema = self.schema.schema.clone();
        let reader = Changefeed::new(Arc::clone(catalog), schema, found.kind(), limits);
        let live = Arc::new(Live::new(inbox, reader));
        let observer = Arc::new(Onlooker {
            metrics: Arc::clone(metrics),
            catalog: Arc::clone(catalog),
            progress: None,
            dead_letters: settings.dlq_table.clone(),
        });
        let (clock, stop) = (*clock, stop.clone());
        let run = Run { source, staging, target, fence, clock, stop, observer, recorder: None };
        metrics.run_began();
        let running = AbortOnDrop::spawn(driver::run(machine, run));
        self.state.send_replace(State::Live(live));
        running
    }
}

/// A run that has staging for itself, and what survived the last one.
struct Begun<D: Dial> {
    store: Store<D>,
    fence: Fence,
    durable: Durable,
    // How far earlier runs may have got.
    horizon: Hlc,
    // In immediate mode: the time of the newest staged row.
    immediate: Option<Hlc>,
}

impl<D: Dial> Begun<D> {
    /// Heeds what a table of the target says, and goes on telling it. `seed` is any number that differs
    /// between processes.
    async fn follow(&mut self, table: ProgressTable<D>, seed: u64) -> Result<Record, Trouble> {
        let followed = self.store.follow(table, &mut self.durable, &format!("{seed:016x}")).await;
        followed.map_err(|failure| Trouble::staging(&failure))
    }
}
