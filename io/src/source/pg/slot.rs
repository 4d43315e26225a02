//! What the source says about itself and the slot, on the very connection that will stream. Nothing is
//! created or changed on the source.
use replicator_core::model::position::Lsn;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::pg::replication::{ReplicationClient, ReplicationError, SystemIdentity, quote_literal};
use crate::pg::wire::TextRow;

/// The plugin whose messages we read.
const PLUGIN: &str = "pgoutput";

/// A source as it is before streaming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// Which cluster, and which of its timelines.
    pub system: SystemIdentity,
    /// The server's version as a number, such as 150018.
    pub version: u32,
    /// The slot, if it exists.
    pub slot: Option<SlotState>,
}

/// A replication slot (PostgreSQL documentation, "pg_replication_slots").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Its name.
    pub name: String,
    /// The output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database it decodes; `None` for a physical slot.
    pub database: Option<String>,
    /// The server process that streams from it.
    pub active_pid: Option<i32>,
    /// Transactions that ended at or before this are never sent again.
    pub confirmed_flush: Option<Lsn>,
    /// The oldest WAL it keeps; `None` once that is gone.
    pub restart: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`; `None` before PostgreSQL 13.
    pub wal_status: Option<String>,
    /// Why it is of no use any more; `None` before PostgreSQL 17.
    pub invalidation_reason: Option<String>,
}

/// A slot cannot be streamed from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SlotError {
    /// There is none of that name.
    #[error("replication slot \"{slot}\" does not exist")]
    Missing {
        /// Its name.
        slot: String,
    },
    /// It is not for logical replication with pgoutput.
    #[error("replication slot \"{slot}\" uses {}, not the plugin \"pgoutput\"", plugin.as_deref().map_or_else(|| "no plugin".to_owned(), |plugin| format!("the plugin \"{plugin}\"")))]
    Plugin {
        /// Its name.
        slot: String,
        /// Its plugin.
        plugin: Option<String>,
    },
    /// It decodes another database.
    #[error("replication slot \"{slot}\" is of database \"{database}\"")]
    Database {
        /// Its name.
        slot: String,
        /// Its database.
        database: String,
    },
    /// The server removed WAL that it needs.
    #[error("replication slot \"{slot}\" is lost: {reason}")]
    Lost {
        /// Its name.
        slot: String,
        /// In the server's words.
        reason: String,
    },
    /// Transactions that we do not have will never be sent.
    #[error(
        "replication slot \"{slot}\" begins at {confirmed}, but we have only what is before {saved}: \
         something else has read from it, or it was made again"
    )]
    Gap {
        /// Its name.
        slot: String,
        /// Where it begins.
        confirmed: Lsn,
        /// What we have.
        saved: Lsn,
    },
}

impl SlotError {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "run in the source database: SELECT pg_create_logical_replication_slot('…', \
                 'pgoutput'), then copy the tables"
            }
            Self::Plugin { .. } => "name another slot with --slotName",
            Self::Database { .. } => {
                "--sourceConn must name that database, or --slotName another slot"
            }
            Self::Lost { .. } | Self::Gap { .. } => {
                "changes are missing for good: drop the slot, create it again, copy the tables again \
                 and forget the saved position"
            }
        }
    }
}

/// Looks at the source and at one slot.
///
/// # Errors
///
/// A question could not be asked.
pub async fn inspect<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    client: &mut ReplicationClient<S>,
    slot: &str,
) -> Result<SourceState, ReplicationError> {
    let system = client.identify_system().await?;
    let what = "show server_version_num";
    let version = client.show("server_version_num").await?;
    let version = version.parse().map_err(|_| ReplicationError::Answer { what })?;
    // Columns that older versions lack come as NULL by way of JSON.
    let sql = format!(
        "SELECT s.slot_name, s.plugin, s.database, s.active_pid, s.confirmed_flush_lsn, \
         s.restart_lsn, pg_catalog.to_jsonb(s) ->> 'wal_status', \
         pg_catalog.to_jsonb(s) ->> 'invalidation_reason' \
         FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = {}",
        quote_literal(slot)
    );
    let what = "look up the replication slot";
    let rows = client.query(what, &sql).await?;
    let slot = rows.into_iter().next().map(read_slot).transpose();
    let slot = slot.map_err(|()| ReplicationError::Answer { what })?;
    Ok(SourceState { system, version, slot })
}

fn read_slot(row: TextRow) -> Result<SlotState, ()> {
    let row: [Option<String>; 8] = row.try_into().map_err(|_| ())?;
    let [name, plugin, database, active_pid, confirmed, restart, wal_status, invalid] = row;
    let lsn = |text: Option<String>| text.map(|text| text.parse()).transpose().map_err(|_| ());
    Ok(SlotState {
        name: name.ok_or(())?,
        plugin,
        database,
        active_pid: active_pid.map(|pid| pid.parse()).transpose().map_err(|_| ())?,
        confirmed_flush: lsn(confirmed)?,
        restart: lsn(restart)?,
        wal_status,
        invalidation_reason: invalid,
    })
}

impl SourceState {
    /// Where to start, if the slot is good for streaming after `saved`, the position up to which we have
    /// everything.
    ///
    /// # Errors
    ///
    /// See [`SlotError`].
    pub fn start(&self, name: &str, saved: Option<Lsn>) -> Result<Lsn, SlotError> {
        let slot = || name.to_owned();
        let state = self.slot.as_ref().ok_or_else(|| SlotError::Missing { slot: slot() })?;
        if state.plugin.as_deref() != Some(PLUGIN) {
            return Err(SlotError::Plugin { slot: slot(), plugin: state.plugin.clone() });
        }
        if let Some(database) = &state.database
            && self.system.database.as_ref() != Some(database)
        {
            return Err(SlotError::Database { slot: slot(), database: database.clone() });
        }
        if let Some(reason) = &state.invalidation_reason {
            return Err(SlotError::Lost { slot: slot(), reason: reason.clone() });
        }
        if state.wal_status.as_deref() == Some("lost") || state.restart.is_none() {
            let reason = "the server has removed WAL that it needs".to_owned();
            return Err(SlotError::Lost { slot: slot(), reason });
        }
        let confirmed = state.confirmed_flush.unwrap_or(Lsn(0));
        match saved {
            Some(saved) if saved < confirmed => {
                Err(SlotError::Gap { slot: slot(), confirmed, saved })
            }
            Some(saved) => Ok(saved),
            None => Ok(confirmed),
        }
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::position::Lsn;

    use super::{SlotState, SourceState};
    use crate::pg::replication::SystemIdentity;

    fn state() -> SourceState {
        SourceState {
            system: SystemIdentity {
                system_identifier: 7,
                timeline: 1,
                wal_end: Lsn(900),
                database: Some("shop".to_owned()),
            },
            version: 150_018,
            slot: Some(SlotState {
                name: "s".to_owned(),
                plugin: Some("pgoutput".to_owned()),
                database: Some("shop".to_owned()),
                active_pid: None,
                confirmed_flush: Some(Lsn(100)),
                restart: Some(Lsn(80)),
                wal_status: Some("reserved".to_owned()),
                invalidation_reason: None,
            }),
        }
    }

    fn refusal(change: impl FnOnce(&mut SlotState), saved: Option<Lsn>) -> String {
        let mut state = state();
        change(state.slot.as_mut().unwrap());
        state.start("s", saved).unwrap_err().to_string()
    }

    #[test]
    fn streaming_starts_after_what_we_have() {
        assert_eq!(state().start("s", None), Ok(Lsn(100)));
        assert_eq!(state().start("s", Some(Lsn(100))), Ok(Lsn(100)));
        assert_eq!(state().start("s", Some(Lsn(300))), Ok(Lsn(300)));
    }

    #[test]
    fn a_slot_that_cannot_give_everything_is_refused() {
        assert_eq!(
            refusal(|_| (), Some(Lsn(99))),
            "replication slot \"s\" begins at 0/64, but we have only what is before 0/63: something \
             else has read from it, or it was made again"
        );
        let lost = "replication slot \"s\" is lost: the server has removed WAL that it needs";
        assert_eq!(refusal(|slot| slot.wal_status = Some("lost".to_owned()), None), lost);
        assert_eq!(refusal(|slot| slot.restart = None, None), lost);
        assert_eq!(
            refusal(|slot| slot.invalidation_reason = Some("idle_timeout".to_owned()), None),
            "replication slot \"s\" is lost: idle_timeout"
        );
    }

    #[test]
    fn a_slot_of_another_kind_is_refused() {
        assert_eq!(
            refusal(|slot| slot.plugin = Some("test_decoding".to_owned()), None),
            "replication slot \"s\" uses the plugin \"test_decoding\", not the plugin \"pgoutput\""
        );
        assert_eq!(
            refusal(|slot| slot.plugin = None, None),
            "replication slot \"s\" uses no plugin, not the plugin \"pgoutput\""
        );
        assert_eq!(
            refusal(|slot| slot.database = Some("other".to_owned()), None),
            "replication slot \"s\" is of database \"other\""
        );
        let none = SourceState { slot: None, ..state() }.start("s", None).unwrap_err();
        assert_eq!(none.to_string(), "replication slot \"s\" does not exist");
        assert!(none.hint().contains("pg_create_logical_replication_slot"));
    }
}
