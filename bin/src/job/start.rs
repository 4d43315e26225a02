//! The work of `start`.
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use replicator_io::auth::{FileKeys, KeyMetrics, KeySource, Reloader};
use replicator_io::disk::StdDisk;
use replicator_io::http::HttpLimits;
use replicator_io::http::tls::{TlsFiles, TlsReloader, self_signed};
use replicator_io::metrics::Metrics;
use replicator_io::net::TcpDial;
use replicator_io::replicate::start::{Entrance, StagingDatabase, StartSettings, Stores, start};
use replicator_io::source::changefeed::webhook::{Gate, Open};
use replicator_io::staging::embedded::{Embedded, Ledger};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::config::{Certificate, Staged, StartConfig};
use crate::observe::listen;

/// With what connections are encrypted, as of now.
type Tls = watch::Receiver<Arc<ServerConfig>>;

/// Takes what changefeeds bring until told to stop. `hang_ups` changes when keys and certificates are to be
/// read again.
pub(super) async fn run(
    config: StartConfig,
    stopped: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    hang_ups: watch::Receiver<()>,
) -> anyhow::Result<()> {
    let StartConfig { settings, staging, bind, certificate, authenticate } = config;
    // Dropped, and so ended, with this function.
    let mut reloaders = JoinSet::new();
    let tls = match certificate {
        None => None,
        Some(certificate) => Some(encrypt(certificate, &mut reloaders, &hang_ups, &stopped).await?),
    };
    let listener =
        listen(&bind).await.with_context(|| format!("could not listen on --bindAddr {bind}"))?;
    let timeout = settings.apply_timeout;
    let service = Service { settings, listener, tls, stopped, metrics, hang_ups };
    match staging {
        Staged::File(staging) => {
            let (path, folder) = (staging.path(), staging.folder.clone());
            let opened =
                tokio::task::spawn_blocking(move || Ledger::open(StdDisk, staging)).await?;
            let ledger = opened.with_context(|| format!("could not open {}", path.display()))?;
            let staging = Embedded::on_thread(ledger, timeout)?;
            info!(file = %path.display(), "rows are staged in a file");
            let keys = authenticate.then(|| FileKeys::new(StdDisk, folder));
            let ended = service.run(staging.clone().into(), keys, &mut reloaders).await;
            let closed = staging.close().await.map_err(|failure| anyhow!("{failure}"));
            ended.and(closed)
        }
        Staged::Database(staging) => {
            let staging = StagingDatabase::open(TcpDial, *staging).await?;
            let keys = authenticate.then(|| staging.keys());
            service.run(staging.into(), keys, &mut reloaders).await
        }
    }
}

/// Reads the certificate, and again whenever it is asked for.
async fn encrypt(
    certificate: Certificate,
    reloaders: &mut JoinSet<()>,
    hang_ups: &watch::Receiver<()>,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Tls> {
    match certificate {
        Certificate::SelfSigned => Ok(watch::channel(self_signed()?).1),
        Certificate::Files { chain, key } => {
            let files = TlsFiles { certificate: chain, key };
            let begun = tokio::task::spawn_blocking(move || TlsReloader::begin(files)).await?;
            let (tls, reloader) = begun?;
            reloaders.spawn(reloader.run(hang_ups.clone(), stopped.clone()));
            Ok(tls)
        }
    }
}

/// All that is needed besides staging, and knowing who may call.
struct Service {
    settings: StartSettings,
    listener: TcpListener,
    tls: Option<Tls>,
    stopped: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    hang_ups: watch::Receiver<()>,
}

impl Service {
    /// Serves those who have a token by one of `keys`; without any, everybody.
    async fn run<K: KeySource>(
        self,
        staging: Stores<TcpDial>,
        keys: Option<K>,
        reloaders: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        info!("listening for changefeeds on {scheme}://{}", self.listener.local_addr()?);
        match keys {
            Some(keys) => {
                let (gate, reloader) = Reloader::begin(keys, crate::wall).await;
                self.metrics.registry().register(Box::new(KeyMetrics::new(gate.clone())))?;
                reloaders.spawn(reloader.run(self.hang_ups.clone(), self.stopped.clone()));
                self.serve(staging, gate).await
            }
            None => self.serve(staging, Open).await,
        }
    }

    async fn serve<G: Gate>(self, staging: Stores<TcpDial>, gate: G) -> anyhow::Result<()> {
        let Self { settings, listener, tls, stopped, metrics, hang_ups: _ } = self;
        let entrance = Entrance { listener, tls, gate, limits: HttpLimits::default() };
        start(TcpDial, settings, staging, entrance, stopped, metrics).await?;
        Ok(())
    }
}
