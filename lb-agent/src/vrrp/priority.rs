// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tracking makes of a priority: the sum of weights, and whether the instance may take part.
//!
//! In: the configured priority, and for each track its weight and [`Condition`]. Out: a
//! [`Verdict`]. Called by the driver, which gives verdicts to the state machines. Pure. Invariant:
//! an owner's priority stays 255, any other stays within 1–254.

use serde::{Deserialize, Serialize};

use super::election::PRIORITY_OWNER;
use crate::config::model::Track;

/// What is known of a tracked thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Nothing yet: a script without a result.
    #[default]
    Unknown,
    /// Good.
    Up,
    /// Bad.
    Down,
    /// It cannot be tracked (a script that is not there): it counts for nothing.
    Disabled,
    /// The number in a file.
    Value(i64),
}

/// Whether an instance may take part in elections; the better the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may.
    Ready,
    /// A track without weight has no result yet: not before it has.
    Pending,
    /// A track without weight is down: FAULT.
    Failed,
}

/// What all tracks of an instance come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Priority to elect with, 1–255.
    pub priority: u8,
    /// Whether to elect at all.
    pub standing: Standing,
}

/// KEEPALIVED: a file adds this much at most; what takes away more is a fault.
const MOST: i64 = 253;

/// Adds up the tracks of an instance of priority `base`.
///
/// KEEPALIVED: a positive weight counts while the track is up, a negative one while it is down,
/// `reverse` changes the sign; weight 0 makes a track that is down (with `reverse`: up) a fault;
/// the number in a file is multiplied by the weight and added, and with weight 0 a number other
/// than 0 is a fault; the sum is clamped to 1–254; an owner's priority is not changed, but it can be in fault.
pub fn judge<'a>(base: u8, tracks: impl IntoIterator<Item = (&'a Track, Condition)>) -> Verdict {
    let mut sum = i64::from(base);
    let mut standing = Standing::Ready;
    for (track, condition) in tracks {
        match (track.weight, condition) {
            (0, Condition::Unknown) if standing == Standing::Ready => standing = Standing::Pending,
            (0, Condition::Unknown) | (_, Condition::Disabled) => {}
            (0, up_or_down) => {
                let up = matches!(up_or_down, Condition::Up | Condition::Value(0));
                if up == track.reverse {
                    standing = Standing::Failed;
                }
            }
            (weight, Condition::Value(number)) => {
                let sign = if track.reverse { -1 } else { 1 };
                let product = i64::from(weight)
                    .saturating_mul(number)
                    .saturating_mul(sign);
                if product < -MOST {
                    standing = Standing::Failed;
                } else {
                    sum += product.min(MOST);
                }
            }
            (weight, condition) => sum += i64::from(contribution(weight, track.reverse, condition)),
        }
    }
    let priority = if base == PRIORITY_OWNER {
        base
    } else {
        u8::try_from(sum.clamp(1, i64::from(PRIORITY_OWNER) - 1)).unwrap_or(base)
    };
    Verdict { priority, standing }
}

fn contribution(weight: i32, reverse: bool, condition: Condition) -> i32 {
    let counts = match condition {
        Condition::Up => weight > 0,
        Condition::Down => weight < 0,
        Condition::Unknown | Condition::Disabled | Condition::Value(_) => false,
    };
    match (counts, reverse) {
        (false, _) => 0,
        (true, false) => weight,
        (true, true) => -weight,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::model::Tracked;

    fn track(weight: i32, reverse: bool) -> Track {
        let what = Tracked::Script("s".to_owned());
        Track {
            what,
            weight,
            reverse,
        }
    }

    fn one(base: u8, weight: i32, reverse: bool, condition: Condition) -> (u8, Standing) {
        let verdict = judge(base, [(&track(weight, reverse), condition)]);
        (verdict.priority, verdict.standing)
    }

    #[test]
    fn keepalived_positive_weights_count_while_up_and_negative_ones_while_down() {
        use Condition::{Down, Unknown, Up};
        for (weight, reverse, condition, priority) in [
            (20, false, Up, 120),
            (20, false, Down, 100),
            (20, false, Unknown, 100),
            (-20, false, Up, 100),
            (-20, false, Down, 80),
            (-20, false, Unknown, 100),
            (20, true, Up, 80),
            (20, true, Down, 100),
            (-20, true, Up, 100),
            (-20, true, Down, 120),
        ] {
            let got = one(100, weight, reverse, condition);
            assert_eq!(
                got,
                (priority, Standing::Ready),
                "{weight} {reverse} {condition:?}"
            );
        }
    }

    #[test]
    fn keepalived_weight_0_is_a_fault_while_down_and_reversed_while_up() {
        use Condition::{Disabled, Down, Unknown, Up};
        for (reverse, condition, standing) in [
            (false, Up, Standing::Ready),
            (false, Down, Standing::Failed),
            (true, Up, Standing::Failed),
            (true, Down, Standing::Ready),
            (false, Unknown, Standing::Pending),
            (true, Unknown, Standing::Pending),
            (false, Disabled, Standing::Ready),
        ] {
            assert_eq!(one(100, 0, reverse, condition), (100, standing));
        }
    }

    #[test]
    fn a_failure_outweighs_a_missing_result() {
        let (a, b) = (track(0, false), track(0, false));
        for order in [[&a, &b], [&b, &a]] {
            let conditions = [Condition::Down, Condition::Unknown];
            let verdict = judge(100, order.into_iter().zip(conditions));
            assert_eq!(verdict.standing, Standing::Failed);
        }
    }

    #[test]
    fn keepalived_an_owner_keeps_its_priority_and_can_fail() {
        assert_eq!(
            one(255, -100, false, Condition::Down),
            (255, Standing::Ready)
        );
        assert_eq!(one(255, 0, false, Condition::Down), (255, Standing::Failed));
    }

    proptest! {
        #[test]
        fn the_sum_stays_within_1_to_254(
            base in 1u8..=254,
            tracks in prop::collection::vec((-253i32..=253, any::<bool>(), any::<bool>()), 0..50),
        ) {
            let tracks: Vec<_> = tracks
                .into_iter()
                .map(|(weight, reverse, up)| (track(weight, reverse), up))
                .collect();
            let verdict = judge(base, tracks.iter().map(|(track, up)| {
                (track, if *up { Condition::Up } else { Condition::Down })
            }));
            prop_assert!((1..=254).contains(&verdict.priority));
        }
    }

    #[test]
    fn keepalived_the_number_in_a_file_is_multiplied_and_added() {
        for (weight, reverse, number, expected) in [
            (1, false, 0, (100, Standing::Ready)),
            (1, false, 20, (120, Standing::Ready)),
            (2, false, -20, (60, Standing::Ready)),
            (1, true, 20, (80, Standing::Ready)),
            (1, false, 253, (254, Standing::Ready)),
            (1, false, -253, (1, Standing::Ready)),
            (1, false, -254, (100, Standing::Failed)),
            (254, false, -1, (100, Standing::Failed)),
            (i32::MAX, false, i64::MAX, (254, Standing::Ready)),
            (i32::MAX, false, i64::MIN, (100, Standing::Failed)),
            (0, false, 0, (100, Standing::Ready)),
            (0, false, 5, (100, Standing::Failed)),
            (0, true, 5, (100, Standing::Ready)),
            (0, true, 0, (100, Standing::Failed)),
        ] {
            let found = one(100, weight, reverse, Condition::Value(number));
            assert_eq!(found, expected, "{weight} {reverse} {number}");
        }
    }
}
