//! Events of a server → what is to be applied.
use alloc::format;
use alloc::string::ToString;

use super::super::binlog_encode::{list_entries, mysql_format};
use super::super::event::{Event, GtidList, MariaGtidEvent, Rotate, XaId};
use super::super::event_type::EventType;
use super::super::format::{Checksum, Format};
use super::super::step::TransactionLimits;
use super::fixture::{Server, UUID, gtid_event, maria_event};
use crate::model::gtid::{GtidPosition, GtidSet};

#[test]
fn a_transaction_ends_with_whatever_commits_it() {
    let mut server = Server::mysql("");
    server.gtid(1).query("BEGIN").row("a").row("b").xid();
    server.gtid(2).query("BEGIN").row("c").query("COMMIT");
    server.gtid(3).query("BEGIN").row("d").query("ROLLBACK");
    server.gtid(4).query("BEGIN").query("COMMIT");
    server.gtid(5).query("CREATE TABLE t (a int)");
    assert_eq!(
        server.read().unwrap(),
        "begin(U:1) a b commit(U:1) begin(U:2) c commit(U:2) begin(U:3) d rollback(U:3) \
         begin(U:4) commit(U:4) begin(U:5) Schema(CREATE TABLE t (a int)) commit(U:5)"
    );
    assert_eq!(server.executed(), "U:1-5");
}

#[test]
fn a_compressed_transaction_is_the_events_inside() {
    let mut server = Server::mysql("");
    server.gtid(1).packed(|server| {
        server.query("BEGIN").row("a").query("SAVEPOINT `s`").row("b").xid();
    });
    server.gtid(2).query("BEGIN").row("c").xid();
    assert_eq!(server.read().unwrap(), "begin(U:1) a mark0 b commit(U:1) begin(U:2) c commit(U:2)");
    let mut server = Server::mysql("");
    server.gtid(1).packed(|server| {
        server.query("BEGIN").row("a");
    });
    assert_eq!(
        server.refused(),
        format!(
            "the end of a compressed transaction before position {} of the binlog comes inside of \
             a transaction",
            server.writer.position
        )
    );
    let mut server = Server::mysql("");
    server.packed(|server| {
        server.query("BEGIN").xid();
    });
    assert!(server.refused().ends_with("comes outside of a transaction"));
}

#[test]
fn savepoints_have_numbers_that_are_used_again() {
    let mut server = Server::mysql("");
    server.gtid(1).query("BEGIN").query("SAVEPOINT `a`").row("1").query("SAVEPOINT b").row("2");
    server.query("ROLLBACK TO `B`").query("SAVEPOINT `A`").row("3").query("RELEASE SAVEPOINT b");
    server.query("SAVEPOINT c").query("ROLLBACK TO a").query("ROLLBACK TO c").xid();
    assert_eq!(
        server.read().unwrap(),
        "begin(U:1) mark0 1 mark1 2 undo1 mark0 3 mark1 undo0 undo1 commit(U:1)"
    );
    server.gtid(2).query("BEGIN").query("ROLLBACK TO `x`");
    assert_eq!(server.refused(), "rolls back to savepoint \"x\", which was not set");
    let limits = TransactionLimits { savepoints_max: 1, ..TransactionLimits::default() };
    let position = GtidPosition::MySql(GtidSet::new());
    let mut server = Server::new(mysql_format(Checksum::None), position, limits);
    server.gtid(1).query("BEGIN").query("SAVEPOINT a").query("SAVEPOINT b");
    assert_eq!(server.refused(), "a transaction has more than 1 savepoints");
}

