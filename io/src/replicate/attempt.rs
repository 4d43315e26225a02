//! One run of one stream, from the first connection to the last.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::position::Lsn;
use replicator_core::{Config, Machine};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::ground::{Ground, connect};
use super::identity::{Identity, Known, check_gap, is_beyond};
use super::onlooker::Onlooker;
use super::settings::PgLogicalSettings;
use super::side::{Side, growth};
use super::trouble::{Trouble, trouble_of, trouble_of_source};
use crate::clock::Clock;
use crate::driver::{self, Run};
use crate::error_chain;
use crate::metrics::SchemaMetrics;
use crate::net::Dial;
use crate::pg::connect::{AbortOnDrop, SessionOptions};
use crate::port::{Source as _, Staging as _};
use crate::preflight::{self, Facts};
use crate::recorder::Recorder;
use crate::source::pg::stream::{PgSource, PgSourceOptions};
use crate::supervisor::Ended;
use crate::target::pgwire::PgTarget;

/// How long the source gets to take our goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// One run, from the first connection to the last.
pub(super) struct Attempt<D> {
    pub(super) dial: D,
    pub(super) settings: Arc<PgLogicalSettings>,
    pub(super) clock: Clock,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<SchemaMetrics>,
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
        let side = self.side(&ground);
        let options = side.options(&catalog, ground.record.clone())?;
        let target = PgTarget::new(ground.target.clone(), options);
        let observer = Arc::new(Onlooker {
            metrics: Arc::clone(&self.metrics),
            catalog: Arc::clone(&catalog),
            progress: Some(source.progress()),
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
        let running = AbortOnDrop::spawn(driver::run(machine, run));
        let ended = side.watch(running, &catalog).await?;
        match ended {
            Ok(source) => {
                // What the source does not hear it sends again next time.
                if let Err(error) = source.close(CLOSE_LIMIT).await {
                    debug!("could not say goodbye to the source: {}", error_chain(&error));
                }
                Ok(())
            }
            Err(error) => Err(trouble_of(&error, &catalog, trouble_of_source)),
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

    fn side<'a>(&'a self, ground: &'a Ground<D>) -> Side<'a, D> {
        let settings = &*self.settings;
        Side {
            dial: &self.dial,
            target: &settings.target,
            dialect: &ground.dialect,
            schema: &ground.schema.schema,
            on_reject: settings.core.on_reject,
            dlq_table: &settings.dlq_table,
            apply_timeout: settings.apply_timeout,
            schema_refresh: settings.schema_refresh,
        }
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
        self.metrics.dialed(source.is_ok());
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
}
