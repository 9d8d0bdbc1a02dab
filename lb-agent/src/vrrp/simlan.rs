// SPDX-License-Identifier: MIT OR Apache-2.0
//! A simulated LAN of routers: the real state machines, a clock that jumps, a link that misbehaves.
//!
//! In: a seed. Out: who is MASTER when. The link loses, delays and duplicates adverts and falls
//! into parts; routers crash, stop, restart and stall. Nothing sleeps. A failure names its seed;
//! `XLVS_SIM_SEED=n cargo test -p lb-agent simlan` runs that one alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use expect_test::expect;

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
        for action in actions {
            match action {
                Action::SendAdvert { priority } => self.send(at, priority),
                Action::StateChanged {
                    to: State::Master, ..
                } => self.takeovers.push((self.now, at)),
                _ => {}
            }
        }
        self.note_masters();
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
        match self.rng.u8(0..10) {
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

/// 2–7 routers of one version and interval; priorities may collide, one may own the addresses.
fn random_routers(rng: &mut fastrand::Rng, preempt: bool) -> Vec<Settings> {
    let (version, interval) = match rng.u8(0..4) {
        0 => (VrrpVersion::V2, 1000),
        1 => (VrrpVersion::V2, 3000),
        2 => (VrrpVersion::V3, 100),
        _ => (VrrpVersion::V3, 1000),
    };
    let count = rng.usize(2..=7);
    let router = |_| Settings {
        preempt,
        ..settings(version, rng.u8(1..=255), Duration::from_millis(interval))
    };
    (0..count).map(router).collect()
}

/// Runs `check` for one seed or a few hundred of them; a failing seed is printed.
fn seeds(check: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let one = std::env::var("XLVS_SIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let range = one.map_or(0..400, |seed: u64| seed..seed + 1);
    for seed in range {
        if let Err(cause) = std::panic::catch_unwind(|| check(seed)) {
            eprintln!("failed with XLVS_SIM_SEED={seed}");
            std::panic::resume_unwind(cause);
        }
    }
}

/// Any disturbances on a bad link, then a healthy one.
fn chaos(seed: u64, preempt: bool) -> Lan {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut lan = Lan::new(seed, &random_routers(&mut rng, preempt));
    lan.timer_lag = MS;
    lan.link = Link {
        loss_percent: rng.u8(0..60),
        duplicate_percent: rng.u8(0..30),
        delay_max: Duration::from_millis(rng.u64(0..500)),
    };
    lan.start_all();
    for _ in 0..rng.u32(0..40) {
        let span = lan.routers[0].settings.interval * 3;
        let span = lan.up_to(span);
        lan.run_for(span);
        lan.disturb();
    }
    lan
}

#[test]
fn after_any_disturbance_the_strongest_becomes_the_one_master_and_stays_it() {
    seeds(|seed| {
        let mut lan = chaos(seed, true);
        lan.heal();
        lan.run_for(lan.longest_down() * 2 + Duration::from_secs(1));
        // Of several with the highest priority the one that is MASTER stays it: a BACKUP does not
        // preempt its equal, and addresses decide between MASTERs only.
        let highest = lan.routers[lan.strongest()].settings.priority;
        let (masters, before) = (lan.masters(), lan.takeovers.len());
        let priorities = masters.iter().map(|at| lan.routers[*at].settings.priority);
        assert_eq!(priorities.collect::<Vec<_>>(), [highest], "{lan:#?}");
        lan.run_for(lan.routers[0].settings.interval * 50);
        assert_eq!((lan.masters(), lan.takeovers.len()), (masters, before));
    });
}

#[test]
fn without_preemption_there_is_still_one_master_after_any_disturbance() {
    seeds(|seed| {
        let mut lan = chaos(seed, false);
        lan.heal();
        lan.run_for(lan.longest_down() * 2 + Duration::from_secs(1));
        let (masters, before) = (lan.masters(), lan.takeovers.len());
        assert_eq!(masters.len(), 1, "{lan:#?}");
        lan.run_for(lan.routers[0].settings.interval * 50);
        assert_eq!((lan.masters(), lan.takeovers.len()), (masters, before));
    });
}

#[test]
fn two_masters_last_no_longer_than_an_interval_on_a_healthy_link() {
    seeds(|seed| {
        let mut lan = chaos(seed, true);
        lan.heal();
        lan.two_since = lan.two_since.map(|_| lan.now);
        lan.two_longest = Duration::ZERO;
        lan.run_for(lan.longest_down() * 3);
        assert_eq!(lan.two_since, None, "{lan:#?}");
        let bound = lan.routers[0].settings.interval + 4 * MS;
        assert!(lan.two_longest <= bound, "{:?}", lan.two_longest);
    });
}

#[test]
fn after_a_crash_the_best_backup_takes_over_within_its_down_interval_and_no_other() {
    seeds(|seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut routers = random_routers(&mut rng, true);
        // Priorities far enough apart for their skews to differ by more than delay and lag.
        for (i, router) in routers.iter_mut().enumerate() {
            router.priority = 20 + 30 * i as u8;
        }
        rng.shuffle(&mut routers);
        let mut lan = Lan::new(seed, &routers);
        (lan.link, lan.timer_lag) = (HEALTHY, MS);
        lan.start_all();
        let warm_up = lan.longest_down() * 2 + lan.up_to(routers[0].interval);
        lan.run_for(warm_up);
        lan.takeovers.clear();
        while lan.routers.iter().filter(|r| r.fsm.is_some()).count() > 1 {
            lan.crash(lan.strongest());
            let best = lan.strongest();
            let gap = lan.takeover();
            let longest = lan.down(best) + 3 * MS;
            let shortest = longest.saturating_sub(routers[0].interval + 6 * MS);
            assert!(gap <= longest && gap >= shortest, "{gap:?} {longest:?}");
            lan.run_for(routers[0].interval * 4);
            assert_eq!(lan.masters(), [best]);
            assert_eq!(lan.takeovers.pop().unwrap().1, best);
            assert_eq!(lan.takeovers, [], "only one took over");
        }
    });
}

#[test]
fn a_v3_backup_with_a_slower_interval_does_not_disturb_a_faster_master() {
    let fast = settings(VrrpVersion::V3, 200, Duration::from_millis(100));
    let slow = settings(VrrpVersion::V3, 100, Duration::from_secs(1));
    let mut lan = Lan::new(0, &[fast, slow]);
    lan.start_all();
    lan.run_for(Duration::from_secs(2));
    lan.crash(0);
    // RFC 9568 §6.4.2: three of the MASTER's intervals, and a skew scaled by it.
    assert!(lan.takeover() <= Duration::from_millis(361));
}

#[test]
fn a_stalled_master_never_overlaps_its_successor_once_it_runs_again() {
    let router = |priority| settings(VrrpVersion::V2, priority, Duration::from_secs(1));
    let mut lan = Lan::new(0, &[router(200), router(100)]);
    lan.start_all();
    lan.run_for(Duration::from_secs(10));
    lan.routers[0].stalled_until = lan.now + Duration::from_secs(30);
    lan.run_for(Duration::from_secs(29));
    assert_eq!(lan.masters(), [0, 1], "the stalled one cannot know yet");
    lan.run_for(Duration::from_millis(1010));
    assert_eq!(lan.masters(), [1], "it steps down before anything else");
    lan.run_for(Duration::from_secs(5));
    assert_eq!(lan.masters(), [0], "and preempts by the rules");
}

/// Pairs of the tutorials: nginx dies on the MASTER, whose script then fails.
#[test]
fn a_failed_script_moves_the_role_when_its_weight_bridges_the_distance_or_it_has_none() {
    for (master, backup, weight, moves) in [
        (100, 90, 2, false),
        (100, 90, 3, false),
        (100, 98, 3, true),
        (100, 99, 2, true),
        (150, 90, 60, false),
        (150, 90, 61, true),
    ] {
        let router = |priority| settings(VrrpVersion::V2, priority, Duration::from_secs(1));
        let mut lan = Lan::new(0, &[router(master), router(backup)]);
        lan.start_all();
        for (at, base) in [master, backup].into_iter().enumerate() {
            lan.tracks(at, base + weight, Standing::Ready);
        }
        lan.run_for(Duration::from_secs(20));
        assert_eq!(lan.masters(), [0]);
        lan.tracks(0, master, Standing::Ready);
        lan.run_for(Duration::from_secs(20));
        let holder = usize::from(moves);
        assert_eq!(lan.masters(), [holder], "{master} {backup} {weight}");
        lan.tracks(0, master + weight, Standing::Ready);
        lan.run_for(Duration::from_secs(20));
        assert_eq!(lan.masters(), [0], "nginx is back");

        // Without weight it moves in any case, after the skew.
        lan.tracks(0, master, Standing::Failed);
        let skew = super::election::skew(VrrpVersion::V2, backup + weight, Duration::from_secs(1));
        assert_eq!(lan.takeover(), skew);
        assert_eq!(lan.masters(), [1]);
    }
}

/// 2–4 hosts, each with a sync group of the same 2–3 virtual routers and one priority for all.
fn grouped(seed: u64) -> (Lan, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (hosts, members) = (rng.usize(2..=4), rng.usize(2..=3));
    let (version, interval) = if rng.bool() {
        (VrrpVersion::V2, 1000)
    } else {
        (VrrpVersion::V3, 100)
    };
    let mut priorities: Vec<u8> = (1..=hosts as u8).map(|n| n * 60).collect();
    rng.shuffle(&mut priorities);
    let interval = Duration::from_millis(interval);
    let routers: Vec<Settings> = priorities
        .iter()
        .flat_map(|priority| {
            let member = Settings {
                grouped: true,
                ..settings(version, *priority, interval)
            };
            vec![member; members]
        })
        .collect();
    let mut lan = Lan::new(seed, &routers);
    for at in 0..routers.len() {
        lan.routers[at].vrid = (at % members) as u8 + 1;
    }
    let group = |host: usize| SyncGroup {
        members: (host * members..(host + 1) * members).collect(),
        rules: Group::default(),
    };
    lan.groups = (0..hosts).map(group).collect();
    (lan, members)
}

/// A bad thing happens to one member (its link, what it tracks) or to a whole host.
fn disturb_group(lan: &mut Lan) {
    let host = lan.rng.usize(0..lan.groups.len());
    let members = lan.groups[host].members.clone();
    match lan.rng.u8(0..4) {
        0 => members.iter().for_each(|at| lan.crash(*at)),
        1 => members.iter().for_each(|at| lan.start(*at)),
        2 => lan.routers[members[0]].part = lan.rng.u8(0..2),
        _ => {
            let at = members[lan.rng.usize(0..members.len())];
            let (source, own) = (lan.routers[at].address, lan.routers[at].settings.priority);
            match lan.rng.u8(0..4) {
                0 => lan.give(at, Input::InterfaceDown),
                1 => lan.give(at, Input::InterfaceUp { source }),
                2 => lan.tracks(at, own, Standing::Failed),
                _ => lan.tracks(at, own, Standing::Ready),
            }
        }
    }
}

#[test]
fn the_members_of_a_sync_group_move_together_and_the_strongest_host_gets_all_roles() {
    seeds(|seed| {
        let (mut lan, members) = grouped(seed);
        lan.timer_lag = MS;
        lan.link = Link {
            loss_percent: lan.rng.u8(0..40),
            duplicate_percent: lan.rng.u8(0..20),
            delay_max: Duration::from_millis(50),
        };
        lan.start_all();
        for _ in 0..lan.rng.u32(0..40) {
            let span = lan.up_to(lan.routers[0].settings.interval * 3);
            lan.run_for(span);
            disturb_group(&mut lan);
        }
        lan.heal();
        lan.run_for(lan.longest_down() * 6 + Duration::from_secs(1));
        let highest = lan
            .routers
            .iter()
            .map(|r| r.settings.priority)
            .max()
            .unwrap();
        let masters = lan.masters();
        assert_eq!(masters.len(), members, "{lan:#?}");
        for at in masters {
            assert_eq!(lan.routers[at].settings.priority, highest);
        }
        let before = lan.takeovers.len();
        lan.run_for(lan.routers[0].settings.interval * 50);
        assert_eq!(lan.takeovers.len(), before);
    });
}

#[test]
fn a_fault_of_one_member_hands_all_roles_over_and_back() {
    let router = |priority| Settings {
        grouped: true,
        ..settings(VrrpVersion::V2, priority, Duration::from_secs(1))
    };
    let mut lan = Lan::new(0, &[router(100), router(100), router(90), router(90)]);
    for at in 0..4 {
        lan.routers[at].vrid = (at % 2) as u8 + 1;
    }
    for members in [vec![0, 1], vec![2, 3]] {
        let rules = Group::default();
        lan.groups.push(SyncGroup { members, rules });
    }
    lan.start_all();
    lan.run_for(Duration::from_secs(20));
    assert_eq!(lan.masters(), [0, 1]);
    // A failed script: both members tell their peers, which take over after the skew.
    lan.tracks(0, 100, Standing::Failed);
    assert!(lan.masters().is_empty());
    let skew = super::election::skew(VrrpVersion::V2, 90, Duration::from_secs(1));
    assert_eq!(lan.takeover(), skew);
    lan.run_for(MS);
    assert_eq!(lan.masters(), [2, 3]);
    lan.tracks(0, 100, Standing::Ready);
    lan.run_for(Duration::from_secs(20));
    assert_eq!(lan.masters(), [0, 1]);
}

/// Milliseconds from an event to the next MASTER, by simulated clock on a perfect link.
#[test]
fn takeover_table() {
    let mut table = String::from(
        "version interval priority | starts alone  crash, latest  crash, earliest  stopped  preempts\n",
    );
    for (version, interval) in [
        (VrrpVersion::V2, 1000),
        (VrrpVersion::V2, 5000),
        (VrrpVersion::V3, 40),
        (VrrpVersion::V3, 100),
        (VrrpVersion::V3, 1000),
    ] {
        for priority in [1, 100, 150, 254] {
            takeover_row(
                &mut table,
                version,
                Duration::from_millis(interval),
                priority,
            );
        }
    }
    expect![[r"
        version interval priority | starts alone  crash, latest  crash, earliest  stopped  preempts
        V2         1000        1 |     3996.094       3996.094         2996.094  996.094         -
        V2         1000      100 |     3609.375       3609.375         2609.375  609.375  3609.375
        V2         1000      150 |     3414.062       3414.062         2414.063  414.062  3414.062
        V2         1000      254 |     3007.812       3007.812         2007.813    7.812  3007.812
        V2         5000        1 |    15996.094      15996.094        10996.094  996.094         -
        V2         5000      100 |    15609.375      15609.375        10609.375  609.375  15609.375
        V2         5000      150 |    15414.062      15414.062        10414.063  414.062  15414.062
        V2         5000      254 |    15007.812      15007.812        10007.813    7.812  15007.812
        V3           40        1 |      159.844        159.844          119.844   39.844         -
        V3           40      100 |      144.375        144.375          104.375   24.375   144.375
        V3           40      150 |      136.562        136.562           96.563   16.562   136.562
        V3           40      254 |      120.312        120.312           80.313    0.312   120.312
        V3          100        1 |      399.609        399.609          299.609   99.609         -
        V3          100      100 |      360.938        360.938          260.938   60.938   360.938
        V3          100      150 |      341.406        341.406          241.406   41.406   341.406
        V3          100      254 |      300.781        300.781          200.781    0.781   300.781
        V3         1000        1 |     3996.094       3996.094         2996.094  996.094         -
        V3         1000      100 |     3609.375       3609.375         2609.375  609.375  3609.375
        V3         1000      150 |     3414.062       3414.062         2414.063  414.062  3414.062
        V3         1000      254 |     3007.812       3007.812         2007.813    7.812  3007.812
    "]]
    .assert_eq(&table);
}

fn takeover_row(table: &mut String, version: VrrpVersion, interval: Duration, priority: u8) {
    let backup = settings(version, priority, interval);
    let master = settings(version, 255, interval);
    let weaker = settings(version, priority.saturating_sub(1).max(1), interval);
    // The MASTER's first advert leaves at 0, so its adverts leave at multiples of the interval.
    let with_master = |extra: Duration| {
        let mut lan = Lan::new(0, &[master, backup]);
        lan.start_all();
        lan.run_for(interval * 20 + extra);
        lan
    };
    let alone = {
        let mut lan = Lan::new(0, &[backup]);
        lan.start_all();
        lan.takeover()
    };
    let after_advert = {
        let mut lan = with_master(Duration::ZERO);
        lan.crash(0);
        lan.takeover()
    };
    let before_advert = {
        let mut lan = with_master(interval.saturating_sub(Duration::from_nanos(1)));
        lan.crash(0);
        lan.takeover()
    };
    let stopped = {
        let mut lan = with_master(interval / 2);
        lan.stop(0);
        lan.takeover()
    };
    let preempts = {
        let mut lan = Lan::new(0, &[weaker, backup]);
        lan.start(0);
        lan.run_for(interval * 20);
        lan.start(1);
        (weaker.priority < priority).then(|| lan.takeover())
    };
    let ms = |span: Duration| format!("{:.3}", span.as_nanos() as f64 / 1e6);
    writeln!(
        table,
        "{version:?}      {:>7}  {priority:>7} | {:>12}  {:>13}  {:>15}  {:>7}  {:>8}",
        interval.as_millis(),
        ms(alone),
        ms(after_advert),
        ms(before_advert),
        ms(stopped),
        preempts.map_or("-".to_owned(), ms),
    )
    .unwrap();
}
