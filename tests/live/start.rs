//! `replicator start` as its user meets it: changes of a busy shop go back to where it came from.
#[path = "start/immediate.rs"]
mod immediate;
#[path = "start/keys.rs"]
mod keys;
#[path = "start/progress.rs"]
mod progress;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_tests::feeder::{Caller, FeedOptions, Feeder, Where};
use replicator_tests::pair::{DATABASE, Pair};
use replicator_tests::postgres::{self, Options};
use replicator_tests::product::{Replicator, program};
use replicator_tests::workload::{Load, Plan};
use replicator_tests::{compare, wait_until};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Client;

const LIMIT: Duration = Duration::from_secs(120);

const PLAN: Plan = Plan {
    seed: 5,
    writers: 3,
    rows_per_second: 2_000,
    large_rows: 5_000,
    large_every: Duration::from_secs(3),
};

/// A table of progress.
const PROGRESS: &str = "CREATE TABLE done (stream TEXT, fence INT8, first_tx INT8, after_position TEXT, \
    through_position TEXT NOT NULL, PRIMARY KEY (stream, first_tx, fence))";

/// For those who need no token.
const OPEN: &[&str] = &["--disableAuthentication"];

/// A shop, where its changes go back to, and the program between them.
struct Shop {
    pair: Pair,
    port: u16,
    folder: PathBuf,
}

impl Shop {
    async fn open(name: &str) -> Result<Self> {
        let pair = Pair::start(postgres::major()?, &Options::default()).await?;
        pair.open_shop(2_000).await?;
        // A changefeed brings whole rows, whatever of them has changed.
        for table in ["document", "account", "product", "orders", "order_line"] {
            let sql = format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
            pair.from.batch_execute(&sql).await?;
        }
        // Values that change places in one transaction went through a third one, of which a changefeed
        // does not tell.
        pair.to.batch_execute("ALTER TABLE account DROP CONSTRAINT account_email_key").await?;
        let folder = std::env::temp_dir().join(format!("start-{name}-{}", std::process::id()));
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { pair, port, folder })
    }

    /// Starts the program, with `more` flags.
    fn replicator(&self, more: &[&str]) -> Result<Replicator> {
        let (target, port) = (self.pair.target.conninfo(DATABASE), self.port);
        let folder = self.folder.display().to_string();
        let bind = format!("127.0.0.1:{port}");
        let arguments = [
            "start",
            "--targetConn",
            &target,
            "--bindAddr",
            &bind,
            "--dataDir",
            &folder,
            "--flushPeriod",
            "50ms",
        ];
        let arguments = arguments.iter().chain(more);
        Replicator::start(&self.folder.join("replicator.log"), arguments)
    }

    /// A database for staging, beside the source.
    async fn staging(&self) -> Result<(String, Client)> {
        let client = self.pair.source.create_database("staging").await?;
        Ok((self.pair.source.conninfo("staging"), client))
    }

    fn place(&self) -> Where {
        Where { port: self.port, path: format!("/{DATABASE}/public"), token: None, tls: None }
    }

    async fn feed(&self, place: &Where, seed: u64) -> Result<Feeder> {
        let options = FeedOptions { workers: 4, rows_max: 300, again_percent: 20, seed };
        Feeder::start(&self.pair.source.conninfo(DATABASE), place, &options).await
    }

    /// Waits until both sides are equal.
    async fn equal(&self, replicator: &mut Replicator) -> Result<()> {
        let mut last = String::new();
        let waited = wait_until(LIMIT, "both sides are equal", async || {
            replicator.must_run()?;
            let comparison = compare::tables(&self.pair.from, &self.pair.to, "public").await?;
            last = comparison.to_string();
            Ok(comparison.is_identical())
        });
        if let Err(error) = waited.await {
            let log = replicator.log()?;
            let lines: Vec<&str> = log.lines().rev().take(20).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            return Err(error.context(last).context(format!("its log ends with {lines:#?}")));
        }
        Ok(())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_whoever_is_killed() -> Result<()> {
    let shop = Shop::open("kills").await?;
    kills(&shop, OPEN).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_is_staged_in_a_database_whoever_is_killed() -> Result<()> {
    let shop = Shop::open("staged").await?;
    let (staging, client) = shop.staging().await?;
    shop.pair.to.batch_execute(PROGRESS).await?;
    let flags = [
        "--stagingConn",
        &staging,
        "--stagingCreateSchema",
        "--targetProgressTable",
        "done",
        OPEN[0],
    ];
    kills(&shop, &flags).await?;
    ensure!(!shop.folder.join("staging").exists(), "a file was made as well");
    let sql = "SELECT count(*) FROM _replicator.memo WHERE key LIKE 'start-position-%'";
    let positions: i64 = client.query_one(sql, &[]).await?.get(0);
    ensure!(positions == 1, "{positions} positions are saved");
    Ok(())
}

/// Kills the program five times while a shop that is busy goes back.
async fn kills(shop: &Shop, flags: &[&str]) -> Result<()> {
    let mut replicator = shop.replicator(flags)?;
    let mut feeder = shop.feed(&shop.place(), 7).await?;
    let load = Load::start(&shop.pair.source.conninfo(DATABASE), PLAN).await?;
    for kill in 1..=5_u64 {
        wait_until(LIMIT, "some rows are sent", async || {
            replicator.must_run()?;
            Ok(kill * 1_500 < feeder.rows()?)
        })
        .await?;
        replicator.kill()?;
        replicator = shop.replicator(flags)?;
    }
    load.finish(&shop.pair.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.pair.from, LIMIT).await?;
    shop.equal(&mut replicator).await?;
    let status = replicator.stop(LIMIT).await?;
    ensure!(status.success(), "an orderly stop ends with {status}");
    Ok(())
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
    let shop = Shop::open("token").await?;
    let folder = &shop.folder;
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
    let load = Load::start(&shop.pair.source.conninfo(DATABASE), PLAN).await?;
    wait_until(LIMIT, "some rows are sent", async || Ok(2_000 < feeder.rows()?)).await?;
    load.finish(&shop.pair.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.pair.from, LIMIT).await?;
    shop.equal(&mut replicator).await?;
    ensure!(!replicator.log()?.contains(&token), "the token is in the log");
    Ok(())
}
