// SPDX-License-Identifier: MIT OR Apache-2.0
//! Header views: one `repr(C)` struct a header, loaded and stored as a whole.
//!
//! Fields hold the bytes of the packet as they are (network byte order); methods give and take host
//! order where a number is meant. VERIFIER: one bounds check and one aligned read a header is what
//! the verifier follows; reading field by field is not.

mod eth;
mod icmp;
mod ipv4;
mod ipv6;
mod transport;
mod tunnel;

pub use eth::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Eth, EthWords, Mac, Macs, Vlan,
};
pub use icmp::Icmp;
pub use ipv4::{
    Ipv4, Ipv4Hop, PROTO_GRE, PROTO_ICMP, PROTO_IPIP, PROTO_IPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP,
};
pub use ipv6::{EXT_FRAGMENT, Ipv6, Ipv6Fragment, PROTO_ICMPV6};
pub use transport::{Ports, Sctp, Tcp, Udp};
pub use tunnel::{Gre, GreChecksum, Gue};
