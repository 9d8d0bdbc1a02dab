// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for all services and changes while the program runs.

use bytemuck::{Pod, Zeroable};

/// Flag: there is a service for any port.
pub const SETTING_ANY_PORT: u32 = 1;
/// Flag: packets of a connection whose server is gone are treated as those of no connection
/// (`expire_nodest_conn`).
pub const SETTING_EXPIRE_NODEST: u32 = 2;
/// Flag: a persistence template does not lead to a server of weight 0
/// (`expire_quiescent_template`).
pub const SETTING_EXPIRE_QUIESCENT: u32 = 4;
/// Flag: any TCP packet opens a connection, not only a SYN (`sloppy_tcp`).
pub const SETTING_SLOPPY_TCP: u32 = 8;

/// State rows of [`Settings`].
pub const STATES: usize = 32;

/// Bits of a state's timeout in [`Settings::states`]; its class stands above them.
pub const STATE_TIMEOUT_BITS: u32 = 24;

/// A part of [`Shared`](super::Shared).
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// `SETTING_*` flags.
    pub flags: u32,
    /// Tick of the agent's last sign of life.
    pub heartbeat: u32,
    /// Ticks without a sign of life after which the program forwards nothing; 0 for never.
    pub watchdog: u32,
    /// Zero.
    pub zero: u32,
    /// By `state::*` code: timeout in ticks, and above [`STATE_TIMEOUT_BITS`] how much the
    /// connection matters when another one needs its place (more is kept longer).
    pub states: [u32; STATES],
    /// Ticks after which lblc forgets a server that it did not choose again, and lblcr a set or one
    /// of its servers (`lblc_expiration`, `lblcr_expiration`).
    pub locality: u32,
    /// Zero.
    pub reserved: [u32; 11],
}

/// Bits of the address filter.
pub const FILTER_BITS: u32 = 1 << 16;
/// Words of the filter, 64 bits each.
pub const FILTER_ROWS: u32 = FILTER_BITS / 64;

/// Bit of an address in the filter: set for virtual addresses and for masqueraded servers, so that a
/// packet of no interest costs no look into the connection table. `fold` is the exclusive or of the
/// address's words.
#[inline(always)]
pub const fn filter_bit(fold: u32) -> u32 {
    fold.wrapping_mul(0x9e37_79b1) >> 16
}

/// The exclusive or of an address's words.
#[inline(always)]
pub const fn fold(addr: &super::AddrWords) -> u32 {
    let [a, b, c, d] = *addr;
    a ^ b ^ c ^ d
}
