//! Stopping in good order: the first signal asks, the second insists.
use std::future::Future;
use std::io;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::cli::GoDuration;

/// The signals that mean something to us.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    // How often it came, for those who read something again then.
    hang_ups: watch::Sender<()>,
}

impl Signals {
    /// Takes the signals from the system: from here on they do not end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            hang_ups: watch::Sender::new(()),
        })
    }

    /// Changes with each SIGHUP that [`stop_requested`](Self::stop_requested) sees.
    pub(crate) fn hang_ups(&self) -> watch::Receiver<()> {
        self.hang_ups.subscribe()
    }

    /// Returns when the process is asked to stop: SIGINT or SIGTERM. SIGHUP asks for keys and certificates
    /// to be read again, and is often sent to all replicators of a machine at once.
    pub(crate) async fn stop_requested(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => match self.hang_ups.receiver_count() {
                    0 => info!("SIGHUP: there is nothing to reload"),
                    _ => self.hang_ups.send_modify(|()| ()),
                },
            }
        }
    }
}

/// Does `work` until it ends. When `stop_requested` returns, `stop` becomes true and the work has
/// `grace` to end in good order; a second request ends it at once.
///
/// # Errors
///
/// The work failed, or did not end in good order. It is dropped then.
pub(crate) async fn until_stopped(
    work: impl Future<Output = anyhow::Result<()>>,
    mut stop_requested: impl AsyncFnMut(),
    stop: &watch::Sender<bool>,
    grace: Duration,
) -> anyhow::Result<()> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        ended = &mut work => return ended,
        () = stop_requested() => (),
    }
    info!("Interrupted");
    stop.send_replace(true);
    tokio::select! {
        biased;
        ended = &mut work => ended,
        () = stop_requested() => bail!("interrupted again; the next run resumes from the checkpoint"),
        () = tokio::time::sleep(grace) => Err(anyhow!(
            "work on its way did not end within --gracePeriod {}; the next run resumes from the \
             checkpoint",
            GoDuration::from(grace)
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;
    use tokio::sync::{mpsc, watch};

    use super::until_stopped;

    const GRACE: Duration = Duration::from_millis(50);

    /// How the work ends when it is asked to stop.
    enum Work {
        Fails,
        Obeys,
        Hangs,
    }

    async fn check(work: Work, requests: usize, expected: Result<(), &str>) {
        let (stop, mut stopped) = watch::channel(false);
        let (request, mut requested) = mpsc::channel(2);
        for _ in 0..requests {
            request.send(()).await.unwrap();
        }
        let work = async move {
            match work {
                Work::Fails => Err(anyhow!("broken")),
                Work::Obeys => {
                    stopped.wait_for(|stopped| *stopped).await?;
                    Ok(())
                }
                Work::Hangs => std::future::pending().await,
            }
        };
        let stop_requested = async || {
            if requested.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        };
        let ended = until_stopped(work, stop_requested, &stop, GRACE).await;
        match (ended, expected) {
            (Ok(()), Ok(())) => (),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (ended, expected) => panic!("{ended:?} is not {expected:?}"),
        }
        drop(request);
    }

    #[tokio::test]
    async fn a_failure_of_the_work_is_passed_on() {
        check(Work::Fails, 0, Err("broken")).await;
    }

    #[tokio::test]
    async fn work_that_obeys_ends_in_good_order() {
        check(Work::Obeys, 1, Ok(())).await;
    }

    #[tokio::test]
    async fn work_that_hangs_is_cut_off_after_the_grace_period() {
        check(Work::Hangs, 1, Err("--gracePeriod 50ms")).await;
    }

    #[tokio::test]
    async fn a_second_request_ends_at_once() {
        check(Work::Hangs, 2, Err("interrupted again")).await;
    }
}
