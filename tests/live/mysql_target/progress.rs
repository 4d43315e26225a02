//! A table of progress on a real MySQL and a real MariaDB.
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_core::Failure;
use replicator_core::model::ident::TableName;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::ApplyOrder;
use replicator_core::model::position::{Applied, Lsn, Position};
use replicator_io::port::{Fence, Target as _};
use replicator_io::target::mysql::{
    MySqlProgressTable, MySqlRecord, MySqlTarget, MySqlTargetOptions,
};
use replicator_io::target::progress::TargetProgress as _;
use replicator_tests::mysql::Kind;

use super::bench::{Bench, OPTIONS, pool, request};

const TABLES: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, v INT); \
    CREATE TABLE done (stream VARCHAR(64), fence BIGINT, first_tx BIGINT, \
    after_position VARCHAR(64), through_position VARCHAR(64) NOT NULL, \
    PRIMARY KEY (stream, first_tx, fence))";

const LIMIT: Duration = Duration::from_secs(20);

/// Of the batch that every run applies.
const APPLIED: Applied = Applied { after: None, through: Position::Lsn(Lsn(16)) };

fn table(bench: &Bench, name: &str) -> Result<MySqlProgressTable> {
    let conninfo = bench.server.conninfo(&bench.database).parse()?;
    let table = TableName::new(&bench.database, name);
    Ok(MySqlProgressTable::find(conninfo, OPTIONS, &bench.catalog, &table, LIMIT)?)
}

/// The target of a run, which waits for the sessions of no other one.
fn target(bench: &Bench, run: &str, record: MySqlRecord) -> Result<MySqlTarget> {
    let owner = format!("{} {run}", bench.database);
    let pool = pool(bench.server.conninfo(&bench.database).parse()?, &owner);
    let catalog = Arc::clone(&bench.catalog);
    let (apply_timeout, record) = (LIMIT, Some(record));
    let options = MySqlTargetOptions { catalog, record, apply_timeout, dead_letters: None };
    Ok(MySqlTarget::new(pool, options))
}

async fn apply(bench: &Bench, target: &MySqlTarget, value: &str) -> Result<(), Failure> {
    let rows = vec![bench.upsert("t", &["1", value])];
    target.apply(Fence(77), request(rows, ApplyOrder::Netted)).await
}

async fn begin(table: &MySqlProgressTable, store: &str) -> Result<(MySqlRecord, Vec<Applied>)> {
    table.begin(store).await.ok().context("a run begins")
}

#[tokio::test]
async fn i7_a_batch_is_applied_once_and_only_by_the_newest_run() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "progress", TABLES).await?;
        let done = table(&bench, "done")?;
        let (record, applied) = begin(&done, "ours").await?;
        assert_eq!(applied, []);
        let first = target(&bench, "first", record)?;
        assert_eq!(apply(&bench, &first, "1").await, Ok(()));
        assert_eq!(bench.ask("SELECT v FROM t").await?, "1");
        // It is in there already, so it is not applied again.
        assert_eq!(apply(&bench, &first, "2").await, Ok(()));
        assert_eq!(bench.ask("SELECT v FROM t").await?, "1");

        let (record, applied) = begin(&done, "ours").await?;
        assert_eq!(applied, [APPLIED]);
        let second = target(&bench, "second", record)?;
        assert_eq!(apply(&bench, &first, "3").await, Err(Failure::Fenced));
        assert_eq!(bench.ask("SELECT v FROM t").await?, "1");
        // Another run counts its transactions anew.
        assert_eq!(apply(&bench, &second, "4").await, Ok(()));
        assert_eq!(bench.ask("SELECT v FROM t").await?, "4");

        assert_eq!(done.forget(Position::Lsn(Lsn(15))).await, Ok(()));
        assert_eq!(begin(&done, "ours").await?.1, [APPLIED, APPLIED]);
        assert_eq!(done.forget(Position::Lsn(Lsn(16))).await, Ok(()));
        let (record, applied) = begin(&done, "ours").await?;
        assert_eq!(applied, []);
        // Positions of another store mean something else.
        assert_eq!(apply(&bench, &target(&bench, "third", record)?, "5").await, Ok(()));
        assert_eq!(begin(&done, "theirs").await?.1, []);
        // Somebody has emptied the table: nobody can tell any more who is the newest.
        bench.run("DELETE FROM done").await?;
        assert_eq!(apply(&bench, &second, "6").await, Err(Failure::Fenced));
        assert_eq!(bench.ask("SELECT v FROM t").await?, "5");
    }
    Ok(())
}

