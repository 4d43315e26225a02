//! One run of one schema's conveyor.
use std::sync::Arc;

use replicator_core::decode::changefeed::Changefeed;
use replicator_core::dialect::Dialect;
use replicator_core::model::ident::SchemaName;
use replicator_core::model::position::PartitionId;
use replicator_core::{Config, Machine};
use tokio::sync::watch;
use tracing::info;

use super::super::ground::connect;
use super::super::onlooker::Onlooker;
use super::super::side::{Side, growth, session_options};
use super::super::trouble::{Trouble, trouble_of};
use super::conveyor::{Shared, State, kind_of};
use crate::driver::{self, Run};
use crate::net::Dial;
use crate::pg::connect::{AbortOnDrop, SessionOptions};
use crate::pg::pool::Pool;
use crate::port::Staging as _;
use crate::source::changefeed::inbox;
use crate::source::changefeed::webhook::Live;
use crate::supervisor::Ended;
use crate::target::catalog;
use crate::target::pgwire::{PgTarget, TargetPool};

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
        let Shared { dial, settings, product, staging, stop, metrics, clock } = &*self.shared;
        let schema = &self.schema.schema;
        let options = SessionOptions::default();
        let session = connect(dial, "target", &settings.target, &options).await?;
        let catalog = catalog::load(session.client(), *product, schema)
            .await
            .map_err(|error| Trouble::settings("target", &error))?;
        drop(session);
        if catalog.tables().next().is_none() {
            self.state.send_replace(State::Unknown);
            return Err(Trouble::Lasting(format!("the target has no tables in schema {schema}")));
        }
        let catalog = Arc::new(catalog);
        metrics.set_tables(&catalog);

        let name = self.schema.to_string();
        let store = staging.stream(&name, vec![name.clone()], Arc::clone(&catalog));
        let (fence, mut durable) = store.begin().await.map_err(|f| Trouble::staging(&f))?;
        durable.resolved.entry(PartitionId(0)).or_default();
        info!(schema = %self.schema, resolved = %durable.resolved[&PartitionId(0)], "conveyor begins");
        let config = Config { batch_growth_max: growth(*product), ..settings.core };
        let machine = Machine::resume(config, Arc::clone(&catalog), durable, clock.now());

        let database = settings.target.database.clone();
        let dialect = Dialect { product: *product, database };
        let side = Side {
            dial,
            target: &settings.target,
            dialect: &dialect,
            schema,
            on_reject: settings.core.on_reject,
            dlq_table: &settings.dlq_table,
            apply_timeout: settings.apply_timeout,
            schema_refresh: settings.schema_refresh,
        };
        let options = session_options(*product, settings.apply_timeout);
        let (conninfo, limits) = (settings.target.clone(), settings.target_pool);
        let pool: TargetPool<D> = Pool::new(dial.clone(), conninfo, options, limits, *clock);
        let target = PgTarget::new(pool, side.options(&catalog, None)?);

        let (inbox, source) = inbox::open();
        let limits = settings.webhook.body;
        let reader =
            Changefeed::new(Arc::clone(&catalog), schema.clone(), kind_of(*product), limits);
        let live = Arc::new(Live::new(inbox, reader));
        let observer = Arc::new(Onlooker {
            metrics: Arc::clone(metrics),
            catalog: Arc::clone(&catalog),
            progress: None,
            dead_letters: settings.dlq_table.clone(),
        });
        let (clock, stop) = (*clock, stop.clone());
        let run =
            Run { source, staging: store, target, fence, clock, stop, observer, recorder: None };
        metrics.run_began();
        let running = AbortOnDrop::spawn(driver::run(machine, run));
        self.state.send_replace(State::Live(live));
        let ended = side.watch(running, &catalog).await?;
        ended.map(drop).map_err(|error| trouble_of(&error, &catalog, |never| match *never {}))
    }
}
