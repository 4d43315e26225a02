//! What a MySQL or MariaDB source tells about itself. Reads only.
use std::collections::BTreeMap;

use replicator_core::decode::binlog::KnownColumn;
use replicator_core::model::gtid::{BinlogFlavor, GtidPosition};

use crate::mysql::replica::{ReplicaError, ReplicaSession};
use crate::net::Dial;

/// The variables that matter. Those that a version does not have are absent from the answer.
const VARIABLES: [&str; 15] = [
    "binlog_checksum",
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "enforce_gtid_consistency",
    "expire_logs_days",
    "gtid_mode",
    "innodb_native_foreign_keys",
    "log_bin",
    "log_replica_updates",
    "log_slave_updates",
    "server_id",
    "server_uuid",
    "version",
];

/// So long somebody else may change a table that we want to look at, in seconds.
const LOCK_SECONDS_MAX: u32 = 5;

/// Tables that come and go while we look at them are looked at again so often.
const LOOKS_MAX: usize = 20;

/// The server, and what we may do there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceFacts {
    /// Whose binary log it is.
    pub(super) flavor: BinlogFlavor,
    /// Product and version.
    pub(super) version: String,
    /// As `major * 100 + minor`; zero if the server does not say.
    pub(super) number: u32,
    variables: BTreeMap<String, String>,
    /// The transactions that it has.
    pub(super) executed: GtidPosition,
    /// Those of them that its binary log has no more.
    pub(super) purged: Option<GtidPosition>,
    /// What we may do, as the server says it.
    pub(super) grants: Vec<String>,
    /// Where it replicates from, if it does and we may know.
    pub(super) replicates_from: Option<String>,
    /// The numbers of those who read its binary log, if we may know.
    pub(super) replicas: Vec<u32>,
    /// Whether we see the database.
    pub(super) has_database: bool,
    /// How many XA transactions are prepared and have no outcome, if we may know.
    pub(super) prepared: usize,
    /// Its tables whose rows foreign keys change by themselves, if we may know.
    pub(super) cascading: Vec<String>,
    /// Its tables.
    pub(super) tables: BTreeMap<String, Vec<SourceColumn>>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceColumn {
    /// Its name.
    pub(super) name: String,
    /// Its type, whole.
    pub(super) column_type: String,
    /// Of a text.
    pub(super) charset: Option<String>,
}

impl SourceFacts {
    /// A variable of the server, if it has it.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether its binary log has the rows that foreign keys change.
    pub(super) fn tells_all(&self) -> bool {
        let native = self.variable("innodb_native_foreign_keys");
        self.flavor == BinlogFlavor::MySql && native.is_some_and(|native| native != "ON")
    }

    /// Whether its binary log names columns.
    pub(super) fn has_metadata(&self) -> bool {
        self.variable("binlog_row_metadata").is_some()
    }

    #[cfg(test)]
    pub(super) fn of(flavor: BinlogFlavor, variables: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let version = "MySQL 8.0.36".to_owned();
        Self {
            flavor,
            version,
            number: 800,
            variables: variables.iter().map(own).collect(),
            executed: GtidPosition::parse(flavor, "").expect("nothing is a position"),
            purged: None,
            grants: vec!["GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `me`".to_owned()],
            replicates_from: None,
            replicas: Vec::new(),
            has_database: true,
            prepared: 0,
            cascading: Vec::new(),
            tables: BTreeMap::new(),
        }
    }
}

