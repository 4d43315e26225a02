//! The simulator's pretend server answers as a real PostgreSQL does: the same stories are told to both
//! and the answers compared. What is expected is what the real one says.
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_core::dialect::Product;
use replicator_core::model::catalog::{Catalog, Table};
use replicator_core::model::ident::Quoted;
use replicator_core::model::key::KeyKind;
use replicator_tests::postgres::{self, Options, Server, connect};
use sim::cluster::sql::{Knobs, Role, SqlServer};
use sim::cluster::wire::Connection;
use sim::schema::schema;
use tokio::net::TcpListener;
use tokio_postgres::{Client, SimpleQueryMessage};

/// How long a statement that waits for a lock is watched before we believe it.
const WAIT: Duration = Duration::from_secs(1);

/// Statements of one session, one after the other. Each story begins with empty tables.
const STORIES: [&[&str]; 10] = [
    &[
        "INSERT INTO plain (id, a, b, v) VALUES (1, 1, 1, 1), (2, NULL, 2, 2)",
        "INSERT INTO plain (id, v) VALUES (1, 3)",
        "INSERT INTO plain (id, v) VALUES (3, NULL)",
        "INSERT INTO plain (id, v) SELECT x.c0, x.c1 FROM unnest(ARRAY[1, 5], ARRAY[7, 8]) AS x(c0, c1) \
         ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        "INSERT INTO plain (id, v) VALUES (5, 9), (6, 9) ON CONFLICT (id) DO NOTHING",
        "INSERT INTO plain (id, v) VALUES (7, 9), (7, 9) ON CONFLICT (id) DO UPDATE SET v = 1",
        "INSERT INTO plain (id, v) VALUES (7, 9), (7, 9) ON CONFLICT (id) DO NOTHING",
        "INSERT INTO plain (id, v) VALUES (1, NULL) ON CONFLICT (id) DO NOTHING",
        "INSERT INTO plain (id, v) VALUES (1, 1) ON CONFLICT (a) DO NOTHING",
        "SELECT id, a, b, v FROM plain ORDER BY id",
        "DELETE FROM plain WHERE id = ANY(ARRAY[1, 2, 99])",
        "SELECT id FROM plain ORDER BY id",
    ],
    &[
        "INSERT INTO mail (id, address, v) VALUES (1, 1, 1), (2, 2, 2), (3, NULL, 3), (4, NULL, 4)",
        "UPDATE mail AS t SET address = x.n FROM unnest(ARRAY[1, 2], ARRAY[2, 1]) AS x(i, n) \
         WHERE t.id = x.i",
        "INSERT INTO mail (id, address, v) VALUES (2, 1, 5) ON CONFLICT (id) DO UPDATE SET \
         address = excluded.address",
        "INSERT INTO letter (id, \"to\", v) VALUES (1, 1, 1)",
        "INSERT INTO letter (id, \"to\", v) VALUES (2, 8, 1)",
        "UPDATE mail SET address = 8 WHERE id = 1",
        "DELETE FROM mail WHERE id = 1",
        "DELETE FROM letter",
        "UPDATE mail SET address = 8 WHERE id = 1",
        "SELECT id, address FROM mail ORDER BY id",
    ],
    &[
        "INSERT INTO tree (id, up, v) VALUES (1, 2, 1), (2, NULL, 2)",
        "DELETE FROM tree WHERE id = 2",
        "UPDATE tree SET id = 9 WHERE id = 2",
        "UPDATE tree SET id = 9 WHERE id = 1",
        "DELETE FROM tree",
        "INSERT INTO hen (id, egg, v) VALUES (1, 1, 1)",
        "INSERT INTO egg (id, hen, v) VALUES (1, 1, 1)",
        "INSERT INTO bottom (id, \"left\", \"right\", v) VALUES (1, 1, 1, 1)",
    ],
    &[
        "BEGIN",
        "SET CONSTRAINTS ALL DEFERRED",
        "INSERT INTO late (id, parent, v) VALUES (1, 9, 1)",
        "COMMIT",
        "INSERT INTO late (id, parent, v) VALUES (1, 9, 1)",
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO late (id, parent, v) VALUES (1, 9, 1)",
        "INSERT INTO parent (id, v) VALUES (9, 2)",
        "COMMIT",
        "DELETE FROM parent WHERE id = 9",
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; DELETE FROM parent WHERE id = 9",
        "INSERT INTO parent (id, v) VALUES (9, 3)",
        "COMMIT",
        "SELECT id, v FROM parent",
    ],
    &[
        "BEGIN",
        "INSERT INTO plain (id, v) VALUES (1, 1)",
        "SAVEPOINT piece",
        "INSERT INTO plain (id, v) VALUES (2, 2)",
        "INSERT INTO plain (id, v) VALUES (1, 2)",
        "SELECT id FROM plain",
        "SAVEPOINT other",
        "ROLLBACK TO SAVEPOINT missing",
        "ROLLBACK TO SAVEPOINT piece",
        "SELECT id FROM plain",
        "RELEASE SAVEPOINT piece",
        "ROLLBACK TO SAVEPOINT piece",
        "COMMIT",
        "SELECT id FROM plain",
        "SAVEPOINT outside",
        "ROLLBACK",
    ],
    &[
        "INSERT INTO plain (id, v) VALUES (1, 1); INSERT INTO plain (id, v) VALUES (1, 1)",
        "INSERT INTO plain (id, v) VALUES (1, 1); BEGIN; INSERT INTO plain (id, v) VALUES (2, 1)",
        "ROLLBACK",
        "SELECT id FROM plain",
        "BEGIN; INSERT INTO nowhere (id) VALUES (1)",
        "BEGIN",
        "COMMIT",
        "SELECT colour FROM plain",
        "INSERT INTO plain (id, colour) VALUES (1, 1)",
    ],
    &[
        "INSERT INTO plain (id, a, v) VALUES (1, 1, 1), (2, 2, 2)",
        "UPDATE plain AS t SET id = x.c0, v = x.c1 FROM unnest(ARRAY[5], ARRAY[6], ARRAY[1]) \
         AS x(c0, c1, c2) WHERE (t.id = x.c2) OR (t.id = x.c0)",
        "UPDATE plain AS t SET id = x.c0, v = x.c1 FROM unnest(ARRAY[5], ARRAY[7], ARRAY[1]) \
         AS x(c0, c1, c2) WHERE (t.id = x.c2) OR (t.id = x.c0)",
        "UPDATE plain AS t SET id = x.c0 FROM unnest(ARRAY[2], ARRAY[5]) AS x(c0, c2) \
         WHERE (t.id = x.c2) OR (t.id = x.c0)",
        "UPDATE plain SET v = 9 WHERE id = 77",
        "SELECT 1 FROM plain AS t, LATERAL (SELECT * FROM unnest(ARRAY[2, 3]) AS x(c0)) AS x \
         WHERE t.id = x.c0",
        "SELECT id, a, v FROM plain ORDER BY id",
    ],
    &[
        "INSERT INTO pair (x, y, n, v) VALUES (1, 2, 3, 4), (2, 2, NULL, 4), (3, 2, NULL, 4)",
        "INSERT INTO pair (x, y, n, v) VALUES (1, 3, 3, 4)",
        "INSERT INTO pair (x, y, n, v) VALUES (1, 2, 4, 5) ON CONFLICT (y, x) DO UPDATE SET \
         n = excluded.n RETURNING x, y, n, v",
        "INSERT INTO pair (x, y, n, v) VALUES (1, 2, 4, 5) ON CONFLICT (x, n) DO NOTHING",
        "DELETE FROM pair WHERE (y, x) IN (SELECT x.c0, x.c1 FROM unnest(ARRAY[2, 7], ARRAY[1, 7]) \
         AS x(c0, c1))",
        "SELECT x, y, n FROM pair ORDER BY x",
    ],
    &[
        "SELECT 1 / (CASE WHEN id = 1 THEN 1 ELSE 0 END) FROM plain WHERE v = 1 FOR SHARE",
        "INSERT INTO plain (id, v) VALUES (1, 1), (2, 1)",
        "SELECT 1 / (CASE WHEN id = 1 THEN 1 ELSE 0 END) FROM plain WHERE id = 1 FOR SHARE",
        "SELECT 1 / (CASE WHEN id = 1 THEN 1 ELSE 0 END) FROM plain WHERE id = 2",
        "INSERT INTO plain (id, v) SELECT 3, 3 WHERE 1 / (CASE WHEN (SELECT id FROM plain WHERE \
         id = 9) = 1 THEN 1 ELSE 0 END) = 1",
        "INSERT INTO plain (id, v) SELECT 3, 3 WHERE 1 / (CASE WHEN (SELECT id FROM plain WHERE \
         id = 2 FOR SHARE) = 2 THEN 1 ELSE 0 END) = 1",
        "INSERT INTO plain (id, v) SELECT 4, 4 WHERE (SELECT id FROM plain) = 1",
        "INSERT INTO plain (id, v) SELECT 5, 5 WHERE NOT EXISTS (SELECT 1 FROM plain)",
        "SELECT id FROM plain WHERE a = 1 OR id <= 2 ORDER BY id",
    ],
    &[
        "INSERT INTO odd (id, v) VALUES ('7'::jsonb, 1)",
        "INSERT INTO odd (id, v) SELECT x.c0::jsonb, x.c1 FROM unnest(ARRAY['7', '8'], ARRAY[2, 3]) \
         AS x(c0, c1) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        "DELETE FROM odd WHERE (id) IN (SELECT x.c0::jsonb FROM unnest(ARRAY['8']) AS x(c0))",
        "SELECT id, v FROM odd",
    ],
];

