// SPDX-License-Identifier: MIT OR Apache-2.0
//! SYNs from addresses that nobody has, as fast as one thread can send them.
//!
//! In: where to. Out: how many left. The frames are valid, checksums and all: each is scheduled,
//! takes a place in the connection table and reaches a real server, which has no route to answer by.

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etherparse::PacketBuilder;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg, socket,
};
use xlvs_tests::lab::INTERFACE;

/// Frames handed to the kernel at once.
const BATCH: usize = 64;

/// Offsets into an untagged frame with an IPv4 header of 20 bytes.
const IP_CHECK: usize = 24;
const SOURCE: usize = 26;
const L4: usize = 34;
const TCP_CHECK: usize = L4 + 16;

/// Network for benchmarks (RFC 2544), from which all sources are.
const NETWORK: u32 = 0xc612_0000;
const NETWORK_MASK: u32 = 0xfffe_0000;

/// Who sends to whom.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) from_mac: [u8; 6],
    pub(crate) to_mac: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
}

/// Sends for `duration`, from the namespace of the calling thread. How many SYNs left.
pub(crate) fn flood(target: Target, duration: Duration) -> Result<u64> {
    let socket = open()?;
    let mut frames = vec![syn(target)?; BATCH];
    let mut random = fastrand::Rng::with_seed(1);
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < duration {
        for frame in &mut frames {
            readdress(frame, random.u32(..), random.u16(1024..));
        }
        let slices: Vec<[IoSlice<'_>; 1]> =
            frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut headers = MultiHeaders::<LinkAddr>::preallocate(BATCH, None);
        let nowhere = [None; BATCH];
        let flags = MsgFlags::empty();
        let results = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices.iter(),
            nowhere,
            [],
            flags,
        );
        match results {
            Ok(results) => sent += results.count() as u64,
            // The cable is full: the flood is as fast as it takes frames.
            Err(nix::Error::ENOBUFS) => {}
            Err(error) => return Err(error).context("cannot send SYNs"),
        }
    }
    Ok(sent)
}

/// A socket that only sends, by the interface of the calling thread's namespace.
fn open() -> Result<OwnedFd> {
    let raw = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    for interface in getifaddrs()? {
        let link = interface
            .address
            .as_ref()
            .and_then(|any| any.as_link_addr());
        if let (INTERFACE, Some(link)) = (interface.interface_name.as_str(), link) {
            bind(raw.as_raw_fd(), link)?;
            return Ok(raw);
        }
    }
    bail!("there is no interface {INTERFACE}")
}

fn syn(target: Target) -> Result<Vec<u8>> {
    let source = Ipv4Addr::from_bits(NETWORK).octets();
    let builder = PacketBuilder::ethernet2(target.from_mac, target.to_mac)
        .ipv4(source, target.address.octets(), 64)
        .tcp(0, target.port, 1, 65535)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[])?;
    Ok(frame)
}

/// Gives a SYN another source, and both checksums what they need (RFC 1624).
fn readdress(frame: &mut [u8], random: u32, port: u16) {
    let mut set = |at: usize, new: u16, sums: &[usize]| {
        let old = word(frame, at);
        frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
        for sum in sums {
            let sum_before = !word(frame, *sum);
            let total = u32::from(sum_before) + u32::from(!old) + u32::from(new);
            let total = (total & 0xffff) + (total >> 16);
            let total = (total & 0xffff) + (total >> 16);
            frame[*sum..*sum + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
        }
    };
    let source = NETWORK | random & !NETWORK_MASK;
    set(SOURCE, (source >> 16) as u16, &[IP_CHECK, TCP_CHECK]);
    set(SOURCE + 2, source as u16, &[IP_CHECK, TCP_CHECK]);
    set(L4, port, &[TCP_CHECK]);
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// What is sent must be what a real server's kernel takes: the flood would end at its checksums.
#[test]
fn a_syn_with_another_source_is_still_valid() {
    let target = Target {
        from_mac: [2; 6],
        to_mac: [4; 6],
        address: Ipv4Addr::new(192, 0, 2, 200),
        port: 80,
    };
    let mut frame = syn(target).unwrap();
    for random in [0, 1, 0xffff, 0xdead_beef, u32::MAX] {
        readdress(&mut frame, random, random as u16);
        let headers = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = &headers.net else {
            panic!("not IPv4");
        };
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let tcp = headers.transport.unwrap().tcp().unwrap();
        assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, &[]).unwrap());
        assert_eq!(u32::from_be_bytes(ip.source) & NETWORK_MASK, NETWORK);
    }
}
