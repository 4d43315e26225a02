//! The product's own adapters against the pretend server.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::{SchemaName, TableName};
use replicator_core::model::mutation::{
    ApplyBatch, ApplyOrder, ApplyRequest, Change, Mutation, Piece, TxEnd,
};
use replicator_core::model::position::{Lsn, Position, TxSeq};
use replicator_core::model::row::{Cell, Layout, Row, RowBuilder};
use replicator_core::{Durable, Failure};
use replicator_io::port::{Fence, Staging as _, Target as _};
use replicator_io::preflight::{self, Options, StagingOptions, TargetOptions};
use replicator_io::staging::pg_store::PgStore;
use replicator_io::staging::schema::{StagingName, prepare};
use replicator_io::target::pgwire::{PgTarget, PgTargetOptions};
use replicator_io::target::record::Record;
use replicator_io::target::{catalog, product};
use sim::cluster::sql::{Loss, PUBLICATION};
use sim::schema::{Tuple, schema};

use super::fixture::Pretend;

/// A target with its staging, and the adapters on it.
struct Bench {
    pretend: Pretend,
    catalog: Arc<Catalog>,
    store: PgStore<Pretend>,
    target: PgTarget<Pretend>,
}

const LETTERS: &str = "CREATE TABLE replicator_dlq (event UUID DEFAULT gen_random_uuid() PRIMARY KEY, \
    dlq_name TEXT NOT NULL, source_nanos INT8 NOT NULL, source_logical INT8 NOT NULL, \
    data_after JSONB NOT NULL, data_before JSONB NOT NULL)";

fn staging() -> StagingName {
    StagingName { database: None, schema: "_replicator".to_owned() }
}

impl Bench {
    async fn new() -> Self {
        let pretend = Pretend::target();
        pretend.server.run(LETTERS).unwrap();
        let session = pretend.session().await;
        let client = session.client();
        prepare(client, &staging(), true).await.unwrap();
        let (product, limit) = (Product::Postgres, Duration::from_secs(10));
        let store = PgStore::pglogical(pretend.pool(), product, &staging(), "public", limit);
        let catalog = Arc::new(catalog::load(client, product, "public").await.unwrap());
        let options = PgTargetOptions {
            dialect: Dialect { product, database: "app".to_owned() },
            catalog: Arc::clone(&catalog),
            record: Some(Record::in_staging(store.record_names(), product, None)),
            apply_timeout: limit,
            dead_letters: Some(TableName::new("public", "replicator_dlq")),
        };
        let target = PgTarget::new(pretend.pool(), options);
        Self { pretend, catalog, store, target }
    }

    fn row(&self, table: &str, cells: &[Option<&str>]) -> Row {
        let table = self.catalog.find(&TableName::new("public", table)).unwrap();
        let columns = (0_u16..).map(Some).take(cells.len()).collect();
        let mut builder = RowBuilder::new();
        for cell in cells {
            builder.push(match cell {
                None => Cell::Null,
                Some("?") => Cell::Unchanged,
                Some(text) => Cell::Text(text.as_bytes()),
            });
        }
        builder.finish(Arc::new(Layout { table, columns })).unwrap()
    }

    fn mutation(&self, table: &str, cells: &[Option<&str>], change: fn(Row) -> Change) -> Mutation {
        let row = self.row(table, cells);
        let id = self.catalog.find(&TableName::new("public", table)).unwrap();
        let key = self.catalog.table(id).key_of(&row).unwrap();
        Mutation { table: id, key, change: change(row) }
    }

    fn rows(&self, table: &str) -> Vec<Tuple> {
        self.pretend.server.rows(schema().id(table)).into_values().collect()
    }
}

/// A batch of one transaction, number `seq`.
fn request(seq: u64, mutations: Vec<Mutation>) -> ApplyRequest {
    let lsn = |seq: u64| Position::Lsn(Lsn(seq * 16));
    let (first, position) = (TxSeq(seq), lsn(seq));
    let ends = vec![TxEnd { seq: first, position, before: mutations.len() }];
    let batch = ApplyBatch {
        first,
        last: first,
        after: Some(lsn(seq - 1)),
        position,
        committed: None,
        piece: Piece::Whole,
        mutations,
        ends,
    };
    ApplyRequest { batch: Arc::new(batch), order: ApplyOrder::Source, dead: Vec::new() }
}

