// SPDX-License-Identifier: MIT OR Apache-2.0
//! The standard site: two directors, three web servers, one client, one observer.
//!
//! In: what the directors run. Out: a [`Site`] on which every experiment of this project runs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;

use crate::capture::Capture;
use crate::config::{DirectorConfig, Speed};
use crate::director::{Director, Software};
use crate::lab::{Host, Lab};
use crate::observer::Observer;
use crate::server::RealServer;

/// The virtual address that clients use.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

/// The directors' own addresses.
pub const DIRECTORS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// The web servers with their weights.
pub const SERVERS: [(Ipv4Addr, u32); 3] = [
    (Ipv4Addr::new(192, 0, 2, 11), 3),
    (Ipv4Addr::new(192, 0, 2, 12), 2),
    (Ipv4Addr::new(192, 0, 2, 13), 1),
];

/// What tells the story of a failover without every packet of a benchmark.
const CAPTURED: &str =
    "ip proto 112 or ip proto 51 or arp or icmp or tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0";

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

/// The two directors' files for that site: d1 MASTER with priority 100, d2 BACKUP with 90.
pub fn configs(speed: Speed) -> [DirectorConfig; 2] {
    [
        DirectorConfig::first(VIP, speed),
        DirectorConfig::second(VIP, speed),
    ]
    .map(|config| config.with_real_servers(&SERVERS))
}

/// A raised site. Fields are dropped in order: daemons first, the LAN last.
#[derive(Debug)]
pub struct Site {
    /// d1 and d2; none of them runs yet.
    pub directors: [Director; 2],
    /// rs1, rs2, rs3, serving; empty on a site for VRRP alone.
    pub servers: Vec<RealServer>,
    /// Sees every advert and gratuitous ARP.
    pub observer: Observer,
    /// What passes the directors' ports, in the same order; connections by their ends only.
    pub captures: [Capture; 2],
    /// Where requests come from.
    pub client: Host,
    /// The LAN.
    pub lab: Lab,
}

impl Site {
    /// Raises the whole site.
    pub fn raise(name: &str, software: [Software; 2]) -> Result<Self> {
        let mut site = Self::raise_directors(name, software)?;
        for (index, (address, _)) in SERVERS.iter().enumerate() {
            let name = format!("rs{}", index + 1);
            site.servers
                .push(RealServer::start(&site.lab, &name, *address, VIP)?);
        }
        Ok(site)
    }

    /// Raises directors and client only: enough for what concerns VRRP alone.
    pub fn raise_directors(name: &str, software: [Software; 2]) -> Result<Self> {
        let lab = Lab::raise(name)?;
        let client = lab.host("client", CLIENT)?;
        let first = Director::new(lab.host("d1", DIRECTORS[0])?, software[0]);
        let second = Director::new(lab.host("d2", DIRECTORS[1])?, software[1]);
        let captures = [
            Capture::start(&lab, "d1", CAPTURED)?,
            Capture::start(&lab, "d2", CAPTURED)?,
        ];
        let lan: Arc<_> = lab.lan();
        let observer = Observer::start(&lan)?;
        Ok(Self {
            directors: [first, second],
            servers: Vec::new(),
            observer,
            captures,
            client,
            lab,
        })
    }

    /// Every host of the site.
    pub fn hosts(&self) -> Vec<Host> {
        let directors = self.directors.iter().map(Director::host);
        let servers = self.servers.iter().map(RealServer::host);
        directors
            .chain(servers)
            .chain([&self.client])
            .cloned()
            .collect()
    }

    /// How many requests to the VIP each web server has answered.
    pub fn answered(&self) -> Result<Vec<u64>> {
        self.servers
            .iter()
            .map(|server| server.answered(VIP))
            .collect()
    }
}
