//! Waiting with a deadline.
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// Pause between two looks. Short, because tests wait for things that take some milliseconds.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks again and again until `check` says true.
///
/// # Errors
///
/// `check` failed, or did not say true within `limit`; the error then says `what` did not happen.
pub async fn wait_until(
    limit: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        // A look may hang as well, for instance on a lock.
        match timeout_at(deadline, check()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => sleep(PAUSE).await,
            Ok(Err(error)) => return Err(error),
            Err(_) => break,
        }
    }
    bail!("waited {} s in vain: {what}", limit.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::{Result, bail};

    use super::wait_until;

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_check_holds() -> Result<()> {
        let mut looks = 0;
        wait_until(Duration::from_secs(1), "three looks", async || {
            looks += 1;
            Ok(looks == 3)
        })
        .await?;
        assert_eq!(looks, 3);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_at_the_deadline_even_if_a_look_hangs() {
        let hangs = async || std::future::pending::<Result<bool>>().await;
        let error = wait_until(Duration::from_secs(1), "the moon", hangs).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 1 s in vain: the moon");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_check_ends_the_wait() {
        let fails = async || bail!("no such table");
        let error = wait_until(Duration::from_secs(1), "it", fails).await.unwrap_err();
        assert_eq!(error.to_string(), "no such table");
    }
}
