//! The hosts of a world with sockets, and its two phases: first everything may break and nothing may be
//! wrong; then all is healed, and everything must arrive.
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use replicator_core::decode::binlog::format::Checksum;
use replicator_core::dialect::Product;
use replicator_core::model::gtid::BinlogFlavor;
use replicator_core::model::position::Position;
use replicator_core::{Config, OnReject};
use tokio::task::JoinSet;
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

use super::Scenario;
use super::checker::Checker;
use super::fault::{Faults, Kind};
use super::inject::Injector;
use super::reach::{Reach, Reached};
use super::replicator::{Program, Replicator, settings};
use super::script::Script;
use super::source::{Log, Source, SourceServer};
use super::target::Target;
use super::trace;
use crate::fault::{Kind as SourceKind, Setup};
use crate::os::set_elapsed;
use crate::random::Random;
use crate::schema::{BULK, schema};
use crate::story::Story;

/// Where the servers listen.
const PORT: u16 = 5_432;

/// Connections that wait to be accepted, and messages on their way in each direction of one.
pub(super) const TCP_CAPACITY: usize = 256;

/// Simulated time that the network moves in one step.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Longest that healed hosts may take until everything has arrived: the longest pauses of the supervisor
/// and of those who wait for a dead peer, one after the other.
pub(super) const HEALED_MAX: Duration = Duration::from_secs(90);

/// Everything that is drawn once for a world.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The tables, what transactions do with them, and the limits of the machine.
    pub setup: Setup,
    /// What the source is.
    pub server: SourceServer,
    /// What the target is.
    pub product: Product,
    /// What goes wrong.
    pub faults: Faults,
    /// How many transactions the source commits.
    pub commits: usize,
    /// How long the first phase lasts.
    pub lasts: Duration,
    /// The longest that a message takes.
    pub latency_max: Duration,
    // Everything that happens later follows from this.
    random: Random,
}

impl Drawn {
    /// Draws a world, in which exactly the faults of `only` exist if that is given.
    #[must_use]
    pub fn of(scenario: Scenario, seed: u64, only: Option<&[Kind]>) -> Self {
        let mut random = Random::new(seed);
        let mut setup = Setup::draw(SourceKind::Ordered, random.word());
        let product = random.pick(&[Product::Postgres, Product::Postgres, Product::Cockroach]);
        if product == Product::Cockroach {
            // There such a child cannot come before its parent.
            setup.tables.retain(|table| *table != "late");
            setup.tables.push("plain");
        }
        let server = match scenario {
            Scenario::PgForward => SourceServer::Postgres,
            Scenario::MyForward => my_forward(&mut setup, &mut random),
            Scenario::Failback => unreachable!("it has feeds and no source"),
        };
        // A piece of a transaction that is refused ends the run for good.
        setup.limits &= !setup.pieces;
        let millis = |number: usize| Duration::from_millis(u64::try_from(number).expect("small"));
        Self {
            setup,
            server,
            product,
            faults: Faults::draw(&mut random, scenario, only),
            commits: random.within(1, 60),
            lasts: millis(random.within(2_000, 20_000)),
            latency_max: millis(random.pick(&[2, 10, 100])),
            random,
        }
    }
}

/// What is different if the source is a MySQL or a MariaDB.
fn my_forward(setup: &mut Setup, random: &mut Random) -> SourceServer {
    // They check foreign keys row by row.
    setup.tables.retain(|table| *table != "late");
    setup.tables.push("plain");
    // A statement that is a transaction of its own.
    setup.stories.retain(|story| *story != Story::Truncate);
    // What is undone is read again as a whole, and must fit into memory.
    let largest = if setup.tables.contains(&BULK) { 8 << 20 } else { 20_000 };
    setup.config.buffered_bytes_max = setup.config.buffered_bytes_max.max(largest);
    let flavor = random.pick(&[BinlogFlavor::MySql, BinlogFlavor::MySql, BinlogFlavor::MariaDb]);
    let checksum = random.pick(&[Checksum::None, Checksum::Crc32]);
    SourceServer::Binlog(flavor, checksum, random.chance(30))
}

impl Drawn {
    /// A world in which nothing is drawn: two replicators, a quick network, one plain table.
    #[must_use]
    pub fn calm(scenario: Scenario) -> Self {
        let mut drawn = Self::of(scenario, 0, Some(&[Kind::Rival]));
        let core = Config {
            batch_rows_max: 8,
            batch_txs_max: 8,
            batch_growth_max: 1,
            batch_age_max: Duration::ZERO,
            buffered_bytes_max: 20_000,
            applies_max: 2,
            save_interval: Duration::from_millis(10),
            on_reject: OnReject::Stop,
            collapse: true,
            ..drawn.setup.config
        };
        drawn.setup = Setup {
            config: core,
            tables: vec!["plain"],
            stories: vec![Story::Insert],
            alters: false,
            pieces: false,
            limits: false,
            ..drawn.setup
        };
        if let SourceServer::Binlog(_, _, is_unnamed) = &mut drawn.server {
            *is_unnamed = false;
        }
        drawn.product = Product::Postgres;
        drawn.latency_max = Duration::from_millis(2);
        drawn
    }
}

