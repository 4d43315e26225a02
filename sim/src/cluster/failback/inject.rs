//! Makes the faults of a world of changefeeds happen, and ends them.
use std::time::Duration;

use replicator_core::dialect::Product;

use super::program::Program;
use super::world::{Link, World};
use crate::cluster::fault::{ENDING, Faults, Kind, PASSING};
use crate::cluster::reach::Reached;
use crate::cluster::script::Numbers;
use crate::cluster::sql::Loss;
use crate::cluster::trace::say;
use crate::disk::Fault;
use crate::os::jump;
use crate::random::Random;

/// Texts that some statements have, and others not.
const TEXTS: [&str; 5] = ["", "INSERT", "COMMIT", "DELETE", "SELECT"];

/// The hosts of servers, if rows are staged in one of their own.
const SERVERS: [&str; 2] = ["target", "staging"];

/// When its holder has stood still for so long, a lease has ended, and somebody else has begun.
const STANDSTILL: Duration = Duration::from_secs(9);

/// Makes faults happen.
#[derive(Debug)]
pub(super) struct Injector {
    faults: Faults,
    // The links that faults of the network may be on.
    links: Vec<Link>,
    // Faults that do not happen, by their number.
    omitted: Numbers,
    // When the next fault comes and what decides about it.
    chances: Random,
    // What decides about the one that begins now.
    random: Random,
    begun: usize,
    // What is to end, and when.
    ends: Vec<(Duration, End)>,
}

