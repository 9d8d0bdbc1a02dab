// SPDX-License-Identifier: MIT OR Apache-2.0
//! Malformed adverts by the thousand through the real socket of a running agent.
//!
//! In: a director whose instances are MASTER, or BACKUP beside one. Out: no state changes, each
//! advert is counted once under the name of its defect, and the agent's memory stays as it was.
//! `XLVS_VRRP_FUZZ_ADVERTS=1000000` is the long run; `XLVS_FUZZ_SEED` replays one.

mod defects;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use lb_agent::control::status::Status;
use lb_agent::control::{Request, Response, client};
use lb_agent::vrrp::counters::Counter;
use socket2::{Domain, Protocol, Socket, Type};
use xlvs_tests::director::{Director, Software};
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::lab::{Host, INTERFACE, Lab};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::wait;

use defects::{AH, Case, Effect, PEER, TARGET, UNICAST, V2, V3};

/// Adverts of an ordinary run.
const ADVERTS: u64 = 20_000;
/// Sent before their counters are read back: fewer than a socket's buffer holds.
const BATCH: usize = 120;
/// What counters may need to come after.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pages that a process may take or give back while it does the same all the time, KiB.
const FLAT_KIB: u64 = 1024;

/// All refusals, and what is believed: one of them counts each advert.
const RECEIVED: [Counter; 15] = [
    Counter::AdvertRcvd,
    Counter::PacketLenErr,
    Counter::IpTtlErr,
    Counter::VersErr,
    Counter::VridErr,
    Counter::InvalidAuthtype,
    Counter::AuthtypeMismatch,
    Counter::AuthFailure,
    Counter::AdvertIntervalErr,
    Counter::InvalidTypeRcvd,
    Counter::ChkErr,
    Counter::DeliveryErr,
    Counter::OwnAddrErr,
    Counter::AuthReplay,
    Counter::UnicastSrcErr,
];

/// Figures by virtual router id and counter.
type Figures = BTreeMap<(u8, &'static str), u64>;

fn config(role: &str, priority: u8, own: Ipv4Addr, peer: Ipv4Addr) -> String {
    let mut text = String::new();
    for vrid in [V3, V2, UNICAST, AH] {
        let form = match vrid {
            V2 => "authentication {\nauth_type PASS\nauth_pass secret\n}".to_owned(),
            AH => "authentication {\nauth_type AH\nauth_pass secret\n}".to_owned(),
            UNICAST => {
                format!(
                    "version 3\ncheck_unicast_src\nunicast_src_ip {own}\nunicast_peer {{\n{peer}\n}}"
                )
            }
            _ => "version 3".to_owned(),
        };
        let vip = defects::vip(vrid);
        let _ = write!(
            text,
            "vrrp_instance R{vrid} {{\nstate {role}\ninterface eth0\nvirtual_router_id {vrid}\n\
             priority {priority}\nadvert_int 1\n{form}\nvirtual_ipaddress {{\n{vip}\n}}\n}}\n"
        );
    }
    text
}

/// A raw socket on `host` that sends what it is given, header and all.
fn gun(host: &Host) -> Result<Socket> {
    let opened = std::thread::scope(|scope| {
        let inside = scope.spawn(|| -> Result<Socket> {
            host.namespace().enter()?;
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
            socket.set_header_included_v4(true)?;
            socket.bind_device(Some(INTERFACE.as_bytes()))?;
            Ok(socket)
        });
        inside.join()
    });
    opened.unwrap_or_else(|_| bail!("a thread panicked"))
}

fn shoot(gun: &Socket, case: &Case) -> Result<()> {
    let octets: [u8; 4] = case.bytes[16..20].try_into()?;
    let to = SocketAddrV4::new(octets.into(), 0);
    gun.send_to(&case.bytes, &to.into())
        .with_context(|| format!("cannot send {:?}", case.effect))?;
    Ok(())
}

fn ask(director: &Director) -> Result<Status> {
    let control: PathBuf = director.host().path("control.sock");
    match client::ask(&control, &Request::Status)? {
        Response::Status(status) => Ok(*status),
        other => bail!("the agent answers {other:?}"),
    }
}

fn figures(status: &Status) -> Figures {
    let of = |name: &str, instance: &lb_agent::control::status::Instance| {
        instance.counters.get(name).copied().unwrap_or_default()
    };
    let instances = status.instances.iter();
    instances
        .flat_map(|instance| {
            RECEIVED.map(|counter| {
                let name = counter.name();
                ((instance.vrid, name), of(name, instance))
            })
        })
        .collect()
}

/// State and number of changes of each instance.
fn roles(status: &Status) -> Vec<(u8, String, u64, u64)> {
    let role = |instance: &lb_agent::control::status::Instance| {
        let of = |name: &str| instance.counters.get(name).copied().unwrap_or_default();
        let (up, down) = (of("become_master"), of("release_master"));
        (instance.vrid, instance.state.clone(), up, down)
    };
    status.instances.iter().map(role).collect()
}

/// VmRSS and VmHWM, KiB.
fn memory(director: &Director) -> Result<(u64, u64)> {
    let pid = director.pid().context("the director does not run")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let figure = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let word = line.and_then(|line| line.split_whitespace().nth(1));
        word.and_then(|word| word.parse().ok())
            .with_context(|| format!("no {name} in /proc/{pid}/status"))
    };
    Ok((figure("VmRSS:")?, figure("VmHWM:")?))
}

