// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam to a frame's bytes: the driver's buffer in the kernel, a vector on the host.

use bytemuck::Pod;
use lb_common::wire::Macs;

/// A frame, from its Ethernet header on.
pub trait Packet {
    /// The header `T` at `offset`, or `None` if the frame ends before its last byte.
    ///
    /// VERIFIER: one bounds check and one early return a header; do not collect several results
    /// before looking at them.
    fn load<T: Pod>(&self, offset: usize) -> Option<T>;

    /// Overwrites the bytes at `offset`; `false` if the frame ends before the last of them.
    fn store<T: Pod>(&mut self, offset: usize, value: T) -> bool;

    /// Gives the frame new addresses; `false` if it has no room for them. The kernel writes them as the
    /// two words that they are in a real server's row.
    fn set_macs(&mut self, macs: Macs) -> bool {
        self.store(0, macs)
    }

    /// Changes the header `T` at `offset` in its place, by one bounds check. `None` if the frame ends
    /// before its last byte; else what `change` returns.
    fn change<T: Pod, R>(&mut self, offset: usize, change: impl FnOnce(&mut T) -> R) -> Option<R>;

    /// True if the frame has at least `len` bytes.
    fn has(&self, len: usize) -> bool;

    /// Moves the beginning of the frame outwards by `by` bytes (inwards if negative); what was read
    /// before is read anew. `false` if there is no room.
    fn move_front(&mut self, by: isize) -> bool;

    /// Cuts the frame to `len` bytes; `false` if it is shorter.
    fn truncate(&mut self, len: usize) -> bool;

    /// Index of the interface that the frame came in by.
    fn ingress_ifindex(&self) -> u32;
}
