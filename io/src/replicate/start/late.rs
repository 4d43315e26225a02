//! Up to which times rows come late because an earlier run did not wait for promises.
//!
//! Such a run stages rows behind all that came before them, whatever their times. While an older version of a row
//! is still staged there, a newer one may come whose own time is before that. So a run that waits for promises again
//! takes all rows up to there for late ones, which go behind what is staged.
use replicator_core::model::mode::Lane;
use replicator_core::model::time::Hlc;

use super::lanes::Plan;

/// What is saved while a run does not wait: how far it gets is not known yet.
const GROWS: &str = "grows";

/// Times up to which rows come late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Late {
    saved: String,
    related: Hlc,
    independent: Hlc,
}

impl Late {
    /// What was saved; `newest` is the time of the newest staged row.
    pub(super) fn load(saved: Option<String>, newest: Hlc) -> Self {
        let saved = saved.unwrap_or_default();
        let mut times = saved.lines().map(|line| line.parse().unwrap_or(newest));
        let mut time = || times.next().unwrap_or_default();
        let (related, independent) = (time(), time());
        Self { saved, related, independent }
    }

    /// Up to which time rows of a lane come late.
    pub(super) fn floor(&self, lane: &Lane) -> Hlc {
        match lane {
            Lane::Whole => self.related.max(self.independent),
            Lane::Related(_) => self.related,
            Lane::Independent(_) => self.independent,
        }
    }

    /// An independent table has become a related one.
    pub(super) fn join(&mut self) {
        self.related = self.floor(&Lane::Whole);
    }

    /// What is to be saved before a run begins, if that is not what is saved.
    pub(super) fn to_save(&self, plan: &Plan) -> Option<String> {
        let grows = |is_in: bool, time: Hlc| {
            if plan.is_immediate && is_in { GROWS.to_owned() } else { time.to_string() }
        };
        let whole = plan.lanes.contains(&Lane::Whole);
        let text = format!("{}\n{}\n", grows(whole, self.related), grows(true, self.independent));
        let is_news = text != self.saved && (plan.is_immediate || !self.saved.is_empty());
        is_news.then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use replicator_core::model::mode::{Lane, Mode};
    use replicator_core::model::time::Hlc;

    use super::super::lanes::Plan;
    use super::Late;

    const fn at(nanos: u64) -> Hlc {
        Hlc { nanos, logical: 0 }
    }

    fn plan(lanes: Vec<Lane>, is_immediate: bool) -> Plan {
        Plan { lanes, is_immediate, mode: Mode::Consistent, settles_at: None }
    }

    #[test]
    fn what_was_staged_without_waiting_makes_rows_late_in_the_runs_after_that() {
        let consistent = plan(vec![Lane::Whole], false);
        let late = Late::load(None, at(7));
        assert_eq!(late.floor(&Lane::Whole), Hlc::default());
        assert_eq!(late.to_save(&consistent), None, "nothing ever was late");

        let saved = late.to_save(&plan(vec![Lane::Whole], true));
        assert!(saved.is_some(), "it must be durable before the first row");
        let late = Late::load(saved, at(9));
        assert_eq!(late.to_save(&plan(vec![Lane::Whole], true)), None);
        assert_eq!(late.floor(&Lane::Whole), at(9));

        // Nothing is staged that way any more, whatever the next runs stage.
        let saved = late.to_save(&consistent);
        assert!(saved.is_some());
        let late = Late::load(saved, at(30));
        assert_eq!(late.floor(&Lane::Whole), at(9));
        assert_eq!(late.to_save(&consistent), None);
    }

    #[test]
    fn related_tables_are_late_only_if_independent_ones_join_them() {
        let independent = Lane::Independent(Arc::default());
        let related = Lane::Related(Arc::default());
        let lanes = vec![related.clone(), independent.clone()];
        let saved = Late::load(None, at(1)).to_save(&plan(lanes, true));
        let mut late = Late::load(saved, at(5));
        assert_eq!((late.floor(&related), late.floor(&independent)), (Hlc::default(), at(5)));
        late.join();
        assert_eq!(late.floor(&related), at(5));
    }
}
