// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers' end of a tunnel, in user space: for kernels without ipip, GRE and GUE of their own.
//!
//! ```text
//! eth0 ─▸ raw socket (IPIP, GRE), UDP socket (GUE) ─▸ outer header off ─▸ tun device ─▸ the stack
//! ```
//!
//! In: a host, the kind of tunnel. Out: inner datagrams, as if they had come in by a device.
//! Checksums are looked at: the kernel does it for UDP, this file for GRE.

#![expect(
    unsafe_code,
    reason = "an ioctl and a socket option that have no safe wrapper here"
)]

use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::echo::inside;
use crate::lab::Host;

/// How often a waiting thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

const IPIP: i32 = 4;
const IPV6: i32 = 41;
const GRE: i32 = 47;

/// linux/udp.h
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// The threads of a host's end of the tunnels.
#[derive(Debug)]
pub(crate) struct Decapsulator {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What stands between the outer IP header and the inner one.
#[derive(Clone, Copy)]
enum Between {
    Nothing,
    Gre,
    Gue,
}

impl Decapsulator {
    /// Takes IPIP, GRE and, on this UDP port, GUE, in both families.
    pub(crate) fn start(host: &Host, device: &str, gue_port: u16) -> Result<Self> {
        let mut this = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let (tun, sockets) = inside(host.namespace(), || {
            let mut sockets = Vec::new();
            for domain in [Domain::IPV4, Domain::IPV6] {
                for (protocol, between) in [
                    (IPIP, Between::Nothing),
                    (IPV6, Between::Nothing),
                    (GRE, Between::Gre),
                ] {
                    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
                    sockets.push((socket, domain, between));
                }
                let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
                let any = if domain == Domain::IPV4 {
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, gue_port))
                } else {
                    socket.set_only_v6(true)?;
                    take_without_checksum(&socket)?;
                    SocketAddr::from((Ipv6Addr::UNSPECIFIED, gue_port))
                };
                socket.bind(&any.into())?;
                sockets.push((socket, domain, Between::Gue));
            }
            Ok((open_tun(device)?, sockets))
        })?;
        for (socket, domain, between) in sockets {
            socket.set_read_timeout(Some(LOOK))?;
            socket.set_recv_buffer_size(4 << 20)?;
            let (stop, tun) = (Arc::clone(&this.stop), tun.try_clone()?);
            // A raw IPv4 socket hands up the outer header; the others do not.
            let has_header = domain == Domain::IPV4 && !matches!(between, Between::Gue);
            this.threads.push(thread::spawn(move || {
                work(&socket, has_header, between, tun, &stop);
            }));
        }
        Ok(this)
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(socket: &Socket, has_header: bool, between: Between, mut tun: File, stop: &AtomicBool) {
    let mut buffer = vec![MaybeUninit::new(0_u8); 65536];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        // SAFETY: every byte of the buffer is initialised.
        let bytes = unsafe { buffer[..length].assume_init_ref() };
        let payload = if has_header {
            bytes.first().and_then(|first| {
                let header = usize::from(first & 0xf) * 4;
                bytes.get(header..)
            })
        } else {
            Some(bytes)
        };
        if let Some(inner) = payload.and_then(|payload| inner(payload, between)) {
            let _ = tun.write(inner);
        }
    }
}

/// The inner datagram; nothing where the headers are not what they should be.
fn inner(payload: &[u8], between: Between) -> Option<&[u8]> {
    match between {
        Between::Nothing => Some(payload),
        // RFC 2784: the first bit says whether there is a checksum.
        Between::Gre if payload.first()? & 0x80 != 0 => {
            (sum(payload) == 0xffff).then(|| payload.get(8..)).flatten()
        }
        Between::Gre => payload.get(4..),
        // draft-ietf-intarea-gue: the length of the optional fields is in words.
        Between::Gue => payload.get(4 + usize::from(payload.first()? & 0x1f) * 4..),
    }
}

/// The one's complement sum: all ones where a checksum in it is right.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// RFC 6935: tunnels may do without a checksum over IPv6; other sockets refuse such datagrams.
fn take_without_checksum(socket: &Socket) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a `c_int` that lives during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_UDP,
            UDP_NO_CHECK6_RX,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot set UDP_NO_CHECK6_RX");
    }
    Ok(())
}

/// Makes a tun device of the calling thread's namespace; it goes with the file.
fn open_tun(name: &str) -> Result<File> {
    let path = "/dev/net/tun";
    let file = File::options().read(true).write(true).open(path);
    let file = file.with_context(|| format!("cannot open {path}"))?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    // linux/if_tun.h: datagrams without a header of the device's own.
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the request is as large as `struct ifreq` and lives during the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_ptr()) } < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make a tun device");
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_gre_checksum_is_refused() {
        let mut packet = vec![0x80, 0, 8, 0, 0, 0, 0, 0, 0x45, 1, 2];
        let check = !sum(&packet);
        packet[4..6].copy_from_slice(&check.to_be_bytes());
        assert_eq!(inner(&packet, Between::Gre), Some(&[0x45, 1, 2][..]));
        packet[9] ^= 1;
        assert_eq!(inner(&packet, Between::Gre), None);
    }
}
