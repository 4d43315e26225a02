//! The rows, as a changefeed sends them and as somebody would insert them by hand.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use futures_util::future::try_join_all;
use replicator_tests::feeder::{Caller, Where};
use tokio::time::{Instant, interval, sleep};

use super::Workload;

/// Rows of one request.
const BODY_ROWS: u64 = 1_000;
/// Requests at the same time.
const CONNECTIONS: usize = 8;
/// From one promise to the next, as documented.
const PROMISE_EVERY: Duration = Duration::from_millis(250);
/// Before a request is sent again that was sent away.
const RETRY: Duration = Duration::from_millis(20);
/// Requests that are sent away for so long will never be taken.
const SENT_AWAY_MAX: Duration = Duration::from_secs(120);
/// The commit of the first transaction, in nanoseconds, and from one to the next.
const TIME_FIRST: u64 = 1_700_000_000_000_000_000;
const TIME_STEP: u64 = 1_000;

pub(super) const TABLE_SQL: &str = "CREATE TABLE entry (id bigint PRIMARY KEY, k integer, \
     amount numeric(12, 2), note text, at timestamptz)";

/// All rows as requests, in the order of their times.
#[derive(Debug)]
pub(super) struct Feed {
    bodies: Vec<Body>,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Body {
    text: String,
    /// The time of its last row, which no later body has.
    through: u64,
}

/// Whether rows are promised to be complete as they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promises {
    Never,
    Regularly,
}

/// One row.
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) k: i32,
    pub(super) amount: String,
    pub(super) note: String,
    /// Seconds since 2024 began.
    seconds: u64,
}

impl Entry {
    /// The row with this number, counted from 0.
    pub(super) fn of(workload: &Workload, number: u64) -> Self {
        let id = if workload.scattered {
            // One of its own for each number: the factor is odd.
            number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1
        } else {
            number
        };
        let cents = number * 37 % 1_000_000;
        Self {
            id: id.cast_signed(),
            k: i32::try_from(number % 1_000).unwrap_or_default(),
            amount: format!("{}.{:02}", cents / 100, cents % 100),
            note: format!("entry {number} of a benchmark's ledger"),
            seconds: number % (28 * 86_400),
        }
    }

    pub(super) fn at(&self) -> SystemTime {
        // 2024-01-01 00:00:00 UTC.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200 + self.seconds)
    }

    /// In UTC.
    pub(super) fn at_text(&self) -> String {
        let seconds = self.seconds;
        let (day, hour) = (1 + seconds / 86_400, seconds / 3_600 % 24);
        let (minute, second) = (seconds / 60 % 60, seconds % 60);
        format!("2024-01-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }

    /// As CockroachDB prints it; members are in the order of their names.
    fn print(&self, time: u64, text: &mut String) {
        let Self { id, k, amount, note, .. } = self;
        let at = self.at_text();
        write!(
            text,
            "{{\"after\": {{\"amount\": {amount}, \"at\": \"{at}Z\", \
             \"id\": {id}, \"k\": {k}, \"note\": \"{note}\"}}, \"key\": [{id}], \"topic\": \"entry\", \
             \"updated\": \"{time}.0000000000\"}}"
        )
        .expect("text takes everything");
    }
}

impl Feed {
    /// Prints all rows of a workload.
    pub(super) fn of(workload: &Workload) -> Self {
        let mut feed = Self { bodies: Vec::new(), bytes: 0 };
        for first in (0..workload.rows).step_by(BODY_ROWS as usize) {
            let rows = first..(first + BODY_ROWS).min(workload.rows);
            let (mut text, mut through) = ("{\"payload\":[".to_owned(), 0);
            for number in rows.clone() {
                if first < number {
                    text.push(',');
                }
                through = TIME_FIRST + number / workload.transaction_rows * TIME_STEP;
                Entry::of(workload, number).print(through, &mut text);
            }
            text.push_str(&format!("],\"length\":{}}}", rows.end - rows.start));
            feed.bytes += text.len();
            feed.bodies.push(Body { text, through });
        }
        feed
    }

    /// Sends all rows. Returns when each is answered.
    pub(super) async fn send(&self, place: &Where, promises: Promises) -> Result<()> {
        let sent = RefCell::new(Sent { next: 0, answered: vec![false; self.bodies.len()] });
        let senders = (0..CONNECTIONS).map(|_| async {
            let mut caller = Caller::new(place.clone());
            loop {
                let index = sent.borrow().next;
                let Some(body) = self.bodies.get(index) else { return anyhow::Ok(()) };
                sent.borrow_mut().next += 1;
                post(&mut caller, &body.text).await?;
                sent.borrow_mut().answered[index] = true;
            }
        });
        let all = try_join_all(senders);
        if promises == Promises::Regularly {
            tokio::select! {
                sent = all => { sent?; }
                broken = self.promise(place, &sent) => return broken,
            }
            self.promise_all(place).await
        } else {
            all.await.map(drop)
        }
    }

    /// Promises that nothing more comes.
    pub(super) async fn promise_all(&self, place: &Where) -> Result<()> {
        let last = self.bodies.last().map_or(0, |body| body.through);
        resolve(&mut Caller::new(place.clone()), last).await
    }

    /// Promises again and again what is answered, and all before it.
    async fn promise(&self, place: &Where, sent: &RefCell<Sent>) -> Result<()> {
        let (mut caller, mut ticks) = (Caller::new(place.clone()), interval(PROMISE_EVERY));
        let mut promised = 0;
        loop {
            ticks.tick().await;
            let complete = sent.borrow().answered.iter().take_while(|answered| **answered).count();
            if promised < complete {
                promised = complete;
                resolve(&mut caller, self.bodies[complete - 1].through).await?;
            }
        }
    }
}

/// Which requests were sent.
struct Sent {
    next: usize,
    answered: Vec<bool>,
}

/// Says that nothing at or before this time is still to come.
async fn resolve(caller: &mut Caller, time: u64) -> Result<()> {
    post(caller, &format!("{{\"resolved\":\"{time}.0000000000\"}}")).await
}

/// Sends a request until it is taken.
async fn post(caller: &mut Caller, body: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let trouble = match caller.post(body).await {
            Ok((200, _)) => return Ok(()),
            Ok((status @ (429 | 503), text)) => format!("{status}: {text}"),
            Ok((status, text)) => bail!("a request was refused with {status}: {text}"),
            Err(error) => format!("{error:#}"),
        };
        if SENT_AWAY_MAX < began.elapsed() {
            bail!("a request was not taken: {trouble}");
        }
        sleep(RETRY).await;
    }
}
