// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file says, before it means anything: every setting optional, every value with its place.
//!
//! Written by the readers of the keyword tables, read by `resolve`. Invariant: a value that is here
//! was readable and within its own range; whether it fits the others is `resolve`'s question.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::args::Spanned;
use super::keywords::RawRule;
use super::model::{
    ForwardMethod, InitialState, Program, Protocol, Route, RunAs, Scheduler, Timeouts, UnicastPeer,
    VirtualAddress, VrrpVersion,
};
use super::source::Span;

mod vrrp;

pub(crate) use vrrp::{
    RawBfd, RawExchange, RawGarp, RawMail, RawSpacing, RawTrackFile, RawTrackProcess, RawVmac,
};

/// A whole file.
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    pub(crate) global: RawGlobal,
    pub(crate) instances: Vec<RawInstance>,
    pub(crate) virtual_servers: Vec<RawVirtualServer>,
    pub(crate) virtual_server_groups: Vec<RawAddressGroup>,
    pub(crate) scripts: Vec<RawScript>,
    pub(crate) groups: Vec<RawGroup>,
    pub(crate) files: Vec<RawTrackFile>,
    pub(crate) processes: Vec<RawTrackProcess>,
    pub(crate) bfds: Vec<RawBfd>,
    pub(crate) garp_groups: Vec<Spanned<RawSpacing>>,
    pub(crate) static_addresses: Vec<Spanned<VirtualAddress>>,
    pub(crate) static_routes: Vec<Spanned<Route>>,
    pub(crate) static_rules: Vec<Spanned<RawRule>>,
}

/// `global_defs`.
#[derive(Debug, Default)]
pub(crate) struct RawGlobal {
    pub(crate) router_id: Option<Spanned<String>>,
    pub(crate) mcast_group4: Option<Spanned<Ipv4Addr>>,
    pub(crate) mcast_group6: Option<Spanned<IpAddr>>,
    pub(crate) version: Option<Spanned<VrrpVersion>>,
    pub(crate) strict: Option<Spanned<bool>>,
    pub(crate) log_all_failures: Option<Spanned<bool>>,
    pub(crate) script_user: Option<Spanned<RunAs>>,
    pub(crate) script_security: Option<Spanned<bool>>,
    pub(crate) notify_fifo: Option<Spanned<String>>,
    pub(crate) vrrp_notify_fifo: Option<Spanned<String>>,
    pub(crate) priority_changes: Option<Spanned<bool>>,
    pub(crate) lvs_notify_fifo: Option<Spanned<String>>,
    pub(crate) init_notifies: Option<Spanned<bool>>,
    pub(crate) lvs_timeouts: Option<Spanned<Timeouts>>,
    pub(crate) connections: Option<Spanned<u32>>,
    pub(crate) expire_nodest_conn: Option<Spanned<bool>>,
    pub(crate) expire_quiescent_template: Option<Spanned<bool>>,
    pub(crate) sloppy_tcp: Option<Spanned<bool>>,
    pub(crate) watchdog: Option<Spanned<Duration>>,
    pub(crate) mail: RawMail,
    pub(crate) garp: RawGarp,
    pub(crate) min_garp: Option<Spanned<bool>>,
    pub(crate) spacing: RawSpacing,
    pub(crate) exchange: RawExchange,
    pub(crate) startup_delay: Option<Spanned<Duration>>,
    pub(crate) delay_after_boot: Option<Spanned<Duration>>,
    pub(crate) rt_priority: Option<Spanned<u8>>,
    pub(crate) nice: Option<Spanned<i8>>,
    pub(crate) no_swap: Option<Spanned<bool>>,
    pub(crate) default_interface: Option<Spanned<String>>,
    pub(crate) vmac_prefix: Option<Spanned<String>>,
}

/// `notify…` of an instance or a group.
#[derive(Debug, Default)]
pub(crate) struct RawNotify {
    pub(crate) master: Option<Spanned<Program>>,
    pub(crate) backup: Option<Spanned<Program>>,
    pub(crate) fault: Option<Spanned<Program>>,
    pub(crate) stop: Option<Spanned<Program>>,
    pub(crate) deleted: Option<Spanned<Option<Program>>>,
    pub(crate) rx_lower: Option<Spanned<Program>>,
    pub(crate) any: Option<Spanned<Program>>,
    pub(crate) priority_changes: Option<Spanned<bool>>,
    pub(crate) mail: Option<Spanned<bool>>,
}

/// `vrrp_script`.
#[derive(Debug, Default)]
pub(crate) struct RawScript {
    pub(crate) name: String,
    pub(crate) head: Span,
    /// Program and arguments.
    pub(crate) argv: Option<Spanned<Vec<String>>>,
    pub(crate) user: Option<Spanned<RunAs>>,
    pub(crate) interval: Option<Spanned<Duration>>,
    pub(crate) timeout: Option<Spanned<Duration>>,
    pub(crate) weight: Option<Spanned<RawWeight>>,
    pub(crate) rise: Option<Spanned<u32>>,
    pub(crate) fall: Option<Spanned<u32>>,
    pub(crate) init_fail: bool,
}

