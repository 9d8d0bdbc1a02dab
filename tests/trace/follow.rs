// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs trace --follow`: live packets of one flow or one reason, and nothing else; and afterwards
//! everything is as before.
//!
//! In: a MASTER with a UDP service, a client that sends datagrams. Out: what followers say, and
//! which program the kernel has attached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use xlvs_tests::director::{Director, Software};
use xlvs_tests::echo::{Echo, Transport};
use xlvs_tests::experiment::ELECTION;
use xlvs_tests::lab::{Host, Lab};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::process::Process;
use xlvs_tests::{wait, xdp};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const PORT: u16 = 7000;

/// Headers before a datagram's payload.
const HEADERS: u64 = 14 + 20 + 8;

/// Everything; fields are dropped in order.
struct World {
    director: Director,
    _echo: Echo,
    client: Host,
    _lab: Lab,
}

impl World {
    fn raise(name: &str) -> Result<Self> {
        let lab = Lab::raise(name)?;
        let client = lab.host("client", CLIENT)?;
        let server = lab.host("rs1", SERVER)?;
        for interface in ["all", "lo"] {
            server.sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "1")?;
            server.sysctl(&format!("net.ipv4.conf.{interface}.arp_announce"), "2")?;
        }
        let cidr = format!("{VIP}/32");
        server
            .namespace()
            .ip(&["addr", "add", &cidr, "dev", "lo"])?;
        let echo = Echo::start(&server, Transport::Udp, SocketAddr::from((VIP, PORT)))?;
        let host = lab.host("d1", Ipv4Addr::new(192, 0, 2, 1))?;
        let mut director = Director::new(host, Software::Xlvs);
        director.start(&format!(
            "vrrp_instance VI_1 {{\n    state MASTER\n    interface eth0\n    virtual_router_id 51\n    \
             priority 100\n    version 3\n    advert_int 0.1\n    virtual_ipaddress {{\n        {VIP}\n    }}\n}}\n\
             virtual_server {VIP} {PORT} {{\n    lb_algo rr\n    lb_kind DR\n    protocol UDP\n    \
             real_server {SERVER} {PORT} {{\n        weight 1\n    }}\n}}\n"
        ))?;
        let mut world = Self {
            director,
            _echo: echo,
            client,
            _lab: lab,
        };
        world.await_serving()?;
        Ok(world)
    }

    fn await_serving(&mut self) -> Result<()> {
        let what = "MASTER, the server with a MAC";
        self.director.await_status(what, ELECTION, |status| {
            let mut servers = status.services.iter().flat_map(|s| &s.real_servers);
            status.state() == "MASTER" && servers.all(|server| server.mac.is_some())
        })?;
        Ok(())
    }

    /// The kernel's number of the program that is attached.
    fn program(&self) -> Result<u64> {
        let attached = xdp::attachment(self.director.host())?;
        Ok(attached.context("no program is attached")?.program)
    }

    fn await_program(&self, what: &str, is_it: impl Fn(u64) -> bool) -> Result<()> {
        wait::until_true(ELECTION, what, || self.program().is_ok_and(&is_it))
    }

    /// A socket of the client, bound to a port.
    fn socket(&self, port: u16) -> Result<UdpSocket> {
        self.on_the_client(|| {
            let socket = UdpSocket::bind((CLIENT, port))?;
            socket.connect((VIP, PORT))?;
            Ok(socket)
        })
    }

    fn on_the_client<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.client.namespace().enter()?;
                work()
            });
            thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
        })
    }

    /// Datagrams whose header says that they are longer than they are.
    fn send_malformed(&self, count: usize) -> Result<()> {
        let raw =
            self.on_the_client(|| Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?))?;
        let mut datagram = [0; 8];
        datagram[..2].copy_from_slice(&5000_u16.to_be_bytes());
        datagram[2..4].copy_from_slice(&PORT.to_be_bytes());
        datagram[4..6].copy_from_slice(&200_u16.to_be_bytes());
        for _ in 0..count {
            raw.send_to(&datagram, &SocketAddr::new(IpAddr::V4(VIP), 0).into())?;
        }
        Ok(())
    }
}

