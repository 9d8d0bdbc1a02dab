// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual addresses on interfaces: add, remove, list.
//!
//! In: an rtnetlink handle, an interface index and a [`VirtualAddress`]. Out: kernel state.
//! Called by the VRRP host. Invariant: what is added carries keepalived's protocol number, so
//! that any later run (ours or keepalived's) can tell a virtual address from one of the host's.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_ACK, NetlinkPayload};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::ask::ask;
use crate::config::model::VirtualAddress;
use crate::supervisor::page::Address;

/// KEEPALIVED: `RTPROT_KEEPALIVED`, which `ip address` shows as `proto keepalived`.
///
/// # Minimum kernel version
/// 5.18 keeps it; older kernels ignore the attribute.
pub const ADDRESS_PROTOCOL: u8 = 18;

/// Why an address is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not added.
    #[error("cannot add address {addr} to interface {ifindex}: {cause}")]
    Add {
        /// Address.
        addr: IpAddr,
        /// Interface index.
        ifindex: u32,
        /// The kernel's answer.
        cause: rtnetlink::Error,
    },
    /// Not removed.
    #[error("cannot remove address {addr} from interface {ifindex}: {cause}")]
    Remove {
        /// Address.
        addr: IpAddr,
        /// Interface index.
        ifindex: u32,
        /// The kernel's answer.
        cause: rtnetlink::Error,
    },
    /// Not listed.
    #[error("cannot list the addresses of interface {ifindex}: {cause}")]
    List {
        /// Interface index.
        ifindex: u32,
        /// The kernel's answer.
        cause: rtnetlink::Error,
    },
}

/// An address that an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAddress {
    /// Address.
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// IPv6: the check for duplicates is not over (or found one), so it cannot be used yet.
    pub tentative: bool,
    /// Carries [`ADDRESS_PROTOCOL`]: put there by this agent or keepalived.
    pub virtual_address: bool,
}

/// Adds `vip` to the interface. An address that is there already is fine (and is left as it is).
pub async fn add(handle: &Handle, ifindex: u32, vip: &VirtualAddress) -> Result<(), AddressError> {
    let mut request = handle.address().add(ifindex, vip.addr, vip.prefix_len);
    *request.message_mut() = message(ifindex, vip);
    match request.execute().await {
        Err(cause) if !is(&cause, nix::Error::EEXIST) => Err(AddressError::Add {
            addr: vip.addr,
            ifindex,
            cause,
        }),
        _ => Ok(()),
    }
}

/// Removes `vip` from the interface. An address, or a whole interface, that is gone already is
/// fine.
pub async fn remove(
    handle: &Handle,
    ifindex: u32,
    vip: &VirtualAddress,
) -> Result<(), AddressError> {
    let message = named(ifindex, vip.addr, vip.prefix_len, vip.peer);
    match handle.address().del(message).execute().await {
        Err(cause) if !is(&cause, nix::Error::EADDRNOTAVAIL) && !is(&cause, nix::Error::ENODEV) => {
            Err(AddressError::Remove {
                addr: vip.addr,
                ifindex,
                cause,
            })
        }
        _ => Ok(()),
    }
}

