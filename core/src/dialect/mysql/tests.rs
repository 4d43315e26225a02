//! The SQL as a whole, and how steps are cut.
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Flavor, MySql, Refused, Statement, Ticked, ValueError};
use crate::fixture::{catalog as plain, mutations};
use crate::model::catalog::{Catalog, NamedForeignKey, Table};
use crate::model::ident::TableName;
use crate::model::mutation::{ApplyOrder, Mutation};
use crate::model::mysql::MySqlType;
use crate::plan::{Step, plan};

const MY: MySql =
    MySql { flavor: Flavor::MySql, statement_bytes: 1 << 20, statement_bytes_max: 1 << 24 };

/// The catalog that all tests use, with types of MySQL.
fn catalog() -> Catalog {
    let mut foreign_keys = Vec::new();
    let tables: Vec<Table> = plain()
        .tables()
        .map(|(_, table)| {
            let mut table = table.clone();
            for column in &mut table.columns {
                let cast = match column.cast.as_str() {
                    "int8" => "bigint",
                    "citext" => "varchar(20)",
                    _ => "text",
                };
                column.cast = cast.to_owned();
                column.kind = MySqlType::of(cast).key_kind();
            }
            for fk in &table.foreign_keys {
                foreign_keys.push(NamedForeignKey {
                    child: table.name.clone(),
                    name: fk.name.clone(),
                    columns: fk.columns.clone(),
                    parent: plain().table(fk.parent).name.clone(),
                    parent_columns: fk.parent_columns.clone(),
                    deferrable: false,
                });
            }
            table
        })
        .collect();
    Catalog::new(tables, &foreign_keys)
}

fn each<T>(texts: &[&str], order: &ApplyOrder, see: impl Fn(&Catalog, &Step<'_>) -> T) -> Vec<T> {
    let catalog = catalog();
    let mutations: Vec<Mutation> = mutations(&catalog, texts);
    plan(&catalog, &mutations, order, &[]).iter().map(|step| see(&catalog, step)).collect()
}

fn statements(my: MySql, texts: &[&str], order: &ApplyOrder) -> Vec<Statement> {
    let made =
        each(texts, order, |catalog, step| my.statements(catalog.table(step.table), step).unwrap());
    made.into_iter().flatten().collect()
}

fn sql(texts: &[&str]) -> String {
    let statements = statements(MY, texts, &ApplyOrder::Source);
    let lines: Vec<String> = statements.into_iter().map(|statement| statement.sql).collect();
    lines.join("\n")
}

#[test]
fn statements_of_every_kind() {
    let texts = [
        "+child 1 10 hi",
        "+child 2 10 it's",
        "~child 1 ? ho",
        "~child 1 ? ?",
        "-child 1",
        "-child 2",
        "-child 3",
        ">child 1 2 10 ?",
        "!child",
        "+nokey x",
    ];
    insta::assert_snapshot!(sql(&texts));
}

#[test]
fn w13b_a_row_is_never_taken_for_another_by_a_unique_value() {
    insta::assert_snapshot!(sql(&["+mail 1 a@b"]));
}

#[test]
fn w13b_a_key_is_never_taken_for_one_that_only_collates_equally() {
    insta::assert_snapshot!(sql(&["+odd A", "-odd a", "-odd b"]));
}

#[test]
fn rows_that_must_refer_to_each_other_are_deleted_one_by_one() {
    let source = statements(MY, &["-tree 3", "-tree 2"], &ApplyOrder::Source);
    let shown: Vec<(&str, _)> = source.iter().map(|s| (s.sql.as_str(), s.at.clone())).collect();
    let delete = |id| alloc::format!("DELETE FROM `public`.`tree` WHERE `id` IN ({id})");
    assert_eq!(shown, [(delete(3).as_str(), Some(0..1)), (delete(2).as_str(), Some(1..2))]);
    let netted = statements(MY, &["-tree 2", "-tree 3"], &ApplyOrder::Netted);
    let shown: Vec<&str> = netted.iter().map(|s| s.sql.as_str()).collect();
    assert_eq!(shown, [delete(3), delete(2)]);
}

#[test]
fn rows_that_may_refer_to_each_other_refer_to_nothing_before_they_are_deleted() {
    let catalog = catalog();
    let tree = catalog.tables().map(|(_, table)| table).find(|table| table.name.table == "tree");
    let mut tree = tree.unwrap().clone();
    tree.columns[1].nullable = true;
    let shown = |texts: &[&str]| -> Vec<String> {
        let mutations = mutations(&catalog, texts);
        let steps = plan(&catalog, &mutations, &ApplyOrder::Netted, &[]);
        let made = steps.iter().flat_map(|step| MY.statements(&tree, step).unwrap());
        made.map(|statement| statement.sql).collect()
    };
    let expected = [
        "UPDATE `public`.`tree` SET `up` = NULL WHERE `id` IN (2, 3)",
        "DELETE FROM `public`.`tree` WHERE `id` IN (2, 3)",
    ];
    assert_eq!(shown(&["-tree 2", "-tree 3"]), expected);
    // A row that refers to itself is no trouble.
    assert_eq!(shown(&["-tree 2"]), ["DELETE FROM `public`.`tree` WHERE `id` IN (2)"]);
}

#[test]
fn a_step_is_cut_into_statements_of_the_right_size() {
    let small = MySql { statement_bytes: 125, ..MY };
    let texts = ["+parent 1 a", "+parent 2 b", "+parent 3 c", "+parent 4 d"];
    let cut = statements(small, &texts, &ApplyOrder::Source);
    assert!(cut.iter().all(|statement| statement.sql.len() <= 125), "{cut:?}");
    let at: Vec<_> = cut.iter().map(|statement| statement.at.clone().unwrap()).collect();
    assert_eq!(at.len(), 2);
    assert_eq!((at[0].start, at[0].end, at[1].end), (0, at[1].start, 4));
}

#[test]
fn a_row_that_the_server_would_not_take_is_refused_by_itself() {
    let small = MySql { statement_bytes: 100, statement_bytes_max: 150, ..MY };
    let long = alloc::format!("+parent 2 {}", "x".repeat(200));
    let refused = each(&["+parent 1 a", &long], &ApplyOrder::Source, |catalog, step| {
        small.statements(catalog.table(step.table), step).unwrap_err()
    });
    assert!(matches!(refused.as_slice(), [Refused::Large { at: Some(at), .. }] if *at == (1..2)));
}

#[test]
fn a_value_that_does_not_fit_is_named_by_its_column() {
    let refused = each(&["+parent 1 a", "+parent x b"], &ApplyOrder::Source, |catalog, step| {
        MY.statements(catalog.table(step.table), step).unwrap_err()
    });
    let why = ValueError::Form("whole number");
    assert_eq!(refused, [Refused::Value { column: "`id`".to_owned(), why, at: Some(1..2) }]);
    assert_eq!(alloc::format!("{}", refused[0]), "column `id`: a value is no whole number");
}

#[test]
fn names_are_quoted() {
    assert_eq!(alloc::format!("{}", Ticked("a`b\"c")), "`a``b\"c`");
    assert_eq!(super::name(&TableName::new("d", "t`")), "`d`.`t```");
}
