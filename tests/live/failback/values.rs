//! Values as CockroachDB prints them, in a real PostgreSQL.
use std::time::Duration;

use anyhow::Result;
use replicator_tests::postgres::{self, Options, Server};
use replicator_tests::wait_until;

use super::{Folder, Running, row};

/// A column's type, and values in JSON with what PostgreSQL shows of them.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

const CASES: [Case; 10] = [
    (
        "JSONB",
        &[
            (r#""123""#, r#""123""#),
            ("123", "123"),
            (r#""abc""#, r#""abc""#),
            (r#""true""#, r#""true""#),
            ("true", "true"),
            (r#""""#, r#""""#),
            (r#""null""#, r#""null""#),
            (r#"{"__crdb_json_null__": true}"#, "null"),
            ("null", "-"),
            ("12345678901234567890.5", "12345678901234567890.5"),
        ],
    ),
    ("JSONB NOT NULL", &[("null", "null")]),
    ("BYTEA", &[(r#""\\x""#, r"\x"), (r#""\\x00ff5c78""#, r"\x00ff5c78"), ("null", "-")]),
    (
        "NUMERIC",
        &[
            ("1.50E+1", "15.0"),
            ("1E-7", "0.0000001"),
            ("-1.2E+3", "-1200"),
            ("12345678901234567890123.456789", "12345678901234567890123.456789"),
            (r#""NaN""#, "NaN"),
        ],
    ),
    (
        "FLOAT8",
        &[
            (r#""Infinity""#, "Infinity"),
            (r#""-Infinity""#, "-Infinity"),
            (r#""NaN""#, "NaN"),
            ("1E+308", "1e+308"),
            ("5E-324", "5e-324"),
            ("-0", "-0"),
        ],
    ),
    (
        "DATE",
        &[
            (r#""0044-03-15 BC""#, "0044-03-15 BC"),
            (r#""9999-12-31""#, "9999-12-31"),
            (r#""infinity""#, "infinity"),
            (r#""-infinity""#, "-infinity"),
        ],
    ),
    (
        "TIMESTAMP",
        &[
            (r#""-0043-03-15T12:00:00""#, "0044-03-15 12:00:00 BC"),
            (r#""9999-12-31T23:59:59.999999""#, "9999-12-31 23:59:59.999999"),
            (r#""294276-12-31T23:59:59.999999""#, "294276-12-31 23:59:59.999999"),
        ],
    ),
    (
        "TIMESTAMPTZ",
        &[
            (r#""0000-12-31T23:59:59Z""#, "0001-12-31 23:59:59+00 BC"),
            (r#""9999-12-31T23:59:59Z""#, "9999-12-31 23:59:59+00"),
        ],
    ),
    ("TIME", &[(r#""24:00:00""#, "24:00:00")]),
    (
        "geometry",
        &[(
            r#"{"type":"Point","coordinates":[1.5,-2]}"#,
            r#"{"type": "Point", "coordinates": [1.5, -2]}"#,
        )],
    ),
];

/// There is no PostGIS here. What stands in for its type takes GeoJSON as that does, and keeps it as it is.
const GEOMETRY: &str = "CREATE DOMAIN geometry AS jsonb";

/// Each value goes into a row of a table of its type, whose key the target counts itself.
#[tokio::test]
async fn a10_values_of_every_kind_go_back_to_postgres_as_they_are() -> Result<()> {
    let server = Server::start(postgres::major()?, &Options::default())?;
    let client = server.create_database("app").await?;
    client.batch_execute("ALTER DATABASE app SET timezone = 'Asia/Kathmandu'").await?;
    client.batch_execute(&format!("SET timezone = 'UTC'; {GEOMETRY}")).await?;
    let (mut rows, mut wanted, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (of, values)) in CASES.iter().enumerate() {
        let table = format!("t{number}");
        let id = "INT8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
        client.batch_execute(&format!("CREATE TABLE {table} (id {id}, v {of})")).await?;
        for (key, (json, text)) in (1..).zip(*values) {
            let after = format!(r#"{{"id":{key},"v":{json}}}"#);
            rows.push(row(&table, key, &after, 100));
            wanted.push(format!("{of} {key} {text}"));
        }
        shown.push(format!(
            "SELECT {number} AS n, id, '{of} ' || id || ' ' || COALESCE(v::text, '-') AS line FROM {table}"
        ));
    }
    let sql = format!(
        "SELECT COALESCE(array_agg(line ORDER BY n, id), '{{}}') FROM ({}) AS lines",
        shown.join(" UNION ALL ")
    );
    let folder = Folder::new("values");
    let running = Running::start(&server.conninfo("app"), "/app/public", &folder.0).await?;
    // New, and written over themselves.
    for time in [100, 200] {
        let rows: Vec<String> =
            rows.iter().map(|row| row.replace("\"100.", &format!("\"{time}."))).collect();
        running.bring(&rows).await?;
        running.resolved(time).await?;
        let mut there = Vec::new();
        let waited = wait_until(Duration::from_secs(10), "all values are there", async || {
            there = client.query_one(&sql, &[]).await?.get::<_, Vec<String>>(0);
            Ok(there == wanted)
        });
        // What differs is shown below.
        waited.await.ok();
        assert_eq!(there, wanted, "at {time}");
        let other = "UPDATE t0 SET v = '1'; UPDATE t2 SET v = 'x'; UPDATE t3 SET v = 1";
        client.batch_execute(other).await?;
    }
    running.stop().await
}
