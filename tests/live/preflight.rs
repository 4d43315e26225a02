//! Everything that stands in the way is found on real servers, and the SQL we offer clears it.
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use replicator_core::dialect::Product;
use replicator_core::model::ident::SchemaName;
use replicator_io::preflight::{
    self, Findings, Options, Report, Severity, Side, StagingOptions, TargetOptions,
};
use replicator_io::staging::schema::StagingName;
use replicator_tests::postgres::{self, Server};
use tokio_postgres::Client;

/// One server with a source and a target database that fit.
struct Pair {
    server: Server,
    source: Client,
    target: Client,
    options: Options,
}

const TABLES: &str = "
CREATE TABLE parent (id int8 PRIMARY KEY, name varchar(20) NOT NULL);
CREATE TABLE child (id int4 PRIMARY KEY, up int8 REFERENCES parent, note text);";

impl Pair {
    async fn start() -> Result<Self> {
        Self::start_with(&postgres::Options::default()).await
    }

    async fn start_with(settings: &postgres::Options) -> Result<Self> {
        let server = Server::start(postgres::major()?, settings)?;
        let source = server.create_database("src").await?;
        let target = server.create_database("dst").await?;
        let target_schema =
            SchemaName { database: Some("dst".to_owned()), schema: "Tar get".to_owned() };
        let name = StagingName { database: None, schema: "_replicator".to_owned() };
        let options = Options {
            slot: "molt_slot".to_owned(),
            publication: None,
            target: TargetOptions {
                schema: target_schema,
                staging: Some(StagingOptions { name, create: true }),
                answer_limit: Duration::from_secs(20),
            },
        };
        Ok(Self { server, source, target, options })
    }

    /// With tables on both sides, a publication and a slot.
    async fn ready() -> Result<Self> {
        let pair = Self::start().await?;
        pair.source.batch_execute(TABLES).await?;
        pair.target
            .batch_execute(&format!(
                "CREATE SCHEMA \"Tar get\"; SET search_path = \"Tar get\"; {TABLES}"
            ))
            .await?;
        pair.source.batch_execute("CREATE PUBLICATION molt_fetch FOR ALL TABLES").await?;
        pair.create_slot("molt_slot", "pgoutput").await?;
        Ok(pair)
    }

    async fn create_slot(&self, name: &str, plugin: &str) -> Result<()> {
        let sql = "SELECT pg_create_logical_replication_slot($1, $2)";
        self.source.execute(sql, &[&name, &plugin]).await?;
        Ok(())
    }

    async fn run(&self) -> Result<Report> {
        self.run_as(&self.source, &self.target).await
    }

    async fn run_as(&self, source: &Client, target: &Client) -> Result<Report> {
        Ok(preflight::run(source, target, Product::Postgres, &self.options).await?)
    }

    /// Connects as a role of that name, which is also its password.
    async fn connect_as(&self, role: &str, database: &str) -> Result<Client> {
        let conninfo = self.server.conninfo(database);
        postgres::connect(&conninfo.replace("postgres:secret@", &format!("{role}:{role}@"))).await
    }

    /// Runs the offered SQL of every finding, as the superuser.
    async fn apply_fixes(&self, findings: &Findings) -> Result<()> {
        for finding in findings.iter() {
            let fix = finding.fix.as_ref().with_context(|| format!("no fix for: {finding}"))?;
            let client = match fix.side {
                Side::Source => &self.source,
                Side::Target => &self.target,
            };
            for statement in fix.sql.lines() {
                client.batch_execute(statement).await.context(finding.to_string())?;
            }
        }
        Ok(())
    }
}

/// The report has exactly the findings that contain these texts, in this order.
fn check(report: &Report, expected: &[(Severity, &str)]) {
    let found: Vec<_> = report.findings.iter().collect();
    assert_eq!(found.len(), expected.len(), "{}", report.findings);
    for (finding, (severity, text)) in found.iter().zip(expected) {
        assert_eq!(finding.severity, *severity, "{finding}");
        assert!(finding.text.contains(text), "expected {text}, found: {finding}");
    }
    assert_eq!(report.facts.is_none(), report.findings.has_errors());
}

