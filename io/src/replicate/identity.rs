//! A saved position is of use only with the source that it was saved for, and only if that source still
//! has what follows it.
use crate::preflight::Facts;
use replicator_core::Durable;
use replicator_core::model::position::Position;
use tracing::warn;

use super::trouble::Trouble;

/// Which source a saved position is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) system: u64,
    pub(super) timeline: u32,
    pub(super) slot: String,
}

impl Identity {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        Some(Self {
            system: value.get("system_identifier")?.as_str()?.parse().ok()?,
            timeline: value.get("timeline")?.as_u64()?.try_into().ok()?,
            slot: value.get("slot")?.as_str()?.to_owned(),
        })
    }
}

impl std::fmt::Display for Identity {
    /// Prints what `parse` reads. The number is text because JSON readers round large numbers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { system, timeline, slot } = self;
        let value = serde_json::json!({
            "system_identifier": system.to_string(),
            "timeline": timeline,
            "slot": slot,
        });
        value.fmt(f)
    }
}

/// What we know of the saved position's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is the one we are connected to.
    Same,
    /// Nothing: there is no saved position, or the older tool saved it.
    Never,
}

/// Whether the source seems not to have all that was saved. Everything up to the saved position would be
/// skipped without a word.
pub(super) fn is_beyond(durable: &Durable, facts: &Facts) -> bool {
    durable.checkpoint > Some(Position::Lsn(facts.written))
}

/// We acknowledge only what is saved, so a slot that is ahead of the saved position was moved by
/// somebody else, and what lies between is gone from it. The older tool acknowledged before it saved, so
/// for a position of its own the slot is right.
pub(super) fn check_gap(durable: Durable, facts: &Facts, known: Known) -> Result<Durable, Trouble> {
    let confirmed = Position::Lsn(facts.confirmed_flush);
    let written = Position::Lsn(facts.written);
    let Some(saved) = durable.checkpoint else { return Ok(durable) };
    if is_beyond(&durable, facts) {
        return Err(Trouble::Lasting(format!(
            "the saved position {saved} is beyond the end of the source's log, {written}: the source \
             is not the one it was saved for, or was put back to an earlier time. Copy the tables \
             again and start with an empty staging schema"
        )));
    }
    if known == Known::Never {
        warn!(position = %saved, slot = %confirmed, "taking over the saved position of an older tool");
        return Ok(Durable { checkpoint: Some(saved.max(confirmed)), ..durable });
    }
    if saved < confirmed {
        return Err(Trouble::Lasting(format!(
            "the replication slot was moved to {confirmed}, beyond the saved position {saved}: the \
             changes in between are lost to us. Copy the tables again and start with an empty \
             staging schema"
        )));
    }
    Ok(durable)
}
