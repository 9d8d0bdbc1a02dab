// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a laboratory test ends: an error that the laboratory notices before it is torn down.
//!
//! In: any error that `?` passes on. Out: [`Failure`], and a mark for this thread by which the
//! laboratory knows that logs and captures must be kept, as it does when a test panics.

use std::cell::Cell;
use std::fmt;

thread_local! {
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// What a laboratory test, or a part of one that owns a site, returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// An error of a test. Making one marks this thread's test as failed.
pub struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        FAILED.set(true);
        Self(error.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

/// Whether the test of this thread is failing.
pub(crate) fn is_failing() -> bool {
    std::thread::panicking() || FAILED.get()
}

/// Forgets an earlier failure: where tests share a thread, each begins afresh.
pub(crate) fn begin() {
    FAILED.set(false);
}
