//! Every story of the tiny worlds, as far as there is time. `sim exhaustive` goes further.
use sim::coverage::{Coverage, Seen};
use sim::exhaustive::{Bounds, worlds};
use sim::fault::Kind;

/// Late effects multiply the stories, so there are fewer transactions then. The messages of two partitions
/// and their way through staging have many more orders.
const fn bounds_of(kind: Kind) -> &'static [Bounds] {
    match kind {
        Kind::Ordered => &[
            Bounds { transactions: 3, crashes: 1, late: 0 },
            Bounds { transactions: 2, crashes: 1, late: 1 },
        ],
        Kind::Changefeed => &[Bounds { transactions: 2, crashes: 1, late: 0 }],
    }
}

#[test]
fn every_story_of_every_tiny_world_ends_well() {
    let mut total = Coverage::default();
    let mut stories = 0;
    for world in worlds() {
        for bounds in bounds_of(world.kind) {
            let found = world.search(*bounds);
            assert!(50 < found.stories, "{}: only {} stories", world.name, found.stories);
            total.add(&found.coverage);
            stories += found.stories;
        }
    }
    assert!(10_000 < stories, "only {stories} stories");
    for seen in [Seen::TwoBatches, Seen::OutOfOrder, Seen::AppliedSkipped, Seen::LateRefused] {
        assert!(0 < total.count(seen), "{seen:?} was never reached:\n{total}");
    }
}
