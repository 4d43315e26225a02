//! One run of one schema's conveyor.
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::mem::discriminant;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::decode::changefeed::Changefeed;
use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::{SchemaName, TableName};
use replicator_core::model::mode::Lane;
use replicator_core::model::position::{Applied, Position};
use replicator_core::model::time::Hlc;
use replicator_core::{Config, Durable, Failure, Machine};
use tokio::sync::watch;
use tracing::{info, warn};

use super::super::landing::connect;
use super::super::onlooker::{Onlooker, Standing};
use super::super::side::{Side, growth, session_options, watch};
use super::super::trouble::{Trouble, trouble_of};
use super::alone::lost;
use super::conveyor::{Shared, State};
use super::feeds::{Laggards, Memory};
use super::lanes::{Common, Ending, Joined, LaneObserver, LaneStore, Plan, Reached, together};
use super::late::Late;
use super::mysql::{GROWTH, MySqlSide};
use super::settings::Consistency;
use super::store::{Meter, Owner, Progress, Store};
use super::target::Found;
use crate::driver::{self, Run, RunError};
use crate::metrics::SchemaMetrics;
use crate::mysql::conninfo::MySqlConnInfo;
use crate::net::Dial;
use crate::pg::connect::{AbortOnDrop, SessionOptions};
use crate::pg::conninfo::ConnInfo;
use crate::pg::pool::Pool;
use crate::pool::PoolLimits;
use crate::port::{Fence, Staging as _, Target};
use crate::source::changefeed::feeds::Feeds;
use crate::source::changefeed::inbox::{self, Inbox};
use crate::source::changefeed::webhook::Live;
use crate::supervisor::Ended;
use crate::target::catalog;
use crate::target::pgwire::{PgTarget, TargetPool};
use crate::target::progress::{ProgressTable, TargetProgress};

/// Connections for the table of progress, which is asked for one thing at a time.
const PROGRESS_SESSIONS: usize = 2;

/// No record reaches further.
const EVERYTHING: Position = Position::Hlc(Hlc { nanos: u64::MAX, logical: u32::MAX });

/// A run that is under way.
type Running = AbortOnDrop<Result<Ending, RunError<Infallible>>>;

/// One run, from the first connection to the last.
pub(super) struct Attempt<D: Dial> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) schema: SchemaName,
    pub(super) state: watch::Sender<State>,
    /// Of the last run.
    pub(super) memory: Arc<Mutex<Memory>>,
}

impl<D: Dial> Attempt<D> {
    pub(super) async fn run(self) -> Ended {
        let ended = self.in_turn(self.in_modes()).await;
        self.is_over();
        let unknown = matches!(*self.state.borrow(), State::Unknown);
        let count = |reason: &str| match unknown {
            // Nobody may fill the metrics with names that mean nothing here.
            true => self.shared.metrics.forget(&self.label()),
            false => self.metrics().run_ended(reason),
        };
        match ended {
            Ok(()) => {
                count("stopped");
                Ended::Stopped
            }
            Err(Trouble::Lasting(reason)) => {
                count(&reason);
                Ended::GaveUp { reason }
            }
            Err(Trouble::Settings(reason) | Trouble::Passing(reason)) => {
                count(&reason);
                Ended::Failed { reason }
            }
        }
    }

    /// One run after the other, until one ends for more than to begin otherwise.
    async fn in_modes(&self) -> Result<(), Trouble> {
        loop {
            let ended = self.try_run().await;
            self.is_over();
            match ended? {
                Ending::Mode(mode) => {
                    info!(schema = %self.schema, "conveyor goes on in another mode");
                    self.memory().mode = Some(mode);
                }
                Ending::Feeds(newcomers) => self.memory().newcomers.extend(newcomers),
                Ending::Stopped => return Ok(()),
            }
        }
    }

