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
    let readable = parts.join("_").to_lowercase();
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

/// The documented name, if it can be used.
fn documented(product: Product, parts: [&str; 3]) -> Option<String> {
    let name = parts.join("_").to_lowercase();
    let fits = match product {
        Product::Postgres => name.len() <= NAME_BYTES_MAX,
        Product::Cockroach => true,
    };
    (fits && !TAKEN.contains(&name.as_str())).then_some(name)
}

/// What rows of a schema are filed under: the schema's documented text, `database.schema`. A name with a
/// dot or a quote is quoted, so that no two schemas share it.
pub(super) fn group(database: &str, schema: &str) -> String {
    let part = |part: &str| {
        let plain = !part.contains(['.', '"']);
        if plain { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
    };
    format!("{}.{}", part(database), part(schema))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES_MAX, Product, TableName, choices, group};

    fn first(database: &str, schema: &str, table: &str, count: usize) -> Vec<String> {
        choices(Product::Postgres, database, &TableName::new(schema, table)).take(count).collect()
    }

    #[test]
    fn the_documented_name_comes_first() {
        assert_eq!(first("My_DB", "public", "Orders", 1), ["my_db_public_orders"]);
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
            ("", "oracle", "checkpoint"),
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
    fn no_two_schemas_are_one_group() {
        assert_eq!(group("Db", "public"), "Db.public");
        assert_ne!(group("a.b", "c"), group("a", "b.c"));
        assert_ne!(group("a", "B"), group("a", "b"));
    }
}
