//! Writers that change a few rows again and again, and write on after their server has crashed.
//!
//! Each transaction leaves a ticket, and each change a version, for [`history`](crate::history).
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::history::Watched;
use crate::postgres;
use crate::random::Random;

/// The table of tickets.
pub const TICKETS: &str = "ticket";
/// All tables.
pub const TABLES: [Watched; 4] = [
    Watched { table: TICKETS, unique: None },
    Watched { table: "account", unique: Some("email") },
    Watched { table: "parent", unique: None },
    Watched { table: "child", unique: None },
];

const ACCOUNTS: u64 = 150;
const EMAILS: u64 = 40;
/// Rows of parents and children that one writer has, dead or alive.
const PARENTS: u64 = 12;
const CHILDREN: u64 = 60;
/// The first key of a writer's own rows is its number times this.
const OWN: u64 = 100_000;
/// Between two tries to reach a server that is down.
const PAUSE: Duration = Duration::from_millis(100);

/// Creates the tables, empty.
///
/// # Errors
///
/// They exist.
pub async fn create_tables(client: &Client) -> Result<()> {
    client
        .batch_execute(
            "CREATE TABLE ticket (id bigserial PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE account (id int PRIMARY KEY, version bigint NOT NULL, email text UNIQUE);
             CREATE TABLE parent (id int PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE child (
                 id int PRIMARY KEY, version bigint NOT NULL, parent int NOT NULL REFERENCES parent);",
        )
        .await
        .context("could not create the tables")
}

/// Fills the source. To be done after slot, publication and history are there.
///
/// # Errors
///
/// It is filled already.
pub async fn fill(source: &Client) -> Result<()> {
    let sql = format!(
        "CREATE SEQUENCE version;
         BEGIN;
         INSERT INTO ticket (version) VALUES (nextval('version'));
         INSERT INTO account SELECT i, nextval('version') FROM generate_series(0, {ACCOUNTS} - 1) i;
         COMMIT"
    );
    source.batch_execute(&sql).await.context("could not fill the tables")
}

/// Writers that write.
#[derive(Debug)]
pub struct Churn {
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    committed: AtomicU64,
    stopping: AtomicBool,
}

impl Churn {
    /// Lets some writers go.
    #[must_use]
    pub fn start(conninfo: &str, writers: u64, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut random = Random::new(seed);
        let mut tasks = JoinSet::new();
        for number in 1..=writers {
            let random = random.split();
            tasks.spawn(write(conninfo.to_owned(), number, random, Arc::clone(&shared)));
        }
        Self { tasks, shared }
    }

    /// Transactions committed so far, as far as the writers know.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::Relaxed)
    }

    /// Lets every writer finish its transaction. The server must be up.
    ///
    /// # Errors
    ///
    /// A writer panicked.
    pub async fn finish(mut self) -> Result<u64> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(self.committed())
    }
}

async fn write(conninfo: String, number: u64, mut random: Random, shared: Arc<Shared>) {
    while !shared.stopping.load(Ordering::Relaxed) {
        let Ok(client) = postgres::connect(&conninfo).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while !client.is_closed() && !shared.stopping.load(Ordering::Relaxed) {
            let sql = transaction(number, &mut random);
            match client.batch_execute(&sql).await {
                Ok(()) => drop(shared.committed.fetch_add(1, Ordering::Relaxed)),
                // A deadlock, a value that another has: the next one will do. Or the server is gone,
                // and then this fails as well.
                Err(_) => drop(client.batch_execute("ROLLBACK").await),
            }
            tokio::time::sleep(Duration::from_millis(random.between(0, 12))).await;
        }
    }
}

/// A random transaction.
fn transaction(number: u64, random: &mut Random) -> String {
    let mut sql = "BEGIN; INSERT INTO ticket (version) VALUES (nextval('version'));".to_owned();
    let changes = if random.chance(4) { 60 } else { random.between(1, 6) };
    for _ in 0..changes {
        sql.push_str(&change(number, random));
    }
    if random.chance(2) {
        // Everything at once.
        sql.push_str("UPDATE account SET version = nextval('version');");
    }
    // One in some fails to commit.
    sql.push_str(if random.chance(5) { "ROLLBACK" } else { "COMMIT" });
    sql
}

fn change(number: u64, random: &mut Random) -> String {
    let account = random.between(0, ACCOUNTS - 1);
    let email = random.between(0, EMAILS - 1);
    let parent = number * OWN + random.between(0, PARENTS - 1);
    let other = number * OWN + random.between(0, PARENTS - 1);
    let child = number * OWN + random.between(0, CHILDREN - 1);
    match random.between(0, 99) {
        0..30 => format!("UPDATE account SET version = nextval('version') WHERE id = {account};"),
        // A value passes to another row.
        30..45 => format!(
            "UPDATE account SET version = nextval('version'), email = NULL WHERE email = 'e{email}';
             UPDATE account SET version = nextval('version'), email = 'e{email}' WHERE id = {account};"
        ),
        45..60 => format!(
            "INSERT INTO parent VALUES ({parent}, nextval('version'))
             ON CONFLICT (id) DO UPDATE SET version = nextval('version');"
        ),
        60..80 => format!(
            "INSERT INTO child SELECT {child}, nextval('version'), id FROM parent WHERE id = {parent}
             ON CONFLICT (id) DO UPDATE SET version = nextval('version'), parent = excluded.parent;"
        ),
        80..88 => format!("DELETE FROM child WHERE id = {child};"),
        // A family moves, and its old parent goes.
        88..95 => format!(
            "UPDATE child SET version = nextval('version'), parent = {other}
             WHERE parent = {parent} AND EXISTS (SELECT FROM parent WHERE id = {other});
             DELETE FROM child WHERE parent = {parent} AND parent <> {other};
             DELETE FROM parent WHERE id = {parent} AND id <> {other};"
        ),
        // Gone and back.
        _ => format!(
            "DELETE FROM child WHERE id = {child};
             INSERT INTO child SELECT {child}, nextval('version'), id FROM parent WHERE id = {other};"
        ),
    }
}
