// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which maps an agent may take over from another one.
//!
//! Pinned maps outlive an agent. Its successor, perhaps of another version of xlvs, goes on with
//! them only if both numbers here are its own.

use core::mem::size_of;

use super::{
    Conn6Line, ConnLine, Dest, FOLLOW_BYTES, FollowEvent, FollowFilter, FollowMeter, Fragment,
    FragmentKey, HashLine, Hop, Load, MAX_DESTS, MAX_FOLLOWERS, MAX_HASH_LINES, MAX_HOPS, MAX_MACS,
    MAX_MEMBER_LINES, MAX_SERVICE_ROWS, MAX_SERVICES, MemberLine, STEP_COUNT, Service, ServiceKey,
    Shared, Traffic, Tunnel, VERDICT_SLOTS,
};

/// Raise it whenever a map's meaning changes in a way that the sizes do not show: fields that swap
/// places, a code that means something else, another hash, what one program leaves for another
/// that it goes on in.
pub const ABI_VERSION: u32 = 3;

/// A digest of the sizes of all rows and of all capacities that are not configured.
pub const ABI_LAYOUT: u32 = layout(&[
    size_of::<ServiceKey>(),
    size_of::<Service>(),
    size_of::<MemberLine>(),
    size_of::<HashLine>(),
    size_of::<Dest>(),
    size_of::<Tunnel>(),
    size_of::<Load>(),
    size_of::<Shared>(),
    size_of::<Hop>(),
    size_of::<ConnLine>(),
    size_of::<Conn6Line>(),
    size_of::<Traffic>(),
    size_of::<FragmentKey>(),
    size_of::<Fragment>(),
    size_of::<FollowFilter>(),
    size_of::<FollowEvent>(),
    size_of::<FollowMeter>(),
    MAX_SERVICES as usize,
    MAX_SERVICE_ROWS as usize,
    MAX_MEMBER_LINES as usize,
    MAX_HASH_LINES as usize,
    MAX_DESTS as usize,
    MAX_HOPS as usize,
    MAX_MACS as usize,
    MAX_FOLLOWERS as usize,
    FOLLOW_BYTES as usize,
    VERDICT_SLOTS as usize,
    STEP_COUNT as usize,
]);

/// FNV-1a over the numbers.
const fn layout(mut numbers: &[usize]) -> u32 {
    let mut digest = 0x811c_9dc5;
    while let [first, rest @ ..] = numbers {
        digest = (digest ^ *first as u32).wrapping_mul(0x0100_0193);
        numbers = rest;
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_is_another_layout() {
        assert_ne!(layout(&[1, 2, 3]), layout(&[1, 2, 4]));
        assert_ne!(layout(&[1, 2]), layout(&[2, 1]));
    }
}
