// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast the backup takes over, with virtual servers and a packet program to attach.
//!
//! In: two directors with xlvs, requests all the while. Out: takeover times against the bounds that
//! the protocol gives. `cargo xtask bench failover` measures the same beside keepalived.

use std::time::{Duration, Instant};

use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::Software;
use xlvs_tests::experiment::{self, Departure, ELECTION};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::requester::Requester;
use xlvs_tests::site::{self, Site, VIP};
use xlvs_tests::{wait, xdp};

/// One request in this time.
const PACE: Duration = Duration::from_millis(10);

/// Takes d1 away under requests; judges takeover and service.
fn depart(name: &str, speed: Speed, departure: Departure) -> Outcome {
    depart_with(name, speed, departure, &site::configs(speed))
}

/// The same with these files.
fn depart_with(
    name: &str,
    speed: Speed,
    departure: Departure,
    configs: &[DirectorConfig; 2],
) -> Outcome {
    let mut site = Site::raise(name, [Software::Xlvs; 2])?;
    experiment::elect(&mut site, configs)?;
    for director in &mut site.directors {
        director.await_servers_up(ELECTION)?;
    }
    let requester = Requester::start(&site.client, VIP, PACE)?;
    wait::until_true(ELECTION, "requests to be answered", || {
        requester.answered() >= 20
    })?;
    let ms = experiment::takeover(&mut site, departure)?;
    let so_far = requester.answered();
    wait::until_true(ELECTION, "requests to be answered again", || {
        requester.answered() >= so_far + 20
    })?;
    requester.finish()?;
    let bound = departure.bound_ms(speed, configs[1].priority);
    assert!(
        ms <= bound,
        "takeover {ms:.1} ms after {}, bound {bound:.1} ms",
        departure.name()
    );
    assert_eq!(
        xdp::attachment(site.directors[0].host())?.is_some(),
        departure == Departure::Kill,
        "a stopped d1 has no program any more, a killed one's stays for a successor"
    );
    assert!(
        xdp::attachment(site.directors[1].host())?.is_some(),
        "d2 has it now"
    );
    Ok(())
}

/// Both directors MASTER or BACKUP with all servers known, and requests every few milliseconds.
fn serving(name: &str, speed: Speed) -> anyhow::Result<(Site, Requester)> {
    let mut site = Site::raise(name, [Software::Xlvs; 2])?;
    experiment::elect(&mut site, &site::configs(speed))?;
    for director in &mut site.directors {
        director.await_servers_up(ELECTION)?;
    }
    let requester = Requester::start(&site.client, VIP, PACE / 2)?;
    await_answers(&requester)?;
    Ok((site, requester))
}

fn await_answers(requester: &Requester) -> anyhow::Result<()> {
    let so_far = requester.answered();
    wait::until_true(ELECTION, "requests to be answered", || {
        requester.answered() >= so_far + 100
    })
}

/// What `moves` of the role may cost: at most one packet each, and the connections that are open at
/// that moment, for connections are not told to the other director. The last was over at `since`.
fn judge(requester: Requester, moves: u32, since: Instant) -> Outcome {
    await_answers(&requester)?;
    let since = requester.has_lost_since(since);
    let report = requester.finish()?;
    eprintln!("{report:?}");
    assert!(!since, "lost after the role had moved");
    assert!(report.lost - report.cut <= moves, "{report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_role_that_is_handed_over_and_back_costs_one_packet_at_most() -> Outcome {
    let (mut site, requester) = serving("failover-handed", Speed::V3Tenth)?;
    let [first, second] = &mut site.directors;
    assert_eq!(first.fail_over()?, Some(0));
    second.await_address(VIP, ELECTION)?;
    assert!(!first.host().has_address(VIP));
    assert_eq!(xdp::attachment(first.host())?, None);
    wait::holds(Duration::from_secs(1), "d1 does not take it back", || {
        second.host().has_address(VIP) && !first.host().has_address(VIP)
    })?;
    await_answers(&requester)?;
    assert_eq!(second.fail_over()?, Some(0));
    first.await_address(VIP, ELECTION)?;
    let since = Instant::now();
    assert_eq!(second.fail_over()?, Some(1), "it is BACKUP");
    judge(requester, 2, since)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_graceful_stop_costs_one_packet_at_most() -> Outcome {
    let (mut site, requester) = serving("failover-stop", Speed::V3Second)?;
    let [first, second] = &mut site.directors;
    let (_, status) = first.sigterm()?;
    assert_eq!(status.code(), Some(0));
    second.await_address(VIP, ELECTION)?;
    assert!(!first.host().has_address(VIP));
    let since = Instant::now();
    assert_eq!(xdp::attachment(first.host())?, None);
    judge(requester, 1, since)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn without_a_peer_the_role_stays_where_it_is() -> Outcome {
    let mut site = Site::raise_directors("failover-alone", [Software::Xlvs; 2])?;
    let [config, _] = site::configs(Speed::V3Tenth).map(|config| config.with_real_servers(&[]));
    let [first, _] = &mut site.directors;
    first.start(&config.text())?;
    first.await_address(VIP, ELECTION)?;
    assert_eq!(first.fail_over()?, Some(3));
    assert!(first.host().has_address(VIP));
    assert!(first.log().contains("no peer took over: MASTER as before"));
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_v2_master_is_replaced_within_three_intervals_and_skew() -> Outcome {
    depart("failover-v2-kill", Speed::V2Second, Departure::Kill)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_stopped_v2_master_is_replaced_within_the_skew_time() -> Outcome {
    depart("failover-v2-stop", Speed::V2Second, Departure::Stop)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_v3_master_is_replaced_within_three_tenths_and_skew() -> Outcome {
    depart("failover-v3-kill", Speed::V3Tenth, Departure::Kill)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_stopped_v3_master_is_replaced_within_the_skew_time() -> Outcome {
    depart("failover-v3-stop", Speed::V3Tenth, Departure::Stop)?;
    Ok(())
}

/// With `use_vmac` clients send to another MAC address than the interface's.
#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn services_at_a_virtual_mac_address_are_balanced_and_move() -> Outcome {
    let speed = Speed::V3Tenth;
    let configs = site::configs(speed).map(|config| DirectorConfig {
        vmac: true,
        ..config
    });
    depart_with("failover-vmac", speed, Departure::Stop, &configs)
}
