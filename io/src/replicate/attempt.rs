//! One run of one stream, from the first connection to the last.
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions};
use replicator_core::dialect::Product;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::position::Lsn;
use replicator_core::{Config, Machine, OnReject};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::ground::{Ground, connect};
use super::identity::{Identity, Known, check_gap, is_beyond};
use super::onlooker::Onlooker;
use super::settings::PgLogicalSettings;
use super::trouble::{Trouble, trouble_of, trouble_of_source};
use crate::clock::Clock;
use crate::driver::{self, Run, RunError};
use crate::error_chain;
use crate::metrics::Metrics;
use crate::net::Dial;
use crate::pg::connect::{AbortOnDrop, SessionOptions, connect_sql};
use crate::port::{Source as _, Staging as _};
use crate::preflight::{self, Facts};
use crate::recorder::Recorder;
use crate::source::pg::stream::{PgSource, PgSourceOptions};
use crate::supervisor::Ended;
use crate::target::pgwire::{PgTarget, PgTargetOptions};
use crate::target::{catalog, dead_letter};

/// How long the source gets to take our goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// One run, from the first connection to the last.
pub(super) struct Attempt<D> {
    pub(super) dial: D,
    pub(super) settings: Arc<PgLogicalSettings>,
    pub(super) clock: Clock,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) recorder: Option<Recorder>,
    pub(super) first: bool,
}

impl<D: Dial> Attempt<D> {
    pub(super) async fn run(self) -> Ended {
        let ended = self.try_run().await;
        match &ended {
            Ok(()) => self.metrics.run_ended("stopped"),
            Err(
                Trouble::Lasting(reason) | Trouble::Settings(reason) | Trouble::Passing(reason),
            ) => {
                self.metrics.run_ended(reason);
            }
        }
        match ended {
            Ok(()) => Ended::Stopped,
            Err(Trouble::Lasting(reason)) => Ended::GaveUp { reason },
            Err(Trouble::Settings(reason)) if self.first => Ended::GaveUp { reason },
            Err(Trouble::Settings(reason) | Trouble::Passing(reason)) => Ended::Failed { reason },
        }
    }

