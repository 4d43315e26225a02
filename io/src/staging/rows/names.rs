//! What the staging table of a target table is called.
//!
//! The older tool calls it after all parts of the target table's name, in lower case, joined by `_`. Two
//! tables may get one name that way (W-24), and PostgreSQL cuts long names off. So that name is only the
//! first choice; who has it is written down in a table. The others have a part that tells them apart.
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use replicator_core::dialect::Product;
use replicator_core::model::ident::TableName;

/// What PostgreSQL keeps of a name, in bytes (NAMEDATALEN).
const NAME_BYTES_MAX: usize = 63;

/// Hexadecimal digits that tell names apart.
const DIGITS: usize = 12;

/// Tables of a staging schema that hold no staged rows.
const TAKEN: [&str; 13] = [
    "_oracle_checkpoint",
    "checkpoints",
    "jwt_public_keys",
    "jwt_revoked_ids",
    "leases",
    "memo",
    "replicator_applied",
    "replicator_dlq",
    "replicator_fences",
    "replicator_layouts",
    "replicator_newest",
    "replicator_staging_tables",
    "resolved_timestamps",
];

/// The names that a staging table may have, the best one first. There is always another.
pub(super) fn choices(
    product: Product,
    database: &str,
    table: &TableName,
) -> impl Iterator<Item = String> {
    let parts = [database, &table.schema, &table.table];
    let first = documented(product, parts);
    let readable = joined(parts);
    let full = parts.map(|part| format!("{}:{part}", part.len())).concat();
    let others = (0_u32..).map(move |number| {
        let digest = digest(&SHA256, format!("{number}:{full}").as_bytes());
        let mut digits = hex(digest.as_ref());
        digits.truncate(DIGITS);
        let mut end = readable.len().min(NAME_BYTES_MAX - DIGITS - 1);
        while !readable.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}_{digits}", &readable[..end])
    });
    first.into_iter().chain(others)
}

/// The parts that there are; MySQL has no databases above its schemas.
fn joined([database, schema, table]: [&str; 3]) -> String {
    let parts = [schema, table].join("_").to_lowercase();
    if database.is_empty() { parts } else { format!("{}_{parts}", database.to_lowercase()) }
}

/// The documented name, if it can be used.
fn documented(product: Product, parts: [&str; 3]) -> Option<String> {
    let name = joined(parts);
    let fits = match product {
        Product::Postgres => name.len() <= NAME_BYTES_MAX,
        Product::Cockroach => true,
    };
    (fits && !TAKEN.contains(&name.as_str())).then_some(name)
}

/// What rows of a schema are filed under: the schema's documented text, `database.schema`, or the schema
/// alone where there are no databases. A name with a dot or a quote is quoted, so that no two schemas share it.
pub(super) fn group(database: &str, schema: &str) -> String {
    let part = |part: &str| {
        let plain = !part.contains(['.', '"']);
        if plain { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
    };
    if database.is_empty() {
        return part(schema);
    }
    format!("{}.{}", part(database), part(schema))
}

/// Takes apart what [`group`] put together: the database, empty if there is none, and the schema.
pub(super) fn parts_of(group: &str) -> Option<[String; 2]> {
    let mut parts = Vec::new();
    let mut rest = group;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            Some(quoted) => {
                // The quote that is not one of two ends it.
                let doubled = quoted.replace("\"\"", "\0\0");
                quoted.split_at_checked(doubled.find('"')?)?
            }
        };
        let quoted = rest.starts_with('"');
        parts.push(if quoted { part.replace("\"\"", "\"") } else { part.to_owned() });
        let after = if quoted { after.get(1..)? } else { after };
        match (after.strip_prefix('.'), parts.as_slice()) {
            (Some(more), [_]) => rest = more,
            (None, [schema]) if after.is_empty() => return Some([String::new(), schema.clone()]),
            (None, [database, schema]) if after.is_empty() => {
                return Some([database.clone(), schema.clone()]);
            }
            (Some(_) | None, _) => return None,
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES_MAX, Product, TableName, choices, group, parts_of};

    fn first(database: &str, schema: &str, table: &str, count: usize) -> Vec<String> {
        choices(Product::Postgres, database, &TableName::new(schema, table)).take(count).collect()
    }

    #[test]
    fn the_documented_name_comes_first() {
        assert_eq!(first("My_DB", "public", "Orders", 1), ["my_db_public_orders"]);
        assert_eq!(first("", "Shop", "Orders", 1), ["shop_orders"]);
    }

    #[test]
    fn w24_tables_whose_documented_names_are_one_have_others() {
        let (one, other) = (first("a_b", "c", "t", 9), first("a", "b_c", "t", 9));
        assert_eq!(one[0], other[0]);
        assert!(one[1..].iter().all(|name| !other.contains(name)), "{one:?} {other:?}");
        assert!(one[1].starts_with("a_b_c_t_"), "{}", one[1]);
        let (upper, lower) = (first("d", "s", "T", 2), first("d", "s", "t", 2));
        assert_ne!(upper[1], lower[1]);
    }

    #[test]
    fn w24_no_table_gets_the_name_of_one_that_is_ours() {
        for (database, schema, table) in [
            ("jwt", "public", "keys"),
            ("replicator", "staging", "tables"),
            ("", "_oracle", "checkpoint"),
        ] {
            let name = &first(database, schema, table, 1)[0];
            assert!(!super::TAKEN.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn w24_a_long_name_is_cut_before_it_is_one_with_another() {
        let long = "é".repeat(60);
        let (one, other) = (first("d", &long, "a", 1), first("d", &long, "b", 1));
        assert!(one[0].len() <= NAME_BYTES_MAX, "{}", one[0]);
        assert_ne!(one, other);
        let name = TableName::new(&long, "a");
        let kept = choices(Product::Cockroach, "d", &name).next();
        assert_eq!(kept, Some(format!("d_{long}_a")));
    }

    #[test]
    fn a_group_is_taken_apart_again() {
        for (database, schema) in
            [("app", "public"), ("", "shop"), ("A.b", "C"), ("a", "b\"c.\"\"d"), ("", "\"")]
        {
            let group = group(database, schema);
            assert_eq!(parts_of(&group), Some([database.to_owned(), schema.to_owned()]), "{group}");
        }
        for text in ["a.b.c", "\"a", "\"a\"b", "a.\"b\"c"] {
            assert_eq!(parts_of(text), None, "{text}");
        }
    }

    #[test]
    fn no_two_schemas_are_one_group() {
        assert_eq!(group("Db", "public"), "Db.public");
        assert_eq!(group("", "shop"), "shop");
        assert_ne!(group("", "a.b"), group("a", "b"));
        assert_ne!(group("a.b", "c"), group("a", "b.c"));
        assert_ne!(group("a", "B"), group("a", "b"));
    }
}