/// Shoots at one director and keeps the books.
struct Range<'a> {
    gun: Socket,
    director: &'a Director,
    expected: Figures,
    sent: u64,
    rng: Rng,
    sequence: u32,
    /// Whether adverts with an authentication header are believed from us: not beside a MASTER,
    /// whose numbers are the ones that count.
    replay: bool,
}

impl Range<'_> {
    fn batch(&mut self) -> Result<Vec<Case>> {
        let mut cases: Vec<Case> = (0..BATCH).map(|_| defects::any(&mut self.rng)).collect();
        if self.replay {
            self.sequence = self.sequence.checked_add(1).context("out of numbers")?;
            cases.extend(defects::replayed(self.sequence, &mut self.rng));
        }
        for case in &cases {
            shoot(&self.gun, case)?;
            self.sent += 1;
            match case.effect {
                Effect::Nobody => {}
                Effect::One(vrid, counter) => self.note(vrid, counter),
                Effect::Everybody(counter) => {
                    for vrid in [V3, V2, UNICAST] {
                        self.note(vrid, counter);
                    }
                }
            }
        }
        Ok(cases)
    }

    fn note(&mut self, vrid: u8, counter: Counter) {
        *self.expected.entry((vrid, counter.name())).or_default() += 1;
    }

    /// Waits until the agent has counted what was sent; what is believed of a MASTER beside it
    /// does not matter.
    fn reconcile(&self) -> Result<Status> {
        let mine = |(vrid, name): &(u8, &str)| self.replay && *vrid == AH || *name != "advert_rcvd";
        let mut last = Vec::new();
        let counted = wait::until(PATIENCE, "the counters to add up", || {
            let status = match ask(self.director) {
                Ok(status) => status,
                Err(error) => return Some(Err(error)),
            };
            let found = figures(&status);
            let differs = |key: &(u8, &'static str)| found.get(key) != self.expected.get(key);
            let keys = self.expected.keys().filter(|key| mine(key));
            last = keys
                .filter(|key| differs(key))
                .map(|key| (*key, self.expected.get(key), found.get(key).copied()))
                .map(|(key, wanted, found)| format!("{key:?}: {wanted:?} sent, {found:?} counted"))
                .collect();
            last.is_empty().then_some(Ok(status))
        });
        counted.with_context(|| format!("after {} adverts: {}", self.sent, last.join(", ")))?
    }
}

fn number(name: &str, default: u64) -> Result<u64> {
    let Ok(text) = std::env::var(name) else {
        return Ok(default);
    };
    text.parse()
        .with_context(|| format!("{name} is not a number: {text}"))
}

