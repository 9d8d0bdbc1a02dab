// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other routers that claim to be MASTER while this one is.
//!
//! In: adverts heard while being MASTER, refused ones included. Out: what is new about them.
//! Called by the books of an instance. Pure. Invariant: a rival that steps down once it heard us
//! is no split brain; one that is still there an interval later is, and one whose adverts are
//! refused is at once, since it will refuse ours; forged sources cannot fill
//! the memory.

use std::net::IpAddr;
use std::time::Duration;

use super::counters::Counter;
use super::time::Nanos;

/// Rivals remembered per instance.
pub const RIVALS_MAX: usize = 16;

/// How long a rival whose adverts are refused is believed to go on in silence.
///
/// KEEPALIVED: an advert that it refuses starts its own timer anew, so beside another MASTER with
/// another password it falls silent, but keeps the addresses.
pub const REFUSED_LINGERS: Duration = Duration::from_mins(10);

/// What an advert of another MASTER says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) src: IpAddr,
    pub(super) priority: u8,
    /// Why it is not believed.
    pub(super) refused: Option<Counter>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) claim: Claim,
    pub(super) first: Nanos,
    pub(super) last: Nanos,
    pub(super) adverts: u64,
    /// It does not step down.
    pub(super) split: bool,
}

/// What is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There is another MASTER.
    Another,
    /// It has been there for this long.
    Split(Duration),
}

/// All that were heard since this router became MASTER, the latest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Rivals(Vec<Known>);

impl Rivals {
    /// Notes an advert; `patience` without one makes the next one a new claim.
    pub(super) fn heard(
        &mut self,
        now: Nanos,
        claim: Claim,
        interval: Duration,
        patience: Duration,
    ) -> Option<News> {
        let at = self.0.iter().position(|known| known.claim.src == claim.src);
        let known = at.map(|at| self.0.remove(at));
        let lately = known.filter(|known| known.split || now.since(known.last) <= patience);
        let mut next = lately.unwrap_or(Known {
            claim,
            first: now,
            last: now,
            adverts: 0,
            split: false,
        });
        (next.claim, next.last) = (claim, now);
        next.adverts = next.adverts.saturating_add(1);
        let age = now.since(next.first);
        let stays = age >= interval && lately.is_some() || claim.refused.is_some();
        let news = if !next.split && stays {
            next.split = true;
            Some(News::Split(age))
        } else if lately.is_none() {
            Some(News::Another)
        } else {
            None
        };
        if self.0.len() >= RIVALS_MAX {
            self.0.remove(0);
        }
        self.0.push(next);
        news
    }

    /// Those that did not step down at first and are silent now.
    pub(super) fn gone(&mut self, now: Nanos, patience: Duration) -> Vec<IpAddr> {
        let mut gone = Vec::new();
        for known in &mut self.0 {
            let patience = match known.claim.refused {
                Some(_) => patience.max(REFUSED_LINGERS),
                None => patience,
            };
            if known.split && now.since(known.last) > patience {
                known.split = false;
                gone.push(known.claim.src);
            }
        }
        gone
    }

    /// This router is MASTER anew.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// This router is MASTER no more, so there are no two.
    pub(super) fn end(&mut self) {
        self.0.iter_mut().for_each(|known| known.split = false);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Nanos {
        Nanos::new(ms * 1_000_000)
    }

    fn claim(last: u8) -> Claim {
        Claim {
            src: IpAddr::from([192, 0, 2, last]),
            priority: 90,
            refused: None,
        }
    }

    fn hear(rivals: &mut Rivals, ms: u64, last: u8) -> Option<News> {
        rivals.heard(at(ms), claim(last), SECOND, SECOND * 3)
    }

    #[test]
    fn one_that_steps_down_at_once_is_no_split_brain() {
        let mut rivals = Rivals::default();
        assert_eq!(hear(&mut rivals, 0, 1), Some(News::Another));
        assert_eq!(hear(&mut rivals, 2, 1), None, "its last word");
        assert_eq!(rivals.gone(at(9_000), SECOND * 3), Vec::<IpAddr>::new());
        assert_eq!(hear(&mut rivals, 9_000, 1), Some(News::Another));
    }

    #[test]
    fn one_that_goes_on_is_a_split_brain_until_it_is_silent() {
        let mut rivals = Rivals::default();
        hear(&mut rivals, 0, 1);
        assert_eq!(hear(&mut rivals, 1_000, 1), Some(News::Split(SECOND)));
        assert_eq!(hear(&mut rivals, 2_000, 1), None, "told already");
        assert_eq!(rivals.gone(at(5_000), SECOND * 3), Vec::<IpAddr>::new());
        assert_eq!(rivals.gone(at(5_001), SECOND * 3), [claim(1).src]);
        assert_eq!(rivals.gone(at(5_002), SECOND * 3), Vec::<IpAddr>::new());
        assert_eq!(rivals.iter().next().unwrap().adverts, 3);
    }

    #[test]
    fn one_whose_adverts_are_refused_is_a_split_brain_at_once_and_for_long() {
        let mut rivals = Rivals::default();
        let refused = Claim {
            refused: Some(Counter::AuthFailure),
            ..claim(1)
        };
        let mut hear = |ms: u64| rivals.heard(at(ms), refused, SECOND, SECOND * 3);
        assert_eq!(hear(0), Some(News::Split(Duration::ZERO)));
        assert_eq!(hear(60_000), None);
        assert_eq!(rivals.gone(at(600_000), SECOND * 3), Vec::<IpAddr>::new());
        assert_eq!(rivals.gone(at(660_001), SECOND * 3), [refused.src]);
    }

    #[test]
    fn forged_sources_do_not_fill_the_memory() {
        let mut rivals = Rivals::default();
        for last in 0..=255 {
            assert_eq!(
                hear(&mut rivals, u64::from(last), last),
                Some(News::Another)
            );
        }
        assert_eq!(rivals.iter().count(), RIVALS_MAX);
        assert_eq!(rivals.iter().last().unwrap().claim, claim(255));
    }
}
