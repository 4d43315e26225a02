//! Builds adapters and starts runs. The only place that knows every adapter.
mod identity;
mod onlooker;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::decode::pg_transaction::AssembleError;
use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions};
use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::{SchemaName, TableName};
use replicator_core::{Config, Failure, Machine, OnReject, Stop};
use replicator_io::clock::Clock;
use replicator_io::driver::{self, Run, RunError};
use replicator_io::error_chain;
use replicator_io::metrics::Metrics;
use replicator_io::net::TcpDial;
use replicator_io::pg::connect::{AbortOnDrop, SessionOptions, SqlSession, connect_sql};
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::pool::{Pool, PoolLimits, Pooled};
use replicator_io::port::Staging as _;
use replicator_io::preflight::{self, Facts, Severity, StagingOptions};
use replicator_io::source::pg::slot::SlotError;
use replicator_io::source::pg::stream::{PgSource, PgSourceError, PgSourceOptions};
use replicator_io::staging::pg_store::PgStore;
use replicator_io::staging::schema::{self, StagingName};
use replicator_io::supervisor::{Backoff, Ended, supervise};
use replicator_io::target::pgwire::{PgTarget, PgTargetOptions, TargetPool};
use replicator_io::target::record::Record;
use replicator_io::target::{catalog, dead_letter, product};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use self::identity::{Identity, Known, check_gap};
use self::onlooker::Onlooker;
use crate::config::PgLogicalConfig;

/// Rows of one piece of a huge transaction, in bytes. A few pieces are held at the same time.
const PIECE_BYTES_MAX: usize = 2 << 20;

/// How long the source gets to take our goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Replicates a PostgreSQL source until told to stop.
///
/// # Errors
///
/// What a human has to look at.
pub(crate) async fn pglogical(
    config: PgLogicalConfig,
    stop: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let clock = Clock::start();
    let config = Arc::new(config);
    let mut first = true;
    supervise(clock, Backoff::default(), stop.clone(), || {
        let attempt = Attempt {
            config: Arc::clone(&config),
            clock,
            stop: stop.clone(),
            metrics: Arc::clone(&metrics),
            first: std::mem::take(&mut first),
        };
        Box::pin(attempt.run())
    })
    .await?;
    Ok(())
}

/// Why an attempt ended.
enum Trouble {
    /// May pass by itself.
    Passing(String),
    /// A mistake in the settings if it is there from the start; may pass if it comes later.
    Settings(String),
    /// Needs a human.
    Lasting(String),
}

impl Trouble {
    fn settings(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Settings(format!("{what}: {}", error_chain(error)))
    }

    fn staging(failure: &Failure) -> Self {
        match failure {
            Failure::Rejected { detail, .. } | Failure::Constraint { detail, .. } => {
                Self::Lasting(detail.clone())
            }
            Failure::Transient { .. } | Failure::OutcomeUnknown { .. } | Failure::Fenced => {
                Self::Passing(failure.to_string())
            }
        }
    }
}

/// One run, from the first connection to the last.
struct Attempt {
    config: Arc<PgLogicalConfig>,
    clock: Clock,
    stop: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    first: bool,
}

/// What a run stands on.
struct Ground {
    facts: Facts,
    schema: SchemaName,
    dialect: Dialect,
    target: TargetPool<TcpDial>,
    store: PgStore<TcpDial>,
    record: Option<Record>,
}

