//! The process of the pretend source that answers a replication connection (server source,
//! `walsender.c`).
use std::io;
use std::time::Duration;

use bytes::Bytes;
use replicator_core::decode::pg_encode::encode_frame;
use replicator_core::decode::pg_frames::{Frame, StandbyStatus};
use replicator_core::model::position::Lsn;
use replicator_core::model::time::WallTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::Source;
use super::messages::Described;
use crate::cluster::slot::SlotState;
use crate::cluster::trace::say;
use crate::cluster::wire::{Column, Connection, Format, Refused, Request, TxStatus};
use crate::os::wall_micros;

/// `wal_sender_timeout`: a client that says nothing for this long is gone.
const TIMEOUT: Duration = Duration::from_secs(6);
const TIMEOUT_TEXT: &str = "6s";

/// The type of text.
const TEXT: u32 = 25;

/// Why a connection ends.
type Gone = io::Error;

/// One replication connection.
pub(super) struct Sender<S> {
    source: Source,
    slot: SlotState,
    connection: Connection<S>,
    pid: i32,
    // Everything that committed at or before this has been sent.
    sent: Lsn,
    // What the client says that it has received.
    written: Lsn,
    described: Described,
    heard: Instant,
    pinged: bool,
}

/// Makes the slot free again, however the stream ends.
struct Reading {
    slot: SlotState,
    pid: i32,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.slot.change(|slot| slot.active_pid.take_if(|pid| *pid == self.pid));
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    pub(super) fn new(
        source: Source,
        slot: SlotState,
        connection: Connection<S>,
        pid: i32,
    ) -> Self {
        Self {
            source,
            slot,
            connection,
            pid,
            sent: Lsn(0),
            written: Lsn(0),
            described: Described::default(),
            heard: Instant::now(),
            pinged: false,
        }
    }

    /// Answers requests until the client streams, then streams until somebody has enough.
    pub(super) async fn serve(mut self) -> Result<(), Gone> {
        let settings = [("server_version", "17.10"), ("client_encoding", "UTF8")];
        self.connection.reply.welcome(&settings, self.pid);
        self.connection.send().await?;
        while let Some(request) = self.connection.receive().await? {
            if request == Request::Terminate {
                return Ok(());
            }
            let Request::Query(text) = request else {
                return Err(io::Error::other(format!("a walsender got {request:?}")));
            };
            if text.starts_with("START_REPLICATION ") {
                match self.start(&text) {
                    Ok(reading) => return self.stream(reading).await,
                    Err(refused) => self.connection.reply.error(&refused),
                }
            } else if let Err(refused) = self.answer(&text) {
                self.connection.reply.error(&refused);
            }
            self.connection.reply.ready(TxStatus::Idle);
            self.connection.send().await?;
        }
        Ok(())
    }

    fn answer(&mut self, text: &str) -> Result<(), Refused> {
        let slot = self.slot.now();
        let some = |text: &dyn ToString| Some(text.to_string());
        match text {
            "IDENTIFY_SYSTEM" => self.rows(&[vec![
                some(&slot.system_identifier),
                some(&slot.timeline),
                some(&slot.written),
                some(&slot.database),
            ]]),
            "SHOW wal_sender_timeout" => self.rows(&[vec![some(&TIMEOUT_TEXT)]]),
            "SHOW server_version_num" => self.rows(&[vec![some(&"170010")]]),
            slots if slots.contains("pg_replication_slots") => {
                let asked = slots.contains(&format!("slot_name = '{}'", slot.name));
                let row = vec![
                    some(&slot.name),
                    some(&"pgoutput"),
                    some(&slot.database),
                    slot.active_pid.map(|pid| pid.to_string()),
                    some(&slot.confirmed_flush),
                    some(&slot.restart),
                    some(&"reserved"),
                    None,
                ];
                self.rows(if asked { std::slice::from_ref(&row) } else { &[] });
            }
            other => return Err(Refused::new("0A000", format!("unknown to the source: {other}"))),
        }
        Ok(())
    }

    fn rows(&mut self, rows: &[Vec<Option<String>>]) {
        let reply = &mut self.connection.reply;
        if let Some(row) = rows.first() {
            let column = |number: usize| Column {
                name: format!("column{number}"),
                type_oid: TEXT,
                format: Format::Text,
            };
            reply.columns(&(0..row.len()).map(column).collect::<Vec<_>>());
        }
        for row in rows {
            let values = row.iter().map(|value| value.clone().map(Bytes::from));
            reply.row(&values.collect::<Vec<_>>());
        }
        reply.complete(&format!("SELECT {}", rows.len()));
    }

