//! Can a change at the source be told to be of one row at the target?
use std::collections::BTreeSet;

use replicator_core::model::catalog::{Made, Table};
use replicator_core::model::ident::Quoted;

use crate::preflight::finding::{Finding, quoted_list};
use crate::preflight::source::{Carrier, CarrierIndex, Identity, PublicationFacts, PublishedTable};

/// Checks the target's key, and that the source sends it: with new rows as columns, with old rows as
/// part of the replica identity.
pub(super) fn keys(
    publication: &PublicationFacts,
    source: &PublishedTable,
    target: &Table,
    findings: &mut Vec<Finding>,
) {
    let name = &target.name;
    if target.key.is_empty() {
        let text = format!(
            "table {name} on the target has no usable key: no primary key or unique index that is \
             checked at once, over whole columns that refuse NULL"
        );
        let mut finding = Finding::error(text);
        if let Some(key) = suggested_key(source) {
            let key = quoted_list(key.iter().map(String::as_str));
            finding = finding.fix_target(format!("ALTER TABLE {name} ADD PRIMARY KEY ({key});"));
        }
        findings.push(finding);
        return;
    }
    let sent = sent(source);
    let key = target.key.iter().map(|column| target.column(*column));
    let unknown = key
        .clone()
        .filter(|column| column.made == Made::Generated || !sent.contains(column.name.as_str()));
    let unknown = quoted_list(unknown.map(|column| column.name.as_str()));
    if !unknown.is_empty() {
        findings.push(Finding::error(format!(
            "table {name} on the target has key columns whose values the source does not send: \
             {unknown}"
        )));
        return;
    }
    if publication.updates || publication.deletes {
        let key: Vec<&str> = key.map(|column| column.name.as_str()).collect();
        for carrier in &source.carriers {
            findings.extend(identity(publication, source, carrier, &key));
        }
    }
}

/// Checks what is sent of old rows.
fn identity(
    publication: &PublicationFacts,
    source: &PublishedTable,
    carrier: &Carrier,
    key: &[&str],
) -> Option<Finding> {
    let name = &carrier.name;
    let fix = better_identity(source, carrier, key);
    let Some(columns) = identity_columns(source, carrier) else {
        let text = format!(
            "{name} has no replica identity: applications' updates and deletes of it fail at the \
             source while it is published"
        );
        return Some(Finding::warning(text).fix_source(fix));
    };
    let sent = sent(source);
    let unsent = quoted_list(columns.iter().copied().filter(|column| !sent.contains(column)));
    if !unsent.is_empty() {
        let text = format!(
            "publication \"{}\" does not publish columns of the replica identity of {name}: {unsent}; \
             applications' updates and deletes of it fail at the source",
            publication.name
        );
        let publication = Quoted(&publication.name);
        let again = format!(
            "ALTER PUBLICATION {publication} DROP TABLE {table};\n\
             ALTER PUBLICATION {publication} ADD TABLE {table};",
            table = source.name
        );
        return Some(Finding::error(text).fix_source(again));
    }
    let uncovered = quoted_list(key.iter().copied().filter(|column| !columns.contains(column)));
    if !uncovered.is_empty() {
        let text = format!(
            "the replica identity of {name} lacks columns of the target's key, so a deleted row \
             cannot be found there: {uncovered}"
        );
        return Some(Finding::error(text).fix_source(fix));
    }
    None
}

/// The columns sent of an old row, or `None` if nothing is.
fn identity_columns<'a>(
    source: &'a PublishedTable,
    carrier: &'a Carrier,
) -> Option<BTreeSet<&'a str>> {
    let of = |index: &'a CarrierIndex| index.columns.iter().map(String::as_str).collect();
    match carrier.identity {
        Identity::Default => carrier.indexes.iter().find(|index| index.primary).map(of),
        Identity::Index => carrier.indexes.iter().find(|index| index.identity).map(of),
        Identity::Full => {
            let plain = source.columns.iter().filter(|column| !column.generated);
            Some(plain.map(|column| column.name.as_str()).collect())
        }
        Identity::Nothing => None,
    }
}

/// The statement that makes old rows carry the target's key.
fn better_identity(source: &PublishedTable, carrier: &Carrier, key: &[&str]) -> String {
    let sent = sent(source);
    let covers = |index: &&CarrierIndex| {
        key.iter().all(|column| index.columns.iter().any(|other| other == column))
            && index.columns.iter().all(|column| sent.contains(column.as_str()))
    };
    let name = &carrier.name;
    match carrier.indexes.iter().find(covers) {
        Some(index) if index.primary => format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT;"),
        Some(index) => {
            format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {};", Quoted(&index.name))
        }
        None => format!("ALTER TABLE {name} REPLICA IDENTITY FULL;"),
    }
}

/// The columns that would make a key on the target: those of the source's.
pub(super) fn suggested_key(source: &PublishedTable) -> Option<&[String]> {
    let indexes = &source.carriers.first()?.indexes;
    let index = indexes.iter().find(|index| index.primary).or_else(|| indexes.first())?;
    Some(&index.columns)
}

fn sent(source: &PublishedTable) -> BTreeSet<&str> {
    source.columns.iter().filter(|column| column.sent).map(|column| column.name.as_str()).collect()
}
