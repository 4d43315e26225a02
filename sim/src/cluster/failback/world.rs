//! The hosts of a world of changefeeds, and its two phases: first everything may break and nothing may be
//! wrong; then all is healed, and everything must arrive.
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::mutation::TableId;
use replicator_core::{Config, OnReject};
use replicator_io::replicate::start::Consistency;
use turmoil::{Builder, Sim};

use super::checker::Checker;
use super::feed::{Feeds, Habits};
use super::feeder::Feeder;
use super::inject::Injector;
use super::program::{CONSISTENT, Program, settings, wall_ahead};
use super::steps::Setting;
use crate::cluster::Scenario;
use crate::cluster::fault::{Faults, Kind};
use crate::cluster::reach::{Reach, Reached};
use crate::cluster::scenario::{HEALED_MAX, TCP_CAPACITY, TICK, Verdict, listen};
use crate::cluster::script::Script;
use crate::cluster::target::Target;
use crate::cluster::trace;
use crate::disk::SimDisk;
use crate::fault::{Kind as SourceKind, Setup};
use crate::os::set_elapsed;
use crate::random::Random;
use crate::schema::{BULK, schema};
use crate::story::Story;

/// Tables without constraints, as long as nobody writes to those that refer to them.
const FREE: [&str; 3] = ["odd", "parent", "plain"];

/// How long everything must stay as it is in the end.
const REST: Duration = Duration::from_secs(2);

/// Everything that is drawn once for a world.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The tables, what transactions do with them, and the limits of the machine.
    pub setup: Setup,
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
    habits: Habits,
    // What rows wait for: one after the other, each time the program starts.
    consistency: Vec<Consistency>,
    // The longest that a request may take, and the time from one promise to the next.
    request_max: Duration,
    promise_interval: Duration,
    // How long a step of the network is, and by how many seconds the program's calendar is ahead.
    tick: Duration,
    clock_ahead: i64,
    // Everything that happens later follows from this.
    random: Random,
}

impl Drawn {
    /// Draws a world, in which exactly the faults of `only` exist if that is given.
    #[must_use]
    pub fn new(seed: u64, only: Option<&[Kind]>) -> Self {
        let mut random = Random::new(seed);
        let mut setup = Setup::draw(SourceKind::Changefeed, random.word());
        let product = random.pick(&[Product::Postgres, Product::Postgres, Product::Cockroach]);
        let mut faults = Faults::draw(&mut random, Scenario::Failback, only);
        // In half of the worlds runs do not end in the middle.
        if random.chance(50) && only.is_none() {
            faults.kinds.retain(|kind| !is_rough(*kind));
        }
        let own = match faults.kinds.contains(&Kind::QueryFeeds) {
            false => Vec::new(),
            true => {
                faults.kinds.retain(|kind| *kind != Kind::SecondFeed);
                own_tables(&mut random)
            }
        };
        if faults.kinds.contains(&Kind::SecondFeed) {
            setup.tables = FREE.to_vec();
        }
        setup.tables.retain(|table| *table != BULK);
        setup.stories.retain(|story| *story != Story::Flood);
        if product == Product::Cockroach {
            // There such a child cannot come before its parent.
            setup.tables.retain(|table| *table != "late");
        }
        if setup.tables.is_empty() {
            setup.tables = FREE.to_vec();
        }
        setup.limits = false;
        let millis = |number: usize| Duration::from_millis(u64::try_from(number).expect("small"));
        // The longer, the more is applied again.
        setup.config.save_interval = millis(random.pick(&[10, 60, 500, 3_000]));
        let window = Consistency::Consistent { window: millis(random.pick(&[300, 2_000])) };
        let best = Consistency::BestEffort;
        let consistency = match random.below(10) {
            0..5 => vec![CONSISTENT],
            5 | 6 => vec![best],
            7 | 8 => vec![window],
            _ => vec![CONSISTENT, best, window],
        };
        Self {
            habits: Habits {
                feeds: if faults.kinds.contains(&Kind::SecondFeed) { 2 } else { 1 },
                own,
                lanes_max: random.within(1, 6),
                rows_max: random.pick(&[1, 3, 10, 20]),
            },
            setup,
            product,
            faults,
            consistency,
            commits: random.within(1, 60),
            lasts: millis(random.within(2_000, 20_000)),
            latency_max: millis(random.pick(&[2, 10, 100])),
            request_max: millis(random.pick(&[1_000, 3_000, 10_000])),
            promise_interval: millis(random.pick(&[50, 200, 1_000])),
            tick: TICK,
            clock_ahead: 0,
            random,
        }
    }
}

