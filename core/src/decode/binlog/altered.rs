//! Which tables a statement that defines data leaves with other columns (MySQL documentation, "ALTER TABLE Statement";
//! MariaDB documentation, "ALTER TABLE").
//!
//! It says too much rather than too little: what it cannot read changes all tables.
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::statement::Text;

/// Tables of one database whose columns may be other ones, or in another order, after a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Altered {
    /// These, as the statement writes them.
    Tables(BTreeSet<String>),
    /// Perhaps all.
    All,
}

/// A table as a statement names it: its database, if it has one, and its name.
type Named = (Option<Vec<u8>>, Vec<u8>);

/// Parts of ALTER TABLE that leave columns as they are, by how they begin. An empty list goes with anything.
const HARMLESS: [(&[u8], &[&[u8]]); 15] = [
    (b"ADD", &INDEXES),
    (b"DROP", &INDEXES),
    (b"RENAME", &[b"INDEX", b"KEY"]),
    // Defaults, visibility, constraints.
    (b"ALTER", &[]),
    (b"ALGORITHM", &[]),
    (b"AUTO_INCREMENT", &[]),
    (b"COMMENT", &[]),
    (b"DISABLE", &[]),
    (b"ENABLE", &[]),
    (b"ENGINE", &[]),
    (b"FORCE", &[]),
    (b"LOCK", &[]),
    (b"ORDER", &[]),
    (b"ROW_FORMAT", &[]),
    (b"STATS_PERSISTENT", &[]),
];

/// What ADD and DROP may be followed by that is no column. All of these are reserved words, so a column of such a name
/// is in quotes.
const INDEXES: [&[u8]; 10] = [
    b"CHECK",
    b"CONSTRAINT",
    b"FOREIGN",
    b"FULLTEXT",
    b"INDEX",
    b"KEY",
    b"PARTITION",
    b"PRIMARY",
    b"SPATIAL",
    b"UNIQUE",
];

/// Which tables of `database` a statement that ran with the default database `default` changes.
pub(super) fn altered(statement: &[u8], default: &[u8], database: &str) -> Altered {
    let Some(named) = tables(statement) else { return Altered::All };
    let is_ours = |of: &Option<Vec<u8>>| {
        let of = of.as_deref().unwrap_or(default);
        of.eq_ignore_ascii_case(database.as_bytes())
    };
    let ours = named.into_iter().filter(|(of, _)| is_ours(of));
    // What a name in other characters is depends on the session.
    let names = ours.map(|(_, table)| String::from_utf8(table).ok().filter(|name| name.is_ascii()));
    names.collect::<Option<_>>().map_or(Altered::All, Altered::Tables)
}

/// `None` if they cannot be told.
fn tables(statement: &[u8]) -> Option<Vec<Named>> {
    let mut text = Text::new(statement);
    let verb = text.word();
    let mut word = text.word();
    while [&b"OR"[..], b"REPLACE", b"ONLINE", b"OFFLINE", b"IGNORE"].contains(&word.as_slice()) {
        word = text.word();
    }
    match (verb.as_slice(), word.as_slice()) {
        // All tables of one database are gone.
        (b"DROP", b"DATABASE" | b"SCHEMA") => return None,
        (_, b"TABLE" | b"TABLES") => (),
        _ => return Some(Vec::new()),
    }
    let ahead = text;
    if text.word() == b"IF" {
        while [&b"NOT"[..], b"EXISTS"].contains(&text.peek().as_slice()) {
            text.word();
        }
    } else {
        text = ahead;
    }
    let first = named(&mut text)?;
    match verb.as_slice() {
        b"CREATE" => Some(alloc::vec![first]),
        b"ALTER" => of_alter(first, text),
        b"DROP" | b"RENAME" => {
            let mut all = alloc::vec![first];
            loop {
                skip_wait(&mut text);
                if text.peek() == b"TO" {
                    text.word();
                } else if !text.sign(b',') {
                    return Some(all);
                }
                all.push(named(&mut text)?);
            }
        }
        _ => None,
    }
}

/// A table's name, with its database or without.
fn named(text: &mut Text<'_>) -> Option<Named> {
    let first = text.identifier()?;
    if text.sign(b'.') { Some((Some(first), text.identifier()?)) } else { Some((None, first)) }
}

/// Steps over how long MariaDB is to wait for others.
fn skip_wait(text: &mut Text<'_>) {
    match text.peek().as_slice() {
        b"NOWAIT" => drop(text.word()),
        b"WAIT" => {
            text.word();
            text.word();
        }
        _ => (),
    }
}

