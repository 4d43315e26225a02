//! What the source tells about itself, its slots and its publications.
//!
//! Reads only; nothing is created on the source. Columns that only later majors have are read through
//! JSON. (PostgreSQL documentation, "System Views": `pg_replication_slots`, `pg_publication_tables`.)
use std::collections::BTreeMap;

use replicator_core::model::ident::TableName;
use replicator_core::model::position::Lsn;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

/// The server and the role we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerFacts {
    /// `server_version_num`.
    pub(super) version_number: i32,
    /// `wal_level`.
    pub(super) wal_level: String,
    /// Whether it is a replica.
    pub(super) in_recovery: bool,
    /// The database we are connected to.
    pub(super) database: String,
    /// Our role.
    pub(super) role: String,
    /// Whether our role may start replication.
    pub(super) may_replicate: bool,
    /// The cluster's identity.
    pub(super) system_identifier: u64,
    /// Current timeline; `None` on a replica.
    pub(super) timeline: Option<u32>,
    /// The end of its log; `None` on a replica.
    pub(super) written: Option<Lsn>,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotFacts {
    /// Its name.
    pub(super) name: String,
    /// `logical` or `physical`.
    pub(super) kind: String,
    /// The output plugin of a logical slot.
    pub(super) plugin: Option<String>,
    /// The database of a logical slot.
    pub(super) database: Option<String>,
    /// The process that reads from it.
    pub(super) active_pid: Option<i32>,
    /// What its reader has confirmed.
    pub(super) confirmed_flush: Option<Lsn>,
    /// Whether the WAL it needs is still there (13 and later).
    pub(super) wal_status: Option<String>,
    /// Why it can never be used again (17 and later).
    pub(super) invalidation_reason: Option<String>,
    /// Whether prepared transactions are sent before they commit (14 and later).
    pub(super) two_phase: bool,
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicationFacts {
    /// Its name.
    pub(super) name: String,
    /// FOR ALL TABLES.
    pub(super) all_tables: bool,
    /// Publishes inserts.
    pub(super) inserts: bool,
    /// Publishes updates.
    pub(super) updates: bool,
    /// Publishes deletes.
    pub(super) deletes: bool,
    /// Publishes TRUNCATE.
    pub(super) truncates: bool,
    /// How many tables it holds.
    pub(super) tables: i64,
}

/// A table as a publication names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublishedTable {
    /// The name its changes are sent under.
    pub(super) name: TableName,
    /// Its columns.
    pub(super) columns: Vec<PublishedColumn>,
    /// The tables that hold its rows: itself, or the leaf partitions below it.
    pub(super) carriers: Vec<Carrier>,
}

/// A column of a published table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublishedColumn {
    /// Its name.
    pub(super) name: String,
    /// Its type as SQL, with length and precision.
    pub(super) type_text: String,
    /// Refuses NULL.
    pub(super) not_null: bool,
    /// Computed from other columns.
    pub(super) generated: bool,
    /// Whether its values are sent.
    pub(super) sent: bool,
}

/// A table that holds rows. Its replica identity says what is sent of an old row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Carrier {
    /// Its name.
    pub(super) name: TableName,
    /// Its replica identity.
    pub(super) identity: Identity,
    /// Indexes that could be its replica identity.
    pub(super) indexes: Vec<CarrierIndex>,
}

/// `relreplident`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The primary key, if there is one.
    Default,
    /// The columns of an index.
    Index,
    /// All columns.
    Full,
    /// No columns.
    Nothing,
}

/// A unique index, checked at once, over whole columns that refuse NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CarrierIndex {
    /// Its name.
    pub(super) name: String,
    /// The primary key's.
    pub(super) primary: bool,
    /// Named by REPLICA IDENTITY USING INDEX.
    pub(super) identity: bool,
    /// Its columns.
    pub(super) columns: Vec<String>,
}

/// Amazon RDS lets no role have REPLICATION; membership of `rds_replication` stands for it there.
/// The timeline is that of the WAL file being written, because `pg_control_checkpoint` shows the old
/// one until the first checkpoint after a promotion.
const SERVER: &str = "
SELECT current_setting('server_version_num')::INT4 AS version_number,
       current_setting('wal_level') AS wal_level,
       pg_is_in_recovery() AS in_recovery,
       current_database()::TEXT AS database_name,
       current_user::TEXT AS role_name,
       r.rolsuper OR r.rolreplication OR EXISTS (
           SELECT 1 FROM pg_catalog.pg_roles m
            WHERE m.rolname = 'rds_replication' AND pg_has_role(m.oid, 'MEMBER')) AS may_replicate,
       s.system_identifier AS system_identifier,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::BIT(32)::INT8
       END AS timeline,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::TEXT END AS written
  FROM pg_catalog.pg_roles r
 CROSS JOIN pg_catalog.pg_control_system() s
 WHERE r.rolname = current_user";