/// Fires at `director` until all are sent; says what it saw.
fn fire(director: &Director, client: &Host, replay: bool, beside: Option<&Director>) -> Result<()> {
    let adverts = number("XLVS_VRRP_FUZZ_ADVERTS", ADVERTS)?;
    let seed = number("XLVS_FUZZ_SEED", 1)?;
    let before = ask(director)?;
    let neighbours = beside.map(ask).transpose()?;
    let mut range = Range {
        gun: gun(client)?,
        director,
        expected: figures(&before),
        sent: 0,
        rng: Rng::with_seed(seed),
        sequence: u32::MAX / 2,
        replay,
    };
    let start = range.expected.clone();
    let mut warm = None;
    while range.sent < adverts {
        range.batch()?;
        let status = range.reconcile()?;
        anyhow::ensure!(
            roles(&status) == roles(&before),
            "seed {seed}, after {} adverts the roles are {:?}",
            range.sent,
            roles(&status)
        );
        if warm.is_none() && range.sent * 10 >= adverts {
            warm = Some(memory(director)?);
        }
    }
    if let (Some(before), Some(beside)) = (neighbours, beside) {
        assert_eq!(roles(&ask(beside)?), roles(&before), "the MASTER beside it");
    }
    let (rss, peak) = warm.context("nothing was sent")?;
    let (rss_after, peak_after) = memory(director)?;
    println!(
        "{} adverts, seed {seed}; VmRSS {rss} KiB after a tenth, {rss_after} KiB at the end; \
         VmHWM {peak} and {peak_after} KiB",
        range.sent
    );
    for (key @ (vrid, name), wanted) in &range.expected {
        let counted = wanted - start.get(key).copied().unwrap_or_default();
        if counted > 0 {
            println!("  VRID {vrid} {name:<20} {counted}");
        }
    }
    assert!(peak_after <= peak + FLAT_KIB, "VmHWM {peak} → {peak_after}");
    assert!(rss_after <= rss + FLAT_KIB, "VmRSS {rss} → {rss_after}");
    Ok(())
}

fn await_roles(director: &mut Director, state: &str) -> Result<()> {
    let what = format!("all instances {state}");
    director.await_status(&what, ELECTION, |status| {
        let mut instances = status.instances.iter();
        status.instances.len() == 4 && instances.all(|instance| instance.state == state)
    })?;
    Ok(())
}

fn raise(name: &str) -> Result<(Lab, Host, [Director; 2])> {
    let lab = Lab::raise(name)?;
    let client = lab.host("client", Ipv4Addr::new(192, 0, 2, 100))?;
    let target = lab.host("d1", TARGET)?;
    // Forged adverts with the director's own address would not reach its socket.
    for scope in ["all", INTERFACE] {
        target.sysctl(&format!("net.ipv4.conf.{scope}.accept_local"), "1")?;
        target.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
    }
    let directors = [
        Director::new(target, Software::Xlvs),
        Director::new(lab.host("d2", PEER)?, Software::Xlvs),
    ];
    Ok((lab, client, directors))
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn malformed_adverts_do_not_move_a_master_and_each_is_counted_once() -> Outcome {
    let (_lab, client, [mut first, _second]) = raise("adverts-master")?;
    first.start(&config("MASTER", 100, TARGET, PEER))?;
    await_roles(&mut first, "MASTER")?;
    fire(&first, &client, true, None)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn malformed_adverts_do_not_move_a_backup_and_each_is_counted_once() -> Outcome {
    let (_lab, client, [mut first, mut second]) = raise("adverts-backup")?;
    second.start(&config("MASTER", 200, PEER, TARGET))?;
    await_roles(&mut second, "MASTER")?;
    first.start(&config("BACKUP", 100, TARGET, PEER))?;
    await_roles(&mut first, "BACKUP")?;
    fire(&first, &client, false, Some(&second))?;
    Ok(())
}
