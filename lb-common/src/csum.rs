// SPDX-License-Identifier: MIT OR Apache-2.0
//! Internet checksums: the full sum of RFC 1071 and the update of RFC 1624.
//!
//! All words are taken and given in the order they have in memory (one's complement sums do not
//! care for byte order as long as it is one), so nothing is swapped on the packet path.

use crate::wire::Ipv4;

/// RFC 1624 equation 3, `HC' = ~(~HC + ~m + m')`: the checksum after one 16-bit word changed from
/// `old` to `new`.
#[inline(always)]
pub const fn update16(check: u16, old: u16, new: u16) -> u16 {
    let mut sum = (!check) as u32 + (!old) as u32 + new as u32;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// What several changed words do to a checksum: collected once, applied to the checksum of the IPv4
/// header and to that of the transport, whose pseudo-header holds the addresses, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// Nothing changed.
    pub const NONE: Self = Self(0);

    /// A 16-bit word changed.
    #[inline(always)]
    pub const fn word16(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u32 + new as u32)
    }

    /// A 32-bit word changed.
    #[inline(always)]
    pub const fn word32(self, old: u32, new: u32) -> Self {
        self.word16(old as u16, new as u16)
            .word16((old >> 16) as u16, (new >> 16) as u16)
    }

    /// The checksum after all changes (RFC 1624 equation 3).
    #[inline(always)]
    pub const fn apply(self, check: u16) -> u16 {
        let mut sum = (!check) as u32 + self.0;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }
}

/// A sum that was let grow beyond 16 bits, end-around carries added.
#[inline(always)]
pub const fn fold(mut sum: u32) -> u32 {
    sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// Sum of the 16-bit words of an address, not folded.
#[inline(always)]
pub const fn words_sum(words: &[u32; 4]) -> u32 {
    let [a, b, c, d] = *words;
    (a & 0xffff)
        + (a >> 16)
        + (b & 0xffff)
        + (b >> 16)
        + (c & 0xffff)
        + (c >> 16)
        + (d & 0xffff)
        + (d >> 16)
}

/// Sum of an IPv4 header without options, folded.
#[inline(always)]
pub const fn ipv4_sum(ip: &Ipv4) -> u32 {
    fold(
        u16::from_ne_bytes([ip.version_ihl, ip.tos]) as u32
            + ip.total_len as u32
            + ip.id as u32
            + ip.frag as u32
            + u16::from_ne_bytes([ip.ttl, ip.proto]) as u32
            + ip.check as u32
            + words_sum(&[ip.src, ip.dst, 0, 0]),
    )
}

/// RFC 1071: the one's complement sum of `data`, not inverted, continuing from `sum`.
///
/// For short headers and for tests; on the packet path checksums are only ever updated.
pub fn sum(data: &[u8], mut sum: u32) -> u32 {
    let mut words = data.chunks_exact(2);
    for word in &mut words {
        if let [a, b] = word {
            sum += u32::from(u16::from_ne_bytes([*a, *b]));
        }
    }
    if let [last] = words.remainder() {
        sum += u32::from(u16::from_ne_bytes([*last, 0]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The checksum field for a message whose sum (with the field at zero) is `sum`.
pub const fn finish(sum: u32) -> u16 {
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn rfc_1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!((sum(&data, 0) as u16).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000.
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn a_delta_is_the_same_as_one_word_after_the_other(
            check in any::<u16>(),
            words in prop::collection::vec((any::<u32>(), any::<u32>()), 0..9),
        ) {
            let mut delta = Delta::NONE;
            let mut one_by_one = check;
            for (old, new) in words {
                delta = delta.word32(old, new);
                one_by_one = update16(one_by_one, old as u16, new as u16);
                one_by_one = update16(one_by_one, (old >> 16) as u16, (new >> 16) as u16);
            }
            prop_assert_eq!(delta.apply(check), one_by_one);
        }

        /// A receiver sums everything, field included, and wants all ones.
        #[test]
        fn updated_checksum_is_valid(mut data in prop::collection::vec(any::<u8>(), 20..60), new in any::<u16>()) {
            data.truncate(data.len() / 2 * 2);
            data[10] = 0;
            data[11] = 0;
            let check = finish(sum(&data, 0));
            let old = u16::from_ne_bytes([data[8], data[9]]);
            data[8..10].copy_from_slice(&new.to_ne_bytes());
            data[10..12].copy_from_slice(&update16(check, old, new).to_ne_bytes());
            // All zeros is the one message whose sum has no other representation.
            prop_assume!(data.iter().any(|b| *b != 0));
            prop_assert_eq!(sum(&data, 0), 0xffff, "{:?}", data.iter().collect::<Vec<_>>());
        }
    }
}
