//! Every version that a row ever had, written down by the databases themselves, and what must hold
//! between the source's history and the target's.
//!
//! Each watched table has a column `id` and a column `version`, which the source sets from one sequence
//! with every change, so that a row's versions only grow, also over its death.
use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use tokio_postgres::Client;

/// A table to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub table: &'static str,
    /// A column whose values are unique and pass from row to row, if there is one.
    pub unique: Option<&'static str>,
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// The transaction.
    tx: i64,
    /// Table and key.
    row: (String, String),
    /// The row's version; the last one it had if it is gone.
    version: i64,
    gone: bool,
    /// What it has in the unique column.
    unique: Option<String>,
}

/// What two histories say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Transactions of the source.
    pub source_transactions: usize,
    /// Transactions of the target that held some of them.
    pub target_transactions: usize,
    /// Changes of rows at the target.
    pub changes: usize,
}

/// Makes this database write down what happens to these tables.
///
/// # Errors
///
/// It does already, or a table is not there.
pub async fn watch(client: &Client, tables: &[Watched]) -> Result<()> {
    let mut sql = "
        CREATE SCHEMA history;
        CREATE TABLE history.entry (
            seq bigserial PRIMARY KEY, tx bigint NOT NULL DEFAULT txid_current(), source text, key text,
            version bigint, gone boolean, value text);
        CREATE FUNCTION history.note() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            line jsonb := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
        BEGIN
            INSERT INTO history.entry (source, key, version, gone, value) VALUES (
                TG_TABLE_NAME, line ->> 'id', (line ->> 'version')::bigint, TG_OP = 'DELETE',
                line ->> TG_ARGV[0]);
            RETURN NULL;
        END $$;"
        .to_owned();
    for Watched { table, unique } in tables {
        let unique = unique.unwrap_or_default();
        sql.push_str(&format!(
            "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE PROCEDURE history.note('{unique}');
             ALTER TABLE {table} ENABLE ALWAYS TRIGGER note;"
        ));
    }
    client.batch_execute(&sql).await.context("could not watch the tables")
}

/// Compares the histories of both sides, after everything has arrived.
///
/// `tickets` is a watched table that gets one new row in every transaction of the source.
///
/// # Errors
///
/// A change at the target that is not one of the source; a version that came twice or after a later one;
/// a source transaction that came in parts; a unique value that had its holders in another order.
pub async fn compare(source: &Client, target: &Client, tickets: &str) -> Result<Summary> {
    let source = read(source).await.context("source")?;
    let target = read(target).await.context("target")?;
    judge(&source, &target, tickets)
}

async fn read(client: &Client) -> Result<Vec<Entry>> {
    let sql = "SELECT tx, source, key, version, gone, value FROM history.entry ORDER BY seq";
    let rows = client.query(sql, &[]).await?;
    let entry = |row: &tokio_postgres::Row| Entry {
        tx: row.get(0),
        row: (row.get(1), row.get(2)),
        version: row.get(3),
        gone: row.get(4),
        unique: row.get(5),
    };
    Ok(rows.iter().map(entry).collect())
}

fn judge(source: &[Entry], target: &[Entry], tickets: &str) -> Result<Summary> {
    // Where each version stands in the source's history.
    let mut places = HashMap::new();
    for (place, entry) in source.iter().enumerate().filter(|(_, entry)| !entry.gone) {
        places.insert((&entry.row, entry.version), place);
    }
    let place_of = |entry: &Entry| places.get(&(&entry.row, entry.version)).copied();
    versions_only_grow(target)?;
    for entry in target.iter().filter(|entry| !entry.gone) {
        let place = place_of(entry);
        let place = place.with_context(|| format!("{entry:?} was never at the source"))?;
        let made = &source[place];
        ensure!(made.unique == entry.unique, "{entry:?} was {made:?} at the source");
    }
    unique_values_keep_their_order(target, place_of)?;
    let (source_transactions, target_transactions) =
        transactions_are_whole(source, target, tickets)?;
    Ok(Summary { source_transactions, target_transactions, changes: target.len() })
}

fn versions_only_grow(target: &[Entry]) -> Result<()> {
    let mut last: HashMap<&(String, String), &Entry> = HashMap::new();
    for entry in target {
        if let Some(before) = last.insert(&entry.row, entry) {
            let follows = if entry.gone {
                !before.gone && entry.version == before.version
            } else {
                entry.version > before.version
            };
            ensure!(follows, "{entry:?} came after {before:?}");
        }
    }
    Ok(())
}

/// Along the holders of one value the places in the source's history grow.
fn unique_values_keep_their_order(
    target: &[Entry],
    place_of: impl Fn(&Entry) -> Option<usize>,
) -> Result<()> {
    let mut last: HashMap<&String, usize> = HashMap::new();
    for entry in target.iter().filter(|entry| !entry.gone) {
        if let (Some(value), Some(place)) = (&entry.unique, place_of(entry))
            && let Some(before) = last.insert(value, place)
        {
            ensure!(before < place, "{entry:?}: an earlier holder of the value came before it");
        }
    }
    Ok(())
}