/// The same without a runtime, for an address of which no more is known.
pub fn remove_now(address: &Address) -> io::Result<()> {
    let Address {
        ifindex,
        addr,
        prefix_len,
        peer,
    } = *address;
    let message = named(ifindex, addr, prefix_len, Some(peer));
    match ask(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK)? {
        NetlinkPayload::Error(error) => match -error.raw_code() {
            0 | libc::EADDRNOTAVAIL | libc::ENODEV => Ok(()),
            _ => Err(error.to_io()),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The kernel matches a label too when one is given; an address left by an older configuration may
/// have another, so only address and prefix are named.
fn named(ifindex: u32, addr: IpAddr, prefix_len: u8, peer: Option<IpAddr>) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(addr);
    message.header.index = ifindex;
    message.header.prefix_len = prefix_len;
    message.attributes = ends(addr, peer);
    message
}

/// The addresses of the interface, in the kernel's order.
pub async fn list(handle: &Handle, ifindex: u32) -> Result<Vec<HeldAddress>, AddressError> {
    let mut messages = handle
        .address()
        .get()
        .set_link_index_filter(ifindex)
        .execute();
    let mut held = Vec::new();
    loop {
        let message = messages
            .try_next()
            .await
            .map_err(|cause| AddressError::List { ifindex, cause })?;
        match message {
            Some(message) => held.extend(held_address(&message)),
            None => return Ok(held),
        }
    }
}

fn message(ifindex: u32, vip: &VirtualAddress) -> AddressMessage {
    let mut message = named(ifindex, vip.addr, vip.prefix_len, vip.peer);
    message.header.scope = AddressScope::from(vip.scope);
    let protocol = AddressProtocol::Other(ADDRESS_PROTOCOL);
    message
        .attributes
        .push(AddressAttribute::Protocol(protocol));
    message
        .attributes
        .extend(vip.broadcast.map(AddressAttribute::Broadcast));
    message
        .attributes
        .extend(vip.label.clone().map(AddressAttribute::Label));
    if vip.flags != 0 {
        let flags = AddressFlags::from_bits_retain(vip.flags);
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    if vip.deprecated {
        let mut life = CacheInfo::default();
        (life.ifa_preferred, life.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(life));
    }
    message
}

fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

/// IFA_LOCAL is the interface's own end; IFA_ADDRESS is the peer's on a point-to-point link.
fn ends(addr: IpAddr, peer: Option<IpAddr>) -> Vec<AddressAttribute> {
    let other = peer.unwrap_or(addr);
    vec![
        AddressAttribute::Local(addr),
        AddressAttribute::Address(other),
    ]
}

fn held_address(message: &AddressMessage) -> Option<HeldAddress> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = find(|a| match a {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    // Over IPv6 there is IFA_LOCAL on a point-to-point link only.
    let addr = local.or_else(|| {
        find(|a| match a {
            AddressAttribute::Address(addr) => Some(*addr),
            _ => None,
        })
    })?;
    let protocol = AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL));
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let tentative = message.attributes.iter().any(|a| match a {
        AddressAttribute::Flags(flags) => {
            flags.intersects(unusable) && !flags.contains(AddressFlags::Optimistic)
        }
        _ => false,
    });
    Some(HeldAddress {
        addr,
        prefix_len: message.header.prefix_len,
        tentative,
        virtual_address: message.attributes.contains(&protocol),
    })
}

fn is(error: &rtnetlink::Error, errno: nix::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code() == -(errno as i32),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::netlink::links::{self, LinkError};

    /// Runs `test` in a thread with a network namespace of its own, where only `lo` exists.
    fn in_new_namespace(test: impl AsyncFnOnce(Handle) + Send + 'static) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root (run: sudo -E cargo test -p lb-agent --lib netlink)");
            return;
        }
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                test(handle).await;
            });
        });
        thread.join().unwrap();
    }

    fn shown() -> String {
        let output = std::process::Command::new("ip")
            .args(["-details", "-oneline", "-4", "address", "show", "dev", "lo"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn vip() -> VirtualAddress {
        VirtualAddress {
            prefix_len: 24,
            label: Some("lo:vip".to_owned()),
            broadcast: Some(Ipv4Addr::new(192, 0, 2, 255)),
            scope: 253,
            ..VirtualAddress::plain("192.0.2.100".parse().unwrap())
        }
    }

    #[test]
    fn an_address_is_added_as_configured_and_removed_and_both_may_be_repeated() {
        in_new_namespace(async |handle| {
            for _ in 0..2 {
                add(&handle, 1, &vip()).await.unwrap();
            }
            let text = shown();
            for part in ["192.0.2.100/24", "brd 192.0.2.255", "scope link", "lo:vip"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            let held = list(&handle, 1).await.unwrap();
            let expected = HeldAddress {
                addr: vip().addr,
                prefix_len: 24,
                tentative: false,
                virtual_address: true,
            };
            assert_eq!(held, [expected]);
            for _ in 0..2 {
                remove(&handle, 1, &vip()).await.unwrap();
            }
            assert_eq!(list(&handle, 1).await.unwrap(), []);
            add(&handle, 1, &vip()).await.unwrap();
            for _ in 0..2 {
                let named = Address {
                    ifindex: 1,
                    addr: vip().addr,
                    prefix_len: vip().prefix_len,
                    peer: vip().addr,
                };
                remove_now(&named).unwrap();
            }
            assert_eq!(list(&handle, 1).await.unwrap(), []);
            remove(&handle, 999, &vip()).await.unwrap();
            assert!(add(&handle, 999, &vip()).await.is_err());
        });
    }

    #[test]
    fn an_ipv6_address_is_used_at_once_and_not_chosen_as_source() {
        in_new_namespace(async |handle| {
            let vip = VirtualAddress {
                flags: VirtualAddress::NO_DAD | 0x200,
                ..VirtualAddress::plain("2001:db8::9".parse().unwrap())
            };
            for _ in 0..2 {
                add(&handle, 1, &vip).await.unwrap();
            }
            let output = std::process::Command::new("ip")
                .args(["-oneline", "-6", "address", "show", "dev", "lo"])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            for part in ["2001:db8::9/128", "deprecated", "nodad", "noprefixroute"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            let held = list(&handle, 1).await.unwrap();
            assert_eq!((held[0].addr, held[0].tentative), (vip.addr, false));
            for _ in 0..2 {
                remove(&handle, 1, &vip).await.unwrap();
            }
            assert_eq!(list(&handle, 1).await.unwrap(), []);
        });
    }

    #[test]
    fn a_virtual_address_is_not_an_interfaces_own_and_an_unknown_name_is_answered_with_names() {
        in_new_namespace(async |handle| {
            add(&handle, 1, &vip()).await.unwrap();
            let link = links::find(&handle, "lo").await.unwrap();
            assert_eq!((link.ifindex, link.up, link.address), (1, false, None));
            match links::find(&handle, "eth7").await {
                Err(LinkError::NotFound { have, .. }) => assert!(have.contains(&"lo".to_owned())),
                other => panic!("{other:?}"),
            }
        });
    }
}
