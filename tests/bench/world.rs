// SPDX-License-Identifier: MIT OR Apache-2.0
//! The director that is measured: services with real servers, everything counted.
//!
//! In: a [`Scene`]. Out: a loaded program that forwards. This is the only file of these benchmarks
//! that knows the agent's interface.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use aya::programs::ProgramFd;
use etherparse::PacketBuilder;
use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId, Tunnel};
use lb_agent::dataplane::plan::NextHopRow;
use lb_agent::dataplane::{Dataplane, LoadOptions};
use lb_agent::health::{Desired, DesiredServer, DesiredService};
use lb_common::abi::{DRIVE_V4, DRIVE_V6};
use lb_common::verdict::Verdict;

/// Of the services and of the servers.
const PORT: u16 = 80;
/// The first service's address; the others follow. In IPv6 these are the last four bytes.
const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// An address that no service has.
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Before the last four bytes of clients' and services' IPv6 addresses.
const CLIENTS_V6: [u16; 6] = [0x2001, 0xdb8, 1, 0, 0, 0];
const SERVICES_V6: [u16; 6] = [0x2001, 0xdb8, 2, 0, 0, 0];
/// And of servers'.
const SERVERS_V6: [u16; 6] = [0x2001, 0xdb8, 3, 0, 0, 0];
/// The director, as tunnels know it.
const DIRECTOR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254));
const DIRECTOR6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

/// The interface that BPF_PROG_TEST_RUN pretends frames came in by: loopback.
const INGRESS: u32 = 1;
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xd1];

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "`bench connections` measures the default scene alone"
)]
pub(crate) enum Method {
    Dr,
    Nat,
    Tun,
}

/// Who gets a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "`bench connections` measures the default scene alone"
)]
pub(crate) enum Choice {
    Wrr,
    Wlc,
}

/// What is configured while a row is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) method: Method,
    pub(crate) ipv6: bool,
    pub(crate) choice: Choice,
    /// TCP services.
    pub(crate) services: u32,
    /// Those of them over which flows are spread.
    pub(crate) busy: u32,
    /// Real servers of each.
    pub(crate) servers: u16,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            method: Method::Dr,
            ipv6: false,
            choice: Choice::Wrr,
            services: 1,
            busy: 1,
            servers: 4,
        }
    }
}

/// A frame for the driver, and what it has to know to make others of it.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// `DRIVE_V4` or `DRIVE_V6`.
    pub(crate) family: u32,
    /// Address of the first service, or its last four bytes, host byte order.
    pub(crate) virt_base: u32,
    pub(crate) services: u32,
    pub(crate) virt_port: u16,
}

