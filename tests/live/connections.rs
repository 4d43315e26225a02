//! Connections: every way to encrypt and to log in, and the life of a replication stream.
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_core::Event;
use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions, TruncatePolicy};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::position::{Lsn, Position};
use replicator_io::clock::Clock;
use replicator_io::error_chain;
use replicator_io::net::{Socket, TcpDial};
use replicator_io::pg::connect::{ConnectError, SessionOptions, connect_sql};
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::replication::ReplicationClient;
use replicator_io::port::Source as _;
use replicator_io::source::pg::stream::{PgSource, PgSourceError, PgSourceOptions};
use replicator_tests::postgres::{self, Options, Server};
use replicator_tests::wait_until;
use tokio_postgres::Client;

/// Which connections the server takes. A line for each way to log in, each with a role or a database of
/// its own.
const RULES: &str = "\
local all all trust
host all md5 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
host all trusted 127.0.0.1/32 trust
host all scram 127.0.0.1/32 scram-sha-256
hostssl certified postgres 127.0.0.1/32 cert
hostssl all encrypted 127.0.0.1/32 scram-sha-256
hostnossl all unencrypted 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 scram-sha-256
";

const ROLES: &str = "
SET password_encryption = 'scram-sha-256';
CREATE ROLE scram LOGIN REPLICATION PASSWORD 'p@ss w''rd/%?';
CREATE ROLE encrypted LOGIN REPLICATION PASSWORD 'x';
CREATE ROLE unencrypted LOGIN REPLICATION PASSWORD 'x';
CREATE ROLE clear LOGIN REPLICATION PASSWORD 'cl:ear';
CREATE ROLE trusted LOGIN REPLICATION;
SET password_encryption = 'md5';
CREATE ROLE md5 LOGIN REPLICATION PASSWORD 'sm#all';
";

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A server with all the rules and roles.
async fn guarded() -> Result<(Server, Client)> {
    let server = Server::start(postgres::major()?, &Options::default())?;
    let client = server.client("postgres").await?;
    client.batch_execute(ROLES).await?;
    client.batch_execute("CREATE DATABASE certified").await?;
    let file: String = client.query_one("SHOW hba_file", &[]).await?.get(0);
    let rules = RULES.trim_end().replace('\n', "','");
    let sql = format!("COPY (SELECT unnest(ARRAY['{rules}'])) TO '{file}'");
    client.batch_execute(&sql).await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    let trusted = format!("postgres://trusted@127.0.0.1:{}/postgres", server.port());
    wait_until(LIMIT, "the server takes the rules", async || {
        Ok(encryption(&trusted).await.is_ok())
    })
    .await?;
    Ok((server, client))
}

/// Connects twice, for SQL and for replication, and tells whether the server saw them encrypted.
async fn encryption(conninfo: &str) -> Result<bool, ConnectError> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let conninfo: ConnInfo = conninfo.parse().expect("a good connection string");
    let options = SessionOptions::default();
    let session = connect_sql(&TcpDial, &conninfo, &options).await?;
    let row = session.client().query_one(sql, &[]).await.expect("a session can ask");
    let mut client = ReplicationClient::<Socket>::connect(&TcpDial, &conninfo, &options).await?;
    let rows = client.query("look at the connection", sql).await.expect("a stream can ask");
    let encrypted: bool = row.get(0);
    assert_eq!(rows[0][0].as_deref() == Some("t"), encrypted);
    Ok(encrypted)
}

async fn refusal(conninfo: &str) -> String {
    encryption(conninfo).await.map_or_else(|error| error_chain(&error), |_| "no error".to_owned())
}

