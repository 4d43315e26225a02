//! One column of each type, and one array of each type, through inserts, updates and deletes.
use anyhow::Result;
use replicator_tests::databases::Databases;

use super::{check_each, literal};

/// Types and literals of theirs, and the first major version that has both.
const TYPES: [(&str, u16, &[&str]); 51] = [
    ("bool", 0, &["true", "false"]),
    ("int2", 0, &["-32768", "0", "32767"]),
    ("int4", 0, &["-2147483648", "0", "2147483647"]),
    ("int8", 0, &["-9223372036854775808", "0", "9223372036854775807"]),
    ("oid", 0, &["0", "4294967295"]),
    ("xid", 0, &["0", "4294967295"]),
    ("tid", 0, &["(0,1)", "(4294967294,65535)"]),
    (
        "numeric",
        0,
        &["NaN", "0", "-0.00100", "12345678901234567890.123456789012345678901234567890"],
    ),
    ("numeric(20,5)", 0, &["-999999999999999.99999", "1", "1.50000"]),
    ("numeric", 14, &["Infinity", "-Infinity", "1e1000", "-1e-1000"]),
    ("money", 0, &["-92233720368547758.08", "0", "12.34"]),
    ("float4", 0, &["NaN", "Infinity", "-Infinity", "-0", "3.4028235e38", "1e-45", "0.1"]),
    (
        "float8",
        0,
        &["NaN", "Infinity", "-Infinity", "-0", "1.7976931348623157e308", "5e-324", "0.1"],
    ),
    (
        "text",
        0,
        &[
            "",
            " ",
            "NULL",
            "null",
            "\\N",
            "\\",
            "a\tb\nc\rd",
            "\"{,}'$1",
            "\u{1}\u{7f}",
            "zażółć 👩‍👩‍👧 𝄞 \u{202e}",
        ],
    ),
    ("varchar(10)", 0, &["", "ten letter", "👍👍"]),
    ("char(5)", 0, &["", "a", "a b  "]),
    ("\"char\"", 0, &["", "a", "'"]),
    ("name", 0, &["", "Some \"name\""]),
    ("bytea", 0, &["", "\\x00", "\\xdeadbeef", "\\x5c6e0a27"]),
    (
        "date",
        0,
        &["infinity", "-infinity", "4713-01-01 BC", "0001-12-31 BC", "5874897-12-31", "2024-02-29"],
    ),
    ("time", 0, &["00:00:00", "24:00:00", "12:34:56.789012"]),
    ("time(0)", 0, &["23:59:59"]),
    ("timetz", 0, &["00:00:00+15:59", "24:00:00-15:59", "12:34:56.789012+05:45"]),
    (
        "timestamp",
        0,
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "2024-03-31 02:30:00",
        ],
    ),
    (
        "timestamptz",
        0,
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "2024-10-27 01:30:00+00",
        ],
    ),
    (
        "interval",
        0,
        &[
            "0",
            "178000000 years",
            "-178000000 years",
            "1 mon -1 day +02:03:04.000005",
            "-00:00:00.000001",
        ],
    ),
    ("interval", 17, &["infinity", "-infinity"]),
    ("uuid", 0, &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    (
        "json",
        0,
        &["null", "\"123\"", "  {\"a\" : 1, \"a\": 2}", "\"\\ud83d\\ude00 \\u0001\"", "1e400"],
    ),
    (
        "jsonb",
        0,
        &[
            "null",
            "\"123\"",
            "\"abc\"",
            "\"\"",
            "123",
            "[]",
            "{}",
            "{\"b\": [null, true, 1.10, \"x\"]}",
            "12345678901234567890.10",
        ],
    ),
    ("inet", 0, &["192.168.0.1/24", "10.0.0.1", "::1", "2001:db8::/32"]),
    ("cidr", 0, &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", 0, &["08:00:2b:01:02:03"]),
    ("macaddr8", 0, &["08:00:2b:01:02:03:04:05"]),
    ("point", 0, &["(0.1,-0)", "(NaN,Infinity)"]),
    ("line", 0, &["{1,-1,0.1}"]),
    ("lseg", 0, &["[(0,0),(1e300,0.1)]"]),
    ("box", 0, &["(1,1),(0,0)"]),
    ("path", 0, &["[(0,0),(1,1)]", "((0,0),(1,1))"]),
    ("polygon", 0, &["((0,0),(1,1),(2,0))"]),
    ("circle", 0, &["<(0,0),0.1>"]),
    ("bit(5)", 0, &["00000", "10110"]),
    ("varbit", 0, &["", "1", "101010101"]),
    ("tsvector", 0, &["", "'a':1A,2 'it''s':3"]),
    ("tsquery", 0, &["", "'a' & !'b':*"]),
    ("pg_lsn", 0, &["0/0", "FFFFFFFF/FFFFFFFF"]),
    ("regtype", 0, &["integer", "double precision", "text[]"]),
    ("txid_snapshot", 0, &["10:20:10,14,15"]),
    ("jsonpath", 12, &["$.\"a\"[*]?(@ > 1)"]),
    ("int4multirange", 14, &["{}", "{[1,3),[5,)}"]),
    ("tstzmultirange", 14, &["{[\"2024-01-01 00:00:00+00\",\"2024-01-02 00:00:00+00\")}"]),
];

/// Types that a user makes or that are made of others.
const MADE: [(&str, &[&str]); 12] = [
    ("mood", &["sad", "it's \"great\", {so} \\o/", "null", ""]),
    ("positive", &["1", "2147483647"]),
    ("\"Mixed Domain\"", &["{}", "{a,NULL,\"NULL\",\"\"}"]),
    ("pair", &["(1,)", "(,\"\")", "(1,\"a \"\"b\"\", (c)\")", "(,)"]),
    ("nested", &["(\"(1,x)\",\"{sad,null}\")", "(,{})"]),
    ("int4range", &["empty", "[1,5)", "(,5)", "[1,)", "(,)"]),
    ("int8range", &["empty", "[-9223372036854775808,9223372036854775807)"]),
    ("numrange", &["[-1.5,1.50]", "(0,1)"]),
    ("daterange", &["[-infinity,infinity)", "[2024-02-29,2024-03-01)"]),
    ("tsrange", &["[\"2024-01-01 00:00:00\",\"2024-01-02 00:00:00\")"]),
    ("tstzrange", &["[\"2024-01-01 00:00:00+00\",infinity]", "empty"]),
    ("float_range", &["[NaN,NaN]", "(-Infinity,-0]"]),
];

const MAKE_TYPES: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'it''s "great", {so} \o/', 'null', '');
    CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);
    ALTER DOMAIN positive DROP NOT NULL;
    CREATE DOMAIN "Mixed Domain" AS text[];
    CREATE TYPE pair AS (x int, "Y y" text);
    CREATE TYPE nested AS (inner_pair pair, moods mood[]);
    CREATE TYPE float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
