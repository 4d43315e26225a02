//! Answers what a program asks its operating system, random bytes and the time, from a seed.
//!
//! Only threads begun by [`with_seed`] are answered so; all others get what the system says. Each seed
//! has a thread of its own, because the keys of hash maps and the state of generators belong to threads.
//! This works on Linux with a C library that programs link to when they start.
#![expect(unsafe_code, reason = "the C library's functions can be replaced in no other way")]

use std::cell::Cell;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec, timeval};

use crate::random::Random;

/// What the calendar shows when a simulation begins, in seconds since 1970.
pub const WALL_START_SECONDS: i64 = 1_700_000_000;

/// What the other clocks show then.
const MONOTONIC_START_SECONDS: i64 = 1_000_000;

thread_local! {
    /// The next random word comes from this. `None`: ask the system.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    /// Simulated time, as it was told last.
    static ELAPSED: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
    /// By how many seconds the calendar is ahead of the simulation.
    static AHEAD: Cell<i64> = const { Cell::new(0) };
}

/// Runs `f` in a thread in which everything random follows from `seed` and the time is the simulation's.
///
/// # Panics
///
/// `f` did, with the same words.
pub fn with_seed<T: Send + 'static>(seed: u64, f: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        SEED.set(Some(seed));
        f()
    };
    thread::spawn(run).join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Tells this thread how much simulated time has passed. It stands still until it is told again.
pub fn set_elapsed(now: Duration) {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    ELAPSED.set((seconds, i64::from(now.subsec_nanos())));
}

/// Sets the calendar of this thread forward, or back, by whole seconds. Other clocks go on as they did.
pub fn jump(seconds: i64) {
    AHEAD.set(AHEAD.get() + seconds);
}

/// Simulated time since the beginning, in microseconds.
#[must_use]
pub fn elapsed_micros() -> i64 {
    let (seconds, nanos) = elapsed();
    seconds * 1_000_000 + nanos / 1_000
}

/// The calendar's time now, in microseconds since 1970.
#[must_use]
pub fn wall_micros() -> i64 {
    wall_start() * 1_000_000 + elapsed_micros()
}

/// What the calendar would have shown when the simulation began.
fn wall_start() -> i64 {
    WALL_START_SECONDS + AHEAD.try_with(Cell::get).unwrap_or_default()
}

/// Simulated time since the beginning, as seconds and nanoseconds.
fn elapsed() -> (i64, i64) {
    ELAPSED.get()
}

/// The seed of this thread, if it has one. Threads that end ask when their variables are gone.
fn seed() -> Option<u64> {
    SEED.try_with(Cell::get).ok().flatten()
}

/// Replaces the C library's function: "getrandom(2)" in the Linux manual.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    let Some(seed) = seed() else {
        // SAFETY: the caller's promise about the buffer is the one that the system asks for.
        let filled = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
        return ssize_t::try_from(filled).unwrap_or(-1);
    };
    let mut random = Random::new(seed);
    // SAFETY: the caller gives a buffer of `len` bytes to write to.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.word().to_le_bytes()[..chunk.len()]);
    }
    SEED.set(Some(random.word()));
    ssize_t::try_from(len).unwrap_or(-1)
}

/// Replaces the C library's function: "clock_gettime(2)" in the Linux manual.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    if seed().is_none() {
        // SAFETY: the caller's promise about `time` is the one that the system asks for.
        let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return c_int::try_from(answer).unwrap_or(-1);
    }
    let start = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => wall_start(),
        _ => MONOTONIC_START_SECONDS,
    };
    let (seconds, nanos) = elapsed();
    // SAFETY: the caller gives a place to write the time to.
    unsafe {
        (*time).tv_sec = start + seconds;
        (*time).tv_nsec = nanos;
    }
    0
}

/// Replaces the C library's function: "gettimeofday(2)" in the Linux manual.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
    if seed().is_none() {
        // SAFETY: the caller's promise about both is the one that the system asks for.
        let answer = unsafe { libc::syscall(libc::SYS_gettimeofday, time, zone) };
        return c_int::try_from(answer).unwrap_or(-1);
    }
    let (seconds, nanos) = elapsed();
    // SAFETY: the caller gives a place to write the time to, or none.
    if let Some(time) = unsafe { time.as_mut() } {
        time.tv_sec = wall_start() + seconds;
        time.tv_usec = nanos / 1_000;
    }
    0
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::{WALL_START_SECONDS, jump, with_seed};

    /// The order of a hash map shows its keys.
    fn order(seed: u64) -> Vec<u32> {
        with_seed(seed, || (0..100).map(|n| (n, ())).collect::<HashMap<u32, ()>>())
            .into_keys()
            .collect()
    }

    #[test]
    fn the_keys_of_hash_maps_follow_from_the_seed() {
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn no_time_passes_outside_of_a_simulation() {
        let (wall, passed) = with_seed(1, || {
            let (wall, began) = (SystemTime::now(), Instant::now());
            std::thread::sleep(Duration::from_millis(2));
            (wall, began.elapsed())
        });
        assert_eq!(wall.duration_since(UNIX_EPOCH).unwrap().as_secs(), 1_700_000_000);
        assert_eq!(passed, Duration::ZERO);
    }

    #[test]
    fn the_calendar_can_jump_alone() {
        let (wall, passed) = with_seed(1, || {
            let (wall, began) = (SystemTime::now(), Instant::now());
            jump(-3_600);
            (wall.duration_since(SystemTime::now()), began.elapsed())
        });
        assert_eq!((wall.unwrap(), passed), (Duration::from_secs(3_600), Duration::ZERO));
    }

    #[test]
    fn other_threads_see_the_time_pass() {
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(Duration::from_millis(2) <= began.elapsed());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(WALL_START_SECONDS.unsigned_abs() < now);
    }
}