/// Two sessions: what is there, what the first does in a transaction, how it ends, and what the second
/// tries meanwhile.
const MEETINGS: [[&str; 4]; 17] = [
    ["", INSERT, "COMMIT", INSERT],
    ["", INSERT, "ROLLBACK", INSERT],
    ["", INSERT, "COMMIT", "INSERT INTO plain (id, v) VALUES (1, 2) ON CONFLICT (id) DO NOTHING"],
    ["", INSERT, "COMMIT", UPSERT],
    [INSERT, "UPDATE plain SET a = 1 WHERE id = 1", "COMMIT", UPSERT],
    [INSERT, "UPDATE plain SET a = 1 WHERE id = 1", "COMMIT", "SELECT a FROM plain"],
    [INSERT, "UPDATE plain SET a = 1 WHERE id = 1", "COMMIT", "SELECT a FROM plain FOR SHARE"],
    [INSERT, "SELECT v FROM plain FOR SHARE", "COMMIT", "SELECT v FROM plain FOR SHARE"],
    [INSERT, "SELECT v FROM plain FOR SHARE", "COMMIT", UPSERT],
    [MAIL, "DELETE FROM mail WHERE id = 1", "COMMIT", SAME_MAIL],
    [MAIL, "DELETE FROM mail WHERE id = 1", "ROLLBACK", SAME_MAIL],
    [MAIL, "UPDATE mail SET a = 5 WHERE id = 1", "COMMIT", SAME_MAIL],
    [PARENT, CHILD, "COMMIT", "DELETE FROM parent WHERE id = 1"],
    [PARENT, CHILD, "COMMIT", "UPDATE parent SET a = 3 WHERE id = 1"],
    [PARENT, "DELETE FROM parent WHERE id = 1", "COMMIT", CHILD],
    [PARENT, "UPDATE parent SET a = 3 WHERE id = 1", "COMMIT", CHILD],
    ["", PARENT, "COMMIT", CHILD],
];
const INSERT: &str = "INSERT INTO plain (id, v) VALUES (1, 1)";
const UPSERT: &str =
    "INSERT INTO plain (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = excluded.v";
