// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel tells of links, addresses, routes and neighbours.
//!
//! Comes in: the multicast groups of rtnetlink, by choice of [`Topic`]. Goes out: [`Event`]s.
//! Also here: [`connect`], a connection for requests, and [`links`], the links as they stand.
//!
//! Invariant: whoever opens a [`Watch`] before asking the kernel for a state misses no later
//! change, unless an [`Event::Overrun`] says so; then the state is to be asked for again.
//! A watch has a socket of its own: answers to requests cannot fill it, and a burst of events
//! cannot delay answers. Called by `nexthop` and by the VRRP driver. Both sockets belong to the
//! network namespace of the thread that opens them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::sys::AsyncSocket;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

/// Socket buffer for events, in bytes: room for some thousand of them.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The request was refused.
    #[error("cannot {what}: {cause}")]
    Request {
        /// What was asked for: `find the route to 10.0.0.1`.
        what: String,
        /// The kernel's error.
        #[source]
        cause: io::Error,
    },
    /// The connection is gone.
    #[error("cannot reach the kernel: the netlink connection is closed")]
    Closed,
}

impl NetlinkError {
    /// The error of a request that should do `what`.
    pub(crate) fn request(what: String, error: &rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::RequestFailed => Self::Closed,
            rtnetlink::Error::NetlinkError(message) => Self::Request {
                what,
                cause: message.to_io(),
            },
            other => Self::Request {
                what,
                cause: io::Error::other(other.to_string()),
            },
        }
    }

    /// The kernel's error number, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(cause) | Self::Request { cause, .. } => cause.raw_os_error(),
            Self::Closed => None,
        }
    }
}

/// A group of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// [`Event::Link`].
    Links,
    /// [`Event::Address`].
    Addresses,
    /// [`Event::Route`].
    Routes,
    /// [`Event::Neighbour`].
    Neighbours,
}

impl Topic {
    fn groups(self) -> &'static [MulticastGroup] {
        match self {
            Topic::Links => &[MulticastGroup::Link],
            Topic::Addresses => &[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr],
            Topic::Routes => &[
                MulticastGroup::Ipv4Route,
                MulticastGroup::Ipv4Rule,
                MulticastGroup::Ipv6Route,
                MulticastGroup::Ipv6Rule,
            ],
            Topic::Neighbours => &[MulticastGroup::Neigh],
        }
    }
}

/// Something changed in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is new, changed or gone.
    Link(LinkEvent),
    /// An own address is new, changed or gone.
    Address(AddressEvent),
    /// A route or rule is new, changed or gone.
    Route(RouteEvent),
    /// A neighbour entry is new, changed or gone.
    Neighbour(NeighbourEvent),
    /// Events were lost: ask for the state again.
    Overrun,
}

/// A link as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// Administratively up and running (it has a carrier). False for a link that is gone.
    ///
    /// KEEPALIVED: `IF_FLAGS_UP`, both IFF_UP and IFF_RUNNING.
    pub up: bool,
    /// False if the link is gone.
    pub present: bool,
    /// Our MAC address on it, if it has one.
    pub mac: Option<[u8; 6]>,
    /// Largest datagram that it takes, bytes.
    pub mtu: u32,
}

/// An own address as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEvent {
    /// Its interface.
    pub ifindex: u32,
    /// The address.
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// False if the address is gone.
    pub present: bool,
}

/// A route changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEvent {
    /// Its prefix and prefix length; none for a rule, which may concern any destination.
    pub prefix: Option<(IpAddr, u8)>,
}

/// A neighbour entry changed. The entry itself is read anew by `neigh::entry`, so that events that
/// are older than what was read do no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourEvent {
    /// Its interface.
    pub ifindex: u32,
    /// The neighbour's address.
    pub addr: IpAddr,
}