    /// `START_REPLICATION SLOT "name" LOGICAL 0/0 ("proto_version" '1', "publication_names" '"p"')`.
    fn start(&mut self, text: &str) -> Result<Reading, Refused> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let slot = self.slot.now();
        let known = matches!(words.as_slice(), ["START_REPLICATION", "SLOT", name, "LOGICAL", ..]
            if name.trim_matches('"') == slot.name);
        let from = words.get(4).and_then(|lsn| lsn.parse::<Lsn>().ok());
        let Some(from) = from.filter(|_| known) else {
            return Err(Refused::new("42704", format!("no such slot: {text}")));
        };
        if !text.contains("\"proto_version\" '1'") || !text.contains("\"publication_names\" '\"") {
            return Err(Refused::new("22023", format!("options of pgoutput: {text}")));
        }
        if let Some(pid) = slot.active_pid {
            say("source", format_args!("refuses pid {}: active for {pid}", self.pid));
            let message = format!("replication slot \"{}\" is active for PID {pid}", slot.name);
            return Err(Refused::new("55006", message));
        }
        // The server begins where the client wants to, but never before what was confirmed.
        self.sent = from.max(slot.confirmed_flush);
        self.written = self.sent;
        say("source", format_args!("streams to pid {} after {}", self.pid, self.sent));
        self.slot.change(|slot| slot.active_pid = Some(self.pid));
        Ok(Reading { slot: self.slot.clone(), pid: self.pid })
    }

    async fn stream(&mut self, reading: Reading) -> Result<(), Gone> {
        self.connection.reply.copy_both();
        self.heard = Instant::now();
        let ended = self.send_and_listen().await;
        let pid = reading.pid;
        match &ended {
            Ok(()) => say("source", format_args!("pid {pid} says goodbye")),
            Err(error) => say("source", format_args!("pid {pid} ends: {error}")),
        }
        drop(reading);
        ended
    }

    async fn send_and_listen(&mut self) -> Result<(), Gone> {
        loop {
            self.flush().await?;
            if self.source.must_end(self.pid) {
                let refused = "terminating connection due to administrator command";
                self.connection.reply.error(&Refused::fatal("57P01", refused));
                self.flush().await?;
                return Err(io::Error::other("ended by its operator"));
            }
            // What has arrived comes first, as in a server that looks before it sends.
            if let Some(request) = self.connection.arrived()? {
                if self.take(&request)? {
                    return self.flush().await;
                }
                continue;
            }
            if self.send_next() {
                continue;
            }
            let source = self.source.clone();
            let deadline = self.heard + if self.pinged { TIMEOUT } else { TIMEOUT / 2 };
            tokio::select! {
                biased;
                request = self.connection.receive() => match request? {
                    Some(request) => {
                        if self.take(&request)? {
                            return self.flush().await;
                        }
                    }
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
                () = source.changed() => (),
                () = sleep_until(deadline) => {
                    if self.pinged {
                        return Err(io::Error::other("replication timeout"));
                    }
                    self.pinged = true;
                    self.keepalive(true);
                }
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.connection.reply.is_empty() {
            return Ok(());
        }
        match timeout(TIMEOUT, self.connection.send()).await {
            Ok(sent) => sent,
            Err(_) => Err(io::Error::other("the client takes nothing")),
        }
    }

    /// Puts the next transaction, or what is known without one, into the reply. Returns whether there was
    /// something.
    fn send_next(&mut self) -> bool {
        if let Some((end, messages)) = self.source.next_after(self.sent, &mut self.described) {
            for (lsn, message) in messages {
                let sent = now();
                let frame = Frame::XLogData { wal_start: lsn, wal_end: lsn, sent, message };
                self.connection.reply.copy_data(&encode_frame(&frame));
            }
            self.sent = end;
            return true;
        }
        // Log that holds nothing for us.
        let written = self.slot.now().written;
        if self.sent < written {
            self.sent = written;
            self.keepalive(false);
            return true;
        }
        false
    }

    fn keepalive(&mut self, reply_requested: bool) {
        let frame = Frame::Keepalive { wal_end: self.sent, sent: now(), reply_requested };
        self.connection.reply.copy_data(&encode_frame(&frame));
    }

    /// Returns whether the stream is over.
    fn take(&mut self, request: &Request) -> Result<bool, Gone> {
        self.heard = Instant::now();
        self.pinged = false;
        if let Request::CopyData(payload) = request {
            let status = StandbyStatus::parse(payload).map_err(io::Error::other)?;
            self.written = status.written;
            self.source.confirm(&self.slot, status.flushed);
            if status.reply_requested {
                self.keepalive(false);
            }
            return Ok(false);
        }
        if *request == Request::CopyDone {
            self.connection.reply.copy_done();
            self.connection.reply.complete("COPY 0");
            self.connection.reply.ready(TxStatus::Idle);
            return Ok(true);
        }
        if *request == Request::Terminate {
            return Ok(true);
        }
        Err(io::Error::other(format!("a stream got {request:?}")))
    }
}

fn now() -> WallTime {
    WallTime { micros: wall_micros() }
}
