// SPDX-License-Identifier: MIT OR Apache-2.0
//! `virtual_server_group`: lines of addresses instead of keywords.
//!
//! KEEPALIVED: `ADDR`, `ADDR-N` (last octet or last group of digits), `ADDR-ADDR` and `ADDR/BITS`,
//! each with a port or without; `fwmark N`. Beyond keepalived the port may be a range, `PORT-PORT`:
//! what is marked by a firewall rule there is mostly such a range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::lexer::Word;
use super::super::raw::{AddressRange, RawAddressGroup};
use super::super::tree::Item;
use super::super::walk::Context;

/// Why `fwmark` is not done, wherever it stands.
pub(super) const NO_FWMARK: &str = "the packet program sees packets before anything can mark \
     them; list the addresses and ports in a `virtual_server_group`";

/// `virtual_server_group NAME { … }`.
pub(super) fn read(item: &Item, ctx: &mut Context) -> RawAddressGroup {
    let mut group = RawAddressGroup {
        name: item
            .words
            .get(1)
            .map_or_else(String::new, |word| word.text.clone()),
        head: item.head(),
        ..RawAddressGroup::default()
    };
    for line in item.body.iter().flatten() {
        match read_line(line) {
            Ok(range) => group.ranges.push(Spanned::new(range, line.head())),
            Err(diagnostic) => {
                group.incomplete |= diagnostic.code == Code::NotSupported;
                ctx.report(*diagnostic);
            }
        }
    }
    group
}

fn read_line(line: &Item) -> Result<AddressRange, Box<Diagnostic>> {
    let ignored = |word: &Word, why: &str| {
        Box::new(Diagnostic::warning(
            Code::InvalidValue,
            word.span,
            format!("{} {why}; the line is ignored", quoted(&word.text)),
        ))
    };
    let Some(word) = line.words.first() else {
        let empty = "a line of `virtual_server_group` is an address and a port";
        return Err(Box::new(Diagnostic::warning(
            Code::InvalidValue,
            line.head(),
            empty,
        )));
    };
    if word.text == "fwmark" {
        let message = "`fwmark` in a group is not supported";
        let diagnostic = Diagnostic::error(Code::NotSupported, line.head(), message);
        return Err(Box::new(diagnostic.hint(NO_FWMARK)));
    }
    let (port, ports) = match line.words.get(1) {
        None => (0, 1),
        Some(port) => parse_ports(&port.text).map_err(|why| ignored(port, why))?,
    };
    let (first, last) = parse_range(&word.text).map_err(|why| ignored(word, why))?;
    // All of IPv6 is one more than fits, and far more than anybody has room for.
    let count = number(last).saturating_sub(number(first)).saturating_add(1);
    Ok(AddressRange {
        first,
        count,
        port,
        ports,
    })
}

/// First port and number of ports of `PORT` or `PORT-PORT`, or what is the matter with it.
fn parse_ports(text: &str) -> Result<(u16, u32), &'static str> {
    let Some((first, last)) = text.split_once('-') else {
        return Ok((text.parse().map_err(|_| "is not a port")?, 1));
    };
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(0), Ok(_)) => Err("has the port 0, which stands for any port"),
        (Ok(first), Ok(last)) if first > last => Err("ends before it begins"),
        (Ok(first), Ok(last)) => Ok((first, u32::from(last - first) + 1)),
        _ => Err("is not a range of ports"),
    }
}

/// First and last address of `A`, `A-N`, `A-B` or `A/BITS`, or what is the matter with it.
fn parse_range(text: &str) -> Result<(IpAddr, IpAddr), &'static str> {
    const NO_ADDRESS: &str = "is not an IP address";
    const NO_RANGE: &str = "is not a range of addresses";
    if let Some((addr, bits)) = text.split_once('/') {
        let addr: IpAddr = addr.parse().map_err(|_| NO_ADDRESS)?;
        return prefix(addr, bits);
    }
    let Some((first, end)) = text.split_once('-') else {
        let addr = text.parse().map_err(|_| NO_ADDRESS)?;
        return Ok((addr, addr));
    };
    let first: IpAddr = first.parse().map_err(|_| NO_ADDRESS)?;
    let last = match (first, end.parse::<IpAddr>()) {
        (_, Ok(last)) => last,
        (IpAddr::V4(first), Err(_)) => {
            let octet = end.parse::<u8>().map_err(|_| NO_RANGE)?;
            let [a, b, c, _] = first.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, octet))
        }
        (IpAddr::V6(first), Err(_)) => {
            let group = u16::from_str_radix(end, 16).map_err(|_| NO_RANGE)?;
            let mut groups = first.segments();
            groups[7] = group;
            IpAddr::V6(Ipv6Addr::from(groups))
        }
    };
    if first.is_ipv4() != last.is_ipv4() {
        return Err("begins and ends in different address families");
    }
    if first > last {
        return Err("ends before it begins");
    }
    Ok((first, last))
}

fn prefix(addr: IpAddr, bits: &str) -> Result<(IpAddr, IpAddr), &'static str> {
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let bits = match bits.parse::<u32>() {
        Ok(bits) if (1..=width).contains(&bits) => bits,
        _ => return Err("has no prefix length that an address can have"),
    };
    let hosts = 1u128.checked_shl(width - bits).map_or(u128::MAX, |n| n - 1);
    if number(addr) & hosts != 0 {
        return Err("is not the first address of its prefix");
    }
    Ok((addr, offset(addr, hosts)))
}

/// An address as a number.
fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// The address `n` further on, within its family.
pub(crate) fn offset(addr: IpAddr, n: u128) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits().wrapping_add(n as u32))),
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits().wrapping_add(n))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> Option<(String, String)> {
        let (first, last) = parse_range(text).ok()?;
        Some((first.to_string(), last.to_string()))
    }

    #[test]
    fn a_port_may_be_a_range() {
        assert_eq!(parse_ports("80"), Ok((80, 1)));
        assert_eq!(parse_ports("0"), Ok((0, 1)));
        assert_eq!(parse_ports("8000-8009"), Ok((8000, 10)));
        assert_eq!(parse_ports("443-443"), Ok((443, 1)));
        assert_eq!(parse_ports("1-65535"), Ok((1, 65535)));
        for bad in ["80-70", "0-9", "1-65536", "x", "-", "80-", "-80", "http-90"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_read_in_all_four_spellings() {
        for (text, first, last) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("192.0.2.3-10", "192.0.2.3", "192.0.2.10"),
            ("192.0.2.250-192.0.3.5", "192.0.2.250", "192.0.3.5"),
            ("192.0.2.8/29", "192.0.2.8", "192.0.2.15"),
            ("ae00::2-1f", "ae00::2", "ae00::1f"),
            ("ae00::2-ae00::1:0", "ae00::2", "ae00::1:0"),
            ("ae00::/126", "ae00::", "ae00::3"),
            ("ae00::1/128", "ae00::1", "ae00::1"),
        ] {
            assert_eq!(ends(text), Some((first.into(), last.into())), "{text}");
        }
        for bad in [
            "192.0.2.10-3",
            "192.0.2.1-300",
            "192.0.2.1-ae00::1",
            "192.0.2.9/29",
            "192.0.2.0/0",
            "192.0.2.0/33",
            "ae00::1-x",
            "host",
            "-",
            "/",
        ] {
            assert_eq!(ends(bad), None, "{bad}");
        }
    }
}
