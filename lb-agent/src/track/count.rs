// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rise and fall: what a row of successes and failures comes to.
//!
//! In: the result of each run. Out: a [`Condition`], and whether it is news. Called by
//! [`super::script`]. Pure. Invariant: with a result it is never unknown again.

use crate::vrrp::priority::Condition;

/// The row so far.
///
/// KEEPALIVED: a script without a result counts the first one at once, whatever `rise` and `fall`
/// say; later it takes `rise` successes in a row to become good and `fall` failures to become bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    rise: u32,
    fall: u32,
    condition: Condition,
    /// Results in a row that contradict the condition.
    against: u32,
}

impl Count {
    /// Before the first run; `init_fail` counts as failed until `rise` successes.
    pub fn new(rise: u32, fall: u32, init_fail: bool) -> Self {
        Self {
            rise,
            fall,
            condition: if init_fail {
                Condition::Down
            } else {
                Condition::Unknown
            },
            against: 0,
        }
    }

    /// What the row comes to.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Takes a result; the new condition if it changed.
    pub fn result(&mut self, success: bool) -> Option<Condition> {
        let (other, needed) = if success {
            (Condition::Up, self.rise)
        } else {
            (Condition::Down, self.fall)
        };
        if self.condition == other {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.condition != Condition::Unknown && self.against < needed {
            return None;
        }
        self.against = 0;
        self.condition = other;
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// keepalived's own bookkeeping (one number), as its behaviour is described: the reference.
    struct Reference {
        rise: i64,
        fall: i64,
        result: i64,
        unknown: bool,
    }

    impl Reference {
        fn new(rise: u32, fall: u32, init_fail: bool) -> Self {
            let rise = i64::from(rise);
            let result = if init_fail { 0 } else { rise - 1 };
            let fall = i64::from(fall);
            Self {
                rise,
                fall,
                result,
                unknown: !init_fail,
            }
        }

        fn condition(&self) -> Condition {
            match (self.unknown, self.result >= self.rise) {
                (true, _) => Condition::Unknown,
                (false, true) => Condition::Up,
                (false, false) => Condition::Down,
            }
        }

        fn result(&mut self, success: bool) {
            self.result = match success {
                true if self.result < self.rise - 1 => self.result + 1,
                true => self.rise + self.fall - 1,
                false if self.result > self.rise => self.result - 1,
                false => 0,
            };
            self.unknown = false;
        }
    }

    #[test]
    fn keepalived_the_first_result_counts_at_once() {
        for (success, condition) in [(true, Condition::Up), (false, Condition::Down)] {
            let mut count = Count::new(5, 5, false);
            assert_eq!(count.condition(), Condition::Unknown);
            assert_eq!(count.result(success), Some(condition));
        }
    }

    #[test]
    fn keepalived_init_fail_takes_rise_successes() {
        let mut count = Count::new(2, 1, true);
        assert_eq!(count.condition(), Condition::Down);
        assert_eq!(count.result(true), None);
        assert_eq!(count.result(true), Some(Condition::Up));
    }

    #[test]
    fn only_an_unbroken_row_changes_the_condition() {
        let mut count = Count::new(2, 3, false);
        count.result(true);
        for success in [false, false, true, false, false] {
            assert_eq!(count.result(success), None);
        }
        assert_eq!(count.result(false), Some(Condition::Down));
        assert_eq!(count.result(true), None);
        assert_eq!(count.result(false), None);
        assert_eq!(count.result(true), None);
        assert_eq!(count.result(true), Some(Condition::Up));
    }

    proptest! {
        #[test]
        fn keepalived_every_row_comes_to_the_same(
            rise in 1u32..6,
            fall in 1u32..6,
            init_fail: bool,
            results in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut count = Count::new(rise, fall, init_fail);
            let mut reference = Reference::new(rise, fall, init_fail);
            for success in results {
                let before = count.condition();
                let news = count.result(success);
                reference.result(success);
                prop_assert_eq!(count.condition(), reference.condition());
                prop_assert_eq!(news.is_some(), before != count.condition());
            }
        }
    }
}
