// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an agent tells its supervisor that it holds: addresses, and adverts ready to be sent.
//!
//! In: [`Holdings`]. Out: bytes in a page of memory that both have open, and back. Written by the
//! agent, read by its supervisor once the agent is dead, and by the next agent. Invariants: there
//! are two halves, and the newest whole one counts, so an agent that dies while it writes leaves
//! what it wrote before; nothing that is read can make the reader panic or allocate more than the
//! page holds.
//!
//! ```text
//! half   number u64 · length u32 · checksum u32 · bytes
//! ```

use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Room for one half; what does not fit is left out.
pub const PAGE_MAX: usize = 1 << 20;
const HEAD: usize = 16;
const HALF: u64 = (HEAD + PAGE_MAX) as u64;

/// What an agent holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Process id of the agent that says so.
    pub pid: u32,
    /// How long its place may be held for it, from its end on.
    pub hold: Duration,
    /// Everything that an earlier agent held is decided: claimed again, or given up.
    pub settled: bool,
    /// Each MASTER.
    pub masters: Vec<Held>,
}

/// What one MASTER holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Name of the instance.
    pub name: String,
    /// Its `advert_int`.
    pub interval: Duration,
    /// Its advert, one for each destination; none if it cannot be repeated (AH).
    pub adverts: Vec<Frame>,
    /// The same with priority 0.
    pub releases: Vec<Frame>,
    /// Addresses that it added.
    pub addresses: Vec<Address>,
}

/// A datagram ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Interface that it leaves by.
    pub ifindex: u32,
    /// Behind an authentication header.
    pub authenticated: bool,
    /// Own address.
    pub src: IpAddr,
    /// Group or peer.
    pub dst: IpAddr,
    /// Hop limit of IPv6.
    pub hop_limit: u8,
    /// A whole IPv4 datagram, or a message over IPv6.
    pub bytes: Vec<u8>,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Interface.
    pub ifindex: u32,
    /// Address.
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// The other end of a point-to-point link; else the address itself.
    pub peer: IpAddr,
}

/// Writes the older half; `number` is one more than the last one's.
pub(super) fn write(file: &File, number: u64, holdings: &Holdings) -> io::Result<()> {
    let bytes = encode(holdings);
    let mut half = Vec::with_capacity(HEAD + bytes.len());
    half.extend(number.to_le_bytes());
    half.extend(u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
    half.extend(checksum(number, &bytes).to_le_bytes());
    half.extend(bytes);
    file.write_all_at(&half, number % 2 * HALF)
}

/// The newest whole half, with its number.
pub(super) fn read(file: &File) -> Option<(u64, Holdings)> {
    let halves = (0..2).filter_map(|at| read_half(file, at * HALF));
    halves.max_by_key(|(number, _)| *number)
}

fn read_half(file: &File, at: u64) -> Option<(u64, Holdings)> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, at).ok()?;
    let mut head = Reader(&head);
    let (number, length, sum) = (head.u64()?, head.u32()?, head.u32()?);
    let length = usize::try_from(length)
        .ok()
        .filter(|len| *len <= PAGE_MAX)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at + HEAD as u64).ok()?;
    (number > 0 && sum == checksum(number, &bytes)).then_some(())?;
    Some((number, decode(&bytes)?))
}

/// Tells a half that was torn by its writer's death; nobody forges it.
fn checksum(number: u64, bytes: &[u8]) -> u32 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(number);
    hasher.write(bytes);
    hasher.finish() as u32
}

/// As bytes, at most [`PAGE_MAX`]: instances that do not fit any more are left out.
pub(super) fn encode(holdings: &Holdings) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(holdings.pid.to_le_bytes());
    out.extend(nanos(holdings.hold).to_le_bytes());
    out.push(u8::from(holdings.settled));
    for held in &holdings.masters {
        let mut one = Vec::new();
        put(&mut one, held.name.as_bytes());
        one.extend(nanos(held.interval).to_le_bytes());
        for frames in [&held.adverts, &held.releases] {
            one.extend(count(frames.len()).to_le_bytes());
            for frame in frames {
                put_frame(&mut one, frame);
            }
        }
        one.extend(count(held.addresses.len()).to_le_bytes());
        for address in &held.addresses {
            one.extend(address.ifindex.to_le_bytes());
            put_ip(&mut one, address.addr);
            one.push(address.prefix_len);
            put_ip(&mut one, address.peer);
        }
        if out.len() + one.len() <= PAGE_MAX {
            out.extend(one);
        }
    }
    out
}

