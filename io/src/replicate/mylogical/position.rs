//! A position of GTIDs is of use with any server that has executed all of it, and still has what follows it.
use replicator_core::model::gtid::{GtidPosition, GtidSet};

use super::super::trouble::Trouble;
use crate::preflight::mysql::Facts;

/// The way out that always works.
const COPY_AGAIN: &str = "copy the tables again, forget the saved position, and start with \
                          --defaultGTIDSet as of that copy";

/// Whether a stream that begins after `position` has everything. `forget` is the SQL that forgets what is saved.
pub(super) fn check(position: &GtidPosition, facts: &Facts, forget: &str) -> Result<(), Trouble> {
    if let (Some(GtidPosition::MySql(purged)), GtidPosition::MySql(set)) = (&facts.purged, position)
        && !purged.is_subset(set)
    {
        return Err(Trouble::Lasting(format!(
            "the source has purged transactions that the target lacks: {}. Its gtid_purged is {purged}, its \
             gtid_executed {}, and the position is {set}. Let it keep its binary log for longer \
             (binlog_expire_logs_seconds), {COPY_AGAIN}: {forget}",
            lacking(purged, set),
            facts.executed,
        )));
    }
    let ahead = match (position, &facts.executed) {
        (GtidPosition::MySql(set), GtidPosition::MySql(executed)) => {
            let is_ahead = !set.is_subset(executed);
            is_ahead.then(|| lacking(set, executed))
        }
        // A domain that the server has nothing of may be one that it was never told of.
        (GtidPosition::Maria(position), GtidPosition::Maria(executed)) => position
            .iter()
            .find(|gtid| {
                executed.last(gtid.domain).is_some_and(|last| last.sequence < gtid.sequence)
            })
            .map(|gtid| gtid.to_string()),
        (GtidPosition::MySql(_), GtidPosition::Maria(_))
        | (GtidPosition::Maria(_), GtidPosition::MySql(_)) => Some(position.to_string()),
    };
    match ahead {
        None => Ok(()),
        Some(ahead) => Err(Trouble::Settings(format!(
            "the source has not executed {ahead}, which the position has: it is another server, was put back \
             to an earlier time, or is a replica that is behind. It has executed {}; the position is \
             {position}. Connect to the server that the position is of, or {COPY_AGAIN}: {forget}",
            facts.executed,
        ))),
    }
}

/// What of `set` is not in `other`.
fn lacking(set: &GtidSet, other: &GtidSet) -> String {
    let mut set = set.clone();
    match set.subtract(other) {
        Ok(()) => set.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::decode::binlog::format::Checksum;
    use replicator_core::model::catalog::Catalog;
    use replicator_core::model::gtid::{BinlogFlavor, GtidPosition};

    use super::{Facts, Trouble, check};

    const UUID: &str = "4c658ae6-e8ad-11ef-8449-0242ac140006";

    fn facts(flavor: BinlogFlavor, executed: &str, purged: Option<&str>) -> Facts {
        let at = |text: &str| GtidPosition::parse(flavor, text).unwrap();
        Facts {
            flavor,
            version: String::new(),
            server: String::new(),
            executed: at(executed),
            purged: purged.map(at),
            checksum: Checksum::None,
            asks_for_columns: false,
            catalog: Catalog::default(),
        }
    }

    fn of(flavor: BinlogFlavor, position: &str, facts: &Facts) -> Option<String> {
        let position = GtidPosition::parse(flavor, position).unwrap();
        match check(&position, facts, "DELETE;") {
            Ok(()) => None,
            Err(Trouble::Lasting(text)) => Some(format!("lasting: {text}")),
            Err(Trouble::Settings(text)) => Some(format!("settings: {text}")),
            Err(Trouble::Passing(text)) => panic!("{text}"),
        }
    }

    #[test]
    fn w17_a_purged_or_unknown_set_is_refused_and_names_what_is_missing() {
        let mysql = BinlogFlavor::MySql;
        let set = |numbers: &str| format!("{UUID}:{numbers}");
        let facts = facts(mysql, &set("1-100"), Some(&set("1-50")));
        assert_eq!(of(mysql, &set("1-50"), &facts), None);
        assert_eq!(of(mysql, &set("1-100"), &facts), None);
        let purged = of(mysql, &set("1-40:45-60"), &facts).unwrap();
        assert!(purged.starts_with("lasting: "), "{purged}");
        assert!(purged.contains(&format!("lacks: {UUID}:41-44.")), "{purged}");
        assert!(purged.contains("gtid_purged") && purged.contains("DELETE;"), "{purged}");
        let unknown = of(mysql, &set("1-101"), &facts).unwrap();
        assert!(unknown.starts_with("settings: "), "{unknown}");
        assert!(unknown.contains(&format!("has not executed {UUID}:101,")), "{unknown}");
    }

    #[test]
    fn w17_a_mariadb_that_is_behind_the_position_is_refused() {
        let maria = BinlogFlavor::MariaDb;
        let facts = facts(maria, "0-1-10,5-1-3", None);
        assert_eq!(of(maria, "0-1-10", &facts), None);
        assert_eq!(of(maria, "0-2-9,5-1-3,6-1-1", &facts), None);
        let behind = of(maria, "0-1-10,5-1-4", &facts).unwrap();
        assert!(behind.contains("has not executed 5-1-4,"), "{behind}");
    }
}