    async fn try_run(&self) -> Result<(), Trouble> {
        let mut ground = self.prepare().await?;
        let catalog = Arc::new(ground.facts.catalog.clone());
        self.metrics.set_tables(&catalog);
        // The slot has one reader, so whoever streams is alone; only then is it right to fence.
        let mut source = self.source(&ground, &catalog).await?;
        let known = self.check_identity(&ground).await?;
        let (fence, durable) = ground.store.begin().await.map_err(|f| Trouble::staging(&f))?;
        if is_beyond(&durable, &ground.facts) {
            // Another replicator may have gone on after we looked. Now nobody else does.
            ground.facts.written = self.written().await?.unwrap_or(ground.facts.written);
        }
        let durable = check_gap(durable, &ground.facts, known)?;
        self.save_identity(&ground).await?;
        match durable.checkpoint {
            Some(checkpoint) => {
                info!(%checkpoint, "replication resumes");
                // A slot forgets what it was told when its server crashes, and an idle one would not be
                // told again.
                source.acknowledge(checkpoint);
            }
            None => info!(slot = %ground.facts.confirmed_flush, "replication starts"),
        }
        let batch_growth_max = growth(ground.dialect.product);
        let config = Config { batch_growth_max, ..self.settings.core };
        let now = self.clock.now();
        if let Some(recorder) = &self.recorder {
            recorder.resumed(&config, &catalog, &durable, now);
        }
        let machine = Machine::resume(config, Arc::clone(&catalog), durable, now);
        let target = PgTarget::new(ground.target.clone(), self.target_options(&ground, &catalog)?);
        let observer = Arc::new(Onlooker {
            metrics: Arc::clone(&self.metrics),
            catalog: Arc::clone(&catalog),
            progress: source.progress(),
            dead_letters: self.settings.dlq_table.clone(),
        });
        let run = Run {
            source,
            staging: ground.store.clone(),
            target,
            fence,
            clock: self.clock,
            stop: self.stop.clone(),
            observer,
            recorder: self.recorder.clone(),
        };
        self.metrics.run_began();
        // In a task, so that the batches it starts can run on the same thread: a small one is applied
        // without waking another.
        let mut running = AbortOnDrop::spawn(driver::run(machine, run));
        let ended = tokio::select! {
            biased;
            ended = running.task() => ended,
            changed = self.schema_changed(&ground, &catalog) => {
                running.end().await;
                return Err(changed);
            }
        };
        let ended = ended.unwrap_or_else(|died| match died.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(died) => Err(RunError::Died(died)),
        });
        match ended {
            Ok(source) => {
                // What the source does not hear it sends again next time.
                if let Err(error) = source.close(CLOSE_LIMIT).await {
                    debug!("could not say goodbye to the source: {}", error_chain(&error));
                }
                Ok(())
            }
            Err(error) => Err(trouble_of(&error, &catalog)),
        }
    }

    /// Where the source's log ends now; `None` if it has become a replica.
    async fn written(&self) -> Result<Option<Lsn>, Trouble> {
        let options = SessionOptions::default();
        let session = connect(&self.dial, "source", &self.settings.source, &options).await?;
        preflight::written(session.client(), self.settings.apply_timeout)
            .await
            .map_err(|error| Trouble::settings("preflight", &error))
    }

    fn target_options(
        &self,
        ground: &Ground<D>,
        catalog: &Arc<Catalog>,
    ) -> Result<PgTargetOptions, Trouble> {
        let dead_letters = match self.settings.core.on_reject {
            OnReject::Stop => None,
            OnReject::DeadLetter { .. } => {
                let name = TableName::new(&ground.schema.schema, &self.settings.dlq_table);
                dead_letter::find(catalog, &name)
                    .map_err(|error| Trouble::Settings(error.to_string()))?;
                Some(name)
            }
        };
        Ok(PgTargetOptions {
            dialect: ground.dialect.clone(),
            catalog: Arc::clone(catalog),
            record: ground.record.clone(),
            apply_timeout: self.settings.apply_timeout,
            dead_letters,
        })
    }

    async fn source(
        &self,
        ground: &Ground<D>,
        catalog: &Arc<Catalog>,
    ) -> Result<PgSource<D>, Trouble> {
        let settings = &*self.settings;
        let options = PgOptions {
            truncate: settings.truncate,
            target_schema: Some(ground.schema.schema.clone()),
            piece_bytes_max: settings.piece_bytes_max,
            streamed_bytes_max: settings.core.buffered_bytes_max,
        };
        let decoder = PgTransactions::new(Arc::clone(catalog), options);
        let options = PgSourceOptions {
            slot: settings.slot.clone(),
            publications: vec![ground.facts.publication.clone()],
            // The machine skips what it has; the slot never starts after what we acknowledged.
            saved: None,
            system_identifier: Some(ground.facts.system_identifier),
            standby_timeout: settings.standby_timeout,
            silence_limit: None,
            session: SessionOptions::default(),
        };
        let source = PgSource::connect(&self.dial, &settings.source, &options, decoder, self.clock);
        let source = source.await;
        match &source {
            Ok(_) => self.metrics.dial_success(),
            Err(_) => self.metrics.dial_failure(),
        }
        source.map_err(|error| trouble_of_source(&error))
    }

    /// A saved position is of use only with the source it came from.
    async fn check_identity(&self, ground: &Ground<D>) -> Result<Known, Trouble> {
        let current = self.identity(ground);
        let saved = ground.store.identity().await.map_err(|f| Trouble::staging(&f))?;
        let Some(saved) = saved else { return Ok(Known::Never) };
        match Identity::parse(&saved) {
            Some(saved) if saved == current => Ok(Known::Same),
            Some(saved) if saved.system == current.system && saved.slot == current.slot => {
                let (from, to) = (saved.timeline, current.timeline);
                warn!(from, to, "the source was promoted and the slot has come along");
                Ok(Known::Same)
            }
            Some(_) | None => Err(Trouble::Lasting(format!(
                "the saved position belongs to another source: saved {saved}, connected to \
                 {current}. If the target holds all that the new source had when its slot was made, \
                 forget the saved position: {}",
                ground.store.forget_sql()
            ))),
        }
    }

    async fn save_identity(&self, ground: &Ground<D>) -> Result<(), Trouble> {
        let identity = self.identity(ground).to_string();
        ground.store.save_identity(&identity).await.map_err(|failure| Trouble::staging(&failure))
    }

    fn identity(&self, ground: &Ground<D>) -> Identity {
        let Facts { system_identifier: system, timeline, .. } = ground.facts;
        Identity { system, timeline, slot: self.settings.slot.clone() }
    }

    /// Returns when the target's tables are not what they were.
    async fn schema_changed(&self, ground: &Ground<D>, catalog: &Arc<Catalog>) -> Trouble {
        let Some(period) = self.settings.schema_refresh else {
            return std::future::pending().await;
        };
        let product = ground.dialect.product;
        let options = self.session_options(product);
        loop {
            tokio::time::sleep(period).await;
            let asking = connect_sql(&self.dial, &self.settings.target, &options).await;
            let Ok(session) = asking else { continue };
            let asking = catalog::load(session.client(), product, &ground.schema.schema);
            let limit = self.settings.apply_timeout;
            let Ok(answer) = tokio::time::timeout(limit, asking).await else { continue };
            match answer {
                Ok(current) if current == **catalog => (),
                Ok(_) => {
                    return Trouble::Passing("the target's tables have changed".to_owned());
                }
                Err(error) => debug!("could not look for schema changes: {}", error_chain(&error)),
            }
        }
    }
}

/// How much larger than asked for a batch may become while the target cannot keep up. PostgreSQL gains up
/// to 10,000 rows a transaction, CockroachDB nothing beyond 1,000, and its conflicts grow.
const fn growth(product: Product) -> usize {
    match product {
        Product::Postgres => 8,
        Product::Cockroach => 1,
    }
}
