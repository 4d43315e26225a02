//! Worlds of changefeeds as a seed draws them.
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::mutation::TableId;
use replicator_core::{Config, OnReject};
use replicator_io::replicate::start::Consistency;

use super::feed::Habits;
use super::program::CONSISTENT;
use super::steps::Setting;
use crate::cluster::Scenario;
use crate::cluster::fault::{Faults, Kind};
use crate::cluster::scenario::TICK;
use crate::fault::{Kind as SourceKind, Setup};
use crate::random::Random;
use crate::schema::{BULK, schema};
use crate::story::Story;

/// The hosts of one program, and of two that share what is staged.
const ALONE: [&str; 1] = ["replicator"];
const BOTH: [&str; 2] = ["replicator", "other"];

/// Tells the numbers that decide where rows are staged from the others of a seed.
const DATABASES: u64 = 0x57A6_ED00;
const BARE_TARGETS: u64 = 0xBA2E_0000;

/// Tables without constraints, as long as nobody writes to those that refer to them.
pub(super) const FREE: [&str; 3] = ["odd", "parent", "plain"];

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
    pub(super) habits: Habits,
    /// What rows wait for: one after the other, each time the program starts.
    pub(super) consistency: Vec<Consistency>,
    /// The longest that a request may take.
    pub(super) request_max: Duration,
    /// The time from one promise to the next.
    pub(super) promise_interval: Duration,
    /// How long a step of the network is.
    pub(super) tick: Duration,
    /// By how many seconds the program's calendar is ahead.
    pub(super) clock_ahead: i64,
    /// In what rows are staged, if that is not a file.
    pub(super) database: Option<Product>,
    /// Whether the target has a table of progress.
    pub(super) progress: bool,
    /// Whether the target has the foreign keys and the unique indexes of the source.
    pub(super) constraints: bool,
    /// Where the program runs. Several share what is staged.
    pub(super) hosts: &'static [&'static str],
    /// Everything that happens later follows from this.
    pub(super) random: Random,
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
        let mut drawn = Self {
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
            database: None,
            progress: false,
            constraints: true,
            hosts: &ALONE,
            random,
        };
        // By numbers of its own, so that worlds with a file are what they were before there were others.
        drawn.stage_in_database(&mut Random::new(seed ^ DATABASES), only.is_none());
        drawn.bare_target(&mut Random::new(seed ^ BARE_TARGETS));
        if drawn.product == Product::Cockroach {
            // There such a child cannot come before its parent.
            drawn.setup.tables.retain(|table| *table != "late");
        }
        if drawn.setup.tables.is_empty() {
            drawn.setup.tables = FREE.to_vec();
        }
        drawn
    }

    /// In some worlds rows are staged in a database, in some of these two programs share it, and in some the target
    /// has a table of progress. On CockroachDB it is needed where a dead run has left something behind; what it
    /// takes for that is added to faults that are `free`.
    fn stage_in_database(&mut self, random: &mut Random, free: bool) {
        if !random.chance(40) {
            return;
        }
        self.database =
            Some(random.pick(&[Product::Postgres, Product::Postgres, Product::Cockroach]));
        let of_disks = [Kind::PowerLoss, Kind::DiskError, Kind::DiskFull];
        self.faults.kinds.retain(|kind| !of_disks.contains(kind));
        self.progress = random.chance(50);
        if self.progress && random.chance(70) {
            self.product = Product::Cockroach;
            if free {
                self.faults.kinds.extend([Kind::Delay, Kind::KillReplicator]);
            }
        }
        if random.chance(50) {
            self.hosts = &BOTH;
            if !self.progress {
                // CockroachDB cannot tell the one whose lease has ended that its transactions come too late.
                self.product = Product::Postgres;
            }
            // Long enough that a lease ends while its holder stands still.
            self.lasts = Duration::from_secs(random.pick(&[10, 20, 30]));
        }
    }

    /// In some worlds the target has no constraints between rows. Then rows may wait for nothing at all, and the target
    /// may refuse some of them for good: which ones become dead letters depends on no other row.
    fn bare_target(&mut self, random: &mut Random) {
        if !random.chance(25) {
            return;
        }
        self.constraints = false;
        let immediate = Consistency::Immediate;
        match random.below(4) {
            0 => (),
            1 | 2 => self.consistency = vec![immediate],
            _ => self.consistency.insert(0, immediate),
        }
        self.setup.limits = random.chance(60);
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
            stages_max: 4,
            save_interval: setting.save_interval,
            read_rows_max: setting.page_rows,
            on_reject: OnReject::Stop,
            ..drawn.setup.config
        };
        let tables = schema().catalog.tables().map(|(id, _)| schema().name(id)).collect();
        drawn.setup = Setup { config: core, tables, ..drawn.setup };
        drawn.latency_max = Duration::from_millis(2);
        let (lanes_max, rows_max) = (setting.lanes_max, setting.rows_max);
        drawn.habits = Habits { feeds: 1, own: Vec::new(), lanes_max, rows_max };
        drawn.consistency.clone_from(&setting.consistency);
        drawn.request_max = setting.request_max;
        drawn.promise_interval = setting.promise_interval;
        (drawn.tick, drawn.clock_ahead) = (setting.tick, setting.clock_ahead);
        drawn.product = setting.target;
        (drawn.database, drawn.progress) = (setting.database, setting.progress);
        drawn.constraints = setting.constraints;
        drawn.hosts = if setting.shared { &BOTH } else { &ALONE };
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
