//! A pretend server's events, and what they become.
mod columns;
mod pieces;

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::super::binlog::NoDates;
use super::super::binlog::binlog_encode::{EventWriter, mysql_format};
use super::super::binlog::event::{Event, GtidEvent, Rows, RowsKind as EventKind, TableMap as Map};
use super::super::binlog::event_type::EventType;
use super::super::binlog::rows_encode::{RowToSend, encode_rows};
use super::super::binlog::table_map::{BinlogFlavor, MapColumn, TableMap};
use super::super::binlog::table_map_encode::encode_table_map;
use super::super::mysql_columns::MySqlColumns;
use super::{
    BTreeMap, Checksum, GtidPosition, MySqlAssembleError, MySqlOptions, MySqlTables,
    MySqlTransactions, RowsChange, RowsKind, Told, TransactionLimits, TruncatePolicy,
};
use crate::fixture;
use crate::model::catalog::{Catalog, Table};
use crate::model::mutation::{Change, Mutation};
use crate::model::row::{Cell, Row};
use crate::stop::SchemaDrift;

const UUID: &str = "11111111-1111-1111-1111-111111111111";
/// The number of the one table, and lengths of post-headers.
const TABLE: u64 = 7;
const MAP_HEADER: u8 = 8;
const ROWS_HEADER: u8 = 10;
/// The type code of LONGLONG and of VARCHAR, and utf8mb4_bin.
const LONGLONG: u8 = 8;
const VARCHAR: u8 = 15;
const UTF8MB4: u32 = 46;

/// `shop.note(id BIGINT, text VARCHAR(50))`.
fn map(database: &str, names: [&str; 2]) -> TableMap {
    let column = |code, name: &str| MapColumn {
        code,
        nullable: code == VARCHAR,
        name: Some(name.into()),
        ..MapColumn::default()
    };
    let [id, text] = names;
    let id = MapColumn { unsigned: Some(false), ..column(LONGLONG, id) };
    let text = MapColumn { meta: [200, 0], collation: Some(UTF8MB4), ..column(VARCHAR, text) };
    TableMap {
        table_id: TABLE,
        flags: 0,
        schema: database.into(),
        table: "note".into(),
        columns: vec![id, text],
        primary_key: Vec::new(),
    }
}

struct Server {
    writer: EventWriter,
    reader: MySqlTransactions,
    sent: Vec<Vec<u8>>,
    number: u64,
}

impl Server {
    fn new(options: MySqlOptions) -> Self {
        Self::with(options, |_| ())
    }

    /// Of a source that does not tell what foreign keys change.
    fn untold() -> Self {
        Self::with(options(), |table| table.untold = true)
    }

    fn with(options: MySqlOptions, change: impl Fn(&mut Table)) -> Self {
        Self::reading(options, change, None)
    }

    fn reading(
        options: MySqlOptions,
        change: impl Fn(&mut Table),
        columns: Option<MySqlColumns>,
    ) -> Self {
        let format = mysql_format(Checksum::Crc32);
        let mut table = fixture::table("note", &[("id", "int8"), ("text", "text")], 1);
        table.columns[1].nullable = true;
        change(&mut table);
        let tables = MySqlTables {
            catalog: Arc::new(Catalog::new(vec![table], &[])),
            database: "shop".into(),
            target_schema: "public".into(),
            flavor: BinlogFlavor::MySql,
            no_dates: NoDates::Refuse,
            columns,
        };
        let position = GtidPosition::MySql("".parse().unwrap());
        let reader = MySqlTransactions::new(position, format.checksum, tables, options);
        let writer = EventWriter::new(format, 1, 1_700_000_000);
        let mut server = Self { writer, reader, sent: Vec::new(), number: 0 };
        let format = server.writer.format_event();
        assert_eq!(server.take(&format), Ok(vec![]));
        server
    }