fn put_frame(out: &mut Vec<u8>, frame: &Frame) {
    out.extend(frame.ifindex.to_le_bytes());
    out.push(u8::from(frame.authenticated));
    put_ip(out, frame.src);
    put_ip(out, frame.dst);
    out.push(frame.hop_limit);
    put(out, &frame.bytes);
}

/// Length and bytes; no name and no datagram is longer than 65,535.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = count(bytes.len());
    out.extend(length.to_le_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
}

fn count(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Back from bytes; none if they are not what [`encode`] writes.
pub(super) fn decode(bytes: &[u8]) -> Option<Holdings> {
    let mut reader = Reader(bytes);
    let mut holdings = Holdings {
        pid: reader.u32()?,
        hold: Duration::from_nanos(reader.u64()?),
        settled: reader.u8()? != 0,
        masters: Vec::new(),
    };
    while !reader.0.is_empty() {
        holdings.masters.push(Held {
            name: String::from_utf8(reader.bytes()?.to_vec()).ok()?,
            interval: Duration::from_nanos(reader.u64()?),
            adverts: reader.many(Reader::frame)?,
            releases: reader.many(Reader::frame)?,
            addresses: reader.many(Reader::address)?,
        });
    }
    Some(holdings)
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    fn ip(&mut self) -> Option<IpAddr> {
        match self.u8()? {
            4 => Some(IpAddr::from(self.array::<4>()?)),
            6 => Some(IpAddr::from(self.array::<16>()?)),
            _ => None,
        }
    }

    fn many<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u16()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn frame(&mut self) -> Option<Frame> {
        Some(Frame {
            ifindex: self.u32()?,
            authenticated: self.u8()? != 0,
            src: self.ip()?,
            dst: self.ip()?,
            hop_limit: self.u8()?,
            bytes: self.bytes()?.to_vec(),
        })
    }

    fn address(&mut self) -> Option<Address> {
        Some(Address {
            ifindex: self.u32()?,
            addr: self.ip()?,
            prefix_len: self.u8()?,
            peer: self.ip()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use proptest::prelude::*;

    use super::*;

    fn holdings(pid: u32, masters: usize) -> Holdings {
        let frame = |dst: &str| Frame {
            ifindex: 7,
            authenticated: false,
            src: "10.0.0.1".parse().unwrap(),
            dst: dst.parse().unwrap(),
            hop_limit: 255,
            bytes: vec![0x45, 0, 0, 40],
        };
        let held = |at: usize| Held {
            name: format!("VI_{at}"),
            interval: Duration::from_millis(100),
            adverts: vec![frame("224.0.0.18"), frame("ff02::12")],
            releases: vec![frame("224.0.0.18")],
            addresses: vec![Address {
                ifindex: 3,
                addr: "2001:db8::1".parse().unwrap(),
                prefix_len: 64,
                peer: "2001:db8::2".parse().unwrap(),
            }],
        };
        Holdings {
            pid,
            hold: Duration::from_secs(3),
            settled: true,
            masters: (0..masters).map(held).collect(),
        }
    }

    fn page() -> File {
        memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap().into()
    }

    #[test]
    fn the_newest_whole_half_counts() {
        let file = page();
        assert_eq!(read(&file), None);
        for number in 1..=5 {
            let now = holdings(number, number as usize);
            write(&file, number.into(), &now).unwrap();
            assert_eq!(read(&file), Some((number.into(), now)));
        }
        // It dies while it writes the sixth.
        write(&file, 6, &holdings(6, 6)).unwrap();
        file.write_all_at(&[0xff; 4], HEAD as u64 + 20).unwrap();
        assert_eq!(read(&file), Some((5, holdings(5, 5))));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let bytes = encode(&holdings(1, 20_000));
        assert!(bytes.len() <= PAGE_MAX);
        let read = decode(&bytes).unwrap();
        assert!(read.masters.len() > 1000 && read.masters.len() < 20_000);
    }

    proptest! {
        #[test]
        fn whatever_is_read_does_not_panic(bytes: Vec<u8>, cut in 0usize..400) {
            let _ = decode(&bytes);
            let whole = encode(&holdings(1, 2));
            let _ = decode(whole.get(..cut.min(whole.len())).unwrap_or_default());
        }
    }
}
