// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a probe's result becomes a verdict, and how long to wait for the next probe.
//!
//! Comes in: the result of one probe. Goes out: a [`Step`], that is whether the check changed its
//! mind and the pause before the next probe. The pause starts when the probe ends, so no clock is
//! needed here: the caller adds it to its own.
//!
//! Invariant: a check that is up goes down only after `retry + 1` failed probes in a row (one, if
//! it is the first probe after the start of the program); a check that is down comes up with the
//! first probe that passes. Called by `board`.
//!
//! KEEPALIVED: follows `tcp_epilog` of `check_tcp.c`, and for the first probe and for a reload
//! `validate_check_config` and `migrate_checkers`.

use std::time::Duration;

/// What the keywords of a check say about retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `retry`: failed probes in a row that are forgiven.
    pub retry: u32,
    /// `delay_before_retry`: pause after a forgiven failure.
    pub delay_before_retry: Duration,
    /// `delay_loop`: pause otherwise.
    pub delay_loop: Duration,
}

/// What became of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The server answered as it should.
    Passed,
    /// It did not.
    Failed,
    /// The probe could not be made for a reason on this host, which says nothing of the server.
    NotMade,
}

/// What one probe meant for the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Down before, up from here on.
    WentUp,
    /// Up before, down from here on.
    WentDown,
    /// The first probe found the check as it was assumed to be.
    Confirmed,
    /// A failure that changes nothing yet: number `failures` of the `of` that are forgiven.
    Forgiven {
        /// Failed probes in a row, this one included.
        failures: u32,
        /// `retry`.
        of: u32,
    },
    /// Nothing new.
    Unchanged,
}

/// Result of [`Dampener::apply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the probe meant.
    pub verdict: Verdict,
    /// Time from the end of this probe to the start of the next.
    pub pause: Duration,
}

/// State of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dampener {
    up: bool,
    has_run: bool,
    failures: u32,
}

impl Dampener {
    /// A check at the start of the program: up and in the table before its first probe, or down
    /// with `alpha`. The first probe decides alone.
    ///
    /// KEEPALIVED: `validate_check_config` counts the retries as used up, so that a server that is
    /// dead at the start leaves the table with the first probe.
    pub fn at_start(alpha: bool, policy: Policy) -> Self {
        Self {
            up: !alpha,
            has_run: false,
            failures: policy.retry,
        }
    }

    /// A check that a reload adds: as [`Dampener::at_start`], but the first failures are forgiven
    /// like any other, so that a reload does not shake a server that is in use.
    pub fn at_reload(alpha: bool) -> Self {
        Self {
            up: !alpha,
            has_run: false,
            failures: 0,
        }
    }

    /// The same check with other timing: state stays, and failures counted so far leave at least
    /// one more to happen before the check goes down.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self {
            failures: self.failures.min(policy.retry.saturating_sub(1)),
            ..self
        }
    }

    /// Whether the check holds the server fit.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether a probe has been made yet; until then `is_up` is an assumption.
    pub fn has_run(&self) -> bool {
        self.has_run
    }

    /// Takes in the result of one probe.
    ///
    /// KEEPALIVED: a check that is down counts its failures too, so it is probed after
    /// `delay_loop`, then `retry` times after `delay_before_retry`, and so on.
    pub fn apply(&mut self, probe: Probe, policy: Policy) -> Step {
        let first = !self.has_run;
        let (verdict, pause) = match probe {
            Probe::NotMade => return step(Verdict::Unchanged, policy.delay_loop),
            Probe::Failed if self.failures < policy.retry => {
                self.failures += 1;
                let verdict = if self.up {
                    Verdict::Forgiven {
                        failures: self.failures,
                        of: policy.retry,
                    }
                } else {
                    Verdict::Unchanged
                };
                (verdict, policy.delay_before_retry)
            }
            Probe::Passed | Probe::Failed => {
                let up = probe == Probe::Passed;
                self.failures = 0;
                let verdict = match (self.up, up) {
                    (false, true) => Verdict::WentUp,
                    (true, false) => Verdict::WentDown,
                    _ if first => Verdict::Confirmed,
                    _ => Verdict::Unchanged,
                };
                self.up = up;
                (verdict, policy.delay_loop)
            }
        };
        self.has_run = true;
        step(verdict, pause)
    }
}

