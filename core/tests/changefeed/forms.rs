//! Forms that the server of the vectors does not send: newer envelopes, other targets, odd spellings.
use replicator_core::SchemaDrift;
use replicator_core::decode::changefeed::{
    BodyKind, Endpoint, FeedError, Message, RowFault, Scope, TargetKind,
};
use replicator_core::model::catalog::{Made, Table};
use replicator_core::model::time::Hlc;

use crate::feed::{Feed, payload};
use crate::tables::{column, table};

/// `t(id, v)` and `u(a, b, c)`, keyed by its first two columns.
fn tables() -> Vec<Table> {
    vec![
        table("t", vec![column("id", "INT8"), column("v", "STRING")], 1),
        table("u", vec![column("b", "DECIMAL"), column("a", "STRING"), column("c", "JSONB")], 2),
    ]
}

fn feed() -> Feed {
    Feed::new(TargetKind::Postgres, tables())
}

/// What a webhook's row means.
fn check(row: &str) -> String {
    let mut rows = feed().webhook(&payload(&[row])).expect("a row");
    assert_eq!(rows.len(), 1, "{row}");
    rows.remove(0)
}

#[test]
fn w30_a11_members_that_nobody_knows_are_ignored() {
    let row = r#"{"after": {"id": 1, "v": "x"}, "key": [1], "topic": "t", "updated": "2.0",
        "mvcc_timestamp": "1.0", "schema": {"a": [{}]}, "later": null, "later": 1}"#;
    assert_eq!(check(row), "=t id=\"1\" v=\"x\" @2.0000000000");
    let body = format!(
        "\n {{\"a\" : [ ] ,\"payload\" : [ {row} ] , \"length\": 7, \"b\":{{\"c\":[0.5e-3]}}}} \r\n"
    );
    assert_eq!(feed().webhook(&body).unwrap().len(), 1);
}

#[test]
fn a11_a_body_may_be_empty() {
    for body in ["", " \r\n\t", "{\"payload\":[],\"length\":0}", "{\"payload\" : [ ] }"] {
        assert_eq!(feed().webhook(body), Ok(Vec::new()), "{body}");
        let there = feed().query("t", body);
        assert_eq!(there, Ok(Vec::new()), "{body}");
    }
    assert_eq!(feed().lines("no such topic", ""), Ok(Vec::new()));
    assert_eq!(feed().lines("t", "\n\r\n \n"), Ok(Vec::new()));
}

#[test]
fn members_may_come_in_any_order_and_be_escaped() {
    let row =
        r#"{"updated":"1.0","topic":"\u0074","\u0061fter":{"v":"\u00e9\ud83d\ude00","i\u0064":1}}"#;
    assert_eq!(check(row), "=t v=\"é😀\" id=\"1\" @1.0000000000");
}

