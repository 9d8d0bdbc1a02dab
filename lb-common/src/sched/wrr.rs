// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weighted round robin, in IPVS's interleaving.
//!
//! IPVS: `ip_vs_wrr.c`. A current weight descends from the greatest weight in steps of the weights'
//! common divisor; each pass over the list takes the members whose weight is not below it. Servers
//! 3, 2, 1 added in that order (the last added stands first) give `3 2 1 1 2 1` by weight.

/// Where the descent starts and its step, for `Service::max_weight` and `Service::weight_gcd`.
///
/// IPVS: `ip_vs_wrr_max_weight(svc) - (di - 1)` and `ip_vs_wrr_gcd_weight`. (0, 1) when no member
/// takes connections.
pub fn descent(weights: impl Iterator<Item = u32>) -> (u32, u32) {
    let (mut max, mut gcd) = (0, 0);
    for weight in weights {
        max = u32::max(max, weight);
        let (mut a, mut b) = (gcd, weight);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        gcd = a;
    }
    if max == 0 {
        (0, 1)
    } else {
        (max - (gcd - 1), gcd)
    }
}

/// The current weight after the list has changed, brought into the new range.
///
/// IPVS: `ip_vs_wrr_dest_changed`.
#[inline(always)]
pub const fn after_change(weight: u32, max_weight: u32, step: u32) -> u32 {
    if weight > max_weight || weight == 0 {
        max_weight
    } else if step > 1 {
        (weight / step).wrapping_mul(step).wrapping_add(1)
    } else {
        weight
    }
}

/// The current weight of a service whose members were added one by one in this order, as
/// keepalived and ipvsadm add them to IPVS: each addition counts as a change.
pub fn after_adding(weights: &[u32]) -> u32 {
    (1..=weights.len()).fold(0, |weight, n| {
        let (max, gcd) = descent(weights.iter().take(n).copied());
        after_change(weight, max, gcd)
    })
}

/// The current weight after this one, when the end of the list is reached.
#[inline(always)]
pub(super) const fn below(weight: u32, step: u32, max_weight: u32) -> u32 {
    if weight > step {
        weight - step
    } else {
        max_weight
    }
}

