// SPDX-License-Identifier: MIT OR Apache-2.0
//! A simulated LAN of routers: the real state machines, a clock that jumps, a link that misbehaves.
//!
//! In: a seed. Out: who is MASTER when. The link loses, delays and duplicates adverts and falls
//! into parts; routers crash, stop, restart and stall. Nothing sleeps. A failure names its seed;
//! `XLVS_SIM_SEED=n cargo test -p lb-agent simlan` runs that one alone,
//! `XLVS_SIM_SCHEDULES=n` the first n of them (400 without it).
//!
//! `schedules` has the routers by themselves, `groups` those in sync groups, `handover` those that
//! make before they break, `table` the times of
//! a takeover.

mod groups;
mod handover;
mod schedules;
mod table;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::election::down_interval;
use super::event::{Action, Input, State};
use super::fsm::{Instance, Settings};
use super::priority::{Standing, Verdict};
use super::sync_group::{Group, Member};
use super::time::Nanos;
use crate::config::model::{Announcing, Exchange, VrrpVersion};

const MS: Duration = Duration::from_millis(1);

/// How the link treats a datagram.
#[derive(Clone, Copy, Debug)]
struct Link {
    loss_percent: u8,
    duplicate_percent: u8,
    delay_max: Duration,
}

const PERFECT: Link = Link {
    loss_percent: 0,
    duplicate_percent: 0,
    delay_max: Duration::ZERO,
};
const HEALTHY: Link = Link {
    delay_max: MS,
    ..PERFECT
};

#[derive(Debug)]
struct Router {
    settings: Settings,
    address: IpAddr,
    /// None while crashed.
    fsm: Option<Instance>,
    /// The process does not run until then; datagrams wait in its socket.
    stalled_until: Nanos,
    socket: Vec<Input>,
    /// Routers of one part hear each other.
    part: u8,
    /// It cannot claim the addresses.
    broken: bool,
    /// Virtual router id: routers of another one are none of its business.
    vrid: u8,
}

/// The members of a sync group, by their place among the routers.
#[derive(Debug)]
struct SyncGroup {
    members: Vec<usize>,
    rules: Group,
}

#[derive(Debug)]
struct Lan {
    rng: fastrand::Rng,
    now: Nanos,
    link: Link,
    /// How late a timer may be handled.
    timer_lag: Duration,
    routers: Vec<Router>,
    groups: Vec<SyncGroup>,
    flying: BTreeMap<(Nanos, u64), (usize, Input)>,
    serial: u64,
    /// (moment, router) of each takeover.
    takeovers: Vec<(Nanos, usize)>,
    /// Since when there is more than one MASTER, and the longest such time.
    two_since: Option<Nanos>,
    two_longest: Duration,
}

