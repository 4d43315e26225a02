//! What a real server sent (CockroachDB 22.1, see `about` in the file), in all its forms.
//!
//! One form is compared with what it is known to mean, all others with that one.
use replicator_core::decode::changefeed::{
    BodyKind, FeedError, JsonFault, Message, RowFault, Scope, TargetKind,
};
use replicator_core::model::catalog::Table;
use replicator_core::model::row::Cell;
use replicator_core::model::time::Hlc;
use serde_json::Value;

use crate::feed::{Feed, payload};
use crate::tables::{column, created};

const FILE: &str = include_str!("vectors.json");

fn file() -> Value {
    serde_json::from_str(FILE).expect("JSON")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// One line as it was sent.
struct Line<'a> {
    table: &'a str,
    key: &'a str,
    value: &'a str,
}

/// The lines of one form of a case, table by table: tables come in no order.
fn lines<'a>(case: &'a Value, form: &str) -> Vec<Line<'a>> {
    let lines = array(&case["output"][form]);
    let line = |line: &'a Value| Line {
        table: text(&line["table"]),
        key: text(&line["key"]),
        value: text(&line["value"]),
    };
    let mut lines: Vec<Line<'a>> = lines.iter().map(line).collect();
    lines.sort_by_key(|line| line.table);
    lines
}

fn tables(ddl: &Value) -> Vec<Table> {
    // One statement, or several.
    let statements = array(ddl).iter().map(text).chain(ddl.as_str());
    statements.filter_map(created).collect()
}

fn feed(case: &Value) -> Feed {
    Feed::new(TargetKind::Cockroach, tables(&case["ddl"]))
}

/// The cases that have rows. Some types are no column of any table.
fn cases(file: &Value) -> impl Iterator<Item = &Value> {
    array(&file["cases"]).iter().filter(|case| !lines(case, "topic_in_value").is_empty())
}

/// What the rows of a case mean, in the order in which they were sent.
fn meant(case: &Value) -> Vec<String> {
    let rows: Vec<&str> = lines(case, "topic_in_value").iter().map(|line| line.value).collect();
    feed(case).webhook(&payload(&rows)).expect("rows")
}

/// A row without something in it, and with something else.
fn replace(row: &str, from: &str, to: &str) -> String {
    assert!(row.contains(from), "{from} is not in {row}");
    row.replacen(from, to, 1)
}

#[test]
fn rows_mean_what_they_are_known_to_mean() {
    let file = file();
    let mut all = String::new();
    let mut rows = 0;
    for case in cases(&file) {
        let meant = meant(case);
        rows += meant.len();
        all.push_str(&format!("# {}\n{}\n", text(&case["name"]), meant.join("\n")));
    }
    assert!(rows > 500, "only {rows} rows");
    insta::assert_snapshot!(all);
}

#[test]
fn bodies_of_old_and_new_servers_mean_the_same() {
    let file = file();
    let mut bodies = 0;
    for case in cases(&file) {
        let derived = &case["webhook_derived"];
        for body in ["body_22_1_compacted", "body_newer_verbatim_elements"] {
            if let Some(body) = derived[body].as_str() {
                // Documents stay as they were sent, and an old server sends them without blanks and
                // with escapes. Tables come in another order.
                let alike = |lines: Vec<String>| {
                    let alike = |line: String| {
                        let line = line.replace("\\\\u003c", "<").replace("\\\\u003e", ">");
                        line.replace("\\\\u0026", "&").replace(' ', "")
                    };
                    let mut lines: Vec<String> = lines.into_iter().map(alike).collect();
                    lines.sort();
                    lines
                };
                let rows = feed(case).webhook(body).unwrap();
                assert_eq!(alike(rows), alike(meant(case)), "{}", case["name"]);
                bodies += 1;
            }
        }
    }
    assert!(bodies > 200, "only {bodies} bodies");
}

