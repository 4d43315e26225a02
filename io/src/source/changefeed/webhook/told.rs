//! What the log says of refusals. A changefeed asks again many times a second, and the same refusal said each
//! time would hide everything else.
use std::collections::BTreeMap;
use std::time::Duration;

use replicator_core::model::ident::TableName;
use replicator_core::model::time::MonoTime;

/// The same is told once in this time.
const PERIOD: Duration = Duration::from_secs(60);

/// Different ones that are remembered. Beyond, the one that was told first is forgotten.
const KINDS_MAX: usize = 256;

/// What makes two refusals the same: where the request belongs, as far as that is known, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// The schema; empty before the caller is known.
    pub(super) place: String,
    /// The table, if it is about one.
    pub(super) table: Option<TableName>,
    /// What the caller reads.
    pub(super) public: &'static str,
}

/// What to do with a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Say it under this number, and how many like it were not said since the last one.
    Tell {
        /// Its number.
        incident: u64,
        /// How many.
        omitted: u64,
    },
    /// It was said under this number.
    Told {
        /// The number in the log.
        incident: u64,
    },
}

#[derive(Debug)]
struct Last {
    at: MonoTime,
    incident: u64,
    omitted: u64,
}

/// The refusals that were told of late.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: BTreeMap<Kind, Last>,
    incidents: u64,
}

impl Told {
    pub(super) fn refused(&mut self, now: MonoTime, kind: Kind) -> Verdict {
        if let Some(last) = self.last.get_mut(&kind)
            && now < last.at.after(PERIOD)
        {
            last.omitted += 1;
            return Verdict::Told { incident: last.incident };
        }
        let omitted = self.last.remove(&kind).map_or(0, |last| last.omitted);
        if KINDS_MAX <= self.last.len() {
            let first = self.last.iter().min_by_key(|(_, last)| last.at);
            if let Some(kind) = first.map(|(kind, _)| kind.clone()) {
                self.last.remove(&kind);
            }
        }
        let incident = self.next_incident();
        self.last.insert(kind, Last { at: now, incident, omitted: 0 });
        Verdict::Tell { incident, omitted }
    }

    pub(super) fn next_incident(&mut self) -> u64 {
        self.incidents += 1;
        self.incidents
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::ident::TableName;
    use replicator_core::model::time::MonoTime;

    use super::{KINDS_MAX, Kind, Told, Verdict};

    fn kind(place: &str, public: &'static str) -> Kind {
        Kind { place: place.to_owned(), table: None, public }
    }

    fn second(second: u64) -> MonoTime {
        MonoTime::from_millis(second * 1_000)
    }

    #[test]
    fn the_same_refusal_is_told_once_a_minute_with_a_count_of_the_others() {
        let mut told = Told::default();
        let same = || kind("a", "no");
        assert_eq!(told.refused(second(0), same()), Verdict::Tell { incident: 1, omitted: 0 });
        for at in 1..60 {
            assert_eq!(told.refused(second(at), same()), Verdict::Told { incident: 1 });
        }
        assert_eq!(told.refused(second(60), same()), Verdict::Tell { incident: 2, omitted: 59 });
        assert_eq!(told.refused(second(61), same()), Verdict::Told { incident: 2 });
        assert_eq!(told.refused(second(500), same()), Verdict::Tell { incident: 3, omitted: 1 });
    }

    #[test]
    fn another_place_or_reason_is_another_refusal() {
        let mut told = Told::default();
        let of_table = |table| Kind { table: Some(TableName::new("a", table)), ..kind("a", "no") };
        let others = [kind("b", "no"), kind("a", "never"), of_table("t"), of_table("u")];
        let kinds = std::iter::once(kind("a", "no")).chain(others);
        for (kind, incident) in kinds.zip(1..) {
            let told = told.refused(second(1), kind);
            assert_eq!(told, Verdict::Tell { incident, omitted: 0 });
        }
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut told = Told::default();
        for number in 0..2 * KINDS_MAX {
            told.refused(MonoTime::from_millis(1), kind(&number.to_string(), "no"));
        }
        assert_eq!(told.last.len(), KINDS_MAX);
    }
}
