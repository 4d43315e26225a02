//! What goes wrong between the hosts and in them.
//!
//! A seed draws which kinds of faults its world has, then how often they come: a world in which
//! everything is slightly broken finds less than one in which two things are badly broken.
use std::time::Duration;

use super::Scenario;
use crate::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A replicator dies at once and comes back.
    KillReplicator,
    /// A replicator is asked to stop, and comes back.
    StopReplicator,
    /// The source's server dies and comes back with what was on its disk.
    KillSource,
    /// The target's server dies and comes back.
    KillTarget,
    /// Nothing passes between two hosts; what was sent is lost.
    Partition,
    /// Nothing passes from one host to the other; what was sent is lost.
    PartitionOneWay,
    /// Nothing passes between two hosts for a while, and then all of it does.
    Hold,
    /// A replicator stands still: nothing reaches it and nothing comes from it for a while.
    Stall,
    /// Messages between two hosts take long.
    Slow,
    /// A host drops new connections.
    Refuse,
    /// A database says that it is starting up.
    StartingUp,
    /// A statement fails with an error that passes.
    SqlError,
    /// A session ends with an error.
    SqlKill,
    /// A connection breaks before its COMMIT arrives.
    LostCommit,
    /// A connection breaks after its COMMIT took effect, before the answer.
    LostAnswer,
    /// Somebody else reads from the slot.
    Zombie,
    /// The source's operator ends all streams.
    EndStreams,
    /// The target takes few sessions.
    FewSessions,
    /// The target takes its time for each statement.
    Delay,
    /// A second replicator runs with the same settings.
    Rival,
    /// The source takes a replicator for dead that lives and does not hear of it, and another one is there.
    Usurp,
    /// Everybody's calendar is set, forward or back.
    ClockJump,
    /// Those who bring the rows of changefeeds die and go on from what they had saved.
    KillFeeder,
    /// The power of the replicator's machine is gone, at an operation of its disk.
    PowerLoss,
    /// An operation of the replicator's disk fails.
    DiskError,
    /// The replicator's disk is full for a while.
    DiskFull,
    /// A changefeed brings rows again that it had brought before.
    Repeat,
    /// A changefeed is made again, from an earlier time.
    Rewind,
    /// The tables are divided among two changefeeds, which nobody can tell apart.
    SecondFeed,
    /// Some tables have changefeeds of their own, whose URLs say so.
    QueryFeeds,
}

/// In worlds of PostgreSQL to PostgreSQL.
const FORWARD: [Kind; 22] = [
    Kind::KillReplicator,
    Kind::StopReplicator,
    Kind::KillSource,
    Kind::KillTarget,
    Kind::Partition,
    Kind::PartitionOneWay,
    Kind::Hold,
    Kind::Stall,
    Kind::Slow,
    Kind::Refuse,
    Kind::StartingUp,
    Kind::SqlError,
    Kind::SqlKill,
    Kind::LostCommit,
    Kind::LostAnswer,
    Kind::Zombie,
    Kind::EndStreams,
    Kind::FewSessions,
    Kind::Delay,
    Kind::Rival,
    Kind::Usurp,
    Kind::ClockJump,
];

/// In worlds of MySQL and MariaDB. Nobody else can keep a binary log busy.
const MY_FORWARD: [Kind; 21] = [
    Kind::KillReplicator,
    Kind::StopReplicator,
    Kind::KillSource,
    Kind::KillTarget,
    Kind::Partition,
    Kind::PartitionOneWay,
    Kind::Hold,
    Kind::Stall,
    Kind::Slow,
    Kind::Refuse,
    Kind::StartingUp,
    Kind::SqlError,
    Kind::SqlKill,
    Kind::LostCommit,
    Kind::LostAnswer,
    Kind::EndStreams,
    Kind::FewSessions,
    Kind::Delay,
    Kind::Rival,
    Kind::Usurp,
    Kind::ClockJump,
];

