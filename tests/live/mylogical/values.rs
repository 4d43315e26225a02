//! Values of every type, compared cell by cell with what the source prints.
use anyhow::{Result, ensure};
use replicator_tests::moving::Moving;
use replicator_tests::mysql::Kind;

use super::on_both;

/// A column: its type at the source and at the target, values as SQL, and how each side prints them. `{}` is the
/// column.
struct Column {
    source: &'static str,
    target: &'static str,
    values: &'static [&'static str],
    shown: [&'static str; 2],
}

const PLAIN: [&str; 2] = ["{}", "{}"];
const HEX: [&str; 2] = ["LOWER(HEX({}))", "encode({}, 'hex')"];

const fn of(
    source: &'static str,
    target: &'static str,
    values: &'static [&'static str],
    shown: [&'static str; 2],
) -> Column {
    Column { source, target, values, shown }
}

/// Of both products. The targets are those of the documents' table of conversions.
const COLUMNS: &[Column] = &[
    of("TINYINT", "INT2", &["-128", "127", "0"], PLAIN),
    of("TINYINT UNSIGNED", "INT2", &["255", "0"], PLAIN),
    of("BOOL", "BOOL", &["TRUE", "FALSE"], ["IF({} IS NULL, NULL, IF({}, 't', 'f'))", "{}"]),
    of("SMALLINT UNSIGNED", "INT4", &["65535"], PLAIN),
    of("MEDIUMINT", "INT4", &["-8388608", "8388607"], PLAIN),
    of("MEDIUMINT UNSIGNED", "INT4", &["16777215"], PLAIN),
    of("INT", "INT4", &["-2147483648", "2147483647"], PLAIN),
    of("INT UNSIGNED", "INT8", &["4294967295"], PLAIN),
    of("BIGINT", "INT8", &["-9223372036854775808", "9223372036854775807"], PLAIN),
    of("BIGINT UNSIGNED", "NUMERIC(20)", &["18446744073709551615", "9223372036854775808"], PLAIN),
    of(
        "DECIMAL(65,30)",
        "NUMERIC(65,30)",
        &[
            "12345678901234567890123456789012345.123456789012345678901234567890",
            "-0.000000000000000000000000000001",
            "0",
        ],
        PLAIN,
    ),
    of("DECIMAL(10,0) UNSIGNED", "NUMERIC", &["9999999999"], PLAIN),
    of("FLOAT", "FLOAT4", &["1.5", "-0.25", "16777216"], ["CAST({} AS DOUBLE)", "{}::FLOAT8"]),
    of("DOUBLE", "FLOAT8", &["1.5", "0.1", "-123456.789"], PLAIN),
    of("BIT(1)", "BOOL", &["b'1'", "b'0'"], ["IF({} IS NULL, NULL, IF({}, 't', 'f'))", "{}"]),
    of("BIT(9)", "VARBIT", &["b'100000001'", "b'1'"], ["LPAD(BIN({}), 9, '0')", "{}"]),
    of(
        "BIT(64)",
        "VARBIT",
        &["b'1111111111111111111111111111111111111111111111111111111111111111'"],
        ["LPAD(BIN({}), 64, '0')", "{}"],
    ),
    of("YEAR", "INT2", &["1901", "2155"], PLAIN),
    of("DATE", "DATE", &["'1000-01-01'", "'9999-12-31'"], PLAIN),
    of("TIME", "TIME", &["'23:59:59'", "'00:00:00'"], PLAIN),
    of("TIME(6)", "TIME(6)", &["'01:02:03.000004'"], PLAIN),
    of("TIME(3)", "INTERVAL", &["'-838:59:58.125'", "'838:59:58.875'"], PLAIN),
    of(
        "DATETIME(6)",
        "TIMESTAMP(6)",
        &["'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'"],
        ["DATE_FORMAT({}, '%Y-%m-%d %H:%i:%s.%f')", "to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')"],
    ),
    of("DATETIME", "TIMESTAMP", &["'2026-02-28 23:59:59'"], PLAIN),
    // An instant: what it is does not depend on anybody's time zone.
    of(
        "TIMESTAMP(3)",
        "TIMESTAMPTZ",
        &["'2026-07-01 12:00:00.125'", "'1970-01-02 00:00:00'"],
        ["ROUND(UNIX_TIMESTAMP({}), 3)", "round(extract(epoch FROM {}), 3)"],
    ),
    of("CHAR(5)", "VARCHAR(5)", &["'ab'", "''"], PLAIN),
    of(
        "VARCHAR(300)",
        "VARCHAR(300)",
        &["'Grüße, мир, 世界, 🦀'", "''", "REPEAT('ä', 300)"],
        PLAIN,
    ),
    of("VARCHAR(20) CHARACTER SET latin1", "TEXT", &["'Grüße €'"], PLAIN),
    of("VARCHAR(20) CHARACTER SET cp1251", "TEXT", &["'мир'"], PLAIN),
    of("VARCHAR(20) CHARACTER SET sjis", "TEXT", &["'世界'"], PLAIN),
    of("VARCHAR(20) CHARACTER SET gbk", "TEXT", &["'世界'"], PLAIN),
    of("VARCHAR(20) CHARACTER SET utf16", "TEXT", &["'🦀 x'"], PLAIN),
    of("TEXT", "TEXT", &["'a\\tb\\n''c''\\\\'", "REPEAT('x', 60000)"], PLAIN),
    of("LONGTEXT", "TEXT", &["REPEAT('ö', 100000)"], PLAIN),
    of("ENUM('small', 'it''s', 'a,b', '')", "TEXT", &["'small'", "'it''s'", "'a,b'"], PLAIN),
    of("SET('a', 'b', 'c')", "TEXT", &["'a,c'", "''", "'b'"], PLAIN),
    of("BINARY(4)", "BYTEA", &["x'00ff0001'", "x'00'"], HEX),
    of("VARBINARY(300)", "BYTEA", &["x'00ff5c27'", "x''"], HEX),
    of("BLOB", "BYTEA", &["x'deadbeef00'", "REPEAT(x'ff', 60000)"], HEX),
    of("LONGBLOB", "BYTEA", &["REPEAT(x'00', 100000)"], HEX),
    of(
        "JSON",
        "JSONB",
        &[
            "'{\"a\": [1, 2.5, \"x\", null, true], \"ü\": {\"n\": 18446744073709551615}}'",
            "'\"text\"'",
            "'null'",
            "'[]'",
        ],
        ["JSON_UNQUOTE(JSON_EXTRACT({}, '$.a[2]'))", "{}->'a'->>2"],
    ),
    of("POINT", "TEXT", &["ST_GeomFromText('POINT(1 2)')"], ["1", "1"]),
];

