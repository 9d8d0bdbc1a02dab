// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every packet needs, in one place.

use bytemuck::{Pod, Zeroable};

use super::{FILTER_ROWS, Link, MAX_LINKS, Settings};

/// The program's global data: the one value of the map `.bss`. Unlike a map's rows it is reached
/// without a lookup: its address stands in the program. The agent alone writes it, as a whole;
/// where nothing changes the same bytes are written again.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Shared {
    /// What holds for all services.
    pub settings: Settings,
    /// Bits by [`filter_bit`](super::filter_bit).
    pub filter: [u64; FILTER_ROWS as usize],
    /// By interface index.
    pub links: [Link; MAX_LINKS as usize],
}
