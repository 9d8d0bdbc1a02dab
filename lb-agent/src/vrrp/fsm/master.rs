// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a MASTER does: takes over, keeps its pace, hears others, fails to claim, resigns.
//!
//! Part of [`super::Instance`]. Invariant: the advert timer is moved by nothing but itself.

use std::net::IpAddr;
use std::time::Duration;

use super::super::election::{self, Outcome, PRIORITY_RELEASE};
use super::super::event::{Action, Reason};
use super::super::time::Nanos;
use super::rounds::Rounds;
use super::{Instance, Phase};

/// First pause before an instance that could not claim takes part in elections again.
pub const CLAIM_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The pause doubles with each failure in a row, this many times: up to 640 s. Each try costs
/// the service the time of an election, because the peers believe the claim.
pub const CLAIM_RETRY_DOUBLINGS: u32 = 6;

/// A MASTER answers another one at once, but not within this fraction of an interval of its last
/// advert: two routers that each believe to have won (addresses rewritten between them, say)
/// would otherwise answer each other as fast as the link can carry.
pub const ANSWER_SPACING: u32 = 10;

impl Instance {
    /// RFC 9568 §6.4.2 (Active_Down_Timer fires). KEEPALIVED: the advert comes first, so that
    /// a rival of lower priority steps down while the addresses are still being added. A MASTER
    /// that is preempted, or hands over, serves until it hears us: there the advert waits for the
    /// addresses, so that somebody serves at every moment.
    pub(super) fn take_over(&mut self, now: Nanos, reason: Reason, out: &mut Vec<Action>) {
        let announcing = self.settings.announcing;
        let phase = Phase::Master {
            sent_at: now,
            advert_at: now + self.settings.interval,
            rounds: Rounds::after_takeover(now, &announcing),
            leaving: None,
        };
        self.yielded = false;
        // Its program is still there.
        self.detach_at = None;
        let advert = Action::SendAdvert {
            priority: self.priority,
        };
        out.extend(match reason {
            Reason::Preempted | Reason::MasterReleased => [Action::Claim, advert],
            _ => [advert, Action::Claim],
        });
        out.push(Action::Announce {
            repeat: announcing.repeat,
        });
        self.change(phase, reason, out);
    }

    /// RFC 9568 §6.4.3.
    pub(super) fn master_hears(
        &mut self,
        now: Nanos,
        src: IpAddr,
        priority: u8,
        interval: Duration,
        out: &mut Vec<Action>,
    ) {
        if priority == PRIORITY_RELEASE {
            self.answer(now, out);
            return;
        }
        let own = (self.priority, self.source);
        let reason = match election::contest(own, (priority, src)) {
            Outcome::YieldToPriority => Reason::HigherPriority { src, priority },
            Outcome::YieldToAddress => Reason::HigherAddress { src },
            Outcome::Hold => {
                if self.settings.exchange.answer_lower {
                    self.answer(now, out);
                }
                self.announce_over_rival(now, out);
                return;
            }
        };
        self.learn(interval);
        out.push(Action::Release);
        // A last advert of our own priority, once the addresses are gone, tells the winner that
        // there was a second MASTER: it then repeats its gratuitous ARP, and clients that learned
        // our link address find it. KEEPALIVED: `higher_prio_send_advert`, off by default.
        if self.settings.exchange.last_word {
            out.push(Action::SendAdvert {
                priority: self.priority,
            });
        }
        self.forward_on(now);
        self.listen(now, reason, out);
    }

    /// Clients may have learned the rival's link address: claim the addresses again, though not
    /// more often than once an interval, and once more when the rival has had time to go.
    fn announce_over_rival(&mut self, now: Nanos, out: &mut Vec<Action>) {
        let (interval, announcing) = (self.settings.interval, self.settings.announcing);
        if let Phase::Master { rounds, .. } = &mut self.phase {
            rounds.over_rival(now, interval, &announcing, out);
        }
    }

    pub(super) fn master_timer(&mut self, now: Nanos, due: Nanos, out: &mut Vec<Action>) {
        if now >= due {
            self.claim_failures = 0;
            self.send_advert(now, out);
            let next = due + self.settings.interval;
            if let Phase::Master { advert_at, .. } = &mut self.phase {
                *advert_at = if next > now {
                    next
                } else {
                    now + self.settings.interval
                };
            }
        }
        self.rounds_due(now, out);
    }

    pub(super) fn rounds_due(&mut self, now: Nanos, out: &mut Vec<Action>) {
        let announcing = self.settings.announcing;
        if let Phase::Master { rounds, .. } = &mut self.phase {
            rounds.timer(now, &announcing, out);
        }
    }

    /// A MASTER that cannot forward must not be MASTER: hand over, and try again much later.
    pub(super) fn claim_failed(&mut self, now: Nanos, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Master { .. }) {
            return;
        }
        let pause = CLAIM_RETRY_AFTER * (1 << self.claim_failures.min(CLAIM_RETRY_DOUBLINGS));
        self.claim_failures = self.claim_failures.saturating_add(1);
        resign(out);
        let retry_at = Some(now + pause);
        self.change(Phase::Fault { retry_at }, Reason::ClaimFailed, out);
    }

    /// RFC 9568 §6.4.3: the other one must learn of us at once. See [`ANSWER_SPACING`].
    pub(super) fn answer(&mut self, now: Nanos, out: &mut Vec<Action>) {
        if let Phase::Master { sent_at, .. } = self.phase
            && now.since(sent_at) >= self.settings.interval / ANSWER_SPACING
        {
            self.send_advert(now, out);
        }
    }

    /// Sends without touching the advert timer: extra adverts never slow the pace.
    pub(super) fn send_advert(&mut self, now: Nanos, out: &mut Vec<Action>) {
        if let Phase::Master { sent_at, .. } = &mut self.phase {
            *sent_at = now;
        }
        out.push(Action::SendAdvert {
            priority: self.priority,
        });
    }

    /// The peers have heard nothing for so long that one of our own priority would have claimed.
    pub(super) fn master_overslept(&self, now: Nanos) -> bool {
        let Phase::Master { sent_at, .. } = self.phase else {
            return false;
        };
        // One that hands over sends nothing until then.
        let heard_at = self.leaving_until().unwrap_or(sent_at);
        now.since(heard_at) > self.down_interval_by(self.settings.interval)
    }
}

/// The reverse of a takeover: addresses first, so that nobody claims one which this host still
/// holds, then the word to the peers, then the program.
pub(super) fn resign(out: &mut Vec<Action>) {
    out.push(Action::Release);
    out.push(Action::SendAdvert {
        priority: PRIORITY_RELEASE,
    });
    out.push(Action::Detach);
}
