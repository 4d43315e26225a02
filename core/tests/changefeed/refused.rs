//! What is refused, and how the sender is told.
use replicator_core::SchemaDrift;
use replicator_core::decode::changefeed::{
    BodyFault, BodyKind, ErrorKind, FeedError, JsonFault, Limits, Part, RowFault, Scope,
    TargetKind, ValueFault,
};
use replicator_core::model::catalog::Table;
use replicator_core::model::ident::TableName;

use crate::feed::{Feed, payload};
use crate::tables::{SCHEMA, column, table};

fn tables() -> Vec<Table> {
    let mut needed = table("needed", vec![column("id", "INT8"), column("v", "STRING")], 1);
    needed.columns[1].nullable = false;
    vec![
        table("t", vec![column("id", "INT8"), column("v", "STRING"), column("b", "BYTES")], 1),
        needed,
        table("keyless", vec![column("id", "INT8")], 0),
    ]
}

/// What a webhook's body meets.
fn check(body: &str) -> FeedError {
    let rows = Feed::new(TargetKind::Postgres, tables()).webhook(body);
    let error = rows.expect_err("a refusal");
    assert!(error.public().len() < 120, "{}", error.public());
    error
}

/// What a row with this in it meets.
fn check_row(row: &str) -> RowFault {
    let error = check(&payload(&[format!("{{{row}}}")]));
    let FeedError::Row { row: 1, fault } = error else { panic!("{row}: {error}") };
    fault
}

/// What a row of `t` meets that has this as its columns.
fn check_columns(topic: &str, columns: &str) -> FeedError {
    check(&payload(&[format!(
        r#"{{"after": {{{columns}}}, "topic": "{topic}", "updated": "1.0"}}"#
    )]))
}

fn name(table: &str) -> TableName {
    TableName::new(SCHEMA, table)
}

#[test]
fn bodies_that_are_not_of_a_webhook_are_refused() {
    for (body, fault) in [
        ("[]", BodyFault::NotObject),
        ("17", BodyFault::NotObject),
        ("{}", BodyFault::Nothing),
        ("{\"length\": 1}", BodyFault::Nothing),
        ("{\"payload\": {}}", BodyFault::Payload),
        ("{\"payload\": null}", BodyFault::Payload),
        ("{\"resolved\": \"now\"}", BodyFault::Resolved),
        ("{\"resolved\": 1.5}", BodyFault::Resolved),
        ("{\"resolved\": \"1.0\", \"resolved\": \"2.0\"}", BodyFault::Repeated("resolved")),
        ("{\"payload\": [], \"payload\": []}", BodyFault::Repeated("payload")),
        ("{\"payload\": [], \"resolved\": \"1.0\"}", BodyFault::Both),
        ("{\"resolved\": \"1.0\", \"payload\": []}", BodyFault::Both),
        ("{\"resolved\": \"1.0\"} {}", BodyFault::Extra),
        ("{\"payload\": []}]", BodyFault::Extra),
        ("{\"__crdb__\": {\"updated\": \"1.0\"}, \"id\": 1}", BodyFault::Bare),
        ("{\"__crdb__\": 1}", BodyFault::Bare),
    ] {
        let error = check(body);
        assert_eq!(error, FeedError::Body(fault), "{body}");
        assert_eq!(error.kind().status(), 400);
    }
}

#[test]
fn bodies_that_are_not_json_are_refused_with_the_place() {
    for (body, offset, fault) in [
        ("x", 0, JsonFault::Byte),
        ("{\"payload\":[", 12, JsonFault::Short),
        ("{\"payload\":[,]}", 12, JsonFault::Byte),
        ("{\"payload\":[],\"a\":[{}{}]}", 21, JsonFault::Byte),
        ("{\"payload\":[{\"a\":1,}]}", 19, JsonFault::Byte),
        ("{\"payload\":[{\"a\":01}]}", 18, JsonFault::Number),
        ("{\"payload\":[{\"a\":\"\t\"}]}", 18, JsonFault::Control),
        ("{\"payload\":[{\"a\":\"\\x\"}]}", 18, JsonFault::Escape),
        ("{payload:[]}", 1, JsonFault::Byte),
        ("{\"a\":nul}", 5, JsonFault::Byte),
    ] {
        let error = check(body);
        assert_eq!(error, FeedError::Json { offset, fault }, "{body}");
        assert_eq!((error.kind(), error.public()), (ErrorKind::Malformed, "the body is not JSON"));
    }
    let mut feed = Feed::new(TargetKind::Postgres, tables());
    let body = b"{\"payload\":[\"\xFF\"]}";
    let error = feed.decoder.read(&Scope::Topics, BodyKind::Webhook, body).unwrap_err();
    assert_eq!(error, FeedError::NotUtf8 { offset: 13 });
}

