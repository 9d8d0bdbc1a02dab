// SPDX-License-Identifier: MIT OR Apache-2.0
//! An interface of the director.

use bytemuck::{Pod, Zeroable};

use crate::wire::Mac;

/// Row of `LINKS`, by interface index.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Link {
    /// The interface's own MAC: frames to another one are not ours (a bridge floods those), frames
    /// we send carry it as their source.
    pub mac: Mac,
    /// 1 if the agent has written this row.
    pub known: u8,
    /// Zero.
    pub zero: u8,
}
