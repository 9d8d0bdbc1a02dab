// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which virtual service a flow asks for.

use lb_common::abi::{SETTING_ANY_PORT, Service, ServiceKey, Settings};

use crate::family::Addr;
use crate::parse::Flow;
use crate::tables::Tables;

/// The row of the service of exactly this address, port and protocol, else of the one for any port.
///
/// IPVS: `ip_vs_service_find`.
#[inline(always)]
pub fn service<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
) -> Option<(u32, &'t Service)> {
    let key = ServiceKey {
        addr: flow.dst.words(),
        port: flow.ports.dst(),
        proto: flow.proto,
        family: A::FAMILY,
    };
    let row = match tables.service_row(&key) {
        Some(row) => row,
        None if settings.flags & SETTING_ANY_PORT != 0 => {
            tables.service_row(&ServiceKey { port: 0, ..key })?
        }
        None => return None,
    };
    Some((row, tables.service(row)?))
}
