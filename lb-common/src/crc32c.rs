// SPDX-License-Identifier: MIT OR Apache-2.0
//! CRC32c (RFC 9260 appendix A) of a change, for packets whose payload is not looked at.
//!
//! Polynomials over GF(2) modulo the Castagnoli polynomial, bit-reflected: bit 31 is x^0.

/// The Castagnoli polynomial, reflected.
const POLY: u32 = 0x82f6_3b78;

/// x^(8 * 2^k), for k from 0 to 15.
const POWERS: [u32; 16] = powers();

#[allow(
    clippy::indexing_slicing,
    reason = "a constant: what is out of bounds does not compile"
)]
const fn powers() -> [u32; 16] {
    let mut powers = [0; 16];
    // x^8
    let mut power = 0x0080_0000;
    let mut k = 0;
    while k < powers.len() {
        powers[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    powers
}

/// The product of two polynomials.
#[inline(always)]
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        // Without a branch: all ones if the bit is set.
        product ^= b & 0u32.wrapping_sub(a >> bit & 1);
        b = b >> 1 ^ POLY & 0u32.wrapping_sub(b & 1);
    }
    product
}

/// What changes in the CRC32c of a message when four of its bytes change by `change` (exclusive or,
/// the first byte lowest) and `behind` bytes follow them.
#[inline(always)]
#[allow(
    clippy::indexing_slicing,
    reason = "unrolled by the compiler; an iterator would put the powers on the stack"
)]
pub fn of_change(change: u32, behind: u32) -> u32 {
    // Four bytes go through the register: multiplied by x^32.
    let mut crc = multiply(POWERS[2], change);
    let mut k = 0;
    while k < POWERS.len() {
        if behind >> k & 1 != 0 {
            crc = multiply(POWERS[k], crc);
        }
        k += 1;
    }
    crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, bit by bit.
    fn crc32c(message: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in message {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = crc >> 1 ^ POLY & 0u32.wrapping_sub(crc & 1);
            }
        }
        !crc
    }

    #[test]
    fn known_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn change_of_the_ports_is_enough(
            message in prop::collection::vec(any::<u8>(), 12..1500),
            ports in any::<[u8; 4]>(),
        ) {
            let mut changed = message.clone();
            changed[..4].copy_from_slice(&ports);
            let old = u32::from_le_bytes(message[..4].try_into().unwrap());
            let change = old ^ u32::from_le_bytes(ports);
            let behind = message.len() as u32 - 4;
            prop_assert_eq!(crc32c(&message) ^ of_change(change, behind), crc32c(&changed));
        }
    }
}