/// The packets that a follower has told of.
fn packets(follower: &Process) -> Vec<Value> {
    let log = follower.log();
    // Its last line may not be whole yet.
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn await_packets(follower: &Process, count: usize) -> Result<Vec<Value>> {
    let found = wait::until(ELECTION, &format!("{count} packets to be told of"), || {
        let packets = packets(follower);
        (packets.len() >= count).then_some(packets)
    });
    found.with_context(|| follower.log())
}

/// Ends as by Ctrl-C.
fn leave(mut follower: Process) -> Result<()> {
    follower.signal(Signal::SIGINT)?;
    follower.await_end(Duration::from_secs(10)).map(drop)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn followers_see_their_flow_and_their_reason_and_nothing_else() -> Outcome {
    let world = World::raise("trace-follow")?;
    let plain = world.program()?;
    let (mine, other) = (world.socket(5000)?, world.socket(5001)?);
    let (from, to) = (format!("{CLIENT}:5000"), format!("{VIP}:{PORT}"));
    let of_flow = world
        .director
        .follow("flow", &["--from", &from, "--to", &to])?;
    assert_ne!(world.program()?, plain, "another program tells of packets");
    let reason = "drop_truncated_transport";
    let of_reason = world.director.follow("reason", &["--reason", reason])?;
    assert_eq!(world.director.status()?.program.followers, 2);

    let sizes: Vec<u64> = (0..50).map(|number| 18 + number * 7).collect();
    for size in &sizes {
        other.send(&[1; 100])?;
        mine.send(&vec![0; *size as usize])?;
    }
    world.send_malformed(3)?;
    mine.send(&[0; 1000])?;

    // The reason's packets have the flow's ends, but its ports cannot be trusted.
    let seen = await_packets(&of_flow, sizes.len() + 1)?;
    let lengths: Vec<u64> = seen
        .iter()
        .filter_map(|packet| packet["length"].as_u64())
        .collect();
    let sent = sizes.iter().chain(&[1000]).map(|size| HEADERS + size);
    assert_eq!(lengths, sent.collect::<Vec<_>>(), "in the order of sending");
    for packet in &seen {
        assert_eq!(packet["from"], from.as_str(), "{packet}");
        assert_eq!(packet["to"], to.as_str());
        assert_eq!(packet["protocol"], "UDP");
        assert_eq!(packet["interface"], "eth0");
        assert_eq!(
            (&packet["verdict"], &packet["method"]),
            (&"transmit".into(), &"DR".into())
        );
        assert_eq!(packet["server"], format!("{SERVER}:{PORT}"));
    }
    let dropped = await_packets(&of_reason, 3)?;
    for packet in &dropped {
        assert_eq!(packet["verdict"], reason, "{packet}");
        assert_eq!(packet["from"], CLIENT.to_string());
        assert_eq!(packet["server"], Value::Null);
    }
    assert_eq!(packets(&of_reason).len(), 3);
    assert_eq!(packets(&of_flow).len(), sizes.len() + 1);

    leave(of_reason)?;
    mine.send(&[0; 30])?;
    await_packets(&of_flow, sizes.len() + 2)?;
    assert_ne!(world.program()?, plain, "one still follows");
    leave(of_flow)?;
    world.await_program("the plain program to be attached again", |it| it == plain)?;
    assert_eq!(world.director.status()?.program.followers, 0);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_follower_is_told_how_many_packets_it_does_not_see() -> Outcome {
    let mut world = World::raise("trace-flood")?;
    let socket = world.socket(5000)?;
    let transmitted = |world: &World| -> Result<u64> {
        let status = world.director.status()?;
        Ok(status.verdicts.get("transmit").copied().unwrap_or(0))
    };
    let before = transmitted(&world)?;
    let to = VIP.to_string();
    let follower = world
        .director
        .follow("flood", &["--to", &to, "--proto", "udp"])?;
    for _ in 0..20_000 {
        // The socket's own queue may be full.
        let _ = socket.send(&[0; 18]);
    }
    let lost = || -> u64 {
        let log = follower.log();
        let told = log.lines().filter_map(|line| {
            let rest = line.strip_prefix("xlvs: ")?;
            rest.split(' ').next()?.parse::<u64>().ok()
        });
        told.sum()
    };
    wait::until_true(ELECTION, "all packets to be told of or counted", || {
        let seen = packets(&follower).len() as u64;
        transmitted(&world).is_ok_and(|all| seen + lost() == all - before)
    })
    .with_context(|| format!("{} seen, {} lost", packets(&follower).len(), lost()))?;
    assert!(lost() > 0, "more come than are told of");
    world.director.expect_running()?;
    leave(follower)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_killed_agent_s_successor_attaches_the_plain_program() -> Outcome {
    let mut world = World::raise("trace-killed")?;
    let to = VIP.to_string();
    let mut follower = world.director.follow("orphan", &["--to", &to])?;
    let followed = world.program()?;
    world.director.sigkill()?;
    let ended = follower.await_end(Duration::from_secs(10))?;
    assert!(!ended.success(), "it tells that it was cut off");
    assert_eq!(world.program()?, followed);
    let socket = world.socket(5000)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send(b"anybody there?")?;
    assert_eq!(socket.recv(&mut [0; 64])?, 14, "it forwards as before");
    world.director.restart()?;
    world.await_program("another program to be attached", |it| it != followed)?;
    world.await_serving()?;
    socket.send(b"still there?")?;
    assert_eq!(socket.recv(&mut [0; 64])?, 12);
    // And it can be followed again.
    let plain = world.program()?;
    let follower = world.director.follow("again", &["--to", &to])?;
    socket.send(b"hello")?;
    let seen = await_packets(&follower, 1)?;
    assert_eq!(seen[0]["length"], HEADERS + 5);
    leave(follower)?;
    world.await_program("the plain program to be attached again", |it| it == plain)?;
    Ok(())
}