#[test]
fn a11_qualified_topics_mean_the_same_tables() {
    let file = file();
    for case in cases(&file) {
        let rows: Vec<&str> =
            lines(case, "full_table_name").iter().map(|line| line.value).collect();
        assert_eq!(feed(case).webhook(&payload(&rows)).unwrap(), meant(case), "{}", case["name"]);
    }
}

#[test]
fn files_mean_the_same_as_webhooks() {
    let file = file();
    for case in cases(&file) {
        let mut feed = feed(case);
        let mut rows = Vec::new();
        for line in lines(case, "key_in_value") {
            rows.extend(feed.lines(line.table, &format!("\n{}\r\n\n", line.value)).unwrap());
        }
        assert_eq!(rows, meant(case), "{}", case["name"]);
    }
}

#[test]
fn a_query_with_diff_means_the_same_but_for_rows_that_never_were() {
    let file = file();
    let mut phantoms = 0;
    for case in cases(&file) {
        let mut feed = feed(case);
        let mut meant = meant(case).into_iter();
        for line in lines(case, "wrapped_diff") {
            let rows = feed.query(line.table, &payload(&[line.value])).unwrap();
            let expected = meant.next().unwrap();
            if rows.is_empty() {
                assert!(line.value.contains("\"after\": null, \"before\": null"), "{}", line.value);
                phantoms += 1;
            } else {
                assert_eq!(rows, [expected], "{}", case["name"]);
            }
        }
    }
    assert_eq!(phantoms, 3);
}

#[test]
fn a_query_without_diff_has_no_deletes() {
    let file = file();
    for form in ["wrapped", "mvcc_timestamp"] {
        for case in cases(&file) {
            let mut feed = feed(case);
            for (line, meant) in lines(case, form).iter().zip(meant(case)) {
                let rows = feed.query(line.table, &payload(&[line.value]));
                if line.value.starts_with("{\"after\": null") {
                    let error = rows.unwrap_err();
                    assert!(
                        matches!(error, FeedError::Row { fault: RowFault::NoKey { .. }, .. }),
                        "{error}"
                    );
                } else {
                    assert_eq!(rows, Ok(vec![meant]), "{}", case["name"]);
                }
            }
        }
    }
}

#[test]
fn without_updated_the_time_of_the_row_counts() {
    let file = file();
    let mut rows = 0;
    for case in cases(&file) {
        let mut feed = feed(case);
        for (line, meant) in lines(case, "mvcc_timestamp").iter().zip(meant(case)) {
            if !line.value.starts_with("{\"after\": null") {
                let without = replace(line.value, "\"updated\": ", "\"else\": ");
                assert_eq!(feed.query(line.table, &payload(&[without])), Ok(vec![meant]));
                rows += 1;
            }
        }
    }
    assert!(rows > 400, "only {rows} rows");
}

#[test]
fn a11_bare_rows_need_to_say_what_happened() {
    let file = file();
    for case in cases(&file) {
        let mut feed = feed(case);
        for (line, meant) in lines(case, "row").iter().zip(meant(case)) {
            // In this envelope an old server has nothing for a delete.
            if line.value.is_empty() {
                assert!(meant.starts_with('-'), "{meant}");
                continue;
            }
            let error = feed.query(line.table, &payload(&[line.value])).unwrap_err();
            let fault = RowFault::BareWithoutEvent;
            assert_eq!(error, FeedError::Row { row: 1, fault });
            let with = replace(line.value, "{", "{\"__event__\": \"upsert\", ");
            assert_eq!(feed.query(line.table, &payload(&[with])), Ok(vec![meant.clone()]));
            // Of a deleted row it shows the key, and NULL for everything else.
            let gone = replace(line.value, "{", "{\"__event__\": \"delete\", ");
            let [gone] = feed.query(line.table, &payload(&[gone])).unwrap().try_into().unwrap();
            assert!(gone.starts_with('-'), "{gone}");
        }
    }
}

