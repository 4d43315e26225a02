//! Reads binlog files of real servers: every event is understood, and the transactions at the end are
//! those that the server said it had. `fixtures/binlog/make.sh` makes the files.
use std::fs;
use std::path::PathBuf;

use replicator_core::decode::binlog::TransactionError;
use replicator_core::decode::binlog::decoder::{Decoder, UnpackLimits};
use replicator_core::decode::binlog::event::Event;
use replicator_core::decode::binlog::file::Events;
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::decode::binlog::step::{Step, TransactionLimits};
use replicator_core::decode::binlog::transactions::Transactions;
use replicator_core::model::gtid::{AnyGtid, GtidPosition, GtidSet, MariaPosition};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/binlog")
}

/// Where the first of these files begins: what it says was before it.
fn beginning(file: &[u8]) -> Option<GtidPosition> {
    let mut decoder = Decoder::new(Checksum::Crc32, UnpackLimits::default());
    let mut events = Events::new(file).ok()?;
    while let Some(bytes) = events.next_event().ok()? {
        let event = decoder.decode(bytes).ok()?.event;
        if let Event::PreviousGtids(set) = event {
            return Some(GtidPosition::MySql(set));
        } else if let Event::GtidList(list) = event {
            let mut position = MariaPosition::new();
            list.iter().try_for_each(|gtid| position.advance(gtid)).ok()?;
            return Some(GtidPosition::Maria(position));
        }
    }
    None
}

/// The steps of a file, a line each.
fn story(transactions: &mut Transactions, file: &[u8]) -> Result<String, TransactionError> {
    let mut out = String::new();
    let mut events = Events::new(file)?;
    while let Some(bytes) = events.next_event()? {
        transactions.event(bytes, |step| -> Result<(), TransactionError> {
            out.push_str(&line(&step));
            out.push('\n');
            Ok(())
        })?;
    }
    Ok(out)
}

/// One step.
fn line(step: &Step<'_>) -> String {
    match step {
        Step::Begin(begin) => match begin.alter {
            Some(alter) => format!("begin {}, ALTER {alter:?}", short(begin.gtid)),
            None => format!("begin {}", short(begin.gtid)),
        },
        Step::TableMap(table) => format!("  table {} bytes", table.body.len()),
        Step::Rows(rows) => format!("  {:?} {} bytes", rows.kind, rows.body.len()),
        Step::RowsQuery(text) => format!("  # {}", lossy(text)),
        Step::Statement(query, kind) => {
            format!("  {kind:?} in {}: {}", lossy(query.database), lossy(&query.statement))
        }
        Step::Savepoint(number) => format!("  savepoint {number}"),
        Step::RollbackTo(number) => format!("  rollback to {number}"),
        Step::Commit(gtid) => format!("commit {}", short(*gtid)),
        Step::Rollback(gtid) => format!("rollback {}", short(*gtid)),
        Step::Prepared(gtid) => format!("prepared {}", short(*gtid)),
        Step::Idle => "idle".to_owned(),
        Step::Abandoned(gtid) => format!("abandoned {}", short(*gtid)),
    }
}

/// Without what differs from server to server.
fn short(gtid: AnyGtid) -> String {
    let text = gtid.to_string();
    match gtid {
        AnyGtid::MySql(_) => text[24..].to_owned(),
        AnyGtid::Maria(_) => text,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\n', " ")
}

#[test]
fn files_of_real_servers_are_understood_to_their_end() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let files = fs::read_dir(folder()).unwrap();
    let mut names: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "binlog"));
    names.sort();
    assert!(names.len() >= 5, "the files have moved");
    for name in names {
        let file = fs::read(&name).unwrap();
        let mut transactions = Transactions::new(
            beginning(&file).unwrap(),
            Checksum::Crc32,
            TransactionLimits::default(),
        );
        let story = story(&mut transactions, &file);
        let story = story.unwrap_or_else(|error| panic!("{}: {error}", name.display()));
        assert!(!transactions.is_open(), "{}", name.display());
        // What the server said when the file was complete.
        let said = fs::read_to_string(name.with_extension("gtid")).unwrap();
        let said = match transactions.executed() {
            GtidPosition::MySql(_) => GtidPosition::MySql(said.parse::<GtidSet>().unwrap()),
            GtidPosition::Maria(_) => GtidPosition::Maria(said.parse::<MariaPosition>().unwrap()),
        };
        assert_eq!(transactions.executed(), &said, "{}", name.display());
        let told = name.with_extension("story");
        if update {
            fs::write(&told, &story).unwrap();
        }
        assert_eq!(fs::read_to_string(told).unwrap(), story, "{}", name.display());
    }
}

#[test]
fn what_real_servers_send_is_understood_to_its_end() {
    let files = fs::read_dir(folder()).unwrap();
    let mut names: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "stream"));
    assert!(names.len() >= 4, "the files have moved");
    for name in names {
        let text = |ending| fs::read_to_string(name.with_extension(ending)).unwrap();
        let position = |text: &str| {
            let set = text.parse::<GtidSet>().map(GtidPosition::MySql);
            let maria = name.to_string_lossy().contains("mariadb");
            if maria { GtidPosition::Maria(text.parse().unwrap()) } else { set.unwrap() }
        };
        let limits = TransactionLimits::default();
        // What the server was asked for.
        let checksum = Checksum::Crc32;
        let mut transactions = Transactions::new(position(&text("from")), checksum, limits);
        let stream = fs::read(&name).unwrap();
        let mut rest = stream.as_slice();
        let mut commits = 0;
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let (event, after) = after.split_at(u32::from_le_bytes(*len).try_into().unwrap());
            rest = after;
            let read: Result<(), TransactionError> = transactions.event(event, |step| {
                commits += usize::from(matches!(step, Step::Commit(_)));
                Ok(())
            });
            read.unwrap_or_else(|error| panic!("{}: {error}", name.display()));
        }
        assert!(!transactions.is_open() && commits > 0, "{}", name.display());
        assert_eq!(transactions.executed(), &position(&text("gtid")), "{}", name.display());
    }
}