fn with(shown: &str, column: &str) -> String {
    shown.replace("{}", column)
}

#[tokio::test]
async fn w13_values_of_every_type_are_what_the_source_prints() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "w13_values").await?;
        let columns = |side: usize| {
            let types = COLUMNS.iter().enumerate().map(|(at, column)| {
                let name = if side == 0 { column.source } else { column.target };
                format!("c{at} {name} NULL")
            });
            types.collect::<Vec<_>>().join(", ")
        };
        moving
            .tables(
                &format!(
                    "CREATE TABLE t (id INT PRIMARY KEY, {}) DEFAULT CHARSET utf8mb4",
                    columns(0)
                ),
                &format!("CREATE TABLE t (id INT PRIMARY KEY, {})", columns(1)),
            )
            .await?;
        let mut replicator = moving.replicate(&[])?;
        let longest = COLUMNS.iter().map(|column| column.values.len()).max().unwrap_or(0);
        for row in 0..longest {
            let values =
                COLUMNS.iter().map(|column| column.values.get(row).copied().unwrap_or("NULL"));
            let values = values.collect::<Vec<_>>().join(", ");
            moving.run(&format!(
                "SET time_zone = '+05:30'; INSERT INTO t VALUES ({row}, {values})"
            ))?;
        }
        moving.run(&format!(
            "INSERT INTO t (id) VALUES ({longest}); UPDATE t SET c0 = 1 WHERE id = 0"
        ))?;
        moving.confirmed(&mut replicator).await?;
        for (at, column) in COLUMNS.iter().enumerate() {
            let name = format!("c{at}");
            let [source, target] = column.shown.map(|shown| with(shown, &name));
            let source = moving.source_rows(&format!("SELECT id, {source} FROM t ORDER BY id"))?;
            let target =
                moving.target_rows(&format!("SELECT id, {target} FROM t ORDER BY id")).await?;
            ensure!(
                same(&source, &target),
                "{} to {}: the source has {source:?}, the target {target:?}",
                column.source,
                column.target
            );
        }
        Ok(())
    })
    .await
}

