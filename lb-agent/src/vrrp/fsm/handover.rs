// SPDX-License-Identifier: MIT OR Apache-2.0
//! A MASTER that hands over: make before break.
//!
//! ```text
//!  MASTER ─ HandOver ─▸ priority 0, holds on ─ successor heard ─▸ release ─▸ BACKUP or INIT
//!                            │                                      └ heard again: detach
//!                            └ nobody heard in time: MASTER as before, or (when it stops) release
//! ```
//!
//! Part of [`super::Instance`]. A leaving MASTER is still MASTER: it holds addresses and program,
//! so that whoever has not heard of its successor yet is served, but sends no adverts and no
//! gratuitous ARP any more. The successor's advert is its first word, when it has the addresses and
//! before its gratuitous ARP, so the old one's addresses go at the moment at which the new one's are
//! announced. (keepalived's come a little later.) The packet program answers nobody, so it may stay
//! until the successor's second advert: it forwards what still comes.

use std::net::IpAddr;
use std::time::Duration;

use super::super::election;
use super::super::event::{Action, Input, Reason};
use super::super::time::Nanos;
use super::{Instance, PRIORITY_RELEASE, Phase};

/// What an advert may take on top of the longest skew: the peer's timer, and the wire.
pub const HANDOVER_MARGIN: Duration = Duration::from_millis(100);

/// How long the program stays after the addresses, if the successor is not heard a second time.
pub const DETACH_LATEST: Duration = Duration::from_millis(250);

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// A successor that is there has been heard by then.
    until: Nanos,
    /// Without a successor it stays MASTER; else it stops in any case.
    stays: bool,
}

impl Instance {
    /// It is handing over, or its program still forwards for its successor.
    pub fn is_leaving(&self) -> bool {
        self.leaving().is_some() || self.detach_at.is_some()
    }

    /// Detaches when the time has come, or the successor is heard again.
    pub(super) fn detach_when_due(&mut self, now: Nanos, input: Input, out: &mut Vec<Action>) {
        let Some(at) = self.detach_at else {
            return;
        };
        let over = match input {
            Input::Advert { priority, .. } => priority != PRIORITY_RELEASE,
            Input::Shutdown => true,
            _ => false,
        };
        if over || now >= at {
            self.detach_at = None;
            out.push(Action::Detach);
        }
    }

    /// Without its addresses the program forwards what still comes while the successor claims.
    pub(super) fn forward_on(&mut self, now: Nanos) {
        self.detach_at = Some(now + DETACH_LATEST);
    }

    /// It handed over to a router of lower priority, which it does not preempt.
    pub fn has_yielded(&self) -> bool {
        self.yielded
    }

    pub(super) fn leaving(&self) -> Option<Leaving> {
        match self.phase {
            Phase::Master { leaving, .. } => leaving,
            _ => None,
        }
    }

    /// When a hand-over without a successor ends.
    pub(super) fn leaving_until(&self) -> Option<Nanos> {
        self.leaving().map(|leaving| leaving.until)
    }

    pub(super) fn hand_over(&mut self, now: Nanos, stays: bool, out: &mut Vec<Action>) {
        let (version, interval) = (self.settings.version, self.settings.interval);
        let longest = election::skew(version, 1, interval) + HANDOVER_MARGIN;
        let Phase::Master { leaving, .. } = &mut self.phase else {
            return;
        };
        match leaving {
            Some(known) => known.stays &= stays,
            None => {
                *leaving = Some(Leaving {
                    until: now + longest,
                    stays,
                });
                out.push(Action::SendAdvert {
                    priority: PRIORITY_RELEASE,
                });
            }
        }
    }

    /// A MASTER was heard while this one hands over.
    pub(super) fn successor(
        &mut self,
        now: Nanos,
        leaving: Leaving,
        (src, priority, interval): (IpAddr, u8, Duration),
        out: &mut Vec<Action>,
    ) {
        if priority == PRIORITY_RELEASE {
            return;
        }
        self.learn(interval);
        out.push(Action::Release);
        self.forward_on(now);
        self.end(now, leaving, Reason::HandedOver { src }, out);
    }

    /// Nobody was heard in time.
    pub(super) fn no_successor(&mut self, now: Nanos, leaving: Leaving, out: &mut Vec<Action>) {
        if !leaving.stays {
            self.leave(now, leaving, Reason::Stopped, out);
            return;
        }
        let interval = self.settings.interval;
        if let Phase::Master {
            leaving, advert_at, ..
        } = &mut self.phase
        {
            *leaving = None;
            *advert_at = now + interval;
        }
        self.send_advert(now, out);
        self.rounds_due(now, out);
    }

    /// Gives everything up. The peers know already.
    pub(super) fn leave(
        &mut self,
        now: Nanos,
        leaving: Leaving,
        reason: Reason,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Release);
        out.push(Action::Detach);
        self.end(now, leaving, reason, out);
    }

    fn end(&mut self, now: Nanos, leaving: Leaving, reason: Reason, out: &mut Vec<Action>) {
        if leaving.stays {
            self.listen(now, reason, out);
            self.yielded = true;
        } else {
            self.running = false;
            self.change(Phase::Init, Reason::Stopped, out);
        }
    }
}
