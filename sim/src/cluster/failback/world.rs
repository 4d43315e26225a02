//! The hosts of a world of changefeeds, and its two phases: first everything may break and nothing may be
//! wrong; then all is healed, and everything must arrive.
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::ident::TableName;
use replicator_io::replicate::start::Consistency;
use turmoil::{Builder, Sim};

use super::checker::Checker;
use super::drawn::{Drawn, FREE, is_rough};
use super::feed::Feeds;
use super::feeder::Feeder;
use super::inject::Injector;
use super::program::{Program, settings, staging_database, wall_ahead};
use crate::cluster::checker::STAGING_SCHEMA;
use crate::cluster::reach::{Reach, Reached};
use crate::cluster::scenario::{HEALED_MAX, TCP_CAPACITY, TICK, Verdict, listen};
use crate::cluster::script::Script;
use crate::cluster::sql::Value;
use crate::cluster::target::{PROGRESS, Target};
use crate::cluster::trace;
use crate::disk::SimDisk;
use crate::os::set_elapsed;
use crate::random::Random;
use crate::schema::schema;

/// How long everything must stay as it is in the end.
const REST: Duration = Duration::from_secs(2);

/// Two hosts that talk to each other.
pub(super) type Link = (&'static str, &'static str);

/// The hosts, and what they share.
pub(super) struct World<'a> {
    pub(super) sim: Sim<'a>,
    pub(super) feeds: Feeds,
    /// The program, on each of its hosts.
    pub(super) programs: Vec<Program>,
    pub(super) target: Target,
    /// Where rows are staged, if not in a file.
    pub(super) staging: Option<Target>,
    pub(super) reach: Reach,
    /// Whether the target has a table of progress.
    pub(super) progress: bool,
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
    let related = drawn.setup.tables.iter().any(|table| !FREE.contains(table));
    reach.add(Reached::Constraints, usize::from(related && drawn.constraints));
    let immediate = drawn.consistency.contains(&Consistency::Immediate);
    reach.add(Reached::Immediate, usize::from(immediate));
    verdict.unwrap_or_else(|broken| resume_unwind(broken))
}

fn tell(drawn: &Drawn, script: &Script, random: &mut Random, world: &mut World<'_>) {
    let Drawn { faults, commits, lasts, .. } = drawn.clone();
    let omitted = script.omit_faults.clone();
    let links = world.links(faults.kinds.iter().any(|kind| is_rough(*kind)));
    let mut injector = Injector::new(faults, links, omitted, Random::new(random.word()));
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
            // The target may be what it shall be in the end while something is left to do, such as a row that comes
            // and goes. Whether a row may change is looked at elsewhere.
            (Some(_), Some(_)) => done_at = None,
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
        target.sql.set_strict(drawn.setup.limits);
        if !drawn.constraints {
            target.sql.drop_constraints();
        }
        let disk = SimDisk::new(random.word());
        let mut settings = settings(&drawn.setup, random);
        settings.wall = wall_ahead(drawn.clock_ahead);
        if drawn.progress {
            target.keep_progress();
            settings.progress_table = Some(PROGRESS.to_owned());
        }
        let database = drawn.database.map(|_| staging_database(random));
        let staging = drawn.database.map(|product| Target::new(product, random.word()));
        let program = |(number, host): (u64, &&'static str)| {
            let mut settings = settings.clone();
            // By this they are told apart.
            settings.core.seed ^= number;
            Program::new(host, settings, drawn.consistency.clone(), disk.clone(), database.clone())
        };
        let programs = (0..).zip(drawn.hosts).map(program).collect();
        let (limit, interval) = (drawn.request_max, drawn.promise_interval);
        let feeder = Feeder::new(feeds.clone(), drawn.hosts, limit, interval);
        let mut world = Self {
            sim: builder.build(),
            feeds,
            programs,
            target,
            staging,
            reach: Reach::default(),
            progress: drawn.progress,
            feeder,
            checker: Checker::new(drawn),
        };
        world.begin();
        world
    }

    /// Starts all hosts.
    fn begin(&mut self) {
        let servers = [("target", Some(&self.target)), ("staging", self.staging.as_ref())];
        for (host, server) in servers {
            let Some(server) = server.cloned() else { continue };
            self.sim.host(host, move || {
                let server = server.clone();
                listen(move |stream| server.clone().serve(stream))
            });
        }
        for program in &self.programs {
            let (host, program) = (program.host, program.clone());
            self.sim.host(host, move || program.clone().run());
        }
        let feeder = self.feeder.clone();
        self.sim.host("feeder", move || feeder.clone().run());
    }

    /// The program, on the first of its hosts.
    pub(super) fn program(&self) -> &Program {
        &self.programs[0]
    }

    /// Who asks whom; `all` of them, or only those that bring rows.
    pub(super) fn links(&self, all: bool) -> Vec<Link> {
        let mut links = Vec::new();
        for Program { host, .. } in &self.programs {
            links.push(("feeder", *host));
            if all {
                links.push((host, "target"));
            }
            if all && self.staging.is_some() {
                links.push((host, "staging"));
            }
        }
        links
    }

    /// A server of this host.
    pub(super) fn server(&self, host: &'static str) -> &Target {
        self.staging.as_ref().filter(|_| host == "staging").unwrap_or(&self.target)
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
        let program = self.programs.iter().find(|program| program.host == host);
        if let Some(program) = program {
            self.feeds.note_death();
            program.disk.end_process();
            program.set_dying(true);
        }
        self.feeder.set_dying(host == "feeder");
        self.sim.crash(host);
        self.programs.iter().for_each(|program| program.set_dying(false));
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
                (retired < end).then(text).or_else(|| self.kept())
            }
        }
    }

    /// What is kept in a staging database.
    fn kept(&self) -> Option<String> {
        let server = &self.staging.as_ref()?.sql;
        // Of a name with one part CockroachDB makes a database, and the tables are in its usual schema.
        let schema = match server.product() {
            Product::Postgres => STAGING_SCHEMA,
            Product::Cockroach => "public",
        };
        let rows = |table: &str| server.table(&TableName::new(schema, table));
        let register = rows("replicator_staging_tables").expect("who has answered has made it");
        register.iter().find_map(|(_, row)| {
            // number, stream, target_table, staging_table, ready
            let Value::Text(name) = &row[3] else { panic!("{:?} is no name", row[3]) };
            let count = rows(name).map_or(0, |rows| rows.len());
            (count > 0).then(|| format!("{count} rows are kept in {name}"))
        })
    }

    /// Where the target is not what the source is.
    fn difference(&self) -> Option<String> {
        let unlike = schema().catalog.tables().find_map(|(id, table)| {
            let is = self.target.sql.rows(id);
            let should = self.checker.end(&self.feeds, id, &is);
            (is != should).then(|| format!("{} is {is:?}, not {should:?}", table.name))
        });
        unlike.or_else(|| self.checker.untold())
    }
}
