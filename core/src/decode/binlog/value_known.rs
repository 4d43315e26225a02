//! What the source's catalog says of a column, for sources whose TABLE_MAP does not say it.
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// What `information_schema.columns` says of a column (`--fetchMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownColumn {
    pub(super) name: String,
    pub(super) unsigned: bool,
    pub(super) charset: String,
    pub(super) labels: Vec<String>,
    pub(super) special: Option<Special>,
}

/// Types of MariaDB that are sent like BINARY and VARBINARY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Uuid,
    Inet4,
    Inet6,
    Vector,
}

impl KnownColumn {
    /// Takes `column_name`, `column_type` and `character_set_name`, which is NULL for what is no text.
    #[must_use]
    pub fn new(name: &str, column_type: &str, charset: Option<&str>) -> Self {
        let name_end = column_type.find(['(', ' ']).unwrap_or(column_type.len());
        let (kind, rest) = column_type.split_at_checked(name_end).unwrap_or((column_type, ""));
        let special = match kind {
            "uuid" => Some(Special::Uuid),
            "inet4" => Some(Special::Inet4),
            "inet6" => Some(Special::Inet6),
            "vector" => Some(Special::Vector),
            _ => None,
        };
        Self {
            name: name.to_owned(),
            unsigned: !matches!(kind, "enum" | "set") && rest.contains(" unsigned"),
            charset: charset.unwrap_or("binary").to_owned(),
            labels: if matches!(kind, "enum" | "set") { labels(rest) } else { Vec::new() },
            special,
        }
    }
}

/// The labels of `('a','it''s')`. The catalog doubles quotes and backslashes, and writes ends of lines and
/// zero bytes with a backslash.
fn labels(list: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut label = String::new();
    let mut chars = list.strip_prefix("('").unwrap_or_default().chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => label.extend(chars.next().map(|escaped| match escaped {
                'n' => '\n',
                'r' => '\r',
                '0' => '\0',
                other => other,
            })),
            '\'' => match chars.next() {
                Some('\'') => label.push('\''),
                // A comma and the next quote, or the closing bracket.
                _ => {
                    labels.push(core::mem::take(&mut label));
                    let _quote = chars.next();
                }
            },
            other => label.push(other),
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::{KnownColumn, Special};

    #[test]
    fn the_catalog_tells_signs_labels_and_types_that_no_map_shows() {
        let of = |column_type| KnownColumn::new("c", column_type, None);
        assert!(of("bigint(20) unsigned").unsigned);
        assert!(of("int unsigned zerofill").unsigned);
        assert!(!of("int").unsigned);
        assert!(!of("enum('a unsigned')").unsigned);
        assert_eq!(of("enum('a','it''s','','x,y')").labels, ["a", "it's", "", "x,y"]);
        assert_eq!(of("set('a')").labels, ["a"]);
        assert_eq!(of(r"set('a\\b','c\nd')").labels, [r"a\b", "c\nd"]);
        assert_eq!(of("vector(3)").special, Some(Special::Vector));
        assert_eq!(of("inet6").special, Some(Special::Inet6));
        assert_eq!(of("varchar(3)").charset, "binary");
    }
}
