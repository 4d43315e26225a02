//! The catalog queries, one readable text each, as MySQL 5.7 understands them: no common table expressions
//! and no window functions.
//!
//! The schema is a literal in them, compared as the server compares names of schemas
//! (`lower_case_table_names`). Each reads `information_schema` for one schema, which every version looks up
//! by name.
use replicator_core::dialect::mysql::{Flavor, text};

/// Tables and columns, in order. The number of a reference system exists since MySQL 8.0.
pub(super) fn columns(flavor: Flavor, schema: &str) -> String {
    let srid = match flavor {
        Flavor::MySql => "c.SRS_ID",
        Flavor::MySql57 | Flavor::MariaDb => "NULL",
    };
    format!(
        "SELECT t.TABLE_NAME, t.ENGINE, c.COLUMN_NAME, c.COLUMN_TYPE, c.IS_NULLABLE, \
         c.COLUMN_DEFAULT IS NOT NULL, c.EXTRA, {srid} \
         FROM information_schema.TABLES t \
         JOIN information_schema.COLUMNS c \
         ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME \
         WHERE t.TABLE_SCHEMA = {schema} AND c.TABLE_SCHEMA = {schema} \
         AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') \
         ORDER BY t.TABLE_NAME, c.ORDINAL_POSITION",
        schema = text(schema)
    )
}

/// Unique indexes, in the order of their columns. An expression has no column.
pub(super) fn indexes(schema: &str) -> String {
    format!(
        "SELECT s.TABLE_NAME, s.INDEX_NAME, s.COLUMN_NAME, s.SUB_PART \
         FROM information_schema.STATISTICS s \
         WHERE s.TABLE_SCHEMA = {schema} AND s.NON_UNIQUE = 0 \
         ORDER BY s.TABLE_NAME, s.INDEX_NAME, s.SEQ_IN_INDEX",
        schema = text(schema)
    )
}

/// Foreign keys between tables of the schema, in the order of their columns.
pub(super) fn foreign_keys(schema: &str) -> String {
    format!(
        "SELECT k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_NAME, \
         k.REFERENCED_COLUMN_NAME \
         FROM information_schema.KEY_COLUMN_USAGE k \
         WHERE k.TABLE_SCHEMA = {schema} AND k.REFERENCED_TABLE_SCHEMA = {schema} \
         AND k.REFERENCED_TABLE_NAME IS NOT NULL \
         ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
        schema = text(schema)
    )
}

/// Checks, by which MariaDB tells a column of documents from one of text.
pub(super) fn checks(schema: &str) -> String {
    format!(
        "SELECT c.TABLE_NAME, c.CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS c \
         WHERE c.CONSTRAINT_SCHEMA = {schema}",
        schema = text(schema)
    )
}

#[cfg(test)]
mod tests {
    use replicator_core::dialect::mysql::Flavor;

    use super::{checks, columns, foreign_keys, indexes};

    #[test]
    fn w27_questions_are_such_as_mysql_5_7_understands() {
        let schema = "it's";
        let questions = [columns(Flavor::MySql57, schema), indexes(schema), foreign_keys(schema)];
        for sql in questions {
            let words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
            for word in words {
                let newer = ["WITH", "OVER", "LATERAL", "RECURSIVE", "SRS_ID", "CHECK_CONSTRAINTS"];
                assert!(!newer.contains(&word), "{word} in {sql}");
            }
            assert!(sql.contains("'it''s'"), "{sql}");
        }
        assert!(columns(Flavor::MySql, schema).contains("SRS_ID"));
        assert!(checks(schema).contains("CHECK_CONSTRAINTS"));
    }
}
