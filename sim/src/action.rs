//! What can happen next in a world.
use crate::fault::{Kind, Setup};
use crate::random::Random;

/// One word of so many asks our process to end. No other word means anything else because of that: the stories that
/// are told in words stay what they are.
const STOP_ONE_IN: u64 = 71;

/// What can happen next. Nothing happens by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The source commits a transaction, drawn from this seed.
    Commit(u64),
    /// The source sends its next message, a changefeed on this partition.
    Send(usize),
    /// An ordered source says that it is idle.
    Idle,
    /// A changefeed partition resolves everything committed so far.
    Resolve(usize),
    /// The source starts again from an older position, a changefeed on this partition.
    Rewind(usize),
    /// The pending effect with this number, counted round, succeeds unless the target refuses it.
    Succeed(usize),
    /// It fails.
    Fail(usize, Fault),
    /// An effect that was given up reaches its destination after all.
    Late(usize),
    /// Time passes, in milliseconds.
    Wait(u64),
    /// Our process dies and starts again. Effects whose bit is set arrive in between.
    Crash(u64),
    /// Our process is asked to end, does so, and starts again.
    Stop,
    /// Another replicator begins a run on the same target.
    Usurp,
}

/// How an effect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Before anything happened.
    Transient,
    /// Nobody knows: it does not arrive.
    Lost,
    /// Nobody knows: it has arrived.
    Unanswered,
    /// Nobody knows: it will arrive some day.
    Delayed,
    /// The target refuses the statement with this number, without a lasting reason.
    Statement(usize),
    /// The target refuses the commit, without a lasting reason.
    Commit,
}

impl Action {
    /// Draws an action. 0 stands for one that does next to nothing, so that a test can leave actions out
    /// when it looks for the shortest story.
    #[must_use]
    pub fn draw(setup: &Setup, word: u64) -> Self {
        if word == 0 {
            return Self::Wait(0);
        }
        if word.is_multiple_of(STOP_ONE_IN) {
            return Self::Stop;
        }
        let mut random = Random::new(word);
        let feed = setup.kind == Kind::Changefeed;
        let faults = setup.faults;
        let failures = faults.transient + faults.unknown + faults.refusals;
        let number = random.below(64);
        let partition = random.below(2);
        let mut choices: Vec<(u32, Self)> = vec![
            (11, Self::Commit(random.word())),
            (if feed { 18 } else { 14 }, Self::Send(partition)),
            (10, Self::Succeed(number)),
            (6, Self::Wait(random.pick(&[1, 5, 20, 60]))),
            (faults.crash, Self::Crash(random.word())),
            (faults.usurp, Self::Usurp),
            (faults.rewind, Self::Rewind(partition)),
            (if faults.unknown + faults.crash > 0 { 4 } else { 0 }, Self::Late(number)),
            (if feed { 4 } else { 0 }, Self::Resolve(partition)),
            (if feed { 0 } else { 1 }, Self::Idle),
        ];
        if failures > 0 {
            choices.push((failures, Self::Fail(number, Fault::draw(setup, &mut random))));
        }
        choose(choices, &mut random)
    }
}

impl Fault {
    fn draw(setup: &Setup, random: &mut Random) -> Self {
        let faults = setup.faults;
        let unknown = random.pick(&[Self::Lost, Self::Unanswered, Self::Delayed]);
        let refused =
            if random.chance(50) { Self::Commit } else { Self::Statement(random.below(64)) };
        let choices = vec![
            (faults.transient, Self::Transient),
            (faults.unknown, unknown),
            (faults.refusals, refused),
        ];
        choose(choices, random)
    }
}

/// One of them, each as often as its weight says.
fn choose<T>(choices: Vec<(u32, T)>, random: &mut Random) -> T {
    let sum: u32 = choices.iter().map(|(weight, _)| weight).sum();
    let mut left = random.below(usize::try_from(sum).expect("small weights"));
    for (weight, choice) in choices {
        let weight = usize::try_from(weight).expect("a small weight");
        if left < weight {
            return choice;
        }
        left -= weight;
    }
    unreachable!("one of them is chosen")
}
