// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routers in sync groups: members move together.

use super::*;

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
    let skew = super::super::election::skew(VrrpVersion::V2, 90, Duration::from_secs(1));
    assert_eq!(lan.takeover(), skew);
    lan.run_for(MS);
    assert_eq!(lan.masters(), [2, 3]);
    lan.tracks(0, 100, Standing::Ready);
    lan.run_for(Duration::from_secs(20));
    assert_eq!(lan.masters(), [0, 1]);
}
