//! Published tables against a target catalog, without a server.
use replicator_core::dialect::Product;
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;

use super::{Expected, tables};
use crate::preflight::finding::Findings;
use crate::preflight::source::{
    Carrier, CarrierIndex, Identity, PublicationFacts, PublishedColumn, PublishedTable,
};

const NOTHING_WRONG: &str = "preflight found nothing wrong";

fn publication() -> PublicationFacts {
    PublicationFacts {
        name: "pub".to_owned(),
        all_tables: false,
        inserts: true,
        updates: true,
        deletes: true,
        truncates: true,
        tables: 1,
    }
}

fn published_column(name: &str) -> PublishedColumn {
    PublishedColumn {
        name: name.to_owned(),
        type_text: "character varying(5)".to_owned(),
        not_null: name == "id",
        generated: false,
        sent: true,
    }
}

fn index(name: &str, columns: &[&str]) -> CarrierIndex {
    CarrierIndex {
        name: name.to_owned(),
        primary: name == "pk",
        identity: false,
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
    }
}

/// Table `src.t` with the columns given and a primary key on `id`.
fn source(columns: &[&str]) -> PublishedTable {
    let name = TableName::new("src", "t");
    let indexes = vec![index("pk", &["id"])];
    PublishedTable {
        name: name.clone(),
        columns: columns.iter().map(|column| published_column(column)).collect(),
        carriers: vec![Carrier { name, identity: Identity::Default, indexes }],
    }
}

fn target_column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        cast: "varchar".to_owned(),
        kind: KeyKind::Exact,
        wire: Wire::Text,
        nullable: name != "id",
        made: Made::Written,
        has_default: false,
    }
}

