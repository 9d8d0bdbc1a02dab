// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent sets when it loads the program, and nobody changes after.

use bytemuck::{Pod, Zeroable};

use crate::hash::HashKey;

/// Read-only data of the program. One value, so that one address leads to all of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Params {
    /// Key of the hash that chooses lines.
    pub hash_key: HashKey,
    /// Rows of `CONNS`.
    pub lines: u32,
    /// Rows of `CONNS6`.
    pub lines6: u32,
    /// A tick is 2 to the power of this many jiffies.
    pub tick_shift: u32,
    /// Zero.
    pub zero: u32,
}