const MAIL: &str = "INSERT INTO mail (id, address, v) VALUES (1, 1, 1)";
const SAME_MAIL: &str = "INSERT INTO mail (id, address, v) VALUES (2, 1, 1)";
const PARENT: &str = "INSERT INTO parent (id, v) VALUES (1, 1)";
const CHILD: &str = "INSERT INTO child (id, parent, v) VALUES (1, 1, 1)";

/// The tables that stories use, children first.
const USED: [&str; 9] =
    ["child", "late", "parent", "letter", "mail", "tree", "plain", "pair", "odd"];

#[tokio::test]
async fn the_pretend_server_answers_one_session_as_a_real_one_does() -> Result<()> {
    let (real, pretend) = (Real::start().await?, pretend().await?);
    let mut differences = Vec::new();
    for story in STORIES {
        let told = tell(&connect(&real.conninfo).await?, story).await?;
        let pretended = tell(&connect(&pretend).await?, story).await?;
        let both = pretended.into_iter().zip(told);
        differences.extend(both.filter(|(pretended, told)| pretended != told));
    }
    assert!(differences.is_empty(), "pretended and told: {differences:#?}");
    Ok(())
}

#[tokio::test]
async fn the_pretend_server_makes_sessions_wait_as_a_real_one_does() -> Result<()> {
    let (real, pretend) = (Real::start().await?, pretend().await?);
    for meeting in MEETINGS {
        let outcomes = tokio::try_join!(meet(&pretend, meeting), meet(&real.conninfo, meeting));
        let (pretended, told) = outcomes?;
        assert_eq!(pretended, told, "{meeting:?}");
    }
    Ok(())
}

/// A real server with the tables of the simulator.
struct Real {
    _server: Server,
    conninfo: String,
}