impl Drawn {
    /// A world in which nothing is drawn, and all tables are used.
    pub(super) fn calm(setting: &Setting) -> Self {
        let mut drawn = Self::new(0, Some(&[]));
        let core = Config {
            batch_rows_max: 8,
            batch_txs_max: 1,
            batch_growth_max: 1,
            batch_age_max: Duration::ZERO,
            buffered_bytes_max: 20_000,
            applies_max: 2,
            save_interval: setting.save_interval,
            read_rows_max: setting.page_rows,
            on_reject: OnReject::Stop,
            ..drawn.setup.config
        };
        let tables = schema().catalog.tables().map(|(id, _)| schema().name(id)).collect();
        drawn.setup = Setup { config: core, tables, ..drawn.setup };
        drawn.product = Product::Postgres;
        drawn.latency_max = Duration::from_millis(2);
        drawn.habits =
            Habits { feeds: 1, own: Vec::new(), lanes_max: 1, rows_max: setting.rows_max };
        drawn.consistency.clone_from(&setting.consistency);
        drawn.request_max = setting.request_max;
        drawn.promise_interval = setting.promise_interval;
        (drawn.tick, drawn.clock_ahead) = (setting.tick, setting.clock_ahead);
        drawn
    }
}

/// One to three tables.
fn own_tables(random: &mut Random) -> Vec<TableId> {
    let mut tables: Vec<TableId> = schema().catalog.tables().map(|(id, _)| id).collect();
    let count = random.within(1, 3);
    while count < tables.len() {
        tables.remove(random.below(tables.len()));
    }
    tables
}

/// Whether a run may end in the middle, or rows may come in an order that was none of the source's.
pub(super) const fn is_rough(kind: Kind) -> bool {
    match kind {
        Kind::StopReplicator
        | Kind::Partition
        | Kind::PartitionOneWay
        | Kind::Hold
        | Kind::Slow
        | Kind::ClockJump
        | Kind::KillFeeder
        | Kind::Repeat
        | Kind::Rewind
        | Kind::QueryFeeds => false,
        Kind::KillReplicator
        | Kind::KillSource
        | Kind::KillTarget
        | Kind::Stall
        | Kind::Refuse
        | Kind::StartingUp
        | Kind::SqlError
        | Kind::SqlKill
        | Kind::LostCommit
        | Kind::LostAnswer
        | Kind::Zombie
        | Kind::EndStreams
        | Kind::FewSessions
        | Kind::Delay
        | Kind::Rival
        | Kind::Usurp
        | Kind::PowerLoss
        | Kind::DiskError
        | Kind::DiskFull
        | Kind::SecondFeed => true,
    }
}

/// The hosts, and what they share.
pub(super) struct World<'a> {
    pub(super) sim: Sim<'a>,
    pub(super) feeds: Feeds,
    pub(super) program: Program,
    pub(super) target: Target,
    pub(super) reach: Reach,
    feeder: Feeder,
    checker: Checker,
}

/// Runs a world to its end.
pub(in crate::cluster) fn run(drawn: &Drawn, script: &Script, reach: &mut Reach) -> Verdict {
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
    reach.merge(&world.reach);
    reach.merge(&world.checker.reach);
    reach.merge(&world.feeds.reach());
    reach.add(Reached::Cockroach, usize::from(drawn.product == Product::Cockroach));
    let constraints = drawn.setup.tables.iter().any(|table| !FREE.contains(table));
    reach.add(Reached::Constraints, usize::from(constraints));
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
                    world.feeds.commit(number, random);
                }
            }
        }
        injector.act(world, TICK);
        world.step();
    }
    injector.heal(world);
}

