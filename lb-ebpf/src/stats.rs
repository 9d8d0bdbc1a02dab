// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counting a packet for its real server, as IPVS does: before it is sent. What a service counts is
//! the sum of its servers.

use lb_common::abi::Traffic;

use crate::family::Addr;
use crate::parse::Flow;
use crate::tables::Tables;

/// Counts one packet of a client to real server `id`, and `opened` connections (0 or 1).
#[inline(always)]
pub fn count_in<A: Addr, T: Tables>(tables: &T, flow: &Flow<A>, id: u32, opened: u64) {
    tables.count_dest(id, |traffic: &mut Traffic| {
        if opened != 0 {
            traffic.conns += opened;
        }
        traffic.in_packets += 1;
        traffic.in_bytes += u64::from(flow.ip_len);
    });
}

/// Counts one packet of real server `id` to a client.
#[inline(always)]
pub fn count_out<A: Addr, T: Tables>(tables: &T, flow: &Flow<A>, id: u32) {
    tables.count_dest(id, |traffic: &mut Traffic| {
        traffic.out_packets += 1;
        traffic.out_bytes += u64::from(flow.ip_len);
    });
}
