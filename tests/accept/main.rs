// SPDX-License-Identifier: MIT OR Apache-2.0
//! `accept` and `no_accept`: what a MASTER answers at its virtual addresses beside its services.
//!
//! In: a director with listeners of its own, a client. Out: which connections and echo requests are
//! answered, and the firewall rules that are there.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use xlvs_tests::client;
use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::{Director, Software};
use xlvs_tests::echo::{self, Echo, Transport};
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::lab::{Host, INTERFACE};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::pinger::Pinger;
use xlvs_tests::site::{DIRECTORS, SERVERS, Site, VIP};
use xlvs_tests::wait;

const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x200);

/// Where the director listens, and no service is.
const UNSERVED: u16 = 22;
/// Where the director listens as the real server of a service.
const LOCAL: u16 = 7001;
/// Where a real server listens, over IPv6.
const SERVED6: u16 = 7000;
/// As `LOCAL`, over IPv6 and UDP.
const LOCAL6: u16 = 7002;

/// Shorter than a SYN takes to be sent again: one that is dropped is seen as such.
const PATIENCE: Duration = Duration::from_millis(700);

fn config(mode: &str) -> String {
    let text = DirectorConfig::first(VIP, Speed::V3Tenth)
        .with_real_servers(&SERVERS)
        .text();
    text.replace("    version 3\n", &format!("    version 3\n    {mode}\n"))
}

fn service(addr: IpAddr, port: u16, protocol: &str, server: IpAddr) -> String {
    format!(
        "virtual_server {addr} {port} {{\n    lb_algo rr\n    lb_kind DR\n    protocol {protocol}\n    \
         real_server {server} {port} {{\n        weight 1\n    }}\n}}\n"
    )
}

/// A second instance, over IPv6.
fn instance6(mode: &str) -> String {
    format!(
        "vrrp_instance VI_6 {{\n    state MASTER\n    interface eth0\n    virtual_router_id 52\n    \
         priority 100\n    advert_int 0.1\n    version 3\n    {mode}\n    virtual_ipaddress {{\n        \
         fe80::200/64\n        {VIP6}/64\n    }}\n}}\n"
    )
}

/// Whether a connection to `to` is answered, be it with a refusal.
fn answers(host: &Host, to: SocketAddr) -> Result<bool> {
    let attempt = std::thread::scope(|scope| {
        let attempt = scope.spawn(|| -> Result<_> {
            host.namespace().enter()?;
            Ok(TcpStream::connect_timeout(&to, PATIENCE))
        });
        attempt
            .join()
            .unwrap_or_else(|_| bail!("a thread panicked"))
    })?;
    match attempt {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
        Err(error) => Err(error).context(format!("cannot connect to {to}")),
    }
}

fn unserved() -> SocketAddr {
    (VIP, UNSERVED).into()
}

/// Whether echo requests to the virtual address are answered.
fn pings(client: &Host) -> Result<bool> {
    let pinger = Pinger::start(client, VIP)?;
    let answered = wait::until_true(PATIENCE, "an answer", || pinger.answered() > 0);
    Ok(answered.is_ok())
}

/// The tables of the director's host.
fn tables(director: &Director) -> Result<String> {
    director.host().run("nft", &["list", "tables"])
}

fn listen(host: &Host, addr: impl Into<IpAddr>, transport: Transport, port: u16) -> Result<Echo> {
    Echo::start(host, transport, SocketAddr::new(addr.into(), port))
}

fn start(director: &mut Director, client: &Host, config: &str) -> Outcome {
    director.start(config)?;
    // A predecessor's address and program may be there before the agent is.
    director.await_status("MASTER", ELECTION * 3, |status| status.state() == "MASTER")?;
    wait::until_true(ELECTION, "the service to be served", || {
        client::curl(client, VIP).is_ok()
    })?;
    Ok(())
}

