// SPDX-License-Identifier: MIT OR Apache-2.0
//! lc, wlc, sed and nq: the member with the least cost for its weight.
//!
//! Of the members that take connections it is the first with the least quotient of a cost and a
//! weight; schedulers differ in what they take for these:
//!
//! | | cost | by |
//! |---|---|---|
//! | lc | 257 × active + inactive | 1 |
//! | wlc, lblc, lblcr | 257 × active + inactive | weight |
//! | sed | active + 1 | weight |
//! | nq | 0 without active connections, else active + 1 | weight |
//!
//! IPVS: `ip_vs_wlc.c` and its kin compare a / b > c / d as a × d > c × b and keep the member that
//! stands first of equals. nq takes the first idle member at once, which is the same as a cost of
//! nothing.
//!
//! IPVS: `ip_vs_dest_conn_overhead` adds 256 × `activeconns` and a second counter. That one used to
//! hold the inactive connections; in Debian's 6.1.0-56, from which the records of `tests/ipvs` are, it
//! holds all of them (`ip_vs_bind_dest` increments it for an active one too, a change of state leaves
//! it alone, and what `ipvsadm -Ln` shows is the difference of both). So an active connection counts
//! 256 + 1. With 256, 11 of 10,000 recorded arrivals go elsewhere, where two quotients almost agree.
//!
//! VERIFIER: every member is judged by the same few instructions, with factors from a table whose
//! values the verifier does not look up, and with hardly a branch: what a branch on the scheduler
//! or on a load teaches the verifier would make each round of the loop a different one.

use super::NOBODY;
use crate::abi::{Load, SCHED_LC, SCHED_NQ, SCHED_SED, SCHED_WLC};

/// Cost of an active connection beside that of an inactive one.
const ACTIVE: u32 = 257;

/// What a scheduler takes for cost and weight.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Cost of an active connection.
    active: u32,
    /// Cost of an inactive one.
    inactive: u32,
    /// Cost of the connection to come, to any member.
    always: u32,
    /// The same, to one with active connections; a bit mask.
    busy: u32,
    /// Bits of the weight that count.
    keep: u32,
    /// Bits of it that are always set.
    set: u32,
}

impl Rule {
    /// wlc's.
    pub const WLC: Self = Self {
        active: ACTIVE,
        inactive: 1,
        always: 0,
        busy: 0,
        keep: u32::MAX,
        set: 0,
    };
    const LC: Self = Self {
        keep: 0,
        set: 1,
        ..Self::WLC
    };
    const SED: Self = Self {
        active: 1,
        inactive: 0,
        always: 1,
        ..Self::WLC
    };
    const NQ: Self = Self {
        always: 0,
        busy: 1,
        ..Self::SED
    };

    /// The rule of a scheduler.
    #[inline(always)]
    pub fn of(scheduler: u8) -> &'static Self {
        let index = usize::from(scheduler) % RULES.len();
        RULES.get(index).unwrap_or(&Self::WLC)
    }
}

/// Rules by `SCHED_*`; a power of two, so that any number is an index after a mask.
#[rustfmt::skip]
static RULES: [Rule; 16] = {
    const _: () = assert!(SCHED_LC == 3 && SCHED_WLC == 4 && SCHED_SED == 5 && SCHED_NQ == 6);
    const WLC: Rule = Rule::WLC;
    [
        WLC, WLC, WLC, Rule::LC, WLC, Rule::SED, Rule::NQ, WLC,
        WLC, WLC, WLC, WLC, WLC, WLC, WLC, WLC,
    ]
};

/// The best member so far.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Best {
    /// Its id in `DESTS`, or [`NOBODY`].
    pub dest: u32,
    cost: u64,
    weight: u64,
}

impl Best {
    /// Nobody yet.
    #[inline(always)]
    pub const fn new() -> Self {
        Self {
            dest: NOBODY,
            // Whoever comes first is better: this times any weight is more than a cost times 0.
            cost: 1,
            weight: 0,
        }
    }

