//! Rows, keys, foreign keys and unique values.
use anyhow::Result;
use replicator_core::Failure;
use replicator_core::model::mutation::{ApplyOrder, Mutation, Piece};
use replicator_tests::mysql::Kind;

use super::bench::{Bench, piece, request, servers};

const TABLES: &str = "
    CREATE TABLE parent (id BIGINT PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE child (id BIGINT PRIMARY KEY, parent_id BIGINT NOT NULL, note TEXT,
        CONSTRAINT child_parent FOREIGN KEY (parent_id) REFERENCES parent (id));
    CREATE TABLE mail (id BIGINT PRIMARY KEY, address VARCHAR(5) NOT NULL UNIQUE);
    CREATE TABLE tree (id BIGINT PRIMARY KEY, up BIGINT,
        FOREIGN KEY (up) REFERENCES tree (id));
    CREATE TABLE pair (a BIGINT, b VARCHAR(20), v TEXT, PRIMARY KEY (a, b));
    CREATE TABLE counted (id BIGINT AUTO_INCREMENT PRIMARY KEY, v INT,
        twice INT GENERATED ALWAYS AS (v * 2) STORED);
    CREATE TABLE replicator_dlq (event BIGINT AUTO_INCREMENT PRIMARY KEY, dlq_name TEXT NOT NULL,
        source_nanos BIGINT NOT NULL, source_logical BIGINT NOT NULL,
        data_after JSON NOT NULL, data_before JSON NOT NULL);";

#[tokio::test]
async fn rows_of_every_change_arrive() -> Result<()> {
    for (_, server) in servers()? {
        let mut bench = Bench::on(server, "changes", TABLES).await?;
        let rows = vec![
            bench.upsert("parent", &["1", "it's a \\ 'quote' 😀"]),
            bench.upsert("parent", &["2", "b"]),
            bench.upsert("child", &["1", "1", "NULL"]),
            bench.upsert("child", &["2", "2", "wide"]),
            bench.upsert("pair", &["1", "x", "1"]),
            bench.upsert("pair", &["1", "y", "2"]),
            bench.upsert("counted", &["0", "3"]),
        ];
        // At least once: a second time changes nothing.
        assert_eq!(bench.apply(rows.clone()).await, Ok(()));
        assert_eq!(bench.apply(rows).await, Ok(()));
        let name = bench.ask("SELECT name FROM parent WHERE id = 1").await?;
        assert_eq!(name, "it's a \\ 'quote' 😀");
        assert_eq!(bench.ask("SELECT CONCAT(id, ':', twice) FROM counted").await?, "0:6");
        // Partial updates keep what was not sent; deletes find composite keys.
        let changes = vec![
            bench.update("child", &["2", "1", "?"]),
            bench.delete("pair", &["1", "x", "NULL"]),
            bench.delete("child", &["1", "NULL", "NULL"]),
            bench.delete("parent", &["2", "NULL"]),
        ];
        assert_eq!(bench.apply(changes).await, Ok(()));
        let child = bench.ask("SELECT CONCAT(id, parent_id, note) FROM child").await?;
        assert_eq!(child, "21wide");
        assert_eq!(bench.ask("SELECT CONCAT(a, b) FROM pair").await?, "1y");
        assert_eq!(bench.ask("SELECT id FROM parent").await?, "1");
        // An update of a row that is not there is noticed before the commit.
        let lost =
            vec![bench.upsert("parent", &["9", "x"]), bench.update("child", &["9", "9", "?"])];
        let refused = bench.apply(lost).await;
        assert!(matches!(refused, Err(Failure::Rejected { .. })), "{refused:?}");
        assert_eq!(bench.ask("SELECT id FROM parent").await?, "1");
    }
    Ok(())
}

#[tokio::test]
async fn w12_a_row_keeps_what_was_not_sent_when_its_key_changes() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "moves", TABLES).await?;
        bench.run("INSERT INTO parent VALUES (1, 'p')").await?;
        bench.run("INSERT INTO child VALUES (1, 1, 'wide')").await?;
        let moved = bench.moved("child", &["1", "NULL", "NULL"], &["2", "1", "?"]);
        // Also a second time.
        assert_eq!(bench.apply_in_order(vec![moved.clone()]).await, Ok(()));
        assert_eq!(bench.apply_in_order(vec![moved]).await, Ok(()));
        assert_eq!(bench.ask("SELECT CONCAT(id, note) FROM child").await?, "2wide");
    }
    Ok(())
}

