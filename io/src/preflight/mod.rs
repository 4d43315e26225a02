//! Looks before we leap: what stands in the way of replication, all of it at once, with the SQL that
//! clears it.
//!
//! ```text
//! source, target ──► facts (queries) ──► check (pure) ──► findings
//! ```
//!
//! Reads only. Nothing is created on the source, ever; the staging schema is made elsewhere.
mod check;
mod finding;
pub mod mysql;
mod source;
mod target;

use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::{SchemaName, TableName};
use replicator_core::model::position::Lsn;
use thiserror::Error;
use tokio_postgres::Client;

pub use self::finding::{Finding, Findings, Fix, Severity, Side};
use self::target::TargetFacts;
use crate::mysql::replica::ReplicaError;
use crate::staging::schema::StagingName;
use crate::target::catalog::{self, CatalogError};
use crate::target::product::{self, ProductError};

/// What the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--slotName`.
    pub slot: String,
    /// `--publicationName`; without it the only publication that holds tables is taken.
    pub publication: Option<String>,
    /// What to look for in the target.
    pub target: TargetOptions,
}

/// What is wanted of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOptions {
    /// `--targetSchema`: every table is expected there, whatever its schema on the source.
    pub schema: SchemaName,
    /// The staging schema, if it is in the target.
    pub staging: Option<StagingOptions>,
    /// Longest wait for the answers of one side.
    pub answer_limit: Duration,
}

/// Where the staging schema is, and whether it may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagingOptions {
    /// `--stagingSchema`, as the target understands it.
    pub name: StagingName,
    /// `--stagingCreateSchema`.
    pub create: bool,
}

/// What replication can start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The source's version in its own words.
    pub source_version: String,
    /// The source's `server_version_num`.
    pub source_version_number: i32,
    /// The source cluster's identity.
    pub system_identifier: u64,
    /// The source's current timeline.
    pub timeline: u32,
    /// The end of the source's log: no position is beyond it.
    pub written: Lsn,
    /// The source database.
    pub source_database: String,
    /// The publication to stream.
    pub publication: String,
    /// What the slot's reader has confirmed: streaming starts there at the earliest.
    pub confirmed_flush: Lsn,
    /// The tables of the target schema.
    pub catalog: Catalog,
}

/// The outcome of a preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was found.
    pub findings: Findings,
    /// What to start from. `None` exactly if a finding is an error.
    pub facts: Option<Facts>,
}