use Severity::{Error, Warning};

#[tokio::test]
async fn a_pair_that_fits_has_no_findings_and_all_facts() -> Result<()> {
    let pair = Pair::ready().await?;
    let report = pair.run().await?;
    check(&report, &[]);
    let facts = report.facts.context("no facts")?;
    let row = pair
        .source
        .query_one(
            "SELECT s.system_identifier::TEXT, c.timeline_id::INT8, r.confirmed_flush_lsn::TEXT
               FROM pg_control_system() s, pg_control_checkpoint() c, pg_replication_slots r",
            &[],
        )
        .await?;
    assert_eq!(facts.system_identifier.to_string(), row.get::<_, String>(0));
    assert_eq!(i64::from(facts.timeline), row.get::<_, i64>(1));
    assert_eq!(facts.confirmed_flush.to_string(), row.get::<_, String>(2));
    assert_eq!(facts.publication, "molt_fetch");
    assert_eq!(facts.source_database, "src");
    assert_eq!(facts.source_version_number / 10_000, i32::from(pair.server.major()));
    assert_eq!(facts.catalog.tables().count(), 2);
    Ok(())
}

#[tokio::test]
async fn an_empty_start_is_led_to_a_clean_one_by_the_offered_sql() -> Result<()> {
    let mut pair = Pair::start().await?;
    if let Some(staging) = &mut pair.options.target.staging {
        staging.create = false;
    }
    pair.source.batch_execute(TABLES).await?;
    let report = pair.run().await?;
    check(
        &report,
        &[
            (Error, "no publication holds tables"),
            (Error, "replication slot \"molt_slot\" does not exist"),
            (Error, "schema \"Tar get\" does not exist on the target"),
            (Error, "staging schema \"_replicator\" does not exist"),
        ],
    );
    pair.apply_fixes(&report.findings).await?;
    let report = pair.run().await?;
    check(
        &report,
        &[
            (Error, "table \"Tar get\".\"child\" does not exist on the target"),
            (Error, "table \"Tar get\".\"parent\" does not exist on the target"),
        ],
    );
    pair.apply_fixes(&report.findings).await?;
    check(&pair.run().await?, &[]);
    Ok(())
}

#[tokio::test]
async fn a_slot_that_cannot_be_used_is_told() -> Result<()> {
    let mut pair = Pair::ready().await?;
    pair.create_slot("other_plugin", "test_decoding").await?;
    let elsewhere = "SELECT pg_create_logical_replication_slot('elsewhere', 'pgoutput')";
    pair.target.batch_execute(elsewhere).await?;
    let physical = "SELECT pg_create_physical_replication_slot('physical')";
    pair.source.batch_execute(physical).await?;
    // A temporary slot is in use by the session that made it.
    let reader = pair.server.client("src").await?;
    let busy = "SELECT pg_create_logical_replication_slot('busy', 'pgoutput', true)";
    reader.batch_execute(busy).await?;
    for (slot, text) in [
        ("other_plugin", "uses plugin \"test_decoding\""),
        ("elsewhere", "belongs to database \"dst\" and not to \"src\""),
        ("physical", "is physical and must be logical"),
        ("busy", "is in use by process"),
        ("Molt_slot", "does not exist; this database has \"busy\", \"molt_slot\""),
    ] {
        pair.options.slot = slot.to_owned();
        check(&pair.run().await?, &[(Error, text)]);
    }
    // Replacing it is offered, and works.
    pair.options.slot = "other_plugin".to_owned();
    pair.apply_fixes(&pair.run().await?.findings).await?;
    check(&pair.run().await?, &[]);
    Ok(())
}

