//! From an error to what the machine wants to know.
use std::ops::Range;

use replicator_core::Failure;
use replicator_core::dialect::Class;
use replicator_core::dialect::mysql::{classify, describe};

use crate::mysql::session::{MySqlError, Refusal};

/// How far a transaction had come when the error came.
#[derive(Clone, Debug)]
pub(super) struct Progress<'a> {
    /// Whether COMMIT was on its way already.
    pub(super) commit_sent: bool,
    /// The mutations of the statement, if they are known.
    pub(super) at: Option<Range<usize>>,
    /// The table of the statement.
    pub(super) table: Option<&'a str>,
}

/// Classifies an error. The text holds no row value.
pub(super) fn failure_of(error: &MySqlError, progress: &Progress<'_>) -> Failure {
    let refusal = match error {
        MySqlError::Server(refusal) => refusal,
        MySqlError::Lost(_) | MySqlError::Late => {
            let detail = crate::error_chain(error);
            return if progress.commit_sent {
                Failure::OutcomeUnknown { detail }
            } else {
                Failure::Transient { detail }
            };
        }
    };
    let Refusal { code, message } = refusal;
    let mut detail = describe(*code, message);
    if let Some(table) = progress.table {
        detail.push_str(&format!(" in table {table}"));
    }
    let at = progress.at.clone();
    match classify(*code) {
        Class::Transient => Failure::Transient { detail },
        Class::OutcomeUnknown => Failure::OutcomeUnknown { detail },
        Class::Constraint => Failure::Constraint { detail, at },
        Class::Rejected => Failure::Rejected { detail, at },
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, MySqlError, Progress, Refusal, failure_of};

    fn of(error: &MySqlError, commit_sent: bool) -> Failure {
        failure_of(error, &Progress { commit_sent, at: Some(3..4), table: Some("`d`.`t`") })
    }

    #[test]
    fn a_lost_answer_to_a_commit_tells_nothing() {
        let lost = MySqlError::Lost(None);
        assert!(matches!(of(&lost, true), Failure::OutcomeUnknown { .. }));
        assert!(matches!(of(&lost, false), Failure::Transient { .. }));
    }

    #[test]
    fn a_refusal_names_the_table_and_no_value() {
        let message = "Duplicate entry 'secret' for key 't.u'".to_owned();
        let refused = MySqlError::Server(Refusal { code: 1062, message });
        // The server has not committed what it refused.
        let Failure::Constraint { detail, at } = of(&refused, true) else { panic!("{refused}") };
        assert_eq!(
            detail,
            "ERROR 1062: a unique value is there already, in key 't.u' in table `d`.`t`"
        );
        assert_eq!(at, Some(3..4));
    }
}