/// The questions could not be asked.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// A server refused a question.
    #[error("could not read what the {side} says about itself")]
    Query {
        /// Which server.
        side: Side,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A server did not answer in time.
    #[error("the {side} did not answer within {} s", limit.as_secs_f64())]
    TimedOut {
        /// Which server.
        side: Side,
        /// How long we waited.
        limit: Duration,
    },
    /// The source is none we know.
    #[error("cannot replicate from this source")]
    SourceProduct(#[source] ProductError),
    /// The source is CockroachDB.
    #[error("the source is {version}; this command replicates from PostgreSQL")]
    NotPostgres {
        /// What it says it is.
        version: String,
    },
    /// A MySQL or MariaDB source refused a question, or did not answer.
    #[error("could not read what the source says about itself")]
    Session(#[from] ReplicaError),
    /// The target's tables could not be read.
    #[error("could not read the target's tables")]
    Catalog(#[from] CatalogError),
}

/// Asks both sides and judges the answers. `target` is connected to the target database.
///
/// Changes nothing and can be repeated. Dropping the future leaves questions running on the servers;
/// the connections can be used once they are through.
///
/// # Errors
///
/// A side could not be asked; what is wrong with its answers is a finding.
///
/// # Panics
///
/// Something to start from is missing and no check of ours has reported it.
pub async fn run(
    source: &Client,
    target: &Client,
    product: Product,
    options: &Options,
) -> Result<Report, PreflightError> {
    let schema = options.target.schema.schema.as_str();
    let limit = options.target.answer_limit;
    let (server, source_facts, (target_facts, catalog)) = tokio::try_join!(
        Box::pin(version(source, limit)),
        answer(Side::Source, limit, Box::pin(source::read(source))),
        read_target(target, product, &options.target),
    )?;

    let mut findings = Vec::new();
    check::server::server(&source_facts.server, &mut findings);
    let wanted = options.publication.as_deref();
    let publication = check::server::publication(&source_facts.publications, wanted, &mut findings);
    let slot = check::server::slot(&source_facts, &options.slot, &mut findings);
    let mut names: Vec<TableName> = Vec::new();
    if let Some(publication) = publication {
        let tables = source::read_tables(source, &source_facts.server, &publication.name);
        let tables = answer(Side::Source, limit, Box::pin(tables)).await?;
        names.extend(tables.iter().map(|table| check::tables::mapped(table, schema)));
        let expected = check::tables::Expected { catalog: &catalog, product, schema };
        check::tables::tables(publication, &tables, expected, &mut findings);
    }
    check_target(&target_facts, &options.target, &names, &mut findings);

    let findings = Findings::new(findings);
    let source_server = source_facts.server.clone();
    let found = publication.zip(slot.and_then(|slot| slot.confirmed_flush));
    let primary = source_server.timeline.zip(source_server.written);
    let facts = found.zip(primary).filter(|_| !findings.has_errors());
    let facts = facts.map(|((publication, confirmed_flush), (timeline, written))| Facts {
        source_version: server,
        source_version_number: source_server.version_number,
        system_identifier: source_server.system_identifier,
        timeline,
        written,
        source_database: source_server.database,
        publication: publication.name.clone(),
        confirmed_flush,
        catalog,
    });
    assert!(
        facts.is_some() || findings.has_errors(),
        "something is missing and no finding says what"
    );
    Ok(Report { findings, facts })
}

/// Asks the target.
async fn read_target(
    target: &Client,
    product: Product,
    options: &TargetOptions,
) -> Result<(TargetFacts, Catalog), PreflightError> {
    let (schema, limit) = (options.schema.schema.as_str(), options.answer_limit);
    let staging = options.staging.as_ref().map(|staging| &staging.name);
    // Boxed, or the future of this function is carried around with all of theirs inside.
    let facts = Box::pin(target::read(target, product, schema, staging));
    let catalog = Box::pin(catalog::load(target, product, schema));
    tokio::try_join!(answer(Side::Target, limit, facts), async {
        let late = |_| PreflightError::TimedOut { side: Side::Target, limit };
        Ok(tokio::time::timeout(limit, catalog).await.map_err(late)??)
    })
}

/// Judges what the target says. Rows will come for `wanted`.
fn check_target(
    facts: &TargetFacts,
    options: &TargetOptions,
    wanted: &[TableName],
    findings: &mut Vec<Finding>,
) {
    check::target::rights(facts, &options.schema, wanted, findings);
    if let Some(staging) = &options.staging {
        check::target::staging(facts, &staging.name, staging.create, findings);
    }
}

/// Where the source's log ends now; `None` on a replica.
///
/// # Errors
///
/// The question failed, or was not answered within `limit`.
pub async fn written(source: &Client, limit: Duration) -> Result<Option<Lsn>, PreflightError> {
    Ok(answer(Side::Source, limit, source::read_server_now(source)).await?.written)
}

/// The source's version; it must be a PostgreSQL.
async fn version(source: &Client, limit: Duration) -> Result<String, PreflightError> {
    let late = |_| PreflightError::TimedOut { side: Side::Source, limit };
    let server = tokio::time::timeout(limit, product::detect(source)).await.map_err(late)?;
    let server = server.map_err(PreflightError::SourceProduct)?;
    match server.product {
        Product::Postgres => Ok(server.version),
        Product::Cockroach => Err(PreflightError::NotPostgres { version: server.version }),
    }
}

/// Waits for the answers of one side.
async fn answer<T>(
    side: Side,
    limit: Duration,
    answers: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, PreflightError> {
    match tokio::time::timeout(limit, answers).await {
        Ok(answers) => answers.map_err(|source| PreflightError::Query { side, source }),
        Err(_) => Err(PreflightError::TimedOut { side, limit }),
    }
}
