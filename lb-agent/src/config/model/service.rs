// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual servers: identity, scheduling, forwarding, real servers and their checks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Program;

/// `protocol` of a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// `lb_algo`: IPVS's schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    Wlc,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Source hashing.
    Sh,
    /// Destination hashing.
    Dh,
    /// Maglev hashing.
    Mh,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Locality-based least connections.
    Lblc,
    /// Locality-based least connections with replication.
    Lblcr,
}

impl Scheduler {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sed,
        Self::Nq,
        Self::Sh,
        Self::Dh,
        Self::Mh,
        Self::Fo,
        Self::Ovf,
        Self::Lblc,
        Self::Lblcr,
    ];

    /// Its name in `lb_algo` and in IPVS.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Sh => "sh",
            Self::Dh => "dh",
            Self::Mh => "mh",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
        }
    }
}

/// Flags of the hashing schedulers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SchedulerFlags {
    /// `sh-port`, `mh-port` (IPVS: flag-2): the client's port is hashed, too.
    pub port: bool,
    /// `sh-fallback`, `mh-fallback` (IPVS: flag-1): another server when the hash's is not usable.
    pub fallback: bool,
}

impl SchedulerFlags {
    /// Their names, as `ipvsadm` lists them.
    pub fn names(self, scheduler: Scheduler) -> Vec<String> {
        let named = [(self.fallback, "fallback"), (self.port, "port")];
        let set = named.into_iter().filter(|(set, _)| *set);
        set.map(|(_, name)| format!("{scheduler}-{name}")).collect()
    }
}

/// `lb_kind`: how packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "UPPERCASE")]
pub enum ForwardMethod {
    /// Address translation: both ways through the director.
    Nat,
    /// Direct routing: the frame goes to the real server's MAC address, the packet as it is.
    Dr,
    /// Tunnelling: the packet goes inside another one.
    Tun(Tunnel),
}

/// `type …` behind TUN.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord,
)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// GRE.
    Gre {
        /// `csum`.
        checksum: bool,
    },
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the real server.
        port: u16,
        /// `nocsum`, `csum` or `remcsum`.
        checksum: GueChecksum,
    },
}

/// The UDP checksum of a GUE tunnel.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord,
)]
#[serde(rename_all = "lowercase")]
pub enum GueChecksum {
    /// `nocsum`: none.
    #[default]
    None,
    /// `csum`: over the whole datagram.
    Full,
    /// `remcsum`: the inner checksum is left to the receiver.
    Remote,
}

/// Address, port and protocol of a virtual server: its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceId {
    /// Virtual address.
    pub addr: IpAddr,
    /// Virtual port; 0 for all ports (with persistence only).
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// `persistence_timeout` and `persistence_granularity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// How long a client keeps its real server after its last connection.
    pub timeout: Duration,
    /// Prefix length that makes clients one: 32 (IPv6: 128) for each of its own.
    pub granularity: u8,
}

/// `virtual_server ADDR PORT { … }` or `virtual_server group NAME { … }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VirtualServer {
    /// Its identity; of a group, that of the first address.
    pub id: ServiceId,
    /// Further addresses of its `virtual_server_group`: services of their own in the data plane,
    /// with the same servers in the same health.
    pub also: Vec<ServiceId>,
    /// Its `virtual_server_group`.
    pub group: Option<String>,
    /// `lb_algo` / `lvs_sched`.
    pub scheduler: Scheduler,
    /// `sh-port`, `mh-fallback` and so on.
    pub flags: SchedulerFlags,
    /// `persistence_timeout`.
    pub persistence: Option<Persistence>,
    /// `ops`: each UDP packet is scheduled for itself.
    pub one_packet: bool,
    /// `real_server` blocks in the order of the file.
    pub real_servers: Vec<RealServer>,
    /// `quorum`: the weight that must be up, 1 by default.
    pub quorum: u32,
    /// `hysteresis`: below `quorum`; 0 by default.
    pub hysteresis: u32,
    /// `quorum_up`.
    pub quorum_up: Option<Program>,
    /// `quorum_down`.
    pub quorum_down: Option<Program>,
    /// `omega`: at the end of the agent everything is told as down.
    pub omega: bool,
    /// `sorry_server`: takes the place of all real servers while quorum is lost.
    pub sorry_server: Option<SorryServer>,
}

