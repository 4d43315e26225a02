//! The target half of a run from an ordered source: the target looked at, staging prepared, the machine driven.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::SchemaName;
use replicator_core::{Config, Durable, Machine};
use tokio::sync::watch;
use tracing::{info, warn};

use super::onlooker::{Onlooker, Standing};
use super::settings::ForwardSettings;
use super::side::{Side, growth, session_options};
use super::trouble::{Trouble, trouble_of};
use crate::clock::Clock;
use crate::driver::{self, Run};
use crate::metrics::SchemaMetrics;
use crate::net::Dial;
use crate::ordinals::Ordinals;
use crate::pg::connect::{AbortOnDrop, SessionOptions, SqlSession, connect_sql};
use crate::pg::conninfo::ConnInfo;
use crate::pg::pool::{Pool, Pooled};
use crate::pool::PoolLimits;
use crate::port::{Fence, Source, Staging};
use crate::preflight::{Findings, Severity, StagingOptions, TargetOptions};
use crate::recorder::Recorder;
use crate::staging::lease::Lease;
use crate::staging::schema::{self, StagingName};
use crate::supervisor::Ended;
use crate::target::pgwire::{PgTarget, TargetPool};
use crate::target::product::{self, Server};
use crate::target::record::Record;

/// A lease is asked for and renewed, one after the other.
const LEASE_SESSIONS_MAX: usize = 2;

/// What is the same for every source.
pub(super) struct Landing<D> {
    pub(super) dial: D,
    pub(super) settings: Arc<ForwardSettings>,
    pub(super) clock: Clock,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<SchemaMetrics>,
    pub(super) recorder: Option<Recorder>,
    /// Whether it is the first run of the process.
    pub(super) first: bool,
}

/// What lets one replicator at a time read a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// The source, which has one reader.
    Source,
    /// See [`Landing::in_turn`].
    Leases,
}

/// Target and staging database, connected but not judged yet.
pub(super) struct Opened {
    /// For questions about the target.
    pub(super) target: SqlSession,
    pub(super) server: Server,
    /// What is to be looked at.
    pub(super) options: TargetOptions,
    own_staging: Option<SqlSession>,
    staging_name: StagingName,
    store_product: Product,
}

/// What a run stands on.
pub(super) struct Ground<D: Dial> {
    pub(super) schema: SchemaName,
    pub(super) dialect: Dialect,
    pub(super) target: TargetPool<D>,
    pub(super) store: StorePlace<D>,
    /// Whether staging is in the target, so that transactions can record there what they hold.
    shared: bool,
}

/// Where staging is, for the store of the source's kind.
pub(super) struct StorePlace<D: Dial> {
    pub(super) pool: Pool<D>,
    pub(super) product: Product,
    pub(super) name: StagingName,
    /// The schema as memo keys spell it.
    pub(super) schema_text: String,
}

/// A run that is about to be driven.
pub(super) struct Begun<S, G> {
    pub(super) source: S,
    pub(super) store: G,
    pub(super) fence: Fence,
    pub(super) durable: Durable,
    pub(super) record: Option<Record>,
    pub(super) standing: Standing,
}

