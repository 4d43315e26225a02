//! What may go wrong in a run, by whether trying again is of use.
use replicator_core::decode::pg_transaction::AssembleError;
use replicator_core::model::catalog::Catalog;
use replicator_core::{Failure, Stop};

use crate::driver::RunError;
use crate::error_chain;
use crate::source::pg::slot::SlotError;
use crate::source::pg::stream::PgSourceError;
use crate::supervisor::GaveUp;

/// Why an attempt ended.
pub(super) enum Trouble {
    /// May pass by itself.
    Passing(String),
    /// A mistake in the settings if it is there from the start; may pass if it comes later.
    Settings(String),
    /// Needs a human.
    Lasting(String),
}

impl Trouble {
    /// Before anything has begun, no trouble is waited out.
    pub(super) fn into_gave_up(self) -> GaveUp {
        match self {
            Self::Lasting(reason) | Self::Settings(reason) | Self::Passing(reason) => {
                GaveUp { reason }
            }
        }
    }

    pub(super) fn settings(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Settings(format!("{what}: {}", error_chain(error)))
    }

    pub(super) fn staging(failure: &Failure) -> Self {
        match failure {
            Failure::Rejected { detail, .. } | Failure::Constraint { detail, .. } => {
                Self::Lasting(detail.clone())
            }
            Failure::Transient { .. } | Failure::OutcomeUnknown { .. } | Failure::Fenced => {
                Self::Passing(failure.to_string())
            }
        }
    }
}

/// `of_source` says what trouble of the source is.
pub(super) fn trouble_of<E: std::error::Error>(
    error: &RunError<E>,
    catalog: &Catalog,
    of_source: impl FnOnce(&E) -> Trouble,
) -> Trouble {
    match error {
        RunError::Died(_) => Trouble::Passing(error_chain(error)),
        RunError::Source(source) => of_source(source),
        // The operator asked us to stop there: --onReject.
        RunError::Stop(Stop::Rejected { table, position, detail, .. }) => {
            let table = table.map(|table| format!(" of {}", catalog.table(table).name));
            Trouble::Lasting(format!(
                "the target rejected a row{} in the transactions through {position}: {detail}",
                table.unwrap_or_default()
            ))
        }
        RunError::Stop(stop @ Stop::TooManyRefused { table, .. }) => {
            let table = table.map(|table| format!(" (table {})", catalog.table(table).name));
            Trouble::Lasting(format!(
                "{stop}{}; nothing of this batch was applied. Look at what was refused; if it is right \
                 to go on, raise --dlqMaxPercent",
                table.unwrap_or_default()
            ))
        }
        RunError::Stop(stop) => Trouble::Passing(stop.to_string()),
    }
}

/// Drift is over as soon as the operator has acted, so it is tried again, with the target's tables as
/// they are then. A slot or a cluster that is not ours any more never comes back, and a truncate waits
/// for another flag.
pub(super) fn trouble_of_source(error: &PgSourceError) -> Trouble {
    let mut text = error_chain(error);
    if let Some(hint) = error.hint() {
        text.push_str("; ");
        text.push_str(hint);
    }
    match error {
        PgSourceError::Slot(SlotError::Lost { .. } | SlotError::Gap { .. })
        | PgSourceError::OtherSystem { .. } => Trouble::Lasting(text),
        PgSourceError::Assemble(AssembleError::Drift(_)) => Trouble::Passing(text),
        PgSourceError::Assemble(_) if error.is_lasting() => Trouble::Lasting(text),
        PgSourceError::Assemble(_) | PgSourceError::Slot(_) => Trouble::Settings(text),
        PgSourceError::Connect(_)
        | PgSourceError::Request(_)
        | PgSourceError::Wire(_)
        | PgSourceError::Decode(_)
        | PgSourceError::Feedback(_)
        | PgSourceError::Silent { .. }
        | PgSourceError::Dead
        | PgSourceError::NotClosed { .. } => Trouble::Passing(text),
    }
}