impl Drawn {
    /// The same, with tables that are altered and a log that does not name their columns.
    #[must_use]
    pub fn unnamed(mut self) -> Self {
        if let SourceServer::Binlog(_, _, is_unnamed) = &mut self.server {
            *is_unnamed = true;
        }
        self.setup.alters = true;
        self.setup.stories = vec![Story::Insert, Story::Update];
        self
    }
}

/// How a world ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is in the target and the source knows it.
    Arrived,
    /// Healed, and still it did not arrive.
    NotLive(String),
}

/// The hosts, and what they share.
pub(super) struct World<'a> {
    pub(super) sim: Sim<'a>,
    pub(super) source: Source,
    pub(super) target: Target,
    pub(super) replicators: Vec<(&'static str, Replicator)>,
    pub(super) reach: Reach,
    product: Product,
    // Whether the target refuses some rows for good.
    refusals: bool,
    checker: Checker,
}

/// Runs a world to its end.
pub(super) fn run(drawn: &Drawn, script: &Script, reach: &mut Reach) -> Verdict {
    run_told(drawn, reach, |random, world| tell(drawn, script, random, world))
}

/// Runs a world in which `tell` has its way until it returns; then all is well, and everything must arrive.
pub(super) fn run_told(
    drawn: &Drawn,
    reach: &mut Reach,
    tell: impl FnOnce(&mut Random, &mut World<'_>),
) -> Verdict {
    let mut random = drawn.random.clone();
    let mut world = World::build(drawn, &mut random);
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        tell(&mut random, &mut world);
        settle(&mut world)
    }));
    world.count();
    reach.merge(&world.reach);
    verdict.unwrap_or_else(|broken| resume_unwind(broken))
}

fn tell(drawn: &Drawn, script: &Script, random: &mut Random, world: &mut World<'_>) {
    let Drawn { faults, commits, lasts, .. } = drawn.clone();
    let omitted = script.omit_faults.clone();
    let mut injector = Injector::new(faults, omitted, Random::new(random.word()));
    let mut left = commits;
    while world.sim.elapsed() < lasts {
        let steps_left = (lasts - world.sim.elapsed()).as_millis() / TICK.as_millis();
        let steps_left = usize::try_from(steps_left).unwrap_or(usize::MAX).max(1);
        // Spread over the time that is left, in bursts.
        if left > 0 && random.below(steps_left) < left {
            let burst = random.pick(&[1, 1, 1, 2, 5]).min(left);
            for _ in 0..burst {
                let number = commits - left;
                left -= 1;
                // Drawn in any case, so that leaving one out changes no other.
                let random = Random::new(random.word());
                if !script.omit_commits.0.contains(&number) {
                    world.source.commit(number, random);
                }
            }
        }
        if random.below(400) == 0 {
            world.source.write_other();
        }
        if random.below(300) == 0 {
            world.source.checkpoint();
        }
        injector.act(world, TICK);
        world.step();
    }
    injector.heal(world);
}

fn settle(world: &mut World<'_>) -> Verdict {
    world.target.sql.set_strict(false);
    world.source.finish();
    trace::say("world", "is healed");
    let healed = world.sim.elapsed();
    loop {
        world.step();
        if world.is_done() {
            break Verdict::Arrived;
        }
        let took = world.sim.elapsed() - healed;
        if HEALED_MAX < took {
            break Verdict::NotLive(world.describe());
        }
    }
}