/// Of an ALTER TABLE, of which all before its parts is read.
fn of_alter(table: Named, mut text: Text<'_>) -> Option<Vec<Named>> {
    skip_wait(&mut text);
    let parts = if text.is_plain() { text.parts() } else { None };
    let Some(parts) = parts else {
        return (!text.has_word(b"RENAME")).then(|| alloc::vec![table]);
    };
    let mut all = Vec::new();
    let mut changes = false;
    for mut part in parts {
        let verb = part.word();
        let ahead = part;
        let next = part.word();
        let harmless = |(word, nexts): &(&[u8], &[&[u8]])| {
            *word == verb && (nexts.is_empty() || nexts.contains(&next.as_slice()))
        };
        if HARMLESS.iter().any(harmless) {
            continue;
        }
        changes = true;
        if verb == b"RENAME" && next != b"COLUMN" {
            // `RENAME a` and `RENAME TO a` and `RENAME AS a` and `RENAME = a`.
            if ![&b"TO"[..], b"AS"].contains(&next.as_slice()) {
                part = ahead;
                part.sign(b'=');
            }
            all.push(named(&mut part)?);
        }
    }
    if changes {
        all.push(table);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{Altered, altered};

    fn of(statement: &str) -> Option<Vec<&'static str>> {
        match altered(statement.as_bytes(), b"app", "app") {
            Altered::All => None,
            Altered::Tables(tables) => {
                Some(tables.into_iter().map(|table| &*table.leak()).collect())
            }
        }
    }

    #[test]
    fn statements_that_change_columns_name_their_tables() {
        for (text, tables) in [
            ("ALTER TABLE t ADD COLUMN a INT", vec!["t"]),
            ("alter online ignore table `t` add a int first, add index (a)", vec!["t"]),
            ("ALTER TABLE IF EXISTS app.t DROP a", vec!["t"]),
            ("ALTER TABLE t DROP COLUMN `key`, ENGINE = InnoDB", vec!["t"]),
            ("ALTER TABLE t DROP `key`", vec!["t"]),
            ("ALTER TABLE t NOWAIT CHANGE a b INT COMMENT 'drop key, no'", vec!["t"]),
            ("ALTER TABLE t RENAME COLUMN a TO b", vec!["t"]),
            ("ALTER TABLE t RENAME TO u", vec!["t", "u"]),
            ("ALTER TABLE t RENAME u, ADD INDEX (a)", vec!["t", "u"]),
            ("ALTER TABLE t RENAME = other.u", vec!["t"]),
            ("ALTER TABLE t WAIT 5 RENAME u", vec!["t", "u"]),
            ("ALTER TABLE other.t RENAME app.u", vec!["u"]),
            ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", vec!["t"]),
            ("ALTER TABLE t MODIFY a ENUM('x''y', '),') AFTER b", vec!["t"]),
            ("CREATE TABLE IF NOT EXISTS t (a INT)", vec!["t"]),
            ("CREATE OR REPLACE TABLE t LIKE other.u", vec!["t"]),
            ("DROP TABLE IF EXISTS `t`,app.u /* generated by server */", vec!["t", "u"]),
            ("DROP TABLE t, u WAIT 5", vec!["t", "u"]),
            ("RENAME TABLE t TO u, _t WAIT 3 TO t", vec!["_t", "t", "u"]),
            ("RENAME TABLES t TO other.t", vec!["t"]),
        ] {
            assert_eq!(of(text), Some(tables), "{text}");
        }
    }

    #[test]
    fn statements_that_leave_columns_alone_change_no_table() {
        for text in [
            "ALTER TABLE t ADD INDEX i (a), DROP FOREIGN KEY f, ALGORITHM=INPLACE, LOCK=NONE",
            "ALTER TABLE t ADD UNIQUE KEY u (a, b), RENAME INDEX x TO y",
            "ALTER TABLE t ENGINE=InnoDB COMMENT='a, DROP b'",
            "ALTER TABLE t ALTER COLUMN a SET DEFAULT 7",
            "ALTER TABLE other.t ADD COLUMN a INT",
            "ALTER DATABASE app CHARACTER SET utf8mb4",
            "CREATE INDEX i ON t (a)",
            "CREATE DEFINER=`a`@`b` TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1",
            "CREATE VIEW v AS SELECT 1",
            "DROP INDEX i ON t",
            "DROP VIEW IF EXISTS v",
            "CREATE DATABASE app",
        ] {
            assert_eq!(of(text), Some(vec![]), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_changes_all_tables() {
        for text in [
            "DROP DATABASE app",
            "DROP TABLE größe",
            "ALTER TABLE t COMMENT 'é' RENAME u",
            "ALTER TABLE t COMMENT 'open, RENAME u",
            r"ALTER TABLE t COMMENT '\', RENAME u, COMMENT '\'",
            "ALTER TABLE",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(of("ALTER TABLE t COMMENT 'é', ADD a INT"), Some(vec!["t"]));
    }
}
