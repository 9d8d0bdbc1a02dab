// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for what can be observed, with a deadline. The only file of the project's tests that sleeps.
//!
//! In: a condition. Out: its value, or an error that says what did not come true in time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at. Measurements do not depend on it: they use timestamps.
const POLL: Duration = Duration::from_millis(5);

/// Looks at `condition` until it yields a value; an error naming `what` after `deadline`.
pub fn until<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {:.1} s in vain: {what}", deadline.as_secs_f64());
        }
        sleep(POLL);
    }
}

/// As [`until`], for a condition that is true or false.
pub fn until_true(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    until(deadline, what, || condition().then_some(()))
}

/// Keeps looking for `duration`: an error as soon as `condition` is false.
pub fn holds(duration: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        if !condition() {
            bail!(
                "did not stay so for {:.1} s: {what}",
                duration.as_secs_f64()
            );
        }
        sleep(POLL);
    }
    Ok(())
}

/// Returns at the given moment: the pace of a load generator, never a wait for logic.
pub(crate) fn pace(moment: Instant) {
    sleep(moment.saturating_duration_since(Instant::now()));
}
