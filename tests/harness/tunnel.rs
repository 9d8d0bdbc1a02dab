// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers' end of a tunnel: the kernel's own devices where it has them, else a program.
//!
//! In: a host. Out: whatever comes in by IPIP, GRE or GUE, in either family, is unpacked there.

use anyhow::Result;

use crate::decap::Decapsulator;
use crate::lab::Host;

/// UDP port of GUE.
pub const GUE_PORT: u16 = 6080;

/// Unpacks until it is dropped.
#[derive(Debug)]
pub struct TunnelEnd {
    /// None where the kernel's devices do it.
    program: Option<Decapsulator>,
}

/// The kernel's devices. A device without a remote address takes what comes from anybody.
const DEVICES: [&[&str]; 5] = [
    &["tn4", "type", "ipip", "remote", "any"],
    &["tn6", "type", "sit", "remote", "any"],
    &["tn46", "type", "ip6tnl", "mode", "any", "remote", "any"],
    &["tg4", "type", "gre", "remote", "any"],
    &["tg6", "type", "ip6gre", "remote", "any"],
];

impl TunnelEnd {
    /// Prepares `host`. The kernel's GRE devices take either only packets with a checksum or only
    /// packets without one (`ip_tunnel_rcv`, `__ip6_tnl_rcv`).
    pub fn start(host: &Host, gre_checksum: bool) -> Result<Self> {
        // A server answers by another interface than the one that requests come in by.
        for interface in ["all", "default"] {
            host.sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "0")?;
        }
        let local = host.address().to_string();
        let local6 = host.address6().to_string();
        if !has_devices(host) {
            let program = Decapsulator::start(host, "tn0", GUE_PORT)?;
            up(host, "tn0")?;
            return Ok(Self {
                program: Some(program),
            });
        }
        for device in DEVICES {
            let local = if device[2].starts_with("ip6") {
                &local6
            } else {
                &local
            };
            let mut what = [&["link", "add"], device, &["local", local]].concat();
            if gre_checksum && device[2].ends_with("gre") {
                what.push("icsum");
            }
            host.namespace().ip(&what)?;
            up(host, device[0])?;
        }
        let port = GUE_PORT.to_string();
        let gue = ["fou", "add", "port", &port, "gue"];
        host.namespace().ip(&gue)?;
        host.namespace().ip(&[&["-6"], &gue[..]].concat())?;
        Ok(Self { program: None })
    }

    /// In a person's words.
    pub fn name(&self) -> &'static str {
        match self.program {
            None => "the kernel's tunnel devices",
            Some(_) => "a program with a tun device",
        }
    }
}

/// Whether this kernel has the devices: all of them or none, as distributions build it.
fn has_devices(host: &Host) -> bool {
    let namespace = host.namespace();
    // Without an address of its own it would be the same as tunl0, which comes with the module.
    let local = host.address().to_string();
    let probe = ["link", "add", "probe", "type", "ipip", "local", &local];
    namespace.ip(&probe).is_ok() && namespace.ip(&["link", "del", "dev", "probe"]).is_ok()
}

fn up(host: &Host, device: &str) -> Result<()> {
    host.sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0")?;
    host.namespace()
        .ip(&["link", "set", "dev", device, "up"])
        .map(drop)
}