    /// Looks at a member with a weight above 0 that is not overloaded. `opaque` returns the same
    /// number, of which the compiler knows nothing.
    ///
    /// With at most `MAX_CONNS` connections, products with weights of 31 bits fit a word.
    #[inline(always)]
    pub fn look(
        &mut self,
        rule: &Rule,
        (dest, weight): (u32, u32),
        load: &Load,
        opaque: impl Fn(u64) -> u64,
    ) {
        let (active, inactive) = (u64::from(load.active()), u64::from(load.inactive()));
        // Of a rule that the compiler knows, it knows this.
        let busy = if rule.busy == 0 {
            0
        } else {
            opaque((0u64.wrapping_sub(active).cast_signed() >> 63).cast_unsigned())
        };
        let cost = (active.wrapping_mul(rule.active.into()))
            .wrapping_add(inactive.wrapping_mul(rule.inactive.into()))
            .wrapping_add(busy & u64::from(rule.busy))
            .wrapping_add(rule.always.into());
        let by = u64::from(weight & rule.keep | rule.set);
        if self.cost.wrapping_mul(by) > cost.wrapping_mul(self.weight) {
            (self.dest, self.cost, self.weight) = (dest, cost, by);
        }
    }
}

impl Default for Best {
    fn default() -> Self {
        Self::new()
    }
}

/// IPVS: `ip_vs_dest_conn_overhead`, see above.
#[inline(always)]
pub(super) fn overhead(load: &Load) -> u64 {
    u64::from(load.active()) * ACTIVE as u64 + u64::from(load.inactive())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::abi::{LOAD_ACTIVE, LOAD_INACTIVE};

    /// Members as weight, active, inactive; the place of the one chosen.
    fn best(scheduler: u8, members: &[(u32, u32, u32)]) -> Option<u32> {
        let mut best = Best::new();
        for (dest, (weight, active, inactive)) in (0..).zip(members) {
            if *weight > 0 {
                let load = load(*active, *inactive);
                best.look(Rule::of(scheduler), (dest, *weight), &load, |n| n);
            }
        }
        (best.dest != NOBODY).then_some(best.dest)
    }

    fn load(active: u32, inactive: u32) -> Load {
        Load {
            conns: u64::from(active) * LOAD_ACTIVE + u64::from(inactive) * LOAD_INACTIVE,
            ..Load::default()
        }
    }

    #[test]
    fn first_of_equals() {
        for scheduler in [SCHED_LC, SCHED_WLC, SCHED_SED, SCHED_NQ] {
            assert_eq!(best(scheduler, &[(0, 0, 0), (1, 0, 0), (1, 0, 0)]), Some(1));
            assert_eq!(best(scheduler, &[(0, 0, 0), (0, 0, 0)]), None);
            assert_eq!(best(scheduler, &[]), None);
        }
    }

    #[test]
    fn lc_does_not_look_at_weights() {
        assert_eq!(best(SCHED_LC, &[(100, 2, 0), (1, 1, 256)]), Some(1));
        assert_eq!(best(SCHED_LC, &[(100, 2, 0), (1, 1, 257)]), Some(0));
    }

    #[test]
    fn wlc_weighs() {
        assert_eq!(best(SCHED_WLC, &[(1, 1, 0), (3, 2, 0)]), Some(1));
        assert_eq!(best(SCHED_WLC, &[(1, 1, 0), (3, 3, 0)]), Some(0));
    }

    #[test]
    fn sed_prefers_the_faster_server_to_an_idle_one() {
        assert_eq!(best(SCHED_SED, &[(1, 0, 0), (3, 1, 0)]), Some(1));
        assert_eq!(best(SCHED_NQ, &[(1, 0, 0), (3, 1, 0)]), Some(0));
        assert_eq!(best(SCHED_NQ, &[(3, 1, 0), (1, 0, 0), (9, 0, 0)]), Some(1));
        assert_eq!(best(SCHED_NQ, &[(1, 1, 0), (3, 1, 0)]), Some(1));
    }

    proptest! {
        /// Whatever the loads, somebody who takes connections is chosen if there is one, and for
        /// wlc nobody is better.
        #[test]
        fn any_load_is_survived(members in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..20), scheduler in any::<u8>()) {
            match best(scheduler, &members) {
                Some(n) => prop_assert!(members[n as usize].0 > 0),
                None => prop_assert!(members.iter().all(|m| m.0 == 0)),
            }
        }

        #[test]
        fn nobody_is_better(members in prop::collection::vec((1u32..100, 0u32..100, 0u32..1000), 1..20)) {
            let quotient = |(weight, active, inactive): (u32, u32, u32)| f64::from(active * ACTIVE + inactive) / f64::from(weight);
            let chosen = best(SCHED_WLC, &members).unwrap();
            let least = members.iter().copied().map(quotient).fold(f64::MAX, f64::min);
            prop_assert!((quotient(members[chosen as usize]) - least).abs() < 1e-9);
        }
    }
}
