//! The way back: the shop has moved, and its changes go to where it came from.
//!
//! A PostgreSQL stands in for CockroachDB, and a feed tells of its changes as changefeeds do.
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use replicator_tests::failback::{Beat, Kind, Shop};
use replicator_tests::feeder::Feeder;
use replicator_tests::pair::DATABASE;
use replicator_tests::postgres;
use replicator_tests::product::Replicator;
use replicator_tests::workload::{Load, Written};
use tokio::time::{Instant, sleep, timeout};

use crate::options::Options;
use crate::screen::{Arrivals, Screen, grouped, rounded};
use crate::{FIRST_ROWS, LOOK, QUERY_MAX, STALL_MAX, STOP_MAX, plan};

/// The name of the shop, and of its log.
pub(crate) const NAME: &str = "demo-failback";
/// What the feed's choices begin with.
const FEED_SEED: u64 = 7;
/// The longest that both sides may differ after everything was sent.
const EQUAL_MAX: Duration = Duration::from_secs(120);

/// Shows it.
pub(crate) async fn demo(screen: &mut Screen, options: Options, kind: Kind) -> Result<()> {
    let major = postgres::major()?;
    screen.say(&format!(
        "starting PostgreSQL {major}, which stands in for CockroachDB, and {kind}"
    ))?;
    let shop = Shop::open(kind, NAME, FIRST_ROWS).await?;
    let mut stage = Stage::new(shop);
    let begun = Instant::now();
    stage.start_replicator(screen)?;
    let place = stage.shop.place();
    screen.say(&format!(
        "the feed goes to http://127.0.0.1:{}{}, some of it twice",
        place.port, place.path
    ))?;
    let mut feeder = stage.shop.feed(&place, FEED_SEED).await?;
    let written = stage.run_load(screen, options, &mut feeder, begun).await?;
    feeder.sent(&stage.shop.from, STALL_MAX).await?;
    while stage.look(screen, written.rows, begun).await? < written.beat {
        sleep(LOOK).await;
    }
    let took = begun.elapsed();
    screen.say("everything was sent and promised; comparing both sides")?;
    let mut replicator = stage.replicator.take().context("replicator runs")?;
    let comparison = stage.shop.equal(&mut replicator, EQUAL_MAX).await?;
    let status = replicator.stop(STOP_MAX).await?;
    ensure!(status.success(), "asked to stop, replicator ended with {status}");

    let (tables, rows) = (comparison.tables.len(), grouped(comparison.identical()));
    screen.say(&format!("verified: {tables} tables, {rows} rows identical"))?;
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let rate = written.rows as f64 / took.as_secs_f64();
    screen.say(&format!(
        "throughput: {} row changes in {} transactions at {} rows/s; the load was held to {} rows/s, \
         large transactions aside; the feed brought {} rows",
        grouped(written.rows),
        grouped(written.transactions),
        grouped(rounded(rate)),
        grouped(u64::from(options.rate)),
        grouped(feeder.rows()?)
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
    shop: Shop,
    kills: u32,
    memory_kib: u64,
    arrivals: Arrivals,
}

impl Stage {
    fn new(shop: Shop) -> Self {
        Self { replicator: None, shop, kills: 0, memory_kib: 0, arrivals: Arrivals::new() }
    }

    fn start_replicator(&mut self, screen: &mut Screen) -> Result<()> {
        let more = ["--disableAuthentication"];
        if self.kills == 0 {
            let mut shown = self.shop.arguments();
            "$TARGET".clone_into(&mut shown[2]);
            screen.say(&format!("$ replicator {} {}", shown.join(" "), more.join(" ")))?;
        }
        self.replicator = Some(self.shop.replicator(&more)?);
        Ok(())
    }

    /// Writes to the source for as long as asked, and kills replicator when it is due.
    async fn run_load(
        &mut self,
        screen: &mut Screen,
        options: Options,
        feeder: &mut Feeder,
        begun: Instant,
    ) -> Result<Written> {
        let conninfo = self.shop.source.conninfo(DATABASE);
        let mut load = Load::start(&conninfo, plan(options)).await?;
        while begun.elapsed() < options.duration {
            sleep(LOOK).await;
            load.must_run()?;
            feeder.rows()?;
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
