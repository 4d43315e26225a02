//! What a change means: netting, order, tables and streams out of the ordinary, and stops.
mod foreign_keys;
mod netting;
mod rejects;
mod source_state;
mod stops;
mod tables;
mod target_state;

use anyhow::Result;
use replicator_tests::databases::Databases;

/// Makes the tables on both sides, runs these transactions at the source, and compares: once all of
/// them in a backlog, so that they share a target transaction, and once one after another.
async fn check(name: &str, tables: &str, transactions: &[&str]) -> Result<()> {
    let (together, alone) = (format!("{name}_together"), format!("{name}_alone"));
    tokio::try_join!(
        check_backlog(&together, tables, transactions),
        check_one_by_one(&alone, tables, transactions),
    )?;
    Ok(())
}

async fn check_backlog(name: &str, tables: &str, transactions: &[&str]) -> Result<()> {
    let databases = Databases::create(name).await?;
    databases.both(tables).await?;
    databases.publish().await?;
    for transaction in transactions {
        databases.from.batch_execute(transaction).await?;
    }
    let mut replicator = databases.replicate(&[])?;
    databases.arrived(&mut replicator).await.map(drop)
}

async fn check_one_by_one(name: &str, tables: &str, transactions: &[&str]) -> Result<()> {
    let databases = Databases::create(name).await?;
    databases.both(tables).await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    for transaction in transactions {
        databases.from.batch_execute(transaction).await?;
        let arrived = databases.arrived(&mut replicator).await;
        arrived.map_err(|error| error.context(format!("after {transaction}")))?;
    }
    Ok(())
}
