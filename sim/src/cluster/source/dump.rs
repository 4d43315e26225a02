//! A session of the pretend MySQL or MariaDB: login, the questions of a replica, and the events of the binary log
//! (MySQL documentation, "Client/Server Protocol" and "Replication Protocol").
use std::io;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::model::gtid::{BinlogFlavor, GtidPosition, GtidSet};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use super::Source;
use super::binlog::{Binlog, Reading};
use super::messages::order;
use crate::cluster::trace::say;
use crate::schema::schema;

/// Commands.
const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;
const BINLOG_DUMP: u8 = 0x12;
const REGISTER_REPLICA: u8 = 0x15;
const BINLOG_DUMP_GTID: u8 = 0x1E;

/// Errors (MySQL documentation, "Server Error Message Reference").
const UNKNOWN: u16 = 1105;
const SHUTDOWN: u16 = 1053;
const FATAL_TO_READERS: u16 = 1236;

/// One session.
pub(super) struct Session<S> {
    source: Source,
    log: Binlog,
    stream: S,
    received: BytesMut,
    reply: BytesMut,
    sequence: u8,
    pid: i32,
    heartbeat: Duration,
    // MariaDB is told the position before it is asked for what follows.
    position: String,
    // Whether tables stay as they are for it.
    is_locking: bool,
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl<S> Session<S> {
    fn unlock(&mut self) {
        if std::mem::take(&mut self.is_locking) {
            self.log.set_locked(false);
        }
    }
}

/// An error of the server, and whether it ends the session.
struct Refusal {
    code: u16,
    message: String,
    fatal: bool,
}

impl Refusal {
    fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fatal: false }
    }
}