    /// Whoever waits for a run waits for the next one.
    fn is_over(&self) {
        self.state.send_if_modified(|state| match state {
            State::Live(_) | State::Elsewhere => {
                *state = State::Starting;
                true
            }
            State::Starting | State::Unknown | State::GaveUp(_) => false,
        });
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What metrics and logs call the schema: its parts as they are, with dots between them.
    fn label(&self) -> String {
        let SchemaName { database, schema } = &self.schema;
        database.iter().chain([schema]).map(String::as_str).collect::<Vec<&str>>().join(".")
    }

    fn metrics(&self) -> Arc<SchemaMetrics> {
        self.shared.metrics.schema(&self.label())
    }

    async fn try_run(&self) -> Result<Ending, Trouble> {
        match &self.shared.found {
            Found::PgWire { conninfo, product } => self.run_pgwire(conninfo, *product).await,
            Found::MySql { conninfo } => self.run_mysql(conninfo).await,
        }
    }

    async fn run_pgwire(&self, conninfo: &ConnInfo, product: Product) -> Result<Ending, Trouble> {
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
        // Also with a table of progress: the run before may not have had it.
        let alone = self.alone(&begun.store, begun.fence, conninfo, product).await?;
        if let Some(name) = &settings.progress_table {
            let table = self.progress(name, conninfo, product, &catalog)?;
            begun.follow(&table, settings.core.seed).await?;
        }
        begun.name_lanes().await?;
        let (lock, run) = alone.unzip();
        let options = SessionOptions { run, ..session_options(product, settings.apply_timeout) };
        let limits = settings.target_pool;
        let pool: TargetPool<D> =
            Pool::new(dial.clone(), conninfo.clone(), options, limits, *clock);
        let target =
            |record| Ok(PgTarget::new(pool.clone(), side.options(&catalog, record)?).guessing());
        let running = self.go_on(begun, target, &catalog, growth(product))?;
        let changed = async {
            tokio::select! {
                changed = side.schema_changed(&catalog) => changed,
                lost = lost(lock.as_ref()) => lost,
            }
        };
        let ended = watch(running, changed).await?;
        ended.map_err(|error| trouble_of(&error, &catalog, |never| match *never {}))
    }

    async fn run_mysql(&self, conninfo: &MySqlConnInfo) -> Result<Ending, Trouble> {
        let Shared { settings, clock, .. } = &*self.shared;
        let side = MySqlSide { conninfo, settings, schema: &self.schema.schema };
        let catalog = self.known(side.catalog().await?)?;
        let mut begun = self.begin(&catalog).await?;
        if let Some(name) = &settings.progress_table {
            begun.follow(&side.progress(name, &catalog)?, settings.core.seed).await?;
        }
        begun.name_lanes().await?;
        let pool = side.pool(*clock).await?;
        let target = |record| side.target(pool.clone(), &catalog, record);
        let running = self.go_on(begun, target, &catalog, GROWTH)?;
        let ended = watch(running, side.schema_changed(&catalog)).await?;
        ended.map_err(|error| trouble_of(&error, &catalog, |never| match *never {}))
    }

    /// The tables of the schema, if there are any.
    fn known(&self, catalog: Catalog) -> Result<Arc<Catalog>, Trouble> {
        if catalog.tables().next().is_none() {
            self.state.send_replace(State::Unknown);
            let schema = &self.schema.schema;
            return Err(Trouble::Lasting(format!("the target has no tables in schema {schema}")));
        }
        let catalog = Arc::new(catalog);
        self.metrics().set_tables(&catalog);
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
    async fn begin<R>(&self, catalog: &Arc<Catalog>) -> Result<Begun<D, R>, Trouble> {
        let Shared { settings, found, staging, clock, .. } = &*self.shared;
        let meter = Meter { metrics: self.metrics(), clock: *clock };
        let store = |feeds: &Feeds| {
            let (database, schema) = (found.named(), &*self.schema.schema);
            let (name, kind) = (self.schema.to_string(), found.kind());
            let owner = Owner { name, database, schema, catalog, kind, feeds };
            Store::new(staging, owner, meter.clone())
        };
        let failed = |failure: Failure| Trouble::staging(&failure);
        let chosen = self.choose_feeds(store, catalog).await.map_err(failed)?;
        let store = store(&chosen.feeds);
        let (fence, durable) = store.begin().await.map_err(failed)?;
        self.keep_feeds(&store, fence, &chosen).await.map_err(failed)?;
        let related = store.horizon().await.map_err(failed)?;
        // Which tables it is does not matter.
        let independent = store.of(Lane::Independent(Arc::default()), None);
        let ahead = independent.horizon().await.map_err(failed)?;
        let consistency = settings.consistency;
        let before = self.memory().mode;
        let mode = consistency.mode(durable.checkpoint, (settings.wall)(), before);
        let newest = store.newest().await.map_err(failed)?;
        let mut late = Late::load(store.late().await.map_err(failed)?, newest);
        // Until nothing is left of what did not wait, others do not wait for it.
        let alone = ahead.max(late.floor(&Lane::Independent(Arc::default())));
        let plan = Plan::new(consistency, mode, catalog, durable.checkpoint, alone);
        self.memory().mode = Some(plan.mode);
        let resolved = durable.resolved.values().min().copied().unwrap_or_default();
        info!(schema = %self.schema, %resolved, "conveyor begins{plan}");
        if consistency == Consistency::Immediate {
            check_immediate(catalog)?;
        }
        let reached = Reached { related, independent: ahead, late: &mut late };
        let joined = plan.join(&store, fence, catalog, reached).await.map_err(failed)?;
        let Joined { related: horizon, moved } = joined;
        let newest = plan.is_immediate.then_some(newest);
        let lanes = plan.lanes.iter().map(|lane| {
            let is_related = matches!(lane, Lane::Related(_));
            let horizon = if is_related { horizon } else { horizon.max(ahead) };
            let newest = newest.filter(|_| !is_related).map(|newest| newest.max(horizon));
            let (store, durable) = (store.of(lane.clone(), None), durable.clone());
            let (lane, late) = (lane.clone(), late.floor(lane));
            BegunLane { lane, store, durable, horizon, late, newest, record: None }
        });
        let common = Common::new(plan.lanes.len(), &durable);
        let (store, lanes, feeds) = (store.clone(), lanes.collect(), chosen.feeds);
        Ok(Begun { store, fence, lanes, moved, common, plan, feeds })
    }

    /// Goes on into the target, which each lane has by itself.
    fn go_on<T: Target, R>(
        &self,
        begun: Begun<D, R>,
        target: impl Fn(Option<R>) -> Result<T, Trouble>,
        catalog: &Arc<Catalog>,
        growth: usize,
    ) -> Result<Running, Trouble> {
        let Shared { settings, found, stop, clock, .. } = &*self.shared;
        let metrics = self.metrics();
        let Begun { fence, lanes, common, plan, feeds, .. } = begun;
        let onlooker = Arc::new(Onlooker {
            metrics: Arc::clone(&metrics),
            catalog: Arc::clone(catalog),
            standing: Standing::Times,
            dead_letters: settings.dlq_table.clone(),
        });
        let (end, ending) = watch::channel(*stop.borrow());
        let buffered_bytes_max = settings.core.buffered_bytes_max / lanes.len().max(1);
        let config = Config { batch_growth_max: growth, buffered_bytes_max, ..settings.core };
        let (mut entrance, mut runs): (Option<Inbox>, Vec<_>) = (None, Vec::new());
        for (number, lane) in lanes.into_iter().enumerate() {
            let BegunLane { lane, store, durable, horizon, late, newest, record } = lane;
            // Also where the target tells what it has: it may not have told the run before, or not tell the next.
            let machine = Machine::resume(config, Arc::clone(catalog), durable, clock.now());
            let mut machine = machine.at_least_once(horizon).late_through(late);
            if let Some(newest) = newest {
                machine = machine.immediate(newest);
            }
            let (inbox, source) = inbox::open();
            entrance = Some(match entrance {
                None => inbox,
                Some(first) => first.shared(lane, inbox),
            });
            let observer = LaneObserver {
                observer: Arc::clone(&onlooker),
                common: common.clone(),
                lane: number,
            };
            let run = Run {
                source,
                staging: LaneStore::new(store, common.clone(), number),
                target: target(record)?,
                fence,
                clock: *clock,
                stop: ending.clone(),
                observer: Arc::new(observer),
                recorder: None,
            };
            runs.push(driver::run(machine, run));
        }
        let schema = self.schema.schema.clone();
        let limits = settings.webhook.body;
        let reader = Changefeed::new(Arc::clone(catalog), schema, found.kind(), limits);
        let inbox = entrance.expect("a run has a lane");
        metrics.run_began();
        let (newcomers, mut came) = watch::channel(BTreeSet::new());
        let look = {
            let (consistency, wall) = (settings.consistency, settings.wall);
            let laggards = Laggards::new(self.schema.clone(), feeds.clone());
            async move {
                tokio::select! {
                    mode = common.look(&plan, consistency, wall, laggards) => Ending::Mode(mode),
                    Ok(came) = came.wait_for(|came| !came.is_empty()) => Ending::Feeds(came.clone()),
                }
            }
        };
        let all = together(runs, end, stop.clone(), look);
        let running = AbortOnDrop::spawn(all);
        let live = Live::new(inbox, reader, feeds, newcomers);
        self.state.send_replace(State::Live(Arc::new(live)));
        Ok(running)
    }
}

/// Without promises nobody can tell which of two rows comes first, so there must be no rule about it.
fn check_immediate(catalog: &Catalog) -> Result<(), Trouble> {
    for (_, table) in catalog.tables().filter(|(_, table)| !table.uniques.is_empty()) {
        let table = &table.name;
        warn!(
            "table {table} has unique indexes besides its key: with --immediate, a value that goes from one \
             row to another may be refused until both rows were brought, and stop what comes after it"
        );
    }
    match catalog.tables().find(|(_, table)| !table.foreign_keys.is_empty()) {
        None => Ok(()),
        Some((_, table)) => Err(Trouble::Lasting(format!(
            "--immediate is for tables without foreign keys, but table {} of the target has some; leave \
             the flag out, or drop them for the time being",
            table.name
        ))),
    }
}

/// A run that has staging for itself, and what survived the last one. `R` is how the target records what it has.
struct Begun<D: Dial, R> {
    store: Store<D>,
    fence: Fence,
    lanes: Vec<BegunLane<D, R>>,
    // Tables in a lane of their own, if they are others than before.
    moved: Option<String>,
    common: Common,
    plan: Plan,
    feeds: Feeds,
}

/// Of a lane.
struct BegunLane<D: Dial, R> {
    lane: Lane,
    store: Store<D>,
    durable: Durable,
    // How far earlier runs may have got.
    horizon: Hlc,
    // Up to when rows come late because an earlier run did not wait for promises.
    late: Hlc,
    // Where rows wait for nothing: the time of the newest staged row.
    newest: Option<Hlc>,
    record: Option<R>,
}

impl<D: Dial, R> Begun<D, R> {
    /// Heeds what a table of the target says, and goes on telling it. `seed` is any number that differs
    /// between processes.
    async fn follow<P>(&mut self, table: &P, seed: u64) -> Result<(), Trouble>
    where
        P: TargetProgress<Record = R> + Into<Progress<D>>,
    {
        let failed = |failure: Failure| Trouble::staging(&failure);
        let name = self.store.named(&format!("{seed:016x}")).await.map_err(failed)?;
        let none = Arc::default();
        let kinds = [Lane::Whole, Lane::Related(Arc::clone(&none)), Lane::Independent(none)];
        let mut of_all: Vec<Applied> = Vec::new();
        // Also those that this run does not have: what an earlier one sent must not come after it.
        for kind in kinds {
            let table = table.of(&kind);
            let (record, mut applied) = table.begin(&name).await.map_err(failed)?;
            if self.moved.is_some() && kind != Lane::Whole {
                // It says so of other tables. Without it, it is not known how far they got, only where at most.
                table.forget(EVERYTHING).await.map_err(failed)?;
                applied.clear();
            }
            // What was applied of whole transactions was so in each lane.
            applied.extend_from_slice(&of_all);
            if kind == Lane::Whole {
                of_all.clone_from(&applied);
            }
            let is_it =
                |lane: &&mut BegunLane<D, R>| discriminant(&lane.lane) == discriminant(&kind);
            if let Some(lane) = self.lanes.iter_mut().find(is_it) {
                lane.durable.applied = applied;
                lane.record = Some(record);
                lane.store = lane.store.of(lane.lane.clone(), Some(Arc::new(table.into())));
            }
        }
        Ok(())
    }

    /// Saves which tables have a lane of their own, as the last thing before rows are applied.
    async fn name_lanes(&self) -> Result<(), Trouble> {
        let Some(names) = &self.moved else { return Ok(()) };
        let saved = self.store.save_independent(self.fence, names).await;
        saved.map_err(|failure| Trouble::staging(&failure))
    }
}
