//! What comes a second time after a restart, because an XA transaction without an outcome held the position back.
use replicator_core::model::gtid::{AnyGtid, GtidPosition};

use crate::ordinals::Place;

/// The transactions that were read before. MySQL sends again what is missing in a set, MariaDB all of a domain since
/// the position.
#[derive(Debug)]
pub(super) struct Replay {
    executed: GtidPosition,
}

impl Replay {
    /// What comes again for a run that begins at `place`, if anything does.
    pub(super) fn of(place: &Place) -> Option<Self> {
        let held_back = place.held_back.as_ref()?;
        let mut executed = place.executed.clone();
        if let (GtidPosition::Maria(executed), GtidPosition::Maria(held_back)) =
            (&mut executed, held_back)
        {
            let ahead: Vec<u32> = held_back
                .iter()
                .filter(|gtid| executed.last(gtid.domain) == Some(*gtid))
                .map(|gtid| gtid.domain)
                .collect();
            ahead.into_iter().for_each(|domain| executed.forget(domain));
        }
        Some(Self { executed })
    }

    /// Whether this one was read before. Its end is still to [come](Self::take).
    pub(super) fn has(&self, gtid: AnyGtid) -> bool {
        match (&self.executed, gtid) {
            (GtidPosition::MySql(executed), AnyGtid::MySql(gtid)) => executed.contains(gtid),
            (GtidPosition::Maria(executed), AnyGtid::Maria(gtid)) => {
                executed.last(gtid.domain).is_some()
            }
            (GtidPosition::MySql(_), AnyGtid::Maria(_))
            | (GtidPosition::Maria(_), AnyGtid::MySql(_)) => false,
        }
    }

    /// Whether this one was read before, now that its end has come.
    pub(super) fn take(&mut self, gtid: AnyGtid) -> bool {
        let has = self.has(gtid);
        // Numbers of a domain may go back, so only its last one says that it is over.
        if let (GtidPosition::Maria(executed), AnyGtid::Maria(gtid)) = (&mut self.executed, gtid)
            && executed.last(gtid.domain) == Some(gtid)
        {
            executed.forget(gtid.domain);
        }
        has
    }

    /// Whether all of it has come; `executed` is what the stream has brought.
    pub(super) fn is_over(&self, executed: &GtidPosition) -> bool {
        match &self.executed {
            GtidPosition::MySql(_) => self.executed.is_subset(executed),
            GtidPosition::Maria(left) => left.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::gtid::{AnyGtid, BinlogFlavor, GtidPosition};

    use super::{Place, Replay};

    const UUID: &str = "4c658ae6-e8ad-11ef-8449-0242ac140006";

    fn replay(flavor: BinlogFlavor, executed: &str, held_back: &str) -> Replay {
        let at = |text: &str| GtidPosition::parse(flavor, text).unwrap();
        let held_back = Some(at(held_back));
        Replay::of(&Place { ordinal: 9, executed: at(executed), held_back }).unwrap()
    }

    #[test]
    fn mariadb_repeats_a_domain_up_to_where_it_was() {
        let mut replay = replay(BinlogFlavor::MariaDb, "0-1-9,5-1-3,7-1-1", "0-1-6,5-1-3");
        let mut take = |text: &str| replay.take(AnyGtid::Maria(text.parse().unwrap()));
        assert!(take("0-1-7"));
        assert!(!take("5-1-4"));
        // A larger number of another server is no end.
        assert!(take("0-2-20"));
        assert!(take("0-1-9"));
        assert!(!take("0-1-10"));
        let nothing = GtidPosition::parse(BinlogFlavor::MariaDb, "").unwrap();
        assert!(!replay.is_over(&nothing));
        assert!(replay.take(AnyGtid::Maria("7-1-1".parse().unwrap())));
        assert!(replay.is_over(&nothing));
    }

    #[test]
    fn mysql_repeats_what_is_missing() {
        let of = |numbers: &str| format!("{UUID}:{numbers}");
        let mut replay = replay(BinlogFlavor::MySql, &of("1-9"), &of("1-5:7-9"));
        let gtid = |number: u64| AnyGtid::MySql(of(&number.to_string()).parse().unwrap());
        assert!(replay.take(gtid(6)));
        assert!(!replay.take(gtid(10)));
        let at = |numbers: &str| GtidPosition::parse(BinlogFlavor::MySql, &of(numbers)).unwrap();
        assert!(!replay.is_over(&at("1-5:7-9")));
        assert!(replay.is_over(&at("1-10")));
    }

    #[test]
    fn nothing_comes_again_where_nothing_held_the_position_back() {
        let executed = GtidPosition::parse(BinlogFlavor::MariaDb, "0-1-9").unwrap();
        assert!(Replay::of(&Place::after(executed)).is_none());
    }
}