#[tokio::test]
async fn every_mode_and_every_login_works_for_sql_and_replication() -> Result<()> {
    let (server, client) = guarded().await?;
    let port = server.port();
    let certificates = server.certificates();
    let file = |name: &str| certificates.join(name).display().to_string();
    ensure!(certificates.join("ca.crt").exists(), "this test needs the program openssl");
    let (roots, certificate, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
    let folder: String = client
        .query_one("SELECT split_part(current_setting('unix_socket_directories'), ',', 1)", &[])
        .await?
        .get(0);

    let scram = "scram:p%40ss%20w'rd%2F%25%3F";
    let verified = format!("sslmode=verify-full&sslrootcert={roots}");
    let ours = format!("sslcert={certificate}&sslkey={key}");
    for (conninfo, encrypted) in [
        (format!("postgres://{scram}@127.0.0.1:{port}/postgres"), true),
        (format!("postgres://{scram}@127.0.0.1:{port}/postgres?sslmode=disable"), false),
        (format!("postgres://{scram}@127.0.0.1:{port}/postgres?sslmode=allow"), false),
        (format!("postgres://{scram}@127.0.0.1:{port}/postgres?sslmode=require"), true),
        (format!("postgres://{scram}@127.0.0.1:{port}/postgres?{verified}"), true),
        (format!("postgres://{scram}@localhost:{port}/postgres?{verified}"), true),
        (
            format!(
                "postgres://{scram}@127.0.0.1:{port}/postgres?{verified}&channel_binding=require"
            ),
            true,
        ),
        (
            format!(
                "postgres://{scram}@127.0.0.1:{port}/postgres?{verified}&channel_binding=disable"
            ),
            true,
        ),
        (format!("postgres://encrypted:x@127.0.0.1:{port}/postgres?sslmode=allow"), true),
        (format!("postgres://unencrypted:x@127.0.0.1:{port}/postgres"), false),
        (format!("postgres://md5:sm%23all@127.0.0.1:{port}/postgres"), true),
        (format!("postgres://clear:cl%3Aear@127.0.0.1:{port}/postgres?{verified}"), true),
        (format!("postgres://trusted@127.0.0.1:{port}/postgres"), true),
        (format!("postgres://postgres@127.0.0.1:{port}/certified?{verified}&{ours}"), true),
        (
            format!(
                "host=elsewhere hostaddr=127.0.0.1 port={port} user=trusted dbname=postgres sslmode=verify-ca sslrootcert={roots}"
            ),
            true,
        ),
        (
            format!("host={folder} port={port} user=trusted dbname=postgres sslmode=verify-full"),
            false,
        ),
        (format!("postgres://trusted@127.0.0.1:1,127.0.0.1:{port}/postgres"), true),
    ] {
        let outcome = encryption(&conninfo).await;
        let outcome = outcome.map_err(|error| error_chain(&error));
        assert_eq!(outcome, Ok(encrypted), "{conninfo}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_connection_says_why_and_keeps_the_password() -> Result<()> {
    let (server, _client) = guarded().await?;
    let port = server.port();
    let roots = server.certificates().join("ca.crt").display().to_string();
    let to = |user: &str| {
        format!("failed to connect to `user={user} database=postgres host=127.0.0.1 port={port}`: ")
    };
    let wrong = refusal(&format!("postgres://scram:hunter2@127.0.0.1:{port}/postgres")).await;
    let expected = "FATAL: password authentication failed for user \"scram\" (SQLSTATE 28P01)";
    assert_eq!(wrong, to("scram") + expected);
    let plain = format!("postgres://encrypted:hunter2@127.0.0.1:{port}/postgres?sslmode=disable");
    let refused = refusal(&plain).await;
    assert!(refused.contains("no pg_hba.conf entry"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    let none = refusal(&format!("postgres://scram@127.0.0.1:{port}/postgres")).await;
    assert!(none.contains("password missing"), "{none}");
    let other = format!(
        "host=elsewhere hostaddr=127.0.0.1 port={port} user=trusted dbname=postgres \
         sslmode=verify-full sslrootcert={roots}"
    );
    let refused = refusal(&other).await;
    assert!(refused.contains("certificate not valid for name \"elsewhere\""), "{refused}");
    let bound = format!("postgres://trusted@127.0.0.1:{port}/postgres?channel_binding=require");
    let refused = refusal(&bound).await;
    assert!(refused.contains("channel binding"), "{refused}");
    let nobody = refusal("postgres://u@127.0.0.1:1/d").await;
    assert_eq!(
        nobody,
        "failed to connect to `user=u database=d host=127.0.0.1 port=1`: could not reach the server: \
         Connection refused (os error 111)"
    );
    Ok(())
}

/// A stream of a table, with names that need their quotes.
struct Streamed {
    server: Server,
    client: Client,
}

const SLOT: &str = "stream_1";
const PUBLICATION: &str = "My \"Pub\", it's";

impl Streamed {
    async fn start(options: &Options) -> Result<Self> {
        let server = Server::start(postgres::major()?, options)?;
        let client = server.create_database("shop").await?;
        let publication = PUBLICATION.replace('"', "\"\"");
        client
            .batch_execute(&format!(
                "CREATE TABLE watched (id int PRIMARY KEY); CREATE TABLE other (id int);
                 CREATE PUBLICATION \"{publication}\" FOR TABLE watched"
            ))
            .await?;
        let sql = "SELECT pg_create_logical_replication_slot($1::text, 'pgoutput')";
        client.execute(&sql.replace("$1::text", &format!("'{SLOT}'")), &[]).await?;
        Ok(Self { server, client })
    }

    fn options(saved: Option<Lsn>) -> PgSourceOptions {
        PgSourceOptions {
            slot: SLOT.to_owned(),
            publications: vec![PUBLICATION.to_owned()],
            saved,
            system_identifier: None,
            standby_timeout: Duration::from_secs(5),
            silence_limit: None,
            session: SessionOptions::default(),
        }
    }

    /// Connects with a decoder that knows no tables: rows of others are an error, and there are none.
    async fn connect(&self, options: &PgSourceOptions) -> Result<PgSource<TcpDial>, PgSourceError> {
        let decoder = PgOptions {
            truncate: TruncatePolicy::Stop,
            target_schema: None,
            piece_bytes_max: 1 << 20,
            streamed_bytes_max: 1 << 20,
        };
        let decoder = PgTransactions::new(Arc::new(Catalog::default()), decoder);
        let conninfo = self.server.conninfo("shop").parse().expect("a good connection string");
        PgSource::connect(&TcpDial, &conninfo, options, decoder, Clock::start()).await
    }

    async fn lsn(&self, sql: &str) -> Result<Lsn> {
        let text: Option<String> = self.client.query_one(sql, &[]).await?.get(0);
        Ok(text.context("no position")?.parse()?)
    }

    async fn current(&self) -> Result<Lsn> {
        self.lsn("SELECT pg_current_wal_lsn()::text").await
    }

    async fn confirmed(&self) -> Result<Lsn> {
        self.lsn("SELECT confirmed_flush_lsn::text FROM pg_replication_slots").await
    }

    /// Reads until the source promises to be past `lsn`, acknowledging everything.
    async fn read_through(source: &mut PgSource<TcpDial>, lsn: Lsn) -> Result<Lsn> {
        let mut events = Vec::new();
        let mut last = Lsn(0);
        while last < lsn {
            tokio::time::timeout(LIMIT, source.next(&mut events)).await??;
            for event in events.drain(..) {
                let Event::IdleThrough(position @ Position::Lsn(lsn)) = event else {
                    anyhow::bail!("unexpected: {event}")
                };
                source.acknowledge(position);
                last = lsn;
            }
        }
        Ok(last)
    }
}

fn shown(error: &PgSourceError) -> impl Display {
    error_chain(error)
}

/// W-15: the WAL of tables that are not published must not pile up on the source.
#[tokio::test]
async fn w15_a_filtered_stream_lets_the_source_drop_its_wal() -> Result<()> {
    let stream = Streamed::start(&Options::default()).await?;
    let mut source = stream.connect(&Streamed::options(None)).await?;
    stream.client.batch_execute("INSERT INTO other SELECT generate_series(1, 100000)").await?;
    let end = stream.current().await?;
    let last = Streamed::read_through(&mut source, end).await?;
    wait_until(LIMIT, "the source knows", async || Ok(last <= stream.confirmed().await?)).await?;
    Ok(())
}

/// W-16: a server that hears nothing for wal_sender_timeout hangs up, and applying may take longer.
#[tokio::test]
async fn w16_the_server_keeps_a_connection_on_which_nobody_reads() -> Result<()> {
    let stream = Streamed::start(&Options::default().set("wal_sender_timeout", "1s")).await?;
    let mut source = stream.connect(&Streamed::options(None)).await?;
    stream.client.batch_execute("INSERT INTO other SELECT generate_series(1, 1000)").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let end = stream.current().await?;
    Streamed::read_through(&mut source, end).await?;
    let sql = "SELECT count(*) FROM pg_stat_replication
               WHERE backend_start < now() - interval '4 s' AND application_name = 'replicator'";
    assert_eq!(stream.client.query_one(sql, &[]).await?.get::<_, i64>(0), 1);
    Ok(())
}

#[tokio::test]
async fn received_durable_and_applied_are_shown_apart_by_the_server() -> Result<()> {
    let stream = Streamed::start(&Options::default()).await?;
    let mut source = stream.connect(&Streamed::options(None)).await?;
    stream.client.batch_execute("INSERT INTO other SELECT generate_series(1, 1000)").await?;
    let end = stream.current().await?;
    let mut events = Vec::new();
    while source.progress().positions().0 < end {
        tokio::time::timeout(LIMIT, source.next(&mut events)).await??;
    }
    let (received, started) = source.progress().positions();
    let applied = Lsn(received.0 - 8);
    let durable = Lsn(received.0 - 16);
    source.progress().applied(applied);
    source.acknowledge(Position::Lsn(durable));
    let sql = "SELECT write_lsn::text, flush_lsn::text, replay_lsn::text FROM pg_stat_replication";
    wait_until(LIMIT, "the server shows the three positions", async || {
        let row = stream.client.query_one(sql, &[]).await?;
        let lsn = |index| anyhow::Ok(row.get::<_, String>(index).parse::<Lsn>()?);
        Ok((lsn(0)?, lsn(1)?, lsn(2)?) == (received, durable, applied))
    })
    .await?;
    assert!(started < durable);
    Ok(())
}

#[tokio::test]
async fn closing_confirms_the_last_position_and_frees_the_slot() -> Result<()> {
    let stream = Streamed::start(&Options::default()).await?;
    let mut source = stream.connect(&Streamed::options(None)).await?;
    stream.client.batch_execute("INSERT INTO other SELECT generate_series(1, 1000)").await?;
    let end = stream.current().await?;
    let last = Streamed::read_through(&mut source, end).await?;
    // Something is left unread.
    stream.client.batch_execute("INSERT INTO other SELECT generate_series(1, 1000)").await?;
    source.close(LIMIT).await.map_err(|error| anyhow::anyhow!("{}", shown(&error)))?;
    assert!(last <= stream.confirmed().await?);
    // At once, without waiting for the server to notice that we are gone.
    let options = Streamed::options(Some(stream.confirmed().await?));
    wait_until(LIMIT, "the slot is free", async || {
        let sql = "SELECT NOT active FROM pg_replication_slots";
        Ok(stream.client.query_one(sql, &[]).await?.get(0))
    })
    .await?;
    stream.connect(&options).await?;
    Ok(())
}

#[tokio::test]
async fn a_slot_that_cannot_give_what_we_miss_is_refused() -> Result<()> {
    let stream = Streamed::start(&Options::default()).await?;
    let confirmed = stream.confirmed().await?;
    let refuse = async |options: PgSourceOptions| match stream.connect(&options).await {
        Ok(_) => "no error".to_owned(),
        Err(error) => {
            assert!(error.is_lasting() && error.hint().is_some());
            error_chain(&error)
        }
    };
    let missing = PgSourceOptions { slot: "nothing".to_owned(), ..Streamed::options(None) };
    assert_eq!(refuse(missing).await, "replication slot \"nothing\" does not exist");
    let gap = refuse(Streamed::options(Some(Lsn(confirmed.0 - 1)))).await;
    assert!(gap.contains("something else has read from it"), "{gap}");
    let other = PgSourceOptions { system_identifier: Some(7), ..Streamed::options(None) };
    let other = refuse(other).await;
    assert!(other.contains("the source is another database cluster"), "{other}");
    let sql = "SELECT pg_create_logical_replication_slot('plain', 'test_decoding')";
    if stream.client.query(sql, &[]).await.is_ok() {
        let plugin = PgSourceOptions { slot: "plain".to_owned(), ..Streamed::options(None) };
        let plugin = refuse(plugin).await;
        assert!(plugin.contains("not the plugin \"pgoutput\""), "{plugin}");
    }
    Ok(())
}
