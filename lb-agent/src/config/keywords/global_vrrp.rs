// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `global_defs` that are about VRRP alone.

use super::super::args::Spanned;
use super::super::keyword::{Keyword, flag, line, off, off_flag};
use super::super::raw::RawGlobal;
use super::features::{ADVERT, LOGGING, NETLINK, TRACKING, VMAC};
use super::{address, announcing};

/// What `vrrp_instance` has in common with it.
pub(super) const IN_COMMON: &[Keyword<RawGlobal>] = announcing::rows!(RawGlobal, "vrrp_");

/// The rest.
pub(super) const ROWS: &[Keyword<RawGlobal>] = &[
    line(
        "default_interface",
        "Interface of static addresses that name none.",
        |raw: &mut RawGlobal, line| {
            let value = line.text(1);
            line.set(&mut raw.default_interface, value);
        },
    )
    .default("eth0"),
    line(
        "vmac_prefix",
        "First letters of virtual MAC interfaces.",
        |raw: &mut RawGlobal, line| {
            let value = line.text(1);
            line.set(&mut raw.vmac_prefix, value);
        },
    )
    .default("vrrp"),
    line(
        "vrrp_mcast_group6",
        "Multicast group of adverts over IPv6.",
        |raw: &mut RawGlobal, line| {
            let value = address::group(line);
            line.set(&mut raw.mcast_group6, value);
        },
    )
    .default("ff02::12"),
    flag(
        "v3_checksum_as_v2",
        "Version 3 checksum over IPv4 without pseudo header.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.exchange.checksum_as_v2, value);
        },
    )
    .default("off"),
    line(
        "vrrp_garp_interval",
        "Seconds between gratuitous ARP packets of an interface.",
        |raw: &mut RawGlobal, line| {
            let value = announcing::spacing(line);
            line.set(&mut raw.spacing.garp, value);
        },
    )
    .default("0"),
    line(
        "vrrp_gna_interval",
        "Seconds between neighbour advertisements of an interface.",
        |raw: &mut RawGlobal, line| {
            let value = announcing::spacing(line);
            line.set(&mut raw.spacing.gna, value);
        },
    )
    .default("0"),
    flag(
        "vrrp_min_garp",
        "One packet for an address after a takeover, and no second round.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.min_garp, value);
        },
    )
    .default("off"),
    line(
        "vrrp_startup_delay",
        "Seconds to wait before VRRP begins.",
        |raw: &mut RawGlobal, line| {
            let value = announcing::spacing(line);
            line.set(&mut raw.startup_delay, value);
        },
    )
    .default("0"),
    line(
        "vrrp_delay_after_boot",
        "Seconds that the host must have run before VRRP begins.",
        |raw: &mut RawGlobal, line| {
            let value = announcing::spacing(line);
            line.set(&mut raw.delay_after_boot, value);
        },
    )
    .default("0"),
    line(
        "vrrp_priority",
        "Nice value of the agent.",
        |raw: &mut RawGlobal, line| {
            let value = line.signed(1, -20..=19);
            line.set(&mut raw.nice, value.map(|v| v.map(|n| n as i8)));
        },
    )
    .default("0")
    .range("-20 to 19"),
    flag(
        "vrrp_no_swap",
        "Keep the agent's memory from being swapped out.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.no_swap, value);
        },
    )
    .default("off"),
    flag(
        "vrrp_rt_priority",
        "Real-time priority of the agent (round robin); 1 without a number.",
        |raw: &mut RawGlobal, line| {
            let value = match line.word(1) {
                None => Some(Spanned::new(1, line.span())),
                Some(_) => line.number(1, 1..=99),
            };
            line.set(&mut raw.rt_priority, value.map(|v| v.map(|n| n as u8)));
        },
    )
    .range("1 to 99"),
    off_flag(
        "dynamic_interfaces",
        "Interfaces may appear later.",
        TRACKING,
    ),
    off_flag(
        "vrrp_garp_extra_if",
        "Interval of gratuitous ARP on the base interface.",
        VMAC,
    ),
    off_flag(
        "vrrp_vmac_garp_intvl",
        "Old name of `vrrp_garp_extra_if`.",
        VMAC,
    ),
    off(
        "vmac_addr_prefix",
        "First letters of virtual MAC address interfaces.",
        VMAC,
    ),
    off_flag("disable_local_igmp", "Send no IGMP reports.", ADVERT),
    off_flag(
        "log_unknown_vrids",
        "Log adverts of unknown virtual routers.",
        LOGGING,
    ),
    off_flag(
        "vrrp_rx_bufs_policy",
        "How receive buffers are sized.",
        NETLINK,
    ),
    off(
        "vrrp_rx_bufs_multiplier",
        "Factor of receive buffers.",
        NETLINK,
    ),
];
