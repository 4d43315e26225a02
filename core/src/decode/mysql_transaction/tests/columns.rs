//! A log that does not name columns, and a catalog that does.
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use super::super::super::binlog::KnownColumn;
use super::super::super::mysql_columns::{MySqlColumns, MySqlStatements};
use super::{
    BTreeMap, BinlogFlavor, Checksum, Event, EventType, GtidPosition, MySqlAssembleError,
    RowsChange, Server, TableMap, TransactionLimits, UUID, map, options, t, write,
};

/// As the catalog has them after the statements of [`pass_statements`].
fn columns(log: &Server, looked: &str) -> MySqlColumns {
    let limits = TransactionLimits::default();
    let at = |text: &str| GtidPosition::parse(BinlogFlavor::MySql, text).unwrap();
    let looked = at(&alloc::format!("{UUID}:{looked}"));
    let mut statements = MySqlStatements::new(at(""), looked, "shop", Checksum::Crc32, limits);
    for event in &log.sent {
        assert!(!statements.is_over());
        statements.event(event).unwrap();
    }
    assert!(statements.is_over());
    let id = KnownColumn::new("id", "bigint", None);
    let text = KnownColumn::new("text", "varchar(50)", Some("utf8mb4"));
    statements.columns(BTreeMap::from([("note".into(), vec![id, text])]))
}

fn unnamed() -> TableMap {
    let mut map = map("shop", ["id", "text"]);
    map.columns.iter_mut().for_each(|column| column.name = None);
    map
}

fn insert(server: &mut Server) -> Result<Vec<alloc::string::String>, MySqlAssembleError> {
    server.begin();
    server.rows(&unnamed(), RowsChange::Write, &[write(&[t("1"), t("a")])])?;
    server.commit()
}

/// The second one renames a column, the fourth changes nothing of them. Before all of them the server says that it is
/// still there.
fn pass_statements(server: &mut Server) {
    let beat = Event::Heartbeat { file: b"log.1", position: 700 };
    server.send(EventType::HEARTBEAT_LOG_EVENT, &beat).unwrap();
    for statement in ["CREATE TABLE other (a INT)", "ALTER TABLE Note RENAME COLUMN words TO text"]
    {
        server.gtid();
        server.statement(statement).unwrap();
    }
    server.begin();
    server.commit().unwrap();
    server.gtid();
    server.statement("ALTER TABLE note ADD INDEX (text)").unwrap();
}

#[test]
fn rows_from_before_a_change_of_their_columns_are_refused() {
    let mut log = Server::new(options());
    pass_statements(&mut log);
    let columns = columns(&log, "1-4");
    let mut early = Server::reading(options(), |_| (), Some(columns.clone()));
    let error = insert(&mut early).unwrap_err().to_string();
    assert!(
        error.contains(&alloc::format!("rows of \"shop\".\"note\" from before {UUID}:2")),
        "{error}"
    );
    assert!(error.contains("RENAME COLUMN words TO text"), "{error}");
    let mut late = Server::reading(options(), |_| (), Some(columns));
    pass_statements(&mut late);
    assert_eq!(insert(&mut late).unwrap()[1..], ["+1 a"]);
}

#[test]
fn a_catalog_that_was_read_before_a_change_is_outdated() {
    let mut log = Server::new(options());
    pass_statements(&mut log);
    let mut server = Server::reading(options(), |_| (), Some(columns(&log, "1-4")));
    pass_statements(&mut server);
    insert(&mut server).unwrap();
    for statement in [
        "ALTER TABLE note ALTER text SET DEFAULT 'x'",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE nobodys ADD a INT",
    ] {
        server.gtid();
        server.statement(statement).unwrap();
        assert_eq!(insert(&mut server).unwrap()[1..], ["+1 a"]);
    }
    server.gtid();
    let statement = "ALTER TABLE note DROP text, ADD words TEXT";
    let error = server.statement(statement).unwrap_err();
    assert_eq!(error, MySqlAssembleError::ColumnsOutdated { statement: statement.into() });
}

/// A statement that cannot be read changes everything, one of another database nothing.
#[test]
fn statements_of_all_tables_count_for_each() {
    let mut log = Server::new(options());
    log.gtid();
    log.statement("DROP TABLE größe").unwrap();
    log.gtid();
    let bytes = log.writer.statement(b"stock", b"ALTER TABLE note DROP a");
    log.take(&bytes).unwrap();
    let mut server = Server::reading(options(), |_| (), Some(columns(&log, "1-2")));
    let error = insert(&mut server).unwrap_err().to_string();
    assert!(error.contains("DROP TABLE größe"), "{error}");
    // Only what the catalog was read after counts.
    let mut server = Server::reading(options(), |_| (), Some(columns(&log, "2")));
    assert_eq!(insert(&mut server).unwrap()[1..], ["+1 a"]);
}
