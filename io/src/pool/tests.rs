//! No pool has more sessions than it may.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Exhausted, Places, PoolLimits};
use crate::clock::Clock;

const PLACES: usize = 2;
const LIMITS: PoolLimits = PoolLimits {
    sessions_max: PLACES,
    idle_max: Duration::from_secs(60),
    age_max: Duration::from_secs(600),
    statements_max: 16,
    wait_max: Duration::from_secs(30),
};

/// A session that counts how many there are.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn open(there: &Arc<AtomicUsize>) -> (Self, usize) {
        let before = there.fetch_add(1, Ordering::SeqCst);
        (Self(Arc::clone(there)), before)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// More tasks than sessions, on two threads: those which hand sessions back race with those which take them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_never_more_sessions_than_places() {
    let places = Arc::new(Places::new(LIMITS, Clock::start()));
    let there = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (places, there) = (Arc::clone(&places), Arc::clone(&there));
        tasks.spawn(async move {
            for time in 0..5_000 {
                let place = places.enter().await.expect("others hand theirs back");
                let session = places.reuse(place, |_| true).unwrap_or_else(|place| {
                    let (session, before) = Counted::open(&there);
                    assert!(before < PLACES, "{before} sessions were there already");
                    places.opened(place, session)
                });
                // Some are closed instead.
                if (task + time) % 16 == 0 {
                    drop(session.close());
                } else {
                    places.put(session);
                }
            }
        });
    }
    tasks.join_all().await;
    assert!(there.load(Ordering::SeqCst) <= PLACES);
}

/// Whoever has a place finds what is free, also while others hand theirs back.
#[tokio::test]
async fn a_place_is_free_only_once_its_session_can_be_found() {
    let limits = PoolLimits { sessions_max: 1, ..LIMITS };
    let places = Places::new(limits, Clock::start());
    let place = places.enter().await.expect("a place");
    let session = places.opened(place, ());
    thread::scope(|scope| {
        let kept = places.free.lock().expect("nobody panicked");
        scope.spawn(|| places.put(session));
        // Long enough for the other thread to come to the lock.
        thread::sleep(Duration::from_millis(100));
        assert_eq!(places.permits.available_permits(), 0, "it is not there yet");
        drop(kept);
    });
    assert_eq!(places.permits.available_permits(), 1);
    let place = places.enter().await.expect("a place");
    assert!(places.reuse(place, |()| true).is_ok());
}

#[tokio::test]
async fn who_waits_too_long_for_a_place_is_told() {
    let limits = PoolLimits { sessions_max: 1, wait_max: Duration::from_millis(10), ..LIMITS };
    let places = Places::<()>::new(limits, Clock::start());
    let place = places.enter().await.expect("the first one");
    let refused = places.enter().await.expect_err("all are in use");
    assert_eq!(refused, Exhausted { waited: limits.wait_max });
    drop(place);
    assert!(places.enter().await.is_ok());
}

#[tokio::test]
async fn sessions_that_are_old_idle_or_closed_are_not_used_again() {
    let use_again = async |limits: PoolLimits, usable: bool| {
        let places = Places::new(limits, Clock::start());
        let place = places.enter().await.expect("a place");
        places.put(places.opened(place, ()));
        let place = places.enter().await.expect("a place");
        places.reuse(place, |()| usable).is_ok()
    };
    assert!(use_again(LIMITS, true).await);
    assert!(!use_again(LIMITS, false).await);
    assert!(!use_again(PoolLimits { idle_max: Duration::ZERO, ..LIMITS }, true).await);
    assert!(!use_again(PoolLimits { age_max: Duration::ZERO, ..LIMITS }, true).await);
}
