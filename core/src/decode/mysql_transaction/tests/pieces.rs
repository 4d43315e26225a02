//! Large transactions.
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    MySqlAssembleError, MySqlOptions, Rows, RowsChange, Server, UUID, lines, map, options, t, write,
};
use crate::model::gtid::AnyGtid;

/// Inserts rows with these keys, of some 250 bytes, each in an event of its own.
fn insert_large(server: &mut Server, ids: core::ops::Range<u32>, flags: u16) -> Vec<String> {
    let note = map("shop", ["id", "text"]);
    let text = "x".repeat(200);
    let mut told = Vec::new();
    for id in ids {
        let id = format!("{id}");
        let row = [write(&[t(&id), t(&text)])];
        told.extend(lines(&server.flagged_rows(&note, RowsChange::Write, &row, flags).unwrap()));
    }
    told.into_iter().map(|line| line.replace(&text, "x")).collect()
}

fn pieces_of_500() -> MySqlOptions {
    MySqlOptions { piece_bytes_max: 500, ..options() }
}

#[test]
fn a_large_transaction_comes_in_pieces() {
    let mut server = Server::new(pieces_of_500());
    server.begin();
    let told = insert_large(&mut server, 1..5, Rows::STATEMENT_END);
    let piece = format!("piece of {UUID}:1");
    assert_eq!(told, [&piece, "+1 x", "+2 x", &piece, "+3 x", "+4 x"]);
    // Also if nothing is left.
    assert_eq!(server.commit().unwrap(), [format!("{UUID}:1 1700000000000001")]);
    // Also within a statement.
    server.begin();
    assert_eq!(insert_large(&mut server, 7..10, 0).len(), 3);
    assert_eq!(server.commit().unwrap().len(), 2);
}

#[test]
fn a_piece_does_not_part_what_foreign_keys_caused_from_its_cause() {
    let mut server = Server::new(pieces_of_500());
    server.begin();
    assert!(insert_large(&mut server, 1..5, Rows::NO_FOREIGN_KEY_CHECKS).is_empty());
    let told = insert_large(&mut server, 5..6, Rows::STATEMENT_END);
    // The cause first, then what it caused.
    let order = ["+5 x", "+4 x", "+3 x", "+2 x", "+1 x"];
    assert_eq!(told[1..], order);
}

#[test]
fn what_was_told_in_pieces_and_undone_is_read_again_as_a_whole() {
    let gtid = format!("{UUID}:1").parse().map(AnyGtid::MySql).unwrap();
    let undone = MySqlAssembleError::Undone { gtid };
    let mut server = Server::new(pieces_of_500());
    server.begin();
    insert_large(&mut server, 1..5, Rows::STATEMENT_END);
    assert_eq!(server.statement("ROLLBACK"), Err(undone.clone()));

    let mut server = Server::new(pieces_of_500());
    server.begin();
    assert_eq!(server.statement("SAVEPOINT a"), Ok(vec![]));
    insert_large(&mut server, 1..5, Rows::STATEMENT_END);
    // What came after the last piece can still be undone.
    assert_eq!(server.statement("SAVEPOINT b"), Ok(vec![]));
    insert_large(&mut server, 5..6, Rows::STATEMENT_END);
    assert_eq!(server.statement("ROLLBACK TO b"), Ok(vec![]));
    assert_eq!(server.statement("ROLLBACK TO a"), Err(undone));

    let mut server = Server::new(pieces_of_500());
    server.reader = server.reader.keeping_whole([gtid].into());
    server.begin();
    assert!(insert_large(&mut server, 1..5, Rows::STATEMENT_END).is_empty());
    let told = server.statement("ROLLBACK").map(|told| lines(&told));
    assert_eq!(told, Ok(vec![format!("{UUID}:1 1700000000000001")]));
    server.begin();
    assert_eq!(insert_large(&mut server, 1..4, Rows::STATEMENT_END).len(), 3);
}

#[test]
fn what_must_be_held_has_a_limit() {
    let mut server = Server::new(options());
    let note = map("shop", ["id", "text"]);
    server.begin();
    let text = "x".repeat(200);
    let mut added = (0..100).map(|id| {
        let (id, flags) = (format!("{id}"), Rows::NO_FOREIGN_KEY_CHECKS);
        server.flagged_rows(&note, RowsChange::Write, &[write(&[t(&id), t(&text)])], flags)
    });
    let error = added.find_map(Result::err).unwrap();
    assert_eq!(error, MySqlAssembleError::TooLarge { limit: 10_000 });
}
