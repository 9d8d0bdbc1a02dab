// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzz target: whatever a raw socket receives, judging it does not panic; and what is accepted is,
//! when sent again, accepted as the same.
//!
//! Input: a byte that chooses what the instance accepts, then the datagram: over IPv4 with its
//! header, over IPv6 behind a byte for the hop limit. `XLVS_FUZZ_SEEDS=DIR` writes seeds there.

#![no_main]

mod seeds;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use lb_agent::config::model::{Auth, Checksum, UnicastPeer, VrrpVersion};
use lb_agent::vrrp::packet::{Accept, Advert, Datagram, Style, decode, encode};
use libfuzzer_sys::fuzz_target;

const VRID: u8 = 51;
const SENDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SENDER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const US6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// What an instance may be configured to.
struct Instance {
    v6: bool,
    version: VrrpVersion,
    auth: Auth,
    peers: Vec<UnicastPeer>,
    addresses: Vec<IpAddr>,
}

impl Instance {
    fn of(choice: u8) -> Self {
        let v6 = choice & 1 != 0;
        let (peer, address): (IpAddr, IpAddr) = if v6 {
            (SENDER6.into(), Ipv6Addr::LOCALHOST.into())
        } else {
            (SENDER.into(), Ipv4Addr::LOCALHOST.into())
        };
        let unicast = choice & 4 != 0;
        Self {
            v6,
            version: if choice & 2 != 0 {
                VrrpVersion::V3
            } else {
                VrrpVersion::V2
            },
            auth: match choice >> 3 & 3 {
                0 | 1 => Auth::None,
                2 => Auth::Pass(*b"secret\0\0"),
                _ => Auth::Ah(*b"secret\0\0"),
            },
            peers: unicast
                .then(|| UnicastPeer::anywhere(peer))
                .into_iter()
                .collect(),
            addresses: vec![address],
        }
    }

    fn accept(&self) -> Accept<'_> {
        Accept {
            version: self.version,
            vrid: VRID,
            auth: &self.auth,
            interval: Duration::from_secs(1),
            peers: &self.peers,
            check_src: true,
            own: Some(if self.v6 { US6.into() } else { US.into() }),
            addresses: Some(&self.addresses),
        }
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        match (self.v6, self.peers.is_empty()) {
            (false, true) => (SENDER.into(), GROUP.into()),
            (false, false) => (SENDER.into(), US.into()),
            (true, true) => (SENDER6.into(), GROUP6.into()),
            (true, false) => (SENDER6.into(), US6.into()),
        }
    }

    fn datagram<'a>(&self, bytes: &'a [u8]) -> Option<Datagram<'a>> {
        if !self.v6 {
            return Datagram::v4(bytes);
        }
        let (hops, message) = bytes.split_first()?;
        match self.ends() {
            (IpAddr::V6(src), IpAddr::V6(dst)) => Some(Datagram::v6(src, dst, *hops, message)),
            _ => None,
        }
    }

    /// An advert's bytes as an input has them.
    fn input(&self, advert: &Advert, checksum: Checksum) -> Vec<u8> {
        let style = Style {
            checksum,
            sequence: 7,
            ..Style::default()
        };
        let mut bytes = Vec::new();
        if self.v6 {
            bytes.push(255);
        }
        bytes.extend(encode(advert, &style));
        bytes
    }
}

/// An advert for each choice, with none, one and two addresses.
fn write_seeds() {
    seeds::write((0..96).map(|n| {
        let choice = n % 32;
        let instance = Instance::of(choice);
        let (src, dst) = instance.ends();
        let advert = Advert {
            src,
            dst,
            version: instance.version,
            vrid: VRID,
            priority: 100,
            interval: Duration::from_secs(1),
            auth: instance.auth.clone(),
            addresses: vec![instance.addresses[0]; usize::from(n / 32)],
        };
        let mut input = vec![choice];
        input.extend(instance.input(&advert, Checksum::PseudoHeader));
        input
    }));
}

fuzz_target!(
    init: write_seeds(),
    |input: &[u8]| {
        let Some((choice, bytes)) = input.split_first() else {
            return;
        };
        let instance = Instance::of(*choice);
        let Some(datagram) = instance.datagram(bytes) else {
            return;
        };
        let _sender = datagram.peek();
        let Ok(mut received) = decode(&datagram, &instance.accept()) else {
            return;
        };
        // The machine takes no notice of an interval of 0, and we send none.
        let shortest = Duration::from_millis(10);
        received.advert.interval = received.advert.interval.max(shortest);
        let again = instance.input(&received.advert, received.checksum);
        let Some(datagram) = instance.datagram(&again) else {
            panic!("our own advert cannot be read: {again:02x?}");
        };
        match decode(&datagram, &instance.accept()) {
            Ok(twice) => assert_eq!(twice.advert, received.advert),
            Err(counter) => panic!("our own advert is refused: {counter:?}: {again:02x?}"),
        }
    }
);