/// `weight N [reverse]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawWeight {
    pub(crate) value: i32,
    /// Said or not.
    pub(crate) reverse: Option<bool>,
}

/// A name in `track_interface` or `track_script`, with its weight if the line has one.
#[derive(Debug)]
pub(crate) struct RawTrack {
    pub(crate) name: Spanned<String>,
    pub(crate) weight: Option<Spanned<RawWeight>>,
}

/// What an instance or a group tracks.
#[derive(Debug, Default)]
pub(crate) struct RawTracks {
    pub(crate) interfaces: Vec<RawTrack>,
    pub(crate) scripts: Vec<RawTrack>,
    pub(crate) files: Vec<RawTrack>,
    pub(crate) processes: Vec<RawTrack>,
    pub(crate) bfds: Vec<RawTrack>,
}

/// `vrrp_sync_group`.
#[derive(Debug, Default)]
pub(crate) struct RawGroup {
    pub(crate) name: String,
    pub(crate) head: Span,
    /// `group { … }`.
    pub(crate) members: Vec<Spanned<String>>,
    pub(crate) tracks: RawTracks,
    pub(crate) tracking_weight: Option<Spanned<bool>>,
    pub(crate) notify: RawNotify,
}

/// `auth_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthType {
    None,
    Pass,
    Ah,
}

/// `vrrp_instance`.
#[derive(Debug, Default)]
pub(crate) struct RawInstance {
    pub(crate) name: String,
    pub(crate) head: Span,
    pub(crate) state: Option<Spanned<InitialState>>,
    pub(crate) interface: Option<Spanned<String>>,
    pub(crate) vrid: Option<Spanned<u8>>,
    pub(crate) priority: Option<Spanned<u8>>,
    pub(crate) version: Option<Spanned<VrrpVersion>>,
    pub(crate) advert_int: Option<Spanned<Duration>>,
    pub(crate) preempt: Option<Spanned<bool>>,
    pub(crate) preempt_delay: Option<Spanned<Duration>>,
    pub(crate) strict: Option<Spanned<bool>>,
    pub(crate) auth_type: Option<Spanned<AuthType>>,
    pub(crate) auth_pass: Option<Spanned<String>>,
    pub(crate) unicast_src: Option<Spanned<IpAddr>>,
    pub(crate) mcast_src: Option<Spanned<IpAddr>>,
    pub(crate) mcast_dst: Option<Spanned<IpAddr>>,
    pub(crate) native_ipv6: Option<Spanned<bool>>,
    pub(crate) unicast_peers: Vec<Spanned<UnicastPeer>>,
    /// A peer has `min_ttl` or `max_ttl`.
    pub(crate) peers_bounded: bool,
    pub(crate) unicast_ttl: Option<Spanned<u8>>,
    pub(crate) fault_no_peer: Option<Spanned<bool>>,
    /// False with `never`.
    pub(crate) old_checksum: Option<Spanned<bool>>,
    pub(crate) vips: Vec<Spanned<VirtualAddress>>,
    pub(crate) excluded: Vec<Spanned<VirtualAddress>>,
    pub(crate) routes: Vec<Spanned<Route>>,
    pub(crate) rules: Vec<Spanned<RawRule>>,
    pub(crate) vmac: Option<Spanned<RawVmac>>,
    pub(crate) vmac_xmit_base: Option<Spanned<bool>>,
    pub(crate) promote_secondaries: Option<Spanned<bool>>,
    pub(crate) notify: RawNotify,
    pub(crate) garp: RawGarp,
    pub(crate) exchange: RawExchange,
    pub(crate) accept: Option<Spanned<bool>>,
    pub(crate) track_primary: Option<Spanned<bool>>,
    pub(crate) tracks: RawTracks,
}

/// How checks are timed, at the level of a virtual server, a real server or a check.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawTiming {
    pub(crate) retry: Option<Spanned<u32>>,
    pub(crate) delay_before_retry: Option<Spanned<Duration>>,
    pub(crate) connect_timeout: Option<Spanned<Duration>>,
    pub(crate) delay_loop: Option<Spanned<Duration>>,
    pub(crate) warmup: Option<Spanned<Duration>>,
    pub(crate) alpha: Option<Spanned<bool>>,
}

/// One of the things that keepalived knows by name, done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice<T> {
    /// xlvs does it.
    Done(T),
    /// keepalived knows it by this name, xlvs does not do it yet.
    NotYet(&'static str),
}

/// What stands behind `virtual_server`.
#[derive(Debug)]
pub(crate) enum RawIdentity {
    /// `ADDR [PORT]`; port 0 when the line gives none.
    Address(IpAddr, u16),
    /// `group NAME`.
    Group(String),
}

/// `persistence_granularity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granularity {
    /// A dotted netmask, IPv4 only, as its prefix length.
    Mask(u8),
    /// A prefix length, 1 to 128.
    Prefix(u8),
}

