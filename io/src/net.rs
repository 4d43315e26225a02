//! How adapters reach the network, so that the simulator can stand in for it.
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How long a connection may be idle before the kernel asks whether the other side is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// How long the kernel waits for an answer before it asks again. It gives up after some nine times.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Room for what the same machine sends us, in bytes. There each small write of the server is kept as a
/// packet of its own, of some 700 bytes, so that the kernel's usual room is full after two hundred rows.
/// From elsewhere the kernel's own measure is better: it knows the distance.
const LOOPBACK_BUFFER_BYTES: usize = 64 << 10;

/// Opens byte streams.
pub trait Dial: Clone + Send + Sync + 'static {
    /// A connected stream.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Connects to `host:port`. A host that begins with a slash is the folder of a Unix socket.
    fn dial(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Asks not to be woken by what arrives before the next read or write. Somebody who means to let
    /// bytes pile up is otherwise woken for each packet, which costs as much as reading it. Does nothing
    /// where that cannot be had.
    fn hush(_stream: &mut Self::Stream) {}
}

/// Dials over TCP, and over Unix sockets of PostgreSQL.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    type Stream = Socket;

    async fn dial(&self, host: &str, port: u16) -> io::Result<Socket> {
        if host.starts_with('/') {
            // PostgreSQL documentation, "Connections and Authentication", unix_socket_directories.
            let path = format!("{}/.s.PGSQL.{port}", host.trim_end_matches('/'));
            return Ok(Socket::Unix(UnixStream::connect(path).await?));
        }
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        if stream.peer_addr()?.ip().is_loopback() {
            SockRef::from(&stream).set_recv_buffer_size(LOOPBACK_BUFFER_BYTES)?;
        }
        Ok(Socket::Tcp(Watched::new(stream)))
    }

    fn hush(stream: &mut Socket) {
        if let Socket::Tcp(stream) = stream {
            stream.hush();
        }
    }
}

/// A stream that [`TcpDial`] opened.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP, with keepalives, and without waiting for more to send.
    Tcp(Watched),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// A TCP stream that the runtime watches, but for the times in which it was asked not to.
#[derive(Debug)]
pub struct Watched {
    state: State,
    // Somebody waits to write, and would wait for ever if the stream were no longer watched.
    writing: bool,
}

#[derive(Debug)]
enum State {
    On(TcpStream),
    Off(std::net::TcpStream),
    /// Between the two, and after an error there.
    Lost,
}

impl Watched {
    const fn new(stream: TcpStream) -> Self {
        Self { state: State::On(stream), writing: false }
    }

    /// Takes the stream away from the runtime until it is used again.
    fn hush(&mut self) {
        if self.writing {
            return;
        }
        self.state = match std::mem::replace(&mut self.state, State::Lost) {
            State::On(stream) => stream.into_std().map_or(State::Lost, State::Off),
            other @ (State::Off(_) | State::Lost) => other,
        };
    }

    fn stream(&mut self) -> io::Result<&mut TcpStream> {
        if let State::Off(_) = self.state
            && let State::Off(stream) = std::mem::replace(&mut self.state, State::Lost)
        {
            self.state = State::On(TcpStream::from_std(stream)?);
        }
        match &mut self.state {
            State::On(stream) => Ok(stream),
            State::Off(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream()?).poll_write(cx, buf);
        this.writing = written.is_pending();
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream()?).poll_write_vectored(cx, bufs);
        this.writing = written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::{Dial as _, Socket, State, TcpDial, Watched};

    #[tokio::test]
    async fn a_hushed_stream_works_as_before() -> io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let mut ours = TcpDial.dial("127.0.0.1", port).await?;
        let (mut theirs, _) = listener.accept().await?;
        for _ in 0..3 {
            TcpDial::hush(&mut ours);
            TcpDial::hush(&mut ours);
            theirs.write_all(b"ping").await?;
            let mut received = [0; 4];
            ours.read_exact(&mut received).await?;
            assert_eq!(&received, b"ping");
            TcpDial::hush(&mut ours);
            ours.write_all(b"pong").await?;
            theirs.read_exact(&mut received).await?;
            assert_eq!(&received, b"pong");
        }
        TcpDial::hush(&mut ours);
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 4]).await?, 0);
        Ok(())
    }

    #[tokio::test]
    async fn a_writer_that_waits_is_not_forgotten() -> io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let mut ours = TcpDial.dial("127.0.0.1", port).await?;
        let (mut theirs, _) = listener.accept().await?;
        // Until nobody takes more.
        let full = vec![7; 1 << 20];
        let short = Duration::from_millis(20);
        while tokio::time::timeout(short, ours.write(&full)).await.is_ok() {}
        TcpDial::hush(&mut ours);
        assert!(matches!(&ours, Socket::Tcp(Watched { state: State::On(_), .. })));
        // There is room again, and nothing left to wait for.
        let limit = Duration::from_secs(10);
        let mut received = vec![0; 1 << 20];
        let (read, written) = tokio::join!(
            tokio::time::timeout(limit, theirs.read_exact(&mut received)),
            tokio::time::timeout(limit, ours.write(&full)),
        );
        assert!(read?.is_ok() && written?.is_ok());
        TcpDial::hush(&mut ours);
        assert!(matches!(&ours, Socket::Tcp(Watched { state: State::Off(_), .. })));
        Ok(())
    }
}