impl Real {
    async fn start() -> Result<Self> {
        let server = Server::start(postgres::major()?, &Options::default())?;
        let client = server.create_database("app").await?;
        for sql in tables(&schema().catalog) {
            client.batch_execute(&sql).await.context(sql)?;
        }
        Ok(Self { conninfo: server.conninfo("app"), _server: server })
    }
}

/// A pretend server on a port of this machine, until the test ends.
async fn pretend() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let (server, knobs) =
        (SqlServer::new(Role::Target, Product::Postgres, 1), Arc::new(Knobs::default()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (server, knobs) = (server.clone(), Arc::clone(&knobs));
            tokio::spawn(async move {
                let mut connection = Connection::new(stream);
                if let Ok(Some(startup)) = connection.open().await {
                    // How it ended is for the client to see.
                    drop(server.serve(startup, connection.into_stream(), knobs).await);
                }
            });
        }
    });
    Ok(format!("host=127.0.0.1 port={port} user=app dbname=app sslmode=disable"))
}

/// The simulator's tables as SQL, foreign keys last.
fn tables(catalog: &Catalog) -> Vec<String> {
    let names = |table: &Table, columns: &[u16]| {
        let names = columns.iter().map(|at| Quoted(&table.column(*at).name).to_string());
        names.collect::<Vec<_>>().join(", ")
    };
    let (mut made, mut tied) = (Vec::new(), Vec::new());
    for (_, table) in catalog.tables() {
        let mut parts: Vec<String> = Vec::new();
        for column in &table.columns {
            let of = if column.kind == KeyKind::Loose { "jsonb" } else { "int8" };
            let not_null = if column.nullable { "" } else { " NOT NULL" };
            parts.push(format!("{} {of}{not_null}", Quoted(&column.name)));
        }
        parts.push(format!("PRIMARY KEY ({})", names(table, &table.key)));
        for (number, unique) in (1..).zip(&table.uniques) {
            let columns = names(table, unique.columns.as_deref().unwrap_or_default());
            let name = format!("{}_unique{number}", table.name.table);
            parts.push(format!("CONSTRAINT {name} UNIQUE ({columns})"));
        }
        made.push(format!("CREATE TABLE {} ({})", table.name, parts.join(", ")));
        for fk in &table.foreign_keys {
            let parent = catalog.table(fk.parent);
            let (from, to) = (names(table, &fk.columns), names(parent, &fk.parent_columns));
            let deferrable = if fk.deferrable { " DEFERRABLE" } else { "" };
            tied.push(format!(
                "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({from}) REFERENCES {} ({to}){deferrable}",
                table.name, fk.name, parent.name
            ));
        }
    }
    made.extend(tied);
    made
}

async fn clean(client: &Client) -> Result<()> {
    for table in USED {
        client.batch_execute(&format!("DELETE FROM {table}")).await?;
    }
    Ok(())
}

/// What a server answers to each statement.
async fn tell(client: &Client, story: &[&str]) -> Result<Vec<String>> {
    clean(client).await?;
    let mut told = Vec::new();
    for sql in story {
        told.push(format!("{sql} => {}", answer(client, sql).await));
    }
    Ok(told)
}

/// Whether the second had to wait, what became of it, and what is in the tables then.
async fn meet(conninfo: &str, [before, first, end, second]: [&str; 4]) -> Result<String> {
    let (one, two) = (connect(conninfo).await?, connect(conninfo).await?);
    clean(&one).await?;
    one.batch_execute(before).await?;
    one.batch_execute(&format!("BEGIN; {first}")).await?;
    let second = second.to_owned();
    let mut other = tokio::spawn(async move { answer(&two, &second).await });
    let early = tokio::time::timeout(WAIT, &mut other).await;
    one.batch_execute(end).await?;
    let (waited, became) = match early {
        Ok(became) => (false, became?),
        Err(_) => (true, other.await?),
    };
    let left = answer(&one, "SELECT id, a, v FROM plain ORDER BY id").await;
    Ok(format!("waited: {waited}, {became}, left {left}"))
}

async fn answer(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(messages) => messages.iter().map(shown).collect::<Vec<_>>().join(" "),
        Err(error) => match error.as_db_error() {
            Some(error) => format!("{} {:?}", error.code().code(), error.constraint()),
            None => error.to_string(),
        },
    }
}

fn shown(message: &SimpleQueryMessage) -> String {
    match message {
        SimpleQueryMessage::Row(row) => {
            let values = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL"));
            format!("({})", values.collect::<Vec<_>>().join(","))
        }
        SimpleQueryMessage::CommandComplete(rows) => format!("{rows} rows"),
        SimpleQueryMessage::RowDescription(columns) => {
            columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    }
}
