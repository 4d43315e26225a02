//! What the target tells about our role's rights and about the staging schema.
use std::collections::BTreeMap;

use replicator_core::dialect::Product;
use replicator_core::model::ident::Quoted;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::staging::schema::StagingName;

/// The target schema and our rights in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetFacts {
    /// Whose SQL it speaks.
    pub(super) product: Product,
    /// The database we are connected to.
    pub(super) database: String,
    /// Our role.
    pub(super) role: String,
    /// Whether the target schema exists.
    pub(super) schema_exists: bool,
    /// Whether our role may use the target schema.
    pub(super) schema_usage: bool,
    /// For each table of the schema what our role lacks of [`PRIVILEGES`].
    pub(super) lacking: BTreeMap<String, Vec<&'static str>>,
    /// The staging schema, if it is to be looked at.
    pub(super) staging: Option<StagingFacts>,
}

/// The staging schema and our rights on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StagingFacts {
    /// It exists.
    Present {
        /// We may use it.
        usage: bool,
        /// We may create tables in it.
        create: bool,
    },
    /// It does not exist.
    Absent {
        /// We may create it.
        may_create: bool,
    },
}

/// What applying rows needs. TRUNCATE is not among them: it is applied as a DELETE.
pub(super) const PRIVILEGES: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Who and where we are, and our right to the schema. `$1` = the target schema.
const SCHEMA: &str = "
SELECT current_database()::TEXT AS database_name, current_user::TEXT AS role_name,
       n.oid IS NOT NULL AS schema_exists,
       COALESCE(has_schema_privilege(n.oid, 'USAGE'), false) AS schema_usage
  FROM (VALUES (1)) AS one(number)
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1::TEXT";

/// Our rights to each table of the schema. `$1` = the target schema.
const TABLES: &str = "
SELECT c.relname::TEXT AS table_name,
       has_table_privilege(c.oid, 'SELECT') AS may_select,
       has_table_privilege(c.oid, 'INSERT') AS may_insert,
       has_table_privilege(c.oid, 'UPDATE') AS may_update,
       has_table_privilege(c.oid, 'DELETE') AS may_delete
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname = $1::TEXT";

/// The staging schema in the connected database. `$1` = the staging schema.
const STAGING_HERE: &str = "
SELECT n.oid IS NOT NULL AS present,
       COALESCE(has_schema_privilege(n.oid, 'USAGE'), false) AS usage,
       COALESCE(has_schema_privilege(n.oid, 'CREATE'), false) AS may_create_tables,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema
  FROM (VALUES (1)) AS one(number)
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1::TEXT";

/// The database of a staging schema on CockroachDB. `$1` = the database.
const STAGING_DATABASE: &str = "
SELECT d.datname IS NOT NULL AS present, r.rolsuper OR r.rolcreatedb AS may_create
  FROM pg_catalog.pg_roles r
  LEFT JOIN pg_catalog.pg_database d ON d.datname = $1::TEXT
 WHERE r.rolname = current_user";

/// Reads everything. `staging` is looked at if it is in the target.
pub(super) async fn read(
    client: &Client,
    product: Product,
    schema: &str,
    staging: Option<&StagingName>,
) -> Result<TargetFacts, Error> {
    let params: &[(&(dyn ToSql + Sync), Type)] = &[(&schema, Type::TEXT)];
    let (whole, tables, staging) = tokio::try_join!(
        client.query_typed(SCHEMA, params),
        client.query_typed(TABLES, params),
        read_staging(client, staging),
    )?;
    let whole = whole.first().expect("a row per VALUES row");
    let mut lacking = BTreeMap::new();
    for row in &tables {
        let mut lacks = Vec::new();
        let columns = ["may_select", "may_insert", "may_update", "may_delete"];
        for (privilege, column) in PRIVILEGES.into_iter().zip(columns) {
            if !row.try_get::<_, bool>(column)? {
                lacks.push(privilege);
            }
        }
        lacking.insert(row.try_get("table_name")?, lacks);
    }
    Ok(TargetFacts {
        product,
        database: whole.try_get("database_name")?,
        role: whole.try_get("role_name")?,
        schema_exists: whole.try_get("schema_exists")?,
        schema_usage: whole.try_get("schema_usage")?,
        lacking,
        staging,
    })
}

async fn read_staging(
    client: &Client,
    name: Option<&StagingName>,
) -> Result<Option<StagingFacts>, Error> {
    let Some(name) = name else { return Ok(None) };
    let Some(database) = &name.database else {
        let rows = client.query_typed(STAGING_HERE, &[(&name.schema, Type::TEXT)]).await?;
        let row = rows.first().expect("a row per VALUES row");
        return Ok(Some(if row.try_get("present")? {
            StagingFacts::Present {
                usage: row.try_get("usage")?,
                create: row.try_get("may_create_tables")?,
            }
        } else {
            StagingFacts::Absent { may_create: row.try_get("may_create_schema")? }
        }));
    };
    let rows = client.query_typed(STAGING_DATABASE, &[(&database.as_str(), Type::TEXT)]).await?;
    let Some(row) = rows.first() else {
        return Ok(Some(StagingFacts::Absent { may_create: false }));
    };
    if !row.try_get::<_, bool>("present")? {
        return Ok(Some(StagingFacts::Absent { may_create: row.try_get("may_create")? }));
    }
    // CockroachDB shows the catalog of another database under its name. `$1` = the schema.
    let sql = format!(
        "SELECT 1 FROM {}.pg_catalog.pg_namespace n WHERE n.nspname = $1::TEXT",
        Quoted(database.as_str())
    );
    let rows = client.query_typed(&sql, &[(&name.schema, Type::TEXT)]).await?;
    Ok(Some(if rows.is_empty() {
        // Whoever may use the database is asked when the schema is made.
        StagingFacts::Absent { may_create: true }
    } else {
        StagingFacts::Present { usage: true, create: true }
    }))
}