#[test]
fn rows_of_an_xa_transaction_come_when_it_is_committed() {
    let mut server = Server::mysql("");
    server.gtid(1).query("XA START X'61',X'',1").row("a").query("SAVEPOINT s").row("b");
    server.query("ROLLBACK TO s").query("XA END X'61',X'',1").xa_prepare("a", false);
    server.gtid(2).query("BEGIN").row("c").xid();
    assert_eq!(server.read().unwrap(), "prepared(U:1) begin(U:2) c commit(U:2)");
    assert_eq!((server.executed().as_str(), server.resumable().as_str()), ("U:1-2", "U:2"));
    assert_eq!(server.transactions.prepared_len(), 1);
    server.gtid(3).query("XA COMMIT X'61',X'',1");
    assert_eq!(server.read().unwrap(), "begin(U:3) a mark0 b undo0 commit(U:3)");
    assert_eq!((server.executed(), server.resumable()), ("U:1-3".into(), "U:1-3".into()));
    server.gtid(4).query("XA START X'61',X'',1").row("d").query("XA END X'61',X'',1");
    server.xa_prepare("a", false).gtid(5).query("XA ROLLBACK X'61',X'',1");
    server.gtid(6).query("XA START X'62',X'',1").row("e").query("XA END X'62',X'',1");
    server.xa_prepare("b", true);
    assert_eq!(
        server.read().unwrap(),
        "prepared(U:4) begin(U:5) rollback(U:5) begin(U:6) e commit(U:6)"
    );
    assert_eq!(server.resumable(), "U:1-6");
}

#[test]
fn an_xa_transaction_that_is_compressed_is_kept_as_well() {
    let mut server = Server::mysql("");
    server.gtid(1).packed(|server| {
        server.query("XA START X'61',X'',1").row("a").query("XA END X'61',X'',1");
        server.xa_prepare("a", false);
    });
    server.gtid(2).query("XA COMMIT X'61',X'',1");
    assert_eq!(server.read().unwrap(), "prepared(U:1) begin(U:2) a commit(U:2)");
}

#[test]
fn an_xa_transaction_that_cannot_be_kept_stops_the_stream() {
    let mut server = Server::mysql("");
    server.gtid(1).query("XA COMMIT X'61',X'',1");
    assert_eq!(
        server.refused(),
        "XA transaction X'61',X'',1 is committed, and was prepared before the stream began*"
    );
    let mut server = Server::mysql("");
    for number in [1, 2] {
        server.gtid(number).query("XA START X'61',X'',1").query("XA END X'61',X'',1");
        server.xa_prepare("a", false);
    }
    assert_eq!(
        server.refused(),
        "XA transaction X'61',X'',1 is prepared a second time, and the first has no outcome"
    );
    let limits = TransactionLimits { prepared_bytes_max: 1_000, ..TransactionLimits::default() };
    let position = GtidPosition::MySql(GtidSet::new());
    let mut server = Server::new(mysql_format(Checksum::None), position, limits);
    server.gtid(1).query("XA START X'61',X'',1");
    (0..20).for_each(|_| {
        server.row("some bytes");
    });
    assert_eq!(
        server.refused(),
        "more than 1000 bytes of prepared XA transactions are without an outcome*"
    );
    let mut server = Server::mysql("");
    server.gtid(1).query("XA START X'61',X'',1").query("XA END X'61',X'',1");
    server.xa_prepare("b", false);
    assert!(server.refused().ends_with("comes inside of an XA transaction"));
    let mut server = Server::mysql("");
    server.gtid(1).query("XA START 'a\\'b'");
    assert_eq!(
        server.refused(),
        "cannot read the name of an XA transaction in \"XA START 'a\\'b'\""
    );
}

#[test]
fn transactions_of_mariadb_begin_by_themselves() {
    let mut server = Server::maria("0-1-4");
    server.maria_gtid("0-1-5", 4).row("a").xid();
    server.maria_gtid("1-2-1", 0).row("b").query("COMMIT");
    server.maria_gtid("0-1-6", MariaGtidEvent::STANDALONE).query("DROP TABLE t");
    server.maria_gtid("0-1-7", MariaGtidEvent::DDL).query("CREATE TABLE t (a int)").row("c").xid();
    assert_eq!(
        server.read().unwrap(),
        "begin(0-1-5) a commit(0-1-5) begin(1-2-1) b commit(1-2-1) begin(0-1-6) \
         Schema(DROP TABLE t) commit(0-1-6) begin(0-1-7) Schema(CREATE TABLE t (a int)) c \
         commit(0-1-7)"
    );
    assert_eq!(server.resumable(), "0-1-7,1-2-1");
}

