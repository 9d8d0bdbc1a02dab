// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a MASTER announces its addresses: after the takeover, over a rival, and to refresh.
//!
//! In: the moment, and what the configuration says. Out: [`Action::Announce`]. Invariant: a rival's
//! adverts cause a round an interval at most.

use std::time::Duration;

use super::super::event::Action;
use super::super::time::Nanos;
use crate::config::model::Announcing;

/// The rounds behind and before a MASTER.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    last: Nanos,
    /// The second round after a takeover, or after a rival was heard, and its packets.
    again: Option<(Nanos, u32)>,
    refresh: Option<Nanos>,
}

impl Rounds {
    /// The first round has just been.
    pub(super) fn after_takeover(now: Nanos, announcing: &Announcing) -> Self {
        Self {
            last: now,
            again: later(now, announcing.delay, announcing.repeat),
            refresh: later(now, announcing.refresh, announcing.refresh_repeat).map(|(at, _)| at),
        }
    }

    /// When `timer` is due.
    pub(super) fn due(&self) -> Option<Nanos> {
        let again = self.again.map(|(at, _)| at);
        again.into_iter().chain(self.refresh).min()
    }

    /// Clients may have learned the rival's link address: once now, though not more often than
    /// once an interval, and once more when the rival has had time to go.
    pub(super) fn over_rival(
        &mut self,
        now: Nanos,
        interval: Duration,
        announcing: &Announcing,
        out: &mut Vec<Action>,
    ) {
        if announcing.lower_repeat == 0 {
            return;
        }
        if now.since(self.last) >= interval {
            self.announce(now, announcing.lower_repeat, out);
        }
        if self.again.is_none() {
            self.again = later(now, announcing.lower_delay, announcing.lower_repeat);
        }
    }

    /// Makes the rounds that are due.
    pub(super) fn timer(&mut self, now: Nanos, announcing: &Announcing, out: &mut Vec<Action>) {
        if let Some((_, repeat)) = self.again.take_if(|(at, _)| now >= *at) {
            self.announce(now, repeat, out);
        }
        if self.refresh.is_some_and(|at| now >= at) {
            self.announce(now, announcing.refresh_repeat, out);
            self.refresh = Some(now + announcing.refresh);
        }
    }

    fn announce(&mut self, now: Nanos, repeat: u32, out: &mut Vec<Action>) {
        self.last = now;
        out.push(Action::Announce { repeat });
    }
}

/// A round to come; none without delay or packets.
fn later(now: Nanos, delay: Duration, repeat: u32) -> Option<(Nanos, u32)> {
    (!delay.is_zero() && repeat > 0).then_some((now + delay, repeat))
}
