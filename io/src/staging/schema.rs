//! The staging tables: their names, and how they are made.
//!
//! `memo`, `checkpoints`, `leases`, `jwt_public_keys` and `jwt_revoked_ids` are documented tables of the
//! older tool, so that its installations resume. The others are ours:
//!
//! | table | holds |
//! |---|---|
//! | `replicator_fences` | the number of the newest run of each stream |
//! | `replicator_applied` | which runs of source transactions are in the target beyond the checkpoint |
//! | `replicator_applied_gtids` | the same by name, for sources whose positions are sets of GTIDs |
//! | `replicator_staging_tables` | which staging table the rows of a target table are in |
//! | `replicator_layouts` | the columns of staged rows |
//! | `replicator_newest` | the newest time that was ever staged of each row |
use replicator_core::dialect::Product;
use replicator_core::model::ident::Quoted;
use thiserror::Error;
use tokio_postgres::Client;

/// The staging schema as the flag names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagingName {
    /// The database, if there is one to name: CockroachDB only.
    pub database: Option<String>,
    /// The schema.
    pub schema: String,
}

impl StagingName {
    /// Reads the parts of `--stagingSchema`. One part is a database with the schema `public` on
    /// CockroachDB, and a schema of the connected database on PostgreSQL, which cannot reach another.
    /// Two parts are database and schema; on PostgreSQL the first must be `connected`, except for the
    /// default `_replicator.public`, which becomes the schema `_replicator`.
    ///
    /// # Errors
    ///
    /// See [`StagingNameError`].
    pub fn resolve(
        parts: &[String],
        product: Product,
        connected: &str,
    ) -> Result<Self, StagingNameError> {
        match (product, parts) {
            (Product::Cockroach, [database]) => {
                Ok(Self { database: Some(database.clone()), schema: "public".to_owned() })
            }
            (Product::Cockroach, [database, schema]) => {
                Ok(Self { database: Some(database.clone()), schema: schema.clone() })
            }
            (Product::Postgres, [schema]) => Ok(Self { database: None, schema: schema.clone() }),
            (Product::Postgres, [database, schema]) if database == connected => {
                Ok(Self { database: None, schema: schema.clone() })
            }
            (Product::Postgres, [database, schema])
                if database == "_replicator" && schema == "public" =>
            {
                Ok(Self { database: None, schema: database.clone() })
            }
            (Product::Postgres, [database, _]) => Err(StagingNameError::OtherDatabase {
                named: database.clone(),
                connected: connected.to_owned(),
            }),
            (Product::Postgres | Product::Cockroach, _) => Err(StagingNameError::Parts),
        }
    }

    /// A table of the schema, qualified and quoted.
    #[must_use]
    pub fn table(&self, name: &str) -> String {
        format!("{self}.{}", Quoted(name))
    }

    /// What goes before the names of catalog tables: CockroachDB shows the catalog of another database
    /// under its name.
    pub(super) fn catalog(&self) -> String {
        let database = self.database.as_ref();
        database.map(|database| format!("{}.", Quoted(database))).unwrap_or_default()
    }
}

impl std::fmt::Display for StagingName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(database) = &self.database {
            write!(f, "{}.", Quoted(database))?;
        }
        write!(f, "{}", Quoted(&self.schema))
    }
}

/// The staging schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StagingNameError {
    /// Not one or two parts.
    #[error("--stagingSchema must be one name or database.schema")]
    Parts,
    /// PostgreSQL reaches only the database it is connected to.
    #[error(
        "--stagingSchema names database \"{named}\", but on PostgreSQL the staging schema must be in \
         the connected database \"{connected}\"; give the schema alone"
    )]
    OtherDatabase {
        /// What the flag says.
        named: String,
        /// What the connection says.
        connected: String,
    },
}

