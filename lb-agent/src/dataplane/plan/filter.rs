// SPDX-License-Identifier: MIT OR Apache-2.0
//! The address filter: which bits are set, and by how many addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::abi::{filter_bit, fold};
use serde::{Deserialize, Serialize};

use super::Op;
use super::rows::words;

/// Users of each bit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Filter(BTreeMap<u32, u32>);

impl Filter {
    /// One more user of an address.
    pub(super) fn add(&mut self, addr: IpAddr, ops: &mut Vec<Op>) {
        let bit = filter_bit(fold(&words(addr)));
        let users = self.0.entry(bit).or_default();
        *users += 1;
        if *users == 1 {
            ops.push(self.row(bit));
        }
    }

    /// One user less.
    pub(super) fn remove(&mut self, addr: IpAddr, ops: &mut Vec<Op>) {
        let bit = filter_bit(fold(&words(addr)));
        if let Some(users) = self.0.get_mut(&bit) {
            *users -= 1;
            if *users == 0 {
                self.0.remove(&bit);
                ops.push(self.row(bit));
            }
        }
    }

    /// The row of the map that holds a bit.
    fn row(&self, bit: u32) -> Op {
        let index = bit / 64;
        let set = self.0.range(index * 64..(index + 1) * 64);
        let row = set.fold(0, |row, (bit, _)| row | 1 << (bit % 64));
        Op::PutFilter { index, row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_stays_while_somebody_uses_it() {
        let (mut filter, mut ops) = (Filter::default(), Vec::new());
        let addr = IpAddr::from([10, 0, 0, 1]);
        filter.add(addr, &mut ops);
        filter.add(addr, &mut ops);
        filter.remove(addr, &mut ops);
        assert!(matches!(ops[..], [Op::PutFilter { row, .. }] if row.is_power_of_two()));
        filter.remove(addr, &mut ops);
        assert!(matches!(ops[1..], [Op::PutFilter { row: 0, .. }]));
    }
}