#[tokio::test]
async fn foreign_keys_are_kept_in_batches_of_many_rows() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "foreign_keys", TABLES).await?;
        let ids: Vec<String> = (1..=1500).map(|id| id.to_string()).collect();
        let children = ids.iter().map(|id| bench.upsert("child", &[id, id, "NULL"]));
        let parents = ids.iter().map(|id| bench.upsert("parent", &[id, "p"]));
        let both: Vec<Mutation> = children.chain(parents).collect();
        assert_eq!(bench.apply(both).await, Ok(()));
        // A child moves from a parent that goes to one that comes.
        let moved = vec![
            bench.delete("parent", &["7", "NULL"]),
            bench.upsert("child", &["7", "9000", "moved"]),
            bench.upsert("parent", &["9000", "new"]),
        ];
        assert_eq!(bench.apply(moved).await, Ok(()));
        // A parent that somebody refers to does not go.
        let refused = bench.apply(vec![bench.delete("parent", &["8", "NULL"])]).await;
        let Err(Failure::Constraint { detail, .. }) = refused else { panic!("{refused:?}") };
        assert!(detail.contains("1451") && detail.contains("child_parent"), "{detail}");
        let gone = ids.iter().map(|id| bench.delete("child", &[id, "NULL", "NULL"]));
        let parents =
            ids.iter().filter(|id| *id != "7").map(|id| bench.delete("parent", &[id, "NULL"]));
        let both: Vec<Mutation> = parents.chain(gone).collect();
        assert_eq!(bench.apply(both).await, Ok(()));
        let left = bench.ask("SELECT COUNT(*) FROM child UNION ALL SELECT COUNT(*) FROM parent");
        assert_eq!(left.await?, "0 1");
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_refer_to_each_other_come_and_go_in_the_order_of_the_source() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "self_reference", TABLES).await?;
        let rows = vec![
            bench.upsert("tree", &["3", "NULL"]),
            bench.upsert("tree", &["1", "3"]),
            bench.upsert("tree", &["2", "1"]),
        ];
        // By key, 1 comes before 3, to which it refers; every row is checked when it is written.
        let netted = bench.apply(rows.clone()).await;
        assert!(matches!(netted, Err(Failure::Constraint { at: None, .. })), "{netted:?}");
        assert_eq!(bench.apply_in_order(rows).await, Ok(()));
        let gone = |ids: &[&str]| -> Vec<Mutation> {
            ids.iter().map(|id| bench.delete("tree", &[id, "NULL"])).collect()
        };
        let (wrong, right) = (gone(&["3", "1", "2"]), gone(&["2", "1", "3"]));
        let refused = bench.apply_in_order(wrong).await;
        assert!(matches!(refused, Err(Failure::Constraint { .. })), "{refused:?}");
        assert_eq!(bench.apply_in_order(right).await, Ok(()));
        assert_eq!(bench.ask("SELECT COUNT(*) FROM tree").await?, "0");
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_refer_to_each_other_go_together_in_whatever_order() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "self_reference_goes", TABLES).await?;
        // A chain against the order of keys, a circle, a row that refers to itself, and one that stays.
        bench.run("INSERT INTO tree VALUES (3, NULL), (1, 3), (2, 1), (4, 4), (9, NULL)").await?;
        bench.run("INSERT INTO tree VALUES (5, 4), (6, 5), (8, 9)").await?;
        bench.run("UPDATE tree SET up = 6 WHERE id = 5").await?;
        let gone = |ids: &[&str]| -> Vec<Mutation> {
            ids.iter().map(|id| bench.delete("tree", &[id, "NULL"])).collect()
        };
        // Who is still referred to by somebody that stays does not go, and the others stay with it.
        let (some, all) = (gone(&["1", "3", "9"]), gone(&["1", "2", "3", "4", "5", "6"]));
        let refused = bench.apply(some).await;
        assert!(matches!(refused, Err(Failure::Constraint { at: None, .. })), "{refused:?}");
        assert_eq!(bench.ask("SELECT up FROM tree WHERE id = 1").await?, "3");
        assert_eq!(bench.apply(all).await, Ok(()));
        let left = bench.ask("SELECT CONCAT(id, ':', COALESCE(up, '-')) FROM tree ORDER BY id");
        assert_eq!(left.await?, "8:9 9:-");
    }
    Ok(())
}

#[tokio::test]
async fn w13b_no_row_is_taken_for_another_by_a_unique_value() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "unique_values", TABLES).await?;
        bench.run("INSERT INTO mail VALUES (1, 'a'), (2, 'b')").await?;
        // The value of row 1 on its way to row 3: row 1 must not become it.
        let early = vec![bench.upsert("mail", &["3", "a"])];
        let refused = bench.apply_in_order(early.clone()).await;
        let Err(Failure::Constraint { detail, at }) = refused else { panic!("{refused:?}") };
        assert!(detail.contains("another key"), "{detail}");
        assert_eq!(at, Some(0..1));
        let all = "SELECT CONCAT(id, address) FROM mail ORDER BY id";
        assert_eq!(bench.ask(all).await?, "1a 2b");
        // Handed over in the order of the source, it goes.
        let mut handed = vec![bench.upsert("mail", &["1", "c"])];
        handed.extend(early);
        assert_eq!(bench.apply_in_order(handed).await, Ok(()));
        assert_eq!(bench.ask(all).await?, "1c 2b 3a");
        // A row that exists and takes the value of another.
        let refused = bench.apply(vec![bench.upsert("mail", &["1", "b"])]).await;
        let Err(Failure::Constraint { detail, .. }) = refused else { panic!("{refused:?}") };
        assert!(detail.contains("1062") && !detail.contains("'b'"), "{detail}");
        // Freed by a delete, also netted.
        let freed = vec![bench.upsert("mail", &["4", "b"]), bench.delete("mail", &["2", "NULL"])];
        assert_eq!(bench.apply(freed).await, Ok(()));
        assert_eq!(bench.ask(all).await?, "1c 3a 4b");
    }
    Ok(())
}

