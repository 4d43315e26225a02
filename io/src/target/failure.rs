//! From an error to what the machine wants to know.
use std::ops::Range;

use replicator_core::Failure;
use replicator_core::dialect::{Class, classify};

use crate::pg::server_error::ServerError;
use crate::pg::wire::WireError;

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
pub fn failure_of(error: &WireError, progress: &Progress<'_>) -> Failure {
    let WireError::Server(refusal) = error else {
        let detail = crate::error_chain(error);
        return if progress.commit_sent {
            Failure::OutcomeUnknown { detail }
        } else {
            Failure::Transient { detail }
        };
    };
    let detail = describe(refusal, progress.table);
    let at = progress.at.clone();
    match classify(&refusal.code) {
        Class::Transient => Failure::Transient { detail },
        Class::OutcomeUnknown => Failure::OutcomeUnknown { detail },
        Class::Constraint => Failure::Constraint { detail, at },
        Class::Rejected => Failure::Rejected { detail, at },
    }
}

/// The server's words without the values in them: the code, the message up to where it quotes a value,
/// and the names the server gave. Its detail field lists keys and is left out.
fn describe(refusal: &ServerError, table: Option<&str>) -> String {
    let ServerError { code, message, column, constraint, .. } = refusal;
    let message = match code.get(..2) {
        // Data exceptions quote the value after a colon; a trigger may say anything.
        Some("22") => message.split(':').next().unwrap_or_default(),
        Some("P0") => "raised by a function or trigger on the target",
        Some(_) | None => message,
    };
    let mut text = format!("ERROR: {message} (SQLSTATE {code})");
    if let Some(table) = table {
        text.push_str(&format!(" in table {table}"));
    }
    if let Some(column) = column {
        text.push_str(&format!(", column \"{column}\""));
    }
    if let Some(constraint) = constraint
        && !message.contains(constraint)
    {
        text.push_str(&format!(", constraint \"{constraint}\""));
    }
    text
}
