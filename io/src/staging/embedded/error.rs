//! What can be wrong with the staging file, and what the operator can do about it.
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use replicator_core::Failure;
use replicator_core::staged::StagedError;
use thiserror::Error;

/// The staging file cannot be used.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// Another process has it.
    #[error(
        "staging file \"{}\" is in use by another process; stop that replicator, or give each its own \
         --dataDir", path.display()
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It is not what we wrote.
    #[error(
        "staging file \"{}\" is damaged ({detail}); restore it from a copy of the disk, or move it away \
         and create the changefeeds anew with an initial scan: rows that only this file held are gone",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// A newer replicator wrote it.
    #[error(
        "staging file \"{}\" has format {found}, and this replicator knows format {known}; use the \
         replicator that wrote it", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// There is no room.
    #[error(
        "no space is left for staging file \"{}\"; free some on that disk: nothing that was accepted is \
         lost, and nothing more is accepted until then", path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// The disk said no.
    #[error("could not use staging file \"{}\"", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

impl EmbeddedError {
    /// The disk said no to something about `path`.
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return Self::Full { path, source };
        }
        Self::Disk { path, source }
    }

    /// What the database in the file says.
    pub(super) fn database(path: &Path, error: impl Into<redb::Error>) -> Self {
        let error = error.into();
        if let redb::Error::Io(source) = error {
            // The file is no database, or ends where the database goes on.
            if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) {
                return Self::damaged(path, &source);
            }
            return Self::disk(path, source);
        }
        let damaged = matches!(
            error,
            redb::Error::Corrupted(_)
                | redb::Error::UpgradeRequired(_)
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TypeDefinitionChanged { .. }
        );
        // The others say that there was an error before.
        if damaged {
            Self::damaged(path, &error)
        } else {
            Self::disk(path, io::Error::other(error))
        }
    }

    /// Something in the file at `path` does not fit.
    pub(super) fn damaged(path: &Path, detail: &dyn std::fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), detail: detail.to_string() }
    }

    /// As the machine hears of it.
    pub(super) fn failure(&self) -> Failure {
        let detail = format!("staging: {}", crate::error_chain(self));
        match self {
            Self::Full { .. } | Self::Disk { .. } => Failure::Transient { detail },
            Self::Busy { .. } | Self::Damaged { .. } | Self::Format { .. } => {
                Failure::Rejected { detail, at: None }
            }
        }
    }
}

/// A staged row that cannot be written or read back.
pub(super) fn row_failure(path: &Path, error: &StagedError) -> Failure {
    let text = crate::error_chain(error);
    let detail = match error {
        StagedError::Column { .. } => format!(
            "staging: staged rows cannot be applied: {text}; add it to the target again, or change the \
             target after all staged rows are applied"
        ),
        StagedError::Key(_) | StagedError::NoRow(_) => format!("staging: {text}"),
        StagedError::Short
        | StagedError::Long(_)
        | StagedError::Version(_)
        | StagedError::Kind(_)
        | StagedError::Name
        | StagedError::Row(_) => return EmbeddedError::damaged(path, &text).failure(),
    };
    Failure::Rejected { detail, at: None }
}
