// SPDX-License-Identifier: MIT OR Apache-2.0
//! An array map as memory of this process, shared with the packet program.
//!
//! Invariant: words are only used as atomics, so that neither side is in the other's way.

#![allow(
    unsafe_code,
    reason = "mmap of a map, and words that the packet program writes at the same time"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use aya::maps::{Map, MapData};

use super::DataplaneError;

/// The words of an array map that was made with `BPF_F_MMAPABLE`.
pub(super) struct Mapped {
    start: NonNull<u64>,
    words: usize,
    /// Keeps the map alive.
    _map: Map,
}

// SAFETY: the mapping belongs to this value alone, and its words are only used as atomics.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps an array whose values are `value_size` bytes, a multiple of 8.
    pub(super) fn open(
        map: Map,
        name: &'static str,
        value_size: usize,
    ) -> Result<Self, DataplaneError> {
        let Map::Array(data) = &map else {
            return Err(DataplaneError::Missing(name));
        };
        let info = data
            .info()
            .map_err(|source| DataplaneError::Map { map: name, source })?;
        if info.value_size() as usize != value_size {
            return Err(DataplaneError::Missing(name));
        }
        let words = info.max_entries() as usize * value_size / 8;
        let start = map_memory(data, words * 8).map_err(DataplaneError::Conns)?;
        Ok(Self {
            start,
            words,
            _map: map,
        })
    }

    /// Number of words.
    pub(super) fn len(&self) -> usize {
        self.words
    }

    /// A word; `None` behind the end.
    pub(super) fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.words {
            return None;
        }
        // SAFETY: inside the mapping, which lives as long as `self`, and 8-aligned.
        Some(unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(index)) })
    }
}

fn map_memory(data: &MapData, len: usize) -> io::Result<NonNull<u64>> {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            data.fd().as_fd().as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: what `open` mapped; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}