    fn send(
        &mut self,
        kind: EventType,
        event: &Event<'_>,
    ) -> Result<Vec<Told>, MySqlAssembleError> {
        let bytes = self.writer.event(kind, event);
        self.take(&bytes)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Told>, MySqlAssembleError> {
        let mut told = Vec::new();
        self.sent.push(bytes.to_vec());
        self.reader.event(bytes, &mut told).map(|()| told)
    }

    fn statement(&mut self, text: &str) -> Result<Vec<Told>, MySqlAssembleError> {
        let bytes = self.writer.statement(b"shop", text.as_bytes());
        self.take(&bytes)
    }

    fn begin(&mut self) {
        self.gtid();
        assert_eq!(self.statement("BEGIN"), Ok(vec![]));
    }

    fn gtid(&mut self) {
        self.number = self.number.saturating_add(1);
        let event = Event::Gtid(GtidEvent {
            gtid: Some(format!("{UUID}:{}", self.number).parse().unwrap()),
            flags: 1,
            last_committed: 0,
            sequence_number: Some(1),
            immediate_commit: Some(1_700_000_000_000_002),
            original_commit: Some(1_700_000_000_000_001),
            transaction_bytes: None,
            immediate_version: None,
            original_version: None,
            commit_group_ticket: None,
        });
        assert_eq!(self.send(EventType::GTID_LOG_EVENT, &event), Ok(vec![]));
    }

    fn commit(&mut self) -> Result<Vec<String>, MySqlAssembleError> {
        let told = self.send(EventType::XID_EVENT, &Event::Xid(9))?;
        Ok(lines(&told))
    }

    fn rows(
        &mut self,
        map: &TableMap,
        change: RowsChange,
        rows: &[RowToSend<'_>],
    ) -> Result<Vec<Told>, MySqlAssembleError> {
        self.flagged_rows(map, change, rows, Rows::STATEMENT_END)
    }

    fn flagged_rows(
        &mut self,
        map: &TableMap,
        change: RowsChange,
        rows: &[RowToSend<'_>],
        flags: u16,
    ) -> Result<Vec<Told>, MySqlAssembleError> {
        let body = encode_table_map(map, MAP_HEADER, BinlogFlavor::MySql);
        let post_header_bytes = usize::from(MAP_HEADER);
        let described = Map { table: TABLE, flags: 0, post_header_bytes, body: &body };
        self.send(EventType::TABLE_MAP_EVENT, &Event::TableMap(described))?;
        let kind = RowsKind { change, extra: true, partial: false };
        let body = encode_rows(map, kind, ROWS_HEADER, flags, rows);
        let (kind, code) = match change {
            RowsChange::Write => (EventKind::Write, EventType::WRITE_ROWS_EVENT),
            RowsChange::Update => (EventKind::Update, EventType::UPDATE_ROWS_EVENT),
            RowsChange::Delete => (EventKind::Delete, EventType::DELETE_ROWS_EVENT),
        };
        let rows = Rows {
            kind,
            has_extra: true,
            table: TABLE,
            flags,
            post_header_bytes: usize::from(ROWS_HEADER),
            body: body.into(),
        };
        self.send(code, &Event::Rows(rows))
    }
}

/// A line for each change, behind one for its transaction.
fn lines(told: &[Told]) -> Vec<String> {
    let mut lines = Vec::new();
    for told in told {
        match told {
            Told::Transaction { gtid, committed, mutations } => {
                lines.push(format!("{gtid} {}", committed.micros));
                lines.extend(mutations.iter().map(line));
            }
            Told::Piece { gtid, mutations } => {
                lines.push(format!("piece of {gtid}"));
                lines.extend(mutations.iter().map(line));
            }
            Told::Idle => lines.push("idle".into()),
        }
    }
    lines
}

fn line(mutation: &Mutation) -> String {
    match &mutation.change {
        Change::Insert(row) => format!("+{}", text(row)),
        Change::Upsert(row) => format!("={}", text(row)),
        Change::Update(row) => format!("~{}", text(row)),
        Change::Delete(row) => format!("-{}", text(row)),
        Change::Move { from, to } => format!(">{} to {}", text(from), text(to)),
        Change::Truncate => "truncate".into(),
    }
}

fn text(row: &Row) -> String {
    let cells = row.cells().map(|cell| match cell {
        Cell::Null => "NULL".into(),
        Cell::Unchanged => "?".into(),
        Cell::Text(bytes) | Cell::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    });
    cells.collect::<Vec<String>>().join(" ")
}

fn options() -> MySqlOptions {
    let limits = TransactionLimits::default();
    MySqlOptions {
        truncate: TruncatePolicy::Stop,
        piece_bytes_max: 5_000,
        transaction_bytes_max: 10_000,
        limits,
    }
}

fn write<'a>(after: &[Cell<'a>]) -> RowToSend<'a> {
    RowToSend { before: Vec::new(), after: after.to_vec() }
}

