//! The two halves of a stream: what the server sends, and what we report.
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, io};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use replicator_core::decode::pg_frames::StandbyStatus;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::push_empty;
use crate::pg::server_error::ServerError;
use crate::pg::tls::PgStream;
use crate::pg::wire::{Message, Wire, WireError, split_message};

/// What one buffer holds. Frames are slices of it, so it lives as long as the rows in it.
const BUFFER_BYTES: usize = 128 * 1024;

/// With less room than this a read goes to a fresh buffer.
const ROOM_BYTES_MIN: usize = 32 * 1024;

/// Splits a connection on which streaming has begun. `hush` is [`Dial::hush`](crate::net::Dial::hush).
pub(super) fn split<S>(wire: Wire<S>, hush: fn(&mut S)) -> (FrameReader<S>, FrameWriter<S>) {
    let Wire { stream, read, write } = wire;
    let stream = Arc::new(Mutex::new(stream));
    let half = Half { stream: Arc::clone(&stream) };
    (FrameReader { half, buffer: read, hush }, FrameWriter { half: Half { stream }, buffer: write })
}

/// One end of a stream that two tasks share. Each holds the lock for one read or write that does not
/// wait.
struct Half<S> {
    stream: Arc<Mutex<PgStream<S>>>,
}

impl<S> Half<S> {
    fn lock(&self) -> MutexGuard<'_, PgStream<S>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Half<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Half<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}

/// Reads frames.
pub struct FrameReader<S> {
    half: Half<S>,
    buffer: BytesMut,
    hush: fn(&mut S),
}

impl<S> fmt::Debug for FrameReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread = self.buffer.len();
        f.debug_struct("FrameReader").field("unread", &unread).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameReader<S> {
    /// Waits until bytes arrive, takes those that are there, up to one buffer, and returns how many these
    /// are. Cancel safe.
    ///
    /// # Errors
    ///
    /// The connection broke, or the server hung up.
    pub async fn fill(&mut self) -> Result<usize, WireError> {
        if self.buffer.capacity() - self.buffer.len() < ROOM_BYTES_MIN {
            self.buffer.reserve(BUFFER_BYTES);
        }
        let mut bytes = match self.half.read_buf(&mut self.buffer).await? {
            0 => return Err(WireError::Closed),
            bytes => bytes,
        };
        // TLS hands out one record at a time, and the server makes one of each row. An end or an error
        // comes again at the next call.
        while bytes < BUFFER_BYTES && self.buffer.len() < self.buffer.capacity() {
            match self.half.read_buf(&mut self.buffer).now_or_never() {
                Some(Ok(more)) if 0 < more => bytes += more,
                _ => break,
            }
        }
        Ok(bytes)
    }

    /// Lets what arrives pile up until the next read or write, without waking anybody.
    pub fn hush(&mut self) {
        (self.hush)(self.half.lock().below());
    }

    /// The payload of the next CopyData message, if all of it has arrived: a slice of the buffer it came
    /// in.
    ///
    /// # Errors
    ///
    /// The server ended the stream or broke the protocol.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            let message = match split_message(&mut self.buffer)? {
                Ok(message) => message,
                Err(whole) => {
                    // A row of hundreds of megabytes moves once, not at every read.
                    let missing = whole.saturating_sub(self.buffer.len());
                    if BUFFER_BYTES < missing {
                        self.buffer.reserve(missing);
                    }
                    return Ok(None);
                }
            };
            match message {
                Message { tag: b'd', body } => return Ok(Some(body)),
                Message { tag: b'E', body } => {
                    return Err(WireError::Server(Box::new(ServerError::parse(&body))));
                }
                // CopyDone, or CommandComplete without it: the server is shutting down (server source,
                // WalSndDone in walsender.c).
                Message { tag: b'c' | b'C', .. } => return Err(WireError::Closed),
                // NoticeResponse, ParameterStatus.
                Message { tag: b'N' | b'S', .. } => (),
                Message { .. } => {
                    return Err(WireError::Protocol { what: "an unknown message in a stream" });
                }
            }
        }
    }

    /// Reads and drops everything until the server ends the stream. Not cancel safe.
    pub async fn drain(&mut self) {
        while let Ok(frame) = self.next_frame() {
            if frame.is_none() && self.fill().await.is_err() {
                return;
            }
        }
    }
}

/// Writes reports.
pub struct FrameWriter<S> {
    half: Half<S>,
    buffer: BytesMut,
}

impl<S> fmt::Debug for FrameWriter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameWriter<S> {
    /// Sends a report. Not cancel safe: a dropped future leaves half a message behind.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn report(&mut self, status: &StandbyStatus) -> io::Result<()> {
        // CopyData, and its length, which counts itself.
        self.buffer.put_u8(b'd');
        self.buffer.put_u32(38);
        self.buffer.put_slice(&status.encode());
        self.send().await
    }

    /// Tells the server that no report follows. It ends its side then.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn finish(&mut self) -> io::Result<()> {
        push_empty(b'c', &mut self.buffer);
        self.send().await
    }

    /// Says goodbye.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn terminate(mut self) -> io::Result<()> {
        push_empty(b'X', &mut self.buffer);
        self.send().await?;
        self.half.shutdown().await
    }

    async fn send(&mut self) -> io::Result<()> {
        self.half.write_all(&self.buffer).await?;
        self.half.flush().await?;
        self.buffer.clear();
        Ok(())
    }
}