#[tokio::test]
async fn w13b_no_row_is_taken_for_another_by_a_collation() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "collations", TABLES).await?;
        let pair = |b: &str, v: &str| bench.upsert("pair", &["1", b, v]);
        let (lower, upper, blank) = (pair("a", "1"), pair("A", "2"), pair("a ", "3"));
        let gone =
            [bench.delete("pair", &["1", "A", "NULL"]), bench.delete("pair", &["1", "a", "NULL"])];
        assert_eq!(bench.apply(vec![lower]).await, Ok(()));
        let refused = bench.apply(vec![upper.clone()]).await;
        assert!(matches!(refused, Err(Failure::Constraint { .. })), "{refused:?}");
        // MySQL's usual collation tells blanks at the end apart, MariaDB's does not.
        let blanks = bench.apply(vec![blank]).await;
        match kind {
            Kind::MySql => assert_eq!(blanks, Ok(())),
            Kind::MariaDb => {
                assert!(matches!(blanks, Err(Failure::Constraint { .. })), "{blanks:?}");
            }
        }
        let [upper_gone, lower_gone] = gone;
        assert_eq!(bench.apply(vec![upper_gone]).await, Ok(()));
        let all = "SELECT CONCAT(b, v) FROM pair ORDER BY v";
        assert_eq!(bench.ask(all).await?.split(' ').next(), Some("a1"));
        // A key that changes its case, in one transaction.
        assert_eq!(bench.apply(vec![upper, lower_gone]).await, Ok(()));
        assert_eq!(bench.ask(all).await?.split(' ').next(), Some("A2"));
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_row_is_found_and_kept_without_its_value_in_the_text() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "dead_letters", TABLES).await?;
        let rows = vec![
            bench.upsert("mail", &["1", "a"]),
            bench.upsert("mail", &["2", "too long"]),
            bench.upsert("mail", &["3", "c"]),
        ];
        let mut attempt = request(rows, ApplyOrder::RowWise(0..3));
        let refused = bench.send(attempt.clone()).await;
        let Err(Failure::Rejected { detail, at }) = refused else { panic!("{refused:?}") };
        assert_eq!(at, Some(1..2));
        assert!(detail.contains("`mail`") && detail.contains("`address`"), "{detail}");
        assert!(!detail.contains("too long"), "{detail}");
        attempt.order = ApplyOrder::Source;
        attempt.dead = vec![1];
        assert_eq!(bench.send(attempt).await, Ok(()));
        assert_eq!(bench.ask("SELECT id FROM mail ORDER BY id").await?, "1 3");
        let kept = "SELECT JSON_UNQUOTE(JSON_EXTRACT(data_after, '$.address')) FROM replicator_dlq";
        assert_eq!(bench.ask(kept).await?, "too long");
    }
    Ok(())
}

#[tokio::test]
async fn pieces_become_visible_together() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "pieces", TABLES).await?;
        let part = |id: &str, of: Piece| piece(vec![bench.upsert("parent", &[id, "p"])], of);
        let orphan = piece(vec![bench.upsert("child", &["1", "2", "NULL"])], Piece::Middle);
        let (first, last) = (part("1", Piece::First), part("3", Piece::Last));
        let repaired = piece(
            vec![bench.upsert("parent", &["2", "p"]), bench.upsert("child", &["1", "2", "NULL"])],
            Piece::Middle,
        );
        assert_eq!(bench.send(first).await, Ok(()));
        // A refused piece can be tried again.
        let refused = bench.send(orphan).await;
        assert!(matches!(refused, Err(Failure::Constraint { .. })), "{refused:?}");
        assert_eq!(bench.send(repaired).await, Ok(()));
        assert_eq!(bench.ask("SELECT COUNT(*) FROM parent").await?, "0");
        assert_eq!(bench.send(last).await, Ok(()));
        assert_eq!(bench.ask("SELECT COUNT(*) FROM parent").await?, "3");
        let lost = bench.send(part_of_nothing(&bench)).await;
        assert!(matches!(lost, Err(Failure::Transient { .. })), "{lost:?}");
    }
    Ok(())
}

fn part_of_nothing(bench: &Bench) -> replicator_core::model::mutation::ApplyRequest {
    piece(vec![bench.upsert("parent", &["9", "p"])], Piece::Middle)
}
