// SPDX-License-Identifier: MIT OR Apache-2.0
//! A SYN flood beside long-lived connections: none of them may break.
//!
//! In: one director with a small connection table, two real servers, a client with 1,000 TCP
//! connections, and a host that sends SYNs from random addresses as fast as it can. Out: every
//! connection returns what it is sent, those that were silent all the time, too.
//!
//! The suite floods for three seconds; the long run:
//! `XLVS_FLOOD_SECONDS=30 cargo xtask test lab --only flood`.

mod sender;

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xlvs_tests::director::{Director, Software};
use xlvs_tests::echo::{Echo, Transport};
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::held::Held;
use xlvs_tests::lab::{Host, Lab};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::status::Status;

use sender::{Target, flood};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const PORT: u16 = 7000;

/// Long-lived connections.
const CONNECTIONS: usize = 1000;

/// How many of them are used while the flood lasts; the others are silent.
const USED: usize = 800;

/// What the connection table is configured for; it has two slots for each.
const CAPACITY: u64 = 4096;

/// How often the flood must have filled the table for the test to mean anything.
const TIMES: u64 = 10;

/// Seconds of flood where the environment does not say otherwise.
const SECONDS: u64 = 3;

/// Changes [`SECONDS`].
const SECONDS_VARIABLE: &str = "XLVS_FLOOD_SECONDS";

fn seconds() -> Duration {
    let given = env::var(SECONDS_VARIABLE).ok();
    Duration::from_secs(given.and_then(|text| text.parse().ok()).unwrap_or(SECONDS))
}

/// Everything; fields are dropped in order.
struct World {
    director: Director,
    echoes: Vec<Echo>,
    client: Host,
    attacker: Host,
    _lab: Lab,
}

impl World {
    fn raise() -> Result<Self> {
        let lab = Lab::raise("synflood")?;
        let client = lab.host("client", Ipv4Addr::new(192, 0, 2, 100))?;
        let attacker = lab.host("attacker", Ipv4Addr::new(192, 0, 2, 66))?;
        let mut director =
            Director::new(lab.host("d1", Ipv4Addr::new(192, 0, 2, 1))?, Software::Xlvs);
        let mut echoes = Vec::new();
        for (name, last) in [("rs1", 11), ("rs2", 12)] {
            let server = lab.host(name, Ipv4Addr::new(192, 0, 2, last))?;
            for interface in ["all", "lo"] {
                server.sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "1")?;
                server.sysctl(&format!("net.ipv4.conf.{interface}.arp_announce"), "2")?;
            }
            let cidr = format!("{VIP}/32");
            server
                .namespace()
                .ip(&["addr", "add", &cidr, "dev", "lo"])?;
            let address = SocketAddr::from((VIP, PORT));
            echoes.push(Echo::start(&server, Transport::Tcp, address)?);
        }
        director.start(&config())?;
        director.await_status("MASTER, servers with a MAC", ELECTION, |status| {
            let mut servers = status.services.iter().flat_map(|s| &s.real_servers);
            status.state() == "MASTER" && servers.all(|s| s.state == "UP" && s.mac.is_some())
        })?;
        Ok(Self {
            director,
            echoes,
            client,
            attacker,
            _lab: lab,
        })
    }

    fn target(&self) -> Result<Target> {
        Ok(Target {
            from_mac: mac(&self.attacker)?,
            to_mac: mac(self.director.host())?,
            address: VIP,
            port: PORT,
        })
    }

    /// Connections that the servers have accepted.
    fn accepted(&self) -> u64 {
        self.echoes.iter().map(Echo::served).sum()
    }
}

fn config() -> String {
    let server =
        |last| format!("    real_server 192.0.2.{last} {PORT} {{\n        weight 1\n    }}\n");
    format!(
        "global_defs {{\n    xlvs_connections {CAPACITY}\n}}\n\
         vrrp_instance VI_1 {{\n    state MASTER\n    interface eth0\n    virtual_router_id 51\n    \
         priority 100\n    version 3\n    advert_int 0.5\n    virtual_ipaddress {{\n        {VIP}\n    }}\n}}\n\
         virtual_server {VIP} {PORT} {{\n    lb_algo rr\n    lb_kind DR\n    protocol TCP\n{}{}}}\n",
        server(11),
        server(12)
    )
}

fn mac(host: &Host) -> Result<[u8; 6]> {
    let text = host.mac()?;
    let mut bytes = [0; 6];
    for (byte, part) in bytes.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).with_context(|| format!("no MAC address: {text}"))?;
    }
    Ok(bytes)
}

/// Connections scheduled since the start, and those in the table at this moment.
fn counts(status: &Status) -> (u64, u64) {
    let servers = || status.services.iter().flat_map(|s| &s.real_servers);
    (
        servers().map(|server| server.conns).sum(),
        servers()
            .map(|server| server.active_conns + server.inactive_conns)
            .sum(),
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_syn_flood_breaks_no_connection() -> Outcome {
    let world = World::raise()?;
    let mut held = Held::open(&world.client, SocketAddr::from((VIP, PORT)), CONNECTIONS)?;
    held.exchange(0..CONNECTIONS)?;
    assert_eq!(world.accepted(), CONNECTIONS as u64);

    let (target, duration) = (world.target()?, seconds());
    let mut rounds = 0;
    let begin = Instant::now();
    let sent = std::thread::scope(|scope| -> Result<u64> {
        let attack = scope.spawn(|| {
            world.attacker.namespace().enter()?;
            flood(target, duration)
        });
        while !attack.is_finished() {
            held.exchange(0..USED)?;
            rounds += 1;
        }
        attack.join().unwrap_or_else(|_| bail!("a thread panicked"))
    })?;
    let took = begin.elapsed().as_secs_f64();

    // All of them, the silent ones, too; and none of them was opened again.
    held.exchange(0..CONNECTIONS)?;
    assert_eq!(world.accepted(), CONNECTIONS as u64);
    let (scheduled, there) = counts(&world.director.status()?);
    eprintln!(
        "{sent} SYNs in {took:.1} s ({:.0} packets/s); {scheduled} connections scheduled, {there} \
         in the table ({CAPACITY} configured): {} made room; {rounds} rounds over {USED} \
         connections meanwhile; {} of {CONNECTIONS} survived",
        sent as f64 / took,
        scheduled - there,
        held.len()
    );
    assert!(
        scheduled > TIMES * CAPACITY,
        "{scheduled} connections do not fill a table of {CAPACITY} {TIMES} times"
    );
    Ok(())
}
