//! `replicator mylogical` on real MySQL and MariaDB servers.
mod kills;
mod position;
mod rows;
mod sources;
mod values;

use anyhow::Result;
use replicator_tests::moving::Moving;
use replicator_tests::mysql::Kind;

/// Both products at once.
async fn on_both(test: impl AsyncFn(Kind) -> Result<()>) -> Result<()> {
    let one = async |kind: Kind| {
        let done = test(kind).await;
        done.map_err(|error| error.context(format!("{kind:?}")))
    };
    tokio::try_join!(one(Kind::MySql), one(Kind::MariaDb))?;
    Ok(())
}

/// A table of the same simple shape on both sides.
const PAIRS: &str = "CREATE TABLE pairs (id INT PRIMARY KEY, v VARCHAR(20))";

/// All of it, in order.
const ALL_PAIRS: &str = "SELECT id, v FROM pairs ORDER BY id";

/// Two databases with that table.
async fn with_pairs(kind: Kind, name: &str) -> Result<Moving> {
    let mut moving = Moving::create(kind, name).await?;
    moving.tables(PAIRS, PAIRS).await?;
    Ok(moving)
}
