// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame on the host, in a vector.

use std::vec::Vec;

use bytemuck::Pod;

use crate::packet::Packet;

/// A frame on the host.
#[derive(Debug)]
pub struct Frame<'a> {
    bytes: &'a mut Vec<u8>,
    ifindex: u32,
}

impl<'a> Frame<'a> {
    /// A frame of these bytes that came in by interface `ifindex`.
    pub fn new(bytes: &'a mut Vec<u8>, ifindex: u32) -> Self {
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

    fn change<T: Pod, R>(&mut self, offset: usize, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut value = self.load(offset)?;
        let result = change(&mut value);
        self.store(offset, value);
        Some(result)
    }

    fn has(&self, len: usize) -> bool {
        self.bytes.len() >= len
    }

    fn move_front(&mut self, by: isize) -> bool {
        if by >= 0 {
            self.bytes
                .splice(0..0, core::iter::repeat_n(0, by.unsigned_abs()));
        } else if self.bytes.len() >= by.unsigned_abs() {
            self.bytes.drain(..by.unsigned_abs());
        } else {
            return false;
        }
        true
    }

    fn truncate(&mut self, len: usize) -> bool {
        let enough = self.bytes.len() >= len;
        self.bytes.truncate(len);
        enough
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ifindex
    }
}
