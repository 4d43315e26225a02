//! The file of the embedded store: other catalogs, limits, a full disk, damage.
use std::sync::Arc;

use replicator_core::Failure;
use replicator_core::model::catalog::{Catalog, Table};
use replicator_core::model::mutation::{Change, Mutation, TimedMutation};
use replicator_core::model::row::Cell;
use replicator_core::model::time::Hlc;
use replicator_io::disk::StdDisk;
use replicator_io::port::{Fence, StagedPage, Staging as _};
use replicator_io::staging::embedded::{
    Embedded, EmbeddedError, EmbeddedSettings, EmbeddedStore, Ledger,
};
use sim::disk::{Fault, SimDisk};
use sim::random::Random;
use sim::schema::{Sent, schema};

use super::{TIMEOUT, folder, on_thread, partitions, pretend, runtime, store};

const END: Hlc = Hlc { nanos: u64::MAX, logical: 0 };

/// A row of table `plain` at this time.
fn plain(nanos: u64) -> TimedMutation {
    let id = schema().id("plain");
    let cells = [Some(1), Some(2), None, Some(3)].map(Sent::Value);
    let image = schema().row(id, 0, &cells);
    let key = schema().catalog.table(id).key_of(&image).expect("the key is sent");
    let mutation = Mutation { table: id, key, change: Change::Upsert(image) };
    TimedMutation { time: Hlc { nanos, logical: 0 }, mutation }
}

async fn staged(store: &EmbeddedStore, rows: &[TimedMutation]) -> Fence {
    let (fence, _) = store.begin().await.expect("a run begins");
    store.stage(fence, rows.to_vec(), Hlc::default()).await.expect("rows are staged");
    fence
}

async fn all(store: &EmbeddedStore) -> Result<StagedPage, Failure> {
    store.read(Hlc::default(), END, u32::MAX).await
}

/// The catalog of all worlds, with table `plain` changed or without it.
fn altered(change: impl Fn(&mut Table), keep: bool) -> Arc<Catalog> {
    let tables = schema().catalog.tables().map(|(_, table)| table.clone());
    let is_plain = |table: &Table| table.name.table == "plain";
    let mut tables: Vec<Table> = tables.filter(|table| keep || !is_plain(table)).collect();
    tables.iter_mut().filter(|table| is_plain(table)).for_each(change);
    Arc::new(Catalog::new(tables, &[]))
}

#[test]
fn rows_are_mapped_by_name_to_the_catalog_of_the_run() {
    let file = pretend(&SimDisk::new(1));
    runtime().block_on(async {
        staged(&store(&file, "s"), &[plain(1)]).await;
        // Column `a` comes last, and tables have other numbers without foreign keys.
        let moved = altered(|table| table.columns.swap(1, 3), true);
        let page = all(&file.stream("s", partitions(), Arc::clone(&moved))).await.unwrap();
        let Change::Upsert(row) = &page.rows[0].mutation.change else { panic!("another change") };
        let id = page.rows[0].mutation.table;
        assert_eq!(moved.table(id).name.table, "plain");
        let mut cells: Vec<_> = row.columns().collect();
        cells.sort_unstable();
        let text = |text: &'static [u8]| Cell::Text(text);
        assert_eq!(cells, [(0, text(b"1")), (1, text(b"3")), (2, Cell::Null), (3, text(b"2"))]);
        // The run's own numbers again.
        assert_eq!(all(&store(&file, "s")).await.unwrap().rows, [plain(1)]);
    });
}