#[tokio::test]
async fn a_slot_that_has_lost_its_wal_is_told() -> Result<()> {
    if postgres::major()? < 13 {
        // Older servers keep WAL for a slot whatever it takes.
        assert!(Pair::ready().await?.run().await?.facts.is_some());
        return Ok(());
    }
    let pair = Pair::start_with(&postgres::Options::default().set("max_slot_wal_keep_size", "1MB"))
        .await?;
    pair.source.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)").await?;
    pair.target
        .batch_execute(
            "CREATE SCHEMA \"Tar get\"; CREATE TABLE \"Tar get\".t (id int4 PRIMARY KEY)",
        )
        .await?;
    pair.source.batch_execute("CREATE PUBLICATION p FOR TABLE t").await?;
    pair.create_slot("molt_slot", "pgoutput").await?;
    for _ in 0..4 {
        pair.source.batch_execute("SELECT pg_logical_emit_message(true, 'a', 'b')").await?;
        pair.source.batch_execute("SELECT pg_switch_wal()").await?;
    }
    pair.source.batch_execute("CHECKPOINT").await?;
    let report = pair.run().await?;
    check(&report, &[(Error, "replication slot \"molt_slot\" is lost")]);
    pair.apply_fixes(&report.findings).await?;
    check(&pair.run().await?, &[]);
    Ok(())
}

#[tokio::test]
async fn a_source_that_cannot_decode_is_told() -> Result<()> {
    let pair = Pair::start_with(&postgres::Options::default().set("wal_level", "replica")).await?;
    let tables = "CREATE SCHEMA \"Tar get\"; CREATE TABLE \"Tar get\".t (id int4 PRIMARY KEY)";
    pair.target.batch_execute(tables).await?;
    pair.source
        .batch_execute(
            "CREATE TABLE t (id int4 PRIMARY KEY);
             CREATE PUBLICATION p FOR TABLE t;
             CREATE ROLE plain LOGIN PASSWORD 'plain'",
        )
        .await?;
    let plain = pair.connect_as("plain", "src").await?;
    let report = pair.run_as(&plain, &pair.target).await?;
    check(
        &report,
        &[
            (Error, "wal_level is \"replica\" and must be \"logical\""),
            (Error, "role \"plain\" may not start replication"),
            (Error, "replication slot \"molt_slot\" does not exist"),
        ],
    );
    Ok(())
}

#[tokio::test]
async fn a_replica_is_no_source() -> Result<()> {
    let pair = Pair::ready().await?;
    if pair.server.major() < 12 {
        // standby.signal came with 12; the check itself has a unit test.
        assert!(pair.run().await?.facts.is_some());
        return Ok(());
    }
    pair.server.stop()?;
    let folder = pair.server.log().parent().context("no folder")?.join("data");
    let signal = folder.join("standby.signal");
    std::fs::write(&signal, "").with_context(|| signal.display().to_string())?;
    pair.server.start_again()?;
    let (source, target) = (pair.server.client("src").await?, pair.server.client("dst").await?);
    let report = pair.run_as(&source, &target).await?;
    let first = report.findings.iter().next().context("nothing found")?;
    assert!(first.text.contains("the source is a replica"), "{}", report.findings);
    assert!(report.facts.is_none());
    Ok(())
}

#[tokio::test]
async fn a_publication_is_chosen_or_asked_for() -> Result<()> {
    let mut pair = Pair::ready().await?;
    pair.source.batch_execute("CREATE PUBLICATION empty").await?;
    check(&pair.run().await?, &[]);
    pair.source.batch_execute("CREATE PUBLICATION \"Second\" FOR TABLE parent").await?;
    let several = "more than one publication holds tables; name one with --publicationName";
    check(&pair.run().await?, &[(Error, several)]);
    for (name, expected) in [
        ("Second", None),
        ("second", Some((Error, "publication \"second\" does not exist; this database has"))),
        ("empty", Some((Error, "publication \"empty\" holds no tables"))),
    ] {
        pair.options.publication = Some(name.to_owned());
        check(&pair.run().await?, expected.as_slice());
    }
    pair.source.batch_execute("ALTER PUBLICATION \"Second\" SET (publish = 'insert')").await?;
    pair.options.publication = Some("Second".to_owned());
    let report = pair.run().await?;
    check(&report, &[(Warning, "does not publish update, delete, truncate")]);
    pair.apply_fixes(&report.findings).await?;
    check(&pair.run().await?, &[]);
    Ok(())
}

