//! Rows that need other rows: foreign keys in every arrangement, and unique values that wander.
use anyhow::Result;

use super::check;

#[tokio::test]
async fn w07_tables_whose_foreign_keys_form_diamonds_are_filled_and_emptied() -> Result<()> {
    // Names against the order of the references, so that no sorting by name helps.
    let tables = "
        CREATE TABLE p (id int PRIMARY KEY);
        CREATE TABLE z (id int PRIMARY KEY, p int NOT NULL REFERENCES p);
        CREATE TABLE m (id int PRIMARY KEY, p int NOT NULL REFERENCES p, z int NOT NULL REFERENCES z);
        CREATE TABLE a (id int PRIMARY KEY, m int NOT NULL REFERENCES m, p int REFERENCES p);";
    let changes = [
        "INSERT INTO p SELECT generate_series(1, 30);
         INSERT INTO z SELECT id, id FROM p; INSERT INTO m SELECT id, id, 31 - id FROM p;
         INSERT INTO a SELECT id, id, 31 - id FROM p",
        "DELETE FROM a WHERE id > 20; DELETE FROM m WHERE id > 20; DELETE FROM z WHERE id < 5 AND false",
        "INSERT INTO p VALUES (100); INSERT INTO z VALUES (100, 100); INSERT INTO m VALUES (100, 100, 100);
         INSERT INTO a VALUES (100, 100, 100); DELETE FROM a WHERE id = 1; DELETE FROM m WHERE id = 1;
         UPDATE z SET p = 100 WHERE id = 1",
        "DELETE FROM a; DELETE FROM m; DELETE FROM z; DELETE FROM p",
        "INSERT INTO p VALUES (1); INSERT INTO z VALUES (1, 1); INSERT INTO m VALUES (1, 1, 1);
         INSERT INTO a VALUES (1, 1); DELETE FROM a; DELETE FROM m; DELETE FROM z; DELETE FROM p;
         INSERT INTO p VALUES (2)",
    ];
    check("w07", tables, &changes).await
}

#[tokio::test]
async fn w08_a_child_of_two_roots_waits_for_both() -> Result<()> {
    let tables = "
        CREATE TABLE r1 (id int PRIMARY KEY); CREATE TABLE r2 (id int PRIMARY KEY);
        CREATE TABLE c (id int PRIMARY KEY, one int NOT NULL REFERENCES r1, two int REFERENCES r2);";
    let changes = [
        "INSERT INTO r1 VALUES (1), (2); INSERT INTO r2 VALUES (1), (2)",
        "INSERT INTO r2 VALUES (3); INSERT INTO r1 VALUES (3); INSERT INTO c VALUES (1, 3, 3), (2, 1, NULL)",
        "UPDATE c SET two = 2 WHERE id = 2; UPDATE c SET one = 2, two = NULL WHERE id = 1;
         DELETE FROM r1 WHERE id = 3; DELETE FROM r2 WHERE id = 3",
        "DELETE FROM c; DELETE FROM r1; DELETE FROM r2",
    ];
    check("w08", tables, &changes).await
}

#[tokio::test]
async fn w10_a_child_moves_to_another_parent_before_the_old_one_goes() -> Result<()> {
    let tables = "
        CREATE TABLE parent (id int PRIMARY KEY, v int);
        CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent);
        INSERT INTO parent SELECT i, i FROM generate_series(1, 20) i;
        INSERT INTO child SELECT i, 1 + i % 20 FROM generate_series(1, 100) i;";
    let changes = [
        "INSERT INTO parent VALUES (21, 0); UPDATE child SET parent = 21 WHERE parent = 1;
         DELETE FROM parent WHERE id = 1",
        "UPDATE child SET parent = parent + 1 WHERE parent BETWEEN 2 AND 19; DELETE FROM parent WHERE id = 2;
         INSERT INTO parent VALUES (2, 2), (1, 1); UPDATE child SET parent = 1 WHERE id % 7 = 0",
        "DELETE FROM child WHERE parent = 3; DELETE FROM parent WHERE id = 3;
         INSERT INTO parent VALUES (3, 33); INSERT INTO child VALUES (1000, 3)",
        "UPDATE child SET parent = 20; DELETE FROM parent WHERE id <> 20;
         UPDATE parent SET v = 1",
    ];
    check("w10_parents", tables, &changes).await
}

