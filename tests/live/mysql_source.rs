//! MySQL and MariaDB as sources, as far as a session of ours goes: logging in, and the events of the binary log.
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use replicator_io::mysql::conninfo::MySqlConnInfo;
use replicator_io::mysql::replica::{EventStream, Replica, ReplicaSession, Since};
use replicator_io::net::TcpDial;
use replicator_tests::mysql::{Kind, Server};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

/// Numbers of events (MySQL documentation, "Binlog Event Types"; MariaDB documentation, "Replication Protocol").
const HEARTBEATS: [u8; 2] = [27, 41];
const INSERTS: [u8; 2] = [23, 30];

async fn open(conninfo: &str) -> Result<ReplicaSession<TcpDial>> {
    let conninfo: MySqlConnInfo = conninfo.parse()?;
    Ok(ReplicaSession::open(&TcpDial, &conninfo).await?)
}

async fn ask(session: &mut ReplicaSession<TcpDial>, sql: &str) -> Result<String> {
    let rows = session.query(sql).await?;
    let cell = rows.into_iter().next().and_then(|row| row.into_iter().next());
    cell.flatten().context("no answer")
}

/// The session proves that it is this user's, encrypted or not, and again when the server remembers it.
async fn check_user(server: &Server, user: &str, parameters: &str, encrypted: bool) -> Result<()> {
    let port = server.port();
    for time in 1..=2 {
        let conninfo = format!("mysql://{user}@localhost:{port}/mysql?{parameters}");
        let session = open(&conninfo).await;
        let mut session = session.with_context(|| format!("{parameters}, time {time}"))?;
        let name = user.split(':').next().unwrap_or_default();
        let is = ask(&mut session, "SELECT SUBSTRING_INDEX(USER(), '@', 1)").await?;
        ensure!(is == name, "it is {is}");
        let cipher = session.query("SHOW STATUS LIKE 'Ssl_cipher'").await?;
        let cipher = cipher[0][1].clone().unwrap_or_default();
        ensure!(cipher.is_empty() != encrypted, "{parameters}: the cipher is \"{cipher}\"");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_logs_in_by_the_servers_plugins_with_and_without_tls() -> Result<()> {
    for kind in Kind::ALL {
        let server = Server::shared(kind)?;
        server.run(
            "CREATE USER IF NOT EXISTS long_one IDENTIFIED BY 'p/ss word\u{e9}'; \
             CREATE USER IF NOT EXISTS nobody IDENTIFIED BY ''",
        )?;
        let ca = server.certificates().join("ca.crt").display().to_string();
        let verified = format!("sslmode=verify-identity&sslrootcert={ca}");
        for user in ["long_one:p%2fss word%C3%A9", "nobody"] {
            // First by the full proof, for which MySQL sends its public key, then by the short one.
            check_user(&server, user, "sslmode=disable", false).await?;
            check_user(&server, user, "sslmode=require", true).await?;
            check_user(&server, user, "sslmode=prefer", true).await?;
            check_user(&server, user, &verified, true).await?;
        }
        let certificates = server.certificates();
        let [cert, key] = ["client.crt", "client.key"].map(|name| certificates.join(name));
        let with = format!("{verified}&sslcert={}&sslkey={}", cert.display(), key.display());
        server.run(
            "CREATE USER IF NOT EXISTS shown IDENTIFIED BY 'x'; ALTER USER shown REQUIRE X509",
        )?;
        check_user(&server, "shown:x", &with, true).await?;
        // Only this one insists on it.
        let allowed = with.replace("sslmode=verify-identity", "sslmode=allow");
        check_user(&server, "shown:x", &allowed, true).await?;
        check_user(&server, "nobody", &allowed, false).await?;
        // A user that there is not is asked for any proof, so that nobody learns who there is.
        for (user, parameters, text) in [
            ("long_one:wrong", "sslmode=require", "Access denied for user 'long_one'"),
            ("shown:x", "sslmode=require", "Access denied for user 'shown'"),
            ("nobody", "sslmode=verify-identity", "TLS handshake failed"),
        ] {
            let conninfo = format!("mysql://{user}@localhost:{}/mysql?{parameters}", server.port());
            let Err(error) = open(&conninfo).await else { bail!("{user} is let in") };
            ensure!(format!("{error:#}").contains(text), "{error:#}");
        }
    }
    Ok(())
}

fn replica(server_id: u32) -> Replica {
    let uuid = format!("00000000-0000-0000-0000-{server_id:012}");
    Replica { server_id, uuid }
}

/// Reads events until this many of these kinds have come.
async fn count(events: &mut EventStream<TcpDial>, kinds: [u8; 2], wanted: usize) -> Result<()> {
    let mut seen = 0;
    while seen < wanted {
        let event = timeout(LIMIT, events.next()).await??;
        let kind = event.get(4).context("an event has no header")?;
        seen += usize::from(kinds.contains(kind));
    }
    Ok(())
}

#[tokio::test]
async fn all_events_since_a_position_come_and_heartbeats_when_there_are_none() -> Result<()> {
    for kind in Kind::ALL {
        let server = Server::start_source(kind)?;
        server.run("CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY, b LONGBLOB)")?;
        let conninfo = server.conninfo("app");
        let mut session = open(&conninfo).await?;
        let version = session.version().to_owned();
        let is_mariadb = version.contains("MariaDB");
        ensure!(is_mariadb == (kind == Kind::MariaDb), "{version}");
        let position = match kind {
            Kind::MySql => String::new(),
            Kind::MariaDb => ask(&mut session, "SELECT @@gtid_binlog_pos").await?,
        };
        for id in 1..=5 {
            server.run(&format!("INSERT INTO app.t VALUES ({id}, 'x')"))?;
        }
        // An empty set: number of UUIDs.
        let since = match kind {
            Kind::MySql => Since::GtidSet(&[0; 8]),
            Kind::MariaDb => Since::GtidPosition(&position),
        };
        let mut events = session.stream(&replica(77), Duration::from_secs(1), since).await?;
        count(&mut events, INSERTS, 5).await?;
        count(&mut events, HEARTBEATS, 2).await?;
        // An event of more than one packet.
        server.run("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")?;
        server.run("INSERT INTO app.t VALUES (6, REPEAT('y', 17 * 1024 * 1024))")?;
        count(&mut events, INSERTS, 1).await?;
        // Its place in the list of replicas is ours.
        let replicas = server.run("SHOW PROCESSLIST")?;
        ensure!(replicas.contains("Binlog Dump"), "{replicas}");
    }
    Ok(())
}

/// A position that the server cannot go on from ends it with the server's own words; nothing is skipped.
#[tokio::test]
async fn a_purged_position_is_refused() -> Result<()> {
    for kind in Kind::ALL {
        let server = Server::start_source(kind)?;
        server.run("CREATE DATABASE app; FLUSH BINARY LOGS; CREATE TABLE app.t (id INT)")?;
        let last = server.run("SHOW BINARY LOGS")?;
        let last = last.lines().last().and_then(|line| line.split_whitespace().next());
        server.run(&format!("PURGE BINARY LOGS TO '{}'", last.context("no binary log")?))?;
        let session = open(&server.conninfo("app")).await?;
        let since = match kind {
            Kind::MySql => Since::GtidSet(&[0; 8]),
            Kind::MariaDb => Since::GtidPosition("0-77777-1"),
        };
        let mut events = session.stream(&replica(78), Duration::from_secs(1), since).await?;
        let error = loop {
            match timeout(LIMIT, events.next()).await? {
                Ok(event) => ensure!(event.get(4).is_some_and(|kind| !INSERTS.contains(kind))),
                Err(error) => break error.to_string(),
            }
        };
        ensure!(error.contains("the server says: "), "{error}");
        ensure!(error.contains("(error 1236)"), "{error}");
    }
    Ok(())
}
