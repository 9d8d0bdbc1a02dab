// SPDX-License-Identifier: MIT OR Apache-2.0
//! BFD with Debian's bird2 and keepalived, over IPv4 and IPv6, and what a session does to an
//! instance that tracks it.
//!
//! In: a director and a neighbour. Out: both hold the session up; its end is a fault or another
//! priority; neither refuses anything of the other.

mod peer;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_agent::control::status::{Bfd, Status};
use lb_agent::control::{Request, Response, client};
use xlvs_tests::director::{Director, Software};
use xlvs_tests::lab::{Host, INTERFACE, Lab};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::wait;

use peer::{Make, Peer, TIMING};

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NEIGHBOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// Sessions come up within some idle intervals.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longer than any detection time here.
const A_WHILE: Duration = Duration::from_secs(2);

fn raise(name: &str, v6: bool) -> Result<(Lab, Director, Host, [IpAddr; 2])> {
    let lab = Lab::raise(name)?;
    let own = lab.host("d1", OWN)?;
    let neighbor = lab.host("router", NEIGHBOR)?;
    let mut addresses: [IpAddr; 2] = [OWN.into(), NEIGHBOR.into()];
    if v6 {
        for (host, address) in [&own, &neighbor].into_iter().zip(&mut addresses) {
            let cidr = format!("{}/64", host.address6());
            host.namespace()
                .ip(&["addr", "add", &cidr, "dev", INTERFACE, "nodad"])?;
            *address = host.address6().into();
        }
    }
    Ok((lab, Director::new(own, Software::Xlvs), neighbor, addresses))
}

/// An instance that tracks one session. `track` follows the session's name.
fn config([own, neighbor]: [IpAddr; 2], settings: &str, track: &str) -> String {
    format!(
        "bfd_instance router {{\nneighbor_ip {neighbor}\nsource_ip {own}\n{settings}\n}}\n\
         vrrp_instance VI_1 {{\nstate MASTER\ninterface eth0\nvirtual_router_id 51\npriority 100\n\
         advert_int 0.1\nversion 3\nvirtual_ipaddress {{\n192.0.2.200\n}}\ntrack_bfd {{\n\
         router {track}\n}}\n}}\n"
    )
}

fn ask(director: &Director) -> Result<Status> {
    match client::ask(&director.host().path("control.sock"), &Request::Status)? {
        Response::Status(status) => Ok(*status),
        other => bail!("the agent answers {other:?}"),
    }
}

/// Waits until status is as wanted.
fn await_status(
    director: &Director,
    what: &str,
    wanted: impl Fn(&Status, &Bfd) -> bool,
) -> Result<Status> {
    let mut last = String::new();
    let found = wait::until(PATIENCE, what, || {
        let status = ask(director);
        let matches = status.as_ref().is_ok_and(|status| {
            let session = status.bfd.first();
            session.is_some_and(|session| wanted(status, session))
        });
        if matches {
            return status.ok();
        }
        last = format!("{status:?}");
        None
    });
    found.with_context(|| format!("last status: {last}; {}", director.log_tail()))
}

fn state(status: &Status) -> &str {
    status
        .instances
        .first()
        .map_or("none", |i| i.state.as_str())
}

fn is(ms: f64, wanted: f64) -> bool {
    (ms - wanted).abs() < 0.01
}

/// Nothing but what is good has been counted.
fn expect_no_refusals(status: &Status) {
    let good = ["rcvd", "sent", "went_up", "went_down", "send_err"];
    for session in &status.bfd {
        let bad: Vec<_> = session
            .counters
            .iter()
            .filter(|(name, n)| **n > 0 && !good.contains(&name.as_str()))
            .collect();
        assert_eq!(bad, [], "{session:?}");
    }
}

