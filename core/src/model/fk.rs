//! Foreign keys → FK groups and the order of tables inside them.
//!
//! A group is everything connected by foreign keys, in whatever direction. Inside it a table's level
//! is the longest way up to a table without parents, so every parent is on a lower level than its
//! children, diamonds included. Tables on a cycle share a level: no order of tables is right for them,
//! only an order of rows.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Where a table stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The group, numbered from 0 by its lowest member.
    pub group: u32,
    /// Parents are on lower levels than their children; 0 has no parents outside its cycle.
    pub level: u32,
    /// Whether the table is on a cycle of two or more tables.
    pub cyclic: bool,
}

/// Places tables `0..tables`. `edges` are pairs of (child, parent); self references are ignored.
///
/// The result has one entry per table. Costs tables × edges, which is nothing for any real schema.
#[must_use]
pub fn place(tables: u32, edges: &BTreeSet<(u32, u32)>) -> Vec<Place> {
    let mut parents: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (child, parent) in edges.iter().filter(|(child, parent)| child != parent) {
        parents.entry(*child).or_default().insert(*parent);
    }
    let above: BTreeMap<u32, BTreeSet<u32>> =
        (0..tables).map(|table| (table, reach(table, &parents))).collect();
    let on_one_cycle = |a: u32, b: u32| {
        above.get(&a).is_some_and(|set| set.contains(&b))
            && above.get(&b).is_some_and(|set| set.contains(&a))
    };

    let mut level: BTreeMap<u32, u32> = (0..tables).map(|table| (table, 0)).collect();
    loop {
        let mut moved = false;
        for (child, of_child) in &parents {
            for parent in of_child {
                let floor = level.get(parent).copied().unwrap_or(0);
                // Tables on one cycle move up together.
                let floor =
                    if on_one_cycle(*child, *parent) { floor } else { floor.saturating_add(1) };
                if let Some(had) = level.get_mut(child)
                    && *had < floor
                {
                    *had = floor;
                    moved = true;
                }
            }
        }
        if !moved {
            break;
        }
    }

    let mut neighbours = parents.clone();
    for (child, of_child) in &parents {
        for parent in of_child {
            neighbours.entry(*parent).or_default().insert(*child);
        }
    }
    let mut group: BTreeMap<u32, u32> = BTreeMap::new();
    let mut groups = 0_u32;
    for table in 0..tables {
        if !group.contains_key(&table) {
            group.insert(table, groups);
            for member in reach(table, &neighbours) {
                group.insert(member, groups);
            }
            groups = groups.saturating_add(1);
        }
    }

    (0..tables)
        .map(|table| Place {
            group: group.get(&table).copied().unwrap_or_default(),
            level: level.get(&table).copied().unwrap_or_default(),
            cyclic: above.get(&table).is_some_and(|set| set.contains(&table)),
        })
        .collect()
}

/// Everything that can be reached from `start` by at least one step.
fn reach(start: u32, steps: &BTreeMap<u32, BTreeSet<u32>>) -> BTreeSet<u32> {
    let mut seen = BTreeSet::new();
    let mut todo = alloc::vec![start];
    while let Some(table) = todo.pop() {
        for next in steps.get(&table).into_iter().flatten() {
            if seen.insert(*next) {
                todo.push(*next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::place;

    fn levels(tables: u32, edges: &[(u32, u32)]) -> Vec<u32> {
        place(tables, &edges.iter().copied().collect()).iter().map(|place| place.level).collect()
    }

    #[test]
    fn w07_a_diamond_puts_every_parent_below_its_children() {
        // p=0 m=1 z=2 a=3: m and z refer to p, m refers to z, a refers to m.
        assert_eq!(levels(4, &[(1, 0), (2, 0), (1, 2), (3, 1)]), vec![0, 2, 1, 3]);
    }

    #[test]
    fn w08_two_roots_with_one_child_are_one_group() {
        let places = place(4, &[(2, 0), (2, 1)].into_iter().collect());
        assert_eq!(places.iter().map(|place| place.group).collect::<Vec<_>>(), vec![0, 0, 0, 1]);
    }

    #[test]
    fn a_cycle_shares_a_level_and_its_children_come_after() {
        let places = place(4, &[(0, 1), (1, 0), (2, 1), (0, 3)].into_iter().collect());
        assert_eq!(places.iter().map(|place| place.level).collect::<Vec<_>>(), vec![1, 1, 2, 0]);
        assert_eq!(
            places.iter().map(|place| place.cyclic).collect::<Vec<_>>(),
            [true, true, false, false]
        );
    }

    #[test]
    fn a_self_reference_changes_nothing() {
        let places = place(1, &[(0, 0)].into_iter().collect());
        assert!(places.iter().all(|place| place.level == 0 && !place.cyclic));
    }
}
