//! What changefeeds bring goes back to a real MySQL and a real MariaDB.
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use replicator_tests::mysql::{Kind, Server};
use replicator_tests::wait_until;

use super::{Folder, Running, row};

const TABLES: &str = "
    CREATE TABLE parent (id BIGINT PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE);
    CREATE TABLE child (id BIGINT PRIMARY KEY, parent_id BIGINT NOT NULL, doc JSON, at DATETIME(6),
        FOREIGN KEY (parent_id) REFERENCES parent (id));
    CREATE TABLE tree (id BIGINT PRIMARY KEY, up BIGINT, FOREIGN KEY (up) REFERENCES tree (id))";

/// A target, and a running `start`.
struct Bench {
    server: Arc<Server>,
    database: &'static str,
    running: Running,
    _folder: Folder,
}

impl Bench {
    async fn new(kind: Kind, database: &'static str) -> Result<Self> {
        let server = Server::shared(kind)?;
        server.run(&format!("CREATE DATABASE {database}; USE {database}; {TABLES}"))?;
        let folder = Folder::new(&format!("{database}-{kind:?}"));
        // A schema of MySQL is one segment of the path.
        let path = format!("/{database}");
        let running = Running::start(&server.conninfo(database), &path, &folder.0).await?;
        Ok(Self { server, database, running, _folder: folder })
    }

    /// Waits until a question has this answer.
    async fn until(&self, sql: &str, wanted: &str) -> Result<()> {
        let sql = format!("USE {}; {sql}", self.database);
        wait_until(Duration::from_secs(20), wanted, async || {
            Ok(self.server.run(&sql)?.trim() == wanted)
        })
        .await
    }
}

const CHILDREN: &str = "SELECT COALESCE(GROUP_CONCAT(c.id, ':', p.name, ':', c.at ORDER BY c.id), '') \
                        FROM child c JOIN parent p ON p.id = c.parent_id";
const PARENTS: &str = "SELECT COALESCE(GROUP_CONCAT(name ORDER BY id), '') FROM parent";
const TREE: &str =
    "SELECT COALESCE(GROUP_CONCAT(id, ':', COALESCE(up, 0) ORDER BY id), '') FROM tree";

#[tokio::test]
async fn rows_go_back_to_mysql_in_the_order_of_their_commits() -> Result<()> {
    for kind in Kind::ALL {
        let bench = Bench::new(kind, "failback_order").await?;
        // A child before its parent, an older image after a newer one, and each of them twice.
        let child = r#"{"id":1,"parent_id":7,"doc":{"a":"\"b\\"},"at":"2024-02-29T01:02:03.5"}"#;
        let child = row("child", 1, child, 100);
        let parent = row("parent", 7, r#"{"id":7,"name":"new"}"#, 100);
        let older = row("parent", 7, r#"{"id":7,"name":"old"}"#, 90);
        let later = row("parent", 8, r#"{"id":8,"name":"later"}"#, 200);
        bench.running.bring(&[child.clone(), later]).await?;
        bench.running.bring(&[parent.clone(), older.clone()]).await?;
        bench.running.bring(&[older.clone(), child, parent]).await?;
        bench.running.resolved(150).await?;
        bench.until(CHILDREN, "1:new:2024-02-29 01:02:03.500000").await?;
        bench.until(PARENTS, "new").await?;
        bench.running.resolved(250).await?;
        bench.until(PARENTS, "new,later").await?;
        // A unique value is handed from one row to another, in two transactions.
        let freed = row("parent", 8, r#"{"id":8,"name":"other"}"#, 300);
        let taken = row("parent", 9, r#"{"id":9,"name":"later"}"#, 310);
        bench.running.bring(&[taken, freed]).await?;
        bench.running.resolved(320).await?;
        bench.until(PARENTS, "new,other,later").await?;
        // The child goes, and its parent with it.
        bench.running.bring(&[row("parent", 7, "null", 400), row("child", 1, "null", 400)]).await?;
        bench.running.resolved(400).await?;
        bench.until(PARENTS, "other,later").await?;
        bench.until(CHILDREN, "").await?;
        bench.running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_refer_to_each_other_go_back_to_mysql() -> Result<()> {
    for kind in Kind::ALL {
        let bench = Bench::new(kind, "failback_tree").await?;
        // One transaction; by their keys these rows would come before those they refer to.
        bench
            .running
            .bring(&[
                row("tree", 1, r#"{"id":1,"up":2}"#, 100),
                row("tree", 2, r#"{"id":2,"up":3}"#, 100),
                row("tree", 3, r#"{"id":3,"up":null}"#, 100),
            ])
            .await?;
        bench.running.resolved(100).await?;
        bench.until(TREE, "1:2,2:3,3:0").await?;
        // Transactions of their own: MySQL looks at each row by itself, and a delete does not tell whom the
        // row referred to, so within one nobody knows the order.
        let gone = [(3, 203), (2, 202), (1, 201)].map(|(id, time)| row("tree", id, "null", time));
        bench.running.bring(&gone).await?;
        bench.running.resolved(300).await?;
        bench.until(TREE, "").await?;
        let (status, text) = bench.running.ask("POST", "/no_such_schema", "{}").await?;
        assert_eq!(status, 400, "{text}");
        bench.running.stop().await?;
    }
    Ok(())
}
