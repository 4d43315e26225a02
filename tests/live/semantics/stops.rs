//! How it ends, and how it starts again.
use std::time::Duration;

use anyhow::Result;
use replicator_tests::databases::Databases;
use replicator_tests::postgres;
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;

const STOP_MAX: Duration = Duration::from_secs(30);

/// Runs the product with these arguments alone, and returns its exit code and what it printed.
async fn run(name: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let log = postgres::home()?.join("logs").join(format!("{name}.log"));
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    let mut replicator = Replicator::start(&log, arguments)?;
    let status = replicator.wait(STOP_MAX).await?;
    Ok((status.code(), replicator.log()?))
}

#[tokio::test]
async fn w37_a_wrong_command_line_is_exit_code_2() -> Result<()> {
    let wrong: [&[&str]; 5] = [
        &[],
        &["pglogical", "--noSuchFlag"],
        &["no-such-command"],
        &["pglogical", "--targetConn", "postgresql://user:hunter2@127.0.0.1:1/db"],
        &[
            "pglogical",
            "--sourceConn",
            "postgresql://user:hunter2@127.0.0.1:1/db",
            "--targetConn",
            "postgresql://user:hunter2@127.0.0.1:1/db",
            "--truncate",
            "sometimes",
        ],
    ];
    for arguments in wrong {
        let (code, log) = run("w37_usage", arguments).await?;
        assert_eq!(code, Some(2), "{arguments:?}:\n{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
    let (code, log) = run("w37_help", &["pglogical", "--help"]).await?;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("--slotName"), "{log}");
    Ok(())
}

#[tokio::test]
async fn w37_databases_that_cannot_be_reached_are_exit_code_1_and_passwords_are_not_shown()
-> Result<()> {
    // Nobody listens on port 1.
    let nowhere = "postgresql://user:hunter2@127.0.0.1:1/db?sslmode=disable";
    let arguments = ["pglogical", "--sourceConn", nowhere, "--targetConn", nowhere, "-vv"];
    let (code, log) = run("w37_nowhere", &arguments).await?;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("127.0.0.1"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    Ok(())
}

#[tokio::test]
async fn w37_a_wrong_password_is_exit_code_1_and_is_not_shown() -> Result<()> {
    let databases = Databases::create("w37_password").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY)").await?;
    databases.publish().await?;
    let wrong = databases.target().conninfo(databases.name()).replace(":secret@", ":hunter2@");
    let mut replicator = databases.replicate(&["--targetConn", &wrong, "-vv"])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("28P01") || log.contains("password authentication failed"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("secret"), "{log}");
    Ok(())
}

#[tokio::test]
async fn w37_sigterm_and_sigint_are_exit_code_0_and_the_next_start_resumes() -> Result<()> {
    let databases = Databases::create("w37").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v int)").await?;
    // Each row says how often it was written at the target.
    databases
        .to
        .batch_execute(
            "CREATE TABLE log_of_t (id int, v int);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.log_of_t VALUES (NEW.id, NEW.v); RETURN NEW; END $$;
             CREATE TRIGGER note AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE PROCEDURE note();
             ALTER TABLE t ENABLE ALWAYS TRIGGER note",
        )
        .await?;
    databases.publish().await?;
    let writer = databases.source().client(databases.name()).await?;
    let writing = tokio::spawn(async move {
        for i in 0..1500_i32 {
            writer.execute("INSERT INTO t VALUES ($1, 0)", &[&i]).await?;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        anyhow::Ok(())
    });
    let mut stops = 0;
    while !writing.is_finished() {
        let replicator = databases.replicate(&[])?;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let log = replicator.log()?;
        assert!(log.contains("Replicator starting"), "{log}");
        if stops % 2 == 0 {
            let status = replicator.stop(STOP_MAX).await?;
            assert_eq!(status.code(), Some(0));
        } else {
            replicator.signal("INT")?;
            let mut replicator = replicator;
            let status = replicator.wait(STOP_MAX).await?;
            assert_eq!(status.code(), Some(0), "{}", replicator.log()?);
            let log = replicator.log()?;
            assert!(
                log.contains("Interrupted") && log.contains("Server shutdown complete"),
                "{log}"
            );
        }
        stops += 1;
    }
    writing.await??;
    assert!(stops > 2, "{stops} stops");
    let mut replicator = databases.replicate(&[])?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM t").await?, 1500);
    assert_eq!(databases.number("SELECT count(*) FROM log_of_t").await?, 1500, "written twice");
    Ok(())
}

#[tokio::test]
async fn it_stops_in_time_while_the_target_is_locked() -> Result<()> {
    let databases = Databases::create("stop_locked").await?;
    databases
        .both("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)")
        .await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&["--gracePeriod", "2s"])?;
    databases.confirmed(&mut replicator).await?;
    let other = databases.target().client(databases.name()).await?;
    other.batch_execute("BEGIN; LOCK TABLE t").await?;
    databases.from.batch_execute("UPDATE t SET v = 1").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = std::time::Instant::now();
    replicator.stop(Duration::from_secs(15)).await?;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    other.batch_execute("ROLLBACK").await?;
    let mut replicator = databases.replicate(&[])?;
    databases.arrived(&mut replicator).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_program_on_the_same_slot_waits_and_takes_over() -> Result<()> {
    let databases = Databases::create("two_programs").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v int)").await?;
    databases.publish().await?;
    let mut first = databases.replicate(&[])?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 0)").await?;
    databases.arrived(&mut first).await?;
    let mut second = databases.replicate(&[])?;
    wait_until(STOP_MAX, "the second one says why it waits", async || {
        second.must_run()?;
        Ok(second.log()?.contains("in use"))
    })
    .await?;
    databases.from.batch_execute("INSERT INTO t VALUES (2, 0)").await?;
    databases.arrived(&mut first).await?;
    first.kill()?;
    databases.from.batch_execute("UPDATE t SET v = 1").await?;
    databases.arrived(&mut second).await?;
    Ok(())
}
