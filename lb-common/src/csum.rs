// SPDX-License-Identifier: MIT OR Apache-2.0
//! Internet checksums: the full sum of RFC 1071 and the update of RFC 1624.
//!
//! All words are taken and given in the order they have in memory (one's complement sums do not
//! care for byte order as long as it is one), so nothing is swapped on the packet path.

/// RFC 1624 equation 3, `HC' = ~(~HC + ~m + m')`: the checksum after one 16-bit word changed from
/// `old` to `new`.
#[inline(always)]
pub const fn update16(check: u16, old: u16, new: u16) -> u16 {
    let mut sum = (!check) as u32 + (!old) as u32 + new as u32;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
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
