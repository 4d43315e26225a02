//! What can be told without a server.
use replicator_core::dialect::Product;
use replicator_core::model::catalog::{Catalog, Made, Table};
use replicator_core::model::ident::TableName;

use super::{ColumnFacts, Drafts, ForeignKeyFacts, IndexFacts, TypeFacts, Visibility};
use crate::target::catalog::CatalogError;

/// A schema with one table `t` and columns named after their positions, NOT NULL if odd.
fn table_with(columns: i64) -> Drafts {
    let mut drafts = Drafts::new("s", Product::Postgres);
    drafts.add_column("t", None).unwrap();
    for position in 1..=columns {
        drafts.add_column("t", Some(plain(position))).unwrap();
    }
    drafts
}

fn plain(position: i64) -> ColumnFacts {
    ColumnFacts {
        position,
        name: format!("c{position}"),
        of_type: TypeFacts {
            schema: "pg_catalog".to_owned(),
            name: "int4".to_owned(),
            kind: "b".to_owned(),
            element: None,
            domain: false,
            loose_collation: false,
        },
        not_null: position % 2 == 1,
        has_default: false,
        identity_always: false,
        identity: false,
        generated: false,
        visibility: Visibility::Visible,
    }
}

fn of(name: &str, position: i64) -> IndexFacts {
    let (table, name) = ("t".to_owned(), name.to_owned());
    IndexFacts { table, name, position, primary: false, usable: true, plain: true }
}

fn index(drafts: &mut Drafts, name: &str, positions: &[i64]) {
    for position in positions {
        drafts.add_index_column(&of(name, *position)).unwrap();
    }
}

fn table(drafts: Drafts) -> Table {
    let catalog: Catalog = drafts.finish();
    let id = catalog.find(&TableName::new("s", "t")).unwrap();
    catalog.table(id).clone()
}

fn unique_names(table: &Table) -> Vec<&str> {
    table.uniques.iter().map(|unique| unique.name.as_str()).collect()
}

#[test]
fn the_primary_key_comes_first_and_keeps_its_order() {
    let mut drafts = table_with(5);
    index(&mut drafts, "a", &[1]);
    for position in [5, 3] {
        drafts.add_index_column(&IndexFacts { primary: true, ..of("pk", position) }).unwrap();
    }
    let table = table(drafts);
    assert_eq!(table.key, [4, 2]);
    assert_eq!(unique_names(&table), ["a"]);
}

#[test]
fn without_a_primary_key_the_shortest_unique_index_without_nulls_serves() {
    let mut drafts = table_with(5);
    index(&mut drafts, "long", &[1, 3]);
    index(&mut drafts, "nullable", &[2]);
    index(&mut drafts, "short", &[5]);
    let table = table(drafts);
    assert_eq!(table.key, [4]);
    assert_eq!(unique_names(&table), ["long", "nullable"]);
}

#[test]
fn what_on_conflict_cannot_name_is_no_key() {
    for facts in [
        IndexFacts { usable: false, primary: true, ..of("deferrable", 1) },
        IndexFacts { plain: false, ..of("partial", 1) },
        of("expression", 0),
        of("nullable", 2),
    ] {
        let mut drafts = table_with(3);
        drafts.add_index_column(&facts).unwrap();
        let table = table(drafts);
        assert!(table.key.is_empty(), "{facts:?}");
        assert_eq!(unique_names(&table), [facts.name]);
    }
}

#[test]
fn a_unique_index_is_opaque_if_columns_alone_do_not_decide() {
    let mut drafts = table_with(3);
    index(&mut drafts, "expression", &[2, 0]);
    drafts.add_index_column(&IndexFacts { plain: false, ..of("partial", 2) }).unwrap();
    index(&mut drafts, "plain", &[2]);
    let table = table(drafts);
    let columns: Vec<_> = table.uniques.iter().map(|unique| unique.columns.clone()).collect();
    assert_eq!(unique_names(&table), ["expression", "partial", "plain"]);
    assert_eq!(columns, [None, None, Some(vec![1])]);
}

#[test]
fn a_unique_index_around_the_key_says_nothing_new() {
    let mut drafts = table_with(3);
    drafts.add_index_column(&IndexFacts { primary: true, ..of("pk", 1) }).unwrap();
    index(&mut drafts, "around", &[2, 1]);
    assert!(table(drafts).uniques.is_empty());
}

#[test]
fn a_made_up_row_id_is_no_key_and_no_column() {
    let mut drafts = table_with(1);
    let rowid = ColumnFacts { visibility: Visibility::RowId, ..plain(2) };
    drafts.add_column("t", Some(rowid)).unwrap();
    drafts.add_index_column(&IndexFacts { primary: true, ..of("pk", 2) }).unwrap();
    let table = table(drafts);
    assert_eq!(table.columns.len(), 1);
    assert!(table.key.is_empty());
    assert!(table.uniques.is_empty());
}

#[test]
fn a_shard_number_is_cut_out_of_the_key() {
    let mut drafts = Drafts::new("s", Product::Cockroach);
    let shard = ColumnFacts { generated: true, visibility: Visibility::Shard, ..plain(2) };
    for column in [plain(1), shard, plain(3)] {
        drafts.add_column("t", Some(column)).unwrap();
    }
    for position in [2, 3] {
        drafts.add_index_column(&IndexFacts { primary: true, ..of("pk", position) }).unwrap();
    }
    let table = table(drafts);
    assert_eq!(table.key, [1]);
    assert_eq!(table.column(1).name, "c3");
}

#[test]
fn who_makes_a_value_is_told_apart() {
    let mut drafts = Drafts::new("s", Product::Postgres);
    let identity = ColumnFacts { identity: true, ..plain(1) };
    let always = ColumnFacts { identity: true, identity_always: true, ..plain(3) };
    let generated = ColumnFacts { generated: true, has_default: true, ..plain(5) };
    for column in [identity, always, generated, plain(7)] {
        drafts.add_column("t", Some(column)).unwrap();
    }
    let table = table(drafts);
    let made: Vec<Made> = table.columns.iter().map(|column| column.made).collect();
    assert_eq!(made, [Made::Written, Made::IdentityAlways, Made::Generated, Made::Written]);
    let defaults: Vec<bool> = table.columns.iter().map(|column| column.has_default).collect();
    assert_eq!(defaults, [true, true, true, false]);
}

#[test]
fn answers_that_do_not_fit_together_are_an_error() {
    let mut drafts = table_with(1);
    let unknown = drafts.add_index_column(&of("pk", 9));
    assert!(matches!(unknown, Err(CatalogError::Changed { .. })));
    let fk = ForeignKeyFacts {
        child: "t".to_owned(),
        name: "fk".to_owned(),
        parent: "gone".to_owned(),
        child_position: 1,
        parent_position: 1,
        deferrable: false,
    };
    assert!(matches!(drafts.add_foreign_key_column(&fk), Err(CatalogError::Changed { .. })));
}

#[test]
fn a_table_has_at_most_as_many_columns_as_we_count() {
    let mut drafts = table_with(65_536);
    let more = drafts.add_column("t", Some(plain(70_000)));
    assert!(matches!(more, Err(CatalogError::TooWide { .. })));
}
