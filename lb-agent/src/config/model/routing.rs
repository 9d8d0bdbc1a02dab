// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes and rules that an instance holds, or the agent for itself.

use std::net::IpAddr;

use serde::Serialize;

use super::{Family, VirtualAddress};

/// An address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Prefix {
    /// Its first address.
    pub addr: IpAddr,
    /// Its length.
    pub len: u8,
}

/// `table`: by number, or by a name that iproute2 knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum TableId {
    /// Its number.
    Number(u32),
    /// Its name.
    Name(String),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// It is sent on.
    #[default]
    Unicast,
    /// It is for this host.
    Local,
    /// It vanishes.
    Blackhole,
    /// It is refused as unreachable.
    Unreachable,
    /// It is refused as prohibited.
    Prohibit,
    /// The next table is asked.
    Throw,
}

/// A next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Hop {
    /// `via`.
    pub via: Option<IpAddr>,
    /// `dev`.
    pub dev: Option<String>,
    /// `weight`, 1 to 256.
    pub weight: u16,
    /// `onlink`.
    pub onlink: bool,
}

/// A property of the path that the kernel's transport protocols use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// `mtu`.
    Mtu,
    /// `advmss`.
    Advmss,
    /// `hoplimit`.
    Hoplimit,
    /// `window`.
    Window,
    /// `cwnd`.
    Cwnd,
    /// `ssthresh`.
    Ssthresh,
    /// `reordering`.
    Reordering,
    /// `initcwnd`.
    Initcwnd,
    /// `initrwnd`.
    Initrwnd,
    /// `quickack`.
    Quickack,
}

/// A line of `virtual_routes` or `static_routes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Route {
    /// Family of all its addresses.
    pub family: Family,
    /// What becomes of the packet.
    pub kind: RouteKind,
    /// Destination; none for the default route.
    pub to: Option<Prefix>,
    /// `src`: own address of packets that this host sends by it.
    pub source: Option<IpAddr>,
    /// Where it leads; several share the traffic.
    pub hops: Vec<Hop>,
    /// `table`.
    pub table: Option<TableId>,
    /// `metric`, `priority` or `preference`.
    pub metric: Option<u32>,
    /// `scope` as the kernel's number.
    pub scope: Option<u8>,
    /// `tos`.
    pub tos: u8,
    /// `protocol`; keepalived's by default.
    pub protocol: Option<u8>,
    /// Properties of the path.
    pub metrics: Vec<(Metric, u32)>,
}

/// What a rule that matches does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Asks a table.
    Table(TableId),
    /// Goes on with the rule of that preference.
    Goto(u32),
    /// The packet vanishes.
    Blackhole,
    /// It is refused as unreachable.
    Unreachable,
    /// It is refused as prohibited.
    Prohibit,
    /// Nothing.
    Nop,
}

/// A line of `virtual_rules` or `static_rules`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Rule {
    /// Family.
    pub family: Family,
    /// `not`: what does not match is meant.
    pub invert: bool,
    /// `from`.
    pub from: Option<Prefix>,
    /// `to`.
    pub to: Option<Prefix>,
    /// `iif`.
    pub iif: Option<String>,
    /// `oif`.
    pub oif: Option<String>,
    /// `fwmark` and its mask.
    pub fwmark: Option<(u32, Option<u32>)>,
    /// `tos`.
    pub tos: u8,
    /// `uidrange`.
    pub uids: Option<(u32, u32)>,
    /// `ipproto`.
    pub ip_protocol: Option<u8>,
    /// `sport`.
    pub sport: Option<(u16, u16)>,
    /// `dport`.
    pub dport: Option<(u16, u16)>,
    /// `suppress_prefixlength`.
    pub suppress_prefix_len: Option<u32>,
    /// `preference`.
    pub preference: u32,
    /// What it does.
    pub action: RuleAction,
}

/// What the agent adds for itself, and keeps for as long as it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statics {
    /// `static_ipaddress`.
    pub addresses: Vec<VirtualAddress>,
    /// `static_routes`.
    pub routes: Vec<Route>,
    /// `static_rules`.
    pub rules: Vec<Rule>,
}
