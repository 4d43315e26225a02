//! Requests on their way from those who call us to the run, and answers on their way back.
use std::collections::BTreeMap;
use std::convert::Infallible;

use replicator_core::Event;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{PartitionId, Position, RequestId};
use replicator_core::model::time::Hlc;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::port::Source;

/// Requests that wait for the run to take them. Their bodies are counted by those who read them.
const WAITING_MAX: usize = 64;

/// Requests that are taken at a time.
const TAKEN_MAX: usize = 64;

/// What a request brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brought {
    /// Rows, each with its commit time.
    Rows(Vec<TimedMutation>),
    /// No row at or before this time is still to come on this partition.
    Resolved(PartitionId, Hlc),
}

/// The run has ended, and with it what was to become of the request. Whoever sent it sends it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the run has ended before the request was durable")]
pub struct RunEnded;

/// Where requests are handed to a run. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: mpsc::Sender<Waiting>,
    // A second machine of the run, and the tables whose rows are for it.
    second: Option<(Lane, mpsc::Sender<Waiting>)>,
}

/// A run's end of it.
#[derive(Debug)]
pub struct Requests {
    receiver: mpsc::Receiver<Waiting>,
    taken: Vec<Waiting>,
    unanswered: BTreeMap<RequestId, oneshot::Sender<()>>,
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    brought: Brought,
    answer: oneshot::Sender<()>,
}

/// Both ends for one run.
#[must_use]
pub fn open() -> (Inbox, Requests) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let requests = Requests { receiver, taken: Vec::new(), unanswered: BTreeMap::new(), last: 0 };
    (Inbox { sender, second: None }, requests)
}

impl Inbox {
    /// Hands a request to the run and waits until what it brought is durable. While the run has no room
    /// this waits, too; the caller has the deadline. Dropping the future takes nothing back.
    ///
    /// # Errors
    ///
    /// See [`RunEnded`]. It may be durable all the same; a request may come twice.
    pub async fn hand_in(&self, brought: Brought) -> Result<(), RunEnded> {
        let Some((lane, second)) = &self.second else {
            return hand_to(&self.sender, brought).await;
        };
        let (here, there) = match brought {
            Brought::Rows(rows) => {
                let is_there = |row: &TimedMutation| lane.has(Some(row.mutation.table));
                let (there, here) = rows.into_iter().partition(is_there);
                (Brought::Rows(here), Brought::Rows(there))
            }
            Brought::Resolved(..) => (brought.clone(), brought),
        };
        let nothing = Brought::Rows(Vec::new());
        let hand = async |sender, brought| {
            if brought == nothing { Ok(()) } else { hand_to(sender, brought).await }
        };
        tokio::try_join!(hand(&self.sender, here), hand(second, there)).map(drop)
    }

    /// One that leads to both machines of a run, the rows of `lane` to the other one.
    #[must_use]
    pub fn shared(self, lane: Lane, other: Self) -> Self {
        Self { sender: self.sender, second: Some((lane, other.sender)) }
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the run has ended.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

async fn hand_to(sender: &mpsc::Sender<Waiting>, brought: Brought) -> Result<(), RunEnded> {
    let (answer, answered) = oneshot::channel();
    sender.send(Waiting { brought, answer }).await.map_err(|_| RunEnded)?;
    answered.await.map_err(|_| RunEnded)
}

impl Source for Requests {
    type Error = Infallible;

    async fn next(&mut self, events: &mut Vec<Event>) -> Result<(), Infallible> {
        // Cancel safe: what it takes is in the list when it returns, and it does not wait after that.
        if self.receiver.recv_many(&mut self.taken, TAKEN_MAX).await == 0 {
            // Nobody can bring anything any more; the run is about to be stopped.
            std::future::pending::<()>().await;
        }
        for Waiting { brought, answer } in self.taken.drain(..) {
            self.last = self.last.saturating_add(1);
            let request = RequestId(self.last);
            self.unanswered.insert(request, answer);
            events.push(match brought {
                Brought::Rows(rows) => Event::RowsReceived { request, rows },
                Brought::Resolved(partition, resolved) => {
                    Event::ResolvedReceived { request, partition, resolved }
                }
            });
        }
        Ok(())
    }

    fn ahead(&mut self, _: usize) {}

    /// A changefeed is told by answers alone.
    fn acknowledge(&mut self, _: Position) {}

    fn answer(&mut self, request: RequestId) {
        let answer = self.unanswered.remove(&request);
        let answer = answer.expect("a request is answered once");
        if answer.send(()).is_err() {
            debug!(%request, "nobody waits for the answer any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::Event;
    use replicator_core::model::position::{PartitionId, RequestId};
    use replicator_core::model::time::Hlc;

    use super::{Brought, RunEnded, open};
    use crate::port::Source as _;

    const TIME: Hlc = Hlc { nanos: 5, logical: 0 };

    #[tokio::test]
    async fn a_request_waits_for_its_answer() {
        let (inbox, mut requests) = open();
        let resolved = inbox.hand_in(Brought::Resolved(PartitionId(0), TIME));
        let run = async {
            let mut events = Vec::new();
            requests.next(&mut events).await.unwrap();
            let request = RequestId(1);
            let event =
                Event::ResolvedReceived { request, partition: PartitionId(0), resolved: TIME };
            assert_eq!(events, [event]);
            requests.answer(request);
        };
        let (answered, ()) = tokio::join!(resolved, run);
        assert_eq!(answered, Ok(()));
    }

    #[tokio::test]
    async fn the_end_of_a_run_is_told_to_those_who_wait() {
        let (inbox, mut requests) = open();
        let waiting = inbox.hand_in(Brought::Rows(Vec::new()));
        let run = async {
            let mut events = Vec::new();
            requests.next(&mut events).await.unwrap();
            assert_eq!(events.len(), 1);
            drop(requests);
        };
        let (waited, ()) = tokio::join!(waiting, run);
        assert_eq!(waited, Err(RunEnded));
        assert!(inbox.is_closed());
        assert_eq!(inbox.hand_in(Brought::Rows(Vec::new())).await, Err(RunEnded));
    }
}
