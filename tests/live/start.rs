//! `replicator start` as its user meets it: changes of a busy shop go back to where it came from.
#[path = "start/best_effort.rs"]
mod best_effort;
#[path = "start/earlier.rs"]
mod earlier;
#[path = "start/feeds.rs"]
mod feeds;
#[path = "start/immediate.rs"]
mod immediate;
#[path = "start/keys.rs"]
mod keys;
#[path = "start/pools.rs"]
mod pools;
#[path = "start/progress.rs"]
mod progress;
#[path = "start/progress_mysql.rs"]
mod progress_mysql;
#[path = "start/turns.rs"]
mod turns;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_tests::failback::{Kind, Shop};
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::pair::DATABASE;
use replicator_tests::postgres::{self, Options, Server};
use replicator_tests::product::program;
use replicator_tests::wait_until;
use replicator_tests::workload::{Load, Plan};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

const LIMIT: Duration = Duration::from_secs(240);

const PLAN: Plan = Plan {
    seed: 5,
    writers: 3,
    rows_per_second: 2_000,
    large_rows: 5_000,
    large_every: Duration::from_secs(3),
};

const FIRST_ROWS: u32 = 2_000;

/// What the program takes for an orderly stop, unless it is told otherwise.
const GRACE: Duration = Duration::from_secs(30);

/// A table of progress.
const PROGRESS: &str = "CREATE TABLE done (stream TEXT, fence INT8, first_tx INT8, after_position TEXT, \
    through_position TEXT NOT NULL, PRIMARY KEY (stream, first_tx, fence))";

/// For those who need no token.
const OPEN: &[&str] = &["--disableAuthentication"];

