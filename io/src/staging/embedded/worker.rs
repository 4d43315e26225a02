//! The thread that owns the staging file in production.
use std::io;
use std::thread;

use tokio::sync::mpsc;

use super::ledger::Ledger;
use super::request::Request;
use crate::disk::Disk;

/// Requests that may wait for the thread. The next one waits for room.
const REQUESTS_MAX: usize = 256;
/// Bytes of rows in one commit, give or take a request: more of them make it slower, not faster.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Starts the thread. It ends when nobody can ask it any more.
pub(super) fn start<D: Disk>(ledger: Ledger<D>) -> io::Result<mpsc::Sender<Request>> {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    thread::Builder::new().name("staging".to_owned()).spawn(move || work(ledger, receiver))?;
    Ok(sender)
}

fn work<D: Disk>(mut ledger: Ledger<D>, mut requests: mpsc::Receiver<Request>) {
    loop {
        let mut group = Vec::new();
        if !ledger.is_busy() {
            match requests.blocking_recv() {
                Some(request) => group.push(request),
                None => return,
            }
        }
        let mut bytes: usize = group.iter().map(Request::row_bytes).sum();
        // All that came while the last commit was on its way shares the next one.
        while bytes < GROUP_BYTES_MAX
            && group.len() < REQUESTS_MAX
            && let Ok(request) = requests.try_recv()
        {
            bytes += request.row_bytes();
            group.push(request);
        }
        ledger.perform(group);
    }
}