fn step(verdict: Verdict, pause: Duration) -> Step {
    Step { verdict, pause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(retry: u32) -> Policy {
        Policy {
            retry,
            delay_before_retry: Duration::from_secs(1),
            delay_loop: Duration::from_mins(1),
        }
    }

    fn running(retry: u32) -> Dampener {
        let mut d = Dampener::at_start(false, policy(retry));
        d.apply(Probe::Passed, policy(retry));
        d
    }

    #[test]
    fn one_failure_is_forgiven_by_default_and_retried_after_delay_before_retry() {
        let mut d = running(1);
        let first = d.apply(Probe::Failed, policy(1));
        assert_eq!(first.verdict, Verdict::Forgiven { failures: 1, of: 1 });
        assert_eq!(first.pause, Duration::from_secs(1));
        assert!(d.is_up());
        let second = d.apply(Probe::Failed, policy(1));
        assert_eq!(second.verdict, Verdict::WentDown);
        assert_eq!(second.pause, Duration::from_mins(1));
    }

    #[test]
    fn retry_0_takes_a_server_down_with_the_first_failure() {
        let mut d = running(0);
        assert_eq!(d.apply(Probe::Failed, policy(0)).verdict, Verdict::WentDown);
    }

    #[test]
    fn first_probe_after_the_start_decides_alone() {
        let mut d = Dampener::at_start(false, policy(3));
        assert!(d.is_up() && !d.has_run());
        assert_eq!(d.apply(Probe::Failed, policy(3)).verdict, Verdict::WentDown);
    }

    #[test]
    fn first_probe_of_a_check_that_a_reload_adds_is_forgiven() {
        let mut d = Dampener::at_reload(false);
        assert_eq!(
            d.apply(Probe::Failed, policy(1)).verdict,
            Verdict::Forgiven { failures: 1, of: 1 }
        );
    }

    #[test]
    fn alpha_starts_down_and_comes_up_with_the_first_success() {
        let mut d = Dampener::at_start(true, policy(1));
        assert!(!d.is_up());
        assert_eq!(
            d.apply(Probe::Failed, policy(1)).verdict,
            Verdict::Confirmed
        );
        assert_eq!(d.apply(Probe::Passed, policy(1)).verdict, Verdict::WentUp);
    }

    #[test]
    fn server_that_is_down_is_probed_at_delay_loop_then_retried() {
        let mut d = running(1);
        d.apply(Probe::Failed, policy(1));
        d.apply(Probe::Failed, policy(1));
        let pauses: Vec<u64> = (0..4)
            .map(|_| d.apply(Probe::Failed, policy(1)).pause.as_secs())
            .collect();
        assert_eq!(pauses, [1, 60, 1, 60]);
    }

    #[test]
    fn failures_survive_a_change_of_retry_but_never_decide_by_themselves() {
        let mut d = running(5);
        for _ in 0..4 {
            d.apply(Probe::Failed, policy(5));
        }
        let mut d = d.with_policy(policy(2));
        assert!(matches!(
            d.apply(Probe::Failed, policy(2)).verdict,
            Verdict::Forgiven { failures: 2, of: 2 }
        ));
        assert_eq!(d.apply(Probe::Failed, policy(2)).verdict, Verdict::WentDown);
    }

    fn probes() -> impl Strategy<Value = Vec<Probe>> {
        let one = prop_oneof![
            Just(Probe::Passed),
            Just(Probe::Failed),
            Just(Probe::NotMade)
        ];
        prop::collection::vec(one, 0..200)
    }

    proptest! {
        /// An independent model: look back at the probes that were made.
        #[test]
        fn state_is_what_the_last_probes_in_a_row_say(retry in 0u32..6, probes in probes()) {
            let mut d = running(retry);
            let mut up = true;
            let mut in_a_row = 0;
            for probe in probes {
                let before = d.is_up();
                let step = d.apply(probe, policy(retry));
                match probe {
                    Probe::Passed => { in_a_row = 0; up = true; }
                    Probe::Failed => {
                        in_a_row += 1;
                        if in_a_row > retry { up = false; }
                    }
                    Probe::NotMade => {}
                }
                prop_assert_eq!(d.is_up(), up);
                prop_assert_eq!(step.verdict == Verdict::WentUp, !before && up);
                prop_assert_eq!(step.verdict == Verdict::WentDown, before && !up);
            }
        }

        #[test]
        fn probe_that_was_not_made_changes_nothing(retry in 0u32..6, probes in probes()) {
            let mut d = running(retry);
            for probe in probes {
                let before = d;
                let step = d.apply(probe, policy(retry));
                if probe == Probe::NotMade {
                    prop_assert_eq!(d, before);
                    prop_assert_eq!(step.verdict, Verdict::Unchanged);
                }
            }
        }

        #[test]
        fn short_pause_only_after_a_failure_that_may_be_forgiven(
            retry in 0u32..6,
            probes in probes(),
        ) {
            let mut d = Dampener::at_reload(false);
            for probe in probes {
                let step = d.apply(probe, policy(retry));
                if step.pause == policy(retry).delay_before_retry {
                    prop_assert_eq!(probe, Probe::Failed);
                    prop_assert!(retry > 0);
                }
            }
        }
    }
}
