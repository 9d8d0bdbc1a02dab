// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which virtual service a flow asks for.

use lb_common::abi::{Service, ServiceKey};

use crate::parse::Flow;
use crate::tables::Tables;

/// The service of exactly this address, port and protocol.
#[inline(always)]
pub fn service<'t, T: Tables>(tables: &'t T, flow: &Flow) -> Option<&'t Service> {
    tables.service(&ServiceKey {
        addr: flow.dst.to_ne_bytes(),
        port: flow.ports.dst.to_ne_bytes(),
        proto: flow.proto,
        zero: 0,
    })
}
