// SPDX-License-Identifier: MIT OR Apache-2.0
//! Following live packets: a second set of the programs, which tells of each packet that a follower
//! wants to see, in the place of the first while somebody follows.
//!
//! It shares all maps, so connections and counters do not notice. It is loaded apart from the
//! agent's loop, for which the verifier takes too long. Invariant: what an agent that died left
//! attached goes on with the maps that are pinned; its successor attaches the plain program.

use std::borrow::BorrowMut;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::Xdp;
use lb_common::abi::{
    ABI_LAYOUT, ABI_VERSION, FAMILY_IPV4, FAMILY_IPV6, FOLLOW_DST, FOLLOW_DST_PORT, FOLLOW_NO_DEST,
    FOLLOW_NOT_IP, FOLLOW_ON, FOLLOW_PROTO, FOLLOW_SRC, FOLLOW_SRC_PORT, FOLLOW_STEP_PROGRAMS,
    FOLLOW_VERDICT, FollowEvent, FollowFilter, FollowMeter, MAX_FOLLOWERS, METHOD_DIRECT,
    METHOD_LOCAL, METHOD_NAT, METHOD_TUNNEL, STEP_COUNT, maps as names,
};
use lb_common::hash::HashKey;
use lb_common::verdict::Verdict;
use serde::{Deserialize, Serialize};

use super::maps::Abi;
use super::pins::Header;
use super::plan::{address, proto, words};
use super::{DataplaneError, load};
use crate::config::model::Protocol;

/// One end of the packets that somebody wants to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Address.
    pub address: IpAddr,
    /// Port, unless any will do.
    pub port: Option<u16>,
}

/// Which packets somebody wants to follow; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Where they come from, as they arrive.
    pub from: Option<End>,
    /// Where they go to, as they arrive.
    pub to: Option<End>,
    /// Protocol.
    pub protocol: Option<Protocol>,
    /// Name of their verdict.
    pub reason: Option<String>,
}

/// A packet that was followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// When it was decided on, seconds since 1970.
    pub time: f64,
    /// Interface that it came in by.
    pub interface: String,
    /// `TCP`, `UDP`, `SCTP`, another protocol's number, or absent.
    pub protocol: Option<String>,
    /// Source address, with its port where there is one.
    pub from: Option<String>,
    /// Destination address, with its port where there is one.
    pub to: Option<String>,
    /// TCP flags, as tcpdump writes them.
    pub flags: Option<String>,
    /// Length of the frame, bytes.
    pub length: u32,
    /// Name of the verdict.
    pub verdict: String,
    /// What it says.
    pub sentence: String,
    /// The real server that it was counted for.
    pub server: Option<SocketAddr>,
    /// `DR`, `NAT`, `TUN` or `local`.
    pub method: Option<String>,
    /// Interface that it was redirected to.
    pub out_interface: Option<String>,
}

/// The filter of what somebody wants; an error names what is wrong with it.
pub fn filter(wanted: &Wanted) -> Result<FollowFilter, String> {
    let mut filter = FollowFilter {
        by: FOLLOW_ON,
        ..FollowFilter::default()
    };
    let ends = [wanted.from, wanted.to].into_iter().flatten();
    let mut families = ends.map(|end| end.address.is_ipv4());
    if let (Some(one), Some(other)) = (families.next(), families.next())
        && one != other
    {
        return Err("source and destination are of different families".to_owned());
    }
    let family = |address: IpAddr| match address {
        IpAddr::V4(_) => FAMILY_IPV4,
        IpAddr::V6(_) => FAMILY_IPV6,
    };
    if let Some(end) = wanted.from {
        filter.by |= FOLLOW_SRC;
        filter.family = family(end.address);
        filter.src = words(end.address);
        if let Some(port) = end.port {
            filter.by |= FOLLOW_SRC_PORT;
            filter.src_port = port.to_be();
        }
    }
    if let Some(end) = wanted.to {
        filter.by |= FOLLOW_DST;
        filter.family = family(end.address);
        filter.dst = words(end.address);
        if let Some(port) = end.port {
            filter.by |= FOLLOW_DST_PORT;
            filter.dst_port = port.to_be();
        }
    }
    if let Some(protocol) = wanted.protocol {
        filter.by |= FOLLOW_PROTO;
        filter.proto = proto(protocol);
    }
    if let Some(reason) = &wanted.reason {
        filter.by |= FOLLOW_VERDICT;
        filter.verdict = verdict(reason)? as u8;
    }
    Ok(filter)
}

/// The verdict of this name; an error lists all names.
pub fn verdict(name: &str) -> Result<Verdict, String> {
    let found = Verdict::ALL.iter().find(|verdict| verdict.name() == name);
    found.copied().ok_or_else(|| {
        let all: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        format!(
            "no verdict is called {name:?}; there are {}",
            all.join(", ")
        )
    })
}

/// What it takes to load the second set; may go to another thread.
pub struct Plan {
    pub(super) header: Header,
    /// Where the maps are pinned that it shares.
    pub(super) places: Vec<(String, PathBuf)>,
}