fn pair(name: &str, make: Make, v6: bool) -> Outcome {
    let (_lab, mut director, neighbor, addresses) = raise(name, v6)?;
    director.start(&config(addresses, TIMING, ""))?;
    let status = await_status(
        &director,
        "a session that is down to be a fault",
        |s, bfd| state(s) == "FAULT" && bfd.state == "Down",
    )?;
    assert_eq!(status.instances[0].tracks[0].kind, "bfd");
    let [own, other] = addresses;
    let peer = Peer::start(make, &neighbor, other, own)?;
    await_status(
        &director,
        "the session and the instance to come up",
        |s, bfd| state(s) == "MASTER" && bfd.state == "Up" && bfd.remote_state == "Up",
    )
    .with_context(|| peer.says())?;
    wait::until_true(PATIENCE, "the neighbour to hold it up, too", || {
        peer.is_up()
    })
    .with_context(|| peer.says())?;
    let status = await_status(&director, "the intervals to be negotiated", |_, bfd| {
        is(bfd.tx_interval_ms, 100.0) && bfd.detection_time_ms.is_some_and(|ms| is(ms, 500.0))
    })?;
    expect_no_refusals(&status);
    wait::holds(A_WHILE, "both stay up", || {
        let up = ask(&director).is_ok_and(|s| state(&s) == "MASTER" && s.bfd[0].state == "Up");
        up && peer.is_up()
    })
    .with_context(|| peer.says())?;
    peer.kill()?;
    let status = await_status(&director, "the neighbour's end to be a fault", |s, bfd| {
        state(s) == "FAULT" && bfd.state == "Down"
    })?;
    assert_eq!(status.bfd[0].diagnostic, "control detection time expired");
    expect_no_refusals(&status);
    let peer = Peer::start(make, &neighbor, other, own)?;
    await_status(&director, "the session to come back", |s, bfd| {
        state(s) == "MASTER" && bfd.state == "Up"
    })
    .with_context(|| peer.says())?;
    wait::until_true(PATIENCE, "the neighbour to hold it up again", || {
        peer.is_up()
    })
    .with_context(|| peer.says())?;
    director.sigkill()?;
    wait::until_true(PATIENCE, "the neighbour to notice our end", || {
        !peer.is_up()
    })
    .with_context(|| peer.says())?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn bird_and_we_hold_a_session_over_ipv4() -> Outcome {
    pair("bfd-bird-v4", Make::Bird, false)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn bird_and_we_hold_a_session_over_ipv6() -> Outcome {
    pair("bfd-bird-v6", Make::Bird, true)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn keepalived_and_we_hold_a_session_over_ipv4() -> Outcome {
    pair("bfd-keepalived-v4", Make::Keepalived, false)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn keepalived_and_we_hold_a_session_over_ipv6() -> Outcome {
    pair("bfd-keepalived-v6", Make::Keepalived, true)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_weight_counts_while_the_session_is_up_and_a_reload_leaves_it_up() -> Outcome {
    let (_lab, mut director, neighbor, addresses) = raise("bfd-weight", false)?;
    director.start(&config(addresses, TIMING, "weight 30"))?;
    await_status(&director, "MASTER with the session down", |s, bfd| {
        state(s) == "MASTER" && bfd.state == "Down" && s.instances[0].effective_priority == 100
    })?;
    let mut other = Director::new(neighbor, Software::Xlvs);
    let [own, there] = addresses;
    let theirs = config([there, own], "passive\nmin_rx 150", "weight 10");
    other.start(&theirs.replace("virtual_router_id 51", "virtual_router_id 52"))?;
    await_status(&director, "the weight to count", |s, bfd| {
        bfd.state == "Up" && s.instances[0].effective_priority == 130
    })?;
    await_status(&director, "slower sending to be agreed on", |_, bfd| {
        is(bfd.tx_interval_ms, 150.0)
    })?;
    director.write_config(&config(addresses, "min_rx 80\nmin_tx 200", "weight 50"))?;
    director.reload()?;
    let status = await_status(&director, "the new settings to hold", |s, bfd| {
        s.instances[0].effective_priority == 150 && is(bfd.tx_interval_ms, 200.0)
    })?;
    assert_eq!(status.bfd[0].counters["went_down"], 0);
    assert_eq!(ask(&other)?.bfd[0].counters["went_down"], 0);
    other.sigterm()?;
    let status = await_status(&director, "a stop to be told", |s, bfd| {
        bfd.state == "Down" && s.instances[0].effective_priority == 100
    })?;
    assert_eq!(status.bfd[0].diagnostic, "neighbor signaled session down");
    Ok(())
}