fn settle(world: &mut World<'_>) -> Verdict {
    trace::say("world", "is healed");
    let healed = world.sim.elapsed();
    let mut done_at = None;
    loop {
        world.step();
        let now = world.sim.elapsed();
        match (world.missing(), done_at) {
            (None, None) => done_at = Some(now),
            (None, Some(done_at)) if REST < now - done_at => break Verdict::Arrived,
            (None, Some(_)) => (),
            (Some(missing), Some(_)) => panic!("everything had arrived, and then {missing}"),
            (Some(missing), None) if HEALED_MAX < now - healed => {
                break Verdict::NotLive(missing);
            }
            (Some(_), None) => (),
        }
    }
}

impl World<'_> {
    fn build(drawn: &Drawn, random: &mut Random) -> Self {
        let mut builder = Builder::new();
        builder
            .rng_seed(random.word())
            .tick_duration(drawn.tick)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(drawn.latency_max)
            .tcp_capacity(TCP_CAPACITY)
            .simulation_duration(Duration::MAX);
        if random.chance(50) {
            builder.enable_random_order();
        }
        let feeds =
            Feeds::new(drawn.setup.clone(), drawn.habits.clone(), Random::new(random.word()));
        let target = Target::new(drawn.product, random.word());
        let disk = SimDisk::new(random.word());
        let consistency = drawn.consistency.clone();
        let mut settings = settings(&drawn.setup, random);
        settings.wall = wall_ahead(drawn.clock_ahead);
        let program = Program::new(settings, consistency, disk);
        let feeder = Feeder::new(feeds.clone(), drawn.request_max, drawn.promise_interval);
        let mut world = Self {
            sim: builder.build(),
            feeds,
            program,
            target,
            reach: Reach::default(),
            feeder,
            checker: Checker::new(drawn.habits.feeds == 1, drawn.consistency == [CONSISTENT]),
        };
        let target = world.target.clone();
        world.sim.host("target", move || {
            let target = target.clone();
            listen(move |stream| target.clone().serve(stream))
        });
        let program = world.program.clone();
        world.sim.host("replicator", move || program.clone().run());
        let feeder = world.feeder.clone();
        world.sim.host("feeder", move || feeder.clone().run());
        world
    }

    /// Lets a moment pass, then checks every promise.
    pub(super) fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("a host died: {error}");
        }
        set_elapsed(self.sim.elapsed());
        self.checker.look(&self.feeds, &self.target.sql);
        if let Some(broken) = trace::take_broken() {
            panic!("{broken}");
        }
    }

    /// A host dies at once, if it lives. Returns whether it did.
    pub(super) fn kill(&mut self, host: &'static str) -> bool {
        if !self.sim.is_host_running(host) {
            return false;
        }
        match host {
            "replicator" => {
                self.feeds.note_death();
                self.program.disk.end_process();
                self.program.set_dying(true);
            }
            "feeder" => self.feeder.set_dying(true),
            _ => (),
        }
        self.sim.crash(host);
        self.program.set_dying(false);
        self.feeder.set_dying(false);
        true
    }

    /// What is missing to the end. Where all was answered, something is lost.
    fn missing(&self) -> Option<String> {
        let answered = self.feeds.is_done();
        match self.difference() {
            Some(difference) if answered => {
                Some(format!("all is answered and promised, and yet {difference}"))
            }
            Some(difference) => Some(format!("not all is answered, and {difference}")),
            None if !answered => Some("not all is answered and promised".to_owned()),
            None => {
                let (retired, end) = (self.checker.retired, self.feeds.end());
                let text = || format!("rows up to {end} are kept in staging, from {retired} on");
                (retired < end).then(text)
            }
        }
    }

    /// Where the target is not what the source is.
    fn difference(&self) -> Option<String> {
        schema().catalog.tables().find_map(|(id, table)| {
            let (is, should) = (self.target.sql.rows(id), self.feeds.rows(id));
            (is != should).then(|| format!("{} is {is:?}, not {should:?}", table.name))
        })
    }
}