impl<D: Dial> Landing<D> {
    /// Says how a run ended, and whether another one is of use.
    pub(super) fn ended(&self, ended: Result<(), Trouble>) -> Ended {
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

    /// Connects to the target and to the staging database.
    pub(super) async fn open(&self) -> Result<Opened, Trouble> {
        let settings = &*self.settings;
        let options = SessionOptions::default();
        let target = connect(&self.dial, "target", &settings.target, &options).await?;
        let limit = settings.apply_timeout;
        let server = answer("target", limit, product::detect(target.client())).await?;
        let own_staging = match &settings.staging {
            Some(staging) => Some(connect(&self.dial, "staging", staging, &options).await?),
            None => None,
        };
        let store_product = match &own_staging {
            Some(session) => {
                answer("staging", limit, product::detect(session.client())).await?.product
            }
            None => server.product,
        };
        let staging_name = StagingName::resolve(
            &settings.staging_schema,
            store_product,
            &self.store_conninfo().database,
        )
        .map_err(|error| Trouble::Lasting(error.to_string()))?;
        let staging =
            StagingOptions { name: staging_name.clone(), create: settings.staging_create };
        let options = TargetOptions {
            schema: self.schema(),
            staging: own_staging.is_none().then_some(staging),
            answer_limit: limit,
        };
        Ok(Opened { target, server, options, own_staging, staging_name, store_product })
    }

    /// Tells what was found: an error is the end, of a warning the operator hears once.
    pub(super) fn judge<F>(
        &self,
        findings: &Findings,
        facts: Option<F>,
        connected: impl FnOnce(&F) -> String,
    ) -> Result<F, Trouble> {
        let Some(facts) = facts else {
            let text = findings.to_string();
            let passes = findings.may_pass();
            return Err(if passes { Trouble::Passing(text) } else { Trouble::Settings(text) });
        };
        if self.first {
            info!("connected to {}", connected(&facts));
            for finding in findings.iter().filter(|f| f.severity == Severity::Warning) {
                warn!("{finding}");
            }
        }
        Ok(facts)
    }

    /// Prepares staging.
    pub(super) async fn prepare(&self, opened: Opened, turns: Turns) -> Result<Ground<D>, Trouble> {
        let Opened { target, server, options, own_staging, staging_name: name, .. } = opened;
        let settings = &*self.settings;
        let (limit, shared) = (settings.apply_timeout, own_staging.is_none());
        let session = own_staging.unwrap_or(target);
        let prepared = schema::prepare(session.client(), &name, settings.staging_create);
        answer("staging", limit, prepared).await?;
        if turns == Turns::Leases {
            let prepared = schema::prepare_leases(session.client(), &name);
            answer("staging", limit, prepared).await?;
        }
        let (product, schema) = (server.product, options.schema);
        let database = schema.database.clone().unwrap_or_else(|| settings.target.database.clone());
        let store = StorePlace {
            pool: self.pool(self.store_conninfo(), opened.store_product, settings.staging_pool),
            product: opened.store_product,
            name,
            schema_text: self.schema_text(),
        };
        let target: TargetPool<D> = self.pool(&settings.target, product, settings.target_pool);
        Ok(Ground { schema, dialect: Dialect { product, database }, target, store, shared })
    }

    /// Works when no other replicator works on the stream `name` of this staging store, and for as long. `work` is
    /// told whether it had to wait: what was found out before is old then.
    pub(super) async fn in_turn<F>(
        &self,
        store: &StorePlace<D>,
        name: String,
        work: impl FnOnce(bool) -> F,
    ) -> Result<(), Trouble>
    where
        F: Future<Output = Result<(), Trouble>>,
    {
        // The first half tells processes apart, the second the runs of one.
        let (seed, now) = (self.settings.core.seed, self.clock.now().as_nanos());
        let nonce = u128::from(seed) << 64 | u128::from(now);
        let limits = PoolLimits { sessions_max: LEASE_SESSIONS_MAX, ..self.settings.staging_pool };
        let pool = self.pool(self.store_conninfo(), store.product, limits);
        let lease = Lease::new(pool, &store.name, name, nonce, self.settings.apply_timeout);
        let mut waited = false;
        let waiting = lease.wait(self.clock, |by: &str| {
            waited = true;
            info!(by, "another replicator works on the target schema; waiting for its end");
        });
        let mut stop = self.stop.clone();
        let taken = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            taken = waiting => taken.map_err(|failure| Trouble::staging(&failure))?,
        };
        if waited {
            info!("the other replicator has ended; taking over");
        }
        lease.hold(self.clock, taken, work(waited)).await.unwrap_or_else(|| {
            let reason =
                "could not renew the lease in time; another replicator may work on the schema by now";
            Err(Trouble::Passing(reason.to_owned()))
        })
    }

