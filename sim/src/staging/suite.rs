//! The promises of a staging store, one by one.
use replicator_core::Failure;
use replicator_core::model::mutation::{Change, Mutation, TimedMutation};
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_io::port::{Fence, StagedPage, Staging};

use super::rows::arranged;
use crate::schema::{Sent, Value, schema};

/// How many partitions the source of the suite has.
pub const PARTITIONS: u32 = 2;

/// Checks every promise on a store of its own. `fresh` makes an empty one for a source with
/// [`PARTITIONS`] partitions and the catalog of [`schema`]; its argument is a name that no other has.
pub async fn suite<S: Staging>(mut fresh: impl AsyncFnMut(&str) -> S) {
    a_later_run_fences_an_earlier_one(&fresh("fences").await).await;
    what_is_saved_moves_forward_only(&fresh("forward").await).await;
    rows_come_back_as_they_were(&fresh("rows").await).await;
    staging_again_changes_nothing(&fresh("again").await).await;
    keys_are_what_the_source_sent(&fresh("keys").await).await;
    w38_a_page_ends_with_a_whole_time(&fresh("pages").await).await;
    a_range_has_an_open_and_a_closed_end(&fresh("ranges").await).await;
    what_is_retired_is_gone_and_nothing_else(&fresh("retires").await).await;
    many_may_stage_at_once(&fresh("many").await).await;
    w44_what_comes_late_is_kept_only_if_it_is_news(&fresh("late").await).await;
    what_is_on_time_goes_before_what_comes_late(&fresh("on time").await).await;
}

fn hlc(nanos: u64) -> Hlc {
    Hlc { nanos, logical: 1 }
}

/// An upsert of table `plain`.
fn plain(time: Hlc, key: i64, value: Value) -> TimedMutation {
    let cells = [Some(key), value, None, Some(0)].map(Sent::Value);
    timed(time, "plain", &cells, Change::Upsert)
}

fn timed(
    time: Hlc,
    table: &str,
    cells: &[Sent],
    change: impl FnOnce(replicator_core::model::row::Row) -> Change,
) -> TimedMutation {
    let id = schema().id(table);
    let image = schema().row(id, 0, cells);
    let key = schema().catalog.table(id).key_of(&image).expect("the key is sent");
    TimedMutation { time, mutation: Mutation { table: id, key, change: change(image) } }
}

async fn begun<S: Staging>(store: &S) -> Fence {
    store.begin().await.expect("a run begins").0
}

async fn staged<S: Staging>(store: &S, fence: Fence, rows: &[TimedMutation]) {
    store.stage(fence, rows.to_vec(), Hlc::default()).await.expect("rows are staged");
}

async fn read<S: Staging>(store: &S, after: Hlc, through: Hlc, rows_max: u32) -> StagedPage {
    arranged(store.read(after, through, rows_max).await.expect("rows are read"))
}

async fn all<S: Staging>(store: &S) -> Vec<TimedMutation> {
    let page = read(store, Hlc::default(), hlc(u64::MAX), u32::MAX).await;
    assert!(page.exhausted, "there is nothing beyond all");
    page.rows
}

async fn a_later_run_fences_an_earlier_one<S: Staging>(store: &S) {
    let old = begun(store).await;
    staged(store, old, &[plain(hlc(1), 1, None)]).await;
    let new = begun(store).await;
    assert!(old < new);
    let late = vec![plain(hlc(1), 2, None)];
    assert_eq!(store.stage(old, late, Hlc::default()).await, Err(Failure::Fenced));
    assert_eq!(store.retire(old, hlc(9)).await, Err(Failure::Fenced));
    assert_eq!(store.save_checkpoint(old, Position::Hlc(hlc(9))).await, Err(Failure::Fenced));
    assert_eq!(store.save_resolved(old, PartitionId(0), hlc(9)).await, Err(Failure::Fenced));
    assert_eq!(all(store).await, [plain(hlc(1), 1, None)]);
    let (newest, durable) = store.begin().await.expect("a run begins");
    assert!(new < newest);
    assert_eq!((durable.checkpoint, durable.resolved[&PartitionId(0)]), (None, Hlc::default()));
}

