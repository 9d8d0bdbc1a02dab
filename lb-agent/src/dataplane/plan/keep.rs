// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a successor of this agent has to know of a plan: how it is written down, and how it is
//! brought up to date with the maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::abi::{DEST_IPV6, Dest, FAMILY_IPV4, FAMILY_IPV6, METHOD_LOCAL, Tunnel};

use super::rows::address;
use super::{NextHopRow, Plan};
use crate::config::model::ForwardMethod;

impl Plan {
    /// Takes over the next hops that `rows` finds in the maps: they change more often than the plan
    /// is written down.
    pub fn adopt(&mut self, rows: impl Fn(u32) -> Option<(Dest, Tunnel)>) {
        for dest in self.dests.values_mut() {
            let Some((row, tunnel)) = rows(dest.id) else {
                continue;
            };
            if row.generation == dest.row.generation {
                (dest.row, dest.tunnel) = (row, tunnel);
            }
        }
    }

    /// Addresses of masqueraded servers, whose replies come back through the director.
    pub fn masqueraded(&self) -> impl Iterator<Item = IpAddr> {
        let masqueraded = self
            .dests
            .keys()
            .filter(|key| key.method == ForwardMethod::Nat);
        masqueraded.map(|key| key.addr.ip())
    }

    /// Where frames to each server go at the moment.
    pub fn next_hops(&self) -> BTreeMap<IpAddr, NextHopRow> {
        let known = |(key, dest): (&super::DestKey, &super::DestState)| {
            let Dest {
                method,
                flags,
                ifindex,
                ..
            } = dest.row;
            let macs = dest.row.macs();
            let local = method == METHOD_LOCAL;
            let family = if flags & DEST_IPV6 == 0 {
                FAMILY_IPV4
            } else {
                FAMILY_IPV6
            };
            let source = (dest.tunnel.local != [0; 4]).then(|| address(dest.tunnel.local, family));
            (macs.is_some() || local).then_some((
                key.addr.ip(),
                NextHopRow {
                    ifindex,
                    mac: macs.map(|macs| macs.dst().bytes()),
                    from: macs.unwrap_or_default().src().bytes(),
                    local,
                    source,
                    mtu: dest.tunnel.mtu.into(),
                },
            ))
        };
        self.dests.iter().filter_map(known).collect()
    }
}

/// A map with keys that are no strings, as a list of pairs.
pub(super) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<K, V, S>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        to.collect_seq(map)
    }

    pub(in super::super) fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let pairs: Vec<(K, V)> = Vec::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}

/// A row of a map, as hexadecimal bytes.
pub(super) mod pod {
    use serde::{Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<T, S>(row: &T, to: S) -> Result<S::Ok, S::Error>
    where
        T: bytemuck::Pod,
        S: Serializer,
    {
        super::pods::serialize(std::slice::from_ref(row), to)
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: bytemuck::Pod,
        D: Deserializer<'de>,
    {
        match super::pods::deserialize(from)?.as_slice() {
            [row] => Ok(*row),
            _ => Err(D::Error::custom("not one row")),
        }
    }
}

/// Rows of a map, as hexadecimal bytes.
pub(super) mod pods {
    use std::fmt::Write as _;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<T, S>(rows: &[T], to: S) -> Result<S::Ok, S::Error>
    where
        T: bytemuck::Pod,
        S: Serializer,
    {
        let bytes: &[u8] = bytemuck::cast_slice(rows);
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        to.serialize_str(&text)
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: bytemuck::Pod,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        let digit = |c: u8| char::from(c).to_digit(16);
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
                _ => None,
            })
            .collect();
        let bytes = bytes.ok_or_else(|| D::Error::custom("not hexadecimal"))?;
        if bytes.len() % size_of::<T>() != 0 {
            return Err(D::Error::custom("rows of another size"));
        }
        let rows = bytes.chunks_exact(size_of::<T>());
        Ok(rows.map(bytemuck::pod_read_unaligned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::config::model::{self, Persistence, Protocol, Scheduler, ServiceId};
    use crate::health::{Desired, DesiredServer, DesiredService};

    fn desired() -> Desired {
        let id = ServiceId {
            addr: IpAddr::from([192, 0, 2, 200]),
            port: 80,
            protocol: Protocol::Tcp,
        };
        let methods = [
            ForwardMethod::Dr,
            ForwardMethod::Nat,
            ForwardMethod::Tun(model::Tunnel::Gre { checksum: true }),
        ];
        let servers = (1..).zip(methods).map(|(n, method)| {
            DesiredServer::new(SocketAddr::from(([198, 51, 100, n], 80)), method, n.into())
        });
        let mut service = DesiredService::new(id, Scheduler::Wrr, servers.collect());
        service.persistence = Some(Persistence {
            timeout: Duration::from_secs(300),
            granularity: 24,
        });
        Desired {
            services: vec![service],
        }
    }

    #[test]
    fn a_plan_that_was_written_down_wants_nothing_new() {
        let mut plan = Plan::default();
        let ops = plan.apply(&desired(), Duration::ZERO).unwrap();
        let text = serde_json::to_string(&(&plan, &ops)).unwrap();
        let (mut read, again): (Plan, Vec<super::super::Op>) = serde_json::from_str(&text).unwrap();
        assert_eq!(ops, again);
        assert_eq!(format!("{plan:?}"), format!("{read:?}"));
        assert_eq!(read.apply(&desired(), Duration::from_secs(9)).unwrap(), []);
    }

    #[test]
    fn next_hops_are_taken_over_from_the_maps() {
        let mut plan = Plan::default();
        plan.apply(&desired(), Duration::ZERO).unwrap();
        let mut routed = plan.clone();
        let hop = NextHopRow {
            ifindex: 3,
            mac: Some([2, 0, 0, 0, 0, 7]),
            from: [2, 0, 0, 0, 0, 8],
            local: false,
            source: Some(IpAddr::from([198, 51, 100, 254])),
            mtu: 1500,
        };
        routed.route(|_| Some(hop));
        let rows: BTreeMap<u32, (Dest, Tunnel)> = routed
            .dests
            .values()
            .map(|dest| (dest.id, (dest.row, dest.tunnel)))
            .collect();
        plan.adopt(|id| rows.get(&id).copied());
        assert_eq!(format!("{plan:?}"), format!("{routed:?}"));
        // What it knows of next hops leads to the same rows.
        let known = plan.next_hops();
        assert_eq!(known.len(), 3);
        assert_eq!(plan.route(|addr| known.get(&addr).copied()), []);
    }
}
