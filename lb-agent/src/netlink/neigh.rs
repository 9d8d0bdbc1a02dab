// SPDX-License-Identifier: MIT OR Apache-2.0
//! One entry of the kernel's neighbour table (ARP, and IPv6's neighbour discovery): reading it, and making the kernel fill it.
//!
//! Comes in: an interface and an address on its link. Goes out: an [`Entry`].
//!
//! How the kernel is made to ask. RTM_NEWNEIGH with NTF_USE (`ip neigh replace … use`) does what
//! the sending of a packet does: it starts the asking for an entry that is missing or has failed, without
//! a datagram that a server would have to refuse. For an entry that only grew old, NTF_USE waits
//! five seconds (`delay_first_probe_time`) in hope of a hint; the state NUD_PROBE asks at once, by
//! unicast. Not used: NTF_EXT_MANAGED, by which the kernel keeps an entry alive itself; it asks
//! later, wants Linux 5.16, and would outlive the agent.
//!
//! # Minimum kernel version
//! Linux 5.0 (reading one entry).
//!
//! Called by `nexthop`.

use std::net::IpAddr;

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle};

use super::watch::{NetlinkError, mac};

/// What an entry's state means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// PERMANENT or NOARP: right by decree.
    Fixed,
    /// REACHABLE: right.
    Fresh,
    /// STALE: was right; nobody is asking.
    Stale,
    /// DELAY or PROBE: was right; the kernel is asking or about to.
    Checking,
    /// INCOMPLETE: unknown; the kernel is asking.
    Resolving,
    /// FAILED or NONE: nobody answered, or nobody asked.
    Failed,
}

/// A neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its state.
    pub freshness: Freshness,
    /// Its MAC address, if it has one that a frame can be sent to.
    pub mac: Option<[u8; 6]>,
}

/// Reads the entry of `addr` on the link `ifindex`; none if there is none.
pub async fn entry(
    handle: &Handle,
    ifindex: u32,
    addr: IpAddr,
) -> Result<Option<Entry>, NetlinkError> {
    let request = RouteNetlinkMessage::GetNeighbour(message(ifindex, addr));
    match ask(handle, request, NLM_F_REQUEST).await {
        Ok(Some(RouteNetlinkMessage::NewNeighbour(message))) => Ok(Some(entry_of(&message))),
        Ok(_) => Ok(None),
        Err(error) => {
            let what = format!("read the neighbour entry of {addr}");
            let error = NetlinkError::request(what, &error);
            match error.errno().map(Errno::from_raw) {
                // No entry; no such interface any more.
                Some(Errno::ENOENT | Errno::ENODEV) => Ok(None),
                _ => Err(error),
            }
        }
    }
}

/// Makes the kernel ask for the address of an entry that is missing or failed: NTF_USE.
///
/// Not for a PERMANENT entry: the kernel would make an ordinary one of it.
pub async fn resolve(handle: &Handle, ifindex: u32, addr: IpAddr) -> Result<(), NetlinkError> {
    let mut request = message(ifindex, addr);
    request.header.flags = NeighbourFlags::Use;
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    ask(handle, RouteNetlinkMessage::NewNeighbour(request), flags)
        .await
        .map(drop)
        .map_err(|e| NetlinkError::request(format!("resolve the neighbour {addr}"), &e))
}

/// Makes the kernel ask at once whether an entry that has an address is still right: NUD_PROBE.
/// The entry keeps its address meanwhile, and fails if nobody answers.
pub async fn verify(handle: &Handle, ifindex: u32, addr: IpAddr) -> Result<(), NetlinkError> {
    let mut request = message(ifindex, addr);
    request.header.state = NeighbourState::Probe;
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE;
    ask(handle, RouteNetlinkMessage::NewNeighbour(request), flags)
        .await
        .map(drop)
        .map_err(|e| NetlinkError::request(format!("verify the neighbour {addr}"), &e))
}

fn message(ifindex: u32, addr: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, destination) = match addr {
        IpAddr::V4(addr) => (AddressFamily::Inet, NeighbourAddress::Inet(addr)),
        IpAddr::V6(addr) => (AddressFamily::Inet6, NeighbourAddress::Inet6(addr)),
    };
    message.header.family = family;
    message.header.ifindex = ifindex;
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    message
}

/// One request, one answer. rtnetlink's own requests dump the whole table, and always create.
async fn ask(
    handle: &Handle,
    request: RouteNetlinkMessage,
    flags: u16,
) -> Result<Option<RouteNetlinkMessage>, Error> {
    let mut request = NetlinkMessage::from(request);
    request.header.flags = flags;
    let mut answers = std::pin::pin!(handle.clone().request(request)?);
    let mut result = None;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(message) => result = Some(message),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(Error::NetlinkError(error));
            }
            _ => {}
        }
    }
    Ok(result)
}

fn entry_of(message: &NeighbourMessage) -> Entry {
    let freshness = match message.header.state {
        NeighbourState::Permanent | NeighbourState::Noarp => Freshness::Fixed,
        NeighbourState::Reachable => Freshness::Fresh,
        NeighbourState::Stale => Freshness::Stale,
        NeighbourState::Delay | NeighbourState::Probe => Freshness::Checking,
        NeighbourState::Incomplete => Freshness::Resolving,
        _ => Freshness::Failed,
    };
    let mac = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
        _ => None,
    });
    Entry { freshness, mac }
}
