// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who becomes MASTER, and that the packet program follows the role.
//!
//! In: two directors with xlvs. Out: addresses, attachments and adverts as others see them.

use std::time::Duration;

use xlvs_tests::config::Speed;
use xlvs_tests::director::Software;
use xlvs_tests::experiment::{self, Departure, ELECTION};
use xlvs_tests::observer::{Moment, Said};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{self, DIRECTORS, Site, VIP};
use xlvs_tests::{wait, xdp};

const PAIR: [Software; 2] = [Software::Xlvs; 2];

/// Longer than a backup at a tenth of a second waits before it takes over.
const SEVERAL_INTERVALS: Duration = Duration::from_millis(1500);

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn the_higher_priority_becomes_master_and_alone_has_address_and_program() -> Outcome {
    let mut site = Site::raise("election-priority", PAIR)?;
    experiment::elect(&mut site, &site::configs(Speed::V3Tenth))?;
    let [first, second] = &site.directors;
    let attachment = xdp::attachment(first.host())?.expect("the MASTER has the program");
    assert_eq!(attachment.mode, "native");
    assert_eq!(xdp::attachment(second.host())?, None);
    assert!(!second.host().has_address(VIP));
    assert_eq!(first.status()?.state(), "MASTER");
    assert_eq!(second.status()?.state(), "BACKUP");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn the_program_is_attached_before_the_lan_hears_of_the_address() -> Outcome {
    let mut site = Site::raise("election-order", PAIR)?;
    let [first, _] = &mut site.directors;
    first.start(&site::configs(Speed::V3Tenth)[0].text())?;
    wait::until(ELECTION, "the VIP to appear", || {
        first
            .host()
            .has_address(VIP)
            .then(|| xdp::attachment(first.host()))
    })??
    .expect("whoever sees the address sees the program");
    let claim = wait::until(ELECTION, "a gratuitous ARP", || {
        let mut events = site.observer.events().into_iter();
        events.find(|event| matches!(event.said, Said::GratuitousArp { address: VIP, .. }))
    })?;
    let Said::GratuitousArp { mac, .. } = claim.said else {
        unreachable!("found above")
    };
    let text = mac.map(|byte| format!("{byte:02x}")).join(":");
    assert_eq!(
        text,
        first.host().mac()?,
        "it claims the address for the MASTER's own interface"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_returning_director_with_nopreempt_leaves_the_master_alone() -> Outcome {
    let mut site = Site::raise_directors("election-nopreempt", PAIR)?;
    let mut configs = site::configs(Speed::V3Tenth);
    for config in &mut configs {
        config.real_servers.clear();
        config.state = "BACKUP";
        config.preempt = false;
    }
    experiment::elect(&mut site, &configs)?;
    experiment::takeover(&mut site, Departure::Stop)?;
    let [first, second] = &mut site.directors;
    first.restart()?;
    first.await_status("answer as BACKUP", ELECTION, |status| {
        status.state() == "BACKUP"
    })?;
    wait::holds(SEVERAL_INTERVALS, "d2 stays MASTER", || {
        second.host().has_address(VIP) && !first.host().has_address(VIP)
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_unicast_pair_elects_without_multicast() -> Outcome {
    let mut site = Site::raise_directors("election-unicast", PAIR)?;
    let mut configs = site::configs(Speed::V3Tenth);
    configs[0].unicast = Some((DIRECTORS[0], vec![DIRECTORS[1]]));
    configs[1].unicast = Some((DIRECTORS[1], vec![DIRECTORS[0]]));
    for config in &mut configs {
        config.real_servers.clear();
    }
    experiment::elect(&mut site, &configs)?;
    wait::holds(SEVERAL_INTERVALS, "d2 stays BACKUP", || {
        !site.directors[1].host().has_address(VIP)
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_pair_without_virtual_servers_attaches_nothing() -> Outcome {
    let mut site = Site::raise_directors("election-vrrp-alone", PAIR)?;
    let configs = site::configs(Speed::V3Tenth).map(|config| config.with_real_servers(&[]));
    experiment::elect(&mut site, &configs)?;
    for director in &site.directors {
        assert_eq!(xdp::attachment(director.host())?, None);
        assert!(!director.status()?.program.loaded);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_backup_is_silent() -> Outcome {
    let mut site = Site::raise_directors("election-silence", PAIR)?;
    let configs = site::configs(Speed::V3Tenth).map(|config| config.with_real_servers(&[]));
    experiment::elect(&mut site, &configs)?;
    let since = Moment::now();
    wait::until_true(ELECTION, "ten adverts of the MASTER", || {
        site.observer.adverts(since, "d1").len() >= 10
    })?;
    assert!(site.observer.adverts(since, "d2").is_empty());
    Ok(())
}