/// The staging schema could not be prepared.
#[derive(Debug, Error)]
pub enum StagingSchemaError {
    /// It is not there and we were not asked to make it.
    #[error(
        "staging schema {name} does not exist; run once with --stagingCreateSchema, or run: {fix}"
    )]
    Missing {
        /// Its name.
        name: String,
        /// The SQL that makes it.
        fix: String,
    },
    /// The database refused.
    #[error("could not prepare staging schema {name}")]
    Query {
        /// Its name.
        name: String,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// Checks that the schema is there, makes it if asked to, and makes the tables that are missing.
/// Repeating it changes nothing.
///
/// # Errors
///
/// See [`StagingSchemaError`].
pub async fn prepare(
    client: &Client,
    name: &StagingName,
    create: bool,
) -> Result<(), StagingSchemaError> {
    let failed = |source| StagingSchemaError::Query { name: name.to_string(), source };
    if !exists(client, name).await.map_err(failed)? {
        let mut fix = String::new();
        if let Some(database) = &name.database {
            fix.push_str(&format!("CREATE DATABASE IF NOT EXISTS {};", Quoted(database)));
        }
        fix.push_str(&format!("CREATE SCHEMA IF NOT EXISTS {name};"));
        if !create {
            return Err(StagingSchemaError::Missing { name: name.to_string(), fix });
        }
        for statement in fix.split_inclusive(';') {
            client.batch_execute(statement).await.map_err(failed)?;
        }
    }
    make(client, name, &TABLES).await?;
    // The older tool refuses a schema without these marks, so write them where it would.
    let marks = format!(
        "INSERT INTO {memo} (key, value) \
         SELECT 'version-' || pr, '{{\"state\":\"applied\"}}'::BYTEA \
           FROM unnest(ARRAY['400', '389', '572', '828']) AS v(pr) \
          WHERE NOT EXISTS (SELECT 1 FROM {memo}) \
         ON CONFLICT (key) DO NOTHING",
        memo = name.table("memo"),
    );
    client.batch_execute(&marks).await.map_err(failed)
}

/// Does what [`prepare`] does, and makes the tables for staged rows of changefeeds, except those for the
/// rows themselves: [`PgRows`](super::rows::PgRows) makes each when it is needed.
///
/// # Errors
///
/// See [`StagingSchemaError`].
pub async fn prepare_rows(
    client: &Client,
    name: &StagingName,
    product: Product,
    create: bool,
) -> Result<(), StagingSchemaError> {
    prepare(client, name, create).await?;
    // Keys compare as bytes everywhere. Room on each page lets a row change in its place.
    let (collation, room) = match product {
        Product::Postgres => (" COLLATE \"C\"", ") WITH (fillfactor = 70"),
        Product::Cockroach => ("", ""),
    };
    let newest = format!(
        "staging_table INT8 NOT NULL, key TEXT{collation} NOT NULL, nanos INT8 NOT NULL, \
         logical INT8 NOT NULL, PRIMARY KEY (staging_table, key){room}"
    );
    // PostgreSQL before 13 has no other way to make a UUID. These need to differ, not to be secret.
    let uuid = match product {
        Product::Postgres => "md5(random()::TEXT || clock_timestamp()::TEXT)::UUID",
        Product::Cockroach => "gen_random_uuid()",
    };
    let keys = format!(
        "id UUID PRIMARY KEY DEFAULT {uuid}, public_key TEXT NOT NULL, \
         active BOOL NOT NULL DEFAULT true"
    );
    let [checkpoints, tables, layouts, revoked] = ROW_TABLES;
    let newest = ("replicator_newest", newest.as_str());
    let keys = (PUBLIC_KEYS, keys.as_str());
    make(client, name, &[checkpoints, tables, layouts, newest, keys, revoked]).await?;
    prepare_leases(client, name).await
}

/// Makes the table of leases, by which replicators that share the schema take turns.
///
/// # Errors
///
/// See [`StagingSchemaError`].
pub async fn prepare_leases(client: &Client, name: &StagingName) -> Result<(), StagingSchemaError> {
    make(client, name, &[(LEASES, LEASE_COLUMNS)]).await?;
    name_holders(client, name).await.map_err(|source| {
        let name = name.to_string();
        StagingSchemaError::Query { name, source }
    })
}

/// An old table of leases does not say which machine has one.
async fn name_holders(client: &Client, name: &StagingName) -> Result<(), tokio_postgres::Error> {
    // `$1` = schema, `$2` = table.
    let known = format!(
        "SELECT 1 FROM {}information_schema.columns \
          WHERE table_schema = $1 AND table_name = $2 AND column_name = 'hostname'",
        name.catalog()
    );
    if client.query_opt(&known, &[&name.schema, &LEASES]).await?.is_none() {
        let add = "ADD COLUMN IF NOT EXISTS hostname TEXT NOT NULL DEFAULT ''";
        client.batch_execute(&format!("ALTER TABLE {} {add}", name.table(LEASES))).await?;
    }
    Ok(())
}

/// `CREATE TABLE` takes a lock and needs a right even where the table exists, so ask first.
async fn make(
    client: &Client,
    name: &StagingName,
    wanted: &[(&str, &str)],
) -> Result<(), StagingSchemaError> {
    let failed = |source| StagingSchemaError::Query { name: name.to_string(), source };
    let had = tables(client, name).await.map_err(failed)?;
    for (table, columns) in wanted {
        if !had.iter().any(|name| name == table) {
            let sql = format!("CREATE TABLE IF NOT EXISTS {} ({columns})", name.table(table));
            client.batch_execute(&sql).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Public keys of those who may bring rows.
pub(crate) const PUBLIC_KEYS: &str = "jwt_public_keys";

/// Ids of tokens that are void.
pub(crate) const REVOKED_IDS: &str = "jwt_revoked_ids";

/// Who works on a target schema. Times are in UTC.
pub(super) const LEASES: &str = "leases";

const ROW_TABLES: [(&str, &str); 4] = [
    (
        "checkpoints",
        "group_name TEXT NOT NULL, source_hlc DECIMAL NOT NULL, partition TEXT NOT NULL, \
         first_seen TIMESTAMPTZ NOT NULL DEFAULT now(), target_applied_at TIMESTAMPTZ, \
         PRIMARY KEY (group_name, source_hlc, partition)",
    ),
    (
        "replicator_staging_tables",
        "number INT8 PRIMARY KEY, stream TEXT NOT NULL, target_table TEXT NOT NULL, \
         staging_table TEXT NOT NULL UNIQUE, ready BOOL NOT NULL DEFAULT false, \
         UNIQUE (stream, target_table)",
    ),
    (
        "replicator_layouts",
        "staging_table INT8 NOT NULL, number INT8 NOT NULL, names BYTEA NOT NULL, \
         PRIMARY KEY (staging_table, number)",
    ),
    (REVOKED_IDS, "id TEXT PRIMARY KEY"),
];

const LEASE_COLUMNS: &str = "name TEXT PRIMARY KEY, expires TIMESTAMP NOT NULL, nonce UUID NOT NULL, \
         hostname TEXT NOT NULL";

const TABLES: [(&str, &str); 4] = [
    ("memo", "key TEXT PRIMARY KEY, value BYTEA NOT NULL"),
    (
        "replicator_fences",
        "stream TEXT PRIMARY KEY, fence INT8 NOT NULL, since TIMESTAMPTZ NOT NULL DEFAULT now()",
    ),
    (
        "replicator_applied",
        "stream TEXT NOT NULL, fence INT8 NOT NULL, first_tx INT8 NOT NULL, after_position TEXT, \
         through_position TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now(), \
         CONSTRAINT replicator_applied_pkey PRIMARY KEY (stream, fence, first_tx)",
    ),
    (
        "replicator_applied_gtids",
        "stream TEXT NOT NULL, fence INT8 NOT NULL, first_tx INT8 NOT NULL, gtids TEXT NOT NULL, \
         through_position TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now(), \
         CONSTRAINT replicator_applied_gtids_pkey PRIMARY KEY (stream, fence, first_tx)",
    ),
];

/// `$1` = schema.
async fn exists(client: &Client, name: &StagingName) -> Result<bool, tokio_postgres::Error> {
    if let Some(database) = &name.database {
        let known = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1";
        if client.query_opt(known, &[database]).await?.is_none() {
            return Ok(false);
        }
    }
    let sql = format!("SELECT 1 FROM {}pg_catalog.pg_namespace WHERE nspname = $1", name.catalog());
    Ok(client.query_opt(&sql, &[&name.schema]).await?.is_some())
}

/// The tables of the schema. `$1` = schema.
pub(super) async fn tables(
    client: &Client,
    name: &StagingName,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let catalog = name.catalog();
    let sql = format!(
        "SELECT c.relname::TEXT FROM {catalog}pg_catalog.pg_class c \
           JOIN {catalog}pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = $1 AND c.relkind = 'r'"
    );
    let rows = client.query(&sql, &[&name.schema]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::{Product, StagingName, StagingNameError};

    fn resolve(text: &str, product: Product) -> Result<String, StagingNameError> {
        let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        StagingName::resolve(&parts, product, "app").map(|name| name.to_string())
    }

    #[test]
    fn one_and_two_part_names_mean_what_each_product_can_do() {
        let of = |text, product| resolve(text, product).unwrap();
        assert_eq!(of("_replicator", Product::Cockroach), r#""_replicator"."public""#);
        assert_eq!(of("defaultdb._replicator", Product::Cockroach), r#""defaultdb"."_replicator""#);
        assert_eq!(of("_replicator", Product::Postgres), r#""_replicator""#);
        assert_eq!(of("app._replicator", Product::Postgres), r#""_replicator""#);
        assert_eq!(of("_replicator.public", Product::Postgres), r#""_replicator""#);
    }

    #[test]
    fn another_database_of_postgresql_is_refused() {
        let error = resolve("other._replicator", Product::Postgres).unwrap_err();
        assert!(error.to_string().contains("\"other\""), "{error}");
        assert_eq!(resolve("a.b.c", Product::Postgres), Err(StagingNameError::Parts));
    }
}
