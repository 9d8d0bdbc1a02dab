// SPDX-License-Identifier: MIT OR Apache-2.0
//! A moment on the agent's clock.
//!
//! In and out: nanoseconds since an arbitrary origin that is the same for the whole process.
//! Invariant: arithmetic saturates, so no moment can panic a state machine. The state machines
//! are given moments and never ask for one; only the driver (and the simulated LAN) reads a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since an origin that does not matter; never goes back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(u64);

impl Nanos {
    /// The moment `nanos` nanoseconds after the origin.
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this moment; zero when `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Nanos {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Nanos {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let end = Nanos::new(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Nanos::new(1).since(end), Duration::ZERO);
        assert_eq!(Nanos::new(1) - Duration::from_nanos(2), Nanos::new(0));
        assert_eq!(end - Duration::MAX, Nanos::new(0));
        assert_eq!(
            (Nanos::new(5) + Duration::from_nanos(7)).since(Nanos::new(2)),
            Duration::from_nanos(10)
        );
    }
}
