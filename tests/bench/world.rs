// SPDX-License-Identifier: MIT OR Apache-2.0
//! The director that is measured: one TCP service with four real servers, everything counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::Result;
use aya::programs::ProgramFd;
use etherparse::PacketBuilder;
use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId};
use lb_agent::dataplane::plan::NextHopRow;
use lb_agent::dataplane::{Dataplane, LoadOptions};
use lb_agent::health::{Desired, DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

/// The service.
pub(crate) const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);
/// An address that no service has.
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The interface that BPF_PROG_TEST_RUN pretends frames came in by: loopback.
const INGRESS: u32 = 1;
const SERVERS: u8 = 4;
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xd1];

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
    /// Loads the program with room for `max_conns` connections.
    pub(crate) fn raise(max_conns: u32) -> Result<Self> {
        let mut plane = Dataplane::load(&LoadOptions {
            max_conns,
            ..LoadOptions::default()
        })?;
        plane.know_link("lo", INGRESS, DIRECTOR_MAC)?;
        let servers = (1..=SERVERS)
            .map(|n| {
                let addr = SocketAddr::from(([10, 255, 0, n], VIP.port()));
                DesiredServer::new(addr, ForwardMethod::Dr, 1)
            })
            .collect();
        let id = ServiceId {
            addr: IpAddr::V4(*VIP.ip()),
            port: VIP.port(),
            protocol: Protocol::Tcp,
        };
        let service = DesiredService::new(id, Scheduler::Wrr, servers);
        let services = vec![service];
        plane.apply(&Desired { services }, Duration::ZERO)?;
        plane.route(|addr| {
            let IpAddr::V4(addr) = addr else { return None };
            let [.., n] = addr.octets();
            Some(NextHopRow {
                ifindex: INGRESS,
                mac: Some([2, 0, 0, 0, 1, n]),
            })
        })?;
        Ok(Self(plane))
    }

    /// The packet program.
    pub(crate) fn program(&self) -> Result<&ProgramFd> {
        Ok(self.0.program_fd()?)
    }

    /// Instructions that the verifier walked through.
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

/// A frame of 60 bytes to the service or to an address that no service has.
pub(crate) fn frame(to_service: bool, flags: u8) -> Vec<u8> {
    let to = if to_service { *VIP.ip() } else { STRANGER };
    let mut tcp = PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_MAC)
        .ipv4([10, 0, 0, 0], to.octets(), 64)
        .tcp(40_000, VIP.port(), 1000, 4096);
    if flags & 0x02 != 0 {
        tcp = tcp.syn();
    }
    if flags & 0x10 != 0 {
        tcp = tcp.ack(1);
    }
    let mut frame = Vec::new();
    // Writing to memory cannot fail.
    let _ = tcp.write(&mut frame, &[0; 6]);
    frame
}