fn reload(director: &mut Director, config: &str, accepts: bool) -> Outcome {
    director.write_config(config)?;
    director.reload()?;
    director.await_status("accept mode to change", ELECTION, |status| {
        status.instances.iter().all(|i| i.accept_mode == accepts)
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn no_accept_drops_what_is_for_no_service_and_nothing_else() -> Outcome {
    let mut site = Site::raise("accept-none", [Software::Xlvs; 2])?;
    let rs1 = site.servers[0].host();
    for (host, cidr, device) in [
        (
            site.directors[0].host(),
            format!("{}/64", site.directors[0].host().address6()),
            INTERFACE,
        ),
        (
            &site.client,
            format!("{}/64", site.client.address6()),
            INTERFACE,
        ),
        (rs1, format!("{}/64", rs1.address6()), INTERFACE),
        (rs1, format!("{VIP6}/128"), "lo"),
    ] {
        host.run("ip", &["address", "add", &cidr, "dev", device, "nodad"])?;
    }
    let [director, _] = &mut site.directors;
    let own = director.host().address6();
    let text = config("no_accept")
        + &instance6("no_accept")
        + &service(VIP.into(), LOCAL, "TCP", DIRECTORS[0].into())
        + &service(VIP6.into(), SERVED6, "TCP", rs1.address6().into())
        + &service(VIP6.into(), LOCAL6, "UDP", own.into());
    start(director, &site.client, &text)?;
    let host = director.host().clone();
    wait::until_true(ELECTION, "the IPv6 address", || {
        let held = host.run("ip", &["-6", "-o", "address"]);
        held.is_ok_and(|held| held.contains(&format!("{VIP6}/64")))
    })?;
    let any = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    let _listeners = [
        listen(&host, any.0, Transport::Tcp, UNSERVED)?,
        listen(&host, any.1, Transport::Tcp, UNSERVED)?,
        listen(&host, any.0, Transport::Tcp, LOCAL)?,
        listen(&host, VIP6, Transport::Udp, LOCAL6)?,
        listen(rs1, any.1, Transport::Tcp, SERVED6)?,
    ];
    // What is refused is refused, and not because nobody listens.
    let unserved6 = SocketAddr::from((VIP6, UNSERVED));
    assert!(answers(&site.client, (DIRECTORS[0], UNSERVED).into())?);
    assert!(answers(&site.client, (own, UNSERVED).into())?);
    assert!(!answers(&site.client, unserved())?);
    assert!(!answers(&site.client, unserved6)?);
    assert!(!pings(&site.client)?);
    // The services are served, wherever their servers are.
    client::curl(&site.client, VIP)?;
    let from = IpAddr::from(site.client.address());
    let from6 = IpAddr::from(site.client.address6());
    let exchange =
        |transport, ends, bytes| echo::exchange(&site.client, transport, ends, bytes, 4000);
    exchange(Transport::Tcp, (from, (VIP, LOCAL).into()), 100_000)?;
    exchange(Transport::Tcp, (from6, (VIP6, SERVED6).into()), 100_000)?;
    // In fragments, which the stack puts together behind its filter.
    exchange(Transport::Udp, (from6, (VIP6, LOCAL6).into()), 40_000)?;
    neighbours_are_answered(&site.client, director)?;
    let status = director.status()?;
    assert!(
        status
            .instances
            .iter()
            .all(|i| i.state == "MASTER" && !i.accept_mode)
    );
    Ok(())
}

/// A probe of a neighbour is a solicitation to its own address, not to a group.
fn neighbours_are_answered(client: &Host, director: &Director) -> Outcome {
    let (vip, mac) = (VIP6.to_string(), director.host().mac()?);
    let probe = [
        "-6", "neigh", "replace", &vip, "lladdr", &mac, "dev", INTERFACE, "nud", "probe",
    ];
    client.run("ip", &probe)?;
    wait::until_true(ELECTION, "the neighbour to answer", || {
        let seen = client.run("ip", &["-6", "neigh", "show", &vip]);
        seen.is_ok_and(|seen| seen.contains("REACHABLE"))
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn rfc9568_6_1_accept_answers_and_a_reload_switches() -> Outcome {
    let mut site = Site::raise("accept-reload", [Software::Xlvs; 2])?;
    let client = site.client.clone();
    let [director, _] = &mut site.directors;
    start(director, &client, &config(""))?;
    let host = director.host().clone();
    let _listener = listen(&host, Ipv4Addr::UNSPECIFIED, Transport::Tcp, UNSERVED)?;
    assert!(answers(&client, unserved())? && pings(&client)?);
    assert_eq!(tables(director)?, "", "no rules that nobody asked for");
    for _ in 0..2 {
        reload(director, &config("no_accept"), false)?;
        assert!(!answers(&client, unserved())? && !pings(&client)?);
        client::curl(&client, VIP)?;
        // What an operator flushes, a reload brings back.
        host.run("nft", &["flush", "ruleset"])?;
        assert!(answers(&client, unserved())?);
        director.reload()?;
        wait::until_true(ELECTION, "the rules to be back", || {
            tables(director).is_ok_and(|tables| !tables.is_empty())
        })?;
        assert!(!answers(&client, unserved())?);
        // A service more, whose server is the director itself.
        let more = service(VIP.into(), UNSERVED, "TCP", DIRECTORS[0].into());
        director.write_config(&(config("no_accept") + &more))?;
        director.reload()?;
        director.await_status("two services", ELECTION, |status| {
            status.services.len() == 2
        })?;
        assert!(answers(&client, unserved())? && !pings(&client)?);
        reload(director, &config("accept"), true)?;
        assert!(answers(&client, unserved())? && pings(&client)?);
        assert_eq!(tables(director)?, "");
    }
    let claims = director.log().matches("-> MASTER").count();
    assert_eq!(claims, 1, "no reload cost the role");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn strict_mode_refuses_and_no_end_leaves_rules_behind() -> Outcome {
    let mut site = Site::raise("accept-ends", [Software::Xlvs; 2])?;
    let client = site.client.clone();
    let [director, _] = &mut site.directors;
    let text = config("strict_mode").replace("    state MASTER\n", "");
    start(director, &client, &text)?;
    let host = director.host().clone();
    let _listener = listen(&host, Ipv4Addr::UNSPECIFIED, Transport::Tcp, UNSERVED)?;
    assert!(!answers(&client, unserved())?);
    director.sigterm()?;
    assert_eq!(tables(director)?, "", "after a stop");
    start(director, &client, &text)?;
    director.sigkill()?;
    // The address is still there, and so is what is refused at it.
    assert!(host.has_address(VIP) && !answers(&client, unserved())?);
    start(director, &client, &text)?;
    assert!(!answers(&client, unserved())?);
    director.sigkill()?;
    start(director, &client, &config("accept"))?;
    assert!(answers(&client, unserved())?);
    assert_eq!(tables(director)?, "", "after a start that wants none");
    director.sigterm()?;
    start(director, &client, &text)?;
    director.write_config("vrrp_instance {")?;
    director.crash_agent()?;
    wait::until_true(ELECTION, "the supervisor to remove the rules", || {
        !host.has_address(VIP) && tables(director).is_ok_and(|tables| tables.is_empty())
    })?;
    Ok(())
}