/// Reads everything.
pub(super) async fn read<D: Dial>(
    session: &mut ReplicaSession<D>,
    database: &str,
) -> Result<SourceFacts, ReplicaError> {
    // So that texts in quotes mean the same everywhere.
    session.query("SET SESSION sql_mode = ''").await?;
    let listed = VARIABLES.map(text).join(", ");
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})");
    let variables: BTreeMap<String, String> =
        session.query(&sql).await?.into_iter().filter_map(pair).collect();
    let version = variables.get("version").cloned().unwrap_or_default();
    let is_mariadb = version.contains("MariaDB");
    let flavor = if is_mariadb { BinlogFlavor::MariaDb } else { BinlogFlavor::MySql };
    let executed = executed(session, flavor).await?;
    let purged = match flavor {
        BinlogFlavor::MySql => Some(position(session, flavor, "@@GLOBAL.gtid_purged").await?),
        BinlogFlavor::MariaDb => None,
    };
    let grants = session.query("SHOW GRANTS").await?;
    let grants = grants.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    let old = flavor == BinlogFlavor::MySql && version.starts_with("5.");
    let (status, hosts) = match (flavor, old) {
        (_, true) => ("SHOW SLAVE STATUS", "SHOW SLAVE HOSTS"),
        (BinlogFlavor::MySql, false) => ("SHOW REPLICA STATUS", "SHOW REPLICAS"),
        (BinlogFlavor::MariaDb, false) => ("SHOW REPLICA STATUS", "SHOW REPLICA HOSTS"),
    };
    // The second column of the one is the host, the first of the other a number.
    let upstream = if_allowed(session.query(status).await)?.into_iter().next();
    let replicates_from = upstream.and_then(|row| row.into_iter().nth(1).flatten());
    let replicas = if_allowed(session.query(hosts).await)?;
    let replicas = replicas.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let replicas = replicas.filter_map(|id| id.parse().ok()).collect();
    let schema = text(database);
    let sql =
        format!("SELECT 1 FROM information_schema.schemata WHERE BINARY schema_name = {schema}");
    let has_database = !session.query(&sql).await?.is_empty();
    let prepared = if_allowed(session.query("XA RECOVER").await)?.len();
    let cascading = if_allowed(session.query(&cascades(&schema)).await)?;
    let cascading = cascading.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let cascading = cascading.collect();
    let tables = tables(session, &schema).await?;
    let (version, number) = named(flavor, &version);
    Ok(SourceFacts {
        flavor,
        version,
        number,
        variables,
        executed,
        purged,
        grants,
        replicates_from,
        replicas,
        has_database,
        prepared,
        cascading,
        tables,
    })
}

/// The transactions that the source has.
pub(super) async fn executed<D: Dial>(
    session: &mut ReplicaSession<D>,
    flavor: BinlogFlavor,
) -> Result<GtidPosition, ReplicaError> {
    // SHOW VARIABLES would cut long values off.
    let variable = match flavor {
        BinlogFlavor::MySql => "@@GLOBAL.gtid_executed",
        BinlogFlavor::MariaDb => "@@GLOBAL.gtid_binlog_pos",
    };
    position(session, flavor, variable).await
}

async fn position<D: Dial>(
    session: &mut ReplicaSession<D>,
    flavor: BinlogFlavor,
    variable: &str,
) -> Result<GtidPosition, ReplicaError> {
    let rows = session.query(&format!("SELECT {variable}")).await?;
    let text = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
    GtidPosition::parse(flavor, &text.unwrap_or_default())
        .map_err(|_| ReplicaError::Protocol("its position is none"))
}

async fn tables<D: Dial>(
    session: &mut ReplicaSession<D>,
    schema: &str,
) -> Result<BTreeMap<String, Vec<SourceColumn>>, ReplicaError> {
    let sql = format!(
        "SELECT c.table_name, c.column_name, c.column_type, c.character_set_name \
           FROM information_schema.columns c JOIN information_schema.tables t \
             ON t.table_schema = c.table_schema AND t.table_name = c.table_name \
          WHERE BINARY c.table_schema = {schema} AND t.table_type = 'BASE TABLE' \
          ORDER BY c.table_name, c.ordinal_position"
    );
    let mut tables: BTreeMap<String, Vec<SourceColumn>> = BTreeMap::new();
    for row in session.query(&sql).await? {
        let [Some(table), Some(name), Some(column_type), charset] =
            <[Option<String>; 4]>::try_from(row).unwrap_or_default()
        else {
            return Err(ReplicaError::Protocol("a column has no name or no type"));
        };
        tables.entry(table).or_default().push(SourceColumn { name, column_type, charset });
    }
    Ok(tables)
}