/// All slots, so that a misspelled name can be told what there is.
const SLOTS: &str = "
SELECT s.slot_name::TEXT AS slot_name, s.slot_type::TEXT AS slot_type, s.plugin::TEXT AS plugin,
       s.database::TEXT AS database_name, s.active_pid AS active_pid,
       s.confirmed_flush_lsn::TEXT AS confirmed_flush,
       to_jsonb(s) ->> 'wal_status' AS wal_status,
       to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason,
       COALESCE((to_jsonb(s) ->> 'two_phase')::BOOL, false) AS two_phase
  FROM pg_catalog.pg_replication_slots s
 ORDER BY s.slot_name";

/// The first version whose pgoutput can send generated columns. Those from 15 on already count them
/// in the column list. (`logicalrep_should_publish_column` in the server's proto.c.)
const SENDS_GENERATED: i32 = 180_000;

/// All publications of the database.
const PUBLICATIONS: &str = "
SELECT p.pubname::TEXT AS publication_name, p.puballtables AS all_tables, p.pubinsert AS inserts,
       p.pubupdate AS updates, p.pubdelete AS deletes, p.pubtruncate AS truncates,
       (SELECT count(*)
          FROM pg_catalog.pg_publication_tables t
         WHERE t.pubname = p.pubname) AS tables
  FROM pg_catalog.pg_publication p
 ORDER BY p.pubname";

/// The tables of a publication with their columns, one row per column. `$1` = the publication.
///
/// `attnames` is the column list (15 and later). OFFSET 0 keeps the slow conversion to JSON at once
/// per table. A generated column has an entry among the defaults.
const COLUMNS: &str = "
WITH published AS (
    SELECT c.oid AS table_oid, t.schemaname, t.tablename, to_jsonb(t) -> 'attnames' AS attnames
      FROM pg_catalog.pg_publication_tables t
      JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
     WHERE t.pubname = $1::TEXT
    OFFSET 0
)
SELECT p.schemaname::TEXT AS table_schema, p.tablename::TEXT AS table_name,
       a.attname::TEXT AS column_name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_text,
       a.attnotnull AS not_null,
       CASE WHEN a.atthasdef THEN COALESCE(to_jsonb(a) ->> 'attgenerated', '') <> ''
            ELSE false END AS generated,
       COALESCE(p.attnames ? a.attname::TEXT, true) AS listed
  FROM published p
  LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid = p.table_oid AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY p.schemaname, p.tablename, a.attnum";

/// The tables that hold the rows of a publication's tables, one row for each index that could be their
/// replica identity. `$1` = the publication.
///
/// A partitioned table holds no rows, and its replica identity counts for nothing: that of each
/// partition does (PostgreSQL documentation, ALTER TABLE, REPLICA IDENTITY). What an index must be like
/// is said there too.
const CARRIERS: &str = "
WITH RECURSIVE carrier AS (
    SELECT c.oid AS root_oid, c.oid AS carrier_oid, c.relkind
      FROM pg_catalog.pg_publication_tables t
      JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
     WHERE t.pubname = $1::TEXT
    UNION ALL
    SELECT k.root_oid, c.oid, c.relkind
      FROM carrier k
      JOIN pg_catalog.pg_inherits i ON i.inhparent = k.carrier_oid
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
     WHERE k.relkind = 'p'
)
SELECT rn.nspname::TEXT AS root_schema, r.relname::TEXT AS root_table,
       n.nspname::TEXT AS carrier_schema, c.relname::TEXT AS carrier_table,
       c.relreplident::TEXT AS identity, ix.relname::TEXT AS index_name,
       i.indisprimary AS is_primary, i.indisreplident AS is_identity,
       ARRAY(SELECT a.attname::TEXT
               FROM unnest(i.indkey) WITH ORDINALITY AS x(attnum, ord)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.attnum
              WHERE x.ord <= i.indnkeyatts
              ORDER BY x.ord) AS columns
  FROM carrier k
  JOIN pg_catalog.pg_class r ON r.oid = k.root_oid
  JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
  JOIN pg_catalog.pg_class c ON c.oid = k.carrier_oid AND c.relkind = 'r'
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index i
    ON i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
   AND i.indpred IS NULL AND i.indexprs IS NULL
   AND NOT EXISTS (SELECT 1
                     FROM unnest(i.indkey) WITH ORDINALITY AS x(attnum, ord)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.attnum
                    WHERE x.ord <= i.indnkeyatts AND NOT a.attnotnull)
  LEFT JOIN pg_catalog.pg_class ix ON ix.oid = i.indexrelid
 ORDER BY rn.nspname, r.relname, n.nspname, c.relname, ix.relname";

/// What can be asked before a publication is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceFacts {
    /// The server.
    pub(super) server: ServerFacts,
    /// Its slots, of all databases.
    pub(super) slots: Vec<SlotFacts>,
    /// Its publications in this database.
    pub(super) publications: Vec<PublicationFacts>,
}

/// Reads what does not depend on the publication.
pub(super) async fn read(client: &Client) -> Result<SourceFacts, Error> {
    let (server, slots, publications) = tokio::try_join!(
        client.query_typed(SERVER, &[]),
        client.query_typed(SLOTS, &[]),
        client.query_typed(PUBLICATIONS, &[]),
    )?;
    // `current_user` is always a role.
    let server = server.first().expect("the current role is in pg_roles");
    Ok(SourceFacts {
        server: read_server(server)?,
        slots: slots.iter().map(read_slot).collect::<Result<_, _>>()?,
        publications: publications.iter().map(read_publication).collect::<Result<_, _>>()?,
    })
}

