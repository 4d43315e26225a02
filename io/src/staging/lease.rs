//! Which of the replicators that share a staging database works on a target schema.
//!
//! Each renews a lease in the documented table `leases`, on the database's clock; the others wait until it has
//! ended. The lease only decides who tries. What makes it safe is the fence: a holder that was paused and
//! comes back changes nothing, whatever it believes of its lease (W-29).
use std::future::Future;
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::model::time::MonoTime;
use tokio_postgres::types::Type;
use tracing::debug;

use super::schema::{LEASES, StagingName};
use crate::clock::Clock;
use crate::net::Dial;
use crate::pg::pool::Pool;
use crate::pg::sessions::{Param, Sessions};

/// For how long a lease is good after it was taken or renewed.
const LIFETIME: Duration = Duration::from_secs(5);
/// A holder believes in its lease for so much less: clocks differ, and work takes a moment to end.
const GUARD: Duration = Duration::from_secs(1);
/// How long after that it is renewed.
const RENEWED_AFTER: Duration = Duration::from_millis(1_500);
/// No lease is good for longer than this, also one of the older tool on a clock that is fast. One that seems to be is of
/// a clock that was set back since.
const LONGEST: Duration = Duration::from_secs(30);
/// How soon a renewal that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How often those who wait look whether it has ended, and how much that differs between them.
const POLL: Duration = Duration::from_secs(1);
const JITTER: Duration = Duration::from_millis(100);
/// How long the server may take to hear that it is given back.
const GOODBYE: Duration = Duration::from_secs(1);

/// The database's clock, as the table has it.
const NOW: &str = "(clock_timestamp() AT TIME ZONE 'UTC')";

/// A lease, taken or not.
#[derive(Debug)]
pub struct Lease<D: Dial> {
    sessions: Sessions<D>,
    table: String,
    name: String,
    nonce: String,
    hostname: String,
}

/// What came of trying to take a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Taken {
    /// It is ours.
    Ours,
    /// Somebody else has it.
    Held {
        /// The name of that machine.
        by: String,
        /// For how long, if it is not renewed.
        for_now: Duration,
    },
}

/// When to do what about a lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing until then.
    Wait(MonoTime),
    /// Renew it, which must be done by then.
    Renew(MonoTime),
    /// It may have ended.
    Over,
}

/// How long a lease is good, on our clock. It counts from before the question was sent, and so ends here
/// before it ends in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    over: MonoTime,
    due: MonoTime,
}

impl Term {
    /// Of a lease that was asked for then.
    fn asked_at(asked: MonoTime) -> Self {
        let over = asked.after(LIFETIME.saturating_sub(GUARD));
        Self { over, due: asked.after(RENEWED_AFTER) }
    }

    fn next(&self, now: MonoTime) -> Next {
        if self.over <= now {
            Next::Over
        } else if self.due <= now {
            Next::Renew(self.over)
        } else {
            Next::Wait(self.due.min(self.over))
        }
    }

    /// What became of a renewal that was asked for then; `None`: nobody knows.
    fn renewed(self, asked: MonoTime, ours: Option<bool>, now: MonoTime) -> Self {
        match ours {
            Some(true) => Self::asked_at(asked),
            // Somebody has taken it.
            Some(false) => Self { over: now, due: now },
            None => Self { over: self.over, due: now.after(AGAIN_AFTER) },
        }
    }
}

impl<D: Dial> Lease<D> {
    /// The lease of this name. `nonce` differs between all who take it and each time that they do. `timeout`
    /// is for one request; the pool should be one that others do not keep busy.
    #[must_use]
    pub fn new(
        pool: Pool<D>,
        schema: &StagingName,
        name: String,
        nonce: u128,
        timeout: Duration,
    ) -> Self {
        Self {
            sessions: Sessions::new(pool, "staging", timeout),
            table: schema.table(LEASES),
            name,
            nonce: format!("{nonce:032x}"),
            hostname: hostname(),
        }
    }

