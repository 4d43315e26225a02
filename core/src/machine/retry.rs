//! When to try again, and how to cut a refused batch in two.
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use crate::config::Retry;
use crate::flow::apply::Job;
use crate::model::mutation::{ApplyBatch, ApplyOrder, ApplyRequest, Piece, TxEnd};
use crate::model::position::TxSeq;
use crate::model::time::MonoTime;
use crate::stop::Stop;

/// Staging failed: when to ask it again to save a position, to read rows, or to forget them. A disk that is full answers at once, and
/// would be asked all the time.
#[derive(Debug, Default)]
pub(super) struct Pause {
    // In a row.
    failures: u32,
    until: MonoTime,
}

impl Pause {
    pub(super) fn begin(&mut self, now: MonoTime, jitter: &mut Jitter, retry: &Retry) {
        self.failures = self.failures.saturating_add(1);
        self.until = now.after(jitter.delay(retry, self.failures));
    }

    pub(super) fn is_over(&self, now: MonoTime) -> bool {
        self.until <= now
    }

    pub(super) const fn end(&self) -> MonoTime {
        self.until
    }

    pub(super) fn deadline(&self, now: MonoTime) -> Option<MonoTime> {
        (!self.is_over(now)).then_some(self.until)
    }
}

/// Random numbers for retry delays, part of the machine's state so that a run can be repeated.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between half and the whole of the delay that is due after `tries` tries, so that replicators
    /// that failed together do not come back together.
    pub(super) fn delay(&mut self, retry: &Retry, tries: u32) -> Duration {
        let factor = retry.factor.saturating_pow(tries.saturating_sub(1));
        let full = retry.delay_first.saturating_mul(factor).min(retry.delay_max);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        let half = nanos >> 1;
        let spread = self.next().checked_rem(nanos.saturating_sub(half).saturating_add(1));
        Duration::from_nanos(half.saturating_add(spread.unwrap_or(0)))
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// So many rows of a replayed batch are put last, at most: some twenty thousand tries in the worst case.
const SETTLED_MAX: usize = 200;

/// Lets a row that was refused go last: another one has to let go of something first, such as a unique value, or
/// to come first, such as its parent. The last values of all rows contradict neither each other nor the rest of
/// the target, so there is an order in which they can be written, unless rows exchange something. Returns
/// whether it is worth another try.
pub(super) fn settle(job: &mut Job, at: Option<Range<usize>>) -> bool {
    let refused = at.filter(|range| range.len() == 1).map(|range| range.start);
    match (&mut job.request.order, refused) {
        (order @ ApplyOrder::Netted, _) => *order = ApplyOrder::Settled(Vec::new()),
        (ApplyOrder::Settled(last), Some(refused)) => {
            match last.iter().position(|index| *index == refused) {
                // All of them had their turn at the end since the last one came to them.
                Some(_) if usize::try_from(job.tries).is_ok_and(|tries| last.len() < tries) => {
                    return false;
                }
                Some(place) => drop(last.remove(place)),
                None if SETTLED_MAX <= last.len() => return false,
                None => job.tries = 0,
            }
            last.push(refused);
        }
        (ApplyOrder::Settled(_), None) | (ApplyOrder::Source | ApplyOrder::RowWise(_), _) => {
            return false;
        }
    }
    true
}

/// Whether a job can be halved.
pub(super) fn divides(job: &Job) -> bool {
    let batch = &job.request.batch;
    batch.ends.len() > 1 && batch.piece == Piece::Whole
}

/// Leaves the older half of the transactions to be applied, and puts the younger half aside.
pub(super) fn halve(job: &mut Job) {
    let (left, right) = split(&job.request.batch);
    job.rest.push(Arc::new(right));
    job.request =
        ApplyRequest { batch: Arc::new(left), order: ApplyOrder::Source, dead: Vec::new() };
    job.tries = 0;
}

/// Splits a batch of two or more transactions between two of them.
fn split(batch: &ApplyBatch) -> (ApplyBatch, ApplyBatch) {
    let middle = batch.ends.len() >> 1;
    let (left_ends, right_ends) = batch.ends.split_at(middle);
    let Some(cut) = left_ends.last() else { panic!("a batch of one transaction cannot be halved") };
    let (left_rows, right_rows) = batch.mutations.split_at(cut.before);
    let left = ApplyBatch {
        last: cut.seq,
        position: cut.position,
        mutations: left_rows.to_vec(),
        ends: left_ends.to_vec(),
        ..batch.clone_head()
    };
    let ends: Vec<TxEnd> = right_ends
        .iter()
        .map(|end| TxEnd { before: end.before.saturating_sub(cut.before), ..*end })
        .collect();
    let right = ApplyBatch {
        first: TxSeq(cut.seq.0.saturating_add(1)),
        after: Some(cut.position),
        mutations: right_rows.to_vec(),
        ends,
        ..batch.clone_head()
    };
    (left, right)
}

/// The end of a run whose row is refused for good.
pub(super) fn rejected(batch: &ApplyBatch, at: Option<Range<usize>>, detail: String) -> Stop {
    let index = at.map(|range| range.start);
    let table = index.and_then(|index| batch.mutations.get(index)).map(|mutation| mutation.table);
    let end = index.and_then(|index| batch.ends.iter().find(|end| index < end.before));
    let (first, last, position) = end
        .map_or((batch.first, batch.last, batch.position), |end| (end.seq, end.seq, end.position));
    Stop::Rejected { first, last, position, table, index, detail }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::{Jitter, Pause};
    use crate::config::Retry;
    use crate::model::time::MonoTime;

    const RETRY: Retry = Retry {
        tries_max: 10,
        delay_first: Duration::from_millis(25),
        delay_max: Duration::from_secs(2),
        factor: 2,
    };

    #[test]
    fn a_pause_ends_and_the_next_one_is_longer() {
        let (mut pause, mut jitter) = (Pause::default(), Jitter::new(1));
        assert!(pause.is_over(MonoTime::START));
        let now = MonoTime::from_millis(100);
        let ends = [(); 3].map(|()| {
            pause.begin(now, &mut jitter, &RETRY);
            pause.deadline(now).unwrap()
        });
        assert!(now < ends[0] && ends[0] < ends[2], "{ends:?}");
        assert!(pause.is_over(ends[2]) && pause.deadline(ends[2]).is_none());
    }

    #[test]
    fn delays_grow_to_their_limit_and_repeat_from_the_seed() {
        let delays = |seed| {
            let mut jitter = Jitter::new(seed);
            [1, 2, 5, 60].map(|tries| jitter.delay(&RETRY, tries))
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
        for (delay, full_millis) in delays(7).into_iter().zip([25, 50, 400, 2000]) {
            let full = Duration::from_millis(full_millis);
            assert!(delay <= full);
            assert!(full <= delay * 2 + Duration::from_nanos(2));
        }
    }
}