impl Plan {
    /// With maps of its own, which nobody forwards by: to hear what the verifier says.
    pub fn apart() -> Self {
        Self {
            header: Header {
                version: ABI_VERSION,
                layout: ABI_LAYOUT,
                max_conns: 1024,
                tick_shift: 0,
                key: HashKey::default(),
                number: 0,
            },
            places: Vec::new(),
        }
    }

    /// Loads it. The verifier may take seconds.
    pub fn load(self) -> Result<Following, DataplaneError> {
        let mut ebpf = load::object(&self.header, &self.places)?;
        load::verify(
            &mut ebpf,
            &[&[names::FOLLOW], &FOLLOW_STEP_PROGRAMS[..]].concat(),
        )?;
        let mut steps: ProgramArray<MapData> = take(&mut ebpf, names::FOLLOW_STEPS)?;
        for (index, name) in (0..).zip(FOLLOW_STEP_PROGRAMS) {
            let program = load::named(&mut ebpf, name)?;
            steps
                .set(index, program.fd()?, 0)
                .map_err(|source| DataplaneError::Map {
                    map: names::FOLLOW_STEPS,
                    source,
                })?;
        }
        let mut following = Following {
            filters: take(&mut ebpf, names::FOLLOW_FILTERS)?,
            meter: take(&mut ebpf, names::FOLLOW_METER)?,
            events: Some(take(&mut ebpf, names::FOLLOW_EVENTS)?),
            steps,
            ebpf,
        };
        // What an agent that died was asked for.
        for row in 0..MAX_FOLLOWERS {
            following.set_filter(row, None)?;
        }
        Ok(following)
    }
}

/// The second set, loaded.
pub struct Following {
    ebpf: Ebpf,
    steps: ProgramArray<MapData>,
    filters: Array<MapData, Abi<FollowFilter>>,
    meter: PerCpuArray<MapData, Abi<FollowMeter>>,
    events: Option<RingBuf<MapData>>,
}

impl Following {
    /// Its entry point.
    pub(super) fn program(&mut self) -> Result<&mut Xdp, DataplaneError> {
        load::named(&mut self.ebpf, names::FOLLOW)
    }

    /// What the verifier said of each of its programs, by name.
    pub fn programs(&self) -> Result<Vec<(&'static str, super::ProgramInfo)>, DataplaneError> {
        let all = [names::FOLLOW].into_iter().chain(FOLLOW_STEP_PROGRAMS);
        load::infos(&self.ebpf, all)
    }

    /// Where the events come; only once.
    pub fn take_events(&mut self) -> Option<RingBuf<MapData>> {
        let mut events = self.events.take()?;
        // What an agent before this one did not read.
        while events.next().is_some() {}
        Some(events)
    }

    /// Begins to follow by a row, or (`None`) ends it.
    pub fn set_filter(
        &mut self,
        row: u32,
        filter: Option<FollowFilter>,
    ) -> Result<(), DataplaneError> {
        let filter = Abi(filter.unwrap_or_default());
        self.filters
            .set(row, filter, 0)
            .map_err(|source| DataplaneError::Map {
                map: names::FOLLOW_FILTERS,
                source,
            })
    }

    /// Packets that were not told of by a row, since the maps were made.
    pub fn lost(&self, row: u32) -> u64 {
        let Ok(cpus) = self.meter.get(&0, 0) else {
            return 0;
        };
        let lost = |Abi(meter): &Abi<FollowMeter>| meter.lost.get(row as usize).copied();
        cpus.iter().filter_map(lost).sum()
    }

    /// Lets go of the programs, which the pinned array would keep.
    pub(super) fn end(mut self) {
        clear(&mut self.steps);
    }
}

fn clear<T: BorrowMut<MapData>>(steps: &mut ProgramArray<T>) {
    for index in 0..STEP_COUNT {
        // Nothing may be there.
        let _ = steps.clear_index(&index);
    }
}

/// Lets go of the programs of a dead agent, which none is attached of any more.
pub(super) fn forget(ebpf: &mut Ebpf) {
    if let Some(map) = ebpf.map_mut(names::FOLLOW_STEPS)
        && let Ok(mut steps) = ProgramArray::try_from(map)
    {
        clear(&mut steps);
    }
}

fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, DataplaneError>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or(DataplaneError::Missing(name))?;
    M::try_from(map).map_err(|source| DataplaneError::Map { map: name, source })
}

