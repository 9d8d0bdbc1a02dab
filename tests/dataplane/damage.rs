// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets for the world of `world.rs` as a network could deliver them: half of them sound, the rest
//! malformed, truncated or for somebody else. Written byte by byte, because no library builds what
//! is wrong; a seed gives the same packets again.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;
use lb_agent::config::model::Protocol;

use crate::frames::{CLIENT_MAC, DIRECTOR_MAC};
use crate::world::{Kind, vip};

/// Of every datagram, so that fragments find one another.
const IDENTIFICATION: u8 = 7;

/// Makes frames.
pub(crate) struct Generator {
    rng: Rng,
    kinds: Vec<Kind>,
    /// In a damaged packet every field may be wrong.
    damaged: bool,
    /// It is a fragment.
    cut: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64, kinds: Vec<Kind>) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            kinds,
            damaged: false,
            cut: false,
        }
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        self.damaged = self.rng.bool();
        self.cut = self.rng.u8(..8) == 0;
        let (from, to, protocol) = self.ends();
        let number = match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let number = if self.one_in(20) {
            self.pick(&[1, 2, 4, 6, 17, 41, 47, 50, 51, 58, 112, 132, 255])
        } else {
            number
        };
        let transport = self.transport(number, from.port(), to.port());
        let datagram = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                self.ipv4(number, from.octets(), to.octets(), &transport)
            }
            (from, to) => self.ipv6(number, octets(from), octets(to), &transport),
        };
        let mut frame = self.link(from.is_ipv4());
        frame.extend(datagram);
        // Ethernet pads short frames.
        if frame.len() < 60 && self.rng.bool() {
            frame.resize(60, 0);
        }
        self.spoil(frame)
    }

    /// True once in so many packets, and for damaged ones only.
    fn one_in(&mut self, n: u32) -> bool {
        self.damaged && self.rng.u32(..n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.rng.u8(..)).collect()
    }

    /// A client and a service, or a masqueraded server and a client.
    fn ends(&mut self) -> (SocketAddr, SocketAddr, Protocol) {
        let number = self.rng.usize(..self.kinds.len());
        let kind = self.kinds[number].clone();
        let id = kind.service.id;
        let v6 = id.addr.is_ipv6();
        let client = self.client(v6);
        let any_port = self.rng.u16(1..2000);
        let or_any = |port: u16| if port == 0 { any_port } else { port };
        if kind.is_nat() && self.rng.bool() {
            let server = kind.service.servers[self.rng.usize(..kind.service.servers.len())].addr;
            let server = SocketAddr::new(server.ip(), or_any(server.port()));
            return (server, client, id.protocol);
        }
        let mut to = SocketAddr::new(id.addr, or_any(id.port));
        if self.one_in(10) {
            to.set_ip(vip(v6, self.rng.u8(..6)));
        }
        if self.one_in(20) {
            to.set_port(self.rng.u16(..));
        }
        (client, to, id.protocol)
    }

    /// Few enough that many a packet belongs to a connection, many enough that the table overflows.
    /// The table of fragments must not, because only the kernel's makes room.
    fn client(&mut self, v6: bool) -> SocketAddr {
        let n = self.rng.u16(..if self.cut { 64 } else { 1024 });
        let addr: IpAddr = if v6 {
            IpAddr::from([0x2001, 0xdb8, 9 + n / 256, 0, 0, 0, 0, n % 256])
        } else {
            IpAddr::from([192, 0, 2 + (n / 256) as u8, n as u8])
        };
        SocketAddr::new(addr, 40_000 + self.rng.u16(..4))
    }

    fn link(&mut self, v4: bool) -> Vec<u8> {
        let mut frame = DIRECTOR_MAC.to_vec();
        if self.one_in(20) {
            frame = self
                .pick(&[[0xff; 6], CLIENT_MAC, [1, 0, 0x5e, 0, 0, 18]])
                .to_vec();
        }
        frame.extend(CLIENT_MAC);
        let most = if self.damaged { 4 } else { 2 };
        let tags = if self.rng.u8(..4) == 0 {
            self.rng.u8(..=most)
        } else {
            0
        };
        for _ in 0..tags {
            let known = self.pick(&[0x8100_u16, 0x88a8]);
            let tag = if self.one_in(10) { 0x9100 } else { known };
            frame.extend(tag.to_be_bytes());
            frame.extend(self.rng.u16(..).to_be_bytes());
        }
        let mut ethertype: u16 = if v4 { 0x0800 } else { 0x86dd };
        if self.one_in(20) {
            ethertype = self.pick(&[0x0800, 0x86dd, 0x0806, 0x88cc, 0x8847, 0x8100, 0x0040, 0]);
        }
        frame.extend(ethertype.to_be_bytes());
        frame
    }

    /// A length field: right, but for one damaged packet in ten.
    fn length(&mut self, right: usize) -> u16 {
        let right = right as u16;
        if !self.one_in(10) {
            return right;
        }
        let near = self.rng.u16(..64);
        let any = self.rng.u16(..);
        self.pick(&[
            0,
            1,
            8,
            19,
            20,
            39,
            40,
            right.wrapping_sub(near),
            right.wrapping_add(near),
            any,
            0xffff,
        ])
    }

    fn hops(&mut self) -> u8 {
        if self.one_in(12) {
            self.pick(&[0, 1, 2, 255])
        } else {
            64
        }
    }

    fn ipv4(&mut self, number: u8, from: [u8; 4], to: [u8; 4], transport: &[u8]) -> Vec<u8> {
        let options = if self.rng.u8(..6) == 0 {
            4 * self.rng.usize(..=10)
        } else {
            0
        };
        let header = 20 + options;
        let mut first = 0x40 | (header / 4) as u8;
        if self.one_in(20) {
            first = self.rng.u8(..);
        }
        let mut fragment = self.pick(&[0_u16, 0x4000]);
        if self.cut {
            let (eights, more) = self.place();
            fragment = eights | u16::from(more) << 13;
        }
        if self.one_in(10) {
            fragment = self.pick(&[0x2000, 0x6000, 0x0001, 0x1fff, 0x8000, 0x2001, 0xc000]);
        }
        let mut ip = vec![first, self.rng.u8(..)];
        ip.extend(self.length(header + transport.len()).to_be_bytes());
        ip.extend([0, IDENTIFICATION]);
        ip.extend(fragment.to_be_bytes());
        ip.extend([self.hops(), number, 0, 0]);
        ip.extend(from);
        ip.extend(to);
        ip.extend(self.bytes(options));
        let check = checksum(&ip);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        ip.extend(transport);
        ip
    }

    /// A fragment's offset (8-byte units) and whether more follow.
    fn place(&mut self) -> (u16, bool) {
        self.pick(&[(0, true), (0, true), (3, true), (64, false), (0, false)])
    }

    fn ipv6(&mut self, number: u8, from: [u8; 16], to: [u8; 16], transport: &[u8]) -> Vec<u8> {
        let (first, extensions) = if self.cut {
            self.fragment_header(number)
        } else {
            self.extensions(number)
        };
        let mut version = 0x60 | self.rng.u8(..16);
        if self.one_in(20) {
            version = self.rng.u8(..);
        }
        let mut ip = vec![version, self.rng.u8(..), self.rng.u8(..), self.rng.u8(..)];
        let len = self.length(extensions.len() + transport.len());
        ip.extend(len.to_be_bytes());
        ip.extend([first, self.hops()]);
        ip.extend(from);
        ip.extend(to);
        ip.extend(extensions);
        ip.extend(transport);
        ip
    }

    /// A fragment header, of damaged packets maybe behind or before another one.
    fn fragment_header(&mut self, number: u8) -> (u8, Vec<u8>) {
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        let (eights, more) = self.place();
        let place = eights << 3 | u16::from(more);
        let [high, low] = place.to_be_bytes();
        let options = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
        let fragment = |next: u8| vec![next, 0, high, low, 0, 0, 0, IDENTIFICATION];
        match self.rng.u8(..6) {
            0 if self.damaged => (DESTINATION, [options(FRAGMENT), fragment(number)].concat()),
            1 if self.damaged => (FRAGMENT, [fragment(DESTINATION), options(number)].concat()),
            _ => (FRAGMENT, fragment(number)),
        }
    }

    /// The number of the first extension header, and all of them.
    fn extensions(&mut self, number: u8) -> (u8, Vec<u8>) {
        const HOP_BY_HOP: u8 = 0;
        let count = match self.rng.u8(..5) {
            0 => self.rng.usize(1..=if self.damaged { 7 } else { 4 }),
            _ => 0,
        };
        let mut numbers: Vec<u8> = Vec::new();
        for place in 0..count {
            let usual = if place == 0 { HOP_BY_HOP } else { 43 };
            let usual = self.pick(&[usual, 43, 60]);
            let odd = self.pick(&[0, 44, 50, 51, 59, 135, 139, 140, 253]);
            numbers.push(if self.one_in(6) { odd } else { usual });
        }
        numbers.push(number);
        let mut headers = Vec::new();
        for following in &numbers[1..] {
            let usual = self.rng.u8(..4);
            let eights = if self.one_in(8) {
                self.pick(&[4, 127, 254, 255])
            } else {
                usual
            };
            headers.extend([*following, eights]);
            let rest = 8 * (usize::from(eights) + 1) - 2;
            // A long header, or one that says it is long.
            let there = if rest > 64 && self.rng.bool() {
                6
            } else {
                rest
            };
            headers.extend(self.bytes(there));
        }
        (numbers[0], headers)
    }

    fn transport(&mut self, number: u8, from: u16, to: u16) -> Vec<u8> {
        let payload = self.payload();
        let mut packet = from.to_be_bytes().to_vec();
        packet.extend(to.to_be_bytes());
        match number {
            6 => {
                let options = 4 * self.pick(&[0, 0, 0, 1, 5, 10]);
                let mut words = 5 + options / 4;
                if self.one_in(8) {
                    words = self.rng.usize(..16);
                }
                let odd = self.rng.u8(..);
                let usual = self.pick(&[0x02, 0x02, 0x10, 0x18, 0x11, 0x04, 0x12, 0xc2]);
                let flags = if self.one_in(5) { odd } else { usual };
                packet.extend(self.bytes(8));
                packet.extend([(words << 4) as u8, flags]);
                packet.extend(self.bytes(6 + options));
            }
            17 => {
                let len = self.length(8 + payload.len());
                packet.extend(len.to_be_bytes());
                packet.extend(self.pick(&[0_u16, 0x1234, 0xffff]).to_be_bytes());
            }
            132 => {
                packet.extend(self.bytes(8));
                let usual = self.pick(&[1, 1, 10, 0, 14, 7, 6]);
                let odd = self.rng.u8(..);
                packet.extend([if self.one_in(8) { odd } else { usual }, 0]);
                packet.extend(self.length(4 + payload.len()).to_be_bytes());
            }
            1 | 58 => {
                let kind = self.pick(&[8, 0, 3, 11, 12, 128, 129, 1, 2, 135, 136]);
                packet = vec![kind, self.rng.u8(..5)];
                packet.extend(self.bytes(6));
                // What an error quotes.
                packet.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
                packet.extend(self.bytes(20));
            }
            _ => {}
        }
        packet.extend(payload);
        packet
    }

    /// Most are short, some are about as long as a tunnel takes, a few are longer than a page.
    fn payload(&mut self) -> Vec<u8> {
        let len = match self.rng.u8(..100) {
            0..90 => self.rng.usize(..64),
            90..98 => self.rng.usize(1350..1480),
            98 => self.rng.usize(1480..3000),
            _ => self.rng.usize(3000..9000),
        };
        vec![self.rng.u8(..); len]
    }

    /// Cuts the frame, or changes a few bytes of its headers.
    fn spoil(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        if self.one_in(5) {
            let headers = frame.len().min(100);
            frame.truncate(self.rng.usize(..=headers));
        }
        if self.one_in(5) {
            for _ in 0..self.rng.u8(1..4) {
                let headers = frame.len().clamp(1, 100);
                let (at, byte) = (self.rng.usize(..headers), self.rng.u8(..));
                if let Some(there) = frame.get_mut(at) {
                    *there = byte;
                }
            }
        }
        frame
    }
}

fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
