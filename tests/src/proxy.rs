//! A network between the product and a server that fails on command.
//!
//! ```text
//! product ──► Proxy ──► server
//! ```
//!
//! It knows nothing of the protocol but the word COMMIT, because the moment around it is the one that
//! matters: is the transaction in, or is it not?
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Bytes that are forwarded at once. Few, so that a slow network cuts messages into pieces.
const CHUNK_BYTES: usize = 8 * 1024;
/// What a client sends to end a transaction.
const COMMIT: &[u8] = b"COMMIT";

/// How connections end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Both sides see the end of the stream.
    #[default]
    Cut,
    /// Both sides see a reset.
    Reset,
    /// Neither side sees anything: nothing is forwarded any more.
    Silence,
}

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admit {
    /// They are forwarded.
    #[default]
    All,
    /// They end at once.
    None,
    /// They are taken and nobody answers.
    Silence,
}

/// What becomes of the next transaction that commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtCommit {
    /// The server does not hear of it, and the connection ends.
    NotHeard(End),
    /// The server commits and its answer does not come back; the connection ends.
    NotAnswered(End),
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Connections of an earlier age end.
    age: u64,
    end: End,
    admit: Admit,
    pause: Duration,
    at_commit: Option<AtCommit>,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    to: u16,
    state: watch::Sender<State>,
    ended_at_commit: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before the server on this port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let state = watch::Sender::new(State::default());
        let ended_at_commit = Arc::new(AtomicU64::new(0));
        let accept = accept(listener, to, state.clone(), Arc::clone(&ended_at_commit));
        Ok(Self { port, to, state, ended_at_commit, task: tokio::spawn(accept) })
    }

    /// The connection string of the server, by way of the proxy.
    #[must_use]
    pub fn conninfo(&self, direct: &str) -> String {
        direct.replace(&format!(":{}/", self.to), &format!(":{}/", self.port))
    }

    /// Ends all connections there are.
    pub fn end(&self, end: End) {
        self.state.send_modify(|state| {
            state.age += 1;
            state.end = end;
        });
    }

    /// Says what becomes of new connections.
    pub fn admit(&self, admit: Admit) {
        self.state.send_modify(|state| state.admit = admit);
    }

    /// Waits this long before each chunk of some kilobytes, in both directions.
    pub fn slow(&self, pause: Duration) {
        self.state.send_modify(|state| state.pause = pause);
    }

    /// Says what becomes of the next transaction that commits.
    pub fn at_commit(&self, at_commit: AtCommit) {
        self.state.send_modify(|state| state.at_commit = Some(at_commit));
    }

    /// How many connections ended at a commit.
    #[must_use]
    pub fn ended_at_commit(&self) -> u64 {
        self.ended_at_commit.load(Ordering::Relaxed)
    }

    /// Forwards everything again. What ended stays ended.
    pub fn heal(&self) {
        self.state.send_modify(|state| {
            *state = State { age: state.age, end: state.end, ..State::default() };
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its connections are its tasks and end with it.
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    to: u16,
    state: watch::Sender<State>,
    ended_at_commit: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let State { age, admit, .. } = *state.borrow();
        match admit {
            Admit::None => drop(client),
            Admit::Silence => {
                connections.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(client);
                });
            }
            Admit::All => {
                let connection = Connection {
                    age,
                    state: state.clone(),
                    ended_at_commit: Arc::clone(&ended_at_commit),
                };
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await {
                        connection.forward(client, server).await;
                    }
                });
            }
        }
    }
}

/// One connection.
struct Connection {
    age: u64,
    state: watch::Sender<State>,
    ended_at_commit: Arc<AtomicU64>,
}