    /// Takes the lease, if nobody has it.
    async fn take(&self) -> Result<Taken, Failure> {
        let Self { sessions, table, name, nonce, hostname } = self;
        // `$1` = name, `$2` = nonce, `$3` = host. The answer to a try that took it may have been lost.
        let take = format!(
            "INSERT INTO {table} AS l (name, expires, nonce, hostname) \
             VALUES ($1, {NOW} + {lifetime}, $2::UUID, $3) \
             ON CONFLICT (name) DO UPDATE SET expires = {NOW} + {lifetime}, \
                nonce = excluded.nonce, hostname = excluded.hostname \
              WHERE l.expires <= {NOW} OR {NOW} + {longest} < l.expires \
                 OR l.nonce = excluded.nonce",
            lifetime = interval(LIFETIME),
            longest = interval(LONGEST)
        );
        let look = format!(
            "SELECT hostname, extract(epoch FROM expires - {NOW})::FLOAT8 FROM {table} \
             WHERE name = $1"
        );
        let params: [Param<'_>; 3] =
            [(name, Type::TEXT), (nonce, Type::TEXT), (hostname, Type::TEXT)];
        let asked = sessions.ask_again(async |client| {
            if client.execute_typed(&take, &params).await? == 1 {
                return Ok(Taken::Ours);
            }
            let held = client.query_typed_opt(&look, &params[..1]).await?;
            let (by, left) = held.map_or((String::new(), 0.0), |row| (row.get(0), row.get(1)));
            let for_now = Duration::try_from_secs_f64(left).unwrap_or_default();
            Ok(Taken::Held { by, for_now })
        });
        asked.await
    }

    /// Takes the lease as soon as nobody else has it. Tells `held` once if somebody has, by the name of that
    /// machine. Returns when it was asked for; whether to [hold](Self::hold) it is the caller's affair.
    /// Cancel safe: a lease that was taken and is not held ends by itself.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn wait(&self, clock: Clock, held: impl FnOnce(&str)) -> Result<MonoTime, Failure> {
        let mut held = Some(held);
        loop {
            let asked = clock.now();
            match self.take().await? {
                Taken::Ours => return Ok(asked),
                Taken::Held { by, for_now } => {
                    if let Some(held) = held.take() {
                        held(&by);
                    }
                    tokio::time::sleep(pause(for_now, clock.now())).await;
                }
            }
        }
    }

    /// Works while the lease, which was asked for `since`, is ours, and renews it. Gives it back when the work
    /// is done. `None`: it was lost before, and the work was dropped.
    pub async fn hold<T>(
        &self,
        clock: Clock,
        since: MonoTime,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let worked = tokio::select! {
            biased;
            () = self.keep(clock, since) => None,
            worked = work => Some(worked),
        };
        self.give_back().await;
        worked
    }

    /// Renews the lease until it is lost.
    async fn keep(&self, clock: Clock, since: MonoTime) {
        let mut term = Term::asked_at(since);
        loop {
            let now = clock.now();
            match term.next(now) {
                Next::Over => return,
                Next::Wait(until) => clock.sleep_until(Some(until)).await,
                Next::Renew(by) => {
                    let limit = Duration::from_nanos(by.as_nanos().saturating_sub(now.as_nanos()));
                    let renewed = self.renew(limit).await;
                    if let Err(failure) = &renewed {
                        debug!(lease = self.name, "could not renew: {failure}");
                    }
                    term = term.renewed(now, renewed.ok(), clock.now());
                }
            }
        }
    }

    /// Whether it is still ours; then for another while.
    async fn renew(&self, limit: Duration) -> Result<bool, Failure> {
        // `$1` = name, `$2` = nonce.
        let sql = format!(
            "UPDATE {} SET expires = {NOW} + {} WHERE name = $1 AND nonce = $2::UUID",
            self.table,
            interval(LIFETIME)
        );
        let params = self.own();
        let sessions = self.sessions.with_timeout(limit);
        let renewed = sessions.ask(async |client| client.execute_typed(&sql, &params).await);
        Ok(renewed.await? == 1)
    }

