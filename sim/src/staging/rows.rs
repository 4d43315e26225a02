//! Rows to stage: few times and few keys, so that they meet.
use replicator_core::model::mutation::{Change, Mutation, TimedMutation};
use replicator_core::model::time::Hlc;
use replicator_io::port::StagedPage;

use crate::random::Random;
use crate::schema::{LAYOUTS, Sent, schema};

/// Tables that rows are of. One has a key of two columns, one a key that cannot be compared.
const TABLES: [&str; 4] = ["plain", "parent", "odd", "pair"];

/// A time among few.
pub fn time(random: &mut Random) -> Hlc {
    let nanos = u64::try_from(random.below(5)).expect("small");
    Hlc { nanos, logical: u32::try_from(random.below(3)).expect("small") }
}

/// A change of a row; its last column is `version`.
pub fn row(random: &mut Random, version: i64) -> TimedMutation {
    let time = time(random);
    let id = schema().id(random.pick(&TABLES));
    let table = schema().catalog.table(id);
    let count = table.columns.len();
    let mut cells: Vec<Sent> = (0..count).map(|_| Sent::Value(small(random))).collect();
    for column in &table.key {
        let number = i64::try_from(random.below(4)).expect("small");
        cells[usize::from(*column)] = Sent::Value(Some(number));
    }
    cells[count - 1] = Sent::Value(Some(version));
    let updates = random.chance(30);
    if updates {
        let not_key = |index: &usize| !table.key.iter().any(|key| usize::from(*key) == *index);
        let others: Vec<usize> = (0..count - 1).filter(not_key).collect();
        cells[random.pick(&others)] = Sent::Unchanged;
    }
    let image = schema().row(id, random.below(LAYOUTS), &cells);
    let key = table.key_of(&image).expect("the key is sent");
    let change = match random.below(3) {
        _ if updates => Change::Update(image),
        0 => Change::Delete(image),
        1 => Change::Insert(image),
        _ => Change::Upsert(image),
    };
    TimedMutation { time, mutation: Mutation { table: id, key, change } }
}

fn small(random: &mut Random) -> Option<i64> {
    random.chance(70).then(|| i64::try_from(random.below(10)).expect("small"))
}

/// A page with the rows of one time in an order that does not depend on the store.
#[must_use]
pub fn arranged(mut page: StagedPage) -> StagedPage {
    assert!(page.rows.is_sorted_by_key(|row| row.time), "rows are not in the order of their times");
    page.rows.sort_by_cached_key(|row| (row.time, format!("{:?}", row.mutation)));
    page
}