/// A flag of the scheduler, as its line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawFlag {
    /// The keyword.
    pub(crate) name: &'static str,
    /// The only scheduler that has it; none for `flag-N`.
    pub(crate) only: Option<Scheduler>,
    /// What it sets.
    pub(crate) bit: FlagBit,
}

/// IPVS: `IP_VS_SVC_F_SCHED1` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagBit {
    /// The first: fallback.
    Fallback,
    /// The second: port.
    Port,
    /// The third, which no scheduler has.
    Third,
}

/// `virtual_server`.
#[derive(Debug, Default)]
pub(crate) struct RawVirtualServer {
    pub(crate) head: Span,
    /// Absent when the head could not be read, or is not done.
    pub(crate) identity: Option<Spanned<RawIdentity>>,
    pub(crate) ip_family: Option<Spanned<Family>>,
    pub(crate) scheduler: Option<Spanned<Choice<Scheduler>>>,
    pub(crate) flags: Vec<Spanned<RawFlag>>,
    pub(crate) method: Option<Spanned<ForwardMethod>>,
    pub(crate) protocol: Option<Spanned<Protocol>>,
    pub(crate) persistence_timeout: Option<Spanned<Duration>>,
    pub(crate) persistence_granularity: Option<Spanned<Granularity>>,
    pub(crate) one_packet: Option<Spanned<bool>>,
    pub(crate) quorum: Option<Spanned<u32>>,
    pub(crate) hysteresis: Option<Spanned<u32>>,
    pub(crate) quorum_up: Option<Spanned<Program>>,
    pub(crate) quorum_down: Option<Spanned<Program>>,
    pub(crate) omega: Option<Spanned<bool>>,
    pub(crate) sorry_server: Option<Spanned<(IpAddr, Option<u16>)>>,
    pub(crate) sorry_inhibit: Option<Spanned<bool>>,
    pub(crate) sorry_method: Option<Spanned<ForwardMethod>>,
    pub(crate) weight: Option<Spanned<u32>>,
    pub(crate) inhibit_on_failure: Option<Spanned<bool>>,
    pub(crate) timing: RawTiming,
    pub(crate) real_servers: Vec<RawRealServer>,
}

/// `ip_family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `inet`.
    V4,
    /// `inet6`.
    V6,
}

impl Family {
    /// That of an address.
    pub(crate) fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// `virtual_server_group`.
#[derive(Debug, Default)]
pub(crate) struct RawAddressGroup {
    pub(crate) name: String,
    pub(crate) head: Span,
    pub(crate) ranges: Vec<Spanned<AddressRange>>,
    /// A line is missing that could not be done (and was reported).
    pub(crate) incomplete: bool,
}

/// A line of `virtual_server_group`: all addresses from one to another, with one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRange {
    /// The first address.
    pub(crate) first: IpAddr,
    /// Number of addresses.
    pub(crate) count: u128,
    /// The first port, 0 when the line gives none.
    pub(crate) port: u16,
    /// Number of ports, at least 1.
    pub(crate) ports: u32,
}

/// `real_server`.
#[derive(Debug, Default)]
pub(crate) struct RawRealServer {
    pub(crate) head: Span,
    /// Address, and port when the line gives one.
    pub(crate) addr: Option<Spanned<(IpAddr, Option<u16>)>>,
    pub(crate) weight: Option<Spanned<u32>>,
    pub(crate) method: Option<Spanned<ForwardMethod>>,
    pub(crate) upper_threshold: Option<Spanned<u32>>,
    pub(crate) lower_threshold: Option<Spanned<u32>>,
    pub(crate) notify_up: Option<Spanned<Program>>,
    pub(crate) notify_down: Option<Spanned<Program>>,
    pub(crate) inhibit_on_failure: Option<Spanned<bool>>,
    pub(crate) timing: RawTiming,
    pub(crate) checks: Vec<RawCheck>,
}

/// `TCP_CHECK`, and the parameters that other checkers have in common with it.
#[derive(Debug, Default)]
pub(crate) struct RawCheck {
    pub(crate) connect_ip: Option<Spanned<IpAddr>>,
    pub(crate) connect_port: Option<Spanned<u16>>,
    pub(crate) bindto: Option<Spanned<IpAddr>>,
    pub(crate) bind_port: Option<Spanned<u16>>,
    pub(crate) bind_if: Option<Spanned<String>>,
    pub(crate) fwmark: Option<Spanned<u32>>,
    pub(crate) log_all_failures: Option<Spanned<bool>>,
    pub(crate) timing: RawTiming,
}

impl RawRealServer {
    /// Address and port, the service's port when the line gives none.
    pub(crate) fn target(&self, service_port: u16) -> Option<Spanned<SocketAddr>> {
        self.addr
            .map(|at| at.map(|(ip, port)| SocketAddr::new(ip, port.unwrap_or(service_port))))
    }
}
