//! The check of the machine: any bytes are a story, and every story must end well.
//!
//! The first three bytes are the kind of source and the seed of the world, then three bytes are one
//! action: what, and two numbers. So a small change of the input is a small change of the story.
use sim::action::{Action, Fault};
use sim::fault::{Kind, Setup};
use sim::world::World;

/// Longer stories find no more and take longer.
const ACTIONS_MAX: usize = 250;

/// Plays a story; returns how many actions it has.
///
/// # Panics
///
/// A promise is broken, or not everything arrives.
pub(crate) fn world(input: &[u8]) -> usize {
    let Some(([kind, seed @ ..], rest)) = input.split_first_chunk::<3>() else { return 0 };
    let kind = if kind % 2 == 0 { Kind::Ordered } else { Kind::Changefeed };
    let setup = Setup::draw(kind, u64::from(u16::from_be_bytes(*seed)));
    let (actions, _) = rest.as_chunks::<3>();
    let actions = &actions[..actions.len().min(ACTIONS_MAX)];
    let mut world = World::new(setup.clone());
    for bytes in actions {
        world.act(&action(&setup, *bytes));
    }
    let settled = world.settle();
    assert_eq!(settled, Ok(()), "not everything arrives");
    actions.len()
}

/// What three bytes mean. Faults that the world does not have mean nothing.
fn action(setup: &Setup, [what, one, two]: [u8; 3]) -> Action {
    let number = usize::from(one);
    let faults = setup.faults;
    let if_drawn = |weight: u32, action: Action| if weight > 0 { action } else { Action::Wait(0) };
    let fails = |weight: u32, fault: Fault| if_drawn(weight, Action::Fail(number, fault));
    match what % 20 {
        0..=2 => Action::Commit(u64::from(u16::from_be_bytes([one, two]))),
        3..=5 => Action::Send(number % 2),
        6..=8 => Action::Succeed(number),
        9 => Action::Wait(u64::from(one)),
        10 => Action::Resolve(number % 2),
        11 => Action::Idle,
        12 => Action::Late(number),
        13 => if_drawn(faults.rewind, Action::Rewind(number % 2)),
        // Eight bits for the first eight effects, and again for the next.
        14 => if_drawn(faults.crash, Action::Crash(u64::from_be_bytes([one; 8]))),
        15 => if_drawn(faults.usurp, Action::Usurp),
        16 => fails(faults.transient, Fault::Transient),
        17 => fails(
            faults.unknown,
            [Fault::Lost, Fault::Unanswered, Fault::Delayed][usize::from(two % 3)],
        ),
        18 => fails(faults.refusals, Fault::Statement(usize::from(two))),
        _ => fails(faults.refusals, Fault::Commit),
    }
}

/// Hand-made stories.
pub(crate) fn world_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let story = |kind: u8, seed: u8, actions: &[[u8; 3]]| {
        [&[kind, 0, seed][..], actions.as_flattened()].concat()
    };
    let trickle: Vec<[u8; 3]> = (0..12)
        .flat_map(|number| [[0, number, 0], [3, number % 2, 0], [6, 0, 0], [10, 0, 0], [9, 60, 0]])
        .collect();
    let crashes: Vec<[u8; 3]> = (0..12)
        .flat_map(|number| [[0, number, 1], [3, 0, 0], [14, number * 17, 0], [12, 0, 0]])
        .collect();
    let faults: Vec<[u8; 3]> = (0..80_u8)
        .map(|number| [number.wrapping_mul(7), number, number.wrapping_mul(31)])
        .collect();
    let largest: Vec<[u8; 3]> =
        (0..=u8::MAX).map(|number| [number, number.wrapping_mul(101), number ^ 0x5A]).collect();
    let mut cut_short = story(0, 7, &trickle);
    cut_short.truncate(cut_short.len() - 1);
    vec![
        ("empty", Vec::new()),
        ("cut-short", cut_short),
        ("largest", story(0, 2, &largest)),
        ("largest-changefeed", story(1, 2, &largest)),
        ("trickle", story(0, 1, &trickle)),
        ("trickle-changefeed", story(1, 1, &trickle)),
        ("crashes", story(0, 3, &crashes)),
        ("crashes-changefeed", story(1, 3, &crashes)),
        ("faults", story(0, 4, &faults)),
        ("faults-changefeed", story(1, 4, &faults)),
    ]
}
