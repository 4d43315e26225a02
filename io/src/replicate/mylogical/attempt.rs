//! One run of one stream from MySQL or MariaDB, from the first connection to the last.
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replicator_core::decode::binlog::step::TransactionLimits;
use replicator_core::decode::mysql_columns::MySqlColumns;
use replicator_core::decode::mysql_transaction::{MySqlAssembleError, MySqlOptions, MySqlTables};
use replicator_core::model::gtid::AnyGtid;
use tracing::{info, warn};

use super::super::landing::{Begun, Ground, Landing, StorePlace, Turns};
use super::super::onlooker::Standing;
use super::super::settings::MyLogicalSettings;
use super::super::trouble::Trouble;
use super::position;
use super::trouble::trouble_of_source;
use crate::error_chain;
use crate::fingerprint::fingerprint;
use crate::mysql::replica::{Replica, ReplicaSession};
use crate::net::Dial;
use crate::ordinals::Ordinals;
use crate::port::Staging as _;
use crate::preflight::mysql::{self as preflight, Facts};
use crate::source::mysql::stream::{MySqlSource, MySqlSourceError, MySqlSourceOptions};
use crate::staging::gtid_store::GtidStore;
use crate::supervisor::Ended;

/// How often the source is to say something, if there is nothing to say.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// One run, from the first connection to the last.
pub(super) struct Attempt<D> {
    pub(super) settings: Arc<MyLogicalSettings>,
    pub(super) landing: Landing<D>,
    pub(super) learnt: Arc<Mutex<Learnt>>,
}

/// What runs have found out for those after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Learnt {
    /// Transactions that must not be cut in pieces.
    whole: BTreeSet<AnyGtid>,
    /// How often what was known of columns was out of date, which it is not in the next run.
    changes: u64,
}

/// Both sides, looked at.
struct Ready<D: Dial> {
    session: ReplicaSession<D>,
    facts: Facts,
    ground: Ground<D>,
}

impl<D: Dial> Attempt<D> {
    pub(super) async fn run(self) -> Ended {
        loop {
            let known = self.learnt().clone();
            let ended = self.try_run().await;
            // Now that more is known, another run gets further at once.
            match ended {
                Err(_) if known != *self.learnt() => (),
                ended => return self.landing.ended(ended),
            }
        }
    }

    async fn try_run(&self) -> Result<(), Trouble> {
        let ready = self.prepare().await?;
        let (place, name) = (ready.ground.store.clone(), ready.ground.store.schema_text.clone());
        let stream = format!("mylogical-{name}");
        let work = async |waited: bool| {
            let ready = if waited { self.prepare().await? } else { ready };
            self.stream(ready).await
        };
        self.landing.in_turn(&place, stream, work).await
    }

