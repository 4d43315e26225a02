//! Names of schemas, tables and columns.
//!
//! PostgreSQL and CockroachDB compare stored names exactly, so do we: `"Foo"` and `"foo"` are two
//! tables. Folding of unquoted names happens once, where text is parsed.
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A table's full name: schema and table, both as the catalog spells them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema, without its database.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// Builds a name from its two parts.
    #[must_use]
    pub fn new(schema: &str, table: &str) -> Self {
        Self { schema: schema.to_owned(), table: table.to_owned() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", Quoted(&self.schema), Quoted(&self.table))
    }
}

/// Prints one identifier in double quotes, with quotes inside it doubled.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for (index, part) in self.0.split('"').enumerate() {
            if index > 0 {
                f.write_str("\"\"")?;
            }
            f.write_str(part)?;
        }
        f.write_str("\"")
    }
}

/// A schema as a flag names it: `schema`, `database.schema`, each part quoted where needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaName {
    /// The database, if the text named one.
    pub database: Option<String>,
    /// The schema.
    pub schema: String,
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            Some(database) => write!(f, "{}.{}", Quoted(database), Quoted(&self.schema)),
            None => Quoted(&self.schema).fmt(f),
        }
    }
}

/// The text is not a dotted name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read \"{text}\" as a name: {reason}")]
pub struct ParseNameError {
    text: String,
    reason: &'static str,
}

/// Splits a dotted name into its parts. A part in double quotes may hold anything, `""` stands for a
/// quote inside it; a bare part runs to the next dot and is folded to lower case, as both products do.
///
/// # Errors
///
/// The text is empty, a part is empty, a quote is not closed, or something follows a closing quote.
pub fn parse_parts(text: &str) -> Result<Vec<String>, ParseNameError> {
    let error = |reason| ParseNameError { text: text.to_owned(), reason };
    let mut parts = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        let mut part = String::new();
        if rest.next_if_eq(&'"').is_some() {
            loop {
                match rest.next() {
                    Some('"') if rest.next_if_eq(&'"').is_some() => part.push('"'),
                    Some('"') => break,
                    Some(c) => part.push(c),
                    None => return Err(error("a quote is not closed")),
                }
            }
        } else {
            while let Some(c) = rest.next_if(|c| *c != '.') {
                if c == '"' {
                    return Err(error("a quote must stand at the start of a part"));
                }
                part.extend(c.to_lowercase());
            }
        }
        if part.is_empty() {
            return Err(error("a part is empty"));
        }
        parts.push(part);
        match rest.next() {
            None => return Ok(parts),
            Some('.') => (),
            Some(_) => return Err(error("a dot must follow a closing quote")),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::{Quoted, TableName, parse_parts};

    #[test]
    fn a_quoted_part_keeps_dots_and_quotes() {
        let parts = parse_parts(r#"Db."My ""odd"".Schema".t"#).unwrap();
        assert_eq!(parts, vec!["db", "My \"odd\".Schema", "t"]);
    }

    #[test]
    fn broken_names_are_refused() {
        for text in ["", ".", "a.", ".a", "\"a", "\"a\"b", "a\"b\"", "\"\""] {
            assert!(parse_parts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quotes_inside_a_name_are_doubled() {
        assert_eq!(Quoted("a\"b").to_string(), "\"a\"\"b\"");
        assert_eq!(TableName::new("s", "T.t").to_string(), "\"s\".\"T.t\"");
    }
}