impl Scene {
    /// What the agent has to learn before it can be measured here.
    pub(crate) fn waits_for(&self) -> Option<&'static str> {
        match self.choice {
            Choice::Wrr | Choice::Wlc => None,
        }
    }

    /// The smallest TCP segment with these flags, to a service or to an address that none has.
    pub(crate) fn frame(&self, to_service: bool, flags: u8) -> Frame {
        let to = if to_service { VIP } else { STRANGER };
        let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_MAC);
        let client = Ipv4Addr::new(10, 0, 0, 0);
        let ip = if self.ipv6 {
            ethernet.ipv6(v6(CLIENTS_V6, client), v6(SERVICES_V6, to), 64)
        } else {
            ethernet.ipv4(client.octets(), to.octets(), 64)
        };
        let mut tcp = ip.tcp(40_000, PORT, 1000, 4096);
        if flags & 0x02 != 0 {
            tcp = tcp.syn();
        }
        if flags & 0x10 != 0 {
            tcp = tcp.ack(1);
        }
        let mut bytes = Vec::new();
        // Writing to memory cannot fail.
        let _ = tcp.write(&mut bytes, &[0; 6]);
        Frame {
            bytes,
            family: if self.ipv6 { DRIVE_V6 } else { DRIVE_V4 },
            virt_base: to.to_bits(),
            services: if to_service { self.busy } else { 1 },
            virt_port: PORT,
        }
    }

    /// Service number `k` as the agent wants it.
    fn service(&self, k: u32) -> Result<DesiredService> {
        if let Some(what) = self.waits_for() {
            bail!("the agent does not do {what} yet");
        }
        let method = match self.method {
            Method::Dr => ForwardMethod::Dr,
            Method::Nat => ForwardMethod::Nat,
            Method::Tun => ForwardMethod::Tun(Tunnel::Ipip),
        };
        let servers = (1..=self.servers).map(|n| {
            let [high, low] = n.to_be_bytes();
            let addr = self.address(SERVERS_V6, Ipv4Addr::new(10, 255, high, low));
            DesiredServer::new(SocketAddr::new(addr, PORT), method, 1)
        });
        let id = ServiceId {
            addr: self.address(SERVICES_V6, Ipv4Addr::from_bits(VIP.to_bits() + k)),
            port: PORT,
            protocol: Protocol::Tcp,
        };
        let scheduler = match self.choice {
            Choice::Wrr => Scheduler::Wrr,
            Choice::Wlc => Scheduler::Wlc,
        };
        Ok(DesiredService::new(id, scheduler, servers.collect()))
    }

    fn address(&self, prefix: [u16; 6], last: Ipv4Addr) -> IpAddr {
        if self.ipv6 {
            IpAddr::from(v6(prefix, last))
        } else {
            last.into()
        }
    }
}

fn v6(prefix: [u16; 6], last: Ipv4Addr) -> [u8; 16] {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(2).zip(prefix) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    octets[12..].copy_from_slice(&last.octets());
    octets
}

/// The loaded program.
pub(crate) struct World(Dataplane);

/// Counters at one time.
pub(crate) struct Counts {
    verdicts: BTreeMap<&'static str, u64>,
    /// Connections opened.
    pub(crate) opened: u64,
}

impl Counts {
    /// Packets that ended in `verdict` since `before`.
    pub(crate) fn since(&self, before: &Self, verdict: Verdict) -> u64 {
        let of = |counts: &Self| counts.verdicts.get(verdict.name()).copied().unwrap_or(0);
        of(self) - of(before)
    }
}

impl World {
    /// Loads the program with room for `max_conns` connections and configures the scene.
    pub(crate) fn raise(scene: &Scene, max_conns: u32) -> Result<Self> {
        let mut plane = Dataplane::load(&LoadOptions {
            max_conns,
            ..LoadOptions::default()
        })?;
        plane.know_link("lo", INGRESS, DIRECTOR_MAC)?;
        let services = (0..scene.services)
            .map(|k| scene.service(k))
            .collect::<Result<_>>()?;
        plane.apply(&Desired { services }, Duration::ZERO)?;
        plane.route(|addr| {
            let [high, low] = match addr {
                IpAddr::V4(addr) => [addr.octets()[2], addr.octets()[3]],
                IpAddr::V6(addr) => [addr.octets()[14], addr.octets()[15]],
            };
            Some(NextHopRow {
                ifindex: INGRESS,
                mac: Some([2, 0, 0, 1, high, low]),
                from: DIRECTOR_MAC,
                source: Some(if addr.is_ipv4() { DIRECTOR } else { DIRECTOR6 }),
                mtu: 1500,
                local: false,
            })
        })?;
        Ok(Self(plane))
    }

    /// The packet program.
    pub(crate) fn program(&self) -> Result<&ProgramFd> {
        Ok(self.0.program_fd()?)
    }

    /// Instructions that the verifier walked through.
    #[allow(dead_code, reason = "only `bench packet` reports it")]
    pub(crate) fn verified_instructions(&self) -> Option<u32> {
        self.0.info().verified_instructions
    }

    /// The counters.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let stats = self.0.stats()?;
        Ok(Counts {
            opened: stats
                .services
                .iter()
                .map(|service| service.counts.conns)
                .sum(),
            verdicts: stats.verdicts,
        })
    }
}