#[tokio::test]
async fn missing_rights_on_the_target_are_granted_by_the_offered_sql() -> Result<()> {
    let mut pair = Pair::ready().await?;
    pair.target
        .batch_execute(
            "CREATE ROLE \"wri ter\" LOGIN PASSWORD 'wri ter';
             CREATE SCHEMA _replicator;
             GRANT SELECT, INSERT ON \"Tar get\".parent TO \"wri ter\";",
        )
        .await?;
    let conninfo = pair.server.conninfo("dst").replace("postgres:secret@", "wri%20ter:wri%20ter@");
    let writer = postgres::connect(&conninfo).await?;
    let report = pair.run_as(&pair.source, &writer).await?;
    check(
        &report,
        &[
            (Error, "role \"wri ter\" may not use schema \"Tar get\""),
            (Error, "lacks SELECT on the target on \"Tar get\".\"child\""),
            (Error, "lacks INSERT on the target on \"Tar get\".\"child\""),
            (Error, "lacks UPDATE on the target on \"Tar get\".\"child\", \"Tar get\".\"parent\""),
            (Error, "lacks DELETE on the target on \"Tar get\".\"child\", \"Tar get\".\"parent\""),
            (Error, "may not use staging schema \"_replicator\""),
        ],
    );
    pair.apply_fixes(&report.findings).await?;
    check(&pair.run_as(&pair.source, &writer).await?, &[]);

    if let Some(staging) = &mut pair.options.target.staging {
        staging.name.schema = "not there".to_owned();
    }
    let report = pair.run_as(&pair.source, &writer).await?;
    check(&report, &[(Error, "may not create staging schema \"not there\"")]);
    pair.apply_fixes(&report.findings).await?;
    check(&pair.run_as(&pair.source, &writer).await?, &[]);

    pair.options.target.schema.database = Some("src".to_owned());
    let other = "to database \"dst\", but --targetSchema names database \"src\"";
    check(&pair.run_as(&pair.source, &writer).await?, &[(Error, other)]);
    Ok(())
}

