// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records which real servers IPVS chooses: runs as root on a kernel that has IPVS, inside the
//! virtual machine of `cargo xtask record-ipvs`.
//!
//! In: an interface pair `cl0`–`in0`, IPVS and ipvsadm. Out: on standard output, for every scheduler
//! and set of weights, the chosen servers in order and the counts of `ipvsadm -Ln` at the end.

#![allow(
    unsafe_code,
    reason = "no safe way to name the interface of a packet socket"
)]

mod events;

use std::io::Read;
use std::net::SocketAddrV4;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use events::{Event, Kind, VIP, client, events, records, server, title};

/// Servers are told apart by the last byte of their MAC address, set by static neighbour entries.
const SERVER_MAC: [u8; 5] = [2, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];

/// A forwarded frame comes back at once, a refused connection has an answer of another kind; only a
/// virtual machine that is kept waiting takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    set_up()?;
    let wire = Wire::open("cl0", "in0")?;
    for (number, (kind, weights)) in records().enumerate() {
        record(&wire, number, kind, weights)?;
    }
    Ok(())
}

fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("no command")?;
    let output = Command::new(program)
        .args(words)
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn set_up() -> Result<()> {
    for line in [
        "ip link add cl0 type veth peer name in0",
        "ip link set cl0 up",
        "ip link set in0 up",
        "ip addr add 10.1.200.254/16 dev in0",
        "ip neigh add 10.1.200.1 lladdr 02:00:00:00:00:c1 dev in0",
        "ip route add 172.0.0.0/8 via 10.1.200.1",
        "sysctl -qw net.ipv4.ip_forward=1",
        "sysctl -qw net.ipv4.conf.all.rp_filter=0",
        "sysctl -qw net.ipv4.conf.in0.rp_filter=0",
        "sysctl -qw net.ipv4.conf.all.send_redirects=0",
        "sysctl -qw net.ipv4.conf.in0.send_redirects=0",
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
        // Every refused connection is answered, and no connection is forgotten meanwhile.
        "sysctl -qw net.ipv4.icmp_ratelimit=0",
        "sysctl -qw net.ipv4.icmp_msgs_per_sec=1000000",
        "sysctl -qw net.ipv4.icmp_msgs_burst=1000000",
        "ipvsadm --set 100000 100000 100000",
    ] {
        run(line)?;
    }
    run(&format!("ip addr add {}/32 dev in0", VIP.ip()))?;
    Ok(())
}

/// Plays all events to one service and prints its record.
fn record(wire: &Wire, number: usize, kind: Kind, weights: &[u32]) -> Result<()> {
    run("ipvsadm -C")?;
    let flags = match kind.flags {
        "" => String::new(),
        flags => format!(" -b {flags}"),
    };
    run(&format!("ipvsadm -A -t {VIP} -s {}{flags}", kind.scheduler))?;
    for (n, weight) in (1..).zip(weights) {
        let server = server(number, n);
        run(&format!(
            "ip neigh add {} lladdr 02:00:00:00:01:{n:02x} dev in0",
            server.ip()
        ))?;
        run(&format!(
            "ipvsadm -a -t {VIP} -r {server} -g -w {weight} -x {}",
            kind.upper
        ))?;
    }
    let mut sequence = Vec::new();
    for event in events() {
        match event {
            Event::Open(n) => {
                let server = wire.send(client(number, n), "S")?;
                sequence.push(server);
                if server != 0 {
                    wire.send(client(number, n), "A")?;
                }
            }
            // A refused connection is not there to be closed.
            Event::Close(n) if sequence.get(n) == Some(&0) => {}
            Event::Close(n) => drop(wire.send(client(number, n), "FA")?),
        }
    }
    println!("{}", title((kind, weights)));
    println!("{}", events::pack(&sequence));
    let listing = run(&format!("ipvsadm -Ln -t {VIP}"))?;
    for n in 1..=weights.len() {
        let row = listing
            .lines()
            .find(|line| line.contains(&format!("-> {} ", server(number, n))))
            .context("a server is missing in the listing")?;
        let counts: Vec<&str> = row.split_whitespace().rev().take(2).collect();
        println!("{n} {} {}", counts[1], counts[0]);
    }
    println!();
    Ok(())
}

/// The client's end of the cable.
struct Wire {
    socket: Socket,
    director_mac: [u8; 6],
}

impl Wire {
    fn open(client: &str, director: &str) -> Result<Self> {
        const ALL: i32 = 0x0003; // ETH_P_ALL
        let protocol = i32::from((ALL as u16).to_be());
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(protocol)))?;
        socket.bind(&address(nix::net::if_::if_nametoindex(client)?))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mac = std::fs::read_to_string(format!("/sys/class/net/{director}/address"))?;
        let bytes: Vec<u8> = mac
            .trim()
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16))
            .collect::<Result<_, _>>()?;
        let director_mac = bytes
            .try_into()
            .ok()
            .context("a MAC address of six bytes")?;
        Ok(Self {
            socket,
            director_mac,
        })
    }

    /// Sends a segment of the client's connection; the number of the server that gets it, 0 for none.
    fn send(&self, from: SocketAddrV4, flags: &str) -> Result<u8> {
        let mut tcp = PacketBuilder::ethernet2(CLIENT_MAC, self.director_mac)
            .ipv4(from.ip().octets(), VIP.ip().octets(), 64)
            .tcp(from.port(), VIP.port(), 1000, 4096);
        for flag in flags.chars() {
            tcp = match flag {
                'S' => tcp.syn(),
                'A' => tcp.ack(1),
                'F' => tcp.fin(),
                'R' => tcp.rst(),
                other => bail!("flag {other}"),
            };
        }
        let mut frame = Vec::new();
        tcp.write(&mut frame, &[])?;
        self.socket.send(&frame)?;
        let mut buffer = [0; 256];
        while let Ok(length) = (&self.socket).read(&mut buffer) {
            let seen = &buffer[..length];
            if seen.len() >= 38 && seen[..5] == SERVER_MAC && seen[26..30] == frame[26..30] {
                if seen[34..36] == frame[34..36] {
                    return Ok(seen[5]);
                }
            } else if seen.get(..6) == Some(&CLIENT_MAC) {
                return Ok(0);
            }
        }
        bail!("no answer to {flags} from {from}")
    }
}

/// Address of an interface for AF_PACKET.
fn address(ifindex: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` fits the storage, and all its fields are integers.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    link.sll_ifindex = ifindex.cast_signed();
    // SAFETY: the storage holds a whole `sockaddr_ll`.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}