#[test]
fn rows_of_many_tables_and_shapes_are_told_apart() {
    let rows = [
        r#"{"after": {"id": 1, "v": "x"}, "topic": "t", "updated": "1.0"}"#,
        r#"{"after": {"a": "k", "b": 1.50, "c": [1, {"x": null}]}, "topic": "u", "updated": "1.0"}"#,
        r#"{"after": {"id": 2}, "topic": "t", "updated": "1.0"}"#,
        r#"{"after": {"v": "y", "id": 3}, "topic": "t", "updated": "1.0"}"#,
        r#"{"after": {"id" : 4 , "v" : null}, "topic": "t", "updated": "1.0"}"#,
        r#"{"after":{"id":5,"v":""},"topic":"t","updated":"1.0"}"#,
        r#"{"after": {"a": "k", "b": 2}, "topic": "u", "updated": "1.0"}"#,
        r#"{"topic": "t", "after": {"id": 6, "v": "last"}, "updated": "1.0"}"#,
    ];
    let shown = feed().webhook(&payload(&rows)).unwrap();
    let expected = [
        "=t id=\"1\" v=\"x\" @1.0000000000",
        "=u a=\"k\" b=\"1.50\" c=\"[1, {\\\"x\\\": null}]\" @1.0000000000",
        "=t id=\"2\" @1.0000000000",
        "=t v=\"y\" id=\"3\" @1.0000000000",
        "=t id=\"4\" v=NULL @1.0000000000",
        "=t id=\"5\" v=\"\" @1.0000000000",
        "=u a=\"k\" b=\"2\" @1.0000000000",
        "=t id=\"6\" v=\"last\" @1.0000000000",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn rows_of_one_shape_share_a_layout() {
    let body = payload(&[
        r#"{"after": {"id": 1, "v": "x"}, "topic": "t", "updated": "1.0"}"#,
        r#"{"after": {"id": 2}, "topic": "t", "updated": "1.0"}"#,
        r#"{"after": {"id": 3, "\u0076": "y"}, "topic": "t", "updated": "1.0"}"#,
        r#"{"after": {"id": 4, "v": "y"}, "topic": "t", "updated": "1.0"}"#,
    ]);
    let mut feed = feed();
    let rows = feed.rows(&Scope::Topics, BodyKind::Webhook, &body).unwrap();
    let layout = |index: usize| rows[index].mutation.change.row().unwrap().layout();
    assert!(std::sync::Arc::ptr_eq(layout(0), layout(2)));
    assert!(std::sync::Arc::ptr_eq(layout(0), layout(3)));
    assert_ne!(layout(0), layout(1));
}

#[test]
fn w36_more_shapes_than_are_remembered_are_read_all_the_same() {
    let names: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    let columns = names.iter().map(|name| column(name, "INT8"));
    let columns = std::iter::once(column("id", "INT8")).chain(columns).collect();
    let mut feed = Feed::new(TargetKind::Postgres, vec![table("t", columns, 1)]);
    for round in 0..2 {
        for set in 0..64_u32 {
            let sent = (0..6).filter(|bit| set & 1 << bit != 0);
            let members: String = sent.map(|bit| format!("\"c{bit}\": {bit}, ")).collect();
            let row =
                format!(r#"{{"after": {{{members}"id": {set}}}, "topic": "t", "updated": "1.0"}}"#);
            let shown = feed.webhook(&payload(&[row])).unwrap();
            let count = usize::try_from(set.count_ones()).unwrap();
            assert_eq!(shown[0].matches(" c").count(), count, "{round}: {shown:?}");
        }
    }
}

#[test]
fn the_envelope_enriched_is_read() {
    let source = r#""source": {"database_name": "d", "mvcc_timestamp": "1.0", "schema_name": "public",
        "table_name": "t", "ts_hlc": "2.0000000003", "ts_ns": 2}"#;
    let written = format!(r#"{{"after": {{"id": 1, "v": "x"}}, "op": "c", {source}, "ts_ns": 9}}"#);
    assert_eq!(check(&written), "=t id=\"1\" v=\"x\" @2.0000000003");
    let gone = format!(r#"{{"after": null, "key": {{"id": 1}}, "op": "d", {source}, "ts_ns": 9}}"#);
    assert_eq!(check(&gone), "-t id=\"1\" @2.0000000003");
    // With a schema, the row stands inside of it.
    let wrapped = format!(r#"{{"payload": {written}, "schema": {{"fields": []}}}}"#);
    assert_eq!(check(&wrapped), "=t id=\"1\" v=\"x\" @2.0000000003");
    let outside = r#"{"payload": {"after": null, "op": "d", "source": {"mvcc_timestamp": "1.0"}},
        "key": [7], "topic": "t"}"#;
    assert_eq!(check(outside), "-t id=\"7\" @1.0000000000");
}

#[test]
fn the_envelope_bare_is_read_if_it_says_what_happened() {
    let row = |event: &str| {
        format!(
            r#"{{"__crdb__": {{"key": [1], "topic": "t", "updated": "1.0"}}, "__event__": "{event}",
            "id": 1, "v": null}}"#
        )
    };
    for event in ["insert", "update", "upsert"] {
        assert_eq!(check(&row(event)), "=t id=\"1\" v=NULL @1.0000000000");
    }
    assert_eq!(check(&row("delete")), "-t id=\"1\" @1.0000000000");
}

#[test]
fn a_column_may_be_called_like_a_member() {
    let columns = ["key", "topic", "after"].map(|name| column(name, "STRING")).to_vec();
    let mut feed = Feed::new(TargetKind::Postgres, vec![table("t", columns, 1)]);
    let row = r#"{"__crdb__": {"topic": "t", "updated": "1.0"}, "__event__": "insert",
        "after": "a", "key": "k", "topic": "x"}"#;
    let shown = feed.webhook(&payload(&[row])).unwrap();
    assert_eq!(shown, ["=t after=\"a\" key=\"k\" topic=\"x\" @1.0000000000"]);
}

#[test]
fn a_column_that_looks_like_a_row_is_none() {
    let columns = [("id", "INT8"), ("after", "JSONB")].map(|(name, of)| column(name, of)).to_vec();
    let mut feed = Feed::new(TargetKind::Postgres, vec![table("t", columns, 1)]);
    let usual = r#"{"after": {"id": 1}, "topic": "t", "updated": "1.0"}"#;
    let bare = r#"{"after": {"id": 2}, "__crdb__": {"topic": "t", "updated": "1.0"},
        "__event__": "insert", "id": 3}"#;
    let shown = feed.webhook(&payload(&[usual, bare, usual])).unwrap();
    let expected = "=t after=\"{\\\"id\\\": 2}\" id=\"3\" @1.0000000000";
    assert_eq!(shown[1], expected);
    assert_eq!(shown[0], shown[2]);
}

