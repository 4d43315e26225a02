//! Values as a changefeed prints them, in columns of every type.
use std::sync::Arc;

use anyhow::{Context as _, Result};
use replicator_core::Failure;
use replicator_core::decode::changefeed::{
    BodyKind, Changefeed, Limits, Message, Scope, TargetKind,
};
use replicator_core::model::mutation::Mutation;
use replicator_tests::mysql::Kind;

use super::bench::{Bench, servers};

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It reads back like this.
    Is(&'static str),
    /// It is refused, and nothing is written.
    Refused,
}

use Fate::{Is, Refused};

/// A column's type, how to read it back, and values in JSON. `v` is the column.
type Case = (&'static str, &'static str, &'static [(&'static str, Fate)]);

/// Most values are those of `core/tests/changefeed/vectors.json`.
const CASES: [Case; 27] = [
    (
        "BIGINT",
        "v",
        &[
            ("-9223372036854775808", Is("-9223372036854775808")),
            ("9007199254740993", Is("9007199254740993")),
            ("9223372036854775808", Refused),
            ("1.5", Refused),
            ("\"x\"", Refused),
            ("null", Is("NULL")),
        ],
    ),
    (
        "BIGINT UNSIGNED",
        "v",
        &[("18446744073709551615", Is("18446744073709551615")), ("-1", Refused)],
    ),
    ("INT", "v", &[("1E+3", Is("1000")), ("2147483648", Refused)]),
    ("TINYINT(1)", "v", &[("true", Is("1")), ("false", Is("0")), ("128", Refused)]),
    (
        "DOUBLE",
        "v = 1E308 OR v = 5E-324 OR v = -1.5",
        &[
            ("1E+308", Is("1")),
            ("5E-324", Is("1")),
            ("-1.5", Is("1")),
            ("-0", Is("0")),
            ("\"NaN\"", Refused),
            ("\"-Infinity\"", Refused),
        ],
    ),
    (
        "FLOAT",
        "FORMAT(v, 1) ",
        &[
            ("1.1", Is("1.1")),
            ("16777217", Is("16,777,216.0")),
            ("3.4028235E+38", Is("340,282,346,638,528,860,000,000,000,000,000,000,000.0")),
            ("1E+39", Refused),
            ("\"Infinity\"", Refused),
        ],
    ),
    (
        "DECIMAL(65,30)",
        "v",
        &[
            (
                "12345678901234567890123456789012345.123456789012345678901234567890",
                Is("12345678901234567890123456789012345.123456789012345678901234567890"),
            ),
            ("1.50E+1", Is("15.000000000000000000000000000000")),
            ("1E+35", Refused),
            ("\"NaN\"", Refused),
        ],
    ),
    (
        "VARCHAR(20)",
        "v",
        &[
            ("\"it's \\\"q\\\" \\\\ b\"", Is("it's \"q\" \\ b")),
            ("\"é 漢字 😀\"", Is("é 漢字 😀")),
            ("\"\"", Is("")),
            ("\"12345678901234567890 \"", Refused),
            ("[1, null]", Is("[1, null]")),
        ],
    ),
    (
        "LONGTEXT",
        "HEX(v)",
        &[("\"new\\nline\\u0001\\u001f\"", Is("6E65770A6C696E65011F")), ("\"\\u0000\"", Is("00"))],
    ),
    ("VARCHAR(20) CHARACTER SET latin1", "HEX(v)", &[("\"é\"", Is("E9")), ("\"漢\"", Refused)]),
    ("CHAR(5)", "CONCAT(v, '|')", &[("\"ab\"", Is("ab|")), ("\"abcdef\"", Refused)]),
    (
        "CHAR(36)",
        "v",
        &[("\"ffffffff-ffff-4fff-8fff-ffffffffffff\"", Is("ffffffff-ffff-4fff-8fff-ffffffffffff"))],
    ),
    (
        "BINARY(16)",
        "HEX(v)",
        &[
            ("\"ffffffff-ffff-4fff-8fff-ffffffffffff\"", Is("FFFFFFFFFFFF4FFF8FFFFFFFFFFFFFFF")),
            ("\"\\\\x00ff\"", Is("00FF0000000000000000000000000000")),
            ("\"\\\\x0000000000000000000000000000000000\"", Refused),
        ],
    ),
    (
        "BLOB",
        "HEX(v)",
        &[
            ("\"\\\\x\"", Is("")),
            ("\"\\\\x5c78\"", Is("5C78")),
            ("\"\\\\xdeadbeef\"", Is("DEADBEEF")),
            ("\"text\"", Refused),
            ("1", Refused),
        ],
    ),
    (
        "DATE",
        "v",
        &[
            ("\"2024-02-29\"", Is("2024-02-29")),
            ("\"9999-12-31\"", Is("9999-12-31")),
            ("\"2023-02-29\"", Refused),
            ("\"0044-03-15 BC\"", Refused),
            ("\"infinity\"", Refused),
            ("\"2024-02-29T01:02:03\"", Refused),
        ],
    ),
    (
        "DATETIME(6)",
        "v",
        &[
            ("\"2024-02-29T01:02:03.123456\"", Is("2024-02-29 01:02:03.123456")),
            ("\"2024-02-29T09:02:03.5Z\"", Is("2024-02-29 09:02:03.500000")),
            ("\"294276-12-31T23:59:59.999999\"", Refused),
            ("\"-4713-11-24T00:00:00\"", Refused),
        ],
    ),
    (
        "TIMESTAMP(3) NULL",
        "v",
        &[
            ("\"2024-02-28T19:32:03.123456Z\"", Is("2024-02-28 19:32:03.123")),
            ("\"0001-01-01T00:00:00Z\"", Refused),
            ("\"2024-02-28T19:32:03+02:00\"", Refused),
        ],
    ),
    (
        "TIME(6)",
        "v",
        &[
            ("\"24:00:00\"", Is("24:00:00.000000")),
            ("\"23:59:59.999999\"", Is("23:59:59.999999")),
            ("\"100:00:00\"", Is("100:00:00.000000")),
            ("\"24:00:00-15:59:00\"", Refused),
            ("\"-1 days\"", Refused),
        ],
    ),
    ("YEAR", "v", &[("2155", Is("2155")), ("0", Is("0000")), ("70", Refused), ("2156", Refused)]),
    (
        "BIT(8)",
        "v + 0",
        &[
            ("\"1010\"", Is("10")),
            ("\"00000001\"", Is("1")),
            ("true", Is("1")),
            ("\"111111111\"", Refused),
            ("\"2\"", Refused),
        ],
    ),
    (
        "ENUM('sad','5','it''s \"q\"')",
        "v",
        &[
            ("\"sad\"", Is("sad")),
            ("\"5\"", Is("5")),
            ("\"it's \\\"q\\\"\"", Is("it's \"q\"")),
            ("\"1\"", Refused),
            ("\"happy\"", Refused),
            ("\"\"", Refused),
        ],
    ),
    (
        "SET('a','b')",
        "v",
        &[("\"a,b\"", Is("a,b")), ("\"\"", Is("")), ("\"3\"", Refused), ("\"c\"", Refused)],
    ),
    (
        "JSON",
        "JSON_EXTRACT(v, '$')",
        &[
            ("true", Is("true")),
            (
                "[\"a\", null, \"b,c\", \"q\\\"\", \"\\\\\"]",
                Is("[\"a\", null, \"b,c\", \"q\\\"\", \"\\\\\"]"),
            ),
            ("\"text\"", Is("\"text\"")),
            ("12345678901234567890", Is("12345678901234567890")),
            ("null", Is("NULL")),
        ],
    ),
    (
        "GEOMETRY",
        "ST_AsText(v)",
        &[
            ("{\"coordinates\": [1.5, -2], \"type\": \"Point\"}", Is("POINT(1.5 -2)")),
            (
                "{\"coordinates\": [[0, 0], [1, 1]], \"type\": \"LineString\"}",
                Is("LINESTRING(0 0,1 1)"),
            ),
            ("{\"coordinates\": [], \"type\": \"Point\"}", Refused),
            ("\"POINT (1 2)\"", Is("POINT(1 2)")),
            ("\"0101\"", Refused),
        ],
    ),
    (
        "POINT NOT NULL",
        "ST_SRID(v)",
        &[("{\"coordinates\": [1, 2], \"type\": \"Point\"}", Is("0"))],
    ),
    (
        "VARBINARY(4)",
        "HEX(v)",
        &[("\"\\\\x616263\"", Is("616263")), ("\"\\\\x6162636465\"", Refused)],
    ),
    ("INT NOT NULL", "v", &[("7", Is("7")), ("null", Refused)]),
];

