//! What goes wrong between the hosts and in them.
//!
//! A seed draws which kinds of faults its world has, then how often they come: a world in which
//! everything is slightly broken finds less than one in which two things are badly broken.
use std::time::Duration;

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
}

/// All kinds.
pub const ALL: [Kind; 20] = [
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
];

/// Errors of a database that pass (PostgreSQL documentation, "PostgreSQL Error Codes").
pub const PASSING: [&str; 8] =
    ["40001", "40P01", "55P03", "57014", "53200", "53300", "58030", "08006"];

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
    /// Draws the faults of a world.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let percent = random.pick(&[0, 10, 20, 20, 50]);
        let kinds = ALL.into_iter().filter(|_| random.chance(percent)).collect();
        Self {
            kinds,
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