fn update<'a>(before: &[Cell<'a>], after: &[Cell<'a>]) -> RowToSend<'a> {
    RowToSend { before: before.to_vec(), after: after.to_vec() }
}

const fn t(text: &str) -> Cell<'_> {
    Cell::Text(text.as_bytes())
}

#[test]
fn rows_become_changes_of_the_target_under_the_name_of_their_transaction() {
    let mut server = Server::new(options());
    let note = map("shop", ["id", "text"]);
    server.begin();
    let rows = [write(&[t("1"), t("one")]), write(&[t("2"), Cell::Null])];
    assert_eq!(server.rows(&note, RowsChange::Write, &rows), Ok(vec![]));
    let gone = RowToSend { before: vec![t("1"), t("one")], after: Vec::new() };
    assert_eq!(server.rows(&note, RowsChange::Delete, &[gone]), Ok(vec![]));
    let name = format!("{UUID}:1 1700000000000001");
    assert_eq!(server.commit().unwrap(), [&name, "+1 one", "+2 NULL", "-1 one"]);
}

#[test]
fn w12_a_key_change_deletes_the_old_row() {
    let mut server = Server::new(options());
    let note = map("shop", ["id", "text"]);
    server.begin();
    let rows = [
        update(&[t("1"), t("a")], &[t("2"), t("a")]),
        update(&[t("2"), t("a")], &[t("2"), t("b")]),
    ];
    server.rows(&note, RowsChange::Update, &rows).unwrap();
    assert_eq!(server.commit().unwrap()[1..], ["-1 a", "=2 a", "=2 b"]);
}

/// `binlog_row_image` MINIMAL: of an update the key before, and after it what has changed.
#[test]
fn w13_what_a_minimal_image_does_not_have_stays_as_it_is() {
    let mut server = Server::new(options());
    let note = map("shop", ["id", "text"]);
    let none = Cell::Unchanged;
    server.begin();
    server.rows(&note, RowsChange::Update, &[update(&[t("1"), none], &[none, t("b")])]).unwrap();
    server.rows(&note, RowsChange::Update, &[update(&[t("1"), none], &[t("3"), none])]).unwrap();
    let gone = RowToSend { before: vec![t("3"), none], after: Vec::new() };
    server.rows(&note, RowsChange::Delete, &[gone]).unwrap();
    assert_eq!(server.commit().unwrap()[1..], ["=1 b", ">1 ? to 3 ?", "-3 ?"]);
    server.begin();
    let error = server.rows(&note, RowsChange::Write, &[write(&[t("4"), none])]).unwrap_err();
    assert!(error.to_string().contains("SET GLOBAL binlog_row_image = FULL"), "{error}");
}

#[test]
fn w13_rows_of_other_databases_and_statements_only_move_the_position() {
    let mut server = Server::new(options());
    // Also one that the target could not take.
    let other = map("Shop", ["x", "y"]);
    server.begin();
    server.rows(&other, RowsChange::Write, &[write(&[t("1"), t("a")])]).unwrap();
    assert_eq!(server.commit().unwrap().len(), 1);
    server.gtid();
    let told = server.statement("ALTER TABLE note ADD more INT").unwrap();
    assert_eq!(lines(&told), [format!("{UUID}:2 1700000000000001")]);
}

