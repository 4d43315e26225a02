//! A stream that is encrypted or not, and how it gets into tokio-postgres.
//!
//! We negotiate TLS ourselves, because tokio-postgres knows neither all modes nor certificate files. It
//! is then told to use TLS without asking the server, and the connector that it calls hands the finished
//! stream over. So it learns of the channel binding.
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// A connection to a server, before and after logging in.
pub enum PgStream<S> {
    /// In the clear.
    Plain(S),
    /// Encrypted.
    Tls {
        /// The stream. Boxed: the state of TLS is large.
        stream: Box<tokio_rustls::client::TlsStream<S>>,
        /// The `tls-server-end-point` channel binding, if the server's certificate has one.
        end_point: Option<Vec<u8>>,
    },
}

impl<S> PgStream<S> {
    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }

    /// What a login can prove about the server's certificate.
    #[must_use]
    pub fn end_point(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls { end_point, .. } => end_point.as_deref(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PgStream<S> {
    /// The stream below.
    pub(crate) fn below(&mut self) -> &mut S {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls { stream, .. } => stream.get_mut().0,
        }
    }
}

impl<S> fmt::Debug for PgStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStream").field("encrypted", &self.is_encrypted()).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PgStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PgStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for PgStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.end_point().map_or_else(ChannelBinding::none, |end_point| {
            ChannelBinding::tls_server_end_point(end_point.to_vec())
        })
    }
}

/// A connector for a stream on which TLS, if any, is set up already.
#[derive(Clone, Copy, Debug)]
pub struct Established;

/// What [`Established`] returns.
pub type EstablishedFuture<S> = Ready<Result<PgStream<S>, Infallible>>;

impl<S: AsyncRead + AsyncWrite + Unpin> TlsConnect<PgStream<S>> for Established {
    type Stream = PgStream<S>;
    type Error = Infallible;
    type Future = EstablishedFuture<S>;

    fn connect(self, stream: PgStream<S>) -> Self::Future {
        ready(Ok(stream))
    }
}
