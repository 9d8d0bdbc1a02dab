// SPDX-License-Identifier: MIT OR Apache-2.0
//! CRC32c (RFC 9260 appendix A) of a change, for packets whose payload is not looked at.
//!
//! Polynomials over GF(2) modulo the Castagnoli polynomial, bit-reflected: bit 31 is x^0.

/// The Castagnoli polynomial, reflected.
const POLY: u32 = 0x82f6_3b78;

/// x^0
const ONE: u32 = 1 << 31;

/// x^8
const BYTE: u32 = ONE >> 8;

/// x^32
const WORD: u32 = multiply(multiply(BYTE, BYTE), multiply(BYTE, BYTE));

/// What bytes that follow multiply by, by the hexadecimal digits of their number: x^(8 * d * 16^k) for
/// digit d at place k is the entry 16 k + d.
static POWERS: [u32; 64] = {
    let mut powers = [ONE; 64];
    let (mut step, mut at) = (BYTE, 0);
    #[allow(
        clippy::indexing_slicing,
        reason = "a constant: what is out of bounds does not compile"
    )]
    while at < powers.len() {
        if at % 16 == 0 {
            powers[at] = ONE;
        } else {
            powers[at] = multiply(powers[at - 1], step);
        }
        if at % 16 == 15 {
            step = multiply(powers[at], step);
        }
        at += 1;
    }
    powers
};

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
/// the first byte lowest) and `behind` bytes, at most 65,535, follow them.
///
/// Five products, whatever the length. VERIFIER: no branch.
#[inline(always)]
pub fn of_change(change: u32, behind: u32) -> u32 {
    // Four bytes go through the register.
    let mut crc = multiply(WORD, change);
    for place in 0..4 {
        let digit = behind >> (4 * place) & 15;
        let power = POWERS.get((16 * place + digit) as usize).copied();
        crc = multiply(power.unwrap_or(ONE), crc);
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
            message in prop::collection::vec(any::<u8>(), 12..65_535),
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
