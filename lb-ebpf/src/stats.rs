// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counting a packet for its service and its real server, as IPVS does: before it is sent.

use lb_common::abi::{Dest, Traffic};

use crate::parse::Flow;
use crate::tables::Tables;

/// Counts one packet of `flow` to real server `id`, and `opened` connections (0 or 1).
#[inline(always)]
pub fn count<T: Tables>(tables: &T, flow: &Flow, id: u32, dest: &Dest, opened: u64) {
    let add = |traffic: &mut Traffic| {
        traffic.conns += opened;
        traffic.in_packets += 1;
        traffic.in_bytes += u64::from(flow.ip_len);
    };
    tables.count_service(dest.service, add);
    tables.count_dest(id, add);
}
