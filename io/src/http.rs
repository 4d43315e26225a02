//! Serves HTTP/1.1 and HTTP/2 to those who call us, with TLS or without.
//!
//! It does not know where connections come from, so it runs on a simulated network as it is.
mod idle;
mod metered;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

pub use self::metered::{HttpMetrics, metered};

/// After an error of the listener, such as too many open files, this long passes before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is kept of a connection in HTTP/1.1 before somebody takes it; a head may not be larger.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next one. Cancel safe.
    ///
    /// # Errors
    ///
    /// This one failed; the next may not.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are small and waited for.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}

/// How much, how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at the same time; more wait to be accepted.
    pub connections_max: usize,
    /// The longest that a TLS handshake, or the head of a request, may take.
    pub head_timeout: Duration,
    /// How long a connection is kept on which nothing is asked any more.
    pub idle_timeout: Duration,
    /// How long requests under way may take when the server ends.
    pub grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            grace: Duration::from_secs(10),
        }
    }
}

/// Serves until told to stop; requests under way are finished then. `tls` is looked at for each new
/// connection, so that a certificate can be replaced.
pub async fn serve<L: Listen>(
    mut listener: L,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    router: Router,
    limits: HttpLimits,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            Ok(permit) = Arc::clone(&room).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let tls = tls.as_ref().map(|tls| Arc::clone(&tls.borrow()));
                let connection = Connection { peer, tls, limits, stop: stop.clone(), permit };
                connections.spawn(connection.serve(stream, router.clone()));
            }
            Err(error) => {
                warn!("could not accept a connection: {}", crate::error_chain(&error));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.grace, finished).await.is_err() {
        debug!("requests that took too long are dropped");
    }
}

/// Returns when nobody wants more.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could ask for more.
    drop(stop.wait_for(|stop| *stop).await);
}

struct Connection {
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    limits: HttpLimits,
    stop: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<S>(self, stream: S, router: Router)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { peer, tls, limits, stop, permit } = self;
        let Some(config) = tls else {
            return requests(stream, peer, router, limits, stop, permit).await;
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(limits.head_timeout, handshake).await {
            Ok(Ok(stream)) => requests(stream, peer, router, limits, stop, permit).await,
            Ok(Err(error)) => debug!(%peer, "no TLS: {}", crate::error_chain(&error)),
            Err(_) => debug!(%peer, "no TLS within {} s", limits.head_timeout.as_secs()),
        }
    }
}

async fn requests<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
    mut stop: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    let mut http1 = builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    http1.max_buf_size(BUFFER_BYTES_MAX);
    builder.http2().timer(TokioTimer::new());
    // The library's own limits do not begin before the first bytes have come, and not at all in HTTP/2.
    let (router, silence) = idle::watched(router, limits);
    let mut silence = pin!(silence);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = silence.as_mut() => {
                debug!(%peer, "connection closed: nothing is asked");
                break Ok(());
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, "connection ended: {error}");
    }
    drop(permit);
}

#[cfg(test)]
mod tests;
