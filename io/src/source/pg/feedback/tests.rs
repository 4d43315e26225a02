//! When reports go out, and that they go out.
use std::time::Duration;

use replicator_core::decode::pg_frames::StandbyStatus;
use replicator_core::decode::pg_transaction::Counters;
use replicator_core::model::position::Lsn;
use replicator_core::model::time::{MonoTime, WallTime};
use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::{Feedback, FeedbackError, Rhythm, Schedule};
use crate::clock::Clock;
use crate::pg::replication::{FrameReader, pretend_stream};
use crate::source::pg::progress::{Heard, Progress};

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> MonoTime {
    MonoTime::START.after(Duration::from_millis(millis))
}

fn heard(at: MonoTime) -> Heard {
    Heard {
        at,
        received: None,
        sent: None,
        reply_requested: false,
        bytes: 1,
        decoded: Counters::default(),
    }
}

#[test]
fn reports_come_before_the_server_loses_patience() {
    let rhythm = |standby, sender| Rhythm::new(standby, sender).interval;
    assert_eq!(rhythm(5 * SECOND, Some(60 * SECOND)), 5 * SECOND);
    assert_eq!(rhythm(5 * SECOND, Some(3 * SECOND)), SECOND);
    assert_eq!(rhythm(5 * SECOND, None), 5 * SECOND);
    assert_eq!(rhythm(Duration::ZERO, Some(SECOND)), Duration::from_millis(50));
}

#[test]
fn a_report_is_due_at_the_interval_and_earlier_for_a_reason() {
    let progress = Progress::new(Lsn(10), at(0));
    let mut schedule = Schedule::new(5 * SECOND);
    assert_eq!(schedule.due(&progress.state()), at(0));
    schedule.sent(at(20), &progress.state());
    assert_eq!(schedule.due(&progress.state()), at(5_020));
    progress.applied(Lsn(11));
    assert_eq!(schedule.due(&progress.state()), at(5_020));
    progress.durable(Lsn(11));
    assert_eq!(schedule.due(&progress.state()), at(120));
    progress.heard(&Heard { reply_requested: true, ..heard(at(50)) });
    assert_eq!(schedule.due(&progress.state()), at(0));
    progress.reported();
    schedule.sent(at(50), &progress.state());
    assert_eq!(schedule.due(&progress.state()), at(5_050));
}

#[test]
fn an_answer_is_asked_for_once_and_only_after_silence() {
    let progress = Progress::new(Lsn(0), at(0));
    let mut schedule = Schedule::new(SECOND);
    assert!(!schedule.asks(&progress.state()));
    schedule.sent(at(0), &progress.state());
    assert!(schedule.asks(&progress.state()));
    schedule.sent(at(1_000), &progress.state());
    // Nobody reads: the answer, or its absence, is still to be found out.
    assert!(!schedule.asks(&progress.state()));
    schedule.sent(at(2_000), &progress.state());
    progress.heard(&heard(at(2_500)));
    assert!(!schedule.asks(&progress.state()));
    schedule.sent(at(3_000), &progress.state());
    assert!(schedule.asks(&progress.state()));
}

#[test]
fn positions_never_go_back_and_durable_is_the_least() {
    let progress = Progress::new(Lsn(10), at(0));
    progress.heard(&Heard { received: Some(Lsn(50)), ..heard(at(1)) });
    progress.heard(&Heard { received: Some(Lsn(40)), ..heard(at(2)) });
    progress.applied(Lsn(30));
    progress.durable(Lsn(20));
    progress.durable(Lsn(15));
    let status = progress.state().status(at(2), false);
    assert_eq!((status.written, status.applied, status.flushed), (Lsn(50), Lsn(30), Lsn(20)));
    progress.durable(Lsn(60));
    let status = progress.state().status(at(2), false);
    assert_eq!((status.written, status.applied, status.flushed), (Lsn(60), Lsn(60), Lsn(60)));
}

#[test]
fn reports_carry_the_servers_own_time() {
    let progress = Progress::new(Lsn(0), at(0));
    assert_eq!(progress.state().status(at(9), false).sent, WallTime { micros: 0 });
    progress.heard(&Heard { sent: Some(WallTime { micros: 7_000_000 }), ..heard(at(100)) });
    assert_eq!(progress.state().status(at(350), false).sent, WallTime { micros: 7_250_000 });
}

/// The next report that arrived at the server.
async fn report(server: &mut DuplexStream) -> StandbyStatus {
    let mut header = [0; 5];
    server.read_exact(&mut header).await.unwrap();
    assert_eq!(header, *b"d\0\0\0\x26");
    let mut body = vec![0; 34];
    server.read_exact(&mut body).await.unwrap();
    StandbyStatus::parse(&body.into()).unwrap()
}

struct Running {
    feedback: Feedback<DuplexStream>,
    progress: Progress,
    server: DuplexStream,
    clock: Clock,
    // Dropping it would close the connection.
    _reader: FrameReader<DuplexStream>,
}

fn start(buffer: usize) -> Running {
    let (reader, writer, server) = pretend_stream(buffer);
    let clock = Clock::start();
    let progress = Progress::new(Lsn(10), clock.now());
    let rhythm = Rhythm::new(5 * SECOND, Some(60 * SECOND));
    let feedback = Feedback::start(writer, progress.clone(), rhythm, clock);
    Running { feedback, progress, server, clock, _reader: reader }
}

/// W-16: while a large transaction is applied nobody reads, and the server must hear from us all the
/// same.
#[tokio::test(start_paused = true)]
async fn w16_reports_go_on_while_nobody_reads() {
    let Running { feedback, mut server, clock, progress, .. } = start(1 << 16);
    assert!(!report(&mut server).await.reply_requested);
    let mut asked = 0;
    for number in 1..=120_u32 {
        let status = report(&mut server).await;
        assert_eq!(clock.now(), MonoTime::START.after(number * 5 * SECOND));
        assert_eq!(status.flushed, Lsn(10));
        asked += u32::from(status.reply_requested);
    }
    // One question waits to be answered for ten minutes.
    assert_eq!(asked, 1);
    progress.durable(Lsn(70));
    assert_eq!(report(&mut server).await.flushed, Lsn(70));
    drop(feedback);
}

#[tokio::test(start_paused = true)]
async fn closing_sends_the_last_position_and_ends_the_stream() {
    let Running { mut feedback, mut server, progress, .. } = start(1 << 16);
    report(&mut server).await;
    progress.durable(Lsn(99));
    progress.close();
    let writer = feedback.ended().await.unwrap();
    assert_eq!(report(&mut server).await.flushed, Lsn(99));
    let mut done = [0; 5];
    server.read_exact(&mut done).await.unwrap();
    assert_eq!(done, *b"c\0\0\0\x04");
    drop(writer);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_is_given_up() {
    // The buffer has no room for even one report, and the server never reads.
    let Running { mut feedback, server, .. } = start(16);
    let error = feedback.ended().await.unwrap_err();
    assert!(matches!(error, FeedbackError::Stalled { .. }), "{error}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_ends_the_task() {
    let Running { mut feedback, server, .. } = start(16);
    drop(server);
    assert!(matches!(feedback.ended().await, Err(FeedbackError::Write(_))));
}
