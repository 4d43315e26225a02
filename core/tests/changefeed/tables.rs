//! Target tables that look like those of the source, made of its CREATE TABLE statements.
use std::sync::Arc;

use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;

/// The schema of all tables.
pub(crate) const SCHEMA: &str = "public";

/// A nullable column of a type of CockroachDB.
pub(crate) fn column(name: &str, of_type: &str) -> Column {
    let (base, array) = match of_type.strip_suffix("[]") {
        Some(base) => (base, "[]"),
        None => (of_type, ""),
    };
    let base = base.split(['(', ' ']).next().unwrap_or_default();
    let (cast, kind) = match base {
        "INT8" | "SERIAL" => ("int8", KeyKind::Int),
        "INT4" => ("int4", KeyKind::Int),
        "INT2" => ("int2", KeyKind::Int),
        "BOOL" => ("bool", KeyKind::Exact),
        "FLOAT8" => ("float8", KeyKind::Float),
        "FLOAT4" => ("float4", KeyKind::Float),
        "DECIMAL" => ("numeric", KeyKind::Numeric),
        "STRING" => ("text", KeyKind::Exact),
        "VARCHAR" => ("varchar", KeyKind::Exact),
        "CHAR" => ("bpchar", KeyKind::Padded),
        "NAME" => ("name", KeyKind::Exact),
        "\"char\"" => ("\"char\"", KeyKind::Exact),
        "BYTES" => ("bytea", KeyKind::Exact),
        "DATE" => ("date", KeyKind::Exact),
        "TIME" => ("time", KeyKind::Exact),
        "TIMETZ" => ("timetz", KeyKind::Loose),
        "TIMESTAMP" => ("timestamp", KeyKind::Exact),
        "TIMESTAMPTZ" => ("timestamptz", KeyKind::Exact),
        "INTERVAL" => ("interval", KeyKind::Loose),
        "UUID" => ("uuid", KeyKind::Exact),
        "INET" => ("inet", KeyKind::Exact),
        "BIT" | "VARBIT" => ("varbit", KeyKind::Exact),
        "JSONB" => ("jsonb", KeyKind::Loose),
        "OID" => ("oid", KeyKind::Int),
        "REGCLASS" => ("\"regclass\"", KeyKind::Loose),
        "GEOGRAPHY" => ("\"geography\"", KeyKind::Loose),
        "GEOMETRY" => ("\"geometry\"", KeyKind::Loose),
        "BOX2D" => ("\"box2d\"", KeyKind::Loose),
        "INT2VECTOR" => ("\"int2vector\"", KeyKind::Loose),
        "mood" | "lvl" | "lv" => ("\"public\".\"an_enum\"", KeyKind::Exact),
        other => panic!("unknown type {other} in {of_type}"),
    };
    let wire = match (cast, array) {
        ("int2", "") => Wire::Int2,
        ("int4", "") => Wire::Int4,
        ("int8", "") => Wire::Int8,
        (_, _) => Wire::Text,
    };
    Column {
        name: name.to_owned(),
        cast: format!("{cast}{array}"),
        kind: if array.is_empty() { kind } else { KeyKind::Loose },
        wire,
        nullable: true,
        made: Made::Written,
        has_default: false,
    }
}

/// A table of these columns, keyed by the first `keys` of them.
pub(crate) fn table(name: &str, columns: Vec<Column>, keys: u16) -> Table {
    Table {
        name: TableName::new(SCHEMA, name),
        columns,
        key: (0..keys).collect(),
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

/// A catalog of these tables.
pub(crate) fn catalog(tables: Vec<Table>) -> Arc<Catalog> {
    Arc::new(Catalog::new(tables, &[]))
}

/// The table of a statement; `None` if it creates none.
pub(crate) fn created(statement: &str) -> Option<Table> {
    let rest = statement.strip_prefix("create table ")?;
    let (name, rest) = split_name(rest);
    // A schema in front of it.
    let (name, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_name(rest),
        None => (name, rest),
    };
    let mut table = table(&name, Vec::new(), 0);
    for part in split_parts(rest.trim_start().strip_prefix('(')?) {
        let part = part.trim();
        if let Some(key) = part.strip_prefix("primary key") {
            let names = key.trim().trim_start_matches('(').trim_end_matches(')');
            table.key = names
                .split(',')
                .map(|name| table.find_column(&split_name(name.trim()).0).expect("a column"))
                .collect();
        } else if !["unique", "check", "family"].iter().any(|word| part.starts_with(word)) {
            add_column(&mut table, part);
        }
    }
    if table.key.is_empty() {
        table.key.push(u16::try_from(table.columns.len()).expect("few columns"));
        table.columns.push(column("rowid", "INT8"));
    }
    for index in table.key.clone() {
        table.columns[usize::from(index)].nullable = false;
    }
    Some(table)
}

fn add_column(table: &mut Table, part: &str) {
    let (name, rest) = split_name(part);
    let rest = rest.trim();
    let of_type = rest.strip_suffix(" primary key").unwrap_or(rest);
    let mut column = column(&name, of_type);
    if rest.contains(" as identity") {
        column.made = Made::IdentityAlways;
    } else if rest.contains(" as (") {
        column.made = Made::Generated;
    }
    if rest.contains("primary key") {
        table.key.push(u16::try_from(table.columns.len()).expect("few columns"));
    }
    table.columns.push(column);
}

/// A name, perhaps in quotes, and what follows it.
fn split_name(text: &str) -> (String, &str) {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([' ', '.', '(']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut name = String::new();
    loop {
        let end = rest.find('"').expect("a closing quote");
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        let Some(after) = rest.strip_prefix('"') else { return (name, rest) };
        name.push('"');
        rest = after;
    }
}

/// The parts between commas, to the closing bracket.
fn split_parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return parts,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => (),
        }
        parts.last_mut().expect("a part").push(letter);
    }
    panic!("a bracket is not closed in {text}")
}