impl Lan {
    fn new(seed: u64, settings: &[Settings]) -> Self {
        let router = |(i, settings): (usize, &Settings)| Router {
            settings: *settings,
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, i as u8 + 1)),
            fsm: None,
            stalled_until: Nanos::default(),
            socket: Vec::new(),
            part: 0,
            broken: false,
            vrid: 1,
        };
        Self {
            rng: fastrand::Rng::with_seed(seed),
            now: Nanos::new(0),
            link: PERFECT,
            timer_lag: Duration::ZERO,
            routers: settings.iter().enumerate().map(router).collect(),
            groups: Vec::new(),
            flying: BTreeMap::new(),
            serial: 0,
            takeovers: Vec::new(),
            two_since: None,
            two_longest: Duration::ZERO,
        }
    }

    fn start(&mut self, at: usize) {
        if self.routers[at].fsm.is_none() {
            let source = Some(self.routers[at].address);
            self.routers[at].fsm = Some(Instance::new(self.routers[at].settings));
            self.routers[at].socket.clear();
            self.routers[at].stalled_until = self.now;
            self.give(at, Input::Start { source });
        }
    }

    fn start_all(&mut self) {
        (0..self.routers.len()).for_each(|at| self.start(at));
    }

    /// Power off: nothing more is said, and the packet program is gone with the process.
    fn crash(&mut self, at: usize) {
        self.routers[at].fsm = None;
        self.note_masters();
    }

    fn stop(&mut self, at: usize) {
        self.give(at, Input::Shutdown);
        self.crash(at);
    }

    /// Makes before it breaks.
    fn hand_over(&mut self, at: usize, stays: bool) {
        self.give(at, Input::HandOver { stays });
    }

    fn masters(&self) -> Vec<usize> {
        let is_master = |at: &usize| {
            let fsm = self.routers[*at].fsm.as_ref();
            fsm.is_some_and(|fsm| fsm.state() == State::Master)
        };
        (0..self.routers.len()).filter(is_master).collect()
    }

    /// Gives an input, and lets the sync group follow as the driver does.
    fn give(&mut self, at: usize, input: Input) {
        self.give_one(at, input);
        let group = (0..self.groups.len()).find(|of| self.groups[*of].members.contains(&at));
        let Some(group) = group else { return };
        for round in 0.. {
            assert!(round < 8, "a group that gives orders for ever: {self:#?}");
            let places = self.groups[group].members.clone();
            let fsm = |at: &usize| self.routers[*at].fsm.as_ref();
            let members: Vec<Member> = places
                .iter()
                .filter_map(fsm)
                .map(Instance::member)
                .collect();
            if members.len() < places.len() {
                // Its host is starting or gone.
                return;
            }
            let orders = self.groups[group].rules.orders(&members);
            if orders.is_empty() {
                break;
            }
            for (member, order) in orders {
                self.give_one(places[member], Input::Group(order));
            }
        }
        self.check_group(group);
    }

    /// All members are MASTER or none is, and none while another one is in FAULT.
    fn check_group(&self, group: usize) {
        let fsm = |at: &usize| self.routers[*at].fsm.as_ref().unwrap();
        let members = &self.groups[group].members;
        let of = |state: State| members.iter().filter(|at| fsm(at).state() == state).count();
        let (masters, faults) = (of(State::Master), of(State::Fault));
        assert!(masters == 0 || masters == members.len(), "{self:#?}");
        assert!(faults == 0 || faults == members.len(), "{self:#?}");
    }

    fn give_one(&mut self, at: usize, input: Input) {
        let Some(fsm) = &mut self.routers[at].fsm else {
            return;
        };
        let mut actions = Vec::new();
        fsm.handle(self.now, input, &mut actions);
        let mut failed = false;
        for action in actions {
            match action {
                Action::SendAdvert { priority } => self.send(at, priority),
                Action::Claim => failed = self.routers[at].broken,
                Action::StateChanged {
                    to: State::Master, ..
                } => self.takeovers.push((self.now, at)),
                _ => {}
            }
        }
        self.note_masters();
        if failed {
            self.give_one(at, Input::ClaimFailed);
        }
    }

    fn send(&mut self, from: usize, priority: u8) {
        let advert = Input::Advert {
            src: self.routers[from].address,
            priority,
            interval: self.routers[from].settings.interval,
        };
        for to in 0..self.routers.len() {
            let (a, b) = (&self.routers[to], &self.routers[from]);
            let hears = a.part == b.part && a.vrid == b.vrid;
            if to == from || !hears || self.chance(self.link.loss_percent) {
                continue;
            }
            let copies = 1 + u64::from(self.chance(self.link.duplicate_percent));
            for _ in 0..copies {
                let arrival = self.now + self.up_to(self.link.delay_max);
                self.serial += 1;
                self.flying.insert((arrival, self.serial), (to, advert));
            }
        }
    }

    /// Jumps to the next thing that happens, if it happens before `end`.
    fn step(&mut self, end: Nanos) -> bool {
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let timer = (0..self.routers.len())
            .filter_map(|at| Some((self.wake(at)?, at)))
            .min();
        let next = arrival.into_iter().chain(timer.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let (_, (to, advert)) = self.flying.pop_first().unwrap();
            if self.routers[to].stalled_until > self.now {
                self.routers[to].socket.push(advert);
            } else {
                self.give(to, advert);
            }
        } else if let Some((_, at)) = timer {
            self.now = self.now + self.up_to(self.timer_lag);
            // As the driver: what waited in the socket comes before the timer.
            for advert in std::mem::take(&mut self.routers[at].socket) {
                self.give(at, advert);
            }
            self.give(at, Input::Timer);
        }
        true
    }

    fn wake(&self, at: usize) -> Option<Nanos> {
        let router = &self.routers[at];
        let due = router.fsm.as_ref()?.poll_timeout()?;
        Some(due.max(router.stalled_until))
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < 1_000_000, "adverts chase each other");
        }
    }

    /// Runs until someone takes over; how long that took.
    fn takeover(&mut self) -> Duration {
        let (start, before) = (self.now, self.takeovers.len());
        let end = start + Duration::from_mins(10);
        while self.takeovers.len() == before {
            assert!(self.step(end), "no one took over");
        }
        self.takeovers[before].0.since(start)
    }

    fn note_masters(&mut self) {
        match (self.masters().len(), self.two_since) {
            (2.., None) => self.two_since = Some(self.now),
            (0 | 1, Some(since)) => {
                self.two_longest = self.two_longest.max(self.now.since(since));
                self.two_since = None;
            }
            _ => {}
        }
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }

    fn up_to(&mut self, span: Duration) -> Duration {
        Duration::from_nanos(self.rng.u64(0..=span.as_nanos() as u64))
    }

    /// One bad thing.
    fn disturb(&mut self) {
        let at = self.rng.usize(0..self.routers.len());
        match self.rng.u8(0..13) {
            10 => self.routers[at].broken = true,
            12 => {
                let stays = self.chance(50);
                self.hand_over(at, stays);
            }
            // A reload that changes the instance: it stops and starts anew.
            11 => {
                self.stop(at);
                self.start(at);
            }
            0 => self.crash(at),
            1 => self.stop(at),
            2 | 3 => self.start(at),
            4 => self.routers[at].part = self.rng.u8(0..3),
            5 => {
                let stall = self.up_to(self.routers[at].settings.interval * 10);
                self.routers[at].stalled_until = self.now + stall;
            }
            6 => self.give(at, Input::InterfaceDown),
            7 => {
                let priority = self.rng.u8(1..=254);
                self.tracks(at, priority, Standing::Ready);
            }
            8 => self.tracks(at, self.routers[at].settings.priority, Standing::Failed),
            _ => {
                let source = self.routers[at].address;
                self.give(at, Input::InterfaceUp { source });
            }
        }
    }

    fn heal(&mut self) {
        self.link = HEALTHY;
        self.start_all();
        for at in 0..self.routers.len() {
            let source = self.routers[at].address;
            self.routers[at].part = 0;
            let fsm = self.routers[at].fsm.as_ref();
            let stays = fsm.is_some_and(|fsm| fsm.is_leaving() || fsm.has_yielded());
            let stopped = fsm.is_some_and(|fsm| fsm.state() == State::Init);
            if std::mem::take(&mut self.routers[at].broken) || stays || stopped {
                // The operator has repaired it and starts it anew; its pause would take minutes, and
                // one that handed over would wait for good.
                self.stop(at);
                self.start(at);
            }
            self.routers[at].stalled_until = self.routers[at].stalled_until.min(self.now);
            for advert in std::mem::take(&mut self.routers[at].socket) {
                self.give(at, advert);
            }
            self.give(at, Input::InterfaceUp { source });
            self.tracks(at, self.routers[at].settings.priority, Standing::Ready);
        }
    }

    /// What is tracked comes to this. An owner's priority stays.
    fn tracks(&mut self, at: usize, priority: u8, standing: Standing) {
        let own = self.routers[at].settings.priority;
        let priority = if own == 255 { own } else { priority };
        self.give(at, Input::Tracks(Verdict { priority, standing }));
    }

    fn down(&self, at: usize) -> Duration {
        let settings = self.routers[at].settings;
        down_interval(settings.version, settings.priority, settings.interval, 3)
    }

    fn longest_down(&self) -> Duration {
        let downs = (0..self.routers.len()).map(|at| self.down(at));
        downs.max().unwrap()
    }

    /// The router that must win if all are alive.
    fn strongest_of_all(&self) -> usize {
        let all = 0..self.routers.len();
        all.max_by_key(|at| {
            (
                self.routers[*at].settings.priority,
                self.routers[*at].address,
            )
        })
        .unwrap()
    }

    /// The router that must win among those alive: highest priority, then highest address.
    fn strongest(&self) -> usize {
        let alive = (0..self.routers.len()).filter(|at| self.routers[*at].fsm.is_some());
        alive
            .max_by_key(|at| {
                (
                    self.routers[*at].settings.priority,
                    self.routers[*at].address,
                )
            })
            .unwrap()
    }
}

fn settings(version: VrrpVersion, priority: u8, interval: Duration) -> Settings {
    Settings {
        version,
        priority,
        interval,
        preempt: true,
        preempt_delay: Duration::ZERO,
        grouped: false,
        announcing: Announcing::default(),
        exchange: Exchange::default(),
    }
}

/// Runs `check` for one seed or many; a failing seed is printed.
fn seeds(check: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let many = 0..number("XLVS_SIM_SCHEDULES").unwrap_or(400);
    let range = number("XLVS_SIM_SEED").map_or(many, |seed| seed..seed + 1);
    for seed in range {
        if let Err(cause) = std::panic::catch_unwind(|| check(seed)) {
            eprintln!("failed with XLVS_SIM_SEED={seed}");
            std::panic::resume_unwind(cause);
        }
    }
}