#[test]
fn rows_without_anything_about_them_are_refused() {
    let file = file();
    for case in cases(&file) {
        let mut feed = feed(case);
        for line in lines(case, "row_without_updated") {
            if !line.value.is_empty() {
                let error = feed.query(line.table, &payload(&[line.value])).unwrap_err();
                assert_eq!(error, FeedError::Row { row: 1, fault: RowFault::NoAfter });
            }
        }
        for line in lines(case, "key_only") {
            assert_eq!(line.value, "");
            assert_eq!(feed.lines(line.table, line.value), Ok(Vec::new()));
            // Nothing says that the row is gone.
            let row = format!("{{\"key\": {}, \"updated\": \"1.0\"}}", line.key);
            let error = feed.lines(line.table, &row).unwrap_err();
            assert_eq!(error, FeedError::Row { row: 1, fault: RowFault::NoAfter });
        }
    }
}

#[test]
fn a_row_has_the_same_key_whoever_says_it() {
    let file = file();
    let mut keys = 0;
    for case in cases(&file) {
        let name = text(&case["name"]);
        let mut feed = feed(case);
        for line in lines(case, "key_in_value") {
            if !line.value.starts_with("{\"after\": null, \"before\": {") {
                continue;
            }
            let scope = Scope::Topic(line.table.to_owned());
            let by_row = feed.rows(&scope, BodyKind::Lines, line.value).unwrap();
            let without = replace(line.value, "\"before\": ", "\"else\": ");
            let by_key = feed.rows(&scope, BodyKind::Lines, &without);
            if name.starts_with("hash sharded") {
                let fault = RowFault::KeyLength {
                    table: feed.catalog.table(by_row[0].mutation.table).name.clone(),
                    got: 2,
                    expected: 1,
                };
                assert_eq!(by_key, Err(FeedError::Row { row: 1, fault }));
                continue;
            }
            let by_key = by_key.unwrap();
            // Such a key is the bytes by which it sorts. Only a changefeed with diff can delete.
            let same = !name.contains("COLLATE") || !name.starts_with("key");
            assert_eq!(by_row[0].mutation.key == by_key[0].mutation.key, same, "{name}");
            keys += 1;
        }
    }
    assert!(keys > 100, "only {keys} keys");
}

#[test]
fn values_are_the_texts_that_both_servers_take() {
    let file = file();
    let mut values = 0;
    for case in cases(&file).filter(|case| text(&case["name"]).starts_with("value of type")) {
        let mut feed = feed(case);
        let scope = Scope::Topics;
        for line in lines(case, "topic_in_value") {
            let row = &feed.rows(&scope, BodyKind::Webhook, &payload(&[line.value])).unwrap()[0];
            let Some(image) = row.mutation.change.row() else { continue };
            let of_case = |cast: &&Value| {
                line.value.contains(&format!("\"v\": {}}}, \"before\"", text(&cast["json"])))
            };
            let Some(cast) = array(&case["cast_back_from_text"]).iter().find(of_case) else {
                continue;
            };
            // There the numbers in an object have become strings, by mistake.
            if text(&case["name"]).contains("GEOMETRY[]") {
                continue;
            }
            let (_, cell) = image.columns().nth(1).unwrap();
            let expected = text(&cast["text_for_cast"]).as_bytes();
            // Such a number may be part of a key, and so it has one form.
            if text(&case["name"]).ends_with("DECIMAL") && expected.contains(&b'E') {
                let Cell::Text(value) = cell else { panic!("{cell:?}") };
                assert!(!value.contains(&b'E') || value == expected, "{}", case["name"]);
                continue;
            }
            assert_eq!(cell, Cell::Text(expected), "{}", case["name"]);
            values += 1;
        }
    }
    assert!(values > 150, "only {values} values");
}