#[tokio::test]
async fn w10_unique_values_pass_from_row_to_row() -> Result<()> {
    let tables = "
        CREATE TABLE t (id int PRIMARY KEY, seat text UNIQUE, n int, UNIQUE (n));
        CREATE TABLE d (id int PRIMARY KEY, seat int UNIQUE DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO t SELECT i, 's' || i, i FROM generate_series(1, 30) i;
        INSERT INTO d SELECT i, i FROM generate_series(1, 30) i;";
    let changes = [
        // A swap through NULL, and one through a third value.
        "UPDATE t SET seat = NULL WHERE id = 1; UPDATE t SET seat = 's1' WHERE id = 2;
         UPDATE t SET seat = 's2' WHERE id = 1",
        "UPDATE t SET n = -1 WHERE id = 3; UPDATE t SET n = 3 WHERE id = 4; UPDATE t SET n = 4 WHERE id = 3",
        // A ring of ten.
        "DO $$ BEGIN
           UPDATE t SET seat = 'free' WHERE id = 10;
           FOR i IN REVERSE 19..10 LOOP
             UPDATE t SET seat = NULL WHERE id = i + 1;
             UPDATE t SET seat = 's' || (i + 1) WHERE id = i;
           END LOOP;
           UPDATE t SET seat = 's10' WHERE id = 20;
         END $$",
        // From a row that goes to one that comes, in both orders of their keys.
        "DELETE FROM t WHERE id = 25; INSERT INTO t VALUES (125, 's25', 25)",
        "DELETE FROM t WHERE id = 125; INSERT INTO t VALUES (5000, 's25', 25), (26000, 'x', 26000)",
        "DELETE FROM t WHERE id = 26; INSERT INTO t VALUES (0, 's26', 26)",
        // The key changes too.
        "UPDATE t SET id = 900, seat = NULL WHERE id = 7; UPDATE t SET id = 7, seat = 's7' WHERE id = 8",
        // Checked at the end only.
        "BEGIN; UPDATE d SET seat = 31 - seat; COMMIT",
        "BEGIN; UPDATE d SET seat = seat + 1; UPDATE d SET seat = 1 WHERE id = 1; COMMIT",
        "BEGIN; DELETE FROM d WHERE id = 5; UPDATE d SET seat = (SELECT max(seat) + 1 FROM d) WHERE id = 6;
         INSERT INTO d VALUES (5, 7) ON CONFLICT (id) DO NOTHING;
         UPDATE d SET seat = 99 WHERE id <> 5 AND seat = 7; COMMIT",
    ];
    check("w10_values", tables, &changes).await
}

#[tokio::test]
async fn two_tables_that_refer_to_each_other_are_filled_and_emptied() -> Result<()> {
    let tables = "
        CREATE TABLE a (id int PRIMARY KEY, b int);
        CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a DEFERRABLE);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE;
        CREATE TABLE c (id int PRIMARY KEY, d int);
        CREATE TABLE d (id int PRIMARY KEY, c int NOT NULL REFERENCES c);
        ALTER TABLE c ADD FOREIGN KEY (d) REFERENCES d;";
    let changes = [
        // Deferred.
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO a VALUES (1, 1), (2, 1); INSERT INTO b VALUES (1, 2); COMMIT",
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO b VALUES (2, 3); INSERT INTO a VALUES (3, 2); COMMIT",
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; DELETE FROM a; DELETE FROM b; COMMIT",
        // Checked at once, and so through NULL.
        "INSERT INTO c VALUES (1, NULL); INSERT INTO d VALUES (1, 1); UPDATE c SET d = 1",
        "INSERT INTO c VALUES (2, 1), (3, NULL); INSERT INTO d VALUES (2, 3); UPDATE c SET d = 2",
        "UPDATE c SET d = NULL; DELETE FROM d; DELETE FROM c",
    ];
    check("cycle", tables, &changes).await
}

#[tokio::test]
async fn rows_that_refer_to_rows_of_their_own_table_come_in_any_order() -> Result<()> {
    let tables = "
        CREATE TABLE late (id int PRIMARY KEY, up int REFERENCES late DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE once (id int PRIMARY KEY, up int REFERENCES once);
        CREATE TABLE down (id int PRIMARY KEY, up int REFERENCES down ON DELETE CASCADE ON UPDATE CASCADE);";
    let changes = [
        // The child first.
        "BEGIN; INSERT INTO late VALUES (1, 2); INSERT INTO late VALUES (3, 1), (2, NULL); COMMIT",
        "BEGIN; DELETE FROM late WHERE id = 2; DELETE FROM late WHERE id = 1; DELETE FROM late; COMMIT",
        // Against the order of keys.
        "INSERT INTO once VALUES (9, NULL); INSERT INTO once SELECT i, i + 1 FROM generate_series(8, 1, -1) i",
        "INSERT INTO once VALUES (20, 20), (22, 21), (21, 20)",
        "UPDATE once SET up = 21 WHERE id = 9; UPDATE once SET up = NULL WHERE id IN (20, 8);
         UPDATE once SET up = 3 WHERE id = 20",
        "DELETE FROM once WHERE id < 3; UPDATE once SET up = NULL; DELETE FROM once WHERE id % 2 = 0",
        "INSERT INTO down VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, 1)",
        "UPDATE down SET id = 12 WHERE id = 2; UPDATE down SET id = 11 WHERE id = 1",
        "DELETE FROM down WHERE id = 12",
        "DELETE FROM down",
    ];
    check("tree", tables, &changes).await
}

#[tokio::test]
async fn foreign_keys_that_only_the_target_has_are_kept() -> Result<()> {
    let databases = replicator_tests::databases::Databases::create("fk_target").await?;
    databases
        .both(
            "CREATE TABLE zp (id int PRIMARY KEY, code text); CREATE TABLE ac (id int PRIMARY KEY, p int, code text)",
        )
        .await?;
    databases
        .to
        .batch_execute(
            "ALTER TABLE zp ADD UNIQUE (code);
             ALTER TABLE ac ADD FOREIGN KEY (p) REFERENCES zp, ADD FOREIGN KEY (code) REFERENCES zp (code)",
        )
        .await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    // The source takes the rows in any order, also across transactions that are under way together.
    for i in 1..=50 {
        let changes = format!(
            "INSERT INTO zp VALUES ({i}, 'c{i}'); INSERT INTO ac VALUES ({i}, {i}, 'c{i}')"
        );
        databases.from.batch_execute(&changes).await?;
        if i % 3 == 0 {
            let changes = format!(
                "DELETE FROM ac WHERE id = {i}; UPDATE zp SET code = 'd{i}' WHERE id = {i};
                 INSERT INTO ac VALUES ({i}, {i}, 'd{i}')"
            );
            databases.from.batch_execute(&changes).await?;
        }
    }
    databases.from.batch_execute("DELETE FROM ac; DELETE FROM zp WHERE id > 5").await?;
    let comparison = databases.arrived(&mut replicator).await?;
    assert_eq!(comparison.identical(), 5);
    Ok(())
}
