// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routers by themselves: whatever happens to them, there is one MASTER in the end, and two for no
//! longer than the protocol allows.

use super::*;

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
        let skew =
            super::super::election::skew(VrrpVersion::V2, backup + weight, Duration::from_secs(1));
        assert_eq!(lan.takeover(), skew);
        assert_eq!(lan.masters(), [1]);
    }
}

/// Crash, stop, start, reload, a lost or found interface, on a healthy link and one right after the
/// other: a down interval after the last of them there is one MASTER, if any router is able.
#[test]
fn no_gap_is_longer_than_a_down_interval() {
    seeds(|seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut lan = Lan::new(seed, &random_routers(&mut rng, true));
        (lan.link, lan.timer_lag) = (HEALTHY, MS);
        lan.start_all();
        let bound = lan.longest_down() + 6 * MS;
        lan.run_for(bound);
        for _ in 0..rng.u32(1..30) {
            let at = rng.usize(0..lan.routers.len());
            match rng.u8(0..6) {
                0 => lan.crash(at),
                1 => lan.stop(at),
                2 => lan.start(at),
                3 => {
                    lan.stop(at);
                    lan.start(at);
                }
                4 => lan.give(at, Input::InterfaceDown),
                _ => {
                    let source = lan.routers[at].address;
                    lan.give(at, Input::InterfaceUp { source });
                }
            }
            if rng.bool() {
                let span = lan.up_to(bound);
                lan.run_for(span);
                continue;
            }
            lan.run_for(bound);
            let able = |router: &Router| {
                let fsm = router.fsm.as_ref();
                fsm.is_some_and(|fsm| fsm.source().is_some())
            };
            let expected = usize::from(lan.routers.iter().any(able));
            assert_eq!(lan.masters().len(), expected, "{lan:#?}");
        }
    });
}

/// What a MASTER of these tests does to its host: it never forwards while its successor does, but
/// for the time that the word takes on the link.
#[test]
fn a_claim_that_fails_hands_over_within_the_skew() {
    seeds(|seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut lan = Lan::new(seed, &random_routers(&mut rng, true));
        (lan.link, lan.timer_lag) = (HEALTHY, MS);
        let broken = lan.strongest_of_all();
        lan.routers[broken].broken = true;
        lan.start_all();
        lan.run_for(lan.longest_down() * 2 + Duration::from_secs(1));
        let masters = lan.masters();
        assert_eq!(masters.len(), 1, "{lan:#?}");
        assert_ne!(masters, [broken]);
    });
}