#[test]
fn the_position_of_mariadb_stays_before_what_is_prepared() {
    let mut server = Server::maria("0-1-4,1-1-1");
    let name = XaId { format: 1, gtrid: b"a", bqual: b"" };
    let mut event = maria_event("0-1-5".parse().unwrap(), MariaGtidEvent::PREPARED_XA);
    event.xid = Some(name);
    server.push(EventType::GTID_EVENT, &Event::MariaGtid(event)).row("a");
    server.query("XA END X'61',X'',1").xa_prepare("a", false);
    server.maria_gtid("0-1-6", 0).row("b").xid().maria_gtid("1-1-2", 0).row("c").xid();
    assert_eq!(
        server.read().unwrap(),
        "prepared(0-1-5) begin(0-1-6) b commit(0-1-6) begin(1-1-2) c commit(1-1-2)"
    );
    assert_eq!(
        (server.executed().as_str(), server.resumable().as_str()),
        ("0-1-6,1-1-2", "0-1-4,1-1-2")
    );
    let mut event = maria_event("0-1-7".parse().unwrap(), MariaGtidEvent::COMPLETED_XA);
    event.xid = Some(name);
    server.push(EventType::GTID_EVENT, &Event::MariaGtid(event)).query("XA COMMIT X'61',X'',1");
    assert_eq!(server.read().unwrap(), "begin(0-1-7) a commit(0-1-7)");
    assert_eq!(server.resumable(), "0-1-7,1-1-2");
}

#[test]
fn an_alter_that_is_told_twice_says_which_part_it_is() {
    let mut server = Server::maria("");
    for (number, extra, sequence) in [
        (1, MariaGtidEvent::START_ALTER, None),
        (2, MariaGtidEvent::COMMIT_ALTER, Some(1)),
        (3, MariaGtidEvent::ROLLBACK_ALTER, Some(2)),
    ] {
        let gtid = format!("0-1-{number}").parse().unwrap();
        let mut event = maria_event(gtid, MariaGtidEvent::STANDALONE);
        (event.extra_flags, event.alter_sequence) = (extra, sequence);
        server.push(EventType::GTID_EVENT, &Event::MariaGtid(event)).query("ALTER TABLE t");
    }
    assert_eq!(
        server.read().unwrap(),
        "begin(0-1-1)Start Schema(ALTER TABLE t) commit(0-1-1) begin(0-1-2)Commit(1) \
         Schema(ALTER TABLE t) commit(0-1-2) begin(0-1-3)Rollback(2) Schema(ALTER TABLE t) \
         commit(0-1-3)"
    );
}

#[test]
fn what_the_source_lost_stops_the_stream() {
    let mut server = Server::mysql("");
    let event = Event::Incident { number: 1, message: b"LOST_EVENTS" };
    server.gtid(1).push(EventType::INCIDENT_EVENT, &event);
    assert_eq!(
        server.refused(),
        "the source has not logged everything: incident 1, \"LOST_EVENTS\"*"
    );
    let set: GtidSet = format!("{UUID}:1-7").parse().unwrap();
    let mut server = Server::mysql(&format!("{UUID}:1-5:7"));
    server.push(EventType::PREVIOUS_GTIDS_LOG_EVENT, &Event::PreviousGtids(set));
    let missing = "the source's files begin after transactions that were not received: ";
    assert_eq!(server.refused(), format!("{missing}{UUID}:6*"));
    let entries = list_entries(["0-1-4", "0-1-6"].map(|text| text.parse().unwrap()));
    let mut server = Server::maria("0-1-5");
    let list = Event::GtidList(GtidList::new(0, &entries).unwrap());
    server.push(EventType::GTID_LIST_EVENT, &list);
    assert_eq!(server.refused(), format!("{missing}0-1-6*"));
    let entries = list_entries(["0-9-9", "0-1-5", "1-1-1"].map(|text| text.parse().unwrap()));
    let mut server = Server::maria("0-1-5");
    let list = Event::GtidList(GtidList::new(0, &entries).unwrap());
    server.push(EventType::GTID_LIST_EVENT, &list);
    assert_eq!(server.read().unwrap(), "");
}

