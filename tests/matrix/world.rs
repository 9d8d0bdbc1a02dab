// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosts of the matrix: a client, a director, two servers; three ways to connect them.
//!
//! ```text
//! direct, tunnel     client .100 ──┬── director .1     servers .11 .12, the VIP on lo
//! NAT, one interface client .100 ──┴── (198.51.100.0/24 and 192.0.2.0/24 on one wire)
//! NAT, two           client .100 ───── director .1 ┊ director 10.0.0.1 ───── servers 10.0.0.11 .12
//! ```
//!
//! In: the shape, the services. Out: the hosts with servers listening, the agent running and MASTER.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use xlvs_tests::director::{Director, Software};
use xlvs_tests::echo::{Echo, Transport, exchange};
use xlvs_tests::lab::{Host, INTERFACE, Lab, Lan};
use xlvs_tests::outcome::Outcome;
use xlvs_tests::process::Process;
use xlvs_tests::tunnel::TunnelEnd;

/// Until the agent is MASTER and knows its servers. The virtual machine is slow, and its clock runs
/// ahead of its work on a busy host.
const READY: Duration = Duration::from_secs(180);

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x200);

/// A client in another network on the same wire, for NAT with one interface.
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 100);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x100);

/// How the hosts are connected, and so how servers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Direct routing or tunnels: servers have the VIP and answer clients themselves.
    Direct,
    /// The same on a VLAN of the wire, by VLAN devices on every host.
    Tagged,
    /// The director is the servers' gateway, on the one interface that it has.
    MasqueradeOne,
    /// The director is the servers' gateway, on an interface of its own.
    MasqueradeTwo,
}

/// The VLAN's device.
const TAGGED: &str = "eth0.7";

impl Shape {
    /// Interface of the client's network, on every host that is in it.
    fn interface(self) -> &'static str {
        if self == Self::Tagged {
            TAGGED
        } else {
            INTERFACE
        }
    }
}

/// Which family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn vip(self) -> IpAddr {
        match self {
            Self::V4 => VIP.into(),
            Self::V6 => VIP6.into(),
        }
    }

    fn of(self, host: &Host) -> IpAddr {
        match self {
            Self::V4 => host.address().into(),
            Self::V6 => host.address6().into(),
        }
    }
}

/// A virtual service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) family: Family,
    /// Of the servers' own addresses: another one than the service's only with tunnels.
    pub(crate) outer: Family,
    pub(crate) transport: Transport,
    /// What the configuration says after `lb_kind`.
    pub(crate) kind: String,
    pub(crate) port: u16,
}

impl Service {
    pub(crate) fn new(family: Family, transport: Transport, kind: &str, port: u16) -> Self {
        Self {
            family,
            outer: family,
            transport,
            kind: kind.to_owned(),
            port,
        }
    }

    /// Only masqueraded servers listen on their own addresses. The answers to these probes come by
    /// the same way as those to clients.
    fn check(&self) -> &'static str {
        if self.kind == "NAT" && self.transport == Transport::Tcp {
            "        TCP_CHECK {\n            connect_timeout 5\n        }\n"
        } else {
            ""
        }
    }

    /// Masqueraded servers listen on another port than the service.
    fn server_port(&self) -> u16 {
        if self.kind == "NAT" {
            self.port + 1000
        } else {
            self.port
        }
    }
}

/// Everything; fields are dropped in order.
#[derive(Debug)]
pub(crate) struct World {
    /// For each service, of each server.
    echoes: Vec<Vec<Echo>>,
    director: Director,
    tunnels: Vec<TunnelEnd>,
    pub(crate) client: Host,
    servers: Vec<Host>,
    shape: Shape,
    lab: Lab,
}

