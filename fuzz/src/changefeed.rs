//! The check of what changefeeds send by HTTP: bodies, and the paths of their URLs.
//!
//! A body begins with a byte that tells how it came. Decoders remember what rows look like, so the same
//! body is given to a new one and to one that has read it before: both must say the same.
use std::sync::Arc;

use replicator_core::decode::changefeed::{
    BodyKind, Changefeed, Endpoint, ErrorKind, FeedError, Limits, Message, Scope, TargetKind,
};
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::{Quoted, TableName};
use replicator_core::model::key::KeyKind;
use replicator_core::model::mutation::{Change, TimedMutation};
use replicator_core::model::row::Cell;
use replicator_core::model::time::Hlc;

use crate::text::texts;

const TARGETS: [TargetKind; 4] =
    [TargetKind::Postgres, TargetKind::Cockroach, TargetKind::MySql, TargetKind::Oracle];

/// Longer paths are refused.
const PATH_BYTES_MAX: usize = 4096;

/// Reads a body; returns how many rows and promises it has.
///
/// # Panics
///
/// A row is not what it says it is, or depends on what was read before.
pub(crate) fn changefeed(input: &[u8]) -> usize {
    let Some((way, body)) = input.split_first() else { return 0 };
    let target = TARGETS[usize::from(way >> 4) % TARGETS.len()];
    let (scope, kind) = match way & 3 {
        0 => (Scope::Topics, BodyKind::Webhook),
        1 => (Scope::Query("t".to_owned()), BodyKind::Webhook),
        2 => (Scope::Topic("t".to_owned()), BodyKind::Lines),
        _ => (Scope::Query("u".to_owned()), BodyKind::Lines),
    };
    let catalog = catalog();
    let limits = Limits { rows_max: 1_000, ..Limits::default() };
    let new = || Changefeed::new(Arc::clone(&catalog), "public".to_owned(), target, limits);
    let mut used = new();
    let first = read(&mut used, &scope, kind, body);
    assert_eq!(read(&mut used, &scope, kind, body), first, "read again, it is something else");
    let read = match first {
        Err(error) => {
            assert!(!error.public().is_empty() && error.kind() != ErrorKind::NotFound, "{error}");
            return 0;
        }
        Ok(read) => read,
    };
    for row in &read.rows {
        check_row(&catalog, row);
    }
    read.rows.len() + usize::from(read.promise.is_some())
}

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    rows: Vec<TimedMutation>,
    promise: Option<Hlc>,
}

fn read(
    feed: &mut Changefeed,
    scope: &Scope,
    kind: BodyKind,
    body: &[u8],
) -> Result<Read, FeedError> {
    match feed.read(scope, kind, body)? {
        Message::Rows(rows) => {
            let rows = rows.collect::<Result<Vec<TimedMutation>, FeedError>>()?;
            Ok(Read { rows, promise: None })
        }
        Message::Resolved(time) => Ok(Read { rows: Vec::new(), promise: Some(time) }),
    }
}

fn check_row(catalog: &Catalog, row: &TimedMutation) {
    assert!(Hlc::default() < row.time, "nothing was committed at the beginning of time");
    assert_eq!(row.time.to_string().parse(), Ok(row.time), "a time is printed as another");
    let table = catalog.table(row.mutation.table);
    let image = match &row.mutation.change {
        Change::Upsert(image) => image,
        Change::Delete(image) => {
            let columns: Vec<u16> = image.columns().map(|(column, _)| column).collect();
            assert_eq!(columns, table.key, "a row that is gone has its key alone");
            image
        }
        Change::Insert(_) | Change::Update(_) | Change::Move { .. } | Change::Truncate => {
            panic!("no changefeed says {:?}", row.mutation.change)
        }
    };
    assert_eq!(table.key_of(image).as_ref(), Ok(&row.mutation.key), "another key");
    let mut seen = Vec::new();
    for (column, cell) in image.columns() {
        assert!(!seen.contains(&column), "column {column} came twice");
        assert!(table.column(column).made != Made::Generated, "a generated column is written");
        assert!(!table.key.contains(&column) || cell != Cell::Null, "a key is NULL");
        match cell {
            Cell::Text(text) => assert!(std::str::from_utf8(text).is_ok(), "no text"),
            Cell::Null => (),
            Cell::Unchanged | Cell::Binary(_) => panic!("no changefeed says {cell:?}"),
        }
        seen.push(column);
    }
}

