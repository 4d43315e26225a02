//! One run of one schema's conveyor.
use std::convert::Infallible;
use std::sync::Arc;

use replicator_core::decode::changefeed::Changefeed;
use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::SchemaName;
use replicator_core::model::position::PartitionId;
use replicator_core::{Config, Machine};
use tokio::sync::watch;
use tracing::info;

use super::super::ground::connect;
use super::super::onlooker::Onlooker;
use super::super::side::{Side, growth, session_options, watch};
use super::super::trouble::{Trouble, trouble_of};
use super::conveyor::{Shared, State};
use super::mysql::{GROWTH, MySqlSide};
use super::target::Found;
use crate::driver::{self, Run, RunError};
use crate::mysql::conninfo::MySqlConnInfo;
use crate::net::Dial;
use crate::pg::connect::{AbortOnDrop, SessionOptions};
use crate::pg::conninfo::ConnInfo;
use crate::pg::pool::Pool;
use crate::port::{Staging as _, Target};
use crate::source::changefeed::inbox::{self, Requests};
use crate::source::changefeed::webhook::Live;
use crate::supervisor::Ended;
use crate::target::catalog;
use crate::target::pgwire::{PgTarget, TargetPool};

/// A run that has begun.
type Running = AbortOnDrop<Result<Requests, RunError<Infallible>>>;

/// One run, from the first connection to the last.
pub(super) struct Attempt<D> {
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
        let options = session_options(product, settings.apply_timeout);
        let limits = settings.target_pool;
        let pool: TargetPool<D> =
            Pool::new(dial.clone(), conninfo.clone(), options, limits, *clock);
        let target = PgTarget::new(pool, side.options(&catalog, None)?);
        let running = self.begin(target, &catalog, growth(product)).await?;
        let ended = side.watch(running, &catalog).await?;
        ended.map(drop).map_err(|error| trouble_of(&error, &catalog, |never| match *never {}))
    }

    async fn run_mysql(&self, conninfo: &MySqlConnInfo) -> Result<(), Trouble> {
        let Shared { settings, clock, .. } = &*self.shared;
        let side = MySqlSide { conninfo, settings, schema: &self.schema.schema };
        let catalog = self.known(side.catalog().await?)?;
        let target = side.target(&catalog, *clock).await?;
        let running = self.begin(target, &catalog, GROWTH).await?;
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

    /// Begins a run into this target.
    async fn begin<T: Target>(
        &self,
        target: T,
        catalog: &Arc<Catalog>,
        growth: usize,
    ) -> Result<Running, Trouble> {
        let Shared { settings, found, staging, stop, metrics, clock, .. } = &*self.shared;
        let name = self.schema.to_string();
        let store = staging.stream(&name, vec![name.clone()], Arc::clone(catalog));
        let (fence, mut durable) = store.begin().await.map_err(|f| Trouble::staging(&f))?;
        durable.resolved.entry(PartitionId(0)).or_default();
        info!(schema = %self.schema, resolved = %durable.resolved[&PartitionId(0)], "conveyor begins");
        let config = Config { batch_growth_max: growth, ..settings.core };
        let machine = Machine::resume(config, Arc::clone(catalog), durable, clock.now());
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
        let run =
            Run { source, staging: store, target, fence, clock, stop, observer, recorder: None };
        metrics.run_began();
        let running = AbortOnDrop::spawn(driver::run(machine, run));
        self.state.send_replace(State::Live(live));
        Ok(running)
    }
}