/// Numbers may be printed with more or fewer zeros at their end.
fn same(source: &[String], target: &[String]) -> bool {
    let number = |text: &str| text.rsplit('\t').next().and_then(|cell| cell.parse::<f64>().ok());
    source.len() == target.len()
        && source.iter().zip(target).all(|(left, right)| {
            let close = |(left, right): (f64, f64)| (left - right).abs() < 1e-9;
            left == right || (left.len() < 40 && number(left).zip(number(right)).is_some_and(close))
        })
}

#[tokio::test]
async fn documents_arrive_whole_and_changed_in_part() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "json").await?;
        let source = "CREATE TABLE docs (id INT PRIMARY KEY, d JSON)";
        moving.tables(source, "CREATE TABLE docs (id INT PRIMARY KEY, d JSONB)").await?;
        let mut replicator = moving.replicate(&[])?;
        let partial = match kind {
            Kind::MySql => "SET binlog_row_value_options = PARTIAL_JSON; ",
            Kind::MariaDb => "",
        };
        moving.run(
            "INSERT INTO docs VALUES (1, '{\"a\": 1, \"b\": {\"c\": [1, 2, 3]}, \"long\": \"xxxxxxxxxxxxxxxxxxxx\"}'), \
             (2, NULL), (3, '\"text\"'), (4, 'null'), (5, '12345678901234567890'), (6, '1e100'), (7, '-0.5')",
        )?;
        moving.run(&format!("{partial}UPDATE docs SET d = JSON_SET(d, '$.b.c[1]', 9) WHERE id = 1"))?;
        moving.run(&format!("{partial}UPDATE docs SET d = JSON_REMOVE(d, '$.a') WHERE id = 1"))?;
        moving.confirmed(&mut replicator).await?;
        let rows = moving.target_rows("SELECT id, d FROM docs ORDER BY id").await?;
        let wanted = [
            "1\t{\"b\": {\"c\": [1, 9, 3]}, \"long\": \"xxxxxxxxxxxxxxxxxxxx\"}",
            "2\tNULL",
            "3\t\"text\"",
            "4\tnull",
            "5\t12345678901234567890",
        ];
        ensure!(rows.get(..5).is_some_and(|rows| rows == wanted), "{rows:?}");
        ensure!(rows.get(6).is_some_and(|row| row == "7\t-0.5"), "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w13_dates_that_no_calendar_has_follow_the_policy() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "zero_dates").await?;
        let source = "CREATE TABLE t (id INT PRIMARY KEY, d DATE, at DATETIME)";
        moving.tables(source, "CREATE TABLE t (id INT PRIMARY KEY, d DATE, at TIMESTAMP)").await?;
        moving.run(
            "SET sql_mode = ''; INSERT INTO t VALUES (1, '0000-00-00', '2026-00-01 00:00:00'), \
             (2, '2026-01-01', NULL)",
        )?;
        let mut replicator = moving.replicate(&[])?;
        let log = moving.databases.refused(&mut replicator).await?;
        ensure!(log.contains("--zeroDates"), "{log}");
        let mut replicator = moving.replicate(&["--zeroDates", "null"])?;
        moving.confirmed(&mut replicator).await?;
        let rows = moving.target_rows("SELECT id, d, at FROM t ORDER BY id").await?;
        ensure!(rows == ["1\tNULL\tNULL", "2\t2026-01-01\tNULL"], "{rows:?}");
        Ok(())
    })
    .await
}