/// `t(id, v, b, a, j, d, g)`, keyed by `id`; `u(x, y)`, keyed by both.
fn catalog() -> Arc<Catalog> {
    let column = |(name, cast, kind, wire): &(&str, &str, KeyKind, Wire)| Column {
        name: (*name).to_owned(),
        cast: (*cast).to_owned(),
        kind: *kind,
        wire: *wire,
        nullable: true,
        made: if *name == "g" { Made::Generated } else { Made::Written },
        has_default: false,
    };
    let table = |name: &str, columns: &[(&str, &str, KeyKind, Wire)], key: &[u16]| Table {
        name: TableName::new("public", name),
        columns: columns.iter().map(column).collect(),
        key: key.to_vec(),
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    };
    let of_t = [
        ("id", "int8", KeyKind::Int, Wire::Int8),
        ("v", "text", KeyKind::Exact, Wire::Text),
        ("b", "bytea", KeyKind::Exact, Wire::Text),
        ("a", "text[]", KeyKind::Loose, Wire::Text),
        ("j", "jsonb", KeyKind::Loose, Wire::Text),
        ("d", "timestamp", KeyKind::Exact, Wire::Text),
        ("g", "int8", KeyKind::Int, Wire::Int8),
    ];
    let of_u = [
        ("x", "numeric", KeyKind::Numeric, Wire::Text),
        ("y", "\"public\".\"mood\"", KeyKind::Loose, Wire::Text),
    ];
    Arc::new(Catalog::new(vec![table("t", &of_t, &[0]), table("u", &of_u, &[1, 0])], &[]))
}