#[test]
fn nesting_is_limited_and_takes_no_stack() {
    let mut feed = Feed::new(TargetKind::Postgres, tables());
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = |depth: usize| {
            let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            format!("{{\"x\":{value},\"payload\":[]}}")
        };
        assert_eq!(feed.webhook(&deep(1024)), Ok(Vec::new()));
        for depth in [1025, 10_000, 1_000_000] {
            let error = feed.webhook(&deep(depth)).unwrap_err();
            assert!(matches!(error, FeedError::Json { fault: JsonFault::Deep, .. }), "{error}");
            assert_eq!(error.kind().status(), 413);
        }
    }
    // The same depth, whether a row like it came before or not.
    let row = |depth: usize| {
        let value = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"after": {{"id": 1, "j": {value}}}, "topic": "deep", "updated": "1.0"}}"#)
    };
    let columns = vec![column("id", "INT8"), column("j", "JSONB")];
    for mut rows in [vec![row(1023)], vec![row(0), row(1023)], vec![row(1023), row(1023)]] {
        let mut feed = Feed::new(TargetKind::Postgres, vec![table("deep", columns.clone(), 1)]);
        assert_eq!(feed.webhook(&payload(&rows)).map(|shown| shown.len()), Ok(rows.len()));
        rows.push(row(1024));
        assert_eq!(feed.webhook(&payload(&rows)).unwrap_err().kind(), ErrorKind::TooLarge);
    }
    let open = format!("{{\"payload\":{}", "[".repeat(10_000));
    assert_eq!(check(&open).kind().status(), 413);
}