impl World {
    pub(crate) fn raise(name: &str, shape: Shape, services: &[Service]) -> Outcome<Self> {
        let lab = Lab::raise(name)?;
        let client = lab.host("client", Ipv4Addr::new(192, 0, 2, 100))?;
        let d1 = lab.host("d1", Ipv4Addr::new(192, 0, 2, 1))?;
        let lan = match shape {
            Shape::MasqueradeTwo => Lan::Second,
            _ => Lan::First,
        };
        let mut servers = Vec::new();
        for (name, last) in [("rs1", 11), ("rs2", 12)] {
            let address = match lan {
                Lan::First => Ipv4Addr::new(192, 0, 2, last),
                Lan::Second => Ipv4Addr::new(10, 0, 0, last),
            };
            servers.push(lab.host_on(lan, name, address)?);
        }
        for host in [&client, &d1].into_iter().chain(&servers) {
            if shape == Shape::Tagged {
                tag(host)?;
            }
            add6(host, shape.interface(), host.address6(), 64)?;
        }
        let mut world = Self {
            echoes: Vec::new(),
            director: Director::new(d1, Software::Xlvs),
            tunnels: Vec::new(),
            client,
            servers,
            shape,
            lab,
        };
        let with = |word: &str| services.iter().any(|service| service.kind.contains(word));
        world.connect(with("gre csum"))?;
        for service in services {
            let listening = world.listen(service)?;
            world.echoes.push(listening);
        }
        let config = world.config(services);
        world.director.start(&config)?;
        let all = services.len();
        world
            .director
            .await_status("MASTER, servers with a MAC", READY, |status| {
                let servers = || status.services.iter().flat_map(|s| &s.real_servers);
                let ready = servers().all(|s| s.state == "UP" && s.mac.is_some());
                status.state() == "MASTER" && status.services.len() == all && ready
            })?;
        Ok(world)
    }

    /// Whether this kernel has VLAN devices.
    pub(crate) fn has_vlans() -> Result<bool> {
        let lab = Lab::raise("matrix-probe")?;
        let probe = [
            "link", "add", "link", "br0", "name", "probe", "type", "vlan", "id", "7",
        ];
        Ok(lab.lan().ip(&probe).is_ok())
    }

