//! The program's way to the simulated network.
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use replicator_io::http::Listen;
use replicator_io::net::Dial;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// Dials the hosts of a simulation by their names, from one host. Clones dial from the same one.
///
/// When a process dies the kernel closes its sockets, and when its runtime is dropped that happens in an
/// order that depends on how many tasks the whole test process has ever had. So the sockets are kept here,
/// and the first one that goes takes all with it, in the order in which they were opened.
#[derive(Clone, Debug, Default)]
pub struct SimDial {
    sockets: Arc<Mutex<Sockets>>,
}

#[derive(Debug, Default)]
struct Sockets {
    open: Vec<Socket>,
    dying: bool,
}

type Socket = Arc<Mutex<Option<TcpStream>>>;

impl SimDial {
    /// Whether the process is about to die.
    pub fn set_dying(&self, dying: bool) {
        lock(&self.sockets).dying = dying;
    }

    /// Waits for connections, which are closed as those that are dialled.
    ///
    /// # Errors
    ///
    /// Something else listens there.
    pub async fn listen(&self, port: u16) -> io::Result<SimListen> {
        let listener = TcpListener::bind(("0.0.0.0", port)).await?;
        Ok(SimListen { listener, sockets: Arc::clone(&self.sockets) })
    }
}

/// Keeps a connection, and closes it with the others.
fn kept(sockets: &Arc<Mutex<Sockets>>, stream: TcpStream) -> SimStream {
    let socket = Arc::new(Mutex::new(Some(stream)));
    lock(sockets).open.push(Arc::clone(&socket));
    SimStream { socket, sockets: Arc::clone(sockets) }
}

/// Where connections come in.
pub struct SimListen {
    listener: TcpListener,
    sockets: Arc<Mutex<Sockets>>,
}

impl fmt::Debug for SimListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListen").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

impl Listen for SimListen {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((kept(&self.sockets, stream), peer))
    }
}

impl Dial for SimDial {
    type Stream = SimStream;

    async fn dial(&self, host: &str, port: u16) -> io::Result<SimStream> {
        let stream = TcpStream::connect((host, port)).await?;
        Ok(kept(&self.sockets, stream))
    }
}

/// A connection of the program.
#[derive(Debug)]
pub struct SimStream {
    socket: Socket,
    sockets: Arc<Mutex<Sockets>>,
}

impl SimStream {
    fn with<T>(
        &self,
        act: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match lock(&self.socket).as_mut() {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut sockets = lock(&self.sockets);
        if sockets.dying {
            for socket in sockets.open.drain(..) {
                drop(lock(&socket).take());
            }
        } else {
            sockets.open.retain(|socket| !Arc::ptr_eq(socket, &self.socket));
            drop(lock(&self.socket).take());
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