/// What the catalog says of columns, and what the server has executed then. No statement about one of the tables is
/// under way meanwhile: it waits for those who have read from a table until their transaction ends, and is executed
/// before the table may be read again.
pub(super) async fn locked_columns<D: Dial>(
    session: &mut ReplicaSession<D>,
    flavor: BinlogFlavor,
    database: &str,
) -> Result<(GtidPosition, BTreeMap<String, Vec<KnownColumn>>), ReplicaError> {
    session.query(&format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS_MAX}")).await?;
    let mut locked: BTreeMap<String, Vec<SourceColumn>> = BTreeMap::new();
    for _ in 0..LOOKS_MAX {
        session.query("START TRANSACTION READ ONLY").await?;
        for table in locked.keys() {
            let (database, table) = (name(database), name(table));
            session.query(&format!("SELECT 1 FROM {database}.{table} LIMIT 0")).await?;
        }
        let looked = executed(session, flavor).await?;
        let tables = tables(session, &text(database)).await?;
        session.query("COMMIT").await?;
        // A table that has come meanwhile was not locked.
        if tables.keys().all(|table| locked.contains_key(table)) {
            let columns = tables.into_iter().map(|(table, columns)| (table, known(&columns)));
            return Ok((looked, columns.collect()));
        }
        locked = tables;
    }
    Err(ReplicaError::Protocol("its tables are other ones each time we look"))
}

fn known(columns: &[SourceColumn]) -> Vec<KnownColumn> {
    let known = |column: &SourceColumn| {
        KnownColumn::new(&column.name, &column.column_type, column.charset.as_deref())
    };
    columns.iter().map(known).collect()
}

/// The tables whose rows follow those of others.
fn cascades(schema: &str) -> String {
    format!(
        "SELECT DISTINCT table_name FROM information_schema.referential_constraints \
          WHERE BINARY constraint_schema = {schema} AND (delete_rule NOT IN ('NO ACTION', 'RESTRICT') \
             OR update_rule NOT IN ('NO ACTION', 'RESTRICT')) ORDER BY 1"
    )
}

/// What we must not know we can do without.
fn if_allowed<T: Default>(answer: Result<T, ReplicaError>) -> Result<T, ReplicaError> {
    match answer {
        Err(ReplicaError::Server(_)) => Ok(T::default()),
        answer => answer,
    }
}

fn pair(row: Vec<Option<String>>) -> Option<(String, String)> {
    let mut cells = row.into_iter();
    Some((cells.next()??, cells.next()??))
}

/// A name in quotes.
fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as an SQL literal, where a backslash escapes.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Product and version for people, and the version as a number.
fn named(flavor: BinlogFlavor, version: &str) -> (String, u32) {
    let number = version.strip_prefix("5.5.5-").unwrap_or(version);
    let number = number.split(['-', '+', ' ']).next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let product = match flavor {
        BinlogFlavor::MySql => "MySQL",
        BinlogFlavor::MariaDb => "MariaDB",
    };
    (format!("{product} {number}"), major.saturating_mul(100).saturating_add(minor))
}

#[cfg(test)]
mod tests {
    use super::{BinlogFlavor, named, text};

    #[test]
    fn versions_are_numbers_whatever_is_around_them() {
        let of = |flavor, version| named(flavor, version);
        let mysql = of(BinlogFlavor::MySql, "5.7.44-log");
        assert_eq!(mysql, ("MySQL 5.7.44".to_owned(), 507));
        let maria = of(BinlogFlavor::MariaDb, "5.5.5-10.11.18-MariaDB-0+deb12u1-log");
        assert_eq!(maria, ("MariaDB 10.11.18".to_owned(), 1011));
    }

    #[test]
    fn texts_survive_their_quotes() {
        assert_eq!(text("it's \\"), "'it''s \\\\'");
    }
}
