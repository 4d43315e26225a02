//! What an error number means for replication, and what of its text may be shown.
//!
//! Numbers: MySQL documentation, "Server Error Message Reference"; MariaDB documentation, "Error Codes".
//! Both share those below 1900.
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use crate::dialect::Class;

/// The error by which a statement of ours refuses to take one row for another; see the parent module.
pub(super) const WRONG_ROW: u16 = 1242;

/// Looks an error number up.
#[must_use]
pub const fn classify(code: u16) -> Class {
    match code {
        // Something went wrong while a COMMIT was under way.
        1180 => Class::OutcomeUnknown,
        // A unique index (1022, 1062, 1557, 1586, 1761, 1762), a foreign key (1216, 1217, 1451, 1452), or
        // a row with another key that holds the unique value of one of ours (1242).
        1022 | 1062 | 1216 | 1217 | 1451 | 1452 | 1557 | 1586 | 1761 | 1762 | WRONG_ROW => {
            Class::Constraint
        }
        // Deadlock, lock wait, lock table full.
        1205 | 1206 | 1213 | 1614 | 3058 | 3572
        // The server goes, or ends sessions: shutdown, kill, time limits, read-only, a failover.
        | 1053 | 1077 | 1079 | 1080 | 1152 | 1158..=1161 | 1184 | 1223 | 1290 | 1317 | 1792 | 1836
        | 1907 | 1927 | 1969 | 2006 | 2013 | 2055 | 3024 | 3032 | 3101 | 3168 | 3169 | 4031
        // It is not ready: a cluster's member without the others.
        | 1047
        // It has no room: connections, memory, disk, tables.
        | 1021 | 1023 | 1037 | 1038 | 1040 | 1041 | 1114 | 1135 | 1203 | 1226
        // Somebody changed the schema, or has not granted a right yet: the next run reads the catalog
        // again and names it.
        | 1044 | 1045 | 1049 | 1054 | 1109 | 1129 | 1130 | 1142 | 1143 | 1146 | 1227 | 1412 | 1698
        | 3159 => Class::Transient,
        _ => Class::Rejected,
    }
}

/// The server's words without the values in them, and the number.
///
/// Messages quote values, and a value may contain what looks like the end of the quote. So only messages
/// that are known to name nothing but objects are shown whole; of others what stands before the first
/// quote or colon, and the column or index at the end.
#[must_use]
pub fn describe(code: u16, message: &str) -> String {
    let words = match code {
        1022 | 1062 | 1586 => match message.rsplit_once(" for key ") {
            Some((_, key)) => format!("a unique value is there already, in key {key}"),
            None => "a unique value is there already".to_owned(),
        },
        WRONG_ROW => "a row with another key has the unique value of a row, or a key that differs \
                      only in case, accents or trailing blanks"
            .to_owned(),
        1644 => "raised by a trigger or routine on the target".to_owned(),
        1044
        | 1045
        | 1047..=1049
        | 1054
        | 1142
        | 1143
        | 1146
        | 1205
        | 1213
        | 1216
        | 1217
        | 1227
        | 1290
        | 1364
        | 1451
        | 1452
        | 1792
        | 1836
        | 3819
        | 4025 => message.to_owned(),
        _ => without_values(message),
    };
    format!("ERROR {code}: {words}")
}

fn without_values(message: &str) -> String {
    let beginning = message.split(['\'', '"', ':', '`']).next().unwrap_or_default();
    let beginning = beginning.split(" for column ").next().unwrap_or_default().trim_end();
    match message.rsplit_once(" for column ") {
        // "'a' at row 1", "`d`.`t`.`a` at row 1". A message that ends with a value ends with a quote.
        Some((_, column)) if column.ends_with(|end: char| end.is_ascii_digit()) => {
            format!("{beginning} for column {column}")
        }
        Some(_) | None => beginning.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, classify, describe};

    #[test]
    fn w18_deadlocks_and_lost_connections_are_tried_again() {
        for code in [1213, 1205, 2006, 2013, 1047, 1053, 1927, 1040, 1146, 1142] {
            assert_eq!(classify(code), Class::Transient, "{code}");
        }
    }

    #[test]
    fn constraints_that_depend_on_order_are_kept_apart() {
        for code in [1062, 1451, 1452, 1216, 1217, 1242] {
            assert_eq!(classify(code), Class::Constraint, "{code}");
        }
    }

    #[test]
    fn values_the_target_cannot_hold_are_refused() {
        // A check looks at one row only: no order helps.
        for code in [1048, 1264, 1265, 1292, 1364, 1366, 1406, 1644, 3140, 3819, 4025, 1105] {
            assert_eq!(classify(code), Class::Rejected, "{code}");
        }
        assert_eq!(classify(1180), Class::OutcomeUnknown);
    }

    #[test]
    fn no_value_is_shown() {
        for (code, message, shown) in [
            (
                1062,
                "Duplicate entry 'se for key cret' for key 'users.mail'",
                "ERROR 1062: a unique value is there already, in key 'users.mail'",
            ),
            (
                1366,
                "Incorrect integer value: 'it's' for column 'a' at row 1",
                "ERROR 1366: Incorrect integer value for column 'a' at row 1",
            ),
            (
                1406,
                "Data too long for column 'b' at row 3",
                "ERROR 1406: Data too long for column 'b' at row 3",
            ),
            (
                1292,
                "Truncated incorrect DOUBLE value: 'x for column 'secret' at row 1'",
                "ERROR 1292: Truncated incorrect DOUBLE value",
            ),
            (
                1064,
                "You have an error in your SQL syntax; check the manual near 'secret",
                "ERROR 1064: You have an error in your SQL syntax; check the manual near",
            ),
            (
                1452,
                "Cannot add or update a child row: (`d`.`c`, CONSTRAINT `f` …)",
                "ERROR 1452: Cannot add or update a child row: (`d`.`c`, CONSTRAINT `f` …)",
            ),
            (1644, "secret", "ERROR 1644: raised by a trigger or routine on the target"),
        ] {
            assert_eq!(describe(code, message), shown);
        }
    }
}
