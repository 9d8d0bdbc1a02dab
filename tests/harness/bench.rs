// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `cargo xtask bench forward` and `bench ipvs` ask of the measuring program, and its answer.
//!
//! In and out: JSON, because the program may run in a virtual machine. The program itself is
//! `tests/bench/forward`.

use serde::{Deserialize, Serialize};

/// A way to forward packets, or a program of comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// XDP_DROP: generator and cable alone.
    XdpDrop,
    /// MAC addresses swapped, XDP_TX: one more cable, the sink, and next to nothing else.
    SwapMacs,
    /// The kernel's own routing.
    Route,
    /// nftables: connection tracking, destination NAT, servers in turn.
    NftDnat,
    /// IPVS, direct routing.
    IpvsDr,
    /// IPVS, NAT.
    IpvsNat,
    /// IPVS, IPIP tunnels.
    IpvsTun,
    /// xlvs, direct routing.
    XlvsDr,
    /// xlvs, NAT.
    XlvsNat,
    /// xlvs, IPIP tunnels.
    XlvsTun,
}

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// A program of comparison.
    Xdp,
    /// The kernel without a balancer.
    Route,
    /// nftables.
    Nft,
    /// IPVS.
    Ipvs,
    /// This project.
    Xlvs,
}

/// How a packet reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    None,
    /// As it came, MAC addresses aside.
    AsItCame,
    /// To the virtual address, one hop less.
    Dr,
    /// To the server's own address.
    Nat,
    /// Inside a packet to the server's own address.
    Tun,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::XdpDrop,
        Self::SwapMacs,
        Self::Route,
        Self::NftDnat,
        Self::IpvsDr,
        Self::IpvsNat,
        Self::IpvsTun,
        Self::XlvsDr,
        Self::XlvsNat,
        Self::XlvsTun,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpDrop => "XDP_DROP",
            Self::SwapMacs => "MAC swap, XDP_TX",
            Self::Route => "kernel routing",
            Self::NftDnat => "nft DNAT",
            Self::IpvsDr => "IPVS DR",
            Self::IpvsNat => "IPVS NAT",
            Self::IpvsTun => "IPVS TUN",
            Self::XlvsDr => "xlvs DR",
            Self::XlvsNat => "xlvs NAT",
            Self::XlvsTun => "xlvs TUN",
        }
    }

    /// Who forwards.
    pub fn software(self) -> Software {
        match self {
            Self::XdpDrop | Self::SwapMacs => Software::Xdp,
            Self::Route => Software::Route,
            Self::NftDnat => Software::Nft,
            Self::IpvsDr | Self::IpvsNat | Self::IpvsTun => Software::Ipvs,
            Self::XlvsDr | Self::XlvsNat | Self::XlvsTun => Software::Xlvs,
        }
    }

    /// How its packets reach their server.
    pub fn method(self) -> Method {
        match self {
            Self::XdpDrop => Method::None,
            Self::SwapMacs => Method::AsItCame,
            Self::Route | Self::IpvsDr | Self::XlvsDr => Method::Dr,
            Self::NftDnat | Self::IpvsNat | Self::XlvsNat => Method::Nat,
            Self::IpvsTun | Self::XlvsTun => Method::Tun,
        }
    }

    /// Whether it remembers which server a flow has.
    pub fn has_connections(self) -> bool {
        !matches!(self.software(), Software::Xdp | Software::Route)
    }
}

/// What the packets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// A SYN, then ACKs.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// What a packet finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing: it is the first of its flow.
    Opening,
    /// A connection.
    Established,
}

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Rows, in order.
    pub subjects: Vec<Subject>,
    /// Each subject with each of them.
    pub protocols: Vec<Protocol>,
    /// And with so many flows.
    pub flows: Vec<u32>,
    /// How often a row of established flows is measured.
    pub rounds: u32,
    /// How often a row of opening flows is, each time with as many new flows; less often where they
    /// would fill a subject's table.
    pub openings: u32,
    /// Packets of one round.
    pub packets: u32,
    /// All subjects stand side by side and take turns, for a clock that is disturbed; else one
    /// after the other.
    pub in_turn: bool,
    /// Servers behind a second interface, instead of behind the one that packets come in by.
    pub two_arms: bool,
}

/// All that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// `uname -r`.
    pub kernel: String,
    /// The CPU on which everything happened.
    pub cpu: usize,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Who forwards, and how.
    pub subject: Subject,
    /// What the packets carry.
    pub protocol: Protocol,
    /// Different flows.
    pub flows: u32,
    /// What a packet finds.
    pub phase: Phase,
    /// What became of it.
    pub outcome: Outcome,
    /// Nanoseconds a packet, a round each: its median chunk.
    pub ns: Vec<f64>,
    /// Share of the packets that arrived, the worst round's.
    pub received: f64,
    /// Packets that arrived in the last round, by server.
    pub servers: Vec<u64>,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Figures.
    Measured,
    /// This build does not do it.
    NotSupported,
    /// It went wrong, so.
    Failed(String),
}
