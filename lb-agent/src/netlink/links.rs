// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces by name: index, link address, whether they carry traffic, first addresses.
//!
//! In: a name and an rtnetlink handle. Out: a [`Link`], true at the moment of asking. Called by
//! the VRRP driver and whoever resolves a configured name. Invariant: a name that does not exist
//! is answered with the names that do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::addrs::{self, AddressError};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u32,
    /// Ethernet address, when it has one.
    pub mac: Option<[u8; 6]>,
    /// Administratively up and running (has a carrier, or a driver that does not tell).
    pub up: bool,
    /// Its first IPv4 address that is not one of our virtual addresses.
    pub address: Option<Ipv4Addr>,
    /// Its first IPv6 link-local address that is not one of ours and can be used.
    pub link_local: Option<Ipv6Addr>,
    /// Its first other IPv6 address that is not one of ours and can be used.
    pub address6: Option<Ipv6Addr>,
}

/// Why an interface could not be described.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No such name.
    #[error("cannot find interface {name}: this host has {}", have.join(", "))]
    NotFound {
        /// The name asked for.
        name: String,
        /// Every name there is.
        have: Vec<String>,
    },
    /// The kernel refused.
    #[error("cannot list interfaces: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// The kernel refused.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// The interface called `name`.
///
/// KEEPALIVED: `up` is IFF_UP and IFF_RUNNING. The address is the first primary one in the
/// kernel's order that does not carry the mark of a virtual address, since a virtual address left
/// behind must not become the source of adverts.
pub async fn find(handle: &Handle, name: &str) -> Result<Link, LinkError> {
    let mut have = Vec::new();
    let mut found = None;
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await? {
        let Some(of) = name_of(&message) else {
            continue;
        };
        if of == name {
            found = Some(message);
        } else {
            have.push(of.to_owned());
        }
    }
    let Some(message) = found else {
        let name = name.to_owned();
        return Err(LinkError::NotFound { name, have });
    };
    let ifindex = message.header.index;
    let held = addrs::list(handle, ifindex).await?;
    let own = || {
        let own = held
            .iter()
            .filter(|held| !held.virtual_address && !held.tentative);
        own.map(|held| held.addr)
    };
    let v6 = |link_local: bool| {
        own().find_map(|addr| match addr {
            IpAddr::V6(addr) if addr.is_unicast_link_local() == link_local => Some(addr),
            _ => None,
        })
    };
    Ok(Link {
        name: name.to_owned(),
        ifindex,
        mac: mac_of(&message),
        up: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::Running),
        address: own().find_map(|addr| match addr {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        }),
        link_local: v6(true),
        address6: v6(false),
    })
}

/// The index of the interface called `name`, without asking for more.
///
/// A description costs a list of all addresses of the host, and a thousand virtual routers with an
/// address each would be a million of them.
pub async fn index(handle: &Handle, name: &str) -> Result<u32, LinkError> {
    match nix::net::if_::if_nametoindex(name) {
        Ok(ifindex) => Ok(ifindex),
        // The description says what there is instead.
        Err(_) => find(handle, name).await.map(|link| link.ifindex),
    }
}

fn name_of(message: &LinkMessage) -> Option<&str> {
    message.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn mac_of(message: &LinkMessage) -> Option<[u8; 6]> {
    message.attributes.iter().find_map(|a| match a {
        LinkAttribute::Address(octets) => octets.as_slice().try_into().ok(),
        _ => None,
    })
}
