// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state machine of one VRRP instance.
//!
//! In: [`Input`]s with the moment they are handled. Out: [`Action`]s, to be performed in order.
//! Called by the driver and the simulated LAN: `handle` after any event, then `poll_timeout`, and
//! `handle(Timer)` once that moment has come (earlier is harmless). Invariants: every input is
//! good in every state; `Claim` and `Release` alternate; a MASTER's advert timer is moved by
//! nothing but itself. Inputs and actions are serde values, so a recording replays.
//!
//! ```text
//!            Start                  down timer                 interface lost, claim failed
//!  INIT ───────────────▸ BACKUP ───────────────▸ MASTER ───────────────┐
//!    │  (owner: MASTER)  ▲    ▲                    │                   ▼
//!    │                   │    └────────────────────┘   interface   FAULT
//!    │                   │   higher one heard, overslept   back      │
//!    │                   └───────────────────────────────────────────┘
//!    └── from any state by Shutdown
//! ```

mod handover;
mod master;
mod rounds;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::election::{self, PRIORITY_OWNER, PRIORITY_RELEASE};
use super::event::{Action, Input, Reason, State};
use super::priority::{Standing, Verdict};
use super::sync_group::{Member, Order};
use super::time::Nanos;
use crate::config::model::{Announcing, Exchange, VrrpVersion};
use handover::Leaving;
use master::resign;
use rounds::Rounds;

pub use handover::{DETACH_LATEST, HANDOVER_MARGIN};
pub use master::{ANSWER_SPACING, CLAIM_RETRY_AFTER, CLAIM_RETRY_DOUBLINGS};

/// What an instance has to know of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Version: decides skew and whether the MASTER's interval is learned.
    pub version: VrrpVersion,
    /// 1–255; 255 owns the addresses.
    pub priority: u8,
    /// Own advert interval.
    pub interval: Duration,
    /// Take over from a MASTER of lower priority.
    pub preempt: bool,
    /// How long a MASTER of lower priority is borne with, from its first advert on.
    pub preempt_delay: Duration,
    /// Member of a sync group: it becomes MASTER only when the group tells it to.
    pub grouped: bool,
    /// When the addresses are announced.
    pub announcing: Announcing,
    /// How adverts are exchanged.
    pub exchange: Exchange,
}

/// One VRRP instance.
#[derive(Clone, Debug)]
pub struct Instance {
    settings: Settings,
    /// The priority it elects with: the configured one and what tracking adds.
    priority: u8,
    standing: Standing,
    /// How the other members of its sync group stand.
    held: Standing,
    /// It is BACKUP and would be MASTER, if its sync group were.
    wants: bool,
    /// Until then a MASTER of lower priority is borne with.
    preempt_at: Option<Nanos>,
    /// It handed over, and preempts nobody until it has been MASTER again.
    yielded: bool,
    /// It released for a successor; its program stays until then.
    detach_at: Option<Nanos>,
    /// Between `Start` and `Shutdown`.
    running: bool,
    source: Option<IpAddr>,
    /// RFC 9568 §6.1 `Active_Adver_Interval`: the MASTER's interval; our own in version 2.
    master_interval: Duration,
    /// Failed claims since the last one that held for an interval.
    claim_failures: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Init,
    Backup {
        down_at: Nanos,
        waiting: Waiting,
    },
    Master {
        /// Last advert on the wire: the moment from which the peers count.
        sent_at: Nanos,
        advert_at: Nanos,
        rounds: Rounds,
        leaving: Option<Leaving>,
    },
    Fault {
        /// None: until the interface is back.
        retry_at: Option<Nanos>,
    },
}

/// What the down timer of a BACKUP is waiting out.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Silence,
    Release,
    LowerPriority,
}

