//! The way from MySQL or MariaDB to PostgreSQL.
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use replicator_tests::failback::{Beat, log_path};
use replicator_tests::mysql::Kind;
use replicator_tests::onward::{Load, Onward};
use replicator_tests::product::Replicator;
use replicator_tests::workload::Written;
use tokio::time::{Instant, sleep, timeout};

use crate::options::Options;
use crate::screen::{Arrivals, Screen, grouped, rounded};
use crate::{FIRST_ROWS, LOOK, QUERY_MAX, STALL_MAX, STOP_MAX, plan};

/// What the databases begin with, and the log.
const NAME: &str = "shop";

/// Where the log is.
pub(crate) fn log(kind: Kind) -> Option<PathBuf> {
    log_path(&format!("{NAME}_{}", kind.name())).ok()
}

/// Shows it.
pub(crate) async fn demo(screen: &mut Screen, options: Options, kind: Kind) -> Result<()> {
    screen.say(&format!("starting {kind:?} and PostgreSQL"))?;
    let shop = Onward::open(kind, NAME).await?;
    let mut stage = Stage::new(shop);
    let begun = Instant::now();
    stage.start_replicator(screen)?;
    stage.shop.fill(FIRST_ROWS)?;
    let written = stage.run_load(screen, options, begun).await?;
    while stage.look(screen, written.rows, begun).await? < written.beat {
        sleep(LOOK).await;
    }
    stage.shop.confirmed(STALL_MAX).await?;
    let took = begun.elapsed();
    let replicator = stage.replicator.take().context("replicator runs")?;
    let status = replicator.stop(STOP_MAX).await?;
    ensure!(status.success(), "asked to stop, replicator ended with {status}");
    screen.say("everything has arrived and replicator has stopped; comparing both sides")?;
    let comparison = stage.shop.identical().await?;
    let (tables, rows) = (comparison.tables.len(), grouped(comparison.identical()));
    screen.say(&format!("verified: {tables} tables, {rows} rows identical"))?;
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let rate = written.rows as f64 / took.as_secs_f64();
    screen.say(&format!(
        "throughput: {} row changes in {} transactions at {} rows/s; the load was held to {} rows/s, large \
         transactions aside",
        grouped(written.rows),
        grouped(written.transactions),
        grouped(rounded(rate)),
        grouped(u64::from(options.rate)),
    ))?;
    screen.say(&format!(
        "killed with SIGKILL: {}; memory of replicator: at most {} MiB",
        stage.kills,
        stage.memory_kib / 1024
    ))
}

/// The shop, and replicator.
struct Stage {
    // Ended first: fields are dropped in this order.
    replicator: Option<Replicator>,
    shop: Onward,
    kills: u32,
    memory_kib: u64,
    arrivals: Arrivals,
}

impl Stage {
    fn new(shop: Onward) -> Self {
        Self { replicator: None, shop, kills: 0, memory_kib: 0, arrivals: Arrivals::new() }
    }

    fn start_replicator(&mut self, screen: &mut Screen) -> Result<()> {
        if self.kills == 0 {
            let mut shown = self.shop.moving.arguments();
            for flag in ["--sourceConn", "--targetConn"] {
                let at = shown.iter().position(|word| word == flag).context("a flag is missing")?;
                shown[at + 1] =
                    if flag == "--sourceConn" { "$SOURCE" } else { "$TARGET" }.to_owned();
            }
            screen.say(&format!("$ replicator {}", shown.join(" ")))?;
        }
        self.replicator = Some(self.shop.moving.replicate(&[])?);
        Ok(())
    }

    /// Writes to the source for as long as asked, and kills replicator when it is due.
    async fn run_load(
        &mut self,
        screen: &mut Screen,
        options: Options,
        begun: Instant,
    ) -> Result<Written> {
        let conninfo = self.shop.conninfo();
        let mut load = Load::start(&conninfo, plan(options)).await?;
        while begun.elapsed() < options.duration {
            sleep(LOOK).await;
            load.must_run()?;
            if options.kill_due(self.kills).is_some_and(|due| due <= begun.elapsed()) {
                self.replicator.take().context("replicator runs")?.kill()?;
                self.kills += 1;
                self.start_replicator(screen)?;
            }
            self.look(screen, load.rows(), begun).await?;
        }
        load.finish(&conninfo).await
    }

    /// Looks how far the target is, shows it, and returns the last beat that arrived.
    async fn look(&mut self, screen: &mut Screen, written: u64, begun: Instant) -> Result<i64> {
        let replicator = self.replicator.as_mut().context("replicator runs")?;
        replicator.must_run()?;
        self.memory_kib = self.memory_kib.max(replicator.memory_peak_kib());
        let Beat { beat, rows, lag } = timeout(QUERY_MAX, self.shop.beat()).await??;
        let lag = Duration::from_secs_f64(lag);
        if STALL_MAX < self.arrivals.saw(beat, rows) {
            bail!("nothing has arrived for {} s", STALL_MAX.as_secs());
        }
        let progress = self.arrivals.progress(begun.elapsed(), written, lag, self.kills);
        screen.show(&progress)?;
        Ok(beat)
    }
}
