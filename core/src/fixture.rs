//! A small catalog and rows for unit tests.
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::model::catalog::{Catalog, Column, Made, NamedForeignKey, Table, Unique, Wire};
use crate::model::fk::Place;
use crate::model::ident::TableName;
use crate::model::key::{KeyKind, RowKey};
use crate::model::mutation::{Change, Mutation, TableId};
use crate::model::row::{Cell, Layout, Row, RowBuilder};

/// A column that is written, by its SQL type.
pub(crate) fn column(name: &str, cast: &str) -> Column {
    let (kind, wire) = match cast {
        "int8" => (KeyKind::Int, Wire::Int8),
        "int4" => (KeyKind::Int, Wire::Int4),
        "numeric" => (KeyKind::Numeric, Wire::Text),
        "citext" => (KeyKind::Loose, Wire::Text),
        _ => (KeyKind::Exact, Wire::Text),
    };
    Column {
        name: name.to_owned(),
        cast: cast.to_owned(),
        kind,
        wire,
        nullable: false,
        made: Made::Written,
        has_default: false,
    }
}

/// A table of schema `public`, keyed by its first `keys` columns.
pub(crate) fn table(name: &str, columns: &[(&str, &str)], keys: u16) -> Table {
    Table {
        name: TableName::new("public", name),
        columns: columns.iter().map(|(name, cast)| column(name, cast)).collect(),
        key: (0..keys).collect(),
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

fn fk(child: &str, column: u16, parent: &str) -> NamedForeignKey {
    NamedForeignKey {
        child: TableName::new("public", child),
        name: alloc::format!("{child}_fk"),
        columns: vec![column],
        parent: TableName::new("public", parent),
        parent_columns: vec![0],
        deferrable: false,
    }
}

/// `parent(id, name)`; `child(id, parent_id, note)`; `mail(id, address unique)`;
/// `odd(key citext)`; `nokey(x)`; `tree(id, up)`, which refers to itself.
pub(crate) fn catalog() -> Catalog {
    let mut mail = table("mail", &[("id", "int8"), ("address", "text")], 1);
    mail.uniques = vec![Unique { name: "mail_address_key".to_owned(), columns: Some(vec![1]) }];
    let tables = vec![
        table("child", &[("id", "int8"), ("parent_id", "int8"), ("note", "text")], 1),
        mail,
        table("nokey", &[("x", "text")], 0),
        table("odd", &[("key", "citext")], 1),
        table("parent", &[("id", "int8"), ("name", "text")], 1),
        table("tree", &[("id", "int8"), ("up", "int8")], 1),
    ];
    Catalog::new(tables, &[fk("child", 1, "parent"), fk("tree", 1, "tree")])
}

/// The number of a table of [`catalog`].
pub(crate) fn id(catalog: &Catalog, name: &str) -> TableId {
    catalog.find(&TableName::new("public", name)).unwrap()
}

/// A row; `None` is NULL, `Some("?")` is unchanged.
pub(crate) fn row(table: TableId, cells: &[Option<&str>]) -> Row {
    let columns = (0_u16..).map(Some).take(cells.len()).collect();
    let mut builder = RowBuilder::new();
    for cell in cells {
        builder.push(match cell {
            None => Cell::Null,
            Some("?") => Cell::Unchanged,
            Some(text) => Cell::Text(text.as_bytes()),
        });
    }
    builder.finish(Arc::new(Layout { table, columns })).unwrap()
}

/// A mutation in one word: `+child 1 10 hi` inserts, `=child 1 10 hi` replaces, `~child 1 ? hi`
/// updates, `-child 1` deletes, `>child 1 2 ? hi` moves 1 to 2, `!child` truncates.
pub(crate) fn mutation(catalog: &Catalog, text: &str) -> Mutation {
    let (verb, rest) = text.split_at(1);
    let words: Vec<&str> = rest.split(' ').collect();
    let table = id(catalog, words[0]);
    let mut cells: Vec<Option<&str>> = words[1..].iter().map(|word| Some(*word)).collect();
    if verb == ">" {
        let to = row(table, &cells[1..]);
        let mut old = vec![cells[0]];
        old.resize(cells.len().saturating_sub(1), None);
        let from = row(table, &old);
        let key = catalog.table(table).key_of(&from).unwrap();
        return Mutation { table, key, change: Change::Move { from, to } };
    }
    if verb == "-" {
        cells.resize(catalog.table(table).columns.len(), None);
    }
    let image = row(table, &cells);
    let key = if verb == "!" {
        RowKey::from_bytes(b"")
    } else {
        catalog.table(table).key_of(&image).unwrap()
    };
    let change = match verb {
        "+" => Change::Insert(image),
        "=" => Change::Upsert(image),
        "~" => Change::Update(image),
        "-" => Change::Delete(image),
        "!" => Change::Truncate,
        other => panic!("unknown verb {other}"),
    };
    Mutation { table, key, change }
}

/// Several mutations.
pub(crate) fn mutations(catalog: &Catalog, texts: &[&str]) -> Vec<Mutation> {
    texts.iter().map(|text| mutation(catalog, text)).collect()
}

/// A step in one line: `Upsert child [1,10,hi] [2,10,ho]`.
pub(crate) fn show(catalog: &Catalog, step: &crate::plan::Step<'_>) -> String {
    let mut text = alloc::format!("{:?} {}", step.kind, catalog.table(step.table).name.table);
    for row in &step.rows {
        let cells: Vec<String> = row
            .columns()
            .filter(|(column, _)| step.columns.contains(column))
            .map(|(_, cell)| match cell {
                Cell::Null => "NULL".to_owned(),
                Cell::Unchanged => "?".to_owned(),
                Cell::Text(text) | Cell::Binary(text) => String::from_utf8_lossy(text).into_owned(),
            })
            .collect();
        text.push_str(&alloc::format!(" [{}]", cells.join(",")));
    }
    text
}