/// Reads rows as they come from a changefeed.
fn read(bench: &Bench, table: &str, id: usize, json: &str) -> Result<Vec<Mutation>> {
    let (catalog, schema) = (Arc::clone(&bench.catalog), bench.database.clone());
    let mut feed = Changefeed::new(catalog, schema, TargetKind::MySql, Limits::default());
    let body = format!(
        r#"{{"payload":[{{"topic":"{table}","key":[{id}],"after":{{"id":{id},"v":{json}}},"updated":"1.0000000000"}}],"length":1}}"#
    );
    match feed.read(&Scope::Topics, BodyKind::Webhook, body.as_bytes())? {
        Message::Rows(rows) => rows.map(|row| Ok(row?.mutation)).collect(),
        Message::Resolved(time) => anyhow::bail!("a promise of {time}"),
    }
}

#[tokio::test]
async fn w13b_a10_values_arrive_as_they_are_or_are_refused() -> Result<()> {
    let tables: Vec<String> = (0..)
        .zip(CASES)
        .map(|(n, (of, _, _))| format!("CREATE TABLE t{n} (id BIGINT PRIMARY KEY, v {of})"))
        .collect();
    for (kind, server) in servers()? {
        let mut bench = Bench::on(server, "every_type", &tables.join(";")).await?;
        for (n, (of, shown, values)) in CASES.into_iter().enumerate() {
            let table = format!("t{n}");
            for (id, (json, fate)) in values.iter().enumerate() {
                // What cannot be a value of the column at all is refused where it is read.
                let applied = match read(&bench, &table, id, json) {
                    Ok(rows) => bench.apply(rows).await,
                    Err(error) => Err(Failure::Rejected { detail: error.to_string(), at: None }),
                };
                let sql = format!("SELECT {shown} FROM {table} WHERE id = {id}");
                let there = bench.ask(&sql).await.with_context(|| sql.clone())?;
                match (fate, &applied) {
                    (Is(text), Ok(())) => assert_eq!(there, *text, "{kind} {of} {json}"),
                    (Refused, Err(Failure::Rejected { detail, .. })) => {
                        assert_eq!(there, "", "{kind} {of} {json}");
                        let value = json.trim_matches('"');
                        let names = detail.contains("`v`")
                            || detail.contains("'v'")
                            || detail.contains("\"v\"");
                        assert!(names || !detail.contains("column"), "{kind} {of}: {detail}");
                        assert!(
                            value.len() <= 4 || !detail.contains(value),
                            "{kind} {of}: {detail}"
                        );
                    }
                    _ => panic!("{kind} {of} {json}: {applied:?}, and there is {there:?}"),
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn keys_of_many_types_are_found_again() -> Result<()> {
    let types = [
        ("BIGINT UNSIGNED", "18446744073709551615"),
        ("DECIMAL(20,2)", "1.50"),
        ("DOUBLE", "1.1"),
        ("FLOAT", "1.1"),
        ("DATE", "2024-02-29"),
        ("DATETIME(6)", "2024-02-29T01:02:03.123456"),
        ("TIME(3)", "24:00:00"),
        ("BINARY(16)", "ffffffff-ffff-4fff-8fff-ffffffffffff"),
        ("BINARY(4)", "\\x01"),
        ("VARCHAR(20) CHARACTER SET latin1", "é"),
        ("CHAR(5)", "ab"),
        ("ENUM('a','5')", "5"),
        ("BIT(8)", "00001010"),
        ("YEAR", "2024"),
    ];
    let tables: Vec<String> = (0..)
        .zip(types)
        .map(|(n, (of, _))| format!("CREATE TABLE k{n} (id {of} PRIMARY KEY, v INT)"))
        .collect();
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "many_keys", &tables.join(";")).await?;
        for (n, (of, key)) in types.into_iter().enumerate() {
            let table = format!("k{n}");
            let count = format!("SELECT CONCAT(COUNT(*), ':', COALESCE(SUM(v), 0)) FROM {table}");
            for v in ["1", "2"] {
                assert_eq!(
                    bench.apply(vec![bench.upsert(&table, &[key, v])]).await,
                    Ok(()),
                    "{of}"
                );
            }
            assert_eq!(bench.ask(&count).await?, "1:2", "{kind:?} {of}");
            assert_eq!(bench.apply(vec![bench.update(&table, &[key, "3"])]).await, Ok(()), "{of}");
            assert_eq!(bench.ask(&count).await?, "1:3", "{kind:?} {of}");
            assert_eq!(
                bench.apply(vec![bench.delete(&table, &[key, "NULL"])]).await,
                Ok(()),
                "{of}"
            );
            assert_eq!(bench.ask(&count).await?, "0:0", "{kind:?} {of}");
        }
    }
    Ok(())
}