/// In worlds of changefeeds.
const FAILBACK: [Kind; 25] = [
    Kind::KillReplicator,
    Kind::StopReplicator,
    Kind::KillTarget,
    Kind::Partition,
    Kind::PartitionOneWay,
    Kind::Hold,
    Kind::Stall,
    Kind::Slow,
    Kind::Refuse,
    Kind::StartingUp,
    Kind::SqlError,
    Kind::SqlKill,
    Kind::LostCommit,
    Kind::LostAnswer,
    Kind::FewSessions,
    Kind::Delay,
    Kind::ClockJump,
    Kind::KillFeeder,
    Kind::PowerLoss,
    Kind::DiskError,
    Kind::DiskFull,
    Kind::Repeat,
    Kind::Rewind,
    Kind::SecondFeed,
    Kind::QueryFeeds,
];

impl Kind {
    /// Those of a world.
    #[must_use]
    pub const fn of(scenario: Scenario) -> &'static [Self] {
        match scenario {
            Scenario::PgForward => &FORWARD,
            Scenario::MyForward => &MY_FORWARD,
            Scenario::Failback => &FAILBACK,
        }
    }

    /// What it is called on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillReplicator => "kill-replicator",
            Self::StopReplicator => "stop-replicator",
            Self::KillSource => "kill-source",
            Self::KillTarget => "kill-target",
            Self::Partition => "partition",
            Self::PartitionOneWay => "partition-one-way",
            Self::Hold => "hold",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::Refuse => "refuse",
            Self::StartingUp => "starting-up",
            Self::SqlError => "sql-error",
            Self::SqlKill => "sql-kill",
            Self::LostCommit => "lost-commit",
            Self::LostAnswer => "lost-answer",
            Self::Zombie => "zombie",
            Self::EndStreams => "end-streams",
            Self::FewSessions => "few-sessions",
            Self::Delay => "delay",
            Self::Rival => "rival",
            Self::Usurp => "usurp",
            Self::ClockJump => "clock-jump",
            Self::KillFeeder => "kill-feeder",
            Self::PowerLoss => "power-loss",
            Self::DiskError => "disk-error",
            Self::DiskFull => "disk-full",
            Self::Repeat => "repeat",
            Self::Rewind => "rewind",
            Self::SecondFeed => "second-feed",
            Self::QueryFeeds => "query-feeds",
        }
    }
}

/// Errors of a database that pass (PostgreSQL documentation, "PostgreSQL Error Codes").
pub const PASSING: [&str; 9] =
    ["40001", "40P01", "55P03", "57014", "53100", "53200", "53300", "58030", "08006"];

/// Errors that end a session.
pub const ENDING: [&str; 3] = ["57P01", "57P02", "25P03"];

/// Which faults a world has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// How many come in a simulated second, in hundredths.
    pub hundredths: usize,
    /// The longest that one lasts.
    pub lasts_max: Duration,
}

impl Faults {
    /// Draws the faults of a world, which are of exactly the kinds in `only` if that is given.
    #[must_use]
    pub fn draw(random: &mut Random, scenario: Scenario, only: Option<&[Kind]>) -> Self {
        let percent = random.pick(&[0, 10, 20, 20, 50]);
        let kinds = Kind::of(scenario).iter().copied();
        let drawn: Vec<Kind> = kinds.filter(|_| random.chance(percent)).collect();
        Self {
            kinds: only.map_or(drawn, <[Kind]>::to_vec),
            hundredths: random.pick(&[20, 60, 150]),
            lasts_max: Duration::from_millis(random.pick(&[300, 1_500, 5_000, 12_000])),
        }
    }

    /// How long the next one lasts.
    pub fn lasts(&self, random: &mut Random) -> Duration {
        let most = usize::try_from(self.lasts_max.as_millis()).expect("a short time");
        Duration::from_millis(u64::try_from(random.within(10, most)).expect("a short time"))
    }
}