#[test]
fn what_the_source_should_not_send_stops_the_stream() {
    let mut server = Server::mysql(&format!("{UUID}:1-5"));
    server.gtid(5);
    let sent = "the source sent transaction ";
    assert_eq!(server.refused(), format!("{sent}{UUID}:5, which it had sent before"));
    let mut server = Server::mysql("");
    server.push(EventType::ANONYMOUS_GTID_LOG_EVENT, &Event::Gtid(gtid_event(None)));
    assert!(server.refused().starts_with("the source has logged a transaction without a GTID"));
    let mut server = Server::maria("");
    server.gtid(1);
    assert!(server.read().is_err(), "MySQL's name in MariaDB's stream");
    for (events, state) in [
        (["BEGIN"].as_slice(), "outside of a transaction"),
        (&["GTID", "COMMIT"], "where a transaction should begin"),
        (&["GTID", "BEGIN", "BEGIN"], "inside of a transaction"),
        (&["GTID", "BEGIN", "GTID"], "inside of a transaction"),
        (&["GTID", "XA START X'61'", "COMMIT"], "inside of an XA transaction"),
        (&["GTID", "XA START X'61'", "XA END X'62'"], "inside of an XA transaction"),
        (&["GTID", "XA END X'61'"], "where a transaction should begin"),
    ] {
        let mut server = Server::mysql("");
        for (number, event) in (1..).zip(events) {
            match *event {
                "GTID" => server.gtid(number),
                text => server.query(text),
            };
        }
        let refused = server.read().unwrap_err().to_string();
        assert!(refused.ends_with(state), "{events:?}: {refused}");
    }
}

#[test]
fn a_transaction_that_the_source_died_in_does_not_count() {
    let mut server = Server::mysql("");
    server.gtid(1).query("BEGIN").row("a");
    let file = Event::Rotate(Rotate { position: 4, file: b"binlog.000002" });
    server.artificial(EventType::ROTATE_EVENT, &file);
    server.writer.format.started = 1_700_000_001;
    let format = server.writer.format_event();
    server.sent.push(format);
    server.gtid(1).query("BEGIN").row("b").xid();
    assert_eq!(server.read().unwrap(), "begin(U:1) a abandoned(U:1) begin(U:1) b commit(U:1)");
    // Another file of a server that lives begins between two transactions.
    server.gtid(2).query("BEGIN");
    server.writer.format = Format { started: 0, ..server.writer.format.clone() };
    let format = server.writer.format_event();
    server.sent.push(format);
    assert!(server.refused().starts_with("the beginning of a file before position"));
    let mut server = Server::mysql("");
    server.gtid(1).push(EventType::ROTATE_EVENT, &file);
    assert!(server.refused().starts_with("the end of a file before position"));
}

#[test]
fn what_means_nothing_changes_nothing() {
    let mut server = Server::mysql("");
    let beat = Event::Heartbeat { file: b"binlog.000001", position: 4 };
    server.artificial(EventType::HEARTBEAT_LOG_EVENT_V2, &beat);
    server.gtid(1).artificial(EventType::HEARTBEAT_LOG_EVENT, &beat).query("BEGIN");
    server.push(EventType::VIEW_CHANGE_EVENT, &Event::Group(&[0; 52]));
    server.artificial(EventType::HEARTBEAT_LOG_EVENT_V2, &beat).row("a").xid();
    server.push(EventType::STOP_EVENT, &Event::Stop);
    assert_eq!(server.read().unwrap(), "idle begin(U:1) a commit(U:1)");
    assert!(!server.transactions.is_open());
    assert!(server.transactions.format().is_some_and(|format| !format.is_mariadb()));
}