type Rows = Vec<Vec<Option<String>>>;

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(source: Source, log: Binlog, stream: S, pid: i32) -> Self {
        Self {
            source,
            log,
            stream,
            received: BytesMut::new(),
            reply: BytesMut::new(),
            sequence: 0,
            pid,
            heartbeat: Duration::from_secs(30),
            position: String::new(),
            is_locking: false,
        }
    }

    /// Answers until the client reads the log, then sends it until somebody has enough.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        if let Err(error) = self.source.knobs.admit(1) {
            self.error(&Refusal::new(SHUTDOWN, error.message));
            return self.send().await;
        }
        self.greet();
        self.send().await?;
        // A user without a password proves nothing.
        if self.receive().await?.is_none() {
            return Ok(());
        }
        self.ok();
        self.send().await?;
        while let Some(request) = self.receive().await? {
            let (command, content) = request.split_first().unwrap_or((&QUIT, &[]));
            match *command {
                QUIT => return Ok(()),
                QUERY => {
                    let sql = String::from_utf8_lossy(content).into_owned();
                    match self.answer(&sql) {
                        Ok(None) => self.ok(),
                        Ok(Some(rows)) => self.rows(&rows),
                        Err(refusal) => {
                            self.error(&refusal);
                            if refusal.fatal {
                                return self.send().await;
                            }
                        }
                    }
                }
                REGISTER_REPLICA => self.ok(),
                BINLOG_DUMP | BINLOG_DUMP_GTID => match self.begin(*command, content) {
                    Some(reading) => return self.stream(reading).await,
                    None => {
                        let text = "the position is not one of this log";
                        self.error(&Refusal::new(FATAL_TO_READERS, text));
                    }
                },
                other => return Err(io::Error::other(format!("command {other}"))),
            }
            self.send().await?;
        }
        Ok(())
    }

    /// Waits for a packet. `None`: the client has gone.
    async fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((head, rest)) = self.received.split_first_chunk::<4>() {
                let length =
                    usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
                if length <= rest.len() {
                    self.sequence = head[3].wrapping_add(1);
                    self.received.advance(4);
                    return Ok(Some(self.received.split_to(length).to_vec()));
                }
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn put(&mut self, content: &[u8]) {
        self.reply.put_uint_le(u64::try_from(content.len()).expect("small"), 3);
        self.reply.put_u8(self.sequence);
        self.reply.put_slice(content);
        self.sequence = self.sequence.wrapping_add(1);
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.reply).await?;
        self.stream.flush().await
    }

    /// Handshake, version 10.
    fn greet(&mut self) {
        let mut packet = BytesMut::new();
        packet.put_u8(10);
        packet.put_slice(self.version(true).as_bytes());
        packet.put_u8(0);
        packet.put_i32_le(self.pid);
        packet.put_slice(&[b'n'; 8]);
        packet.put_u8(0);
        // Protocol 4.1, transactions, secure connections; and plugins.
        packet.put_u16_le(0xA205);
        packet.put_u8(45);
        packet.put_u16_le(2);
        packet.put_u16_le(0x0008);
        packet.put_u8(21);
        packet.put_slice(&[0; 10]);
        packet.put_slice(&[b'n'; 12]);
        packet.put_u8(0);
        packet.put_slice(b"mysql_native_password\0");
        self.put(&packet);
    }

    fn version(&self, greeting: bool) -> &'static str {
        match (self.log.flavor(), greeting) {
            (BinlogFlavor::MySql, _) => "9.7.4",
            (BinlogFlavor::MariaDb, true) => "5.5.5-11.8.9-MariaDB-log",
            (BinlogFlavor::MariaDb, false) => "11.8.9-MariaDB-log",
        }
    }

    fn ok(&mut self) {
        self.put(&[0, 0, 0, 2, 0, 0, 0]);
    }

    fn error(&mut self, refusal: &Refusal) {
        let mut packet = vec![0xFF];
        packet.put_u16_le(refusal.code);
        packet.put_slice(b"#HY000");
        packet.put_slice(refusal.message.as_bytes());
        self.put(&packet);
    }

    /// Rows as text.
    fn rows(&mut self, rows: &Rows) {
        const END: [u8; 5] = [0xFE, 0, 0, 2, 0];
        let columns = rows.first().map_or(1, Vec::len);
        self.put(&[u8::try_from(columns).expect("few columns")]);
        for _ in 0..columns {
            // Nobody reads what they are like.
            self.put(b"\x03def");
        }
        self.put(&END);
        for row in rows {
            let mut packet = Vec::new();
            for cell in row {
                match cell {
                    None => packet.put_u8(0xFB),
                    Some(text) => {
                        packet.put_u8(0xFD);
                        packet.put_uint_le(u64::try_from(text.len()).expect("short"), 3);
                        packet.put_slice(text.as_bytes());
                    }
                }
            }
            self.put(&packet);
        }
        self.put(&END);
    }

    /// The answer to a statement; `None` if it has no rows.
    fn answer(&mut self, sql: &str) -> Result<Option<Rows>, Refusal> {
        if let Err(error) = self.source.knobs.take_failure(sql) {
            let fatal = error.fatal;
            return Err(Refusal { fatal, ..Refusal::new(UNKNOWN, error.message) });
        }
        let one = |text: String| Ok(Some(vec![vec![Some(text)]]));
        if let Some(assigned) = sql.strip_prefix("SET ") {
            self.set(assigned);
            return Ok(None);
        }
        match sql {
            "START TRANSACTION READ ONLY" => Ok(None),
            "COMMIT" => {
                self.unlock();
                Ok(None)
            }
            _ if sql.starts_with("SELECT 1 FROM `") => {
                if !self.is_locking {
                    self.is_locking = true;
                    self.log.set_locked(true);
                }
                Ok(Some(Rows::new()))
            }
            "SELECT @@GLOBAL.gtid_executed" | "SELECT @@GLOBAL.gtid_binlog_pos" => {
                one(self.log.executed().to_string())
            }
            "SELECT @@GLOBAL.gtid_purged" => one(String::new()),
            "SHOW GRANTS" => one("GRANT ALL PRIVILEGES ON *.* TO `replicator`".to_owned()),
            "XA RECOVER" => {
                let row = ["1", "1", "0", "?"].map(|text| Some(text.to_owned())).to_vec();
                Ok(Some(vec![row; self.log.prepared()]))
            }
            _ if sql.starts_with("SHOW REPLICA") => Ok(Some(Rows::new())),
            _ if sql.starts_with("SHOW GLOBAL VARIABLES") => Ok(Some(self.variables(sql))),
            _ if sql.contains("information_schema.schemata") => one("1".to_owned()),
            _ if sql.contains("information_schema.referential_constraints") => {
                Ok(Some(Rows::new()))
            }
            _ if sql.contains("information_schema.columns") => Ok(Some(columns(self.log.layout()))),
            _ => Err(Refusal::new(UNKNOWN, format!("unknown to the source: {sql}"))),
        }
    }

    fn set(&mut self, assigned: &str) {
        let number = |name: &str| {
            let value = assigned.split_once(name)?.1.split(',').next()?;
            value.trim_start_matches([' ', '=']).parse::<u64>().ok()
        };
        if let Some(nanos) = number("@source_heartbeat_period") {
            self.heartbeat = Duration::from_nanos(nanos);
        }
        if let Some(position) = assigned.strip_prefix("@slave_connect_state = '") {
            self.position = position.trim_end_matches('\'').to_owned();
        }
    }

    fn variables(&self, sql: &str) -> Rows {
        let (number, uuid) = self.log.server();
        let checksum = match self.log.checksum() {
            Checksum::None => "NONE",
            Checksum::Crc32 => "CRC32",
        };
        let metadata = if self.log.is_unnamed() { "MINIMAL" } else { "FULL" };
        let mut known = vec![
            ("binlog_checksum", checksum.to_owned()),
            ("binlog_expire_logs_seconds", "2592000".to_owned()),
            ("binlog_format", "ROW".to_owned()),
            ("binlog_row_image", "FULL".to_owned()),
            ("binlog_row_metadata", metadata.to_owned()),
            ("log_bin", "ON".to_owned()),
            ("server_id", number.to_string()),
            ("version", self.version(false).to_owned()),
        ];
        match self.log.flavor() {
            BinlogFlavor::MySql => known.extend([
                ("enforce_gtid_consistency", "ON".to_owned()),
                ("gtid_mode", "ON".to_owned()),
                ("innodb_native_foreign_keys", "OFF".to_owned()),
                ("log_replica_updates", "ON".to_owned()),
                ("server_uuid", uuid),
            ]),
            BinlogFlavor::MariaDb => known.push(("log_slave_updates", "ON".to_owned())),
        }
        let asked = known.into_iter().filter(|(name, _)| sql.contains(&format!("'{name}'")));
        asked.map(|(name, value)| vec![Some(name.to_owned()), Some(value)]).collect()
    }

    /// Begins to read the log where the client says.
    fn begin(&mut self, command: u8, content: &[u8]) -> Option<Reading> {
        let had = match command {
            // Flags, number, length of a name and the name, position, length of the set.
            BINLOG_DUMP_GTID => {
                let name = u32::from_le_bytes(*content.get(6..)?.first_chunk()?);
                let set = content.get(10 + usize::try_from(name).ok()? + 8 + 4..)?;
                GtidPosition::MySql(GtidSet::from_bytes(set).ok()?)
            }
            _ => GtidPosition::parse(BinlogFlavor::MariaDb, &self.position).ok()?,
        };
        say("source", format_args!("streams to pid {} after {}", self.pid, one_line(&had)));
        self.source.begin_reader(self.pid, had.to_string() != self.log.begin());
        self.log.read(had)
    }

    async fn stream(&mut self, mut reading: Reading) -> io::Result<()> {
        let ended = self.send_log(&mut reading).await;
        if let Err(error) = &ended {
            say("source", format_args!("pid {} ends: {error}", self.pid));
        }
        ended
    }

    async fn send_log(&mut self, reading: &mut Reading) -> io::Result<()> {
        self.log.head(reading).iter().for_each(|event| self.event(event));
        if self.log.flavor() == BinlogFlavor::MySql {
            // It says that it is still there when it leaves transactions out.
            let beat = self.log.heartbeat(reading);
            self.event(&beat);
        }
        let mut due = Instant::now() + self.heartbeat;
        loop {
            let source = self.source.clone();
            if source.must_end(self.pid) || !source.is_reader(self.pid) {
                if self.reply.is_empty() {
                    self.error(&Refusal::new(SHUTDOWN, "Server shutdown in progress"));
                    self.send().await?;
                }
                return Err(io::Error::other("ended by its operator, or by a newer reader"));
            }
            if self.reply.is_empty()
                && let Some((events, tx)) = self.log.next(reading)
            {
                events.iter().for_each(|event| self.event(event));
                if let Some(tx) = tx {
                    source.sent(tx);
                }
                due = Instant::now() + self.heartbeat;
            }
            if !self.reply.is_empty() {
                tokio::select! {
                    biased;
                    sent = self.stream.write_all_buf(&mut self.reply) => sent?,
                    () = source.changed() => (),
                }
                continue;
            }
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.received) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                () = source.changed() => (),
                () = sleep_until(due) => {
                    let beat = self.log.heartbeat(reading);
                    self.event(&beat);
                    due = Instant::now() + self.heartbeat;
                }
            }
        }
    }

    fn event(&mut self, event: &[u8]) {
        let packet = [&[0], event].concat();
        self.put(&packet);
    }
}

/// The columns of all tables as the catalog has them.
fn columns(layout: usize) -> Rows {
    let mut rows = Rows::new();
    for (id, table) in schema().catalog.tables() {
        for number in order(id, table, layout) {
            let column = table.column(number);
            let texts = [&table.name.table, &column.name, "bigint"];
            let mut row: Vec<Option<String>> =
                texts.map(|text: &str| Some(text.to_owned())).to_vec();
            row.push(None);
            rows.push(row);
        }
    }
    rows
}

fn one_line(position: &GtidPosition) -> String {
    position.to_string().replace('\n', "")
}
