//! One run of one stream from PostgreSQL, from the first connection to the last.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::position::Lsn;
use tracing::{debug, info, warn};

use super::identity::{Identity, Known, check_gap, is_beyond};
use super::landing::{Begun, Ground, Landing, StorePlace, Turns, connect};
use super::onlooker::Standing;
use super::settings::PgLogicalSettings;
use super::trouble::{Trouble, trouble_of_source};
use crate::error_chain;
use crate::net::Dial;
use crate::pg::connect::SessionOptions;
use crate::port::{Source as _, Staging as _};
use crate::preflight::{self, Facts};
use crate::source::pg::stream::{PgSource, PgSourceOptions};
use crate::staging::pg_store::PgStore;
use crate::supervisor::Ended;

/// How long the source gets to take our goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// One run, from the first connection to the last.
pub(super) struct Attempt<D> {
    pub(super) settings: Arc<PgLogicalSettings>,
    pub(super) landing: Landing<D>,
}

impl<D: Dial> Attempt<D> {
    pub(super) async fn run(self) -> Ended {
        let ended = self.try_run().await;
        self.landing.ended(ended)
    }

    async fn try_run(&self) -> Result<(), Trouble> {
        let (mut facts, ground) = self.prepare().await?;
        let catalog = Arc::new(facts.catalog.clone());
        self.landing.metrics.set_tables(&catalog);
        let StorePlace { pool, product, name, schema_text } = &ground.store;
        let limit = self.landing.settings.apply_timeout;
        let store = PgStore::pglogical(pool.clone(), *product, name, schema_text, limit);
        // The slot has one reader, so whoever streams is alone; only then is it right to fence.
        let mut source = self.source(&facts, &ground, &catalog).await?;
        let known = self.check_identity(&facts, &store).await?;
        let (fence, durable) = store.begin().await.map_err(|f| Trouble::staging(&f))?;
        if is_beyond(&durable, &facts) {
            // Another replicator may have gone on after we looked. Now nobody else does.
            facts.written = self.written().await?.unwrap_or(facts.written);
        }
        let durable = check_gap(durable, &facts, known)?;
        let identity = self.identity(&facts).to_string();
        store.save_identity(&identity).await.map_err(|failure| Trouble::staging(&failure))?;
        match durable.checkpoint {
            Some(checkpoint) => {
                info!(%checkpoint, "replication resumes");
                // A slot forgets what it was told when its server crashes, and an idle one would not be
                // told again.
                source.acknowledge(checkpoint);
            }
            None => info!(slot = %facts.confirmed_flush, "replication starts"),
        }
        let record = ground.record(store.record_names(), None);
        let standing = Standing::Slot(source.progress());
        let begun = Begun { source, store, fence, durable, record, standing };
        let source = self.landing.drive(&ground, &catalog, begun, trouble_of_source).await?;
        // What the source does not hear it sends again next time.
        if let Err(error) = source.close(CLOSE_LIMIT).await {
            debug!("could not say goodbye to the source: {}", error_chain(&error));
        }
        Ok(())
    }

    /// Connects to both sides, prepares staging and looks for what stands in the way.
    async fn prepare(&self) -> Result<(Facts, Ground<D>), Trouble> {
        let Self { settings, landing } = self;
        let options = SessionOptions::default();
        let source = connect(&landing.dial, "source", &settings.source, &options).await?;
        let opened = landing.open().await?;
        let options = preflight::Options {
            slot: settings.slot.clone(),
            publication: settings.publication.clone(),
            target: opened.options.clone(),
        };
        let (target, product) = (opened.target.client(), opened.server.product);
        let report = preflight::run(source.client(), target, product, &options)
            .await
            .map_err(|error| Trouble::settings("preflight", &error))?;
        let connected = |facts: &Facts| format!("{} and {}", facts.source_version, opened.server);
        let facts = landing.judge(&report.findings, report.facts, connected)?;
        Ok((facts, landing.prepare(opened, Turns::Source).await?))
    }

    /// Where the source's log ends now; `None` if it has become a replica.
    async fn written(&self) -> Result<Option<Lsn>, Trouble> {
        let options = SessionOptions::default();
        let Self { settings, landing } = self;
        let session = connect(&landing.dial, "source", &settings.source, &options).await?;
        preflight::written(session.client(), landing.settings.apply_timeout)
            .await
            .map_err(|error| Trouble::settings("preflight", &error))
    }

    async fn source(
        &self,
        facts: &Facts,
        ground: &Ground<D>,
        catalog: &Arc<Catalog>,
    ) -> Result<PgSource<D>, Trouble> {
        let Self { settings, landing } = self;
        let options = PgOptions {
            truncate: landing.settings.truncate,
            target_schema: Some(ground.schema.schema.clone()),
            piece_bytes_max: landing.settings.piece_bytes_max,
            streamed_bytes_max: landing.settings.core.buffered_bytes_max,
        };
        let decoder = PgTransactions::new(Arc::clone(catalog), options);
        let options = PgSourceOptions {
            slot: settings.slot.clone(),
            publications: vec![facts.publication.clone()],
            // The machine skips what it has; the slot never starts after what we acknowledged.
            saved: None,
            system_identifier: Some(facts.system_identifier),
            standby_timeout: settings.standby_timeout,
            silence_limit: None,
            session: SessionOptions::default(),
        };
        let (dial, clock) = (&landing.dial, landing.clock);
        let source = PgSource::connect(dial, &settings.source, &options, decoder, clock).await;
        landing.metrics.dialed(source.is_ok());
        source.map_err(|error| trouble_of_source(&error))
    }

    /// A saved position is of use only with the source it came from.
    async fn check_identity(&self, facts: &Facts, store: &PgStore<D>) -> Result<Known, Trouble> {
        let current = self.identity(facts);
        let saved = store.identity().await.map_err(|f| Trouble::staging(&f))?;
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
                store.forget_sql()
            ))),
        }
    }

    fn identity(&self, facts: &Facts) -> Identity {
        let Facts { system_identifier: system, timeline, .. } = *facts;
        Identity { system, timeline, slot: self.settings.slot.clone() }
    }
}