impl World<'_> {
    fn build(drawn: &Drawn, random: &mut Random) -> Self {
        let mut builder = Builder::new();
        builder
            .rng_seed(random.word())
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(drawn.latency_max)
            .tcp_capacity(TCP_CAPACITY)
            .simulation_duration(Duration::MAX);
        if random.chance(50) {
            builder.enable_random_order();
        }
        let source = Source::new(drawn.setup.clone(), drawn.server, random.word());
        let target = Target::new(drawn.product, random.word());
        target.sql.set_strict(drawn.setup.limits);
        let settings = settings(&drawn.setup, &source.log, drawn.product, random);
        let mut world = Self {
            sim: builder.build(),
            source,
            target,
            replicators: Vec::new(),
            reach: Reach::default(),
            product: drawn.product,
            refusals: drawn.setup.limits,
            checker: Checker::new(),
        };
        let source = world.source.clone();
        world.sim.host("source", move || {
            let source = source.clone();
            listen(move |stream| source.clone().serve(stream))
        });
        let target = world.target.clone();
        world.sim.host("target", move || {
            let target = target.clone();
            listen(move |stream| target.clone().serve(stream))
        });
        world.add_replicator("replicator", settings.clone());
        let two = [Kind::Rival, Kind::Usurp];
        if two.iter().any(|kind| drawn.faults.kinds.contains(kind)) {
            world.add_replicator("rival", settings);
        }
        world
    }

    fn add_replicator(&mut self, name: &'static str, settings: Program) {
        let replicator = Replicator::new(name, settings, self.refusals);
        let running = replicator.clone();
        self.sim.host(name, move || running.clone().run());
        self.replicators.push((name, replicator));
    }

    /// Lets a moment pass, then checks every promise.
    pub(super) fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("a host died: {error}");
        }
        set_elapsed(self.sim.elapsed());
        self.checker.look(&self.source, &self.target.sql);
        if let Some(broken) = trace::take_broken() {
            panic!("{broken}");
        }
    }

    /// A host dies at once, if it lives. Returns whether it did.
    pub(super) fn kill(&mut self, host: &'static str) -> bool {
        if !self.sim.is_host_running(host) {
            return false;
        }
        let replicator = self.replicators.iter().find(|(name, _)| *name == host);
        let replicator = replicator.map(|(_, replicator)| replicator.clone());
        replicator.iter().for_each(|replicator| replicator.set_dying(true));
        self.sim.crash(host);
        replicator.iter().for_each(|replicator| replicator.set_dying(false));
        true
    }

    /// A host that died comes back.
    pub(super) fn restart(&mut self, host: &'static str) {
        if host == "source" {
            self.source.recover();
        }
        self.sim.bounce(host);
    }

    /// Everything is in the target, and the source knows that.
    fn is_done(&self) -> bool {
        let end = self
            .source
            .with_history(|history| self.checker.is_complete(history).then(|| history.end()));
        let Some(end) = end else { return false };
        let is_known = match &self.source.log {
            Log::Wal { slot, .. } => end <= Some(Position::Lsn(slot.now().confirmed_flush)),
            // It is told nothing.
            Log::Binlog(log) => self.checker.saved() == log.names().len(),
        };
        if !is_known {
            return false;
        }
        for (id, table) in schema().catalog.tables() {
            let is = self.target.sql.rows(id);
            let should = self.source.with_history(|history| self.checker.end(history, id));
            assert!(is == should, "in the end {} is {is:?}, not {should:?}", table.name);
            let source = self.source.rows(id);
            let lost = 0 < self.checker.dead_letters();
            assert!(lost || is == source, "in the end the source has {source:?} in {}", table.name);
        }
        true
    }

    /// Notes what can be told in the end.
    fn count(&mut self) {
        self.reach.add(Reached::GroupCommit, self.checker.group_commits);
        self.reach.add(Reached::OutOfOrder, self.checker.out_of_order);
        let cockroach = usize::from(self.product == Product::Cockroach);
        self.reach.add(Reached::Cockroach, cockroach);
        self.reach.add(Reached::DeadLetter, self.checker.dead_letters());
        self.reach.add(Reached::Resent, self.source.resent());
        self.reach.add(Reached::Altered, self.source.altered());
        self.reach.add(Reached::Resumed, self.source.resumed());
        if let Log::Binlog(log) = &self.source.log {
            let is_mariadb = log.flavor() == BinlogFlavor::MariaDb;
            self.reach.add(Reached::MariaDb, usize::from(is_mariadb));
        }
    }

    fn describe(&self) -> String {
        let end = self.source.with_history(|history| history.end());
        let (saved, log) = (self.checker.saved(), &self.source.log);
        match log {
            Log::Wal { slot, .. } => {
                format!("the source ends at {end:?}, its slot is {:?}", slot.now())
            }
            Log::Binlog(_) => format!("the source ends at {end:?}, {saved} of that are saved"),
        }
    }
}

/// Accepts connections for ever and serves each in a task of its own.
pub(super) async fn listen<F>(serve: impl Fn(TcpStream) -> F) -> turmoil::Result
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = sessions.join_next() => {
                if let Err(died) = ended && died.is_panic() {
                    resume_unwind(died.into_panic());
                }
            }
            accepted = listener.accept() => {
                sessions.spawn_local(serve(accepted?.0));
            }
        }
    }
}