#[tokio::test]
async fn i7_a_run_that_begins_waits_for_a_batch_that_is_under_way() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "progress_waits", TABLES).await?;
        bench.run("INSERT INTO t VALUES (1, 0)").await?;
        let done = table(&bench, "done")?;
        let first = target(&bench, "first", begin(&done, "ours").await?.0)?;
        bench.run("BEGIN").await?;
        bench.run("UPDATE t SET v = 7 WHERE id = 1").await?;
        let rows = vec![bench.upsert("t", &["1", "5"])];
        let applying = async {
            let request = request(rows, ApplyOrder::Netted);
            first.apply(Fence(1), request).await
        };
        let beginning = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            begin(&done, "ours").await
        };
        let unblocking = async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            bench.session.query("COMMIT").await
        };
        let (applied, begun, unblocked) = tokio::join!(applying, beginning, unblocking);
        unblocked?;
        assert_eq!(applied, Ok(()));
        assert_eq!(begun?.1, [APPLIED]);
        assert_eq!(bench.ask("SELECT v FROM t").await?, "5");
    }
    Ok(())
}

#[tokio::test]
async fn lanes_know_nothing_of_each_other() -> Result<()> {
    for kind in Kind::ALL {
        let bench = Bench::new(kind, "progress_lanes", TABLES).await?;
        let whole = table(&bench, "done")?;
        let related = whole.of(&Lane::Related(Arc::default()));
        let independent = whole.of(&Lane::Independent(Arc::default()));
        for (lane, name) in [(&whole, "w"), (&related, "r"), (&independent, "i")] {
            let (record, applied) = begin(lane, "ours").await?;
            assert_eq!(applied, []);
            assert_eq!(apply(&bench, &target(&bench, name, record)?, "1").await, Ok(()));
        }
        assert_eq!(related.forget(Position::Lsn(Lsn(16))).await, Ok(()));
        assert_eq!(begin(&related, "ours").await?.1, []);
        assert_eq!(begin(&whole, "ours").await?.1, [APPLIED]);
        assert_eq!(begin(&independent, "ours").await?.1, [APPLIED]);
    }
    Ok(())
}

#[tokio::test]
async fn a_table_of_progress_that_cannot_be_used_is_refused_with_a_way_out() -> Result<()> {
    let tables = format!(
        "{TABLES}; CREATE TABLE loose (stream VARCHAR(64), fence BIGINT, first_tx BIGINT, \
         after_position VARCHAR(64), through_position VARCHAR(64) NOT NULL, \
         PRIMARY KEY (stream, first_tx, fence)) ENGINE = MyISAM"
    );
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "progress_shape", &tables).await?;
        let error = table(&bench, "t").unwrap_err().to_string();
        assert!(error.contains("drop it and create it again: CREATE TABLE"), "{error}");
        let error = table(&bench, "none").unwrap_err().to_string();
        let fix = error.split("create it: ").nth(1).context("the SQL")?;
        bench.run(fix).await?;
        let Err(Failure::Rejected { detail, .. }) = table(&bench, "loose")?.begin("ours").await
        else {
            panic!("a table that rolls nothing back was taken")
        };
        assert!(detail.contains("ENGINE = InnoDB"), "{detail}");
    }
    Ok(())
}
