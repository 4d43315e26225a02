//! An order for the rows of a transaction whose source does not tell it.
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::group;
use crate::model::catalog::{Catalog, ForeignKey, Table};
use crate::model::key::RowKey;
use crate::model::mutation::{Change, Mutation};
use crate::model::row::Cell;

/// Arranges a transaction of a source that tells how rows ended, but not in which order they came there:
/// tables in the order of [`group`], and inside a table that refers to itself, written rows parents
/// first and deleted rows children first. Rows that refer to each other in a circle come last. Rows that
/// hold none of a table's unique values come before those that may have taken one over from them.
pub fn arrange(catalog: &Catalog, mutations: &mut [Mutation]) {
    mutations.sort_by_key(|mutation| group(catalog, mutation.table, &mutation.change));
    for rows in mutations.chunk_by_mut(|a, b| a.table == b.table && deletes(a) == deletes(b)) {
        let Some(first) = rows.first() else { continue };
        let (id, deleted) = (first.table, deletes(first));
        let table = catalog.table(id);
        if !deleted && !table.uniques.is_empty() {
            rows.sort_by_key(|row| uniques_held(table, row));
        }
        let own: Vec<&ForeignKey> =
            table.foreign_keys.iter().filter(|fk| fk.parent == id).collect();
        if own.is_empty() || rows.len() < 2 {
            continue;
        }
        let ranks = ranks(table, &own, rows);
        rows.sort_by_cached_key(|row| {
            let rank = ranks.get(&row.key).copied().unwrap_or(usize::MAX);
            if deleted { usize::MAX.saturating_sub(rank) } else { rank }
        });
    }
}

/// In how many unique indexes the row has a value.
fn uniques_held(table: &Table, mutation: &Mutation) -> usize {
    let Some(row) = image(mutation) else { return 0 };
    let nulls: Vec<u16> = row
        .columns()
        .filter(|(_, cell)| matches!(cell, Cell::Null))
        .map(|(column, _)| column)
        .collect();
    let columns = table.uniques.iter().map(|unique| unique.columns.as_deref().unwrap_or_default());
    columns.filter(|columns| !columns.iter().any(|column| nulls.contains(column))).count()
}

fn deletes(mutation: &Mutation) -> bool {
    matches!(mutation.change, Change::Delete(_))
}

/// The place of each row, parents first. Rows in a circle, and what hangs from it, have none.
fn ranks(table: &Table, own: &[&ForeignKey], rows: &[Mutation]) -> BTreeMap<RowKey, usize> {
    // Whom a row refers to, and who refers to it, by index. A row may refer to itself.
    let mut children: Vec<Vec<usize>> = rows.iter().map(|_| Vec::new()).collect();
    let mut waits_for: Vec<usize> = rows.iter().map(|_| 0).collect();
    for fk in own {
        let known = |columns: &[u16], row: &Mutation| table.tuple_of(columns, image(row)?).ok();
        let by_tuple: BTreeMap<RowKey, usize> = rows
            .iter()
            .enumerate()
            .filter_map(|(index, row)| Some((known(&fk.parent_columns, row)?, index)))
            .collect();
        for (child, row) in rows.iter().enumerate() {
            let Some(tuple) = known(&fk.columns, row) else { continue };
            if let Some(parent) = by_tuple.get(&tuple)
                && *parent != child
                && let (Some(of_parent), Some(count)) =
                    (children.get_mut(*parent), waits_for.get_mut(child))
            {
                of_parent.push(child);
                *count = count.saturating_add(1);
            }
        }
    }
    let free = waits_for.iter().enumerate().filter(|(_, count)| **count == 0);
    let mut ready: VecDeque<usize> = free.map(|(index, _)| index).collect();
    let mut ranks = BTreeMap::new();
    while let Some(index) = ready.pop_front() {
        if let Some(row) = rows.get(index) {
            ranks.insert(row.key.clone(), ranks.len());
        }
        for child in children.get(index).into_iter().flatten() {
            if let Some(count) = waits_for.get_mut(*child) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push_back(*child);
                }
            }
        }
    }
    ranks
}

fn image(mutation: &Mutation) -> Option<&crate::model::row::Row> {
    match &mutation.change {
        Change::Delete(row) | Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            Some(row)
        }
        Change::Move { from: _, to } => Some(to),
        Change::Truncate => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::arrange;
    use crate::fixture::{catalog, mutation, mutations, row, show};
    use crate::model::mutation::{ApplyOrder, Change};
    use crate::plan::plan;

    fn arranged(texts: &[&str]) -> Vec<String> {
        let catalog = catalog();
        let mut mutations = mutations(&catalog, texts);
        arrange(&catalog, &mut mutations);
        let alone = ApplyOrder::RowWise(0..mutations.len());
        let steps = plan(&catalog, &mutations, &alone, &[]);
        steps.iter().map(|step| show(&catalog, step)).collect()
    }

    #[test]
    fn a_row_comes_after_the_row_it_refers_to() {
        let steps = arranged(&["=tree 1 3", "=tree 2 1", "=tree 3 4", "=tree 4 9"]);
        let expected =
            ["Upsert tree [4,9]", "Upsert tree [3,4]", "Upsert tree [1,3]", "Upsert tree [2,1]"];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_circle_comes_last_and_a_row_may_refer_to_itself() {
        let steps = arranged(&["=tree 1 2", "=tree 2 1", "=tree 3 3"]);
        assert_eq!(steps, ["Upsert tree [3,3]", "Upsert tree [1,2]", "Upsert tree [2,1]"]);
    }

    #[test]
    fn who_gave_a_unique_value_away_comes_before_who_took_it() {
        let catalog = catalog();
        let mut mutations = mutations(&catalog, &["=mail 1 a@x", "=mail 2 b@x"]);
        let mut freed = mutation(&catalog, "=mail 3 c@x");
        freed.change = Change::Upsert(row(freed.table, &[Some("3"), None]));
        mutations.push(freed);
        arrange(&catalog, &mut mutations);
        let keys = mutations.iter().map(|mutation| &mutation.key);
        let expected = ["-mail 3", "-mail 1", "-mail 2"].map(|text| mutation(&catalog, text).key);
        assert!(keys.eq(&expected), "{mutations:?}");
    }

    #[test]
    fn tables_come_parents_first_and_are_emptied_children_first() {
        let steps = arranged(&["-parent 1", "-child 9", "=child 1 5 x", "=parent 5 y"]);
        let expected = [
            "Delete child [9]",
            "Upsert parent [5,y]",
            "Upsert child [1,5,x]",
            "Delete parent [1]",
        ];
        assert_eq!(steps, expected);
    }
}
