// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keyed hash that spreads flows over the connection table.
//!
//! Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): with
//! random keys no client can choose flows that meet in one bucket more often than by chance. The
//! mixing steps after it (multiplications of MurmurHash3's `fmix64`) make neighbouring flows
//! strangers: one step for the first line, another for the second, which few packets look into.
//! IPv6 addresses take the multiplication of pairs (NH, of UMAC): two words by one multiplication.

/// Random words that the agent draws when it loads the program.
pub type HashKey = [u64; 6];

/// The hash of an IPv4 flow, see [`first`] and [`second`]. `ports` are both ports as in the packet.
#[inline(always)]
pub const fn flow(key: &[u64; 4], client: u32, other: u32, ports: u32, proto: u8) -> u64 {
    let [k0, k1, k2, k3] = *key;
    mix(k0
        .wrapping_add(k1.wrapping_mul(client as u64))
        .wrapping_add(k2.wrapping_mul(other as u64))
        .wrapping_add(k3.wrapping_mul(ports as u64 | (proto as u64) << 32)))
}

/// The same of an IPv6 flow.
#[inline(always)]
pub const fn flow6(
    key: &HashKey,
    client: &[u32; 4],
    other: &[u32; 4],
    ports: u32,
    proto: u8,
) -> u64 {
    let [k0, k1, k2, k3, k4, k5] = *key;
    let [a, b, c, d] = *client;
    let [e, f, g, h] = *other;
    // Two words of 32 bits are multiplied together (the paper's pairwise form): half the
    // multiplications.
    mix(k0
        .wrapping_add(pair(k1, a, b))
        .wrapping_add(pair(k2, c, d))
        .wrapping_add(pair(k4, e, f))
        .wrapping_add(pair(k5, g, h))
        .wrapping_add(k3.wrapping_mul(ports as u64 | (proto as u64) << 32)))
}

#[inline(always)]
const fn pair(key: u64, a: u32, b: u32) -> u64 {
    (key as u32).wrapping_add(a) as u64 * ((key >> 32) as u32).wrapping_add(b) as u64
}

#[inline(always)]
const fn mix(sum: u64) -> u64 {
    (sum ^ sum >> 32).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// What chooses a flow's first line, and whatever else shall differ from flow to flow.
#[inline(always)]
pub const fn first(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// What chooses its second line.
#[inline(always)]
pub const fn second(hash: u64) -> u32 {
    ((hash ^ hash >> 29).wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 32) as u32
}

/// Maps half a hash to `0..buckets`, each as often as any other, without a division.
#[inline(always)]
pub const fn bucket(half: u32, buckets: u32) -> u32 {
    ((half as u64 * buckets as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    const KEY: HashKey = [
        0x1234_5678_9abc_def1,
        0xfedc_ba98_7654_3211,
        0x0f1e_2d3c_4b5a_6979,
        0x8796_a5b4_c3d2_e1f1,
        0x1122_3344_5566_7789,
        0x99aa_bbcc_ddee_ff01,
    ];

    /// The same in IPv6.
    #[test]
    fn neighbours_of_ipv6_are_spread_evenly() {
        let virt = [0xb80d_0120, 0, 0, 0x0100_0000];
        spread(|n| {
            let client = [0xb80d_0120, 0, 0, (n / 16).to_be()];
            let ports = u32::from((40_000 + (n % 16) as u16).to_be()) | 0x5000_0000;
            flow6(&KEY, &client, &virt, ports, 6)
        });
    }

    /// Clients in a row, ports in a row: each half spreads them as chance would.
    #[test]
    fn neighbours_are_spread_evenly() {
        spread(|n| {
            let client = (0x0a00_0000 + n / 16).to_be();
            let ports = u32::from((40_000 + (n % 16) as u16).to_be()) | 0x5000_0000;
            let [a, b, c, d, ..] = KEY;
            flow(&[a, b, c, d], client, 0x0164_33c6, ports, 6)
        });
    }

    fn spread(hash: impl Fn(u32) -> u64) {
        const BUCKETS: u32 = 1000;
        const FLOWS: u32 = 100_000;
        for half in [first, second] {
            let mut seen = vec![0u32; BUCKETS as usize];
            for n in 0..FLOWS {
                seen[bucket(half(hash(n)), BUCKETS) as usize] += 1;
            }
            let mean = f64::from(FLOWS / BUCKETS);
            let square = |n: &u32| (f64::from(*n) - mean).powi(2) / mean;
            let chi: f64 = seen.iter().map(square).sum();
            // 999 degrees of freedom: mean 999, standard deviation 45.
            assert!((800.0..1200.0).contains(&chi), "{chi}");
        }
    }
}