#[test]
fn a_delete_takes_its_key_from_the_row_or_else_from_the_key() {
    let both = r#"{"after": null, "before": {"a": "x", "b": 1.50, "gone": 1}, "key": ["wrong"],
        "topic": "u", "updated": "1.0"}"#;
    assert_eq!(check(both), "-u b=\"1.50\" a=\"x\" @1.0000000000");
    let key =
        r#"{"after": null, "before": null, "key": [1.5, "x"], "topic": "u", "updated": "1.0"}"#;
    assert_eq!(check(key), "-u b=\"1.5\" a=\"x\" @1.0000000000");
    let partly = r#"{"after": null, "before": {"a": "x"}, "key": [2, "y"], "topic": "u",
        "updated": "1.0"}"#;
    assert_eq!(check(partly), "-u b=\"2\" a=\"y\" @1.0000000000");
}

#[test]
fn a11_rows_of_a_query_that_never_were_are_nothing() {
    let row = r#"{"after": null, "before": null, "key": [1], "updated": "1.0"}"#;
    assert_eq!(feed().query("t", &payload(&[row, row])), Ok(Vec::new()));
    // Without a key, nobody else can say either which row it was.
    let row = r#"{"after": null, "before": null, "topic": "t", "updated": "1.0"}"#;
    assert_eq!(feed().webhook(&payload(&[row])), Ok(Vec::new()));
}

#[test]
fn the_key_of_a_query_is_not_that_of_the_target() {
    let row = r#"{"after": null, "key": [1], "topic": "t", "updated": "1.0"}"#;
    let error = feed().query("t", &payload(&[row])).unwrap_err();
    assert!(matches!(error, FeedError::Row { fault: RowFault::NoKey { .. }, .. }), "{error}");
    let row = r#"{"after": null, "before": {"x": 1}, "key": [1], "updated": "1.0"}"#;
    let error = feed().query("t", &payload(&[row])).unwrap_err();
    assert!(matches!(error, FeedError::Drift { drift: SchemaDrift::NoKey { .. }, .. }), "{error}");
}

#[test]
fn w23_the_two_nulls_are_told_apart_where_that_is_possible() {
    let mut tables = tables();
    let row = |value: &str| {
        format!(
            r#"{{"after": {{"a": "x", "b": 1, "c": {value}}}, "topic": "u", "updated": "1.0"}}"#
        )
    };
    let mut shown = |nullable: bool, value: &str| {
        tables[1].columns[2].nullable = nullable;
        let rows = Feed::new(TargetKind::Postgres, tables.clone()).webhook(&payload(&[row(value)]));
        rows.unwrap()[0].split_once(" c=").unwrap().1.to_owned()
    };
    assert_eq!(shown(true, "null"), "NULL @1.0000000000");
    assert_eq!(shown(false, "null"), "\"null\" @1.0000000000");
    assert_eq!(shown(true, "{\"__crdb_json_null__\": true}"), "\"null\" @1.0000000000");
    assert_eq!(shown(true, "\"null\""), "\"\\\"null\\\"\" @1.0000000000");
}

