//! From a driver's error to what the machine wants to know.
use std::ops::Range;

use replicator_core::Failure;
use replicator_core::dialect::{Class, classify};
use tokio_postgres::error::DbError;

/// How far a transaction had come when the error came.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Whether COMMIT was on its way already.
    pub commit_sent: bool,
    /// The mutations of the statement, if they are known.
    pub at: Option<Range<usize>>,
    /// The table of the statement.
    pub table: Option<&'a str>,
}

/// Classifies an error. The text holds no row value.
#[must_use]
pub fn failure_of(error: &tokio_postgres::Error, progress: &Progress<'_>) -> Failure {
    let Some(db) = error.as_db_error() else {
        let detail = crate::error_chain(error);
        return if progress.commit_sent {
            Failure::OutcomeUnknown { detail }
        } else {
            Failure::Transient { detail }
        };
    };
    let detail = describe(db, progress.table);
    let at = progress.at.clone();
    match classify(db.code().code()) {
        Class::Transient => Failure::Transient { detail },
        Class::OutcomeUnknown => Failure::OutcomeUnknown { detail },
        Class::Constraint => Failure::Constraint { detail, at },
        Class::Rejected => Failure::Rejected { detail, at },
    }
}

/// The server's words without the values in them: the code, the message up to where it quotes a value,
/// and the names the server gave. Its detail field lists keys and is left out.
fn describe(db: &DbError, table: Option<&str>) -> String {
    let code = db.code().code();
    let message = match code.get(..2) {
        // Data exceptions quote the value after a colon; a trigger may say anything.
        Some("22") => db.message().split(':').next().unwrap_or_default(),
        Some("P0") => "raised by a function or trigger on the target",
        Some(_) | None => db.message(),
    };
    let mut text = format!("ERROR: {message} (SQLSTATE {code})");
    if let Some(table) = table {
        text.push_str(&format!(" in table {table}"));
    }
    if let Some(column) = db.column() {
        text.push_str(&format!(", column \"{column}\""));
    }
    if let Some(constraint) = db.constraint()
        && !message.contains(constraint)
    {
        text.push_str(&format!(", constraint \"{constraint}\""));
    }
    text
}