#[test]
fn rows_that_the_target_has_no_place_for_are_named_and_stay() {
    let file = pretend(&SimDisk::new(1));
    runtime().block_on(async {
        staged(&store(&file, "s"), &[plain(1)]).await;
        for (catalog, names) in [
            (altered(|_| (), false), r#"table "public"."plain""#),
            (altered(|table| table.columns[1].name.push('z'), true), r#"column "a""#),
        ] {
            let said = all(&file.stream("s", partitions(), catalog)).await.unwrap_err();
            assert!(matches!(said, Failure::Rejected { .. }), "{said}");
            assert!(said.to_string().contains(names), "{said}");
        }
        assert_eq!(all(&store(&file, "s")).await.unwrap().rows, [plain(1)]);
    });
}

#[test]
fn above_its_limit_a_file_takes_no_more_until_rows_are_retired() {
    let settings = EmbeddedSettings { bytes_max: Some(150), ..EmbeddedSettings::new("/d".into()) };
    let file = Embedded::inline(Ledger::open(SimDisk::new(1), settings).unwrap(), TIMEOUT);
    let store = store(&file, "s");
    runtime().block_on(async {
        let fence = staged(&store, &[plain(1), plain(2)]).await;
        let said = store.stage(fence, vec![plain(3)], Hlc::default()).await.unwrap_err();
        assert!(matches!(said, Failure::Transient { .. }), "{said}");
        assert!(said.to_string().contains("may hold 150"), "{said}");
        store.retire(fence, plain(1).time).await.unwrap();
        assert_eq!(store.stage(fence, vec![plain(3)], Hlc::default()).await, Ok(()));
        assert_eq!(all(&store).await.unwrap().rows, [plain(2), plain(3)]);
    });
}

#[test]
fn a_full_disk_refuses_uploads_and_loses_nothing() {
    let disk = SimDisk::new(1);
    let file = pretend(&disk);
    let store = store(&file, "s");
    runtime().block_on(async {
        let fence = staged(&store, &[plain(1)]).await;
        disk.plan(0, Fault::Full);
        for _ in 0..2 {
            let said = store.stage(fence, vec![plain(2)], Hlc::default()).await.unwrap_err();
            assert!(matches!(said, Failure::Transient { .. }), "{said}");
            assert!(said.to_string().contains("no space is left for staging file"), "{said}");
            assert!(said.to_string().contains("/data/staging.redb"), "{said}");
        }
        disk.clear_space();
        assert_eq!(all(&store).await.unwrap().rows, [plain(1)]);
        assert_eq!(store.stage(fence, vec![plain(2)], Hlc::default()).await, Ok(()));
        assert_eq!(all(&store).await.unwrap().rows, [plain(1), plain(2)]);
    });
}

/// Writes a file with some rows; returns its bytes and its settings.
fn written(name: &str, rows: &[TimedMutation]) -> (Vec<u8>, EmbeddedSettings) {
    let settings = EmbeddedSettings::new(folder(name));
    let file = on_thread(StdDisk, settings.folder.clone());
    runtime().block_on(async {
        staged(&store(&file, "s"), rows).await;
        file.close().await.expect("it closes");
    });
    (std::fs::read(settings.path()).expect("it is there"), settings)
}

#[test]
fn a_damaged_file_is_named_or_does_no_harm() {
    let rows: Vec<TimedMutation> = (1..200).map(plain).collect();
    let (whole, settings) = written("staging-damaged", &rows);
    let mut random = Random::new(5);
    let mut named = 0;
    for round in 0..60 {
        let mut bytes = whole.clone();
        if round % 4 == 0 {
            bytes.truncate(random.within(1, whole.len()));
        } else {
            // Somewhere, or where the file begins.
            let within = if round % 4 == 1 { 4_096 } else { whole.len() };
            let at = random.below(within);
            let end = (at + random.within(1, 600)).min(whole.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x5A);
        }
        std::fs::write(settings.path(), bytes).unwrap();
        match Ledger::open(StdDisk, settings.clone()) {
            Ok(ledger) => {
                let file = Embedded::inline(ledger, TIMEOUT);
                let page = runtime().block_on(all(&store(&file, "s"))).unwrap();
                assert_eq!(page.rows, rows, "round {round}");
            }
            Err(error) => {
                let said = error.to_string();
                let path = settings.path().display().to_string();
                assert!(matches!(error, EmbeddedError::Damaged { .. }), "round {round}: {said}");
                assert!(said.contains(&path) && said.contains("move it away"), "{said}");
                named += 1;
            }
        }
    }
    assert!(10 < named, "only {named} of the damages were noticed");
}
