//! What an error code means for replication. One table for both products.
//!
//! Codes: PostgreSQL documentation, appendix A. CockroachDB uses the same, with `XXUUU` for errors that
//! have no code of their own; such an error says nothing about itself and counts as refused.

/// What to do about an error, as far as its code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// May work later, unchanged.
    Transient,
    /// Perhaps it was committed all the same.
    OutcomeUnknown,
    /// A foreign key or unique index; may work in another order.
    Constraint,
    /// Will never work.
    Rejected,
}

/// Looks a SQLSTATE up.
#[must_use]
pub fn classify(sqlstate: &str) -> Class {
    match sqlstate {
        // statement_completion_unknown: CockroachDB reports an ambiguous commit by it.
        "40003" => Class::OutcomeUnknown,
        // 21000: a statement touches a row twice; source order splits such rows.
        "21000" | "23503" | "23505" | "23P01" | "23001" => Class::Constraint,
        // Somebody changed the schema, or has not granted a right yet: the next run reads the catalog
        // again and names it.
        "0A000" | "25006" | "26000" | "42501" | "42P01" | "42703" | "42704" | "42804" | "42883"
        | "42P10" | "3D000" | "3F000" | "55P03" => Class::Transient,
        code => by_class(code.get(..2).unwrap_or_default()),
    }
}

fn by_class(class: &str) -> Class {
    match class {
        // 08 connection, 25 transaction state, 28 authorization, 40 rollback (serialization, deadlock),
        // 53 resources, 57 operator (cancelled, shut down), 58 system.
        "08" | "25" | "28" | "40" | "53" | "57" | "58" => Class::Transient,
        _ => Class::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, classify};

    #[test]
    fn w18_deadlocks_and_lost_connections_are_tried_again() {
        for code in
            ["40001", "40P01", "55P03", "57P01", "57P03", "57014", "53300", "08006", "08003"]
        {
            assert_eq!(classify(code), Class::Transient, "{code}");
        }
    }

    #[test]
    fn an_ambiguous_commit_is_neither_success_nor_failure() {
        assert_eq!(classify("40003"), Class::OutcomeUnknown);
    }

    #[test]
    fn values_the_target_cannot_hold_are_refused() {
        for code in ["22001", "22003", "22P02", "23502", "23514", "P0001", "XXUUU", ""] {
            assert_eq!(classify(code), Class::Rejected, "{code}");
        }
    }

    #[test]
    fn constraints_that_depend_on_order_are_kept_apart() {
        for code in ["23503", "23505", "21000"] {
            assert_eq!(classify(code), Class::Constraint, "{code}");
        }
    }
}