    /// Addresses and routes beyond the usual.
    fn connect(&mut self, gre_checksum: bool) -> Result<()> {
        let director = self.director.host();
        match self.shape {
            Shape::Direct | Shape::Tagged => {
                for server in &self.servers {
                    for interface in ["all", "lo"] {
                        server.sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "1")?;
                        server.sysctl(&format!("net.ipv4.conf.{interface}.arp_announce"), "2")?;
                    }
                    add4(server, "lo", VIP, 32)?;
                    add6(server, "lo", VIP6, 128)?;
                    self.tunnels.push(TunnelEnd::start(server, gre_checksum)?);
                }
                eprintln!("tunnels end at {}", self.tunnels[0].name());
            }
            Shape::MasqueradeOne => {
                add4(director, INTERFACE, Ipv4Addr::new(198, 51, 100, 1), 24)?;
                add6(
                    director,
                    INTERFACE,
                    Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1),
                    64,
                )?;
                add4(&self.client, INTERFACE, FAR, 24)?;
                add6(&self.client, INTERFACE, FAR6, 64)?;
                let gateway = director.address6().to_string();
                self.gateway(&director.address().to_string(), &gateway)?;
            }
            Shape::MasqueradeTwo => {
                self.lab.cable(director, "eth1", Lan::Second, "d1-1")?;
                add4(director, "eth1", Ipv4Addr::new(10, 0, 0, 2), 24)?;
                add6(
                    director,
                    "eth1",
                    Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 2),
                    64,
                )?;
                self.gateway("10.0.0.1", "2001:db8:10::1")?;
            }
        }
        Ok(())
    }

    fn gateway(&self, v4: &str, v6: &str) -> Result<()> {
        for server in &self.servers {
            let namespace = server.namespace();
            namespace.ip(&["route", "add", "default", "via", v4])?;
            namespace.ip(&["-6", "route", "add", "default", "via", v6])?;
        }
        Ok(())
    }

    fn listen(&self, service: &Service) -> Result<Vec<Echo>> {
        let mut echoes = Vec::new();
        for server in &self.servers {
            let address = if service.kind == "NAT" {
                service.family.of(server)
            } else {
                service.family.vip()
            };
            let address = SocketAddr::new(address, service.server_port());
            echoes.push(Echo::start(server, service.transport, address)?);
        }
        Ok(echoes)
    }

    /// As an operator would write it. Behind two interfaces the servers' gateway moves with the
    /// VIP.
    fn config(&self, services: &[Service]) -> String {
        let mut excluded = format!("        {VIP6}\n");
        if self.shape == Shape::MasqueradeTwo {
            excluded += "        10.0.0.1/24 dev eth1\n        2001:db8:10::1/64 dev eth1\n";
        }
        let mut text = format!(
            "vrrp_instance VI_1 {{\n    state MASTER\n    interface {}\n    virtual_router_id 51\n    \
             priority 100\n    version 3\n    advert_int 0.5\n    virtual_ipaddress {{\n        {VIP}\n    }}\n    \
             virtual_ipaddress_excluded {{\n{excluded}    }}\n}}\n",
            self.shape.interface()
        );
        for service in services {
            let _ = write!(
                text,
                "\nvirtual_server {} {} {{\n    lb_algo rr\n    lb_kind {}\n    protocol {}\n",
                service.family.vip(),
                service.port,
                service.kind,
                service.transport.name()
            );
            for server in &self.servers {
                let _ = write!(
                    text,
                    "    real_server {} {} {{\n        weight 1\n{}    }}\n",
                    service.outer.of(server),
                    service.server_port(),
                    service.check()
                );
            }
            text.push_str("}\n");
        }
        text
    }

    /// Somebody who follows all datagrams: so few that the meter lets all of them through.
    pub(crate) fn follow(&self) -> Result<Process> {
        self.director.follow("follower", &["--proto", "udp"])
    }

    /// Sends `bytes` through a service and compares what comes back.
    pub(crate) fn exchange(&self, service: &Service, bytes: u64, datagram: usize) -> Result<()> {
        let from = match (self.shape, service.family) {
            (Shape::MasqueradeOne, Family::V4) => FAR.into(),
            (Shape::MasqueradeOne, Family::V6) => FAR6.into(),
            (_, family) => family.of(&self.client),
        };
        let to = SocketAddr::new(service.family.vip(), service.port);
        exchange(&self.client, service.transport, (from, to), bytes, datagram)
    }

    /// What each server has served of the service with this index.
    pub(crate) fn served(&self, service: usize) -> Vec<u64> {
        self.echoes[service].iter().map(Echo::served).collect()
    }
}

/// Moves a host's address to a VLAN device.
fn tag(host: &Host) -> Result<()> {
    let namespace = host.namespace();
    namespace.ip(&["addr", "flush", "dev", INTERFACE, "scope", "global"])?;
    let vlan = ["name", TAGGED, "type", "vlan", "id", "7"];
    namespace.ip(&[&["link", "add", "link", INTERFACE], &vlan[..]].concat())?;
    namespace.ip(&["link", "set", "dev", TAGGED, "up"])?;
    add4(host, TAGGED, host.address(), 24)
}

fn add4(host: &Host, interface: &str, address: Ipv4Addr, length: u8) -> Result<()> {
    let cidr = format!("{address}/{length}");
    host.namespace()
        .ip(&["addr", "add", &cidr, "dev", interface])
        .map(drop)
}

/// Nobody else has the address: duplicate address detection would only take a second.
fn add6(host: &Host, interface: &str, address: Ipv6Addr, length: u8) -> Result<()> {
    let cidr = format!("{address}/{length}");
    let what = ["-6", "addr", "add", &cidr, "dev", interface, "nodad"];
    host.namespace().ip(&what).map(drop)
}