    /// Lets others have it at once. If that does not work it ends by itself.
    async fn give_back(&self) {
        // `$1` = name, `$2` = nonce.
        let sql = format!("DELETE FROM {} WHERE name = $1 AND nonce = $2::UUID", self.table);
        let params = self.own();
        let sessions = self.sessions.with_timeout(GOODBYE);
        let gone = sessions.ask(async |client| client.execute_typed(&sql, &params).await);
        if let Err(failure) = gone.await {
            debug!(lease = self.name, "could not give back: {failure}");
        }
    }

    fn own(&self) -> [Param<'_>; 2] {
        [(&self.name, Type::TEXT), (&self.nonce, Type::TEXT)]
    }
}

/// How long to wait before looking again at a lease that ends after `left`, if it does.
fn pause(left: Duration, now: MonoTime) -> Duration {
    // The end of our clock is as good as a die.
    let spread = u64::try_from(JITTER.as_nanos()).map_or(0, |most| now.as_nanos() % most);
    POLL.min(left).saturating_add(Duration::from_nanos(spread))
}

fn interval(length: Duration) -> String {
    format!("INTERVAL '{} seconds'", length.as_secs())
}

/// The name of this machine, for people.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use replicator_core::model::time::MonoTime;

    use super::{AGAIN_AFTER, GUARD, JITTER, LIFETIME, Next, POLL, RENEWED_AFTER, Term, pause};

    fn at(millis: u64) -> MonoTime {
        MonoTime::START.after(Duration::from_millis(millis))
    }

    const TAKEN: u64 = 10_000;

    #[test]
    fn a_lease_is_renewed_long_before_it_ends() {
        let term = Term::asked_at(at(TAKEN));
        let due = at(TAKEN).after(RENEWED_AFTER);
        assert_eq!(term.next(at(TAKEN)), Next::Wait(due));
        let over = at(TAKEN).after(LIFETIME - GUARD);
        assert_eq!(term.next(due), Next::Renew(over));
        // The answer came late; what counts is when it was asked for.
        let again = term.renewed(due, Some(true), due.after(Duration::from_secs(1)));
        assert_eq!(again, Term::asked_at(due));
    }

    #[test]
    fn a_holder_that_cannot_renew_ends_before_its_lease_does() {
        let mut term = Term::asked_at(at(TAKEN));
        let mut now = at(TAKEN).after(RENEWED_AFTER);
        let mut tries = 0;
        while let Next::Renew(by) = term.next(now) {
            assert!(by.after(GUARD) <= at(TAKEN).after(LIFETIME));
            tries += 1;
            term = term.renewed(now, None, now);
            assert_eq!(term.next(now), Next::Wait(now.after(AGAIN_AFTER)));
            now = now.after(AGAIN_AFTER);
        }
        assert_eq!(term.next(now), Next::Over);
        assert_eq!((tries, now), (10, at(TAKEN).after(LIFETIME - GUARD)));
    }

    #[test]
    fn a_holder_that_was_paused_knows_it_at_once() {
        let term = Term::asked_at(at(TAKEN));
        assert_eq!(term.next(at(TAKEN + 8_000)), Next::Over);
        // It was asking when it was paused, and the answer was good when it was sent.
        let asked = at(TAKEN + 1_500);
        let term = term.renewed(asked, Some(true), at(TAKEN + 9_500));
        assert_eq!(term.next(at(TAKEN + 9_500)), Next::Over);
    }

    #[test]
    fn a_lease_that_somebody_took_is_over() {
        let now = at(TAKEN + 1_500);
        let term = Term::asked_at(at(TAKEN)).renewed(now, Some(false), now);
        assert_eq!(term.next(now), Next::Over);
    }

    #[test]
    fn who_waits_looks_again_when_the_lease_may_have_ended() {
        for nanos in [0, 1, 99_999_999, 123_456_789_000] {
            let now = MonoTime::START.after(Duration::from_nanos(nanos));
            let long = pause(LIFETIME, now);
            assert!(POLL <= long && long < POLL + JITTER, "{long:?}");
            let short = pause(Duration::from_millis(200), now);
            assert!(short < Duration::from_millis(300), "{short:?}");
        }
    }
}
