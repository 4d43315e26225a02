//! Do the published tables fit the tables of the target?
use std::collections::{BTreeMap, BTreeSet};

use replicator_core::dialect::Product;
use replicator_core::model::catalog::{Catalog, Column, Made, Table};
use replicator_core::model::ident::{Quoted, TableName};

use super::keys;
use crate::preflight::finding::{Finding, quoted_list};
use crate::preflight::source::{PublicationFacts, PublishedTable};

/// The name a published table has on the target: its own, in the one target schema.
pub(in crate::preflight) fn mapped(table: &PublishedTable, schema: &str) -> TableName {
    TableName::new(schema, &table.name.table)
}

/// What the published tables are held against.
#[derive(Clone, Copy, Debug)]
pub(in crate::preflight) struct Expected<'a> {
    /// The tables of the target schema.
    pub(in crate::preflight) catalog: &'a Catalog,
    /// Whose they are.
    pub(in crate::preflight) product: Product,
    /// The target schema.
    pub(in crate::preflight) schema: &'a str,
}

/// Checks every published table.
pub(in crate::preflight) fn tables(
    publication: &PublicationFacts,
    published: &[PublishedTable],
    expected: Expected<'_>,
    findings: &mut Vec<Finding>,
) {
    clashes(published, findings);
    for source in published {
        let name = mapped(source, expected.schema);
        match expected.catalog.find(&name) {
            Some(id) => {
                let target = expected.catalog.table(id);
                columns(source, target, expected.product, findings);
                keys::keys(publication, source, target, findings);
            }
            None => findings.push(missing_table(source, &name, expected.catalog)),
        }
    }
}

/// Tables of two source schemas cannot both be one table of the target.
fn clashes(published: &[PublishedTable], findings: &mut Vec<Finding>) {
    let mut by_table: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for table in published {
        by_table.entry(&table.name.table).or_default().push(table.name.to_string());
    }
    for (table, names) in by_table {
        if names.len() > 1 {
            findings.push(Finding::error(format!(
                "{} would all be written to table \"{table}\" of the one target schema; publish one \
                 of them only, or replicate each schema by a run of its own",
                names.join(", ")
            )));
        }
    }
}

fn missing_table(source: &PublishedTable, name: &TableName, catalog: &Catalog) -> Finding {
    let mut text = format!("table {name} does not exist on the target");
    let similar = catalog.tables().map(|(_, table)| table.name.table.as_str());
    let similar = similar.filter(|table| table.to_lowercase() == name.table.to_lowercase());
    let similar = quoted_list(similar);
    if !similar.is_empty() {
        text.push_str("; names are compared exactly, and it has ");
        text.push_str(&similar);
    }
    Finding::error(text).fix_target(create_table(source, name))
}

/// The table as the source has it: a start for the operator, types of one's own need more.
fn create_table(source: &PublishedTable, name: &TableName) -> String {
    let mut parts: Vec<String> = Vec::new();
    for column in &source.columns {
        let not_null = if column.not_null { " NOT NULL" } else { "" };
        parts.push(format!("{} {}{not_null}", Quoted(&column.name), column.type_text));
    }
    if let Some(key) = keys::suggested_key(source) {
        let key = quoted_list(key.iter().map(String::as_str));
        parts.push(format!("PRIMARY KEY ({key})"));
    }
    format!("CREATE TABLE {name} ({});", parts.join(", "))
}

fn columns(source: &PublishedTable, target: &Table, product: Product, findings: &mut Vec<Finding>) {
    let name = &target.name;
    let sent: BTreeSet<&str> =
        source.columns.iter().filter(|column| column.sent).map(|column| &*column.name).collect();

    let unexpected: Vec<_> = source
        .columns
        .iter()
        .filter(|column| column.sent && target.find_column(&column.name).is_none())
        .collect();
    if !unexpected.is_empty() {
        let names = quoted_list(unexpected.iter().map(|column| column.name.as_str()));
        let text =
            format!("table {name} on the target has unexpected columns on the source: {names}");
        let add = unexpected.iter().map(|column| {
            format!("ALTER TABLE {name} ADD COLUMN {} {};", Quoted(&column.name), column.type_text)
        });
        findings.push(Finding::error(text).fix_target(add.collect::<Vec<_>>().join("\n")));
    }

    let needed = |column: &&Column| {
        !column.nullable
            && !column.has_default
            && column.made == Made::Written
            && !sent.contains(&*column.name)
    };
    let missing: Vec<_> = target.columns.iter().filter(needed).collect();
    if !missing.is_empty() {
        let names = quoted_list(missing.iter().map(|column| column.name.as_str()));
        let text = format!(
            "table {name} on the target has columns that are not sent, refuse NULL and have no \
             default: {names}"
        );
        let drop = missing.iter().map(|column| {
            format!("ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL;", Quoted(&column.name))
        });
        findings.push(Finding::error(text).fix_target(drop.collect::<Vec<_>>().join("\n")));
    }

    let computed = source.columns.iter().filter(|column| {
        let at_target = target.find_column(&column.name).map(|index| target.column(index));
        let written = at_target.is_some_and(|column| column.made == Made::Written);
        column.generated && !column.sent && written
    });
    let computed = quoted_list(computed.map(|column| column.name.as_str()));
    if !computed.is_empty() {
        findings.push(Finding::warning(format!(
            "columns of {} are computed on the source, so their values are not sent, but are plain \
             columns on the target and will stay empty: {computed}",
            source.name
        )));
    }

    // PostgreSQL has OVERRIDING SYSTEM VALUE for these.
    if product == Product::Cockroach {
        for column in &target.columns {
            if column.made == Made::IdentityAlways && sent.contains(&*column.name) {
                let column = Quoted(&column.name);
                let text = format!("column {column} of {name} on the target refuses values");
                let fix =
                    format!("ALTER TABLE {name} ALTER COLUMN {column} SET GENERATED BY DEFAULT;");
                findings.push(Finding::error(text).fix_target(fix));
            }
        }
    }
}

#[cfg(test)]
mod tests;