impl RouteEvent {
    /// Whether the way to `addr` may have changed.
    pub fn concerns(&self, addr: IpAddr) -> bool {
        let Some((prefix, len)) = self.prefix else {
            return true;
        };
        let (differs, bits) = match (prefix, addr) {
            (IpAddr::V4(prefix), IpAddr::V4(addr)) => {
                (u128::from(prefix.to_bits() ^ addr.to_bits()), 32)
            }
            (IpAddr::V6(prefix), IpAddr::V6(addr)) => (prefix.to_bits() ^ addr.to_bits(), 128),
            _ => return false,
        };
        let host_bits = u32::saturating_sub(bits, u32::from(len));
        differs.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// Opens a connection for requests, driven by a task that ends with its last handle. Call inside a
/// tokio runtime.
pub fn connect() -> Result<Handle, NetlinkError> {
    let (connection, handle, _unsolicited) =
        rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// All links as they stand.
pub async fn links(handle: &Handle) -> Result<Vec<LinkEvent>, NetlinkError> {
    let mut answers = std::pin::pin!(handle.link().get().execute());
    let mut links = Vec::new();
    while let Some(answer) = answers.next().await {
        let message = answer.map_err(|e| NetlinkError::request("list the links".into(), &e))?;
        links.push(link_event(&message, true));
    }
    Ok(links)
}

type Messages = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// A subscription to events.
pub struct Watch {
    messages: Messages,
    connection: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Watch {
    /// Subscribes. Call inside a tokio runtime.
    pub fn open(topics: &[Topic]) -> Result<Self, NetlinkError> {
        let groups: Vec<MulticastGroup> = topics.iter().flat_map(|t| t.groups()).copied().collect();
        let (mut connection, _handle, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
        // Not more than net.core.rmem_max allows. A smaller buffer only means more overruns.
        let _ = connection
            .socket_mut()
            .socket_ref()
            .set_rx_buf_sz(RECEIVE_BUFFER);
        Ok(Self {
            messages: Box::pin(messages.map(|(message, _from)| message)),
            connection: tokio::spawn(connection),
        })
    }

    /// The next event; none once the connection is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let message = self.messages.next().await?;
            if let Some(event) = decode(message) {
                return Some(event);
            }
        }
    }

    /// An event that is here already.
    pub fn waiting(&mut self) -> Option<Event> {
        self.next().now_or_never().flatten()
    }
}

fn decode(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    use RouteNetlinkMessage as M;
    match message.payload {
        NetlinkPayload::Overrun(_) => Some(Event::Overrun),
        NetlinkPayload::InnerMessage(inner) => match inner {
            // A bridge tells of its ports in messages of its own family: not about the link.
            M::NewLink(m) | M::DelLink(m) if m.header.interface_family != AddressFamily::Unspec => {
                None
            }
            M::NewLink(m) => Some(Event::Link(link_event(&m, true))),
            M::DelLink(m) => Some(Event::Link(link_event(&m, false))),
            M::NewAddress(m) => address_event(&m, true).map(Event::Address),
            M::DelAddress(m) => address_event(&m, false).map(Event::Address),
            M::NewRoute(m) | M::DelRoute(m) => route_event(&m).map(Event::Route),
            M::NewRule(_) | M::DelRule(_) => Some(Event::Route(RouteEvent { prefix: None })),
            M::NewNeighbour(m) | M::DelNeighbour(m) => neighbour_event(&m).map(Event::Neighbour),
            _ => None,
        },
        _ => None,
    }
}

fn link_event(message: &LinkMessage, present: bool) -> LinkEvent {
    let mut event = LinkEvent {
        ifindex: message.header.index,
        name: String::new(),
        up: present
            && message
                .header
                .flags
                .contains(LinkFlags::Up | LinkFlags::Running),
        present,
        mac: None,
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => event.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => event.mtu = *mtu,
            LinkAttribute::Address(bytes) => event.mac = mac(bytes),
            _ => {}
        }
    }
    event
}

/// A MAC address that a frame can be sent to: six bytes, not all zero.
pub(crate) fn mac(bytes: &[u8]) -> Option<[u8; 6]> {
    <[u8; 6]>::try_from(bytes).ok().filter(|mac| *mac != [0; 6])
}

fn address_event(message: &AddressMessage, present: bool) -> Option<AddressEvent> {
    // On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL our own.
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = find(|a| match a {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    let own = local.or_else(|| {
        find(|a| match a {
            AddressAttribute::Address(addr) => Some(*addr),
            _ => None,
        })
    });
    Some(AddressEvent {
        ifindex: message.header.index,
        addr: own?,
        prefix_len: message.header.prefix_len,
        present,
    })
}

fn route_event(message: &RouteMessage) -> Option<RouteEvent> {
    // The default route has no destination attribute.
    let default = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let prefix = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
        RouteAttribute::Destination(RouteAddress::Inet6(addr)) => Some(IpAddr::V6(*addr)),
        _ => None,
    });
    Some(RouteEvent {
        prefix: Some((
            prefix.unwrap_or(default),
            message.header.destination_prefix_length,
        )),
    })
}

fn neighbour_event(message: &NeighbourMessage) -> Option<NeighbourEvent> {
    let addr = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => Some(IpAddr::V6(*addr)),
        _ => None,
    })?;
    Some(NeighbourEvent {
        ifindex: message.header.ifindex,
        addr,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_concerns_the_addresses_of_its_prefix() {
        let event = |prefix: [u8; 4], len| RouteEvent {
            prefix: Some((IpAddr::from(prefix), len)),
        };
        let addr = IpAddr::from([10, 1, 2, 3]);
        assert!(event([10, 1, 2, 3], 32).concerns(addr));
        assert!(!event([10, 1, 2, 2], 32).concerns(addr));
        assert!(event([10, 1, 2, 0], 24).concerns(addr));
        assert!(!event([10, 1, 3, 0], 24).concerns(addr));
        assert!(event([0, 0, 0, 0], 0).concerns(addr));
        assert!(RouteEvent { prefix: None }.concerns(addr));

        let event = |prefix: &str, len| RouteEvent {
            prefix: Some((prefix.parse().unwrap(), len)),
        };
        let six: IpAddr = "2001:db8::1:2".parse().unwrap();
        assert!(event("2001:db8::1:2", 128).concerns(six));
        assert!(!event("2001:db8::1:3", 128).concerns(six));
        assert!(event("2001:db8::", 64).concerns(six));
        assert!(!event("2001:db9::", 64).concerns(six));
        assert!(event("::", 0).concerns(six));
        assert!(!event("::", 0).concerns(addr), "another family");
        assert!(RouteEvent { prefix: None }.concerns(six));
    }

    #[test]
    fn only_six_bytes_that_are_not_all_zero_are_a_mac() {
        assert_eq!(mac(&[2, 0, 0, 0, 0, 1]), Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(mac(&[0; 6]), None, "the loopback interface");
        assert_eq!(mac(&[10, 0, 0, 1]), None, "a tunnel");
    }
}