#[test]
fn a11_rows_that_are_not_of_a_changefeed_are_refused() {
    let repeated = r#""after": null, "topic": "t", "after": {}, "updated": "1.0""#;
    assert_eq!(check_row(repeated), RowFault::Repeated("after"));
    let first = r#""after": {"id": 1}, "topic": "t", "after": {"id": 1}, "updated": "1.0""#;
    assert_eq!(check_row(first), RowFault::Repeated("after"));
    for (row, fault) in [
        (r#""topic": "t", "updated": "1.0""#, RowFault::NoAfter),
        (r#""after": null, "topic": "t""#, RowFault::NoTime),
        (r#""after": null, "topic": "t", "updated": "0.0""#, RowFault::Time("updated")),
        (r#""after": null, "topic": "t", "updated": 1.0"#, RowFault::Time("updated")),
        (r#""after": null, "topic": "t", "updated": "1""#, RowFault::Time("updated")),
        (r#""after": null, "topic": "t", "updated": null"#, RowFault::Time("updated")),
        (r#""after": null, "topic": "t", "mvcc_timestamp": "x""#, RowFault::Time("mvcc_timestamp")),
        (r#""after": null, "updated": "1.0""#, RowFault::NoTopic),
        (r#""after": {"id": 1}, "updated": "1.0", "topic": 1"#, member("topic", "a string")),
        (r#""after": [], "topic": "t", "updated": "1.0""#, member("after", "an object or null")),
        (
            r#""after": null, "before": 1, "topic": "t", "updated": "1.0""#,
            member("before", "an object or null"),
        ),
        (
            r#""after": null, "key": 1, "topic": "t", "updated": "1.0""#,
            member("key", "an array or an object"),
        ),
        (r#""after": null, "op": "c", "topic": "t", "updated": "1.0""#, RowFault::Event("op")),
        (r#""after": {"id": 1}, "op": "d", "topic": "t", "updated": "1.0""#, RowFault::Event("op")),
        (r#""after": null, "op": "x", "topic": "t", "updated": "1.0""#, RowFault::Event("op")),
        (r#""__crdb__": {"updated": "1.0"}, "id": 1"#, RowFault::BareWithoutEvent),
        (r#""__crdb__": [], "id": 1"#, member("__crdb__", "an object")),
        (
            r#""__crdb__": {"updated": "1.0"}, "__event__": "truncate""#,
            RowFault::Event("__event__"),
        ),
    ] {
        assert_eq!(check_row(row), fault, "{row}");
    }
    let error = check("{\"payload\":[1]}");
    assert_eq!(error, FeedError::Row { row: 1, fault: RowFault::NotObject });
}

fn member(member: &'static str, wanted: &'static str) -> RowFault {
    RowFault::Member { member, wanted }
}

#[test]
fn w31_the_sender_is_told_what_to_change_and_nothing_else() {
    let row = |row: &str| check(&payload(&[row])).public();
    assert_eq!(
        row(r#"{"after": null, "topic": "t"}"#),
        "CREATE CHANGEFEED must specify the 'WITH updated' option"
    );
    assert!(row(r#"{"after": null, "updated": "1.0"}"#).contains("table name in the path"));
    assert!(row(r#"{"id": 1, "__crdb__": {}}"#).contains("envelope='wrapped'"));
    let gone = r#"{"after": null, "topic": "t", "updated": "1.0"}"#;
    assert!(row(gone).contains("'WITH diff'"));
}

#[test]
fn keys_of_another_length_are_refused() {
    let row = r#""after": null, "key": [1, 2], "topic": "t", "updated": "1.0""#;
    let fault = RowFault::KeyLength { table: name("t"), got: 2, expected: 1 };
    assert_eq!(check_row(row), fault);
    assert_eq!(FeedError::Row { row: 1, fault }.kind().status(), 409);
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let drift = |topic: &str, columns: &str| {
        let error = check_columns(topic, columns);
        let FeedError::Drift { row: 1, drift } = error else { panic!("{error}") };
        drift
    };
    let columns = "x, y".into();
    let expected = SchemaDrift::UnexpectedColumns { table: name("t"), columns };
    assert_eq!(drift("t", "\"id\": 1, \"x\": 2, \"v\": \"\", \"y\": 3"), expected);
    let columns = "v".into();
    let expected = SchemaDrift::MissingColumns { table: name("needed"), columns };
    assert_eq!(drift("needed", "\"id\": 1"), expected);
    let reason = "the changefeed does not send id, part of the target's key".into();
    assert_eq!(drift("t", "\"v\": \"\""), SchemaDrift::NoKey { table: name("t"), reason });
    assert!(matches!(drift("keyless", "\"id\": 1"), SchemaDrift::NoKey { .. }));
    for topic in ["no", "T", "public.t", "fam.f1", "a.b.c.t", "a.b.no", "", "\\\"t\\\""] {
        assert!(matches!(drift(topic, "\"id\": 1"), SchemaDrift::NoTable { .. }), "{topic}");
    }
    let long = "x".repeat(100_000);
    assert!(drift(&long, "").to_string().len() < 400);
    let error = check_columns("t", "\"id\": 1, \"i\\u0064\": 2");
    let fault = RowFault::ColumnTwice { table: name("t"), column: "id".into() };
    assert_eq!(error, FeedError::Row { row: 1, fault });
}

#[test]
fn wrong_values_are_told_by_their_column_and_never_shown() {
    let cases = [
        ("v", "{\"secret\": 1}", ValueFault::Kind("an object")),
        ("v", "[\"secret\"]", ValueFault::Kind("an array")),
        ("v", "\"secret\\ud800\"", ValueFault::Escape),
        ("v", "\"\\ude00secret\"", ValueFault::Escape),
        ("v", "\"\\ud800\\u0041secret\"", ValueFault::Escape),
        ("b", "\"secret\"", ValueFault::Bytes),
        ("b", "\"\\\\xABC\"", ValueFault::Bytes),
        ("b", "\"\\\\xsecret0\"", ValueFault::Bytes),
        ("b", "1", ValueFault::Bytes),
        ("id", "null", ValueFault::KeyNull),
    ];
    for (column, value, fault) in cases {
        let id = if column == "id" { "" } else { "\"id\": 1, " };
        let error = check_columns("t", &format!("{id}\"{column}\": {value}"));
        let expected =
            FeedError::Value { row: 1, table: name("t"), column: column.to_owned(), fault };
        assert_eq!(error, expected, "{value}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.kind().status(), 409);
    }
    let gone = r#"{"after": null, "key": [null], "topic": "t", "updated": "1.0"}"#;
    let error = check(&payload(&[gone]));
    assert!(matches!(error, FeedError::Value { fault: ValueFault::KeyNull, .. }), "{error}");
}

#[test]
fn w42_rows_of_two_source_tables_never_meet_in_one_target_table() {
    let row =
        |topic: &str| format!(r#"{{"after": {{"id": 1}}, "topic": "{topic}", "updated": "1.0"}}"#);
    let mut feed = Feed::new(TargetKind::Postgres, tables());
    for topic in ["t", "d.one.t", "t"] {
        assert_eq!(feed.webhook(&payload(&[row(topic)])).unwrap().len(), 1);
    }
    let error = feed.webhook(&payload(&[row("t"), row("d.two.t")])).unwrap_err();
    assert_eq!(error, FeedError::Row { row: 2, fault: RowFault::SameTarget { table: name("t") } });
    assert_eq!(error.kind(), ErrorKind::Drift);
}

#[test]
fn everything_has_a_limit() {
    let row = r#"{"after": {"id": 1}, "topic": "t", "updated": "1.0"}"#;
    let body = payload(&[row, row]);
    let most = Limits {
        body_bytes_max: body.len(),
        line_bytes_max: row.len(),
        row_bytes_max: row.len(),
        rows_max: 2,
    };
    let read = |limits: Limits, kind: BodyKind, body: &str| {
        let mut feed = Feed::with(TargetKind::Postgres, tables(), limits);
        feed.rows(&Scope::Topics, kind, body).map(|rows| rows.len())
    };
    assert_eq!(read(most, BodyKind::Webhook, &body), Ok(2));
    let lines = format!("{row}\n{row}");
    assert_eq!(read(most, BodyKind::Lines, &lines), Ok(2));
    let less = |what, limit| Err(FeedError::TooLarge { what, limit });
    let limits = Limits { body_bytes_max: body.len() - 1, ..most };
    assert_eq!(read(limits, BodyKind::Webhook, &body), less(Part::Body, body.len() - 1));
    let limits = Limits { row_bytes_max: row.len() - 1, ..most };
    assert_eq!(read(limits, BodyKind::Webhook, &body), less(Part::Row, row.len() - 1));
    let limits = Limits { line_bytes_max: row.len() - 1, ..most };
    assert_eq!(read(limits, BodyKind::Lines, &lines), less(Part::Line, row.len() - 1));
    assert_eq!(read(limits, BodyKind::Webhook, &body), Ok(2));
    let limits = Limits { rows_max: 1, ..most };
    assert_eq!(read(limits, BodyKind::Webhook, &body), less(Part::Rows, 1));
    assert_eq!(
        less(Part::Rows, 1).map_err(|error: FeedError| error.kind()),
        Err::<usize, _>(ErrorKind::TooLarge)
    );
}

#[test]
fn two_rows_on_a_line_are_none() {
    let mut feed = Feed::new(TargetKind::Postgres, tables());
    let row = r#"{"after": {"id": 1}, "updated": "1.0"}"#;
    let error = feed.lines("t", &format!("{row} {row}")).unwrap_err();
    assert_eq!(error, FeedError::Json { offset: row.len() + 1, fault: JsonFault::Byte });
    assert_eq!(feed.lines("t", &format!("{row}\r\n\n{row} \n")).unwrap().len(), 2);
}

#[test]
fn nothing_comes_after_an_error() {
    let mut feed = Feed::new(TargetKind::Postgres, tables());
    let row = r#"{"after": {"id": 1}, "topic": "t", "updated": "1.0"}"#;
    let body = payload(&[row, "{}", row]);
    let message = feed.decoder.read(&Scope::Topics, BodyKind::Webhook, body.as_bytes()).unwrap();
    let replicator_core::decode::changefeed::Message::Rows(rows) = message else {
        panic!("{message:?}");
    };
    let rows: Vec<bool> = rows.map(|row| row.is_ok()).collect();
    assert_eq!(rows, [true, false]);
}