/// The first current weight from this one down that is not above the greatest weight of all.
#[inline(always)]
pub(super) fn within(weight: u32, greatest: u32, step: u32) -> u32 {
    if weight <= greatest {
        return weight;
    }
    let step = if step == 0 { 1 } else { step };
    let steps = (weight - greatest).div_ceil(step);
    match weight.checked_sub(steps.wrapping_mul(step)) {
        // Only from a current weight that no descent comes to.
        None | Some(0) => greatest,
        Some(weight) => weight,
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::super::Cursor;
    use super::super::testing::{pick, pick_but, picks, service};
    use super::*;
    use crate::abi::SCHED_WRR;

    /// `ip_vs_wrr_schedule` in words of an index: `None` is the head of the list.
    fn pass_by_pass(
        weights: &[u32],
        usable: impl Fn(usize) -> bool,
        (max, step): (u32, u32),
        last: &mut Option<usize>,
        current: &mut u32,
    ) -> Option<u32> {
        if max == 0 {
            return None;
        }
        let began = *last;
        let (mut lowest, mut restarted, mut stop) = (false, false, None);
        loop {
            let from = last.map_or(0, |n| n + 1);
            for (n, weight) in weights.iter().enumerate().skip(from) {
                *last = Some(n);
                if usable(n) && *weight >= *current {
                    return Some(n as u32);
                }
                if stop == Some(n) {
                    return None;
                }
            }
            *last = None;
            *current = current.saturating_sub(step);
            if *current == 0 {
                *current = max;
                if lowest || began.is_none() {
                    return None;
                }
                restarted = true;
            }
            lowest = *current <= step;
            if lowest && restarted {
                stop = began;
            }
        }
    }

    /// The choices by the order in which the members were added, which is the reverse of the list.
    fn by_order_added(added: &[u32], n: usize) -> Vec<usize> {
        let list: Vec<u32> = added.iter().rev().copied().collect();
        let svc = service(SCHED_WRR, 1, &list);
        let cursor = Cursor {
            epoch: 1,
            index: Cursor::HEAD,
            weight: after_adding(added),
        };
        picks(&svc, &list, &mut cursor.pack(), n)
            .into_iter()
            .map(|i| added.len() - i as usize)
            .collect()
    }

    /// Recorded from the IPVS of Linux 6.1: the first servers of weights 3, 2, 1.
    #[test]
    fn same_order_as_ipvs() {
        assert_eq!(
            by_order_added(&[3, 2, 1], 12),
            [3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1]
        );
    }

    #[test]
    fn weight_0_gets_nothing() {
        let weights = [0, 2, 0, 1];
        let svc = service(SCHED_WRR, 1, &weights);
        for index in picks(&svc, &weights, &mut 0, 30) {
            assert!(weights[index as usize] > 0);
        }
        assert_eq!(pick(&service(SCHED_WRR, 1, &[0, 0]), &[0, 0], &mut 0), None);
    }

    #[test]
    fn changed_list_starts_from_its_head() {
        let mut word = 0;
        let weights = [4, 4, 4];
        picks(&service(SCHED_WRR, 1, &weights), &weights, &mut word, 2);
        assert_eq!(
            pick(&service(SCHED_WRR, 2, &weights), &weights, &mut word),
            Some(0)
        );
    }

    #[test]
    fn common_divisor_shortens_the_cycle() {
        assert_eq!(descent([100, 50].into_iter()), (51, 50));
        let svc = service(SCHED_WRR, 1, &[100, 50]);
        assert_eq!(picks(&svc, &[100, 50], &mut 0, 6), [0, 0, 1, 0, 0, 1]);
    }

    proptest! {
        /// Over one full cycle each member is chosen exactly weight / gcd times.
        #[test]
        fn shares_are_exact_over_a_cycle(weights in prop::collection::vec(0u32..40, 1..12)) {
            let (max, gcd) = descent(weights.iter().copied());
            prop_assume!(max > 0);
            let cycle: u32 = weights.iter().map(|w| w / gcd).sum();
            let svc = service(SCHED_WRR, 7, &weights);
            let mut word = 0;
            let mut seen = std::vec![0; weights.len()];
            for index in picks(&svc, &weights, &mut word, cycle as usize) {
                seen[index as usize] += 1;
            }
            for (weight, n) in weights.iter().zip(seen) {
                prop_assert_eq!(weight / gcd, n);
            }
        }

        /// IPVS's search, pass by pass, finds the same and stops in the same place.
        #[test]
        fn as_pass_by_pass(weights in prop::collection::vec(0u32..9, 1..9), full in prop::collection::vec(any::<u8>(), 1..40)) {
            let (max, gcd) = descent(weights.iter().copied());
            let svc = service(SCHED_WRR, 7, &weights);
            let (mut last, mut current) = (None, max);
            let mut word = Cursor { epoch: 7, index: Cursor::HEAD, weight: max }.pack();
            for mask in full {
                let full: Vec<u32> = (0..8).filter(|bit| mask & 1 << bit != 0).collect();
                let usable = |n: usize| !full.contains(&(n as u32));
                let by_passes = pass_by_pass(&weights, usable, (max, gcd), &mut last, &mut current);
                let ours = pick_but(&svc, &weights, &full, &mut word);
                prop_assert_eq!(by_passes, ours);
                let cursor = Cursor::unpack(word);
                prop_assert_eq!(cursor.weight, current);
                prop_assert_eq!(last.unwrap_or(usize::from(Cursor::HEAD)), usize::from(cursor.index));
            }
        }

        /// Whatever word is in the map, a decision ends and names a member that takes connections.
        #[test]
        fn any_cursor_is_survived(weights in prop::collection::vec(0u32..70_000, 1..256), word in any::<u64>(), epoch in any::<u16>()) {
            let svc = service(SCHED_WRR, epoch, &weights);
            let mut word = word;
            match pick(&svc, &weights, &mut word) {
                Some(index) => prop_assert!(weights[index as usize] > 0 || Cursor::unpack(word).weight == 0),
                None => prop_assert!(weights.iter().all(|w| *w == 0) || Cursor::unpack(word).weight > svc.max_weight),
            }
        }
    }
}