impl Connection {
    async fn forward(self, mut client: TcpStream, mut server: TcpStream) {
        // Neither matters to a test if it fails.
        client.set_nodelay(true).unwrap_or_default();
        server.set_nodelay(true).unwrap_or_default();
        let end = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            // Says to the other direction that answers are to be held back.
            let (committed, commits) = mpsc::channel(1);
            let mut state = self.state.subscribe();
            tokio::select! {
                end = self.requests(from_client, to_server, committed) => end,
                end = self.answers(from_server, to_client, commits) => end,
                // The sender lives in self.
                Ok(state) = state.wait_for(|state| state.age != self.age) => state.end,
            }
        };
        match end {
            End::Cut => (),
            End::Reset => {
                client.set_zero_linger().unwrap_or_default();
                server.set_zero_linger().unwrap_or_default();
            }
            // Until the proxy is dropped.
            End::Silence => std::future::pending().await,
        }
    }

    /// From the client to the server.
    async fn requests(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        committed: mpsc::Sender<AtCommit>,
    ) -> End {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut seen: Vec<u8> = Vec::new();
        loop {
            let Ok(len @ 1..) = from.read(&mut chunk).await else { return End::Cut };
            self.pause().await;
            let bytes = &chunk[..len];
            // The word may be in two chunks.
            seen.extend_from_slice(bytes);
            let commits = seen.windows(COMMIT.len()).any(|window| window == COMMIT);
            seen.drain(..seen.len().saturating_sub(COMMIT.len() - 1));
            let fault = if commits { self.take_fault() } else { None };
            if let Some(AtCommit::NotHeard(end)) = fault {
                return end;
            }
            if let Some(fault) = fault
                && committed.send(fault).await.is_err()
            {
                return End::Cut;
            }
            if to.write_all(bytes).await.is_err() {
                return End::Cut;
            }
        }
    }

    /// From the server to the client.
    async fn answers(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        mut commits: mpsc::Receiver<AtCommit>,
    ) -> End {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let Ok(len @ 1..) = from.read(&mut chunk).await else { return End::Cut };
            self.pause().await;
            if let Ok(AtCommit::NotAnswered(end) | AtCommit::NotHeard(end)) = commits.try_recv() {
                // The last answer to a transaction's requests is that of its COMMIT; the ones before
                // it are held back as well. A little time, so that the server gets to its end.
                let rest = async { while let Ok(1..) = from.read(&mut chunk).await {} };
                tokio::time::timeout(Duration::from_millis(300), rest).await.unwrap_or_default();
                return end;
            }
            if to.write_all(&chunk[..len]).await.is_err() {
                return End::Cut;
            }
        }
    }

    async fn pause(&self) {
        let pause = self.state.borrow().pause;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    fn take_fault(&self) -> Option<AtCommit> {
        let mut fault = None;
        self.state.send_if_modified(|state| {
            fault = state.at_commit.take();
            fault.is_some()
        });
        if fault.is_some() {
            self.ended_at_commit.fetch_add(1, Ordering::Relaxed);
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use anyhow::Result;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::{Admit, AtCommit, End, Proxy};

    /// A server that sends everything back, and a proxy before it.
    async fn echo() -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        drop(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                drop(tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                }));
            }
        }));
        Proxy::start(port).await
    }

    async fn said(client: &mut TcpStream, text: &[u8]) -> std::io::Result<usize> {
        client.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        let read = timeout(Duration::from_millis(500), client.read(&mut answer)).await;
        read.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    #[tokio::test]
    async fn connections_end_as_they_are_told_to() -> Result<()> {
        let proxy = echo().await?;
        for (end, outcome) in [
            (End::Cut, Ok(0)),
            (End::Reset, Err(ErrorKind::ConnectionReset)),
            (End::Silence, Err(ErrorKind::TimedOut)),
        ] {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await?;
            assert_eq!(said(&mut client, b"hello").await?, 5);
            proxy.end(end);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut byte = [0];
            let read = timeout(Duration::from_millis(200), client.read(&mut byte)).await;
            let read = read.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
            assert_eq!(read.map_err(|error| error.kind()), outcome, "{end:?}");
        }
        proxy.admit(Admit::None);
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await?;
        assert!(!said(&mut client, b"hello").await.is_ok_and(|len| len > 0));
        proxy.heal();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await?;
        assert_eq!(said(&mut client, b"hello").await?, 5);
        Ok(())
    }

    #[tokio::test]
    async fn the_answer_to_a_commit_is_lost_once() -> Result<()> {
        for fault in [AtCommit::NotHeard(End::Cut), AtCommit::NotAnswered(End::Cut)] {
            let proxy = echo().await?;
            proxy.at_commit(fault);
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await?;
            assert_eq!(said(&mut client, b"COM").await?, 3);
            assert_eq!(said(&mut client, b"MIT").await?, 0);
            assert_eq!(proxy.ended_at_commit(), 1);
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await?;
            assert_eq!(said(&mut client, b"COMMIT").await?, 6);
        }
        Ok(())
    }
}
