// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam to a frame's bytes: the driver's buffer in the kernel, a slice on the host.

use bytemuck::Pod;

/// A frame, from its Ethernet header on.
pub trait Packet {
    /// The header `T` at `offset`, or `None` if the frame ends before its last byte.
    ///
    /// VERIFIER: one bounds check and one early return a header; do not collect several results
    /// before looking at them.
    fn load<T: Pod>(&self, offset: usize) -> Option<T>;

    /// Overwrites the bytes at `offset`; `false` if the frame ends before the last of them.
    fn store<T: Pod>(&mut self, offset: usize, value: T) -> bool;

    /// True if the frame has at least `len` bytes.
    fn has(&self, len: usize) -> bool;

    /// Index of the interface that the frame came in by.
    fn ingress_ifindex(&self) -> u32;
}

/// A frame on the host.
#[derive(Debug)]
pub struct Frame<'a> {
    bytes: &'a mut [u8],
    ifindex: u32,
}

impl<'a> Frame<'a> {
    /// A frame of these bytes that came in by interface `ifindex`.
    pub fn new(bytes: &'a mut [u8], ifindex: u32) -> Self {
        Self { bytes, ifindex }
    }
}

impl Packet for Frame<'_> {
    fn load<T: Pod>(&self, offset: usize) -> Option<T> {
        let bytes = self
            .bytes
            .get(offset..offset.checked_add(size_of::<T>())?)?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }

    fn store<T: Pod>(&mut self, offset: usize, value: T) -> bool {
        let end = offset.saturating_add(size_of::<T>());
        match self.bytes.get_mut(offset..end) {
            Some(bytes) => {
                bytes.copy_from_slice(bytemuck::bytes_of(&value));
                true
            }
            None => false,
        }
    }

    fn has(&self, len: usize) -> bool {
        self.bytes.len() >= len
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ifindex
    }
}