#[tokio::test]
async fn tables_that_differ_are_brought_together_by_the_offered_sql() -> Result<()> {
    let pair = Pair::ready().await?;
    pair.source
        .batch_execute(
            "CREATE TABLE more (id int4 PRIMARY KEY, extra varchar(7), \"Extra\" numeric(5, 2)[]);
             CREATE TABLE less (id int4 PRIMARY KEY);
             CREATE TABLE keyless (a int4, b int4, PRIMARY KEY (b, a));
             CREATE TABLE nothing (id int4 PRIMARY KEY);
             ALTER TABLE nothing REPLICA IDENTITY NOTHING;
             CREATE TABLE heap (id int4);
             CREATE TABLE narrow (id int4 PRIMARY KEY, k int4 NOT NULL);
             CREATE UNIQUE INDEX narrow_k ON narrow (k);",
        )
        .await?;
    pair.target
        .batch_execute(
            "SET search_path = \"Tar get\";
             CREATE TABLE more (id int4 PRIMARY KEY);
             CREATE TABLE less (id int4 PRIMARY KEY, needed int4 NOT NULL,
                                stamped date NOT NULL DEFAULT '2024-01-01');
             CREATE TABLE keyless (a int4, b int4);
             CREATE TABLE nothing (id int4 PRIMARY KEY);
             CREATE TABLE heap (id int4 PRIMARY KEY);
             CREATE TABLE narrow (id int4, k int4 PRIMARY KEY);",
        )
        .await?;
    let report = pair.run().await?;
    check(
        &report,
        &[
            (Error, "\"Tar get\".\"keyless\" on the target has no usable key"),
            (Error, "have no default: \"needed\""),
            (Error, "has unexpected columns on the source: \"extra\", \"Extra\""),
            (Error, "identity of \"public\".\"narrow\" lacks columns of the target's key"),
            (Warning, "\"public\".\"heap\" has no replica identity"),
            (Warning, "\"public\".\"nothing\" has no replica identity"),
        ],
    );
    // What the warning says is what the source does.
    let refused = pair.source.execute("UPDATE heap SET id = 1", &[]).await;
    assert!(refused.is_err());
    pair.apply_fixes(&report.findings).await?;
    check(&pair.run().await?, &[]);
    pair.source.execute("UPDATE heap SET id = 1", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn w42_tables_of_two_schemas_with_one_name_are_told() -> Result<()> {
    let pair = Pair::ready().await?;
    pair.source
        .batch_execute(
            "CREATE SCHEMA second; CREATE TABLE second.parent (id int8 PRIMARY KEY, name text)",
        )
        .await?;
    let text =
        "\"public\".\"parent\", \"second\".\"parent\" would all be written to table \"parent\"";
    check(&pair.run().await?, &[(Error, text)]);
    Ok(())
}

#[tokio::test]
async fn column_lists_and_computed_columns_are_understood() -> Result<()> {
    let pair = Pair::ready().await?;
    let major = pair.server.major();
    let mut expected = Vec::new();
    if major >= 12 {
        let source = "CREATE TABLE computed (id int4 PRIMARY KEY, a int4,
                          b int4 GENERATED ALWAYS AS (a + 1) STORED)";
        pair.source.batch_execute(source).await?;
        let target = "CREATE TABLE \"Tar get\".computed (id int4 PRIMARY KEY, a int4, b int4)";
        pair.target.batch_execute(target).await?;
        expected.push((Warning, "will stay empty: \"b\""));
    }
    check(&pair.run().await?, &expected);
    if major < 15 {
        return Ok(());
    }
    pair.source
        .batch_execute(
            "DROP PUBLICATION molt_fetch;
             ALTER TABLE child REPLICA IDENTITY FULL;
             CREATE PUBLICATION few
                FOR TABLE parent (id, name) WHERE (id > 0), child (id, up)",
        )
        .await?;
    pair.target.batch_execute("ALTER TABLE \"Tar get\".child DROP COLUMN note").await?;
    let report = pair.run().await?;
    let unsent =
        "does not publish columns of the replica identity of \"public\".\"child\": \"note\"";
    check(&report, &[(Error, unsent)]);
    assert!(pair.source.execute("UPDATE child SET id = 1", &[]).await.is_err());
    pair.source.batch_execute("ALTER TABLE child REPLICA IDENTITY DEFAULT").await?;
    check(&pair.run().await?, &[]);
    pair.source.execute("UPDATE child SET id = 1", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn partitions_answer_for_their_own_replica_identity() -> Result<()> {
    let pair = Pair::ready().await?;
    let tables = |schema: &str| {
        format!(
            "CREATE TABLE {schema}.whole (id int4, at date, PRIMARY KEY (id, at))
                 PARTITION BY RANGE (at);
             CREATE TABLE {schema}.part PARTITION OF {schema}.whole
                 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        )
    };
    pair.source.batch_execute(&tables("public")).await?;
    pair.target.batch_execute(&tables("\"Tar get\"")).await?;
    check(&pair.run().await?, &[]);
    pair.source.batch_execute("ALTER TABLE part REPLICA IDENTITY NOTHING").await?;
    check(&pair.run().await?, &[(Warning, "\"public\".\"part\" has no replica identity")]);
    if pair.server.major() >= 13 {
        pair.source
            .batch_execute(
                "DROP PUBLICATION molt_fetch;
                 CREATE PUBLICATION rooted FOR TABLE whole WITH (publish_via_partition_root)",
            )
            .await?;
        pair.target.batch_execute("DROP TABLE \"Tar get\".part").await?;
        let report = pair.run().await?;
        check(&report, &[(Warning, "\"public\".\"part\" has no replica identity")]);
        pair.apply_fixes(&report.findings).await?;
        check(&pair.run().await?, &[]);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error_within_the_limit() -> Result<()> {
    let mut pair = Pair::ready().await?;
    // Nobody can read pg_publication while this lock is held.
    let blocker = pair.server.client("src").await?;
    blocker.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_publication").await?;
    pair.options.target.answer_limit = Duration::from_millis(300);
    let outcome =
        preflight::run(&pair.source, &pair.target, Product::Postgres, &pair.options).await;
    let Err(error) = outcome else { bail!("an answer in spite of the lock") };
    assert_eq!(error.to_string(), "the source did not answer within 0.3 s");
    blocker.batch_execute("ROLLBACK").await?;
    pair.options.target.answer_limit = Duration::from_secs(20);
    check(&pair.run().await?, &[]);
    Ok(())
}
