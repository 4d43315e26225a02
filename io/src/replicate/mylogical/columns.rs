//! The columns of a source whose binary log does not name them.
use replicator_core::decode::binlog::step::TransactionLimits;
use replicator_core::decode::mysql_columns::{MySqlColumns, MySqlStatements};
use replicator_core::model::gtid::GtidPosition;
use tracing::info;

use super::super::trouble::Trouble;
use super::attempt::{Attempt, HEARTBEAT};
use super::trouble::trouble_of_source;
use crate::error_chain;
use crate::mysql::replica::{ReplicaError, ReplicaSession};
use crate::net::Dial;
use crate::preflight::mysql::{Columns, Facts};
use crate::source::mysql::statements;

/// The server's number of the error that a user may not read a table (MySQL documentation, "Server Error Message
/// Reference", `ER_TABLEACCESS_DENIED_ERROR`).
const TABLE_DENIED: u16 = 1142;

impl<D: Dial> Attempt<D> {
    /// Asks the catalog, and reads which statements a stream that begins after `position` has not passed yet. Returns a
    /// session for that stream as well: reading may take so long that the server ends one that does nothing.
    pub(super) async fn columns(
        &self,
        mut session: ReplicaSession<D>,
        facts: &Facts,
        position: &GtidPosition,
    ) -> Result<(ReplicaSession<D>, MySqlColumns), Trouble> {
        let Self { settings, landing, .. } = self;
        let database = &settings.source.database;
        let read = Columns::read(&mut session, facts.flavor, database).await;
        let Columns { looked, tables } = read.map_err(|error| denied(error, database))?;
        let limits = TransactionLimits::default();
        let (at, checksum) = (position.clone(), facts.checksum);
        let mut statements = MySqlStatements::new(at, looked, database, checksum, limits);
        if !statements.is_over() {
            info!("the statements of the source since the position are read before its rows");
            let of = (&self.replica(), HEARTBEAT);
            statements::read_ahead(session, of, position, &mut statements, landing.clock)
                .await
                .map_err(|error| trouble_of_source(&error))?;
            let opened = ReplicaSession::open(&landing.dial, &settings.source).await;
            session = opened.map_err(|error| {
                Trouble::settings("could not connect to source database", &error)
            })?;
        }
        Ok((session, statements.columns(tables)))
    }
}

fn denied(error: ReplicaError, database: &str) -> Trouble {
    let text = format!("the columns of the source could not be asked for: {}", error_chain(&error));
    if let ReplicaError::Server(refusal) = error
        && refusal.code == TABLE_DENIED
    {
        let fix = format!("GRANT SELECT ON `{database}`.* TO …; -- our user");
        return Trouble::Settings(format!("{text}. Run at the source: {fix}"));
    }
    Trouble::Passing(text)
}
