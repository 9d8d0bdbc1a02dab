// SPDX-License-Identifier: MIT OR Apache-2.0
//! mh: Maglev's consistent hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network
//! Load Balancer", NSDI 2016, section 3.4).
//!
//! Each server walks through the table by a step of its own and takes what is free; they take turns,
//! as many in a row as their weights say. So when one server goes, hardly any client of the others
//! moves.
//!
//! IPVS: `ip_vs_mh.c`. Weights are the last ones above 0, so that a server that is drained keeps
//! its entries: its clients are refused, or fall back, and the others stay where they are.

use crate::abi::HASH_NOBODY;

/// Entries of the table, a prime.
pub const ENTRIES: usize = 4093;

/// Bits of the greatest number of turns.
const TURN_BITS: u32 = 6;

/// Both words of the keys of the two hashes.
const PLACE_KEY: u64 = 2_654_435_761;
const STEP_KEY: u64 = 2_654_446_892;

/// A server on its walk through the table.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    place: u32,
    step: u32,
    turns: u32,
}

/// What the weights of a service come to: what every weight is divided by.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    gcd: u32,
    shift: u32,
}

impl Scale {
    /// Of the last weights above 0 of all servers.
    pub fn of(weights: impl Iterator<Item = u32>) -> Self {
        // `max` is less (gcd - 1), which changes nothing in the quotient.
        let (max, gcd) = super::wrr::descent(weights);
        let bits = u32::BITS - max.div_ceil(gcd).leading_zeros();
        Self {
            gcd,
            shift: bits.saturating_sub(TURN_BITS),
        }
    }

    const fn turns(self, weight: u32) -> u32 {
        let turns = (weight / self.gcd) >> self.shift;
        if turns == 0 && weight != 0 { 1 } else { turns }
    }
}

impl Claimant {
    /// A server by its address (its fold) and port, as numbers, and its last weight above 0.
    pub fn new(addr: u32, port: u16, last_weight: u32, scale: Scale) -> Self {
        let sum = addr.wrapping_add(u32::from(port));
        Self {
            place: place_hash(sum) % ENTRIES as u32,
            step: hash(STEP_KEY, sum) % (ENTRIES as u32 - 1) + 1,
            turns: scale.turns(last_weight),
        }
    }
}

/// Fills the table with indexes of the claimants, which stand in the order of the list.
pub fn fill(table: &mut [u16; ENTRIES], claimants: &mut [Claimant]) {
    table.fill(HASH_NOBODY);
    if claimants.iter().all(|claimant| claimant.turns == 0) {
        return;
    }
    let mut left = ENTRIES;
    loop {
        for (index, claimant) in (0..).zip(&mut *claimants) {
            for _ in 0..claimant.turns {
                // A prime number of entries: the walk comes to each of them.
                while let Some(entry) = table.get_mut(claimant.place as usize) {
                    claimant.place = (claimant.place + claimant.step) % ENTRIES as u32;
                    if *entry == HASH_NOBODY {
                        *entry = index;
                        break;
                    }
                }
                left -= 1;
                if left == 0 {
                    return;
                }
            }
        }
    }
}

/// The hash by which clients and servers find their place.
#[inline(always)]
pub const fn place_hash(sum: u32) -> u32 {
    hash(PLACE_KEY, sum)
}

/// SipHash-1-3 of four bytes, cut to 32 bits.
///
/// IPVS: `hsiphash` of a word, on 64-bit machines.
#[inline(always)]
const fn hash(key: u64, value: u32) -> u32 {
    let word = 4 << 56 | value as u64;
    let mut v = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key ^ word,
    ];
    v = round(v);
    let [v0, v1, v2, v3] = v;
    v = round(round(round([v0 ^ word, v1, v2 ^ 0xff, v3])));
    let [v0, v1, v2, v3] = v;
    (v0 ^ v1 ^ v2 ^ v3) as u32
}

#[inline(always)]
const fn round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v1 = v1.rotate_left(13) ^ v0;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v3);
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.wrapping_add(v3);
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.wrapping_add(v1);
    v1 = v1.rotate_left(17) ^ v2;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn table(servers: &[(u32, u32)]) -> Vec<u16> {
        let scale = Scale::of(servers.iter().map(|(_, weight)| *weight));
        let mut claimants: Vec<_> = servers
            .iter()
            .map(|(addr, weight)| Claimant::new(*addr, 80, *weight, scale))
            .collect();
        let mut table = [0; ENTRIES];
        fill(&mut table, &mut claimants);
        table.to_vec()
    }

    fn share(table: &[u16], index: u16) -> usize {
        table.iter().filter(|entry| **entry == index).count()
    }

    #[test]
    fn shares_follow_weights() {
        let table = table(&[(0x0a01_0003, 1), (0x0a01_0002, 2), (0x0a01_0001, 0)]);
        assert_eq!(share(&table, 0), 1365);
        assert_eq!(share(&table, 1), 2728);
        assert_eq!(share(&table, 2), 0);
    }

    #[test]
    fn no_weight_no_entry() {
        assert_eq!(share(&table(&[]), HASH_NOBODY), ENTRIES);
        assert_eq!(share(&table(&[(1, 0)]), HASH_NOBODY), ENTRIES);
    }

    /// One of ten servers goes: few of the entries of the others change hands.
    #[test]
    fn others_stay_where_they_are() {
        let servers: Vec<_> = (1..=10).map(|n| (0x0a01_0000 + n, 1)).collect();
        let (before, after) = (table(&servers), table(&servers[1..]));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| **before != 0 && **before != **after + 1)
            .count();
        assert!(moved < ENTRIES / 20, "{moved}");
    }

    #[test]
    fn great_weights_are_scaled_down() {
        let scale = Scale::of([1000, 1, 64].into_iter());
        assert_eq!(
            [1000, 1, 64, 0].map(|weight| scale.turns(weight)),
            [62, 1, 4, 0]
        );
        let scale = Scale::of([300, 100, 0].into_iter());
        assert_eq!([300, 100, 0].map(|weight| scale.turns(weight)), [3, 1, 0]);
    }

    proptest! {
        #[test]
        fn every_entry_leads_to_a_server_with_weight(servers in prop::collection::vec((any::<u32>(), any::<u32>()), 1..40)) {
            let table = table(&servers);
            let none = servers.iter().all(|(_, weight)| *weight == 0);
            for entry in table {
                match servers.get(usize::from(entry)) {
                    Some((_, weight)) => prop_assert!(*weight > 0),
                    None => prop_assert!(none),
                }
            }
        }
    }
}
