// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round robin: the next member that takes connections, whatever its weight.
//!
//! IPVS: `ip_vs_rr.c` keeps the last server and goes on from there, skipping weight 0 and what is
//! overloaded, until it is back at that server. When the list changes it goes on behind the same
//! server; only if that was removed do we begin at the head, IPVS behind its predecessor.

/// Any weight above 0 will do.
pub(super) const LEAST: u32 = 1;

#[cfg(test)]
mod tests {
    use super::super::testing::{pick, pick_but, picks, service};
    use super::super::{Cursor, Turn};
    use crate::abi::SCHED_RR;

    #[test]
    fn takes_each_in_turn_and_skips_weight_0() {
        let weights = [5, 0, 1, 9];
        let svc = service(SCHED_RR, 1, &weights);
        assert_eq!(picks(&svc, &weights, &mut 0, 7), [0, 2, 3, 0, 2, 3, 0]);
    }

    #[test]
    fn nobody_when_all_are_drained_or_full() {
        let weights = [0, 0];
        let svc = service(SCHED_RR, 1, &weights);
        assert_eq!(pick(&svc, &weights, &mut 0), None);
        assert_eq!(pick(&service(SCHED_RR, 1, &[]), &[], &mut 0), None);
        let weights = [1, 0, 1];
        let svc = service(SCHED_RR, 1, &weights);
        assert_eq!(pick_but(&svc, &weights, &[0, 2], &mut 0), None);
        assert_eq!(pick_but(&svc, &weights, &[0], &mut 0), Some(2));
    }

    /// The word knows the server, so that its place can be found in another list.
    #[test]
    fn remembers_the_server() {
        let weights = [1, 1, 1];
        let mut word = 0;
        picks(&service(SCHED_RR, 1, &weights), &weights, &mut word, 2);
        let cursor = Cursor::unpack(word);
        assert_eq!(cursor.moved(&service(SCHED_RR, 1, &weights)), None);
        let changed = service(SCHED_RR, 2, &[1; 4]);
        assert_eq!(cursor.moved(&changed), Some(101));
        let cursor = Cursor {
            epoch: 2,
            index: 2,
            ..cursor
        };
        assert_eq!(Turn::start(&changed, cursor).from, 3);
    }
}
