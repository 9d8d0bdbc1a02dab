// SPDX-License-Identifier: MIT OR Apache-2.0
//! SCTP's checksum after a change of port, without a look at the payload.
//!
//! CRC32c is linear: the checksum of the changed packet is that of the old one, exclusive or the
//! CRC of the change alone, which is a few bytes followed by zeros. A zero byte multiplies the CRC
//! by x^8 modulo the polynomial, so `n` of them multiply it by x^(8n), which is made of squares.

use lb_common::verdict::Verdict;
use lb_common::wire::{Ports, Sctp};

use crate::family::Addr;
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::Tables;

/// Writes new ports, and the checksum that goes with them.
#[inline(always)]
pub(super) fn translate<A: Addr, P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    flow: &Flow<A>,
    ports: Ports,
) -> Result<(), Verdict> {
    let mut sctp: Sctp = pkt.load(flow.l4_offset).ok_or(Verdict::DropInternal)?;
    let change = word(sctp.ports) ^ word(ports);
    let len = flow.ip_len as usize - (flow.l4_offset - flow.ip_offset);
    // VERIFIER: a datagram's length, of which the verifier does not know.
    let behind = (len & 0xffff).saturating_sub(size_of::<Ports>()) as u32;
    sctp.check ^= tables.crc32c(change, behind).to_le();
    sctp.ports = ports;
    if pkt.store(flow.l4_offset, sctp) {
        Ok(())
    } else {
        Err(Verdict::DropInternal)
    }
}

/// The ports as the four bytes they are in the packet, first byte lowest.
#[inline(always)]
const fn word(ports: Ports) -> u32 {
    u32::from_le(ports.src() as u32 | (ports.dst() as u32) << 16)
}