async fn what_is_saved_moves_forward_only<S: Staging>(store: &S) {
    let fence = begun(store).await;
    for nanos in [5, 3] {
        let saved = store.save_checkpoint(fence, Position::Hlc(hlc(nanos))).await;
        saved.expect("a checkpoint is saved");
        let saved = store.save_resolved(fence, PartitionId(1), hlc(nanos + 1)).await;
        saved.expect("a promise is saved");
    }
    let (_, durable) = store.begin().await.expect("a run begins");
    assert_eq!(durable.checkpoint, Some(Position::Hlc(hlc(5))));
    let resolved: Vec<Hlc> = durable.resolved.into_values().collect();
    assert_eq!(resolved, [Hlc::default(), hlc(6)], "one for each partition");
    let fence = begun(store).await;
    assert_eq!(store.horizon().await, Ok(Hlc::default()));
    for (horizon, kept) in [(7, 7), (5, 7), (9, 9)] {
        store.save_horizon(fence, hlc(horizon)).await.expect("a horizon is saved");
        assert_eq!(store.horizon().await, Ok(hlc(kept)));
    }
    let later = begun(store).await;
    assert_eq!(store.save_horizon(fence, hlc(20)).await, Err(Failure::Fenced));
    assert_eq!(store.horizon().await, Ok(hlc(9)));
    store.save_horizon(later, hlc(10)).await.expect("a horizon is saved");
}

async fn rows_come_back_as_they_were<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let value = |number| Sent::Value(Some(number));
    let cells = [value(1), Sent::Value(None), Sent::Unchanged, value(7)];
    let known = [value(2), Sent::Value(None), value(0), value(7)];
    let rows = [
        timed(hlc(1), "plain", &cells, Change::Update),
        timed(hlc(2), "plain", &known, Change::Insert),
        timed(hlc(3), "plain", &known, Change::Delete),
        timed(hlc(4), "pair", &known, Change::Upsert),
    ];
    staged(store, fence, &rows).await;
    assert_eq!(all(store).await, rows);
}

async fn staging_again_changes_nothing<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let rows = [plain(hlc(1), 1, Some(1)), plain(hlc(1), 2, None), plain(hlc(2), 1, Some(2))];
    for _ in 0..3 {
        staged(store, fence, &rows).await;
    }
    let (again, fence) = (rows[1..].to_vec(), begun(store).await);
    staged(store, fence, &again).await;
    assert_eq!(all(store).await, rows);
}

async fn keys_are_what_the_source_sent<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let odd = |key| {
        let cells = [Some(key), None, Some(0)].map(Sent::Value);
        timed(hlc(1), "odd", &cells, Change::Upsert)
    };
    // We cannot tell whether they are one row. They are staged as two.
    staged(store, fence, &[odd(1), odd(2)]).await;
    assert_eq!(all(store).await.len(), 2);
}

async fn w38_a_page_ends_with_a_whole_time<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let rows: Vec<TimedMutation> =
        [1, 2, 2, 2, 3].iter().zip(0..).map(|(time, key)| plain(hlc(*time), key, None)).collect();
    staged(store, fence, &rows).await;
    for (rows_max, count, exhausted) in
        [(1, 1, false), (2, 4, false), (3, 4, false), (4, 4, false), (5, 5, true), (9, 5, true)]
    {
        let page = read(store, Hlc::default(), hlc(3), rows_max).await;
        assert_eq!((page.rows.len(), page.exhausted), (count, exhausted), "at most {rows_max}");
        assert_eq!(page.rows, rows[..count]);
    }
    let through = read(store, Hlc::default(), hlc(2), 4).await;
    assert!(through.exhausted, "what is beyond the range does not count");
}

async fn a_range_has_an_open_and_a_closed_end<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let times = [(1, 0), (1, 1), (1, u32::MAX), (2, 0)];
    let times = times.map(|(nanos, logical)| Hlc { nanos, logical });
    let rows = times.map(|time| plain(time, 1, None));
    staged(store, fence, &rows).await;
    for after in 0..times.len() {
        for through in 0..times.len() {
            let page = read(store, times[after], times[through], 9).await;
            let expected = rows.get(after + 1..=through).unwrap_or_default();
            assert_eq!(page, StagedPage { rows: expected.to_vec(), exhausted: true });
        }
    }
}

