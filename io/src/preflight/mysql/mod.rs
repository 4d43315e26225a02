//! The same look at a MySQL or MariaDB source.
mod check;
mod facts;

use replicator_core::decode::binlog::KnownColumn;
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::dialect::Product;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::gtid::{BinlogFlavor, GtidPosition};
use replicator_core::model::ident::TableName;
use std::collections::BTreeMap;
use tokio_postgres::Client;

use self::check::Wanted;
use self::facts::SourceFacts;
use super::{Findings, PreflightError, TargetOptions, check_target, read_target};
use crate::mysql::replica::{ReplicaError, ReplicaSession};
use crate::net::Dial;

/// What the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The database of the source.
    pub database: String,
    /// `--replicationProcessID`.
    pub server_id: u32,
    /// `--fetchMetadata`.
    pub fetch_metadata: bool,
    /// What to look for in the target.
    pub target: TargetOptions,
}

/// What replication can start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose binary log it is.
    pub flavor: BinlogFlavor,
    /// Product and version.
    pub version: String,
    /// Which server it is: its UUID, or the number of a MariaDB server.
    pub server: String,
    /// The transactions that it has.
    pub executed: GtidPosition,
    /// Those of them that its binary log has no more; MariaDB does not say.
    pub purged: Option<GtidPosition>,
    /// What it adds to its events.
    pub checksum: Checksum,
    /// Whether its catalog must be asked for columns, because its binary log does not say enough of them.
    pub asks_for_columns: bool,
    /// The tables of the target schema.
    pub catalog: Catalog,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was found.
    pub findings: Findings,
    /// What to start from. `None` exactly if a finding is an error.
    pub facts: Option<Facts>,
}

/// Asks both sides and judges the answers. `target` is connected to the target database.
///
/// Changes nothing and can be repeated.
///
/// # Errors
///
/// A side could not be asked; what is wrong with its answers is a finding.
pub async fn run<D: Dial>(
    source: &mut ReplicaSession<D>,
    target: &Client,
    product: Product,
    options: &Options,
) -> Result<Report, PreflightError> {
    let (source, (target_facts, catalog)) = tokio::try_join!(
        async { Ok(Box::pin(facts::read(source, &options.database)).await?) },
        read_target(target, product, &options.target),
    )?;
    let mut findings = Vec::new();
    check::server(&source, options, &mut findings);
    check::replicas(&source, options.server_id, &mut findings);
    let wanted = Wanted { catalog: &catalog, schema: &options.target.schema.schema };
    let names: Vec<TableName> = check::tables(&source, &wanted, &mut findings);
    check_target(&target_facts, &options.target, &names, &mut findings);
    let findings = Findings::new(findings);
    let facts = (!findings.has_errors()).then(|| source.into_facts(options, catalog)).flatten();
    Ok(Report { findings, facts })
}

impl Facts {
    /// Asks once more which transactions the source has.
    ///
    /// # Errors
    ///
    /// It could not be asked.
    pub async fn look_again<D: Dial>(
        &mut self,
        source: &mut ReplicaSession<D>,
    ) -> Result<(), ReplicaError> {
        self.executed = facts::executed(source, self.flavor).await?;
        Ok(())
    }
}

/// What the catalog of a source says of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The transactions that the source had executed when it was asked; what others have changed is not shown.
    pub looked: GtidPosition,
    /// By the name of the table.
    pub tables: BTreeMap<String, Vec<KnownColumn>>,
}

impl Columns {
    /// Asks for them. Other sessions cannot change tables meanwhile.
    ///
    /// # Errors
    ///
    /// It could not be asked, or somebody else is changing a table for too long.
    pub async fn read<D: Dial>(
        source: &mut ReplicaSession<D>,
        flavor: BinlogFlavor,
        database: &str,
    ) -> Result<Self, ReplicaError> {
        let (looked, tables) = facts::locked_columns(source, flavor, database).await?;
        Ok(Self { looked, tables })
    }
}

impl SourceFacts {
    /// `None` if something is missing that a finding tells of.
    fn into_facts(self, options: &Options, catalog: Catalog) -> Option<Facts> {
        let checksum = match self.variable("binlog_checksum") {
            Some("NONE") | None => Checksum::None,
            Some(_) => Checksum::Crc32,
        };
        let fetch = options.fetch_metadata || !self.has_metadata();
        let server = match self.flavor {
            BinlogFlavor::MySql => self.variable("server_uuid")?.to_owned(),
            BinlogFlavor::MariaDb => self.variable("server_id")?.to_owned(),
        };
        let catalog = if self.tells_all() { catalog } else { catalog.with_untold_changes() };
        Some(Facts {
            flavor: self.flavor,
            version: self.version,
            server,
            executed: self.executed,
            purged: self.purged,
            checksum,
            asks_for_columns: fetch,
            catalog,
        })
    }
}
