// SPDX-License-Identifier: MIT OR Apache-2.0
//! The XDP program that lets every frame pass, for the far end of a director's cable.
//!
//! A veth takes frames that its peer sends by XDP_TX or XDP_REDIRECT only into a queue that
//! something drains. GRO makes the queue, but `veth_xdp_flush` (drivers/net/veth.c) wakes the
//! drain only where an XDP program is attached: without one the queue fills and, once full, takes
//! no ordinary frame either, and the cable is dead. A NIC has no such trap.

#![allow(
    unsafe_code,
    reason = "two bpf(2) calls, which have no safe wrapper here"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// `XDP_FLAGS_DRV_MODE`: in the driver, which is what makes the queue drain.
const NATIVE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`
static PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
static LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The first fields of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to interface `ifindex` of the calling thread's network namespace. It stays
/// until the returned link is dropped.
pub fn attach(ifindex: u32) -> Result<OwnedFd> {
    let load = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: PROGRAM.len() as u32,
        insns: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"lb_pass\0\0\0\0\0\0\0\0\0",
        prog_ifindex: 0,
        expected_attach_type: BPF_XDP,
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("cannot load the XDP program lb_pass")?;
    let link = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: ifindex,
        attach_type: BPF_XDP,
        flags: NATIVE,
    };
    bpf(BPF_LINK_CREATE, &link)
        .with_context(|| format!("cannot attach lb_pass to interface {ifindex}"))
}

/// One bpf(2) call that makes a descriptor.
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is laid out as the kernel reads it for `command`; its pointers are to statics.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
