//! Every type, every kind of column, every odd name: what the source holds, the target holds.
mod columns;
mod keys;
mod names;
mod values;

use anyhow::Result;
use replicator_tests::databases::Databases;
use replicator_tests::product::Replicator;

/// Publishes the tables that are there and starts the product.
async fn follow(databases: &Databases) -> Result<Replicator> {
    databases.publish().await?;
    databases.replicate(&[])
}

/// Runs each statement in a transaction of its own and waits until it has arrived and is the same.
async fn check_each(databases: &Databases, statements: &[String]) -> Result<()> {
    let mut replicator = follow(databases).await?;
    for statement in statements {
        databases.from.batch_execute(statement).await?;
        let comparison = databases.arrived(&mut replicator).await;
        let begin: String = statement.chars().take(60).collect();
        comparison.map_err(|error| error.context(format!("after {begin}")))?;
    }
    Ok(())
}

/// A literal, with its quotes doubled.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