/// An event in words. `boot` is the time of boot in seconds since 1970.
pub(super) fn describe(event: &FollowEvent, boot: f64, name: impl Fn(u32) -> String) -> Followed {
    let is_ip = event.family != FOLLOW_NOT_IP;
    let end = |words, port: u16| {
        is_ip.then(|| {
            let address = address(words, event.family);
            if event.has_ports == 0 {
                address.to_string()
            } else {
                SocketAddr::new(address, u16::from_be(port)).to_string()
            }
        })
    };
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|known| proto(*known) == event.proto);
    let verdict = Verdict::from_code(event.verdict);
    let chosen = event.dest != FOLLOW_NO_DEST;
    let port = if event.server_port == 0 {
        event.dst_port
    } else {
        event.server_port
    };
    Followed {
        time: boot + event.time_ns as f64 / 1e9,
        interface: name(event.ifindex),
        protocol: is_ip
            .then(|| protocol.map_or_else(|| event.proto.to_string(), |known| known.to_string())),
        from: end(event.src, event.src_port),
        to: end(event.dst, event.dst_port),
        flags: (event.has_ports != 0 && protocol == Some(Protocol::Tcp))
            .then(|| tcp_flags(event.what)),
        length: event.frame_len,
        verdict: verdict.name().to_owned(),
        sentence: verdict.sentence().trim().to_owned(),
        server: chosen.then(|| {
            SocketAddr::new(
                address(event.server, event.server_family),
                u16::from_be(port),
            )
        }),
        method: chosen.then(|| method(event.method).to_owned()),
        out_interface: (event.out_ifindex != 0).then(|| name(event.out_ifindex)),
    }
}

fn method(code: u8) -> &'static str {
    match code {
        METHOD_DIRECT => "DR",
        METHOD_NAT => "NAT",
        METHOD_TUNNEL => "TUN",
        METHOD_LOCAL => "local",
        _ => "unknown",
    }
}

/// As tcpdump writes them.
fn tcp_flags(flags: u8) -> String {
    const LETTERS: [(u8, char); 8] = [
        (0x01, 'F'),
        (0x02, 'S'),
        (0x04, 'R'),
        (0x08, 'P'),
        (0x20, 'U'),
        (0x40, 'E'),
        (0x80, 'W'),
        (0x10, '.'),
    ];
    let set = LETTERS.iter().filter(|(bit, _)| flags & bit != 0);
    let text: String = set.map(|(_, letter)| letter).collect();
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    #[test]
    fn what_is_wanted_becomes_a_filter() {
        let end = |address: &str, port| {
            Some(End {
                address: address.parse().unwrap(),
                port,
            })
        };
        let wanted = Wanted {
            from: end("192.0.2.1", None),
            to: end("192.0.2.9", Some(80)),
            protocol: Some(Protocol::Udp),
            reason: Some("drop_ttl_expired".to_owned()),
        };
        let filter_of = |wanted| filter(&wanted);
        let row = filter_of(wanted.clone()).unwrap();
        let by = FOLLOW_ON | FOLLOW_SRC | FOLLOW_DST | FOLLOW_DST_PORT | FOLLOW_PROTO;
        assert_eq!(row.by, by | FOLLOW_VERDICT);
        assert_eq!((row.family, row.proto, row.verdict), (4, 17, 12));
        assert_eq!(row.dst_port, 80_u16.to_be());
        assert_eq!(filter_of(Wanted::default()).unwrap().by, FOLLOW_ON);
        let mixed = Wanted {
            from: end("2001:db8::1", None),
            ..wanted.clone()
        };
        assert!(filter_of(mixed).unwrap_err().contains("families"));
        let unknown = Wanted {
            reason: Some("bad_luck".to_owned()),
            ..wanted
        };
        assert!(filter_of(unknown).unwrap_err().contains("drop_ttl_expired"));
    }

    #[test]
    fn an_event_says_what_happened() {
        let name = |index: u32| format!("if{index}");
        let mut event = FollowEvent {
            time_ns: 1_500_000_000,
            src: words("192.0.2.1".parse().unwrap()),
            dst: words("192.0.2.9".parse().unwrap()),
            server: words("10.0.0.1".parse().unwrap()),
            src_port: 1000_u16.to_be(),
            dst_port: 80_u16.to_be(),
            ifindex: 2,
            out_ifindex: 3,
            family: FAMILY_IPV4,
            server_family: FAMILY_IPV4,
            proto: 6,
            what: 0x12,
            has_ports: 1,
            verdict: Verdict::Redirect as u8,
            method: lb_common::abi::METHOD_NAT,
            ..FollowEvent::zeroed()
        };
        let said = describe(&event, 100.0, name);
        assert!((said.time - 101.5).abs() < 1e-9);
        assert_eq!(said.from.as_deref(), Some("192.0.2.1:1000"));
        assert_eq!(said.protocol.as_deref(), Some("TCP"));
        assert_eq!(said.flags.as_deref(), Some("S."));
        assert_eq!(said.server, Some("10.0.0.1:80".parse().unwrap()));
        assert_eq!(said.method.as_deref(), Some("NAT"));
        assert_eq!(said.out_interface.as_deref(), Some("if3"));
        event.has_ports = 0;
        event.proto = 1;
        event.dest = FOLLOW_NO_DEST;
        let said = describe(&event, 100.0, name);
        assert_eq!(said.from.as_deref(), Some("192.0.2.1"));
        assert_eq!(said.protocol.as_deref(), Some("1"));
        assert_eq!((said.flags, said.server, said.method), (None, None, None));
        event.family = FOLLOW_NOT_IP;
        assert_eq!(describe(&event, 100.0, name).from, None);
    }
}
