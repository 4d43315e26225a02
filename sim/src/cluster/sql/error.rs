//! What the pretend server says when it refuses, and why a statement stops.
use std::collections::BTreeSet;

/// An error as the server reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// The SQLSTATE (PostgreSQL documentation, "PostgreSQL Error Codes").
    pub code: String,
    /// What happened.
    pub message: String,
    /// The constraint it is about.
    pub constraint: Option<String>,
    /// Whether the session is over.
    pub fatal: bool,
}

impl SqlError {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { code, message, constraint: None, fatal: false }
    }

    /// Ends the session too.
    pub(super) fn fatal(code: &str, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::new(code, message) }
    }

    pub(super) fn constraint(mut self, name: &str) -> Self {
        self.constraint = Some(name.to_owned());
        self
    }

    /// What the pretend server does not know. The text says what, so that the gap is seen.
    pub(super) fn unknown(what: &str) -> Self {
        Self::new("0A000", format!("the pretend server does not understand: {what}"))
    }
}

/// Why a statement stopped before its end. What it wrote must be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// It failed.
    Error(SqlError),
    /// It needs a lock that these sessions hold; it may begin again once one of them has ended its
    /// transaction.
    Wait(BTreeSet<u64>),
}

impl From<SqlError> for Halt {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}
