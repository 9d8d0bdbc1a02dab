// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which XDP program an interface has, whoever attached it.
//!
//! In: an interface index. Out: the kernel's word at that moment.

use std::io;

use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

use super::ask::ask;

/// What an interface is, as far as attaching a program is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdpLink {
    /// Id of the attached program.
    pub program: Option<u32>,
    /// It runs in generic mode.
    pub generic: bool,
    /// Interface that this one is stacked on (a VLAN's).
    pub parent: Option<u32>,
    /// `vlan`, `bond`, `veth` …; absent for a NIC.
    pub kind: Option<String>,
}

/// Asks the kernel about an interface.
pub fn link(ifindex: u32) -> io::Result<XdpLink> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    match ask(RouteNetlinkMessage::GetLink(message), 0)? {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(describe(&link)),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn describe(message: &LinkMessage) -> XdpLink {
    let mut link = XdpLink::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Xdp(about) => {
                for word in about {
                    match word {
                        LinkXdp::ProgId(id) if *id != 0 => link.program = Some(*id),
                        LinkXdp::Attached(XdpAttached::SocketBuffer) => link.generic = true,
                        _ => {}
                    }
                }
            }
            LinkAttribute::Link(parent) => link.parent = Some(*parent),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = Some(kind_name(kind));
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_no_program() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        assert_eq!(link(index).unwrap().program, None);
        assert!(link(u32::MAX >> 1).is_err());
    }
}