/// A shop that goes back to PostgreSQL.
async fn open(name: &str) -> Result<Shop> {
    Shop::open(Kind::Postgres, &format!("start_{name}"), FIRST_ROWS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_to_postgres_under_20_kills() -> Result<()> {
    check_kills(&open("kills").await?, OPEN, 20).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_to_mysql_under_20_kills() -> Result<()> {
    let shop = Shop::open(Kind::MySql, "start_kills_mysql", FIRST_ROWS).await?;
    check_kills(&shop, OPEN, 20).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_to_mariadb_under_20_kills() -> Result<()> {
    let shop = Shop::open(Kind::MariaDb, "start_kills_mariadb", FIRST_ROWS).await?;
    check_kills(&shop, OPEN, 20).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_is_staged_in_a_database_whoever_is_killed() -> Result<()> {
    let shop = open("staged").await?;
    let (staging, client) = shop.staging().await?;
    shop.to()?.batch_execute(PROGRESS).await?;
    let flags = [
        "--stagingConn",
        &staging,
        "--stagingCreateSchema",
        "--targetProgressTable",
        "done",
        OPEN[0],
    ];
    check_kills(&shop, &flags, 5).await?;
    ensure!(!shop.folder().join("staging").exists(), "a file was made as well");
    let sql = "SELECT count(*) FROM _replicator.memo WHERE key LIKE 'start-position-%'";
    let positions: i64 = client.query_one(sql, &[]).await?.get(0);
    ensure!(positions == 1, "{positions} positions are saved");
    Ok(())
}

/// Kills the program with SIGKILL again and again while rows come; in the end both sides are equal.
async fn check_kills(shop: &Shop, flags: &[&str], kills: u64) -> Result<()> {
    let mut replicator = shop.replicator(flags)?;
    let mut feeder = shop.feed(&shop.place(), 7).await?;
    let load = Load::start(&shop.source.conninfo(DATABASE), PLAN).await?;
    for _kill in 0..kills {
        // Each run takes some, also where the one before took many at once.
        let sent = feeder.rows()?;
        wait_until(LIMIT, "some rows are sent", async || {
            replicator.must_run()?;
            Ok(sent + 1_500 < feeder.rows()?)
        })
        .await?;
        replicator.kill()?;
        replicator = shop.replicator(flags)?;
    }
    load.finish(&shop.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.from, LIMIT).await?;
    shop.equal(&mut replicator, LIMIT).await?;
    let status = replicator.stop(LIMIT).await?;
    ensure!(status.success(), "an orderly stop ends with {status}");
    Ok(())
}

/// Takes the target away for some seconds, twice, while rows come, or else the server that they are staged in.
async fn check_crashes(mut shop: Shop, staging: Option<Server>) -> Result<()> {
    let mut flags = OPEN.to_vec();
    let conninfo = match &staging {
        Some(server) => {
            server.create_database("staging").await?;
            server.conninfo("staging")
        }
        None => String::new(),
    };
    if staging.is_some() {
        flags.extend(["--stagingConn", &conninfo, "--stagingCreateSchema"]);
    }
    let mut replicator = shop.replicator(&flags)?;
    let mut feeder = shop.feed(&shop.place(), 8).await?;
    let load = Load::start(&shop.source.conninfo(DATABASE), PLAN).await?;
    for crash in 1..=2 {
        wait_until(LIMIT, "some rows are sent", async || Ok(crash * 4_000 < feeder.rows()?))
            .await?;
        staging.as_ref().map_or_else(|| shop.crash_target(), Server::crash)?;
        let written = load.rows();
        wait_until(LIMIT, "more is written", async || Ok(written + 8_000 < load.rows())).await?;
        match &staging {
            Some(server) => server.start_again()?,
            None => shop.start_target().await?,
        }
    }
    load.finish(&shop.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.from, LIMIT).await?;
    shop.equal(&mut replicator, LIMIT).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a_postgres_target_that_is_away_for_a_while_gets_everything() -> Result<()> {
    check_crashes(open("away_postgres").await?, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a_mysql_target_that_is_away_for_a_while_gets_everything() -> Result<()> {
    let shop = Shop::open(Kind::MySql, "start_away_mysql", FIRST_ROWS).await?;
    check_crashes(shop, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a_staging_database_that_is_away_for_a_while_loses_nothing() -> Result<()> {
    let staging = Server::start(postgres::major()?, &Options::default())?;
    check_crashes(open("away_staging").await?, Some(staging)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_a_stop_under_load_is_in_time_and_orderly_and_loses_nothing() -> Result<()> {
    let shop = open("stops").await?;
    let mut replicator = shop.replicator(OPEN)?;
    let mut feeder = shop.feed(&shop.place(), 9).await?;
    let load = Load::start(&shop.source.conninfo(DATABASE), PLAN).await?;
    for stop in 1..=3_u64 {
        wait_until(LIMIT, "some rows are sent", async || Ok(stop * 3_000 < feeder.rows()?)).await?;
        let status = replicator.stop(GRACE).await?;
        ensure!(status.success(), "an orderly stop ends with {status}");
        replicator = shop.replicator(OPEN)?;
    }
    load.finish(&shop.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.from, LIMIT).await?;
    shop.equal(&mut replicator, LIMIT).await.map(drop)
}

/// Runs a program that must succeed.
fn run(program: &Path, arguments: &[&str], folder: &Path) -> Result<()> {
    let output = Command::new(program).args(arguments).current_dir(folder).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {arguments:?}: {said}", program.display());
    Ok(())
}

/// As the documents tell it, with certificate, key and token made by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_way_needs_a_certificate_and_a_token() -> Result<()> {
    let shop = open("token").await?;
    let folder = shop.folder();
    std::fs::create_dir_all(folder.join("jwt/keys"))?;
    let openssl = |line: &str| {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        run(Path::new("openssl"), &arguments, folder)
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout server.key -out server.crt -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE",
    )?;
    openssl("ecparam -out ec.key -genkey -name prime256v1")?;
    openssl("ec -in ec.key -pubout -out jwt/keys/shop.pem")?;
    let allowed = format!("{DATABASE}.public");
    run(&program()?, &["make-jwt", "-k", "ec.key", "-a", &allowed, "-o", "out.jwt"], folder)?;
    let token = std::fs::read_to_string(folder.join("out.jwt"))?.trim().to_owned();

    let (chain, key) = (folder.join("server.crt"), folder.join("server.key"));
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    let flags = ["--tlsCertificate", &chain, "--tlsPrivateKey", &key];
    let mut replicator = shop.replicator(&flags)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&chain)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let place = Where { tls: Some(Arc::new(tls)), ..shop.place() };
    wait_until(LIMIT, "somebody without a token is refused", async || {
        replicator.must_run()?;
        let answer = Caller::new(place.clone()).post("{}").await;
        Ok(matches!(answer, Ok((401, _))))
    })
    .await?;

    let mut feeder = shop.feed(&Where { token: Some(token.clone()), ..place }, 9).await?;
    let load = Load::start(&shop.source.conninfo(DATABASE), PLAN).await?;
    wait_until(LIMIT, "some rows are sent", async || Ok(2_000 < feeder.rows()?)).await?;
    load.finish(&shop.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.from, LIMIT).await?;
    shop.equal(&mut replicator, LIMIT).await?;
    ensure!(!replicator.log()?.contains(&token), "the token is in the log");
    Ok(())
}