/// Reads what `read` tells of the server, again.
pub(super) async fn read_server_now(client: &Client) -> Result<ServerFacts, Error> {
    let rows = client.query_typed(SERVER, &[]).await?;
    read_server(rows.first().expect("the current role is in pg_roles"))
}

/// Reads the tables of a publication.
pub(super) async fn read_tables(
    client: &Client,
    server: &ServerFacts,
    publication: &str,
) -> Result<Vec<PublishedTable>, Error> {
    let params: &[(&(dyn ToSql + Sync), Type)] = &[(&publication, Type::TEXT)];
    let (columns, carriers) = tokio::try_join!(
        client.query_typed(COLUMNS, params),
        client.query_typed(CARRIERS, params)
    )?;
    let mut tables: BTreeMap<TableName, PublishedTable> = BTreeMap::new();
    for row in &columns {
        let name = name_of(row, "table_schema", "table_name")?;
        let table = tables.entry(name.clone()).or_insert_with(|| PublishedTable {
            name,
            columns: Vec::new(),
            carriers: Vec::new(),
        });
        if let Some(column_name) = row.try_get("column_name")? {
            let (generated, listed): (bool, bool) =
                (row.try_get("generated")?, row.try_get("listed")?);
            table.columns.push(PublishedColumn {
                name: column_name,
                type_text: row.try_get("type_text")?,
                not_null: row.try_get("not_null")?,
                generated,
                sent: listed && (!generated || server.version_number >= SENDS_GENERATED),
            });
        }
    }
    for row in &carriers {
        // A table that only one of the answers knows was made or dropped in between.
        if let Some(table) = tables.get_mut(&name_of(row, "root_schema", "root_table")?) {
            read_carrier(row, &mut table.carriers)?;
        }
    }
    Ok(tables.into_values().collect())
}

fn read_server(row: &Row) -> Result<ServerFacts, Error> {
    let system_identifier: i64 = row.try_get("system_identifier")?;
    let timeline: Option<i64> = row.try_get("timeline")?;
    let written: Option<&str> = row.try_get("written")?;
    Ok(ServerFacts {
        version_number: row.try_get("version_number")?,
        wal_level: row.try_get("wal_level")?,
        in_recovery: row.try_get("in_recovery")?,
        database: row.try_get("database_name")?,
        role: row.try_get("role_name")?,
        may_replicate: row.try_get("may_replicate")?,
        // The server keeps 64 bits without a sign and shows them as bigint here.
        system_identifier: system_identifier.cast_unsigned(),
        timeline: timeline.and_then(|timeline| u32::try_from(timeline).ok()),
        written: written.and_then(|text| text.parse().ok()),
    })
}

fn read_slot(row: &Row) -> Result<SlotFacts, Error> {
    let confirmed_flush: Option<&str> = row.try_get("confirmed_flush")?;
    Ok(SlotFacts {
        name: row.try_get("slot_name")?,
        kind: row.try_get("slot_type")?,
        plugin: row.try_get("plugin")?,
        database: row.try_get("database_name")?,
        active_pid: row.try_get("active_pid")?,
        confirmed_flush: confirmed_flush.and_then(|text| text.parse().ok()),
        wal_status: row.try_get("wal_status")?,
        invalidation_reason: row.try_get("invalidation_reason")?,
        two_phase: row.try_get("two_phase")?,
    })
}

fn read_publication(row: &Row) -> Result<PublicationFacts, Error> {
    Ok(PublicationFacts {
        name: row.try_get("publication_name")?,
        all_tables: row.try_get("all_tables")?,
        inserts: row.try_get("inserts")?,
        updates: row.try_get("updates")?,
        deletes: row.try_get("deletes")?,
        truncates: row.try_get("truncates")?,
        tables: row.try_get("tables")?,
    })
}

/// Adds the row's table, unless the row before was of the same one, and its index.
fn read_carrier(row: &Row, carriers: &mut Vec<Carrier>) -> Result<(), Error> {
    let name = name_of(row, "carrier_schema", "carrier_table")?;
    let identity: &str = row.try_get("identity")?;
    if carriers.last().is_none_or(|carrier| carrier.name != name) {
        let identity = match identity {
            "f" => Identity::Full,
            "i" => Identity::Index,
            "n" => Identity::Nothing,
            _ => Identity::Default,
        };
        carriers.push(Carrier { name, identity, indexes: Vec::new() });
    }
    if let (Some(carrier), Some(index_name)) = (carriers.last_mut(), row.try_get("index_name")?) {
        carrier.indexes.push(CarrierIndex {
            name: index_name,
            primary: row.try_get("is_primary")?,
            identity: row.try_get("is_identity")?,
            columns: row.try_get("columns")?,
        });
    }
    Ok(())
}

fn name_of(row: &Row, schema: &str, table: &str) -> Result<TableName, Error> {
    Ok(TableName::new(row.try_get(schema)?, row.try_get(table)?))
}