impl Instance {
    /// An instance in INIT.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            priority: settings.priority,
            standing: Standing::Ready,
            held: Standing::Ready,
            wants: false,
            preempt_at: None,
            yielded: false,
            detach_at: None,
            running: false,
            source: None,
            master_interval: settings.interval,
            claim_failures: 0,
            phase: Phase::Init,
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Its state.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Init => State::Init,
            Phase::Backup { .. } => State::Backup,
            Phase::Master { .. } => State::Master,
            Phase::Fault { .. } => State::Fault,
        }
    }

    /// The priority it elects with.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// What its sync group has to know of it.
    pub fn member(&self) -> Member {
        let standing = if !self.running {
            Standing::Pending
        } else if self.source.is_none() || matches!(self.phase, Phase::Fault { retry_at: Some(_) })
        {
            Standing::Failed
        } else {
            self.standing
        };
        Member {
            state: self.state(),
            standing,
            held: self.held,
            wants: self.wants && matches!(self.phase, Phase::Backup { .. }),
        }
    }

    /// Own address on the wire, while the interface has one.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// When `handle(Timer)` is due; call after each `handle`.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let of_phase = match self.phase {
            Phase::Init => None,
            Phase::Backup { down_at, .. } => Some(down_at),
            Phase::Master {
                leaving: Some(_), ..
            } => self.leaving_until(),
            Phase::Master {
                advert_at, rounds, ..
            } => Some(rounds.due().map_or(advert_at, |at| at.min(advert_at))),
            Phase::Fault { retry_at } => retry_at,
        };
        of_phase.into_iter().chain(self.detach_at).min()
    }

    /// Takes one input and appends what has to be done about it.
    pub fn handle(&mut self, now: Nanos, input: Input, out: &mut Vec<Action>) {
        self.detach_when_due(now, input, out);
        let leaving = match input {
            Input::Shutdown | Input::InterfaceDown => true,
            Input::Tracks(verdict) => verdict.standing == Standing::Failed,
            Input::Group(Order::Hold(standing)) => standing == Standing::Failed,
            _ => false,
        };
        if !leaving && self.master_overslept(now) {
            self.step_down(now, Reason::Overslept, out);
        }
        match input {
            Input::Start { source } => self.start(now, source, out),
            Input::Advert {
                src,
                priority,
                interval,
            } => self.advert(now, src, priority, interval, out),
            Input::Timer => self.timer(now, out),
            Input::InterfaceUp { source } => {
                self.source = Some(source);
                self.settle(now, Reason::InterfaceUp, out);
            }
            Input::InterfaceDown => {
                if self.running {
                    self.source = None;
                    self.settle(now, Reason::InterfaceDown, out);
                }
            }
            Input::Tracks(verdict) => self.tracks(now, verdict, out),
            Input::Group(order) => self.group(now, order, out),
            Input::ClaimFailed => self.claim_failed(now, out),
            Input::HandOver { stays } => self.hand_over(now, stays, out),
            Input::Shutdown => self.shutdown(out),
        }
    }

    fn start(&mut self, now: Nanos, source: Option<IpAddr>, out: &mut Vec<Action>) {
        if self.running {
            return;
        }
        self.running = true;
        self.source = source;
        self.claim_failures = 0;
        self.yielded = false;
        self.settle(now, Reason::Started, out);
    }

    /// Enters or leaves FAULT as interface and tracks allow; `well` is the reason for leaving.
    ///
    /// KEEPALIVED: an instance whose tracked script has no result yet stays in INIT, and one that
    /// leaves FAULT listens first.
    fn settle(&mut self, now: Nanos, well: Reason, out: &mut Vec<Action>) {
        if !self.running {
            return;
        }
        let trouble = if self.source.is_none() {
            Some(Reason::InterfaceDown)
        } else {
            match (self.standing, self.held) {
                (Standing::Failed, _) => Some(Reason::TrackFailed),
                (_, Standing::Failed) => Some(Reason::GroupFailed),
                _ => None,
            }
        };
        let pending = self.standing.max(self.held) == Standing::Pending;
        let fault = Phase::Fault { retry_at: None };
        match (self.phase, trouble) {
            (Phase::Init | Phase::Fault { retry_at: None }, None) if !pending => {
                self.enter(now, well, out);
            }
            (Phase::Fault { .. }, Some(_)) => self.phase = fault,
            (Phase::Init | Phase::Backup { .. }, Some(reason)) => self.change(fault, reason, out),
            (Phase::Master { .. }, Some(reason)) => {
                resign(out);
                self.change(fault, reason, out);
            }
            (_, None) => {}
        }
    }

    fn tracks(&mut self, now: Nanos, verdict: Verdict, out: &mut Vec<Action>) {
        self.set_priority(verdict.priority, out);
        self.standing = verdict.standing;
        self.settle(now, Reason::TracksReady, out);
    }

    /// KEEPALIVED: members move together. A MASTER that has to go tells its peers with priority 0,
    /// so that one of them that is in no group need not wait for its silence.
    fn group(&mut self, now: Nanos, order: Order, out: &mut Vec<Action>) {
        match (order, self.phase) {
            (Order::Hold(standing), _) => {
                self.held = standing;
                self.settle(now, Reason::GroupReady, out);
            }
            (Order::Master, Phase::Backup { .. }) => {
                self.take_over(now, Reason::GroupMaster, out);
            }
            (
                Order::Backup,
                Phase::Master {
                    leaving: Some(leaving),
                    ..
                },
            ) => self.leave(now, leaving, Reason::GroupBackup, out),
            (Order::Backup, Phase::Master { .. }) => {
                resign(out);
                self.master_interval = self.settings.interval;
                self.listen(now, Reason::GroupBackup, out);
            }
            (Order::Master | Order::Backup, _) => {}
        }
    }

    /// KEEPALIVED: adverts carry the new priority from the next one on; the running down timer of
    /// a BACKUP moves by the difference of the skews.
    fn set_priority(&mut self, priority: u8, out: &mut Vec<Action>) {
        if priority == self.priority {
            return;
        }
        let (from, before) = (self.priority, self.skew());
        self.priority = priority;
        let after = self.skew();
        if let Phase::Backup { down_at, .. } = &mut self.phase {
            *down_at = *down_at + after.saturating_sub(before) - before.saturating_sub(after);
        }
        out.push(Action::PriorityChanged { from, to: priority });
    }

    /// RFC 9568 §6.4.1: the owner is MASTER at once, everyone else listens first.
    ///
    /// KEEPALIVED: `state MASTER` does not shorten that wait.
    fn enter(&mut self, now: Nanos, reason: Reason, out: &mut Vec<Action>) {
        let owner = self.settings.priority == PRIORITY_OWNER;
        if owner && !self.settings.grouped {
            self.take_over(now, Reason::Owner, out);
        } else {
            self.master_interval = self.settings.interval;
            self.listen(now, reason, out);
            self.wants = owner;
        }
    }

    fn advert(
        &mut self,
        now: Nanos,
        src: IpAddr,
        priority: u8,
        interval: Duration,
        out: &mut Vec<Action>,
    ) {
        let Settings {
            priority: own,
            exchange,
            ..
        } = self.settings;
        if let Some(leaving) = self.leaving() {
            self.successor(now, leaving, (src, priority, interval), out);
            return;
        }
        if own == PRIORITY_OWNER && exchange.owner_ignores {
            return;
        }
        match self.phase {
            Phase::Backup { down_at, .. } => {
                self.backup_hears(now, down_at, priority, interval);
            }
            Phase::Master { .. } => self.master_hears(now, src, priority, interval, out),
            // A datagram that was queued before the instance stopped or failed.
            Phase::Init | Phase::Fault { .. } => {}
        }
    }

    /// RFC 9568 §6.4.2.
    fn backup_hears(&mut self, now: Nanos, down_at: Nanos, priority: u8, interval: Duration) {
        self.phase = if priority == PRIORITY_RELEASE {
            Phase::Backup {
                down_at: now + self.skew(),
                waiting: Waiting::Release,
            }
        } else if !self.preempts(now, priority) {
            self.learn(interval);
            self.wants = false;
            Phase::Backup {
                down_at: now + self.down_interval(),
                waiting: Waiting::Silence,
            }
        } else {
            Phase::Backup {
                down_at,
                waiting: Waiting::LowerPriority,
            }
        };
    }

    /// Whether a BACKUP disregards a MASTER of `priority`.
    ///
    /// KEEPALIVED: `preempt_delay` counts from the first advert of a lower priority, and anew after
    /// one that is not lower.
    fn preempts(&mut self, now: Nanos, priority: u8) -> bool {
        if !self.settings.preempt || self.yielded || priority >= self.priority {
            self.preempt_at = None;
            return false;
        }
        let from = now + self.settings.preempt_delay;
        now >= *self.preempt_at.get_or_insert(from)
    }

    fn timer(&mut self, now: Nanos, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Backup { down_at, waiting } if now >= down_at => {
                self.master_is_down(now, down_at, waiting, out);
            }
            Phase::Master {
                leaving: Some(leaving),
                ..
            } => {
                if self.leaving_until().is_some_and(|at| now >= at) {
                    self.no_successor(now, leaving, out);
                }
            }
            Phase::Master { advert_at, .. } => self.master_timer(now, advert_at, out),
            Phase::Fault { retry_at: Some(at) } if now >= at => {
                self.phase = Phase::Fault { retry_at: None };
                self.settle(now, Reason::Retry, out);
            }
            Phase::Init | Phase::Backup { .. } | Phase::Fault { .. } => {}
        }
    }

    /// The silence is only known if we were there to listen: a timer that comes a whole down
    /// interval late starts the wait anew.
    fn master_is_down(
        &mut self,
        now: Nanos,
        down_at: Nanos,
        waiting: Waiting,
        out: &mut Vec<Action>,
    ) {
        let overslept = now.since(down_at) > self.down_interval();
        if overslept || self.settings.grouped {
            // KEEPALIVED: a member waits on, until the last one of its group wants to.
            self.wants = !overslept;
            self.phase = self.listening(now);
            return;
        }
        let reason = match waiting {
            Waiting::Silence => Reason::Silence,
            Waiting::Release => Reason::MasterReleased,
            Waiting::LowerPriority => Reason::Preempted,
        };
        self.take_over(now, reason, out);
    }

    fn shutdown(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Init => {
                self.running = false;
                return;
            }
            Phase::Master { .. } => resign(out),
            Phase::Backup { .. } | Phase::Fault { .. } => {}
        }
        self.running = false;
        self.change(Phase::Init, Reason::Stopped, out);
    }

    fn step_down(&mut self, now: Nanos, reason: Reason, out: &mut Vec<Action>) {
        out.push(Action::Release);
        out.push(Action::Detach);
        self.master_interval = self.settings.interval;
        self.listen(now, reason, out);
    }

    fn listen(&mut self, now: Nanos, reason: Reason, out: &mut Vec<Action>) {
        self.wants = false;
        self.preempt_at = None;
        self.change(self.listening(now), reason, out);
    }

    fn listening(&self, now: Nanos) -> Phase {
        Phase::Backup {
            down_at: now + self.down_interval(),
            waiting: Waiting::Silence,
        }
    }

    fn change(&mut self, phase: Phase, reason: Reason, out: &mut Vec<Action>) {
        let from = self.state();
        self.phase = phase;
        let to = self.state();
        out.push(Action::StateChanged { from, to, reason });
    }

    /// RFC 9568 §6.4.2: version 3 follows the MASTER's interval. Zero is not an interval.
    fn learn(&mut self, interval: Duration) {
        if self.settings.version == VrrpVersion::V3 && !interval.is_zero() {
            self.master_interval = interval;
        }
    }

    /// How long a router of our own priority waits for a MASTER with this interval.
    fn down_interval_by(&self, interval: Duration) -> Duration {
        let (version, adverts) = (self.settings.version, self.settings.exchange.down_adverts);
        election::down_interval(version, self.priority, interval, adverts)
    }

    fn skew(&self) -> Duration {
        election::skew(self.settings.version, self.priority, self.master_interval)
    }

    fn down_interval(&self) -> Duration {
        self.down_interval_by(self.master_interval)
    }
}

#[cfg(test)]
#[path = "fsm_tests.rs"]
mod tests;