"#;

fn types(major: u16) -> Vec<(&'static str, &'static [&'static str])> {
    let had = TYPES.into_iter().filter(|(_, since, _)| major >= *since);
    had.map(|(name, _, values)| (name, values)).chain(MADE).collect()
}

/// A table with columns c0, c1, … of these types.
fn create(types: &[(&str, &[&str])], suffix: &str) -> String {
    let columns = types.iter().enumerate().map(|(i, (name, _))| format!("c{i} {name}{suffix}"));
    let columns: Vec<String> = columns.collect();
    format!("CREATE TABLE zoo (id int PRIMARY KEY, {})", columns.join(", "))
}

/// The value of each column in row `row`, so that neighbours differ where a type has two values.
fn row(types: &[(&str, &[&str])], row: usize) -> Vec<String> {
    let value = |(name, values): &(&str, &[&str])| {
        format!("{}::{name}", literal(values[row % values.len()]))
    };
    types.iter().map(value).collect()
}

/// Ten rows, one of nothing but NULL; then each column takes another value; then every other column
/// becomes NULL and the rest stays; then rows go and come back.
fn statements(rows: impl Fn(usize) -> Vec<String>) -> Vec<String> {
    let columns = rows(0).len();
    let insert = |id: usize| format!("INSERT INTO zoo VALUES ({id}, {})", rows(id).join(", "));
    let set = |id: usize, from: usize| {
        let values = rows(from);
        let set: Vec<String> =
            values.iter().enumerate().map(|(i, value)| format!("c{i} = {value}")).collect();
        format!("UPDATE zoo SET {} WHERE id = {id}", set.join(", "))
    };
    let inserts: Vec<String> = (0..10).map(insert).collect();
    let updates: Vec<String> = (0..10).map(|id| set(id, id + 1)).collect();
    let nulls: Vec<String> = (0..columns).step_by(2).map(|i| format!("c{i} = NULL")).collect();
    vec![
        inserts.join(";"),
        "INSERT INTO zoo (id) VALUES (100)".to_owned(),
        updates.join(";"),
        set(100, 5),
        format!("UPDATE zoo SET {} WHERE id % 2 = 0", nulls.join(", ")),
        format!("DELETE FROM zoo WHERE id < 5; {}; {}", insert(1), insert(3)),
        format!("UPDATE zoo SET id = id + 1000; {}", set(1001, 7)),
        "DELETE FROM zoo WHERE id > 1004".to_owned(),
    ]
}

#[tokio::test]
async fn every_type_arrives_as_it_is() -> Result<()> {
    let databases = Databases::create("zoo_scalars").await?;
    let types = types(databases.major());
    databases.both(MAKE_TYPES).await?;
    databases.both(&create(&types, "")).await?;
    check_each(&databases, &statements(|id| row(&types, id))).await
}

#[tokio::test]
async fn arrays_of_every_type_arrive_as_they_are() -> Result<()> {
    let databases = Databases::create("zoo_arrays").await?;
    let mut types = types(databases.major());
    // There is no array of a domain over an array before version 14, and no constructor of one ever.
    types.retain(|(name, _)| *name != "\"Mixed Domain\"");
    databases.both(MAKE_TYPES).await?;
    databases.both(&create(&types, "[]")).await?;
    let rows = |row: usize| {
        let array = |(name, values): &(&str, &[&str])| {
            let elements: Vec<String> =
                values.iter().map(|value| format!("{}::{name}", literal(value))).collect();
            let all = elements.join(", ");
            let reverse: Vec<String> = elements.iter().rev().cloned().collect();
            match row % 5 {
                0 => format!("ARRAY[{all}]"),
                1 => format!("ARRAY[]::{name}[]"),
                2 => format!("ARRAY[NULL::{name}, {all}, NULL]"),
                3 => format!("ARRAY[ARRAY[{all}], ARRAY[{}]]", reverse.join(", ")),
                // An array that begins at 2.
                _ => format!(
                    "array_fill({}, ARRAY[2], ARRAY[2])",
                    elements.first().map_or("NULL", String::as_str)
                ),
            }
        };
        types.iter().map(array).collect()
    };
    check_each(&databases, &statements(rows)).await
}

#[tokio::test]
async fn w23_a_json_scalar_an_sql_null_and_bytes_stay_what_they_are() -> Result<()> {
    let databases = Databases::create("w23").await?;
    databases
        .both("CREATE TABLE t (id int PRIMARY KEY, b jsonb, j json, bytes bytea, other int)")
        .await?;
    let every_byte =
        "(SELECT string_agg(set_byte('\\x00', 0, i), '') FROM generate_series(0, 255) i)";
    let statements = [
        format!(
            "INSERT INTO t VALUES (1, '\"123\"', '\"123\"', {every_byte}), (2, '123', '123', ''),
             (3, 'null', 'null', '\\x00'), (4, NULL, NULL, NULL), (5, '\"abc\"', '\"\"', 'abc'),
             (6, 'true', '\"true\"', '\\x5c78')"
        ),
        "UPDATE t SET other = 1".to_owned(),
        "UPDATE t SET b = to_jsonb(b #>> '{}') WHERE id IN (1, 2, 5, 6)".to_owned(),
        "UPDATE t SET b = NULL WHERE id = 3; UPDATE t SET b = 'null' WHERE id = 4".to_owned(),
    ];
    check_each(&databases, &statements).await?;
    let types = databases
        .to
        .query_one("SELECT string_agg(coalesce(jsonb_typeof(b), '-'), ' ' ORDER BY id) FROM t", &[])
        .await?;
    assert_eq!(types.get::<_, String>(0), "string string - null string string");
    assert_eq!(databases.number("SELECT length(bytes)::int8 FROM t WHERE id = 1").await?, 256);
    Ok(())
}

#[tokio::test]
async fn settings_of_a_database_change_no_value() -> Result<()> {
    let databases = Databases::create("zoo_settings").await?;
    let types = types(databases.major());
    databases.both(MAKE_TYPES).await?;
    databases.both(&create(&types, "")).await?;
    let set = |settings: &[(&str, &str)]| {
        let sql = settings.iter().map(|(name, value)| {
            format!("ALTER DATABASE {} SET {name} = {};", databases.name(), literal(value))
        });
        sql.collect::<String>()
    };
    let here = [
        ("datestyle", "SQL, DMY"),
        ("intervalstyle", "sql_standard"),
        ("timezone", "Asia/Kathmandu"),
        ("bytea_output", "escape"),
        ("extra_float_digits", "-10"),
        ("client_encoding", "latin1"),
    ];
    let there = [
        ("datestyle", "German"),
        ("intervalstyle", "iso_8601"),
        ("timezone", "America/St_Johns"),
        ("search_path", "nowhere, \"$user\""),
        ("client_encoding", "latin1"),
        ("default_transaction_isolation", "serializable"),
    ];
    databases.from.batch_execute(&set(&here)).await?;
    databases.to.batch_execute(&set(&there)).await?;
    check_each(&databases, &statements(|id| row(&types, id))).await
}

#[tokio::test]
async fn a_latin1_source_arrives_in_utf8() -> Result<()> {
    let latin1 = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    let databases = Databases::create_with("zoo_latin1", latin1, "").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, \"Größe\" text)").await?;
    let insert = "INSERT INTO t VALUES (1, 'Übergrößenträger'), (2, 'façade ¿?')".to_owned();
    let update = "UPDATE t SET \"Größe\" = \"Größe\" || 'é' WHERE id = 2".to_owned();
    check_each(&databases, &[insert, update]).await
}
