//! What one stream from an ordered source needs to know, as plain values.
use std::time::Duration;

use replicator_core::Config;
use replicator_core::decode::binlog::NoDates;
use replicator_core::decode::pg_transaction::TruncatePolicy;
use replicator_core::model::ident::SchemaName;

use crate::mysql::conninfo::MySqlConnInfo;
use crate::pg::conninfo::ConnInfo;
use crate::pool::PoolLimits;

/// Good for [`ForwardSettings::piece_bytes_max`]: it keeps a target busy and is a small part of what may be
/// held.
pub const PIECE_BYTES_MAX: usize = 2 << 20;

/// What all sources with an order need: where rows go, and how.
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// The target.
    pub target: ConnInfo,
    /// The staging database if it is not the target.
    pub staging: Option<ConnInfo>,
    /// Where rows go; `None` is the schema `public` of the target database.
    pub target_schema: Option<SchemaName>,
    /// The staging schema: one or two parts, whose meaning depends on the product.
    pub staging_schema: Vec<String>,
    /// Whether to make the staging schema if it is missing.
    pub staging_create: bool,
    /// Limits and delays of the machine.
    pub core: Config,
    /// A source transaction that is larger than this is applied in pieces of about this size, in bytes of
    /// rows.
    pub piece_bytes_max: usize,
    /// What to do when the source truncates a table.
    pub truncate: TruncatePolicy,
    /// Longest time for one target transaction.
    pub apply_timeout: Duration,
    /// The dead-letter table in the target schema.
    pub dlq_table: String,
    /// How often to read the target's tables again; `None` is never.
    pub schema_refresh: Option<Duration>,
    /// Connections to the target.
    pub target_pool: PoolLimits,
    /// Connections to the staging database.
    pub staging_pool: PoolLimits,
}

/// What `pglogical` needs.
#[derive(Clone, Debug)]
pub struct PgLogicalSettings {
    /// The source, the primary.
    pub source: ConnInfo,
    /// The replication slot.
    pub slot: String,
    /// The publication; `None` is the only one of the database.
    pub publication: Option<String>,
    /// How often the source is told what is safe.
    pub standby_timeout: Duration,
    /// Where rows go.
    pub forward: ForwardSettings,
}

/// What `mylogical` needs.
#[derive(Clone, Debug)]
pub struct MyLogicalSettings {
    /// The source, the primary.
    pub source: MySqlConnInfo,
    /// Our number among the servers of the source's topology.
    pub server_id: u32,
    /// Which transactions the target has, if no position is saved: a set of GTIDs, or MariaDB's position.
    pub default_gtids: Option<String>,
    /// Whether to ask the source how columns are called.
    pub fetch_metadata: bool,
    /// What becomes of dates that no calendar has.
    pub zero_dates: NoDates,
    /// Where rows go.
    pub forward: ForwardSettings,
}

impl ForwardSettings {
    /// The target schema as metrics and logs name it: `database.schema`.
    #[must_use]
    pub fn schema_label(&self) -> String {
        let schema = self.target_schema.as_ref();
        let database = schema.and_then(|schema| schema.database.as_ref());
        let database = database.unwrap_or(&self.target.database);
        format!("{database}.{}", schema.map_or("public", |schema| &schema.schema))
    }
}