    /// Nobody else reads the stream.
    async fn stream(&self, ready: Ready<D>) -> Result<(), Trouble> {
        let Ready { mut session, mut facts, ground } = ready;
        let landing = &self.landing;
        let catalog = Arc::new(facts.catalog.clone());
        landing.metrics.set_tables(&catalog);
        let ordinals = Ordinals::new(facts.flavor);
        let store = self.store(&ground, &ordinals);
        let (fence, durable) = store.begin().await.map_err(|f| Trouble::staging(&f))?;
        let place = ordinals.begun();
        // Another replicator may have gone on after we looked. Now nobody else does.
        let looked = facts.look_again(&mut session).await;
        looked.map_err(|error| Trouble::Passing(format!("source: {}", error_chain(&error))))?;
        position::check(place.resumable(), &facts, &store.forget_sql())?;
        self.check_identity(&facts, &store).await?;
        let from = place.resumable().to_string().replace('\n', "");
        info!(position = %from, "replication starts");
        let mut columns = None;
        if facts.asks_for_columns {
            let mut stop = landing.stop.clone();
            let asked = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                asked = self.columns(session, &facts, place.resumable()) => asked?,
            };
            (session, columns) = (asked.0, Some(asked.1));
        }
        let options = self.source_options(&facts, &ground, columns);
        let source = MySqlSource::start(session, options, ordinals.clone(), landing.clock).await;
        let source = source.map_err(|error| trouble_of_source(&error))?;
        let record = ground.record(store.record_names(), Some(ordinals.clone()));
        let standing = Standing::Numbers(ordinals);
        let begun = Begun { source, store, fence, durable, record, standing };
        let of_source = |error: &MySqlSourceError| {
            self.learn(error);
            trouble_of_source(error)
        };
        landing.drive(&ground, &catalog, begun, of_source).await.map(drop)
    }

    fn learn(&self, error: &MySqlSourceError) {
        let MySqlSourceError::Assemble(error) = error else { return };
        if let MySqlAssembleError::Undone { gtid } = error {
            info!(%gtid, "the source undid a part of a large transaction, which is read again");
            self.learnt().whole.insert(*gtid);
        }
        if let MySqlAssembleError::ColumnsOutdated { .. } = error {
            info!("{error}; its catalog is asked again");
            let mut learnt = self.learnt();
            learnt.changes = learnt.changes.saturating_add(1);
        }
    }

    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to both sides, prepares staging and looks for what stands in the way.
    async fn prepare(&self) -> Result<Ready<D>, Trouble> {
        let Self { settings, landing, .. } = self;
        let session = ReplicaSession::open(&landing.dial, &settings.source).await;
        landing.metrics.dialed(session.is_ok());
        let mut session = session
            .map_err(|error| Trouble::settings("could not connect to source database", &error))?;
        let opened = landing.open().await?;
        let options = preflight::Options {
            database: settings.source.database.clone(),
            server_id: settings.server_id,
            fetch_metadata: settings.fetch_metadata,
            target: opened.options.clone(),
        };
        let (target, product) = (opened.target.client(), opened.server.product);
        let report = preflight::run(&mut session, target, product, &options)
            .await
            .map_err(|error| Trouble::settings("preflight", &error))?;
        let connected = |facts: &Facts| format!("{} and {}", facts.version, opened.server);
        let facts = landing.judge(&report.findings, report.facts, connected)?;
        Ok(Ready { session, facts, ground: landing.prepare(opened, Turns::Leases).await? })
    }

    fn store(&self, ground: &Ground<D>, ordinals: &Ordinals) -> GtidStore<D> {
        let StorePlace { pool, product, name, schema_text } = &ground.store;
        let limit = self.landing.settings.apply_timeout;
        let (pool, ordinals) = (pool.clone(), ordinals.clone());
        let given = self.settings.default_gtids.clone();
        GtidStore::mylogical(pool, *product, name, schema_text, limit, ordinals, given)
    }

    /// One stream is one replica, whichever process reads it.
    pub(super) fn replica(&self) -> Replica {
        let Self { settings, landing, .. } = self;
        let (target, schema) = (&landing.settings.target, landing.settings.schema_label());
        let half = |what: &str| fingerprint(&format!("replicator {what} {target} {schema}"));
        let digits = format!("{:016x}{:016x}", half("first"), half("second"));
        let uuid = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or(""));
        Replica { server_id: settings.server_id, uuid: uuid.join("-") }
    }

    fn source_options(
        &self,
        facts: &Facts,
        ground: &Ground<D>,
        columns: Option<MySqlColumns>,
    ) -> MySqlSourceOptions {
        let Self { settings, landing, .. } = self;
        let held_max = landing.settings.core.buffered_bytes_max;
        MySqlSourceOptions {
            replica: self.replica(),
            heartbeat: HEARTBEAT,
            checksum: facts.checksum,
            tables: MySqlTables {
                catalog: Arc::new(facts.catalog.clone()),
                database: settings.source.database.clone(),
                target_schema: ground.schema.schema.clone(),
                flavor: facts.flavor,
                no_dates: settings.zero_dates,
                columns,
            },
            transactions: MySqlOptions {
                truncate: landing.settings.truncate,
                piece_bytes_max: landing.settings.piece_bytes_max,
                transaction_bytes_max: held_max,
                limits: TransactionLimits::default(),
            },
            whole: self.learnt().whole.clone(),
        }
    }

    /// Any server that has executed the position is right; that it is another one is worth a word.
    async fn check_identity(&self, facts: &Facts, store: &GtidStore<D>) -> Result<(), Trouble> {
        let staging = |failure| Trouble::staging(&failure);
        let saved = store.identity().await.map_err(staging)?;
        if saved.as_ref() == Some(&facts.server) {
            return Ok(());
        }
        if let Some(saved) = saved {
            let server = &facts.server;
            warn!(%saved, %server, "the source is another server than before, and has all of the position");
        }
        store.save_identity(&facts.server).await.map_err(staging)
    }
}