/// What ends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Restart(&'static str),
    Repair(Link),
    Release(Link),
    Hasten(Link),
    Accept(&'static str),
    StartedUp(&'static str),
    ManySessions(&'static str),
    NoDelay(&'static str),
    Space,
}

impl Injector {
    pub(super) fn new(faults: Faults, links: Vec<Link>, omitted: Numbers, chances: Random) -> Self {
        let random = Random::new(0);
        Self { faults, links, omitted, chances, random, begun: 0, ends: Vec::new() }
    }

    /// Ends what is due, then perhaps begins something. `tick` has passed since the last call.
    pub(super) fn act(&mut self, world: &mut World<'_>, tick: Duration) {
        let now = world.sim.elapsed();
        let due: Vec<End> =
            self.ends.extract_if(.., |(at, _)| *at <= now).map(|(_, end)| end).collect();
        due.into_iter().for_each(|end| self.end(world, end));
        self.lose_power(world);
        // The chance within a tick, out of all hundredths of a second's ticks.
        let ticks = usize::try_from(100 * 1_000 / tick.as_millis()).expect("a short tick");
        if !self.faults.kinds.is_empty() && self.chances.below(ticks) < self.faults.hundredths {
            // Each fault has its own numbers, so that leaving one out changes no other.
            self.random = Random::new(self.chances.word());
            let number = self.begun;
            self.begun += 1;
            world.reach.begun = self.begun;
            let kind = self.random.pick(&self.faults.kinds);
            if !self.omitted.0.contains(&number) {
                self.begin(world, number, kind);
            }
        }
    }

    /// Ends everything, also what was to happen.
    pub(super) fn heal(&mut self, world: &mut World<'_>) {
        for host in SERVERS {
            world.server(host).knobs.forget_failures();
        }
        world.program().disk.forget_plan();
        self.lose_power(world);
        let ends = std::mem::take(&mut self.ends);
        ends.into_iter().for_each(|(_, end)| self.end(world, end));
    }

    /// The disk has come to the operation at which the power is gone.
    fn lose_power(&mut self, world: &mut World<'_>) {
        if world.program().disk.is_off() {
            say("fault", "the power is gone");
            let lasts = self.faults.lasts(&mut self.random);
            let until = world.sim.elapsed() + lasts;
            self.kill(world, "replicator", until);
            world.program().disk.restart();
        }
    }

    fn begin(&mut self, world: &mut World<'_>, number: usize, kind: Kind) {
        let lasts = self.faults.lasts(&mut self.random);
        let link = self.random.pick(&self.links);
        let (name, millis) = (kind.name(), lasts.as_millis());
        say("fault", format_args!("{number} {name}: {link:?}, {millis} ms"));
        world.reach.add(Reached::Fault(kind), 1);
        let until = world.sim.elapsed() + lasts;
        match kind {
            Kind::KillReplicator => {
                let host = self.program(world).host;
                self.kill(world, host, until);
            }
            Kind::KillTarget => {
                let host = self.server(world);
                self.kill(world, host, until);
            }
            Kind::KillFeeder => self.kill(world, "feeder", until),
            Kind::StopReplicator => self.program(world).stop(),
            Kind::Partition | Kind::PartitionOneWay | Kind::Hold | Kind::Stall | Kind::Slow => {
                self.begin_in_network(world, kind, link, until);
            }
            Kind::ClockJump => jump(self.random.pick(&[-86_400, -60, -1, 1, 60, 86_400])),
            Kind::PowerLoss => self.plan(world, Fault::PowerLoss),
            Kind::DiskError => self.plan(world, Fault::IoError),
            Kind::DiskFull => {
                self.plan(world, Fault::Full);
                self.ends.push((until, End::Space));
            }
            Kind::Repeat => world.feeds.repeat(&mut self.random),
            Kind::Rewind | Kind::SecondFeed | Kind::QueryFeeds => {
                world.feeds.rewind(&mut self.random);
            }
            Kind::Refuse
            | Kind::StartingUp
            | Kind::SqlError
            | Kind::SqlKill
            | Kind::LostCommit
            | Kind::LostAnswer
            | Kind::FewSessions
            | Kind::Delay => {
                let host = self.server(world);
                self.begin_in_server(world, kind, host, until);
            }
            Kind::KillSource | Kind::Zombie | Kind::EndStreams | Kind::Rival | Kind::Usurp => {
                unreachable!("{kind:?} is of worlds with a slot")
            }
        }
    }

    /// Begins a fault between hosts.
    fn begin_in_network(&mut self, world: &World<'_>, kind: Kind, link: Link, until: Duration) {
        let (one, other) = link;
        if kind == Kind::Partition {
            world.sim.partition(one, other);
            self.ends.push((until, End::Repair(link)));
        } else if kind == Kind::PartitionOneWay {
            let (from, to) = if self.random.chance(50) { (other, one) } else { link };
            world.sim.partition_oneway(from, to);
            self.ends.push((until, End::Repair(link)));
        } else if kind == Kind::Slow {
            let latency = Duration::from_millis(self.random.pick(&[200, 1_000]));
            world.sim.set_link_max_message_latency(one, other, latency);
            self.ends.push((until, End::Hasten(link)));
        } else {
            let (mut held, mut until) = (vec![link], until);
            if kind == Kind::Stall {
                let host = self.program(world).host;
                held = world.links(true);
                held.retain(|(one, other)| *one == host || *other == host);
                if 1 < world.programs.len() && self.random.chance(30) {
                    until = world.sim.elapsed() + STANDSTILL;
                }
            }
            for link in held {
                world.sim.hold(link.0, link.1);
                self.ends.push((until, End::Release(link)));
            }
        }
    }

    /// One of the hosts of the program.
    fn program<'a>(&mut self, world: &'a World<'_>) -> &'a Program {
        match &world.programs[..] {
            [one] => one,
            several => &several[self.random.below(several.len())],
        }
    }

    /// The host of a server.
    fn server(&mut self, world: &World<'_>) -> &'static str {
        if world.staging.is_some() { self.random.pick(&SERVERS) } else { SERVERS[0] }
    }

    /// Begins a fault of a server that runs.
    fn begin_in_server(
        &mut self,
        world: &World<'_>,
        kind: Kind,
        host: &'static str,
        until: Duration,
    ) {
        let server = world.server(host);
        let knobs = &server.knobs;
        if kind == Kind::Refuse {
            server.set_refuses(true);
            self.ends.push((until, End::Accept(host)));
        } else if kind == Kind::StartingUp {
            knobs.set_refuses(true);
            self.ends.push((until, End::StartedUp(host)));
        } else if kind == Kind::SqlError {
            knobs.fail_next(self.random.pick(&TEXTS), self.random.pick(&PASSING));
        } else if kind == Kind::SqlKill {
            knobs.kill_next(self.random.pick(&TEXTS), self.random.pick(&ENDING));
        } else if kind == Kind::LostCommit {
            knobs.lose_commit(Loss::BeforeCommit);
        } else if kind == Kind::LostAnswer {
            knobs.lose_commit(Loss::AfterCommit);
        } else if kind == Kind::FewSessions {
            knobs.set_connections_max(Some(self.random.within(1, 3)));
            self.ends.push((until, End::ManySessions(host)));
        } else {
            let millis: &[u64] = match server.sql.product() {
                // A slow one would do what a dead run had asked for after the next one has begun.
                Product::Cockroach if host == "target" && !world.progress => &[5, 20],
                // Longer than it takes until somebody goes on.
                Product::Cockroach if host == "target" => &[20, 1_000, 8_000],
                Product::Postgres | Product::Cockroach => &[5, 20, 200, 1_000],
            };
            knobs.set_delay(Duration::from_millis(self.random.pick(millis)));
            self.ends.push((until, End::NoDelay(host)));
        }
    }

    /// Something happens at one of the next operations of the disk.
    fn plan(&mut self, world: &World<'_>, fault: Fault) {
        let most = self.random.pick(&[3, 30, 300]);
        let operations = u64::try_from(self.random.below(most)).expect("few operations");
        world.program().disk.plan(operations, fault);
    }

    fn kill(&mut self, world: &mut World<'_>, host: &'static str, until: Duration) {
        if world.kill(host) {
            self.ends.push((until, End::Restart(host)));
        }
    }

    fn end(&mut self, world: &mut World<'_>, end: End) {
        // Another fault of the same kind may have begun meanwhile; it ends now, too.
        say("fault", format_args!("ends: {end:?}"));
        match end {
            End::Restart(host) => world.sim.bounce(host),
            End::Repair((one, other)) => world.sim.repair(one, other),
            End::Release((one, other)) => world.sim.release(one, other),
            End::Hasten((one, other)) => {
                let latency = Duration::from_millis(10);
                world.sim.set_link_max_message_latency(one, other, latency);
            }
            End::Accept(host) => world.server(host).set_refuses(false),
            End::StartedUp(host) => world.server(host).knobs.set_refuses(false),
            End::ManySessions(host) => world.server(host).knobs.set_connections_max(None),
            End::NoDelay(host) => world.server(host).knobs.set_delay(Duration::ZERO),
            End::Space => world.program().disk.clear_space(),
        }
    }
}
