//! Statements of a MySQL or MariaDB source, read before its rows are.
use std::time::Duration;

use replicator_core::decode::mysql_columns::MySqlStatements;
use replicator_core::decode::mysql_transaction::MySqlAssembleError;
use replicator_core::model::gtid::GtidPosition;

use super::stream::{MySqlSourceError, SILENT_HEARTBEATS};
use crate::clock::Clock;
use crate::mysql::replica::{Replica, ReplicaSession};
use crate::net::Dial;

/// How long a server may send nothing but heartbeats though it has said that there is more: it looks through old files
/// for where to begin.
const NOTHING_NEW_MAX: Duration = Duration::from_secs(600);

/// Reads a stream that begins after `position` until `statements` have all that they need. Takes as long as the server
/// needs to send that part of its log.
///
/// # Errors
///
/// See [`MySqlSourceError`].
pub async fn read_ahead<D: Dial>(
    session: ReplicaSession<D>,
    (replica, heartbeat): (&Replica, Duration),
    position: &GtidPosition,
    statements: &mut MySqlStatements,
    clock: Clock,
) -> Result<(), MySqlSourceError> {
    if statements.is_over() {
        return Ok(());
    }
    let mut events = session.stream_after(replica, heartbeat, position).await?;
    let limit = heartbeat * SILENT_HEARTBEATS;
    let mut told = clock.now();
    while !statements.is_over() {
        if !statements.is_idle() {
            told = clock.now();
        } else if told.after(NOTHING_NEW_MAX) <= clock.now() {
            return Err(MySqlSourceError::Silent { limit: NOTHING_NEW_MAX });
        }
        let silent = clock.now().after(limit);
        let event = tokio::select! {
            biased;
            event = events.next() => event?,
            () = clock.sleep_until(Some(silent)) => {
                return Err(MySqlSourceError::Silent { limit });
            }
        };
        statements.event(&event).map_err(MySqlAssembleError::from)?;
    }
    Ok(())
}