/// Hand-made bodies, the first byte in front of each.
pub(crate) fn changefeed_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let all = r#""b": "\\x00ff", "a": ["x", null, "\"\\"], "j": {"k": [1.50, {}]},
        "d": "-0043-03-15T12:00:00", "g": 1"#;
    let payload = |way: u8, rows: &[&str]| {
        let body = format!("{{\"payload\":[{}],\"length\":{}}}", rows.join(","), rows.len());
        [&[way], body.as_bytes()].concat()
    };
    let plain = |way: u8, body: &str| [&[way], body.as_bytes()].concat();
    let t = r#"{"after": {"id": 1, "v": "é\ud83d\ude00\n"}, "key": [1], "topic": "t", "updated": "1.0"}"#;
    let every = format!(r#"{{"after": {{"id": 2, {all}}}, "topic": "d.s.t", "updated": "1.0"}}"#);
    let u = r#"{"after": {"x": 1E+2, "y": "sad"}, "topic": "u", "mvcc_timestamp": "2.0000000001"}"#;
    let gone =
        r#"{"after": null, "before": null, "key": ["a", 100], "topic": "u", "updated": "3.0"}"#;
    let diff = r#"{"after": null, "before": {"id": 7, "other": []}, "updated": "1.0"}"#;
    let bare = r#"{"__crdb__": {"updated": "1.0"}, "__event__": "delete", "id": 1, "v": null}"#;
    let enriched = r#"{"payload": {"after": {"id": 1}, "op": "u", "source": {"ts_hlc": "5.0",
        "table_name": "t"}}, "schema": {}}"#;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let documents = |depth: usize| {
        format!(r#"{{"after":{{"id":1,"j":{}}},"topic":"t","updated":"1.0"}}"#, deep(depth))
    };
    let mut cut_short = payload(0, &[t, u]);
    cut_short.truncate(cut_short.len() - 20);
    vec![
        ("empty", Vec::new()),
        ("cut-short", cut_short),
        ("largest", payload(0, &[documents(1_000).as_str()].repeat(40))),
        ("rows", payload(0, &[t, &every, u, gone, t])),
        ("rows-cockroachdb", payload(0x10, &[t, &every, u, gone, t])),
        ("rows-oracle", payload(0x30, &[&t.replace("\"t\"", "\"T\"").replace("\"id\"", "\"ID\"")])),
        ("query", payload(1, &[t, diff, bare, r#"{"after":null,"before":null,"updated":"1.0"}"#])),
        ("lines", plain(2, &format!("{t}\n\n{every}\r\n{t}\n{}", diff.replace("id", "\\u0069d")))),
        ("query-lines", plain(3, &format!("{u}\n{u}"))),
        ("enriched", payload(0, &[enriched])),
        ("promise", plain(0, "{\"resolved\":\"1795327829034804424.2147483647\"}")),
        ("promise-bare", plain(0, "{\"__crdb__\": {\"resolved\": \"1.0\"}}")),
        ("refused-deep", payload(0, &[documents(10_000).as_str()])),
        ("refused-twice", payload(0, &[r#"{"after":null,"after":null}"#])),
        ("refused-both", plain(0, "{\"payload\":[],\"resolved\":\"1.0\"}")),
        (
            "refused-column",
            payload(0, &[r#"{"after":{"id":1,"z":1},"topic":"t","updated":"1.0"}"#]),
        ),
        (
            "refused-surrogate",
            payload(0, &[r#"{"after":{"id":1,"v":"\ud800"},"topic":"t","updated":"1.0"}"#]),
        ),
    ]
}

/// Reads the path of a URL, for every kind of target; returns for how many it means something.
///
/// # Panics
///
/// Something is taken for a name that is none, or a path that means the same does not.
pub(crate) fn webhook_path(input: &[u8]) -> usize {
    let Ok(path) = std::str::from_utf8(input) else { return 0 };
    let read = |target: &TargetKind| {
        let endpoint = match Endpoint::parse(*target, path) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                return false;
            }
            Ok(endpoint) => endpoint,
        };
        let of_schema = endpoint.schema.database.iter().chain([&endpoint.schema.schema]);
        let mut names: Vec<&String> = of_schema.collect();
        assert_eq!(names.len(), target.schema_parts(), "a schema of other parts");
        if let Scope::Query(name) | Scope::Topic(name) = &endpoint.scope {
            names.push(name);
        }
        for name in names {
            assert!(!name.is_empty() && !name.contains(char::is_control), "{name:?} is no name");
            assert!(path.len() >= name.len(), "{name:?} is longer than its path");
        }
        if let Some(same) = written(&endpoint) {
            assert_eq!(Endpoint::parse(*target, &same).as_ref(), Ok(&endpoint), "{same}");
        }
        true
    };
    TARGETS.iter().filter(|target| read(target)).count()
}

/// A path that means this; `None` if it would be too long, or is a promise, which writes its time in
/// another way.
fn written(endpoint: &Endpoint) -> Option<String> {
    let mut path = String::new();
    let of_schema = endpoint.schema.database.iter().chain([&endpoint.schema.schema]);
    let table = match &endpoint.scope {
        Scope::Query(table) => Some(table),
        Scope::Topics | Scope::Topic(_) => None,
    };
    for name in of_schema.chain(table) {
        path.push('/');
        path.push_str(&encoded(&Quoted(name).to_string()));
    }
    let topic = match (&endpoint.scope, endpoint.body) {
        (_, BodyKind::Resolved(_)) => return None,
        (_, BodyKind::Webhook) => return Some(path).filter(|path| path.len() <= PATH_BYTES_MAX),
        (Scope::Topic(topic), BodyKind::Lines) => topic.as_str(),
        (Scope::Query(_) | Scope::Topics, BodyKind::Lines) => "any",
    };
    let path = format!("{path}/2024-05-22/1-2-3-4-5-{}-6.ndjson", encoded(topic));
    (path.len() <= PATH_BYTES_MAX).then_some(path)
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Hand-made paths.
pub(crate) fn webhook_path_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = texts(&[
        ("empty", ""),
        ("cut-short", "/migration_db/migration_schema/t%2"),
        ("webhook", "/migration_db/migration_schema"),
        ("webhook-one-part", "/MIGRATION_SCHEMA"),
        ("query", "/d/s/t"),
        (
            "file",
            "/d/s/2024-05-22/202405221234567890123450000000000-fd2c-1-2-00000003-my-t-1.ndjson",
        ),
        (
            "file-of-a-query",
            "/d/s/t/2024-05-22/202405221234567890123450000000000-a-1-2-3-x-1.ndjson",
        ),
        ("promise", "/d/2024-05-22/202405221234567890123450000000007.RESOLVED"),
        ("promise-of-a-query", "/d/s/t/2024-05-22/202405221234567890123450000000007.RESOLVED"),
        ("slash-in-a-name", "/d/s/a%2Fb"),
        ("escaped-twice", "/d/s/a%252Fb"),
        ("quoted", "//d/%22My%20%22%22odd%22%22.schema%22/\u{e4}+b/"),
        ("refused-step", "/d/%2e%2e"),
        ("refused-nul", "/d/s%00"),
        ("refused-overlong", "/d/%c0%af"),
        ("refused-reserved", "/_/diag"),
        ("refused-query", "/d/s?access_token=x"),
    ]);
    let name = "%22".to_owned() + &"%22%22".repeat(300) + "%22";
    all.push(("largest", format!("/{name}/{name}").into_bytes()));
    all
}