    /// Drives a run to its end. Returns the source if that was because it was asked to stop.
    pub(super) async fn drive<S, G>(
        &self,
        ground: &Ground<D>,
        catalog: &Arc<Catalog>,
        begun: Begun<S, G>,
        of_source: impl FnOnce(&S::Error) -> Trouble,
    ) -> Result<S, Trouble>
    where
        S: Source + 'static,
        G: Staging,
    {
        let Begun { source, store, fence, durable, record, standing } = begun;
        let batch_growth_max = growth(ground.dialect.product);
        let config = Config { batch_growth_max, ..self.settings.core };
        let now = self.clock.now();
        if let Some(recorder) = &self.recorder {
            recorder.resumed(&config, catalog, &durable, now);
        }
        let machine = Machine::resume(config, Arc::clone(catalog), durable, now);
        let side = self.side(ground);
        let options = side.options(catalog, record)?;
        let observer = Arc::new(Onlooker {
            metrics: Arc::clone(&self.metrics),
            catalog: Arc::clone(catalog),
            standing,
            dead_letters: self.settings.dlq_table.clone(),
        });
        let run = Run {
            source,
            staging: store,
            target: PgTarget::new(ground.target.clone(), options),
            fence,
            clock: self.clock,
            stop: self.stop.clone(),
            observer,
            recorder: self.recorder.clone(),
        };
        self.metrics.run_began();
        let running = AbortOnDrop::spawn(driver::run(machine, run));
        let ended = side.watch(running, catalog).await?;
        ended.map_err(|error| trouble_of(&error, catalog, of_source))
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

    fn store_conninfo(&self) -> &ConnInfo {
        self.settings.staging.as_ref().unwrap_or(&self.settings.target)
    }

    /// Where the rows go. The default is what the database calls public, said once.
    fn schema(&self) -> SchemaName {
        if let Some(schema) = &self.settings.target_schema {
            return schema.clone();
        }
        if self.first {
            let database = &self.settings.target.database;
            info!("no --targetSchema given; rows go to schema public of database {database}");
        }
        SchemaName { database: None, schema: "public".to_owned() }
    }

    /// The schema as memo keys spell it: the flag's own text, unquoted.
    fn schema_text(&self) -> String {
        match &self.settings.target_schema {
            Some(SchemaName { database: Some(database), schema }) => format!("{database}.{schema}"),
            Some(SchemaName { database: None, schema }) => schema.clone(),
            None => "public".to_owned(),
        }
    }

    fn pool<S: Pooled<D>>(
        &self,
        conninfo: &ConnInfo,
        product: Product,
        limits: PoolLimits,
    ) -> Pool<D, S> {
        let options = session_options(product, self.settings.apply_timeout);
        Pool::new(self.dial.clone(), conninfo.clone(), options, limits, self.clock)
    }
}

impl<D: Dial> Clone for StorePlace<D> {
    fn clone(&self) -> Self {
        let Self { pool, product, name, schema_text } = self;
        let (pool, name) = (pool.clone(), name.clone());
        Self { pool, product: *product, name, schema_text: schema_text.clone() }
    }
}

impl<D: Dial> Ground<D> {
    /// How transactions record what they hold, if they can. `names` are those of the store's tables.
    pub(super) fn record(
        &self,
        names: (&str, &str, &str),
        ordinals: Option<Ordinals>,
    ) -> Option<Record> {
        self.shared.then(|| Record::in_staging(names, self.dialect.product, ordinals))
    }
}

/// Connects to one side.
pub(super) async fn connect<D: Dial>(
    dial: &D,
    side: &str,
    conninfo: &ConnInfo,
    options: &SessionOptions,
) -> Result<SqlSession, Trouble> {
    connect_sql(dial, conninfo, options).await.map_err(|error| {
        Trouble::settings(&format!("could not connect to {side} database"), &error)
    })
}

/// Waits for an answer to a question at the start, but not for ever.
pub(super) async fn answer<T, E: std::error::Error>(
    side: &str,
    limit: Duration,
    answers: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, answers).await {
        Ok(answers) => answers.map_err(|error| Trouble::settings(side, &error)),
        Err(_) => {
            let text = format!("{side} did not answer within {} s", limit.as_secs());
            Err(Trouble::Settings(text))
        }
    }
}
