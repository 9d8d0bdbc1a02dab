// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hand-overs on a healthy link: somebody holds the addresses at every moment, and two do for no
//! longer than the word takes.

use super::*;

/// Some routers at rest, with priorities far enough apart for their skews to differ.
fn at_rest(seed: u64) -> Lan {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (version, interval) = match rng.u8(0..4) {
        0 => (VrrpVersion::V2, 1000),
        1 => (VrrpVersion::V2, 3000),
        2 => (VrrpVersion::V3, 100),
        _ => (VrrpVersion::V3, 1000),
    };
    let count = rng.u8(2..=5);
    let mut routers: Vec<Settings> = (0..count)
        .map(|n| settings(version, 20 + 40 * n, Duration::from_millis(interval)))
        .collect();
    rng.shuffle(&mut routers);
    let mut lan = Lan::new(seed, &routers);
    (lan.link, lan.timer_lag) = (HEALTHY, MS);
    lan.start_all();
    lan.run_for(lan.longest_down() * 2 + Duration::from_secs(1));
    lan
}

/// Lets the hand-over take its course: there is always a MASTER, and two for a moment at most.
fn watch_hand_over(lan: &mut Lan) {
    lan.two_longest = Duration::ZERO;
    let end = lan.now + lan.longest_down() * 2;
    while lan.step(end) {
        let masters = lan.masters().len();
        assert!(masters == 1 || masters == 2, "{lan:#?}");
    }
    assert_eq!(lan.two_since, None, "{lan:#?}");
    assert!(lan.two_longest <= MS * 3, "{:?}", lan.two_longest);
}

#[test]
fn a_handed_over_role_is_held_by_somebody_at_every_moment_and_stays_where_it_went() {
    seeds(|seed| {
        let mut lan = at_rest(seed);
        let first = lan.masters()[0];
        lan.hand_over(first, true);
        watch_hand_over(&mut lan);
        let [second] = lan.masters()[..] else {
            panic!("{lan:#?}")
        };
        assert_ne!(second, first);
        // The strongest does not take it back by itself, and does when it is handed to it.
        lan.run_for(lan.longest_down() * 5);
        assert_eq!(lan.masters(), [second]);
        lan.hand_over(second, true);
        watch_hand_over(&mut lan);
        assert_eq!(lan.masters(), [first]);
    });
}

#[test]
fn a_graceful_stop_leaves_no_moment_without_a_master() {
    seeds(|seed| {
        let mut lan = at_rest(seed);
        let first = lan.masters()[0];
        lan.hand_over(first, false);
        watch_hand_over(&mut lan);
        assert_eq!(lan.masters().len(), 1);
        let fsm = lan.routers[first].fsm.as_ref().unwrap();
        assert_eq!((fsm.state(), fsm.poll_timeout()), (State::Init, None));
    });
}

#[test]
fn a_router_that_handed_over_takes_over_when_its_successor_dies() {
    seeds(|seed| {
        let mut lan = at_rest(seed);
        let first = lan.masters()[0];
        lan.hand_over(first, true);
        watch_hand_over(&mut lan);
        let second = lan.masters()[0];
        lan.crash(second);
        let longest = lan.longest_down() + MS * 3;
        assert!(lan.takeover() <= longest);
        assert_eq!(lan.masters(), [first]);
    });
}

#[test]
fn without_a_peer_the_role_stays_and_a_stop_comes_to_its_end() {
    for (version, longest) in [(VrrpVersion::V2, 1097), (VrrpVersion::V3, 200)] {
        let router = settings(version, 100, Duration::from_millis(100));
        let mut lan = Lan::new(0, &[router]);
        lan.start_all();
        lan.run_for(Duration::from_secs(10));
        lan.hand_over(0, true);
        lan.run_for(Duration::from_secs(3));
        assert_eq!((lan.masters(), lan.takeovers.len()), (vec![0], 1));
        lan.hand_over(0, false);
        lan.run_for(MS * longest);
        assert!(lan.masters().is_empty());
    }
}

#[test]
fn a_sync_group_hands_all_its_roles_over() {
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
    lan.give_one(0, Input::HandOver { stays: true });
    lan.hand_over(1, true);
    lan.run_for(Duration::from_secs(20));
    assert_eq!(lan.masters(), [2, 3]);
}
