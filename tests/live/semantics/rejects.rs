//! Rows that the target will never take.
use anyhow::Result;
use replicator_tests::databases::Databases;

/// The value that must not be seen anywhere.
const SECRET: &str = "4929-0001-2345-6789";

const SOURCE: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE TABLE good (id int PRIMARY KEY, v text);
    INSERT INTO t VALUES (1, 'a')";

/// As the product asks for it, but for the default, whose function came with version 13.
const LETTERS: &str = "
    CREATE TABLE replicator_dlq (
        event uuid DEFAULT md5(random()::text || clock_timestamp()::text)::uuid PRIMARY KEY, dlq_name text NOT NULL,
        source_nanos int8 NOT NULL, source_logical int8 NOT NULL,
        data_after jsonb NOT NULL, data_before jsonb NOT NULL)";

/// What makes the target refuse, and how it is called in SQL's list of states.
const REFUSALS: [(&str, &str, &str); 5] = [
    ("length", "ALTER TABLE t ALTER COLUMN v TYPE varchar(10)", "22001"),
    ("check", "ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 10)", "23514"),
    ("parse", "ALTER TABLE t ALTER COLUMN v TYPE int USING NULL", "22P02"),
    (
        "trigger",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF length(NEW.v) > 10 THEN RAISE 'I do not want %', NEW.v; END IF; RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE PROCEDURE refuse()",
        "P0001",
    ),
    ("unique", "ALTER TABLE t ADD UNIQUE (v); INSERT INTO t VALUES (-1, 'SECRET')", "23505"),
];

async fn prepare(name: &str, refusal: &str) -> Result<Databases> {
    let databases = Databases::create(name).await?;
    databases.both(SOURCE).await?;
    databases.to.batch_execute(&refusal.replace("SECRET", SECRET)).await?;
    databases.publish().await?;
    databases.from.batch_execute("INSERT INTO good VALUES (1, 'before')").await?;
    let transaction = format!(
        "INSERT INTO good VALUES (2, 'with it'); INSERT INTO t VALUES (2, '{SECRET}');
         INSERT INTO good SELECT i FROM generate_series(10, 200) i"
    );
    databases.from.batch_execute(&transaction).await?;
    databases.from.batch_execute("INSERT INTO good VALUES (3, 'after')").await?;
    Ok(databases)
}

async fn check_stop(name: &str, refusal: &str, state: &str) -> Result<()> {
    let databases = prepare(&format!("reject_stop_{name}"), refusal).await?;
    let mut replicator = databases.replicate(&["-v"])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains(state), "{name}: no code:\n{log}");
    assert!(log.contains("\"t\"") || log.contains(".t"), "{name}: no table:\n{log}");
    assert!(!log.contains(SECRET), "{name}: the value is in the log:\n{log}");
    // Nothing of the transaction, and everything before it.
    let good = "SELECT coalesce(string_agg(v, ' '), '') FROM good";
    let found: String = databases.to.query_one(good, &[]).await?.get(0);
    assert_eq!(found, "before", "{name}");

    // It starts where it stopped, as often as one likes, until the reason is gone.
    let mut replicator = databases.replicate(&[])?;
    databases.refused(&mut replicator).await?;
    Ok(())
}

async fn check_letter(name: &str, refusal: &str) -> Result<()> {
    let databases = prepare(&format!("reject_dlq_{name}"), refusal).await?;
    databases.to.batch_execute(LETTERS).await?;
    let mut replicator = databases.replicate(&["--onReject", "dlq"])?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM good").await?, 3 + 191, "{name}");
    assert_eq!(databases.number("SELECT count(*) FROM t WHERE id = 2").await?, 0, "{name}");
    let letters =
        "SELECT count(*), min(dlq_name), min(data_after ->> 'id'), min(data_after ->> 'v')
                   FROM replicator_dlq";
    let row = databases.to.query_one(letters, &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 1, "{name}");
    assert!(row.get::<_, String>(1).contains('t'), "{name}");
    assert_eq!(row.get::<_, String>(2), "2", "{name}");
    assert_eq!(row.get::<_, String>(3), SECRET, "{name}");
    // The operator hears of it, and does not hear the value.
    let log = replicator.log()?;
    assert!(!log.contains(SECRET), "{name}: the value is in the log:\n{log}");
    assert!(log.contains("replicator_dlq"), "{name}: nothing is said:\n{log}");
    databases.from.batch_execute("UPDATE good SET v = 'on'").await?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM good WHERE v = 'on'").await?, 194, "{name}");
    assert_eq!(databases.number("SELECT count(*) FROM replicator_dlq").await?, 1, "{name}");
    Ok(())
}

