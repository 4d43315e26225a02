//! The store of staged rows in a database, against the pretend server: the suite of all stores.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::decode::changefeed::TargetKind;
use replicator_core::dialect::Product;
use replicator_io::pg::pool::Pool;
use replicator_io::staging::rows::{PgRows, RowsOptions};
use replicator_io::staging::schema::{StagingName, prepare_rows};
use sim::cluster::sql::{Role, SqlServer};
use sim::schema::schema;
use sim::staging::suite::{PARTITIONS, suite};

use super::fixture::Pretend;

/// What a store of these rows is told.
fn options(of: &str) -> RowsOptions {
    RowsOptions {
        database: of.to_owned(),
        schema: "public".to_owned(),
        partitions: (0..PARTITIONS).map(|number| format!("part-{number}")).collect(),
        catalog: Arc::clone(&schema().catalog),
        target: TargetKind::Postgres,
        timeout: Duration::from_secs(10),
        reader_index: true,
    }
}

async fn keeps_every_promise(product: Product) {
    let server = SqlServer::new(Role::Target, product, 3);
    let pretend = Pretend { server, knobs: Arc::default() };
    let name = StagingName { database: None, schema: "_replicator".to_owned() };
    let session = pretend.session().await;
    // Twice, as when a replicator starts again.
    for _ in 0..2 {
        prepare_rows(session.client(), &name, product, true).await.expect("tables are made");
    }
    let pool: Pool<Pretend> = pretend.pool();
    suite(async |of: &str| PgRows::new(pool.clone(), product, name.clone(), options(of))).await;
    assert!(pretend.server.commit_count() > 20, "nothing went through the server");
}

#[tokio::test]
async fn staged_rows_are_kept_by_the_pretend_postgresql() {
    keeps_every_promise(Product::Postgres).await;
}

#[tokio::test]
async fn staged_rows_are_kept_by_the_pretend_cockroachdb() {
    keeps_every_promise(Product::Cockroach).await;
}