#[tokio::test]
async fn the_product_reads_the_simulated_schema_as_it_is() {
    let pretend = Pretend::target();
    let session = pretend.session().await;
    let server = product::detect(session.client()).await.unwrap();
    assert_eq!(server.product, Product::Postgres);
    let found = catalog::load(session.client(), Product::Postgres, "public").await.unwrap();
    assert_eq!(found.tables().count(), schema().catalog.tables().count());
    for ((_, found), (_, made)) in found.tables().zip(schema().catalog.tables()) {
        let columns = |table: &replicator_core::model::catalog::Table| {
            let facts = table.columns.iter();
            facts.map(|column| (column.name.clone(), column.nullable)).collect::<Vec<_>>()
        };
        let uniques = |table: &replicator_core::model::catalog::Table| {
            table.uniques.iter().map(|unique| unique.columns.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found.name, made.name);
        assert_eq!(columns(found), columns(made));
        assert_eq!(found.key, made.key);
        assert_eq!(uniques(found), uniques(made));
        assert_eq!(found.foreign_keys, made.foreign_keys);
        assert_eq!(found.nets(), made.nets(), "{}", made.name);
    }
}

#[tokio::test]
async fn a_preflight_finds_nothing_that_stands_in_the_way() {
    let (source, target) = (Pretend::source(), Pretend::target());
    let (from, to) = (source.session().await, target.session().await);
    let options = Options {
        slot: "slot".to_owned(),
        publication: None,
        target: TargetOptions {
            schema: SchemaName { database: None, schema: "public".to_owned() },
            staging: Some(StagingOptions { name: staging(), create: true }),
            answer_limit: Duration::from_secs(5),
        },
    };
    let report =
        preflight::run(from.client(), to.client(), Product::Postgres, &options).await.unwrap();
    let facts = report.facts.unwrap_or_else(|| panic!("{}", report.findings));
    assert_eq!(facts.publication, PUBLICATION);
    assert_eq!(facts.confirmed_flush, Lsn(0x100));
    assert_eq!(facts.source_version, "PostgreSQL 17.10");
    assert_eq!(facts.catalog.tables().count(), schema().catalog.tables().count());

    let missing = Options { slot: "other".to_owned(), ..options };
    let report =
        preflight::run(from.client(), to.client(), Product::Postgres, &missing).await.unwrap();
    assert!(report.facts.is_none());
    assert!(report.findings.to_string().contains("does not exist"), "{}", report.findings);
}

#[tokio::test]
async fn staging_is_made_once_and_remembers() {
    let bench = Bench::new().await;
    let session = bench.pretend.session().await;
    prepare(session.client(), &staging(), false).await.unwrap();
    let marks = bench.pretend.server.table(&TableName::new("_replicator", "memo")).unwrap();
    assert_eq!(marks.len(), 4);

    assert_eq!(bench.store.identity().await.unwrap(), None);
    bench.store.save_identity("who").await.unwrap();
    assert_eq!(bench.store.identity().await.unwrap().as_deref(), Some("who"));
    let (fence, durable) = bench.store.begin().await.unwrap();
    assert_eq!((fence, durable), (Fence(1), Durable::default()));
    bench.store.save_checkpoint(fence, Position::Lsn(Lsn(0x20))).await.unwrap();
    let (second, durable) = bench.store.begin().await.unwrap();
    assert_eq!((second, durable.checkpoint), (Fence(2), Some(Position::Lsn(Lsn(0x20)))));
    let late = bench.store.save_checkpoint(fence, Position::Lsn(Lsn(0x30))).await;
    assert_eq!(late, Err(Failure::Fenced));
    assert!(bench.pretend.server.run(&bench.store.forget_sql()).is_ok());
    assert_eq!(bench.store.begin().await.unwrap().1, Durable::default());
}

#[tokio::test]
async fn a_batch_is_applied_with_its_record_in_one_commit() {
    let bench = Bench::new().await;
    let (fence, _) = bench.store.begin().await.unwrap();
    let before = bench.pretend.server.commit_count();
    let mutations = vec![
        bench.mutation("parent", &[Some("1"), None, Some("1")], Change::Insert),
        bench.mutation("child", &[Some("5"), Some("1"), Some("7"), Some("2")], Change::Upsert),
        bench.mutation("child", &[Some("6"), None, None, Some("3")], Change::Insert),
        bench.mutation("child", &[Some("5"), Some("?"), Some("8"), Some("4")], Change::Update),
        bench.mutation("child", &[Some("6"), None, None, Some("5")], Change::Delete),
        bench.mutation("odd", &[Some("1"), Some("2"), Some("6")], Change::Upsert),
        bench.mutation("pair", &[Some("1"), Some("2"), None, Some("7")], Change::Upsert),
        bench.mutation("pair", &[Some("1"), Some("2"), None, Some("8")], Change::Delete),
    ];
    bench.target.apply(fence, request(1, mutations)).await.unwrap();
    assert_eq!(bench.rows("parent"), [[Some(1), None, Some(1)]]);
    assert_eq!(bench.rows("child"), [[Some(5), Some(1), Some(8), Some(4)]]);
    assert_eq!(bench.rows("odd"), [[Some(1), Some(2), Some(6)]]);
    assert!(bench.rows("pair").is_empty());

    let commits = bench.pretend.server.commits_since(before);
    assert_eq!(commits.len(), 1);
    let changed: Vec<_> = commits[0].changes.iter().filter_map(|row| row.simulated()).collect();
    let child = (schema().id("child"), vec![Some(5)]);
    assert!(
        changed
            .iter()
            .any(|(table, key, old, _)| { (*table, key.clone()) == child && old.is_none() })
    );
    assert!(commits[0].changes.iter().any(|row| row.table.table == "replicator_applied"));

    let (_, durable) = bench.store.begin().await.unwrap();
    assert_eq!(durable.applied.len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_in_already_is_not_applied_again_and_a_dead_runs_not_at_all() {
    let bench = Bench::new().await;
    let (fence, _) = bench.store.begin().await.unwrap();
    let put =
        |a| vec![bench.mutation("plain", &[Some("1"), Some(a), None, Some("1")], Change::Upsert)];
    bench.target.apply(fence, request(1, put("5"))).await.unwrap();
    bench.target.apply(fence, request(1, put("6"))).await.unwrap();
    assert_eq!(bench.rows("plain"), [[Some(1), Some(5), None, Some(1)]]);

    bench.store.begin().await.unwrap();
    assert_eq!(bench.target.apply(fence, request(2, put("7"))).await, Err(Failure::Fenced));
    assert_eq!(bench.rows("plain"), [[Some(1), Some(5), None, Some(1)]]);
}

#[tokio::test]
async fn many_new_rows_are_copied() {
    let bench = Bench::new().await;
    let (fence, _) = bench.store.begin().await.unwrap();
    let rows: Vec<[String; 2]> = (0..150).map(|n| [n.to_string(), (n + 1).to_string()]).collect();
    let insert = |[id, v]: &[String; 2]| {
        bench.mutation("plain", &[Some(id), None, None, Some(v)], Change::Insert)
    };
    let mutations = |rows: &[[String; 2]]| rows.iter().map(insert).collect::<Vec<_>>();
    let copied = ApplyRequest { order: ApplyOrder::Netted, ..request(1, mutations(&rows)) };
    bench.target.apply(fence, copied).await.unwrap();
    assert_eq!(bench.rows("plain").len(), 150);
    // One of them is there already.
    let again = ApplyRequest { order: ApplyOrder::Netted, ..request(2, mutations(&rows[..120])) };
    let refused = bench.target.apply(fence, again).await;
    assert!(matches!(refused, Err(Failure::Constraint { .. })), "{refused:?}");
    bench.target.apply(fence, request(3, Vec::new())).await.unwrap();
}

#[tokio::test]
async fn what_the_target_refuses_is_told_by_its_class() {
    let bench = Bench::new().await;
    bench.pretend.server.set_strict(true);
    let (fence, _) = bench.store.begin().await.unwrap();
    let orphan = bench.mutation("child", &[Some("1"), Some("9"), None, Some("1")], Change::Upsert);
    let refused = bench.target.apply(fence, request(1, vec![orphan])).await;
    assert!(
        matches!(&refused, Err(Failure::Constraint { detail, at: Some(_) })
        if detail.contains("23503") && detail.contains("child_parent")),
        "{refused:?}"
    );

    let negative =
        bench.mutation("plain", &[Some("1"), Some("-9"), None, Some("1")], Change::Upsert);
    let refused = bench.target.apply(fence, request(1, vec![negative.clone()])).await;
    assert!(matches!(&refused, Err(Failure::Rejected { detail, .. }) if detail.contains("23514")));

    let missing = bench.mutation("plain", &[Some("1"), Some("?"), None, Some("1")], Change::Update);
    let refused = bench.target.apply(fence, request(1, vec![missing])).await;
    assert!(
        matches!(&refused, Err(Failure::Rejected { detail, .. }) if detail.contains("missing"))
    );

    let kept = ApplyRequest { dead: vec![0], ..request(1, vec![negative]) };
    bench.target.apply(fence, kept).await.unwrap();
    let letters = bench.pretend.server.table(&TableName::new("public", "replicator_dlq")).unwrap();
    assert_eq!(letters.len(), 1);
    assert!(bench.rows("plain").is_empty());
}

#[tokio::test]
async fn a_key_is_moved_and_a_cycle_closed_at_the_commit() {
    let bench = Bench::new().await;
    let (fence, _) = bench.store.begin().await.unwrap();
    let late = bench.mutation("late", &[Some("1"), Some("2"), Some("1")], Change::Upsert);
    let parent = bench.mutation("parent", &[Some("2"), None, Some("2")], Change::Upsert);
    bench.target.apply(fence, request(1, vec![late.clone(), parent])).await.unwrap();
    assert_eq!(bench.rows("late").len(), 1);

    let (from, to) = (
        bench.row("plain", &[Some("1"), None, None, Some("3")]),
        bench.row("plain", &[Some("4"), Some("?"), None, Some("4")]),
    );
    let plain = bench.mutation("plain", &[Some("1"), Some("8"), None, Some("3")], Change::Upsert);
    let moved = Mutation { change: Change::Move { from, to }, ..plain.clone() };
    bench.target.apply(fence, request(2, vec![plain, moved])).await.unwrap();
    assert_eq!(bench.rows("plain"), [[Some(4), Some(8), None, Some(4)]]);
}

#[tokio::test]
async fn an_update_that_sent_nothing_but_the_key_finds_its_row() {
    let bench = Bench::new().await;
    let (fence, _) = bench.store.begin().await.unwrap();
    let put = bench.mutation("plain", &[Some("1"), Some("8"), None, Some("3")], Change::Upsert);
    bench.target.apply(fence, request(1, vec![put])).await.unwrap();
    let unsent = [Some("1"), Some("?"), Some("?"), Some("?")];
    let update = bench.mutation("plain", &unsent, Change::Update);
    bench.target.apply(fence, request(2, vec![update])).await.unwrap();
    let missing = [Some("2"), Some("?"), Some("?"), Some("?")];
    let update = bench.mutation("plain", &missing, Change::Update);
    let refused = bench.target.apply(fence, request(3, vec![update])).await;
    assert!(matches!(refused, Err(Failure::Rejected { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_lost_answer_leaves_the_outcome_to_be_found_in_the_record() {
    for (loss, commits) in [(Loss::BeforeCommit, 0), (Loss::AfterCommit, 1)] {
        let bench = Bench::new().await;
        let (fence, _) = bench.store.begin().await.unwrap();
        let row = bench.mutation("plain", &[Some("1"), None, None, Some("1")], Change::Upsert);
        bench.pretend.knobs.lose_commit(loss);
        let outcome = bench.target.apply(fence, request(1, vec![row.clone()])).await;
        assert!(matches!(outcome, Err(Failure::OutcomeUnknown { .. })), "{outcome:?}");
        assert_eq!(bench.rows("plain").len(), commits, "{loss:?}");
        bench.target.apply(fence, request(1, vec![row])).await.unwrap();
        assert_eq!(bench.rows("plain").len(), 1);
    }
}

#[tokio::test]
async fn a_transaction_in_pieces_is_one_transaction() {
    let bench = Bench::new().await;
    let (fence, _) = bench.store.begin().await.unwrap();
    let before = bench.pretend.server.commit_count();
    let parent = |id| bench.mutation("parent", &[Some(id), None, Some(id)], Change::Upsert);
    for (id, piece) in [("1", Piece::First), ("2", Piece::Middle), ("3", Piece::Last)] {
        let whole = request(1, vec![parent(id)]);
        let batch = ApplyBatch { piece, ..ApplyBatch::clone(&whole.batch) };
        let request = ApplyRequest { batch: Arc::new(batch), ..whole };
        if piece == Piece::Middle {
            let orphan =
                bench.mutation("child", &[Some("1"), Some("9"), None, Some("1")], Change::Upsert);
            let batch = ApplyBatch { mutations: vec![orphan], ..ApplyBatch::clone(&request.batch) };
            let refused = ApplyRequest { batch: Arc::new(batch), ..request.clone() };
            let refused = bench.target.apply(fence, refused).await;
            assert!(matches!(refused, Err(Failure::Constraint { .. })), "{refused:?}");
        }
        assert!(bench.rows("parent").is_empty());
        bench.target.apply(fence, request).await.unwrap();
    }
    assert_eq!(bench.rows("parent").len(), 3);
    assert_eq!(bench.pretend.server.commit_count(), before + 1);
}