impl Attempt {
    async fn run(self) -> Ended {
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
        let ground = self.prepare().await?;
        let catalog = Arc::new(ground.facts.catalog.clone());
        self.metrics.set_tables(&catalog);
        // The slot has one reader, so whoever streams is alone; only then is it right to fence.
        let source = self.source(&ground, &catalog).await?;
        let known = self.check_identity(&ground).await?;
        let (fence, durable) = ground.store.begin().await.map_err(|f| Trouble::staging(&f))?;
        let durable = check_gap(durable, &ground.facts, known)?;
        self.save_identity(&ground).await?;
        match durable.checkpoint {
            Some(checkpoint) => info!(%checkpoint, "replication resumes"),
            None => info!(slot = %ground.facts.confirmed_flush, "replication starts"),
        }
        let batch_growth_max = growth(ground.dialect.product);
        let config = Config { batch_growth_max, ..self.config.core };
        let machine = Machine::resume(config, Arc::clone(&catalog), durable, self.clock.now());
        let target = PgTarget::new(ground.target.clone(), self.target_options(&ground, &catalog)?);
        let observer = Arc::new(Onlooker {
            metrics: Arc::clone(&self.metrics),
            catalog: Arc::clone(&catalog),
            progress: source.progress(),
            dead_letters: self.config.dlq_table.clone(),
        });
        let run = Run {
            source,
            staging: ground.store.clone(),
            target,
            fence,
            clock: self.clock,
            stop: self.stop.clone(),
            observer,
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

    /// Connects to both sides, prepares staging and looks for what stands in the way.
    async fn prepare(&self) -> Result<Ground, Trouble> {
        let config = &*self.config;
        let options = SessionOptions::default();
        let source = connect("source", &config.source, &options).await?;
        let target_session = connect("target", &config.target, &options).await?;
        let client = target_session.client();
        let limit = config.apply_timeout;
        let server = answer("target", limit, product::detect(client)).await?;
        let product = server.product;
        let schema = self.schema();
        let database = schema.database.clone().unwrap_or_else(|| config.target.database.clone());

        let store_conninfo = config.staging.as_ref().unwrap_or(&config.target);
        let staging_name =
            StagingName::resolve(&config.staging_schema, product, &store_conninfo.database)
                .map_err(|error| Trouble::Lasting(error.to_string()))?;
        let shared = config.staging.is_none();
        let preflight_options = preflight::Options {
            slot: config.slot.clone(),
            publication: config.publication.clone(),
            target_schema: schema.clone(),
            staging: shared.then(|| StagingOptions {
                name: staging_name.clone(),
                create: config.staging_create,
            }),
            answer_limit: limit,
        };
        let report = preflight::run(source.client(), client, product, &preflight_options)
            .await
            .map_err(|error| Trouble::settings("preflight", &error))?;
        let Some(facts) = report.facts else {
            let text = report.findings.to_string();
            let passes = report.findings.may_pass();
            return Err(if passes { Trouble::Passing(text) } else { Trouble::Settings(text) });
        };
        if self.first {
            info!("connected to {} and {server}", facts.source_version);
            for finding in report.findings.iter().filter(|f| f.severity == Severity::Warning) {
                warn!("{finding}");
            }
        }

        let store_session = match &config.staging {
            Some(staging) => connect("staging", staging, &options).await?,
            None => target_session,
        };
        let prepared =
            schema::prepare(store_session.client(), &staging_name, config.staging_create);
        answer("staging", limit, prepared).await?;
        let store_pool = self.pool(store_conninfo, config.staging_pool);
        let named = self.schema_text();
        let store = PgStore::pglogical(store_pool, product, &staging_name, &named, limit);
        let (applied, fences, stream) = store.record_names();
        let record = shared.then(|| Record {
            applied_table: applied.to_owned(),
            fence_table: fences.to_owned(),
            stream: stream.to_owned(),
            product,
        });
        let dialect = Dialect { product, database };
        let target: TargetPool<TcpDial> = self.pool(&config.target, config.target_pool);
        Ok(Ground { facts, schema, dialect, target, store, record })
    }

    /// Where the rows go. The default is what the database calls public, said once.
    fn schema(&self) -> SchemaName {
        if let Some(schema) = &self.config.target_schema {
            return schema.clone();
        }
        if self.first {
            let database = &self.config.target.database;
            info!("no --targetSchema given; rows go to schema public of database {database}");
        }
        SchemaName { database: None, schema: "public".to_owned() }
    }

    /// The schema as memo keys spell it: the flag's own text, unquoted.
    fn schema_text(&self) -> String {
        match &self.config.target_schema {
            Some(SchemaName { database: Some(database), schema }) => format!("{database}.{schema}"),
            Some(SchemaName { database: None, schema }) => schema.clone(),
            None => "public".to_owned(),
        }
    }

    fn pool<S: Pooled<TcpDial>>(
        &self,
        conninfo: &ConnInfo,
        limits: PoolLimits,
    ) -> Pool<TcpDial, S> {
        Pool::new(TcpDial, conninfo.clone(), self.session_options(), limits, self.clock)
    }

    fn session_options(&self) -> SessionOptions {
        let idle = self.config.apply_timeout.saturating_mul(2).max(Duration::from_secs(60));
        SessionOptions { idle_in_transaction_timeout: Some(idle), ..SessionOptions::default() }
    }

    fn target_options(
        &self,
        ground: &Ground,
        catalog: &Arc<Catalog>,
    ) -> Result<PgTargetOptions, Trouble> {
        let dead_letters = match self.config.core.on_reject {
            OnReject::Stop => None,
            OnReject::DeadLetter { .. } => {
                let name = TableName::new(&ground.schema.schema, &self.config.dlq_table);
                dead_letter::find(catalog, &name)
                    .map_err(|error| Trouble::Settings(error.to_string()))?;
                Some(name)
            }
        };
        Ok(PgTargetOptions {
            dialect: ground.dialect.clone(),
            catalog: Arc::clone(catalog),
            record: ground.record.clone(),
            apply_timeout: self.config.apply_timeout,
            dead_letters,
        })
    }

    async fn source(
        &self,
        ground: &Ground,
        catalog: &Arc<Catalog>,
    ) -> Result<PgSource<TcpDial>, Trouble> {
        let config = &*self.config;
        let options = PgOptions {
            truncate: config.truncate,
            target_schema: Some(ground.schema.schema.clone()),
            piece_bytes_max: PIECE_BYTES_MAX,
            streamed_bytes_max: config.core.buffered_bytes_max,
        };
        let decoder = PgTransactions::new(Arc::clone(catalog), options);
        let options = PgSourceOptions {
            slot: config.slot.clone(),
            publications: vec![ground.facts.publication.clone()],
            // The machine skips what it has; the slot never starts after what we acknowledged.
            saved: None,
            system_identifier: Some(ground.facts.system_identifier),
            standby_timeout: config.standby_timeout,
            silence_limit: None,
            session: SessionOptions::default(),
        };
        let source = PgSource::connect(&TcpDial, &config.source, &options, decoder, self.clock);
        let source = source.await;
        match &source {
            Ok(_) => self.metrics.dial_success(),
            Err(_) => self.metrics.dial_failure(),
        }
        source.map_err(|error| trouble_of_source(&error))
    }

    /// A saved position is of use only with the source it came from.
    async fn check_identity(&self, ground: &Ground) -> Result<Known, Trouble> {
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

    async fn save_identity(&self, ground: &Ground) -> Result<(), Trouble> {
        let identity = self.identity(ground).to_string();
        ground.store.save_identity(&identity).await.map_err(|failure| Trouble::staging(&failure))
    }

    fn identity(&self, ground: &Ground) -> Identity {
        let Facts { system_identifier: system, timeline, .. } = ground.facts;
        Identity { system, timeline, slot: self.config.slot.clone() }
    }

    /// Returns when the target's tables are not what they were.
    async fn schema_changed(&self, ground: &Ground, catalog: &Arc<Catalog>) -> Trouble {
        let Some(period) = self.config.schema_refresh else { return std::future::pending().await };
        loop {
            tokio::time::sleep(period).await;
            let asking = connect_sql(&TcpDial, &self.config.target, &self.session_options()).await;
            let Ok(session) = asking else { continue };
            let product = ground.dialect.product;
            match catalog::load(session.client(), product, &ground.schema.schema).await {
                Ok(current) if current == **catalog => (),
                Ok(_) => {
                    return Trouble::Passing("the target's tables have changed".to_owned());
                }
                Err(error) => debug!("could not look for schema changes: {}", error_chain(&error)),
            }
        }
    }
}

async fn connect(
    side: &str,
    conninfo: &ConnInfo,
    options: &SessionOptions,
) -> Result<SqlSession, Trouble> {
    connect_sql(&TcpDial, conninfo, options).await.map_err(|error| {
        Trouble::settings(&format!("could not connect to {side} database"), &error)
    })
}

/// How much larger than asked for a batch may become while the target cannot keep up. PostgreSQL gains up
/// to 10,000 rows a transaction, CockroachDB nothing beyond 1,000, and its conflicts grow.
const fn growth(product: Product) -> usize {
    match product {
        Product::Postgres => 8,
        Product::Cockroach => 1,
    }
}

/// Waits for an answer to a question at the start, but not for ever.
async fn answer<T, E: std::error::Error>(
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

fn trouble_of(error: &RunError<PgSourceError>, catalog: &Catalog) -> Trouble {
    match error {
        RunError::Died(_) => Trouble::Passing(error_chain(error)),
        RunError::Source(source) => trouble_of_source(source),
        // The operator asked us to stop there: --onReject.
        RunError::Stop(Stop::Rejected { table, position, detail, .. }) => {
            let table = table.map(|table| format!(" of {}", catalog.table(table).name));
            Trouble::Lasting(format!(
                "the target rejected a row{} in the transactions through {position}: {detail}",
                table.unwrap_or_default()
            ))
        }
        RunError::Stop(stop @ Stop::TooManyRefused { table, .. }) => {
            let table = table.map(|table| format!(" (table {})", catalog.table(table).name));
            Trouble::Lasting(format!(
                "{stop}{}; nothing of this batch was applied. Look at what was refused; if it is right \
                 to go on, raise --dlqMaxPercent",
                table.unwrap_or_default()
            ))
        }
        RunError::Stop(stop) => Trouble::Passing(stop.to_string()),
    }
}

/// Drift is over as soon as the operator has acted, so it is tried again, with the target's tables as
/// they are then. A slot or a cluster that is not ours any more never comes back, and a truncate waits
/// for another flag.
fn trouble_of_source(error: &PgSourceError) -> Trouble {
    let mut text = error_chain(error);
    if let Some(hint) = error.hint() {
        text.push_str("; ");
        text.push_str(hint);
    }
    match error {
        PgSourceError::Slot(SlotError::Lost { .. } | SlotError::Gap { .. })
        | PgSourceError::OtherSystem { .. } => Trouble::Lasting(text),
        PgSourceError::Assemble(AssembleError::Drift(_)) => Trouble::Passing(text),
        PgSourceError::Assemble(_) if error.is_lasting() => Trouble::Lasting(text),
        PgSourceError::Assemble(_) | PgSourceError::Slot(_) => Trouble::Settings(text),
        PgSourceError::Connect(_)
        | PgSourceError::Request(_)
        | PgSourceError::Wire(_)
        | PgSourceError::Decode(_)
        | PgSourceError::Feedback(_)
        | PgSourceError::Silent { .. }
        | PgSourceError::Dead
        | PgSourceError::NotClosed { .. } => Trouble::Passing(text),
    }
}