#[test]
fn a_savepoint_takes_back_what_came_after_it() {
    let mut server = Server::new(options());
    let note = map("shop", ["id", "text"]);
    server.begin();
    server.rows(&note, RowsChange::Write, &[write(&[t("1"), t("a")])]).unwrap();
    server.statement("SAVEPOINT `here`").unwrap();
    server.rows(&note, RowsChange::Write, &[write(&[t("2"), t("b")])]).unwrap();
    server.statement("ROLLBACK TO `here`").unwrap();
    server.rows(&note, RowsChange::Write, &[write(&[t("3"), t("c")])]).unwrap();
    assert_eq!(server.commit().unwrap()[1..], ["+1 a", "+3 c"]);
    server.begin();
    server.rows(&note, RowsChange::Write, &[write(&[t("4"), t("d")])]).unwrap();
    let told = server.statement("ROLLBACK").unwrap();
    assert_eq!(lines(&told).len(), 1);
}

#[test]
fn a_table_that_the_target_cannot_take_stops_at_its_first_row() {
    let mut server = Server::new(options());
    server.begin();
    let wide = map("shop", ["id", "words"]);
    let error = server.rows(&wide, RowsChange::Write, &[write(&[t("1"), t("a")])]).unwrap_err();
    let columns = String::from("words");
    let table = crate::model::ident::TableName::new("public", "note");
    assert_eq!(error, SchemaDrift::UnexpectedColumns { table, columns }.into());
    // The case of a name is the source's own affair.
    let mut server = Server::new(options());
    server.begin();
    let loud = map("shop", ["ID", "Text"]);
    server.rows(&loud, RowsChange::Write, &[write(&[t("1"), t("a")])]).unwrap();
    assert_eq!(server.commit().unwrap()[1..], ["+1 a"]);
    // Nobody says how the columns are called.
    let mut server = Server::new(options());
    server.begin();
    let mut unnamed = map("shop", ["id", "text"]);
    unnamed.columns.iter_mut().for_each(|column| column.name = None);
    let error = server.rows(&unnamed, RowsChange::Write, &[write(&[t("1"), t("a")])]).unwrap_err();
    assert!(error.to_string().contains("--fetchMetadata"), "{error}");
}

#[test]
fn w13_what_the_log_does_not_have_as_rows_is_refused() {
    let mut server = Server::new(options());
    server.begin();
    let error = server.statement("UPDATE note SET text = NOW()").unwrap_err();
    assert_eq!(error, MySqlAssembleError::StatementFormat);
    for text in ["ALTER TABLE note TRUNCATE PARTITION p", "TRUNCATE /*"] {
        let mut server = Server::new(options());
        server.gtid();
        assert_eq!(server.statement(text), Err(MySqlAssembleError::PartTruncated), "{text}");
    }
}

#[test]
fn w13_statements_that_change_other_databases_change_nothing_here() {
    let mut server = Server::new(options());
    for (database, text) in [
        ("other", "INSERT INTO note VALUES (1)"),
        ("other", "TRUNCATE note"),
        ("shop", "TRUNCATE TABLE `other`.note"),
        ("other", "ALTER TABLE note DROP PARTITION p"),
    ] {
        server.gtid();
        let bytes = server.writer.statement(database.as_bytes(), text.as_bytes());
        let told = server.take(&bytes).unwrap();
        let changes: Vec<String> = lines(&told).into_iter().skip(1).collect();
        assert_eq!(changes, [""; 0], "{text}");
        if told.is_empty() {
            server.commit().unwrap();
        }
    }
    server.gtid();
    let named = server.writer.statement(b"other", b"INSERT INTO `SHOP`.note VALUES (1)");
    assert_eq!(server.take(&named), Err(MySqlAssembleError::StatementFormat));
}