/// All changes of a source transaction are in the target transaction that has its ticket. Returns how
/// many there are of each.
fn transactions_are_whole(
    source: &[Entry],
    target: &[Entry],
    tickets: &str,
) -> Result<(usize, usize)> {
    let mut ticket_of = HashMap::new();
    for entry in source.iter().filter(|entry| entry.row.0 == tickets) {
        let other = ticket_of.insert(entry.tx, &entry.row);
        ensure!(other.is_none(), "source transaction {} has two tickets", entry.tx);
    }
    let mut came_in = HashMap::new();
    for entry in target.iter().filter(|entry| entry.row.0 == tickets) {
        came_in.insert(&entry.row, entry.tx);
    }
    // Each row's changes at the target, and whether it ever died there or at the source.
    let mut at_target: HashMap<&(String, String), Vec<&Entry>> = HashMap::new();
    for entry in target {
        at_target.entry(&entry.row).or_default().push(entry);
    }
    let died: std::collections::HashSet<&(String, String)> =
        source.iter().filter(|entry| entry.gone).map(|entry| &entry.row).collect();
    for change in source.iter().filter(|entry| !entry.gone) {
        let Some(ticket) = ticket_of.get(&change.tx) else { continue };
        let whole = came_in.get(ticket).copied();
        let whole = whole.with_context(|| format!("{change:?}: its transaction never came"))?;
        let changes = at_target.get(&change.row).map_or(&[][..], Vec::as_slice);
        // A row that lives on shows each change in the change that overtook it. One that dies may
        // never have been seen at all.
        let shows = |entry: &&&Entry| {
            if died.contains(&change.row) {
                !entry.gone && entry.version == change.version
            } else {
                entry.version >= change.version
            }
        };
        match changes.iter().find(shows) {
            Some(entry) => ensure!(
                entry.tx == whole,
                "{change:?} came in transaction {}, and its ticket in {whole}",
                entry.tx
            ),
            None => ensure!(died.contains(&change.row), "{change:?} never came"),
        }
    }
    let target_transactions: std::collections::HashSet<i64> = came_in.values().copied().collect();
    Ok((ticket_of.len(), target_transactions.len()))
}

#[cfg(test)]
mod tests {
    use super::{Entry, judge};

    fn entry(tx: i64, row: &str, version: i64) -> Entry {
        let (table, key) = row.split_at(1);
        let row = (table.to_owned(), key.to_owned());
        Entry { tx, row, version, gone: false, unique: None }
    }

    fn gone(tx: i64, row: &str, version: i64) -> Entry {
        Entry { gone: true, ..entry(tx, row, version) }
    }

    fn with(unique: &str, entry: Entry) -> Entry {
        Entry { unique: Some(unique.to_owned()), ..entry }
    }

    #[test]
    fn a_faithful_target_passes() {
        let source = [
            entry(1, "t1", 1),
            entry(1, "a1", 2),
            entry(2, "t2", 3),
            entry(2, "a1", 4),
            entry(2, "b1", 5),
            gone(2, "b1", 5),
            entry(3, "t3", 6),
            entry(3, "a1", 7),
        ];
        // The first two share a target transaction, and what died within it was never seen.
        let target = [
            entry(9, "t1", 1),
            entry(9, "t2", 3),
            entry(9, "a1", 4),
            entry(8, "t3", 6),
            entry(8, "a1", 7),
        ];
        let summary = judge(&source, &target, "t").unwrap();
        assert_eq!((summary.source_transactions, summary.target_transactions), (3, 2));
    }

    #[test]
    fn every_kind_of_infidelity_is_found() {
        let source = [
            entry(1, "t1", 1),
            with("x", entry(1, "a1", 2)),
            entry(2, "t2", 3),
            entry(2, "a1", 4),
            with("x", entry(2, "a2", 5)),
        ];
        let whole = [
            entry(9, "t1", 1),
            with("x", entry(9, "a1", 2)),
            entry(8, "t2", 3),
            entry(8, "a1", 4),
            with("x", entry(8, "a2", 5)),
        ];
        judge(&source, &whole, "t").unwrap();
        let changed = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut target = whole.to_vec();
            change(&mut target);
            judge(&source, &target, "t").map_err(|error| error.to_string())
        };
        let finds = |change: &dyn Fn(&mut Vec<Entry>), what: &str| {
            let error = changed(change).unwrap_err();
            assert!(error.contains(what), "{error}");
        };
        finds(&|target| target.push(entry(7, "a2", 4)), "came after");
        finds(&|target| target.push(with("x", entry(7, "a2", 5))), "came after");
        finds(&|target| target.push(entry(7, "a2", 99)), "was never at the source");
        finds(&|target| target[1..].rotate_right(1), "an earlier holder");
        finds(&|target| target[3].tx = 7, "and its ticket in");
        finds(&|target| drop(target.pop()), "never came");
        finds(&|target| drop(target.remove(2)), "its transaction never came");
        finds(&|target| target[4].unique = None, "at the source");
    }
}
