// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which way the kernel would send a packet.
//!
//! Comes in: an address. Goes out: a [`Route`], as `ip route get` finds it. Rules, several
//! tables and several next hops are the kernel's business: its answer is one way.
//!
//! Called by `nexthop`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::watch::NetlinkError;

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The address is our own.
    Local {
        /// Interface that the kernel names for it, as a rule the loopback interface.
        ifindex: u32,
    },
    /// Out of an interface.
    Via {
        /// The interface.
        ifindex: u32,
        /// The router; none if the address is on the link itself. That of an IPv4 route may have
        /// an IPv6 address.
        gateway: Option<IpAddr>,
        /// Our address that the kernel would send from.
        source: Option<IpAddr>,
    },
    /// No way: no route, an unreachable, prohibit or blackhole route, or one of a kind that leads
    /// to no neighbour (broadcast, multicast).
    Unreachable,
}

/// Asks the kernel for the way to `addr`: RTM_GETROUTE.
pub async fn lookup(handle: &Handle, addr: IpAddr) -> Result<Route, NetlinkError> {
    let request = match addr {
        IpAddr::V4(addr) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(addr, 32)
            .build(),
        IpAddr::V6(addr) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(addr, 128)
            .build(),
    };
    let mut answers = std::pin::pin!(handle.route().get(request).execute());
    match answers.next().await {
        Some(Ok(message)) => Ok(route_of(&message)),
        Some(Err(error)) => {
            let error = NetlinkError::request(format!("find the route to {addr}"), &error);
            match error.errno().map(Errno::from_raw) {
                // In the order of `fib_props`: unreachable, prohibit, blackhole; and no route.
                Some(Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL | Errno::ENETUNREACH) => {
                    Ok(Route::Unreachable)
                }
                _ => Err(error),
            }
        }
        None => Err(NetlinkError::Closed),
    }
}

fn route_of(message: &RouteMessage) -> Route {
    let mut oif = None;
    let mut gateway = None;
    let mut source = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => oif = Some(*ifindex),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => gateway = Some(IpAddr::V4(*addr)),
            RouteAttribute::Gateway(RouteAddress::Inet6(addr))
            | RouteAttribute::Via(RouteVia::Inet6(addr)) => gateway = Some(IpAddr::V6(*addr)),
            RouteAttribute::Via(_) => return Route::Unreachable,
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => source = Some((*addr).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(addr)) => source = Some((*addr).into()),
            _ => {}
        }
    }
    match (message.header.kind, oif) {
        (RouteType::Local, oif) => Route::Local {
            ifindex: oif.unwrap_or(0),
        },
        (RouteType::Unicast, Some(ifindex)) => Route::Via {
            ifindex,
            gateway,
            source,
        },
        _ => Route::Unreachable,
    }
}
