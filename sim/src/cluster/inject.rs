//! Makes the faults of a world happen, and ends them.
use std::time::Duration;

use super::fault::{ENDING, Faults, Kind, PASSING};
use super::reach::Reached;
use super::scenario::World;
use super::script::Numbers;
use super::sql::Loss;
use super::trace::say;
use crate::os::jump;
use crate::random::Random;

/// The servers.
const SERVERS: [&str; 2] = ["source", "target"];

/// Texts that some statements have, and others not.
const TEXTS: [&str; 7] =
    ["", "INSERT", "COMMIT", "replicator_applied", "replicator_fences", "memo", "SELECT"];

/// A session of nobody that we know.
const ZOMBIE_PID: i32 = 13;

/// Makes faults happen.
#[derive(Debug)]
pub(super) struct Injector {
    faults: Faults,
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
    Repair(&'static str, &'static str),
    Release(&'static str, &'static str),
    Hasten(&'static str, &'static str),
    Accept(&'static str),
    StartedUp(&'static str),
    ZombieGone,
    ManySessions,
    NoDelay,
}

impl Injector {
    pub(super) fn new(faults: Faults, omitted: Numbers, chances: Random) -> Self {
        let random = Random::new(0);
        Self { faults, omitted, chances, random, begun: 0, ends: Vec::new() }
    }

    /// Ends what is due, then perhaps begins something. `tick` has passed since the last call.
    pub(super) fn act(&mut self, world: &mut World<'_>, tick: Duration) {
        let now = world.sim.elapsed();
        let due: Vec<End> =
            self.ends.extract_if(.., |(at, _)| *at <= now).map(|(_, end)| end).collect();
        due.into_iter().for_each(|end| self.end(world, end));
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
        world.source.knobs.forget_failures();
        world.target.knobs.forget_failures();
        let ends = std::mem::take(&mut self.ends);
        ends.into_iter().for_each(|(_, end)| self.end(world, end));
    }

    fn begin(&mut self, world: &mut World<'_>, number: usize, kind: Kind) {
        let lasts = self.faults.lasts(&mut self.random);
        let (replicator, running) = {
            let number = self.random.below(world.replicators.len());
            let (name, replicator) = &world.replicators[number];
            (*name, replicator.clone())
        };
        let server = self.random.pick(&SERVERS);
        let name = kind.name();
        let millis = lasts.as_millis();
        say("fault", format_args!("{number} {name}: {replicator}, {server}, {millis} ms"));
        world.reach.add(Reached::Fault(kind), 1);
        let until = world.sim.elapsed() + lasts;
        match kind {
            Kind::KillReplicator | Kind::Rival => {
                self.kill(world, replicator, until);
            }
            Kind::KillSource => self.kill(world, "source", until),
            Kind::KillTarget => self.kill(world, "target", until),
            Kind::StopReplicator => running.stop(),
            Kind::Partition
            | Kind::PartitionOneWay
            | Kind::Hold
            | Kind::Usurp
            | Kind::Stall
            | Kind::Slow => self.begin_in_network(world, kind, replicator, server, lasts),
            Kind::Refuse => {
                set_refuses(world, server, true);
                self.ends.push((until, End::Accept(server)));
            }
            Kind::Zombie => {
                let slot = world.source.log.slot();
                let taken = slot.is_some_and(|slot| {
                    slot.change(|slot| {
                        let free = slot.active_pid.is_none();
                        slot.active_pid = slot.active_pid.or(Some(ZOMBIE_PID));
                        free
                    })
                });
                if taken {
                    self.ends.push((until, End::ZombieGone));
                }
            }
            Kind::EndStreams => world.source.end_streams(),
            Kind::ClockJump => jump(self.random.pick(&[-86_400, -60, -1, 1, 60, 86_400])),
            Kind::StartingUp
            | Kind::SqlError
            | Kind::SqlKill
            | Kind::LostCommit
            | Kind::LostAnswer
            | Kind::FewSessions
            | Kind::Delay => self.begin_in_database(world, kind, server, until),
            Kind::KillFeeder
            | Kind::PowerLoss
            | Kind::DiskError
            | Kind::DiskFull
            | Kind::Repeat
            | Kind::Rewind
            | Kind::SecondFeed
            | Kind::QueryFeeds => unreachable!("{kind:?} is of worlds with changefeeds"),
        }
    }

    /// Begins a fault between two hosts.
    fn begin_in_network(
        &mut self,
        world: &World<'_>,
        kind: Kind,
        replicator: &'static str,
        server: &'static str,
        lasts: Duration,
    ) {
        let until = world.sim.elapsed() + lasts;
        match kind {
            Kind::Partition => {
                world.sim.partition(replicator, server);
                self.ends.push((until, End::Repair(replicator, server)));
            }
            Kind::PartitionOneWay => {
                let back = self.random.chance(50);
                let (from, to) = if back { (server, replicator) } else { (replicator, server) };
                world.sim.partition_oneway(from, to);
                self.ends.push((until, End::Repair(replicator, server)));
            }
            Kind::Hold => {
                world.sim.hold(replicator, server);
                self.ends.push((until, End::Release(replicator, server)));
            }
            Kind::Usurp => {
                // What it has sent to the target arrives when the other one has begun, if that is quick.
                let until = world.sim.elapsed() + self.usurped(lasts);
                for server in SERVERS {
                    world.sim.hold(replicator, server);
                    self.ends.push((until, End::Release(replicator, server)));
                }
                world.source.end_streams();
            }
            Kind::Stall => {
                for server in SERVERS {
                    world.sim.hold(replicator, server);
                    self.ends.push((until, End::Release(replicator, server)));
                }
            }
            Kind::Slow => {
                let latency = Duration::from_millis(self.random.pick(&[200, 1_000]));
                world.sim.set_link_max_message_latency(replicator, server, latency);
                self.ends.push((until, End::Hasten(replicator, server)));
            }
            Kind::KillReplicator
            | Kind::StopReplicator
            | Kind::KillSource
            | Kind::KillTarget
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
            | Kind::ClockJump
            | Kind::KillFeeder
            | Kind::PowerLoss
            | Kind::DiskError
            | Kind::DiskFull
            | Kind::Repeat
            | Kind::Rewind
            | Kind::SecondFeed
            | Kind::QueryFeeds => unreachable!("{kind:?} is none between two hosts"),
        }
    }

    /// Long enough for another replicator to begin.
    fn usurped(&mut self, lasts: Duration) -> Duration {
        let least = self.random.within(1_000, 8_000);
        lasts.max(Duration::from_millis(u64::try_from(least).expect("a short time")))
    }

    /// Begins a fault of a server that runs.
    fn begin_in_database(
        &mut self,
        world: &World<'_>,
        kind: Kind,
        server: &'static str,
        until: Duration,
    ) {
        let knobs = match server {
            "source" => &world.source.knobs,
            _ => &world.target.knobs,
        };
        match kind {
            Kind::StartingUp => {
                knobs.set_refuses(true);
                self.ends.push((until, End::StartedUp(server)));
            }
            Kind::SqlError => {
                let (text, code) = (self.random.pick(&TEXTS), self.random.pick(&PASSING));
                knobs.fail_next(text, code);
            }
            Kind::SqlKill => {
                let (text, code) = (self.random.pick(&TEXTS), self.random.pick(&ENDING));
                knobs.kill_next(text, code);
            }
            Kind::LostCommit => world.target.knobs.lose_commit(Loss::BeforeCommit),
            Kind::LostAnswer => world.target.knobs.lose_commit(Loss::AfterCommit),
            Kind::FewSessions => {
                world.target.knobs.set_connections_max(Some(self.random.within(1, 3)));
                self.ends.push((until, End::ManySessions));
            }
            Kind::Delay => {
                let delay = Duration::from_millis(self.random.pick(&[20, 300, 3_000]));
                world.target.knobs.set_delay(delay);
                self.ends.push((until, End::NoDelay));
            }
            Kind::KillReplicator
            | Kind::StopReplicator
            | Kind::KillSource
            | Kind::KillTarget
            | Kind::Partition
            | Kind::PartitionOneWay
            | Kind::Hold
            | Kind::Stall
            | Kind::Slow
            | Kind::Refuse
            | Kind::Zombie
            | Kind::EndStreams
            | Kind::Rival
            | Kind::Usurp
            | Kind::ClockJump
            | Kind::KillFeeder
            | Kind::PowerLoss
            | Kind::DiskError
            | Kind::DiskFull
            | Kind::Repeat
            | Kind::Rewind
            | Kind::SecondFeed
            | Kind::QueryFeeds => unreachable!("{kind:?} is none of a server that runs"),
        }
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
            End::Restart(host) => world.restart(host),
            End::Repair(one, other) => world.sim.repair(one, other),
            End::Release(one, other) => world.sim.release(one, other),
            End::Hasten(one, other) => {
                let latency = Duration::from_millis(10);
                world.sim.set_link_max_message_latency(one, other, latency);
            }
            End::Accept(server) => set_refuses(world, server, false),
            End::StartedUp("source") => world.source.knobs.set_refuses(false),
            End::StartedUp(_) => world.target.knobs.set_refuses(false),
            End::ZombieGone => {
                if let Some(slot) = world.source.log.slot() {
                    slot.change(|slot| slot.active_pid.take_if(|pid| *pid == ZOMBIE_PID));
                }
            }
            End::ManySessions => world.target.knobs.set_connections_max(None),
            End::NoDelay => world.target.knobs.set_delay(Duration::ZERO),
        }
    }
}

fn set_refuses(world: &World<'_>, server: &str, refuses: bool) {
    match server {
        "source" => world.source.set_refuses(refuses),
        _ => world.target.set_refuses(refuses),
    }
}
