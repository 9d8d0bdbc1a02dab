// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who wins an election, and how long a BACKUP waits before it claims.
//!
//! In: priorities, addresses, intervals. Out: an [`Outcome`] or a span of time. Called by
//! [`super::fsm`] only. Invariant: of two routers with different (priority, address) exactly one
//! wins, and a lower priority always waits strictly longer.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::model::VrrpVersion;

/// Priority of the owner of the addresses (RFC 9568 §5.2.4).
pub const PRIORITY_OWNER: u8 = 255;
/// Priority by which a MASTER gives its role up (RFC 9568 §5.2.4).
pub const PRIORITY_RELEASE: u8 = 0;
/// What hearing another MASTER means to a MASTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other one has the higher priority.
    YieldToPriority,
    /// Priorities are equal and the other one has the higher address.
    YieldToAddress,
    /// We win: the other one has to step down.
    Hold,
}

/// RFC 9568 §6.4.3: higher priority wins; a tie goes to the higher source address.
///
/// Without an address of our own (it vanished while we were MASTER) a tie is lost.
pub fn contest(own: (u8, Option<IpAddr>), other: (u8, IpAddr)) -> Outcome {
    let (own_priority, own_source) = own;
    let (other_priority, other_source) = other;
    if other_priority > own_priority {
        Outcome::YieldToPriority
    } else if other_priority == own_priority && own_source.is_none_or(|s| other_source > s) {
        Outcome::YieldToAddress
    } else {
        Outcome::Hold
    }
}

/// How much longer than the others a BACKUP of `priority` waits.
///
/// RFC 3768 §6.1: (256 - priority) / 256 seconds. RFC 9568 §6.1: (256 - priority) / 256 of the
/// MASTER's interval. Exact to the nanosecond (version 3 rounds half of one down).
pub fn skew(version: VrrpVersion, priority: u8, master_interval: Duration) -> Duration {
    let unit = match version {
        VrrpVersion::V2 => Duration::from_secs(1),
        VrrpVersion::V3 => master_interval,
    };
    let lag = 256 - u64::from(priority);
    let unit = u64::try_from(unit.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(unit.saturating_mul(lag) / 256)
}

/// Silence after which a BACKUP claims: `adverts` intervals of the MASTER and the skew.
///
/// RFC 3768 §6.1 `Master_Down_Interval`, RFC 9568 §6.1 `Active_Down_Interval`: three adverts.
/// KEEPALIVED: `down_timer_adverts`.
pub fn down_interval(
    version: VrrpVersion,
    priority: u8,
    master_interval: Duration,
    adverts: u8,
) -> Duration {
    master_interval
        .saturating_mul(u32::from(adverts))
        .saturating_add(skew(version, priority, master_interval))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn rfc3768_6_1_v2_skew_is_in_seconds_whatever_the_interval() {
        let five = Duration::from_secs(5);
        assert_eq!(skew(VrrpVersion::V2, 100, SECOND).as_micros(), 609_375);
        assert_eq!(skew(VrrpVersion::V2, 100, five).as_micros(), 609_375);
        assert_eq!(
            down_interval(VrrpVersion::V2, 90, five, 3).as_micros(),
            15_648_437
        );
        assert_eq!(
            down_interval(VrrpVersion::V2, 150, SECOND, 3).as_micros(),
            3_414_062
        );
    }

    #[test]
    fn rfc9568_6_1_v3_skew_scales_with_the_masters_interval() {
        let tenth = Duration::from_millis(100);
        assert_eq!(
            skew(VrrpVersion::V3, 100, tenth),
            Duration::from_nanos(60_937_500)
        );
        assert_eq!(
            down_interval(VrrpVersion::V3, 255, tenth, 3),
            Duration::from_nanos(300_390_625)
        );
    }

    #[test]
    fn rfc9568_6_4_3_a_tie_goes_to_the_higher_address_by_number() {
        let own = (100, Some(ip("10.0.0.9")));
        assert_eq!(
            contest(own, (100, ip("10.0.0.10"))),
            Outcome::YieldToAddress
        );
        assert_eq!(contest(own, (100, ip("10.0.0.8"))), Outcome::Hold);
        assert_eq!(
            contest(own, (101, ip("10.0.0.1"))),
            Outcome::YieldToPriority
        );
        assert_eq!(contest(own, (99, ip("10.0.0.200"))), Outcome::Hold);
        assert_eq!(
            contest((100, Some(ip("fe80::9"))), (100, ip("fe80::a"))),
            Outcome::YieldToAddress
        );
        assert_eq!(
            contest((100, None), (100, ip("10.0.0.1"))),
            Outcome::YieldToAddress
        );
    }

    proptest! {
        #[test]
        fn of_two_different_routers_exactly_one_holds(a: (u8, u32), b: (u8, u32)) {
            prop_assume!(a != b);
            let addr = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
            let one = contest((a.0, Some(addr(a.1))), (b.0, addr(b.1))) == Outcome::Hold;
            let two = contest((b.0, Some(addr(b.1))), (a.0, addr(a.1))) == Outcome::Hold;
            // Two routers with one address and one priority are one router to the protocol.
            prop_assert!(one != two);
        }

        #[test]
        fn a_lower_priority_waits_strictly_longer(priority in 1u8..=255, centis in 1u64..=4095) {
            let interval = Duration::from_millis(centis * 10);
            for version in [VrrpVersion::V2, VrrpVersion::V3] {
                let high = down_interval(version, priority, interval, 3);
                let low = down_interval(version, priority - 1, interval, 3);
                prop_assert!(low > high);
                prop_assert!(skew(version, priority, interval) > Duration::ZERO);
            }
        }
    }
}
