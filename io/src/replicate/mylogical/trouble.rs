//! What may go wrong with a MySQL or MariaDB source, by whether trying again is of use.
use replicator_core::decode::mysql_transaction::MySqlAssembleError;

use super::super::trouble::Trouble;
use crate::error_chain;
use crate::source::mysql::stream::MySqlSourceError;

/// Drift is over as soon as the operator has acted, so it is tried again, with the target's tables as they are then.
/// What the binary log does not have, it will never have.
pub(super) fn trouble_of_source(error: &MySqlSourceError) -> Trouble {
    let text = error_chain(error);
    match error {
        MySqlSourceError::Assemble(error) => match error {
            MySqlAssembleError::Drift(_)
            | MySqlAssembleError::ColumnTwice { .. }
            | MySqlAssembleError::ColumnsOutdated { .. }
            | MySqlAssembleError::Undone { .. } => Trouble::Passing(text),
            MySqlAssembleError::ColumnsChanged { .. }
            | MySqlAssembleError::InsertIncomplete { .. }
            | MySqlAssembleError::Unnamed { .. }
            | MySqlAssembleError::StatementFormat
            | MySqlAssembleError::Truncated { .. }
            | MySqlAssembleError::PartTruncated
            | MySqlAssembleError::TooLarge { .. } => Trouble::Lasting(text),
            MySqlAssembleError::Transaction(_)
            | MySqlAssembleError::Field(_)
            | MySqlAssembleError::Rows(_)
            | MySqlAssembleError::UnknownTable { .. }
            | MySqlAssembleError::Cells { .. } => Trouble::Settings(text),
        },
        MySqlSourceError::Refused(_) => Trouble::Settings(text),
        MySqlSourceError::Position(_) => Trouble::Lasting(text),
        MySqlSourceError::Replica(_) | MySqlSourceError::Silent { .. } | MySqlSourceError::Dead => {
            Trouble::Passing(text)
        }
    }
}