#[test]
fn generated_columns_are_not_written() {
    let mut tables = tables();
    tables[0].columns[1].made = Made::Generated;
    let row = r#"{"after": {"crdb_internal_expiration": "2026-01-01T00:00:00Z", "id": 1, "v": {}},
        "topic": "t", "updated": "1.0"}"#;
    let shown = Feed::new(TargetKind::Postgres, tables).webhook(&payload(&[row])).unwrap();
    assert_eq!(shown, ["=t id=\"1\" @1.0000000000"]);
}

#[test]
fn w26_names_are_told_by_their_case_where_the_target_does_it() {
    let columns = vec![column("ID", "INT8"), column("V", "STRING")];
    let row = r#"{"after": {"id": 1, "v": "x"}, "topic": "d.public.t", "updated": "1.0"}"#;
    for target in [TargetKind::MySql, TargetKind::Oracle] {
        let mut feed = Feed::new(target, vec![table("T", columns.clone(), 1)]);
        let shown = feed.webhook(&payload(&[row])).unwrap();
        assert_eq!(shown, ["=T ID=\"1\" V=\"x\" @1.0000000000"]);
        assert_eq!(feed.query("t", &payload(&[row])).unwrap().len(), 1);
        // Two of that name: nobody knows which.
        let tables = vec![table("T", columns.clone(), 1), table("tT", columns.clone(), 1)];
        let mut feed = Feed::new(target, tables);
        assert!(feed.webhook(&payload(&[row.replace("d.public.t", "Tt")])).is_ok());
        assert!(feed.webhook(&payload(&[row.replace("d.public.t", "no")])).is_err());
    }
    for target in [TargetKind::Postgres, TargetKind::Cockroach] {
        let mut feed = Feed::new(target, vec![table("T", columns.clone(), 1)]);
        let drift = feed.webhook(&payload(&[row])).unwrap_err();
        let FeedError::Drift { drift: SchemaDrift::NoTable { .. }, .. } = drift else {
            panic!("{drift}");
        };
    }
}

#[test]
fn a_path_leads_to_its_rows() {
    let mut feed = feed();
    let mut check = |path: &str, body: &str| {
        let Endpoint { schema, scope, body: kind } =
            Endpoint::parse(TargetKind::Postgres, path).unwrap();
        assert_eq!((schema.database.as_deref(), schema.schema.as_str()), (Some("d"), "public"));
        match feed.decoder.read(&scope, kind, body.as_bytes()).unwrap() {
            Message::Rows(rows) => {
                let rows: Vec<_> = rows.collect::<Result<_, _>>().unwrap();
                rows.iter().map(|row| feed.show(row)).collect::<Vec<String>>().join(" ")
            }
            Message::Resolved(time) => time.to_string(),
        }
    };
    let row = r#"{"after": {"id": 1}, "before": null, "key": [1], "topic": "t", "updated": "1.0"}"#;
    let shown = "=t id=\"1\" @1.0000000000";
    let file = "2024-05-22/202405221234567890123450000000000-a-1-2-00000003";
    assert_eq!(check("/d/public", &payload(&[row])), shown);
    assert_eq!(check("/d/public/t", &payload(&[row])), shown);
    assert_eq!(check(&format!("/d/public/{file}-t-1.ndjson"), row), shown);
    assert_eq!(check(&format!("/d/public/{file}-d.public.t-1.ndjson"), row), shown);
    assert_eq!(check(&format!("/d/public/t/{file}-any-1.ndjson"), row), shown);
    let resolved = "2024-05-22/202405221234567890123450000000007.RESOLVED";
    let time = Hlc { nanos: 1_716_381_296_789_012_345, logical: 7 }.to_string();
    assert_eq!(check(&format!("/d/public/{resolved}"), "anything"), time);
    assert_eq!(check(&format!("/d/public/t/{resolved}"), ""), time);
    assert_eq!(check("/d/public", "{\"resolved\":\"7.0000000001\"}"), "7.0000000001");
}
