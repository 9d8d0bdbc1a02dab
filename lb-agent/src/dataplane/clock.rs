// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the packet program counts time: jiffies, shifted to ticks of about a second.

use std::time::Duration;

use nix::time::{ClockId, clock_getres};

use super::DataplaneError;

/// Longest tick wanted; timeouts are exact to one tick.
const LONGEST_TICK_NS: u32 = 1_100_000_000;

/// The length of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// A tick is 2 to the power of this many jiffies.
    pub(super) shift: u32,
    /// Length of a tick, nanoseconds.
    pub(super) tick_ns: u32,
}

impl Clock {
    /// The running kernel's. The resolution of a coarse clock is the length of a jiffy
    /// (`hrtimer_get_res`, `TICK_NSEC`).
    pub(super) fn of_this_kernel() -> Result<Self, DataplaneError> {
        let jiffy = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .map_err(|errno| DataplaneError::Conns(errno.into()))?;
        let ns = Duration::from(jiffy).as_nanos();
        Ok(Self::of_jiffy(u32::try_from(ns).unwrap_or(1).max(1)))
    }

    fn of_jiffy(ns: u32) -> Self {
        let shift = (0..16).rev().find(|shift| {
            ns.checked_mul(1 << shift)
                .is_some_and(|tick| tick <= LONGEST_TICK_NS)
        });
        let shift = shift.unwrap_or(0);
        Self {
            shift,
            tick_ns: ns << shift,
        }
    }

    /// Whole ticks of a duration, rounded up.
    pub(super) fn ticks(self, duration: Duration) -> u32 {
        let ticks = duration.as_nanos().div_ceil(u128::from(self.tick_ns));
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// The time that so many ticks take.
    pub(super) fn duration(self, ticks: u32) -> Duration {
        Duration::from_nanos(u64::from(ticks) * u64::from(self.tick_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_about_a_second_at_any_hz() {
        for (jiffy_ns, shift) in [
            (10_000_000, 6),
            (4_000_000, 8),
            (3_333_333, 8),
            (1_000_000, 10),
        ] {
            let clock = Clock::of_jiffy(jiffy_ns);
            assert_eq!((clock.shift, clock.tick_ns), (shift, jiffy_ns << shift));
            assert!((LONGEST_TICK_NS / 2..=LONGEST_TICK_NS).contains(&clock.tick_ns));
        }
    }
}
