//! Several changes of one row in one transaction, or in several that share a target transaction.
use anyhow::Result;

use super::check;

/// Rows 1 to `rows` go through every short story that a row can have in one transaction. `base` rows
/// are there before.
async fn check_stories(name: &str, rows: u32) -> Result<()> {
    let tables = format!(
        "CREATE TABLE t (id int PRIMARY KEY, v int, note text);
         CREATE TABLE u (id int PRIMARY KEY, v int, note text);
         INSERT INTO u SELECT i, 0, 'old' FROM generate_series(1, {rows}) i;"
    );
    let insert = |v: u32| format!("INSERT INTO t SELECT i, {v} FROM generate_series(1, {rows}) i;");
    let stories = [
        // Nothing was there: born and gone; born, changed and gone; born twice.
        format!("{} DELETE FROM t", insert(1)),
        format!("{} UPDATE t SET v = v + 1; DELETE FROM t", insert(1)),
        format!("{} DELETE FROM t; {}", insert(1), insert(2)),
        "DELETE FROM t".to_owned(),
        format!("{} UPDATE t SET note = 'x'; UPDATE t SET v = v + 1", insert(1)),
        // Something was there: gone and back; changed twice and gone; gone, back and gone.
        format!(
            "DELETE FROM u; INSERT INTO u SELECT i, 7 FROM generate_series(1, {rows}) i;
             UPDATE u SET v = 8"
        ),
        "UPDATE u SET v = v + 1; UPDATE u SET v = v + 1; UPDATE u SET note = 'n'".to_owned(),
        "UPDATE u SET v = v + 1; UPDATE u SET v = v + 1; DELETE FROM u".to_owned(),
        format!("INSERT INTO u SELECT i, 9 FROM generate_series(1, {rows}) i"),
        format!(
            "DELETE FROM u; INSERT INTO u SELECT i, 1 FROM generate_series(1, {rows}) i;
             DELETE FROM u WHERE id % 2 = 0"
        ),
        // Each row by itself, one after another, with the rows of two tables mixed.
        format!(
            "DO $$ BEGIN FOR i IN 1..{rows} LOOP
               INSERT INTO u VALUES (i, i) ON CONFLICT (id) DO UPDATE SET v = excluded.v;
               DELETE FROM t WHERE id = i;
               INSERT INTO t VALUES (i, 0);
               DELETE FROM u WHERE id = i AND i % 3 = 0;
               UPDATE t SET v = v + 1 WHERE id = i;
               DELETE FROM t WHERE id = i AND i % 5 = 0;
             END LOOP; END $$"
        ),
    ];
    let stories: Vec<&str> = stories.iter().map(String::as_str).collect();
    check(name, &tables, &stories).await
}

#[tokio::test]
async fn w02_one_row_ends_as_in_the_source_whatever_happened_to_it_in_a_transaction() -> Result<()>
{
    check_stories("w02_1", 1).await
}

#[tokio::test]
async fn w02_twenty_rows_end_as_in_the_source_whatever_happened_to_them() -> Result<()> {
    check_stories("w02_20", 20).await
}

#[tokio::test]
async fn w02_five_thousand_rows_end_as_in_the_source_whatever_happened_to_them() -> Result<()> {
    check_stories("w02_5000", 5_000).await
}

#[tokio::test]
async fn w09_a_hundred_changes_of_one_row_end_with_the_last() -> Result<()> {
    let change = "DO $$ BEGIN FOR i IN 1..100 LOOP UPDATE t SET v = i; END LOOP; END $$";
    let change_and_go = "DO $$ BEGIN FOR i IN 1..100 LOOP
        UPDATE t SET v = i; DELETE FROM t; INSERT INTO t VALUES (1, -i);
    END LOOP; END $$";
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)";
    check("w09", tables, &[change, change_and_go, change, "UPDATE t SET v = 5"]).await
}

#[tokio::test]
async fn w12_a_key_change_deletes_the_old_row() -> Result<()> {
    let tables = "
        CREATE TABLE t (id int PRIMARY KEY, v text);
        CREATE TABLE c (a int, b text, v text, PRIMARY KEY (a, b));
        INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50) i;
        INSERT INTO c SELECT i, 'b' || i, 'v' FROM generate_series(1, 50) i;";
    let changes = [
        "UPDATE t SET id = id + 100 WHERE id <= 10",
        "UPDATE c SET b = 'c' || a WHERE a % 2 = 0; UPDATE c SET a = a + 50 WHERE a % 3 = 0",
        // With another value, and back.
        "UPDATE t SET id = 200, v = 'w' WHERE id = 101; UPDATE t SET id = 101 WHERE id = 200",
        // Onto the key of a row that goes, and onto one that has moved away.
        "DELETE FROM t WHERE id = 11; UPDATE t SET id = 11 WHERE id = 12",
        "UPDATE t SET id = 300 WHERE id = 13; UPDATE t SET id = 13 WHERE id = 14;
         UPDATE t SET id = 14 WHERE id = 300",
        // Born, moved, and gone or not.
        "INSERT INTO t VALUES (400, 'x'); UPDATE t SET id = 401 WHERE id = 400",
        "INSERT INTO t VALUES (500, 'x'); UPDATE t SET id = 501 WHERE id = 500;
         DELETE FROM t WHERE id = 501",
        "UPDATE t SET id = 600 WHERE id = 401; INSERT INTO t VALUES (401, 'y')",
        // All of them by one, in an order that meets no other.
        "DO $$ BEGIN FOR i IN REVERSE 50..20 LOOP UPDATE t SET id = i + 1 WHERE id = i; END LOOP; END $$",
    ];
    check("w12", tables, &changes).await
}

#[tokio::test]
async fn w41_whole_old_rows_as_identity_change_nothing() -> Result<()> {
    let tables = "
        CREATE TABLE t (id int PRIMARY KEY, v int, j json, f float8);
        ALTER TABLE t REPLICA IDENTITY FULL;
        CREATE TABLE n (id int NOT NULL, v int);
        CREATE UNIQUE INDEX n_id ON n (id);
        ALTER TABLE n REPLICA IDENTITY USING INDEX n_id;
        INSERT INTO t SELECT i, i, '{}', 'NaN' FROM generate_series(1, 20) i;
        INSERT INTO n SELECT i, i FROM generate_series(1, 20) i;";
    let changes = [
        "UPDATE t SET v = v + 1; UPDATE t SET v = v + 1; UPDATE t SET j = NULL, f = '-0'",
        "UPDATE n SET v = v + 1; UPDATE n SET v = v + 1; UPDATE n SET id = id + 100 WHERE id > 15",
        "UPDATE t SET id = id + 100 WHERE id % 2 = 0; UPDATE t SET v = NULL WHERE id > 110",
        "DELETE FROM t WHERE id < 10; DELETE FROM n WHERE id < 10",
        "INSERT INTO t VALUES (1, 1); UPDATE t SET v = 2 WHERE id = 1; DELETE FROM t WHERE id = 1",
    ];
    check("w41", tables, &changes).await
}
