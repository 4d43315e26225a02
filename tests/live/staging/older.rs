//! What an installation of the older tool has staged is read, once.
use std::io::Write as _;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use replicator_core::model::mutation::{Change, TimedMutation};
use replicator_core::model::row::Cell;
use replicator_core::model::time::Hlc;
use replicator_io::port::Staging as _;
use sim::schema::schema;

use super::{Bench, begun, hlc, plain, read_all, stage};

/// A staging table as the older tool makes it, of its first version.
const TABLE: &str = "CREATE TABLE _replicator.shop_public_plain (nanos INT8 NOT NULL,
    logical INT8 NOT NULL, key TEXT NOT NULL, mut BYTEA NOT NULL, applied BOOL NOT NULL DEFAULT false,
    PRIMARY KEY (nanos, logical, key))";

async fn insert(bench: &Bench, nanos: i64, key: &str, value: &[u8], applied: bool) -> Result<()> {
    let sql = "INSERT INTO _replicator.shop_public_plain (nanos, logical, key, mut, applied)
               VALUES ($1, 1, $2, $3, $4)";
    bench.client.execute(sql, &[&nanos, &key, &value, &applied]).await?;
    Ok(())
}

/// The values of a row, by the names of their columns.
fn values(row: &TimedMutation) -> Vec<(String, Option<String>)> {
    let table = schema().catalog.table(row.mutation.table);
    let (Change::Delete(image) | Change::Upsert(image)) = &row.mutation.change else {
        panic!("{row:?}");
    };
    let text = |cell| match cell {
        Cell::Null => None,
        Cell::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Cell::Unchanged | Cell::Binary(_) => panic!("{cell:?}"),
    };
    image.columns().map(|(at, cell)| (table.column(at).name.clone(), text(cell))).collect()
}

fn named(names: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    names.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
}

#[tokio::test]
async fn rows_that_the_older_tool_staged_are_read_once() -> Result<()> {
    let bench = Bench::new().await?;
    bench.client.batch_execute(TABLE).await?;
    let json = br#"{"id": 1, "a": 5, "b": null, "v": 7}"#;
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(br#"{"id": 2, "a": 6, "b": 1, "v": 8}"#)?;
    insert(&bench, 5, "[1]", json, false).await?;
    insert(&bench, 6, "[2]", &packed.finish()?, false).await?;
    // Applied: read by nobody. The second one tells nothing but that.
    insert(&bench, 7, "[3]", json, true).await?;
    insert(&bench, 8, "[4]", br#"{"__stub__":true}"#, true).await?;
    let store = bench.store("shop");
    let fence = begun(&store).await;
    let rows = read_all(&store).await;
    assert_eq!(rows.iter().map(|row| row.time).collect::<Vec<_>>(), [hlc(5), hlc(6)]);
    let expected = [("id", Some("1")), ("a", Some("5")), ("b", None), ("v", Some("7"))];
    assert_eq!(values(&rows[0]), named(&expected));
    let expected = [("id", Some("2")), ("a", Some("6")), ("b", Some("1")), ("v", Some("8"))];
    assert_eq!(values(&rows[1]), named(&expected));

    // The changefeed sends them all again, on time: what is applied is not staged again.
    let again = [(5, 1), (6, 2), (7, 3), (8, 4)].map(|(time, key)| plain(hlc(time), key, None));
    stage(&store, fence, &again).await;
    assert_eq!(read_all(&store).await.len(), 2);
    // And late: no news.
    store.stage(fence, again.to_vec(), hlc(9)).await.expect("rows are staged");
    assert_eq!(read_all(&store).await.len(), 2);
    store.stage(fence, vec![plain(hlc(8), 3, None)], hlc(9)).await.expect("rows are staged");
    assert_eq!(read_all(&store).await.len(), 3, "a newer image is news");
    // All go when their time has come.
    store.retire(fence, hlc(20)).await.expect("rows are retired");
    assert_eq!(bench.number("SELECT count(*) FROM _replicator.shop_public_plain").await?, 0);
    Ok(())
}

#[tokio::test]
async fn deletes_that_the_older_tool_staged_are_deletes() -> Result<()> {
    let bench = Bench::new().await?;
    bench.client.batch_execute(TABLE).await?;
    bench
        .client
        .batch_execute(
            "ALTER TABLE _replicator.shop_public_plain ADD COLUMN before BYTEA,
                 ADD COLUMN applied_at TIMESTAMPTZ, ADD COLUMN deletion BOOL DEFAULT false",
        )
        .await?;
    insert(&bench, 5, "[1]", b"null", false).await?;
    insert(&bench, 6, "[2]", br#"{"id": 2, "a": 6, "b": 1, "v": 8}"#, false).await?;
    let deletion = "UPDATE _replicator.shop_public_plain SET deletion = true WHERE key = '[2]'";
    bench.client.batch_execute(deletion).await?;
    let store = bench.store("shop");
    begun(&store).await;
    let rows = read_all(&store).await;
    assert!(rows.iter().all(|row| matches!(row.mutation.change, Change::Delete(_))), "{rows:?}");
    assert_eq!(values(&rows[0]), named(&[("id", Some("1"))]));
    assert_eq!(values(&rows[1]), named(&[("id", Some("2"))]));
    Ok(())
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_by_its_table() -> Result<()> {
    let bench = Bench::new().await?;
    bench.client.batch_execute(TABLE).await?;
    insert(&bench, 5, "[1]", b"\x1F\x8Bbroken", false).await?;
    let store = bench.store("shop");
    begun(&store).await;
    let read = store.read(Hlc::default(), hlc(9), 10).await.expect_err("it cannot be unpacked");
    let text = read.to_string();
    let table = r#"a row in "_replicator"."shop_public_plain" that an older replicator has staged"#;
    assert!(text.contains(table) && text.contains("let that one apply its rows"), "{text}");
    Ok(())
}