/// Table `dst.t` with the columns given and the key on the first.
fn target(columns: &[&str]) -> Table {
    Table {
        name: TableName::new("dst", "t"),
        columns: columns.iter().map(|column| target_column(column)).collect(),
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

fn check_on(product: Product, sources: &[PublishedTable], targets: Vec<Table>) -> String {
    let catalog = Catalog::new(targets, &[]);
    let expected = Expected { catalog: &catalog, product, schema: "dst" };
    let mut findings = Vec::new();
    tables(&publication(), sources, expected, &mut findings);
    Findings::new(findings).to_string()
}

fn check(source: PublishedTable, target: Table) -> String {
    check_on(Product::Postgres, &[source], vec![target])
}

#[test]
fn tables_that_fit_have_no_findings() {
    assert_eq!(check(source(&["id", "a"]), target(&["id", "a"])), NOTHING_WRONG);
    // The target may have more, as long as rows can do without.
    assert_eq!(check(source(&["id"]), target(&["id", "a"])), NOTHING_WRONG);
}

#[test]
fn a_missing_table_comes_with_its_definition() {
    let text = check_on(Product::Postgres, &[source(&["id", "a"])], Vec::new());
    assert!(text.contains("table \"dst\".\"t\" does not exist on the target\n"), "{text}");
    let fix = "CREATE TABLE \"dst\".\"t\" (\"id\" character varying(5) NOT NULL, \
               \"a\" character varying(5), PRIMARY KEY (\"id\"));";
    assert!(text.contains(fix), "{text}");
}

#[test]
fn w26_a_table_of_another_case_is_not_the_table() {
    let other = Table { name: TableName::new("dst", "T"), ..target(&["id"]) };
    let text = check(source(&["id"]), other);
    assert!(text.contains("names are compared exactly, and it has \"T\""), "{text}");
}

#[test]
fn w42_tables_of_two_schemas_with_one_name_clash() {
    let second = PublishedTable { name: TableName::new("other", "t"), ..source(&["id"]) };
    let text = check_on(Product::Postgres, &[source(&["id"]), second], vec![target(&["id"])]);
    assert!(text.contains("\"src\".\"t\", \"other\".\"t\" would all be written"), "{text}");
}

#[test]
fn unexpected_columns_are_named_and_can_be_added() {
    let text = check(source(&["id", "a", "B"]), target(&["id", "b"]));
    assert!(text.contains("unexpected columns on the source: \"a\", \"B\""), "{text}");
    let fix = "ALTER TABLE \"dst\".\"t\" ADD COLUMN \"B\" character varying(5);";
    assert!(text.contains(fix), "{text}");
}

#[test]
fn an_unsent_column_is_not_unexpected() {
    let mut source = source(&["id", "a"]);
    source.columns[1].sent = false;
    assert_eq!(check(source, target(&["id"])), NOTHING_WRONG);
}

#[test]
fn columns_the_target_cannot_do_without_are_missing() {
    let mut target = target(&["id", "a", "b", "c"]);
    for column in [1, 2, 3] {
        target.columns[column].nullable = false;
    }
    target.columns[2].has_default = true;
    target.columns[3].made = Made::Generated;
    let text = check(source(&["id"]), target);
    assert!(text.contains("have no default: \"a\"\n"), "{text}");
    assert!(text.contains("ALTER TABLE \"dst\".\"t\" ALTER COLUMN \"a\" DROP NOT NULL;"), "{text}");
}

#[test]
fn a_target_without_a_key_gets_that_of_the_source() {
    let text = check(source(&["id"]), Table { key: Vec::new(), ..target(&["id"]) });
    assert!(text.contains("has no usable key"), "{text}");
    assert!(text.contains("ALTER TABLE \"dst\".\"t\" ADD PRIMARY KEY (\"id\");"), "{text}");
}

#[test]
fn a_key_that_is_not_sent_is_an_error() {
    let mut made_there = target(&["k", "id"]);
    made_there.columns[0].has_default = true;
    let text = check(source(&["id"]), made_there);
    assert!(text.contains("key columns whose values the source does not send: \"k\""), "{text}");
}

#[test]
fn no_replica_identity_is_a_warning() {
    for identity in [Identity::Nothing, Identity::Default, Identity::Index] {
        let mut source = source(&["id"]);
        source.carriers[0].identity = identity;
        source.carriers[0].indexes.clear();
        let text = check(source, target(&["id"]));
        assert!(text.contains("warning: \"src\".\"t\" has no replica identity"), "{text}");
        assert!(text.contains("ALTER TABLE \"src\".\"t\" REPLICA IDENTITY FULL;"), "{text}");
    }
}

#[test]
fn a_replica_identity_is_put_right_with_what_there_is() {
    let mut nothing = source(&["id"]);
    nothing.carriers[0].identity = Identity::Nothing;
    let text = check(nothing, target(&["id"]));
    assert!(text.contains("REPLICA IDENTITY DEFAULT;"), "{text}");

    let mut other = source(&["id", "k"]);
    other.carriers[0].indexes.push(index("by \"k", &["k"]));
    let text = check(other, target(&["k", "id"]));
    assert!(text.contains("lacks columns of the target's key"), "{text}");
    assert!(text.contains("REPLICA IDENTITY USING INDEX \"by \"\"k\";"), "{text}");

    let text = check(source(&["id", "k"]), target(&["k", "id"]));
    assert!(text.contains("error:") && text.contains("REPLICA IDENTITY FULL;"), "{text}");
}

#[test]
fn a_full_replica_identity_covers_every_key() {
    let mut source = source(&["id", "k"]);
    source.carriers[0].identity = Identity::Full;
    assert_eq!(check(source, target(&["k", "id"])), NOTHING_WRONG);
}

#[test]
fn every_partition_answers_for_its_rows() {
    let mut source = source(&["id"]);
    let mut partition = source.carriers[0].clone();
    partition.name = TableName::new("src", "t_1");
    partition.identity = Identity::Nothing;
    source.carriers.push(partition);
    let text = check(source, target(&["id"]));
    assert!(text.contains("1 warning"), "{text}");
    assert!(text.contains("ALTER TABLE \"src\".\"t_1\" REPLICA IDENTITY DEFAULT;"), "{text}");
}

#[test]
fn a_column_list_must_hold_the_replica_identity() {
    let mut source = source(&["id", "a"]);
    source.carriers[0].identity = Identity::Full;
    source.columns[1].sent = false;
    let text = check(source, target(&["id", "a"]));
    assert!(text.contains("does not publish columns of the replica identity"), "{text}");
    assert!(text.contains("ALTER PUBLICATION \"pub\" ADD TABLE \"src\".\"t\";"), "{text}");
}

#[test]
fn where_only_inserts_are_published_old_rows_do_not_matter() {
    let mut source = source(&["id"]);
    source.carriers[0].identity = Identity::Nothing;
    let catalog = Catalog::new(vec![target(&["id"])], &[]);
    let expected = Expected { catalog: &catalog, product: Product::Postgres, schema: "dst" };
    let publication = PublicationFacts { updates: false, deletes: false, ..publication() };
    let mut findings = Vec::new();
    tables(&publication, &[source], expected, &mut findings);
    assert_eq!(findings, []);
}

#[test]
fn w28_an_always_identity_is_written_on_postgresql_and_refused_on_cockroachdb() {
    let mut target = target(&["id", "a"]);
    target.columns[0].made = Made::IdentityAlways;
    let sources = [source(&["id", "a"])];
    assert_eq!(check_on(Product::Postgres, &sources, vec![target.clone()]), NOTHING_WRONG);
    let text = check_on(Product::Cockroach, &sources, vec![target]);
    let fix = "ALTER TABLE \"dst\".\"t\" ALTER COLUMN \"id\" SET GENERATED BY DEFAULT;";
    assert!(text.contains(fix), "{text}");
}

#[test]
fn a_computed_column_that_is_plain_on_the_target_is_a_warning() {
    let mut source = source(&["id", "sum"]);
    source.columns[1].generated = true;
    source.columns[1].sent = false;
    let text = check(source.clone(), target(&["id", "sum"]));
    assert!(text.contains("will stay empty: \"sum\""), "{text}");
    let mut computed = target(&["id", "sum"]);
    computed.columns[1].made = Made::Generated;
    assert_eq!(check(source, computed), NOTHING_WRONG);
}