async fn what_is_retired_is_gone_and_nothing_else<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let times = [(1, 9), (2, 0), (2, 1), (3, 0)];
    let rows = times.map(|(nanos, logical)| plain(Hlc { nanos, logical }, 1, None));
    staged(store, fence, &rows).await;
    for (through, left) in [(rows[0].time, 1), (rows[1].time, 2), (rows[1].time, 2)] {
        store.retire(fence, through).await.expect("rows are retired");
        assert_eq!(all(store).await, rows[left..]);
    }
    store.retire(fence, hlc(u64::MAX)).await.expect("rows are retired");
    assert_eq!(all(store).await, []);
}

async fn many_may_stage_at_once<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let rows = |part: i64| (0..20).map(move |key| plain(hlc(1), part * 20 + key, None));
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..8 {
        let (store, rows) = (store.clone(), rows(part).collect::<Vec<_>>());
        tasks.spawn(async move { store.stage(fence, rows, Hlc::default()).await });
    }
    while let Some(ended) = tasks.join_next().await {
        assert_eq!(ended.expect("it does not panic"), Ok(()));
    }
    assert_eq!(all(store).await.len(), 160);
}

async fn late<S: Staging>(store: &S, fence: Fence, floor: Hlc, rows: &[TimedMutation]) {
    store.stage(fence, rows.to_vec(), floor).await.expect("rows are staged");
}

async fn w44_what_comes_late_is_kept_only_if_it_is_news<S: Staging>(store: &S) {
    let fence = begun(store).await;
    let (first, second) = (plain(hlc(5), 1, Some(5)), plain(hlc(7), 2, Some(7)));
    staged(store, fence, &[first.clone(), second.clone()]).await;
    store.retire(fence, hlc(10)).await.expect("rows are retired");
    // The same again, and older images: long retired, and known all the same.
    let again = [first, second, plain(hlc(6), 2, Some(6)), plain(hlc(1), 1, None)];
    late(store, fence, hlc(10), &again).await;
    assert_eq!(all(store).await, []);
    // A newer image of one row, and a row that was never here, both of a time that was read: they are
    // read again, after that.
    let after = hlc(10).next();
    let news = [plain(hlc(8), 1, Some(8)), plain(hlc(2), 3, Some(2))];
    late(store, fence, hlc(10), &news).await;
    assert_eq!(all(store).await, [plain(after, 1, Some(8)), plain(after, 3, Some(2))]);
    // What is newer among them stays, whichever comes first.
    late(store, fence, hlc(10), &[plain(hlc(3), 3, Some(3)), plain(hlc(7), 1, Some(7))]).await;
    assert_eq!(all(store).await, [plain(after, 1, Some(8)), plain(after, 3, Some(3))]);
    store.retire(fence, after).await.expect("rows are retired");
}

async fn what_is_on_time_goes_before_what_comes_late<S: Staging>(store: &S) {
    let (fence, floor) = (begun(store).await, hlc(10));
    late(store, fence, floor, &[plain(hlc(8), 1, Some(8))]).await;
    // Of the same time as what came late: it is newer.
    let same = plain(floor.next(), 1, Some(11));
    late(store, fence, floor, std::slice::from_ref(&same)).await;
    late(store, fence, floor, &[plain(hlc(9), 1, Some(9))]).await;
    assert_eq!(all(store).await, [same]);
    // Out of order, but on time: both are told.
    late(store, fence, floor, &[plain(hlc(30), 1, None)]).await;
    late(store, fence, floor, &[plain(hlc(20), 1, Some(20))]).await;
    assert_eq!(read(store, floor.next(), hlc(40), 9).await.rows.len(), 2);
    late(store, fence, hlc(40), &[plain(hlc(25), 1, Some(25))]).await;
    assert_eq!(read(store, hlc(40), hlc(90), 9).await.rows, []);
    store.retire(fence, hlc(90)).await.expect("rows are retired");
}