#[test]
fn promises_are_read_in_every_form() {
    let file = file();
    let mut promises = 0;
    let mut feed = Feed::new(TargetKind::Postgres, Vec::new());
    let mut check = |body: &str| {
        let message = feed.decoder.read(&Scope::Topics, BodyKind::Webhook, body.as_bytes());
        let Ok(Message::Resolved(time)) = message else { panic!("{message:?}") };
        assert!(body.contains(&time.to_string()), "{time} of {body}");
        assert!(Hlc::default() < time);
        promises += 1;
    };
    for form in array(&file["forms"]) {
        array(&form["resolved_lines"]).iter().for_each(|line| check(text(&line["value"])));
    }
    check(text(&file["webhook_examples"]["resolved"]));
    for case in array(&file["schema_changes_and_other_feeds"]) {
        for feed in array(&case["feeds"]) {
            let lines = array(&feed["output"]).iter().map(|line| text(&line["value"]));
            lines.filter(|line| line.starts_with("{\"resolved\"")).for_each(&mut check);
        }
    }
    assert!(promises > 30, "only {promises} promises");
}

#[test]
fn batches_of_many_tables_are_read() {
    let file = file();
    let examples = &file["webhook_examples"];
    let tables = |names: &[&str]| {
        let all = array(&file["cases"]).iter().flat_map(|case| tables(&case["ddl"]));
        all.filter(|table| names.contains(&table.name.table.as_str())).collect::<Vec<Table>>()
    };
    let mixed = || Feed::new(TargetKind::Postgres, tables(&["basic", "comp", "txp", "txc"]));
    let old = mixed().webhook(text(&examples["mixed_batch_22_1"])).unwrap();
    let new = mixed().webhook(text(&examples["mixed_batch_newer"])).unwrap();
    assert_eq!(old, new);
    let mut full = Feed::new(TargetKind::Postgres, tables(&["Mixed Case", "lower", "do.t"]));
    let full = full.webhook(text(&examples["full_table_name_batch_22_1"])).unwrap();
    insta::assert_snapshot!(format!("{}\n\n{}", old.join("\n"), full.join("\n")));
}

#[test]
fn schema_changes_are_survived_by_a_target_that_has_both_columns() {
    let file = file();
    let mut all = String::new();
    for case in array(&file["schema_changes_and_other_feeds"]) {
        let mut tables = tables(&case["ddl"]);
        // What the statements add, and a column that the server computes.
        for name in ["b", "a2"] {
            if tables[0].find_column(name).is_none() {
                tables[0].columns.push(column(name, "STRING"));
            }
        }
        if text(&case["name"]).starts_with("rename table") {
            let mut renamed = tables[0].clone();
            renamed.name.table = "rt2".to_owned();
            tables.push(renamed);
        }
        for answer in array(&case["feeds"]) {
            let mut feed = Feed::new(TargetKind::Cockroach, tables.clone());
            all.push_str(&format!("# {}: {}\n", text(&case["name"]), text(&answer["statement"])));
            for line in array(&answer["output"]) {
                let (topic, value) = (text(&line["topic_column"]), text(&line["value"]));
                if !topic.is_empty() {
                    let with_key =
                        replace(value, "{", &format!("{{\"key\": {}, ", text(&line["key"])));
                    let row = if value.contains("\"key\": ") { value } else { with_key.as_str() };
                    all.push_str(&(feed.lines(topic, row).unwrap().join("\n") + "\n"));
                }
            }
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn bodies_that_are_cut_off_are_refused() {
    let file = file();
    let body = text(&file["webhook_examples"]["mixed_batch_22_1"]);
    let all = array(&file["cases"]).iter().flat_map(|case| tables(&case["ddl"])).collect();
    let mut feed = Feed::new(TargetKind::Postgres, all);
    for len in 1..body.len() {
        let error = feed.webhook(&body[..len]).unwrap_err();
        let FeedError::Json { offset, fault } = error else { panic!("{error}") };
        assert!(offset <= len, "{offset} of {len}");
        assert!(matches!(fault, JsonFault::Short | JsonFault::Number), "{fault} at {len}");
    }
}
