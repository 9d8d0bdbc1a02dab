// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file says, before it means anything: every setting optional, every value with its place.
//!
//! Written by the readers of the keyword tables, read by `resolve`. Invariant: a value that is here
//! was readable and within its own range; whether it fits the others is `resolve`'s question.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::args::Spanned;
use super::keywords::RawRule;
use super::model::{
    ForwardMethod, InitialState, Program, Protocol, Route, RunAs, Scheduler, UnicastPeer,
    VirtualAddress, VrrpVersion,
};
use super::source::Span;

mod vrrp;

pub(crate) use vrrp::{
    RawExchange, RawGarp, RawMail, RawSpacing, RawTrackFile, RawTrackProcess, RawVmac,
};

/// A whole file.
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    pub(crate) global: RawGlobal,
    pub(crate) instances: Vec<RawInstance>,
    pub(crate) virtual_servers: Vec<RawVirtualServer>,
    pub(crate) scripts: Vec<RawScript>,
    pub(crate) groups: Vec<RawGroup>,
    pub(crate) files: Vec<RawTrackFile>,
    pub(crate) processes: Vec<RawTrackProcess>,
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
    pub(crate) mail: RawMail,
    pub(crate) garp: RawGarp,
    pub(crate) min_garp: Option<Spanned<bool>>,
    pub(crate) spacing: RawSpacing,
    pub(crate) exchange: RawExchange,
    pub(crate) startup_delay: Option<Spanned<Duration>>,
    pub(crate) delay_after_boot: Option<Spanned<Duration>>,
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

/// `lb_algo`: one of keepalived's, done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice<T> {
    /// xlvs does it.
    Done(T),
    /// keepalived knows it by this name, xlvs does not do it yet.
    NotYet(&'static str),
}

/// `virtual_server`.
#[derive(Debug, Default)]
pub(crate) struct RawVirtualServer {
    pub(crate) head: Span,
    /// Absent when the head could not be read, or is not an address.
    pub(crate) addr: Option<Spanned<(Ipv4Addr, u16)>>,
    pub(crate) scheduler: Option<Spanned<Choice<Scheduler>>>,
    pub(crate) method: Option<Spanned<Choice<ForwardMethod>>>,
    pub(crate) protocol: Option<Spanned<Choice<Protocol>>>,
    pub(crate) persistence_timeout: Option<Spanned<Duration>>,
    pub(crate) weight: Option<Spanned<u32>>,
    pub(crate) inhibit_on_failure: Option<Spanned<bool>>,
    pub(crate) timing: RawTiming,
    pub(crate) real_servers: Vec<RawRealServer>,
}

/// `real_server`.
#[derive(Debug, Default)]
pub(crate) struct RawRealServer {
    pub(crate) head: Span,
    /// Address, and port when the line gives one.
    pub(crate) addr: Option<Spanned<(Ipv4Addr, Option<u16>)>>,
    pub(crate) weight: Option<Spanned<u32>>,
    pub(crate) method: Option<Spanned<Choice<ForwardMethod>>>,
    pub(crate) inhibit_on_failure: Option<Spanned<bool>>,
    pub(crate) timing: RawTiming,
    pub(crate) checks: Vec<RawCheck>,
}

/// `TCP_CHECK`, and the parameters that other checkers have in common with it.
#[derive(Debug, Default)]
pub(crate) struct RawCheck {
    pub(crate) connect_ip: Option<Spanned<Ipv4Addr>>,
    pub(crate) connect_port: Option<Spanned<u16>>,
    pub(crate) bindto: Option<Spanned<Ipv4Addr>>,
    pub(crate) bind_port: Option<Spanned<u16>>,
    pub(crate) bind_if: Option<Spanned<String>>,
    pub(crate) fwmark: Option<Spanned<u32>>,
    pub(crate) log_all_failures: Option<Spanned<bool>>,
    pub(crate) timing: RawTiming,
}

impl RawRealServer {
    /// Address and port, the service's port when the line gives none.
    pub(crate) fn target(&self, service_port: u16) -> Option<Spanned<SocketAddrV4>> {
        self.addr
            .map(|at| at.map(|(ip, port)| SocketAddrV4::new(ip, port.unwrap_or(service_port))))
    }
}
