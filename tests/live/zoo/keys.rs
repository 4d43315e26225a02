//! Keys of every type that can be one, also where two values are equal and look different.
use anyhow::Result;
use replicator_tests::databases::Databases;

use super::{check_each, follow, literal};

/// Types of keys, and four different values of each.
const KEYS: [(&str, [&str; 4]); 22] = [
    ("bool, k2 int", ["true", "false", "true", "false"]),
    ("int2", ["-32768", "0", "1", "32767"]),
    ("int8", ["-9223372036854775808", "0", "1", "9223372036854775807"]),
    ("numeric", ["NaN", "-1e-20", "0.10", "12345678901234567890.5"]),
    ("float8", ["NaN", "Infinity", "-1e-300", "0.1"]),
    ("float4", ["NaN", "-Infinity", "1e-40", "0.1"]),
    ("text", ["", " ", "NULL", "a\"b'c\\d,{}"]),
    ("varchar(20)", ["", "ß", "SS", "ss"]),
    ("char(4)", ["", "a", "A", "ab c"]),
    ("bytea", ["", "\\x00", "\\x0000", "\\xff"]),
    ("date", ["-infinity", "infinity", "0044-03-15 BC", "2024-02-29"]),
    ("time", ["00:00:00", "24:00:00", "12:00:00.000001", "12:00:00"]),
    ("timetz", ["12:00:00+00", "12:00:00+01", "13:00:00+01", "00:00:00-12"]),
    ("timestamp", ["-infinity", "infinity", "0044-03-15 12:00:00 BC", "2024-03-31 02:30:00"]),
    (
        "timestamptz",
        ["-infinity", "infinity", "0044-03-15 12:00:00+00 BC", "2024-03-31 02:30:00+00"],
    ),
    ("interval", ["1 mon", "-1 day", "00:00:00.000001", "2 years"]),
    (
        "uuid",
        [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "12345678-1234-1234-1234-123456789012",
            "12345678-1234-1234-1234-123456789013",
        ],
    ),
    ("inet", ["10.0.0.1", "10.0.0.1/8", "::1", "::1/64"]),
    ("jsonb", ["null", "\"1\"", "1", "{\"a\": [1, {}]}"]),
    ("text[]", ["{}", "{NULL}", "{\"NULL\"}", "{a,\"b c\"}"]),
    ("int4range", ["empty", "[1,2)", "(,1)", "(,)"]),
    ("mood", ["", "ok", "NULL", "it's"]),
];

#[tokio::test]
async fn rows_are_found_by_keys_of_every_type() -> Result<()> {
    let databases = Databases::create("zoo_keys").await?;
    databases.both("CREATE TYPE mood AS ENUM ('', 'ok', 'NULL', 'it''s')").await?;
    let [mut create, mut insert, mut move_up, mut delete] = [const { String::new() }; 4];
    let update = |suffix: &str| {
        let tables = 0..KEYS.len();
        tables.map(|i| format!("UPDATE keyed_{i} SET v = v + 1 {suffix};")).collect::<String>()
    };
    for (i, (columns, values)) in KEYS.iter().enumerate() {
        let composite = columns.contains(',');
        let key = if composite { "k, k2" } else { "k" };
        let kind = columns.split(',').next().unwrap_or_default();
        create += &format!("CREATE TABLE keyed_{i} (v int, k {columns}, PRIMARY KEY ({key}));");
        for (number, value) in values.iter().enumerate() {
            let second = if composite { format!(", {}", number / 2) } else { String::new() };
            insert +=
                &format!("INSERT INTO keyed_{i} VALUES ({number}, {}{second});", literal(value));
        }
        // The first goes, and the last takes its key.
        delete += &format!("DELETE FROM keyed_{i} WHERE v = 1;");
        let second = if composite { ", k2 = 0" } else { "" };
        move_up += &format!(
            "UPDATE keyed_{i} SET k = {}::{kind}{second} WHERE v = 4;",
            literal(values[0])
        );
    }
    databases.both(&create).await?;
    check_each(
        &databases,
        &[insert, update(""), update("WHERE v > 2"), delete + &move_up, update("")],
    )
    .await
}

/// Two keys that are equal for the database and whose text differs: changing one into the other is no
/// change of the key, and after it the row is still one.
#[tokio::test]
async fn keys_that_are_equal_but_look_different_are_one_row() -> Result<()> {
    const PAIRS: [(&str, &str, &str); 5] = [
        ("numeric", "1.0", "1.00"),
        ("float8", "0", "-0"),
        ("interval", "1 day", "24:00:00"),
        ("jsonb", "1.0", "1.00"),
        ("numeric[]", "{1.0,2}", "{1.00,2.0}"),
    ];
    let databases = Databases::create("zoo_equal").await?;
    let of_each = |sql: &str| {
        let each = PAIRS.iter().enumerate().map(|(i, (kind, one, other))| {
            sql.replace("TABLE", "equal_{i}")
                .replace("{i}", &i.to_string())
                .replace("KIND", kind)
                .replace("ONE", &literal(one))
                .replace("OTHER", &literal(other))
        });
        each.collect::<Vec<_>>().join(";")
    };
    databases.both(&of_each("CREATE table TABLE (k KIND PRIMARY KEY, v int)")).await?;
    let statements = [
        of_each("INSERT INTO TABLE VALUES (ONE, 1)"),
        of_each("UPDATE TABLE SET k = OTHER"),
        of_each("UPDATE TABLE SET v = 2 WHERE k = ONE"),
        of_each(
            "UPDATE TABLE SET k = ONE; UPDATE TABLE SET k = OTHER, v = 3; UPDATE TABLE SET v = 4",
        ),
        of_each("DELETE FROM TABLE; INSERT INTO TABLE VALUES (ONE, 5)"),
        of_each(
            "UPDATE TABLE SET k = OTHER; DELETE FROM TABLE WHERE k = ONE; INSERT INTO TABLE VALUES (OTHER, 6)",
        ),
        of_each("DELETE FROM TABLE WHERE k = ONE"),
    ];
    let mut replicator = follow(&databases).await?;
    // What the key looks like is not compared: the target may keep the look it had first.
    let look = (0..PAIRS.len()).map(|i| {
        let key = literal(PAIRS[i].1);
        format!("(SELECT string_agg(format('%s %s', v, k = {key}), ', ') FROM equal_{i})")
    });
    let look = format!("SELECT concat_ws('; ', {})", look.collect::<Vec<_>>().join(", "));
    for statement in statements {
        databases.from.batch_execute(&statement).await?;
        databases.confirmed(&mut replicator).await?;
        let source: String = databases.from.query_one(&look, &[]).await?.get(0);
        let target: String = databases.to.query_one(&look, &[]).await?.get(0);
        assert_eq!(source, target, "after {statement}");
    }
    Ok(())
}