#[tokio::test]
async fn a_rejected_row_stops_with_table_and_code_and_without_the_value() -> Result<()> {
    for (name, refusal, state) in REFUSALS {
        check_stop(name, refusal, state).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rejected_row_goes_to_the_dead_letters_and_the_rest_goes_on() -> Result<()> {
    for (name, refusal, _) in REFUSALS {
        check_letter(name, refusal).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_the_table_for_dead_letters_it_does_not_start() -> Result<()> {
    let databases = prepare("reject_no_table", REFUSALS[0].1).await?;
    let mut replicator = databases.replicate(&["--onReject", "dlq"])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("replicator_dlq") && log.contains("CREATE TABLE"), "{log}");
    assert_eq!(databases.number("SELECT count(*) FROM good").await?, 0);
    Ok(())
}

#[tokio::test]
async fn w01_a_constraint_that_fails_at_commit_loses_nothing() -> Result<()> {
    let databases = Databases::create("w01").await?;
    databases
        .both("CREATE TABLE t (id int PRIMARY KEY, p int); CREATE TABLE good (id int PRIMARY KEY)")
        .await?;
    databases
        .to
        .batch_execute(
            "CREATE TABLE p (id int PRIMARY KEY);
             ALTER TABLE t ADD CONSTRAINT late FOREIGN KEY (p) REFERENCES p DEFERRABLE INITIALLY DEFERRED",
        )
        .await?;
    databases.publish().await?;
    databases.from.batch_execute("INSERT INTO good VALUES (1)").await?;
    databases
        .from
        .batch_execute("INSERT INTO good VALUES (2); INSERT INTO t VALUES (1, 77)")
        .await?;
    databases.from.batch_execute("INSERT INTO good VALUES (3)").await?;
    let mut replicator = databases.replicate(&[])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("late") && log.contains("23503"), "{log}");
    assert_eq!(databases.number("SELECT count(*) FROM good").await?, 1);

    // The operator clears it, and the transaction is there as a whole.
    databases.to.batch_execute("INSERT INTO p VALUES (77)").await?;
    let mut replicator = databases.replicate(&[])?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM good").await?, 3);
    assert_eq!(databases.number("SELECT count(*) FROM t").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_flood_of_rejected_rows_stops_before_it_fills_the_dead_letters() -> Result<()> {
    let databases = prepare("reject_flood", REFUSALS[0].1).await?;
    databases.to.batch_execute(LETTERS).await?;
    let flood = format!(
        "DO $$ BEGIN FOR i IN 1001..1150 LOOP INSERT INTO t VALUES (i, '{SECRET}'); COMMIT; END LOOP;
         END $$"
    );
    databases.from.batch_execute(&flood).await?;
    let flags = ["--onReject", "dlq", "--flushSize", "10"];
    let mut replicator = databases.replicate(&flags)?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("--dlqMaxPercent") && log.contains("22001"), "{log}");
    assert!(!log.contains(SECRET), "the value is in the log:\n{log}");
    let letters = databases.number("SELECT count(*) FROM replicator_dlq").await?;
    assert!((1..100).contains(&letters), "{letters}");

    // The operator has looked, and wants it that way.
    let mut replicator =
        databases.replicate(&[&flags[..], &["--dlqMaxPercent", "100"]].concat())?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM replicator_dlq").await?, 1 + 150);
    Ok(())
}