/// `sorry_server ADDR [PORT]`. It has weight 1, and no checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SorryServer {
    /// Address and port. With DR and TUN the port is the service's.
    pub addr: SocketAddr,
    /// `sorry_server_lvs_method`, else the service's `lb_kind`.
    pub method: ForwardMethod,
    /// `sorry_server_inhibit`: weight 0 while it is not needed, instead of being removed.
    pub inhibit: bool,
}

/// `real_server ADDR PORT { … }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RealServer {
    /// Address and port. With DR and TUN the port is the service's.
    pub addr: SocketAddr,
    /// Its own `lvs_method`, else the service's `lb_kind`.
    pub method: ForwardMethod,
    /// `weight`, 1 by default; 0 takes no new connection.
    pub weight: u32,
    /// `uthreshold`: connections at which it takes no new one; 0 for no limit.
    pub upper_threshold: u32,
    /// `lthreshold`: connections below which it takes new ones again; 0 for three quarters of
    /// `upper_threshold`.
    pub lower_threshold: u32,
    /// `inhibit_on_failure`: a failed server gets weight 0 instead of being removed.
    pub inhibit_on_failure: bool,
    /// Its checks; all must pass. Without any it is always up.
    pub checks: Vec<TcpCheck>,
    /// `notify_up`.
    pub notify_up: Option<Program>,
    /// `notify_down`.
    pub notify_down: Option<Program>,
}

/// `TCP_CHECK { … }`, every parameter resolved (a checker inherits from its real server, which
/// inherits from its virtual server).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TcpCheck {
    /// `connect_ip` and `connect_port`; the real server's own by default.
    pub target: SocketAddr,
    /// `bindto` and `bind_port`: source of the probe.
    pub source: Option<SocketAddr>,
    /// `bind_if`: interface of the probe.
    pub bind_if: Option<String>,
    /// `connect_timeout`, 5 s by default.
    pub connect_timeout: Duration,
    /// `fwmark`: SO_MARK of the probe; 0 for none.
    pub fwmark: u32,
    /// `retry`: failures in a row that are forgiven, 1 by default.
    pub retry: u32,
    /// `delay_before_retry`, 1 s by default.
    pub delay_before_retry: Duration,
    /// `delay_loop`: pause between probes, 60 s by default.
    pub delay_loop: Duration,
    /// `warmup`: the first probe starts at a random moment within it; `delay_loop` by default.
    pub warmup: Duration,
    /// `alpha`: the server starts as down until the first probe succeeds.
    pub alpha: bool,
    /// `log_all_failures`: log forgiven failures too.
    pub log_all_failures: bool,
}

impl VirtualServer {
    /// The identities of all its services in the data plane, its own first.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> {
        std::iter::once(self.id).chain(self.also.iter().copied())
    }
}

impl RealServer {
    /// Where packets of `service` go: with DR and TUN the port stays the service's.
    pub fn addr_for(&self, service: ServiceId) -> SocketAddr {
        self.method.target(self.addr, service)
    }
}

impl ForwardMethod {
    /// Where packets of `service` to the server `addr` go: NAT alone changes ports.
    pub fn target(self, addr: SocketAddr, service: ServiceId) -> SocketAddr {
        match self {
            Self::Nat => addr,
            Self::Dr | Self::Tun(_) => SocketAddr::new(addr.ip(), service.port),
        }
    }

    /// True if a real server may be of another address family than its service.
    pub fn mixes_families(self) -> bool {
        matches!(self, Self::Tun(_))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ForwardMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForwardMethod::Nat => "NAT",
            ForwardMethod::Dr => "DR",
            ForwardMethod::Tun(_) => "TUN",
        })
    }
}

impl fmt::Display for Tunnel {
    /// As it is written behind `type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tunnel::Ipip => f.write_str("ipip"),
            Tunnel::Gre { checksum: false } => f.write_str("gre"),
            Tunnel::Gre { checksum: true } => f.write_str("gre csum"),
            Tunnel::Gue { port, checksum } => {
                write!(f, "gue port {port}")?;
                f.write_str(match checksum {
                    GueChecksum::None => "",
                    GueChecksum::Full => " csum",
                    GueChecksum::Remote => " remcsum",
                })
            }
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.protocol,
            SocketAddr::new(self.addr, self.port)
        )
    }
}
