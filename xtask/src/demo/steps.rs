// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo's steps: each does one thing to the site and says what it saw.
//!
//! In: the site as the step before left it. Out: [`Seen`]. Invariant: every step ends with the
//! kernel's own word on where XDP programs are attached, in every namespace.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use xlvs_tests::config::Speed;
use xlvs_tests::experiment::{self, Departure};
use xlvs_tests::requester::Requester;
use xlvs_tests::site::{self, SERVERS, Site, VIP};
use xlvs_tests::{client, wait, xdp};

use super::Seen;

/// A step's name and what it does.
type Entry = (&'static str, fn(&mut Site) -> Result<Seen>);

/// All steps in the order in which they are played.
pub(super) const ALL: [Entry; 8] = [
    ("VRRP elects the MASTER", elect),
    ("ab -c 1000 -n 10000 through the VIP", load),
    ("a web server stops", server_stops),
    ("the web server returns", server_returns),
    ("the MASTER's agent is killed (SIGKILL)", kill),
    ("the killed director returns", come_back),
    ("the MASTER is stopped gracefully (SIGTERM)", stop),
    ("the last director stops", stop_last),
];

const SPEED: Speed = Speed::V2Second;

/// One request in this time while directors fail.
const PACE: Duration = Duration::from_millis(10);

/// What a client may see beyond the takeover itself: its own ARP entry and two round trips.
const CLIENT_MS: f64 = 50.0;

fn elect(site: &mut Site) -> Result<Seen> {
    let mut seen = Seen::new("d1 is MASTER and has the VIP; XDP on d1 only; all servers UP");
    experiment::elect(site, &site::configs(SPEED))?;
    for (index, state) in ["MASTER", "BACKUP"].into_iter().enumerate() {
        let director = &mut site.directors[index];
        let what = format!("be {state} with three servers UP");
        let status = director.await_status(&what, experiment::ELECTION, |status| {
            let mut servers = status
                .services
                .iter()
                .flat_map(|service| &service.real_servers);
            status.state() == state && servers.all(|server| server.state == "UP")
        })?;
        seen.fact(format!("{} is {}", director.name(), status.state()), true);
        if let Some(count) = status.program.verified_instructions {
            seen.figure("verified_instructions", count);
        }
    }
    attached_on(site, Some("d1"), &mut seen)?;
    let witness = xdp::seen_by_bpftool(site.directors[0].host())?
        && !xdp::seen_by_bpftool(site.directors[1].host())?;
    seen.fact("bpftool net says the same", witness);
    Ok(seen)
}

fn load(site: &mut Site) -> Result<Seen> {
    let mut seen = Seen::new("0 failed; shares 3:2:1 within 1 %");
    run_ab(site, 1000, 10_000, &[3, 2, 1], &mut seen)?;
    attached_on(site, Some("d1"), &mut seen)?;
    Ok(seen)
}

fn server_stops(site: &mut Site) -> Result<Seen> {
    let mut seen = Seen::new("rs2 is taken out; 0 failed; shares 3:0:1");
    site.servers[1].stop_nginx();
    let seconds = await_server(site, SERVERS[1].0, "DOWN")?;
    seen.fact(
        format!("both directors have rs2 DOWN after {seconds:.1} s"),
        true,
    );
    seen.figure("taken_out_after_s", seconds);
    run_ab(site, 100, 2000, &[3, 0, 1], &mut seen)?;
    attached_on(site, Some("d1"), &mut seen)?;
    Ok(seen)
}

fn server_returns(site: &mut Site) -> Result<Seen> {
    let mut seen = Seen::new("rs2 is UP again; 0 failed; shares 3:2:1");
    site.servers[1].start_nginx()?;
    let seconds = await_server(site, SERVERS[1].0, "UP")?;
    seen.fact(
        format!("both directors have rs2 UP after {seconds:.1} s"),
        true,
    );
    seen.figure("returned_after_s", seconds);
    run_ab(site, 100, 2000, &[3, 2, 1], &mut seen)?;
    attached_on(site, Some("d1"), &mut seen)?;
    Ok(seen)
}

fn kill(site: &mut Site) -> Result<Seen> {
    depart(site, Departure::Kill)
}

fn stop(site: &mut Site) -> Result<Seen> {
    let mut seen = depart(site, Departure::Stop)?;
    let gone = !site.directors[0].host().has_address(VIP);
    seen.fact("d1 has given the VIP back and ended with status 0", gone);
    Ok(seen)
}

/// d1 goes under continuous requests and d2 takes over.
fn depart(site: &mut Site, departure: Departure) -> Result<Seen> {
    let bound = departure.bound_ms(SPEED, site::configs(SPEED)[1].priority);
    let mut seen = Seen::new(format!(
        "d2 takes over within {bound:.0} ms; XDP on d2 only"
    ));
    let requester = Requester::start(&site.client, VIP, PACE)?;
    await_answers(&requester, 50)?;
    let ms = experiment::takeover(site, departure)?;
    await_answers(&requester, requester.answered() + 50)?;
    let report = requester.finish()?;
    seen.fact(
        format!("d2 is MASTER {ms:.1} ms after {}", departure.name()),
        ms <= bound,
    );
    let gap = report.longest_gap_ms;
    seen.fact(
        format!("nobody was served for {gap:.0} ms"),
        gap <= bound + CLIENT_MS,
    );
    seen.fact(
        format!("{} of {} requests lost", report.lost, report.sent),
        report.lost < report.sent,
    );
    seen.figure("takeover_ms", ms);
    seen.figure("bound_ms", bound);
    seen.figure("longest_gap_ms", gap);
    seen.figure("requests_sent", report.sent);
    seen.figure("requests_lost", report.lost);
    attached_on(site, Some("d2"), &mut seen)?;
    Ok(seen)
}

fn come_back(site: &mut Site) -> Result<Seen> {
    let mut seen = Seen::new("d1 preempts: it is MASTER again; XDP on d1 only");
    let requester = Requester::start(&site.client, VIP, PACE)?;
    await_answers(&requester, 50)?;
    let ms = experiment::come_back(site)?;
    await_answers(&requester, requester.answered() + 50)?;
    let report = requester.finish()?;
    seen.fact(
        format!("d1 is MASTER again {:.1} s after its start", ms / 1e3),
        true,
    );
    seen.fact(
        format!("{} of {} requests lost meanwhile", report.lost, report.sent),
        report.lost < report.sent,
    );
    seen.figure("preempted_after_ms", ms);
    seen.figure("requests_sent", report.sent);
    seen.figure("requests_lost", report.lost);
    seen.figure("longest_gap_ms", report.longest_gap_ms);
    attached_on(site, Some("d1"), &mut seen)?;
    Ok(seen)
}

fn stop_last(site: &mut Site) -> Result<Seen> {
    let mut seen = Seen::new("no VIP and no XDP program anywhere");
    let (_, status) = site.directors[1].sigterm()?;
    seen.fact("d2 ended with status 0", status.success());
    let left = site
        .directors
        .iter()
        .any(|director| director.host().has_address(VIP));
    seen.fact("no director has the VIP", !left);
    attached_on(site, None, &mut seen)?;
    Ok(seen)
}

/// Runs ab through the VIP and judges failures and each server's share by nginx's own counts.
fn run_ab(site: &Site, many: u32, all: u32, weights: &[u64; 3], seen: &mut Seen) -> Result<()> {
    let before = site.answered()?;
    let report = client::ab(&site.client, VIP, many, all)?;
    let rate = report.per_second;
    seen.fact(
        format!(
            "{} requests, {} failed, {rate:.0}/s",
            report.complete, report.failed
        ),
        report.failed == 0 && report.complete == u64::from(all),
    );
    seen.figure("ab", serde_json::to_value(&report)?);
    let counts: Vec<u64> = site
        .answered()?
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    let (total, weight) = (
        counts.iter().sum::<u64>().max(1),
        weights.iter().sum::<u64>(),
    );
    for (index, (count, wanted)) in counts.iter().zip(weights).enumerate() {
        let share = *count as f64 / total as f64 * 100.0;
        let ideal = *wanted as f64 / weight as f64 * 100.0;
        let ok = (share - ideal).abs() <= 1.0;
        seen.fact(
            format!(
                "rs{}: {count} = {share:.2} % (weight: {ideal:.2} %)",
                index + 1
            ),
            ok,
        );
    }
    seen.figure("answered", counts);
    Ok(())
}

/// Waits until both directors hold a server for `state`; returns the seconds that took.
fn await_server(site: &mut Site, address: Ipv4Addr, state: &str) -> Result<f64> {
    let began = std::time::Instant::now();
    for director in &mut site.directors {
        director.await_status(
            &format!("have {address} {state}"),
            experiment::ELECTION,
            |status| {
                status
                    .real_server(address)
                    .is_some_and(|server| server.state == state)
            },
        )?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn await_answers(requester: &Requester, count: usize) -> Result<()> {
    let what = format!("{count} requests to be answered");
    wait::until_true(experiment::ELECTION, &what, || {
        requester.answered() >= count
    })
}

/// Judges that, of all hosts, exactly `wanted` has a program attached.
fn attached_on(site: &Site, wanted: Option<&str>, seen: &mut Seen) -> Result<()> {
    let hosts = site.hosts();
    let look = || -> Result<Vec<String>> {
        let mut found = Vec::new();
        for host in &hosts {
            if let Some(attachment) = xdp::attachment(host)? {
                found.push(format!("{} ({})", host.name(), attachment.mode));
            }
        }
        Ok(found)
    };
    let as_wanted = |found: &[String]| match (found, wanted) {
        ([], None) => true,
        ([only], Some(wanted)) => only.starts_with(wanted),
        _ => false,
    };
    // A director that has just lost the role detaches a moment after the other one shows itself.
    let settled = wait::until(Duration::from_secs(2), "XDP to follow the MASTER", || {
        look().ok().filter(|found| as_wanted(found))
    });
    let found = settled.or_else(|_| look())?;
    let text = if found.is_empty() {
        "nowhere".to_owned()
    } else {
        format!("on {} only", found.join(", "))
    };
    seen.fact(format!("XDP is attached {text}"), as_wanted(&found));
    Ok(())
}
