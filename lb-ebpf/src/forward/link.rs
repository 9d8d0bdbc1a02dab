// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Ethernet header with its VLAN tags, for frames whose front moves.

use lb_common::wire::{Eth, Mac, Macs, Vlan};

use crate::packet::Packet;

/// Up to two tags.
#[derive(Clone, Copy)]
pub(super) struct LinkHeader {
    eth: Eth,
    tags: [Vlan; 2],
    /// EtherType of the content, network byte order.
    content: u16,
}

/// Where the IP header is behind one tag and behind two.
const ONE_TAG: usize = Eth::LEN + Vlan::LEN;
const TWO_TAGS: usize = Eth::LEN + 2 * Vlan::LEN;

impl LinkHeader {
    /// That of a frame whose IP header is at `ip_offset`.
    #[inline(always)]
    pub(super) fn load<P: Packet>(pkt: &P, ip_offset: usize) -> Option<Self> {
        let none = Vlan {
            tci: 0,
            ethertype: 0,
        };
        let mut link = Self {
            eth: pkt.load(0)?,
            tags: [none; 2],
            content: 0,
        };
        if ip_offset >= ONE_TAG {
            link.tags[0] = pkt.load(Eth::LEN)?;
        }
        if ip_offset >= TWO_TAGS {
            link.tags[1] = pkt.load(ONE_TAG)?;
        }
        Some(link)
    }

    /// Address of the sender.
    #[inline(always)]
    pub(super) fn src(&self) -> Mac {
        self.eth.src
    }

    /// Address of the receiver.
    #[inline(always)]
    pub(super) fn dst(&self) -> Mac {
        self.eth.dst
    }

    /// The same with other addresses and another content (EtherType in host byte order).
    #[inline(always)]
    pub(super) fn to(mut self, macs: Macs, ethertype: u16) -> Self {
        self.eth.dst = macs.dst();
        self.eth.src = macs.src();
        self.content = ethertype.to_be();
        self
    }

    /// Writes it to the beginning of a frame whose IP header is at `ip_offset`.
    #[inline(always)]
    pub(super) fn store<P: Packet>(mut self, pkt: &mut P, ip_offset: usize) -> bool {
        if ip_offset >= TWO_TAGS {
            self.tags[1].ethertype = self.content;
            pkt.store(0, self.eth)
                && pkt.store(Eth::LEN, self.tags[0])
                && pkt.store(ONE_TAG, self.tags[1])
        } else if ip_offset >= ONE_TAG {
            self.tags[0].ethertype = self.content;
            pkt.store(0, self.eth) && pkt.store(Eth::LEN, self.tags[0])
        } else {
            self.eth.ethertype = self.content;
            pkt.store(0, self.eth)
        }
    }
}
