// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round robin: the next member that takes connections, whatever its weight.
//!
//! IPVS: `ip_vs_rr.c` keeps the last server and goes on from there, skipping weight 0.

use super::Walk;

/// Each member once, from the one after the member chosen last.
#[inline(always)]
pub(super) fn start(walk: &mut Walk) {
    walk.left = walk.members;
}

/// The next member. Any weight above 0 will do.
#[inline(always)]
pub(super) fn advance(walk: &mut Walk) -> bool {
    if walk.left == 0 {
        return false;
    }
    walk.left -= 1;
    walk.index = walk.index.wrapping_add(1);
    if walk.index >= walk.members {
        walk.index = 0;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{pick, picks, service};
    use crate::abi::SCHED_RR;

    #[test]
    fn takes_each_in_turn_and_skips_weight_0() {
        let weights = [5, 0, 1, 9];
        let svc = service(SCHED_RR, 1, &weights);
        assert_eq!(picks(&svc, &weights, &mut 0, 7), [0, 2, 3, 0, 2, 3, 0]);
    }

    #[test]
    fn nobody_when_all_are_drained() {
        let weights = [0, 0];
        assert_eq!(
            pick(&service(SCHED_RR, 1, &weights), &weights, &mut 0),
            None
        );
        assert_eq!(pick(&service(SCHED_RR, 1, &[]), &[], &mut 0), None);
    }
}
