// SPDX-License-Identifier: MIT OR Apache-2.0
//! `auth_type AH`: the IPsec authentication header of RFC 2402 with HMAC-MD5-96, version 2 only.
//!
//! In: an IPv4 header, a message, a key, a sequence number. Out: the header that goes between the
//! two, or whether one that came is right. Pure.
//!
//! ```text
//!  0               1               2               3
//! +---------------+---------------+---------------+---------------+
//! | next: 112     | length: 4     | reserved                      |
//! +---------------+---------------+---------------+---------------+
//! | SPI: the source address                                       |
//! +---------------------------------------------------------------+
//! | sequence number                                               |
//! +---------------------------------------------------------------+
//! | 12 bytes of the HMAC                                          |
//! +---------------------------------------------------------------+
//! ```

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use super::PROTOCOL;

/// Length of the header.
pub(super) const AH_HEADER: usize = 24;
const ICV_AT: usize = 12;
/// RFC 2402 §2.2: in words of 32 bits, minus 2.
const LENGTH: u8 = 4;

/// Splits the authentication header from the message behind it.
pub(super) fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (ah, message) = payload.split_at_checked(AH_HEADER)?;
    let fits = ah.first() == Some(&PROTOCOL) && ah.get(1) == Some(&LENGTH);
    fits.then_some((ah, message))
}

/// The header for a message behind `ip`.
pub(super) fn header(key: &[u8; 8], ip: &[u8], sequence: u32, message: &[u8]) -> [u8; AH_HEADER] {
    let mut ah = [0; AH_HEADER];
    ah[0] = PROTOCOL;
    ah[1] = LENGTH;
    for (to, from) in ah[4..8].iter_mut().zip(spi(ip)) {
        *to = *from;
    }
    ah[8..ICV_AT].copy_from_slice(&sequence.to_be_bytes());
    let icv = icv(key, ip, &ah, message);
    for (to, from) in ah[ICV_AT..].iter_mut().zip(icv) {
        *to = from;
    }
    ah
}

/// The sequence number of a header that is right.
pub(super) fn check(key: &[u8; 8], ip: &[u8], ah: &[u8], message: &[u8]) -> Option<u32> {
    let ah: [u8; AH_HEADER] = ah.try_into().ok()?;
    let mut blank = ah;
    blank[ICV_AT..].fill(0);
    let expected = icv(key, ip, &blank, message);
    let heard = &ah[ICV_AT..];
    // In constant time: no position of a difference can be measured.
    let differ = heard
        .iter()
        .zip(expected)
        .fold(0, |bits, (a, b)| bits | (a ^ b));
    let [_, _, _, _, s0, s1, s2, s3, n0, n1, n2, n3, ..] = ah;
    let right = differ == 0 && spi(ip) == [s0, s1, s2, s3];
    right.then_some(u32::from_be_bytes([n0, n1, n2, n3]))
}

/// KEEPALIVED: the sender's address.
fn spi(ip: &[u8]) -> &[u8] {
    ip.get(12..16).unwrap_or_default()
}

/// The HMAC over the IP header with what changes on the way at 0, this header and the message.
///
/// KEEPALIVED: against RFC 2402 §3.3.3.1.1.1 the TTL is not at 0 on the way to a group, where it
/// is 255; to a unicast peer it is.
fn icv(
    key: &[u8; 8],
    ip: &[u8],
    blank: &[u8; AH_HEADER],
    message: &[u8],
) -> [u8; AH_HEADER - ICV_AT] {
    const CHANGES: [usize; 5] = [1, 6, 7, 10, 11];
    const TTL_AT: usize = 8;
    const DESTINATION_AT: usize = 16;
    let mut header = ip.to_vec();
    // 224.0.0.0/4.
    let multicast = ip.get(DESTINATION_AT).is_some_and(|byte| byte >> 4 == 0xe);
    let ttl = (!multicast).then_some(TTL_AT);
    for at in CHANGES.into_iter().chain(ttl) {
        if let Some(byte) = header.get_mut(at) {
            *byte = 0;
        }
    }
    let mut icv = [0; AH_HEADER - ICV_AT];
    // A key of any length is good.
    if let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) {
        mac.update(&header);
        mac.update(blank);
        mac.update(message);
        let sum = mac.finalize().into_bytes();
        for (to, from) in icv.iter_mut().zip(sum) {
            *to = from;
        }
    }
    icv
}