#[test]
fn truncate_follows_its_policy() {
    let after = |truncate: TruncatePolicy, text: &str| {
        let mut server = Server::new(MySqlOptions { truncate, ..options() });
        server.gtid();
        server.statement(text).map(|told| lines(&told).into_iter().skip(1).collect::<Vec<_>>())
    };
    let table = crate::model::ident::TableName::new("shop", "note");
    let refused = after(TruncatePolicy::Stop, "TRUNCATE TABLE note");
    assert_eq!(refused, Err(MySqlAssembleError::Truncated { table }));
    assert_eq!(after(TruncatePolicy::Ignore, "TRUNCATE TABLE note"), Ok(vec![]));
    assert_eq!(after(TruncatePolicy::Apply, "TRUNCATE shop.NOTE"), Ok(vec!["truncate".into()]));
    let missing = after(TruncatePolicy::Apply, "TRUNCATE missing").unwrap_err();
    assert!(matches!(missing, MySqlAssembleError::Drift(_)), "{missing}");
}

/// Others leave it to the target's foreign keys, for which a new key must be an update.
#[test]
fn a_key_that_others_refer_to_changes_in_its_place_if_the_source_does_not_tell_of_them() {
    let mut server = Server::untold();
    let note = map("shop", ["id", "text"]);
    server.begin();
    let changes = [
        update(&[t("1"), t("a")], &[t("2"), t("a")]),
        update(&[t("3"), t("a")], &[t("3"), t("b")]),
    ];
    server.rows(&note, RowsChange::Update, &changes).unwrap();
    assert_eq!(server.commit().unwrap()[1..], [">1 a to 2 a", "=2 a", "=3 b"]);
}

/// MySQL 9.7 logs `UPDATE parent` with ON UPDATE CASCADE as: rows of the child, rows of the parent.
#[test]
fn what_foreign_keys_changed_comes_between_the_new_parent_and_the_end_of_the_old_one() {
    let mut server = Server::new(options());
    let note = map("shop", ["id", "text"]);
    let sent = |server: &mut Server, old: Option<&str>, new: Option<&str>, flags| {
        let before = old.map(|id| vec![t(id), t("a")]).unwrap_or_default();
        let after = new.map(|id| vec![t(id), t("b")]).unwrap_or_default();
        let row = RowToSend { before, after };
        let change = if new.is_some() { RowsChange::Update } else { RowsChange::Delete };
        assert_eq!(server.flagged_rows(&note, change, &[row], flags), Ok(vec![]));
    };
    let (caused, asked) = (Rows::NO_FOREIGN_KEY_CHECKS, Rows::STATEMENT_END);
    server.begin();
    sent(&mut server, Some("10"), Some("10"), caused);
    sent(&mut server, Some("1"), Some("2"), asked);
    let lines = server.commit().unwrap();
    assert_eq!(lines[1..], ["=2 b", "=10 b", "-1 a"]);
    // Deletes are right as they come, and so is what a session without checks does.
    server.begin();
    sent(&mut server, Some("10"), None, caused);
    sent(&mut server, Some("2"), None, asked);
    let lines = server.commit().unwrap();
    assert_eq!(lines[1..], ["-10 a", "-2 a"]);
    server.begin();
    sent(&mut server, Some("3"), Some("4"), caused | asked);
    let lines = server.commit().unwrap();
    assert_eq!(lines[1..], ["-3 a", "=4 b"]);
    // Keys that move up one by one have an order of their own.
    server.begin();
    sent(&mut server, Some("20"), Some("20"), caused);
    sent(&mut server, Some("6"), Some("7"), 0);
    sent(&mut server, Some("5"), Some("6"), asked);
    let lines = server.commit().unwrap();
    assert_eq!(lines[1..], ["=20 b", "-6 a", "=7 b", "-5 a", "=6 b"]);
}
