// SPDX-License-Identifier: MIT OR Apache-2.0
//! `use_vmac [NAME] [MAC]`.

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::raw::{RawInstance, RawVmac};

/// The kernel's IFNAMSIZ, without the final zero.
const LONGEST_NAME: usize = 15;
/// RFC 9568 §7.3: link addresses of virtual routers begin so.
const VIRTUAL_ROUTERS: [u8; 4] = [0, 0, 0x5e, 0];

pub(super) fn use_vmac(raw: &mut RawInstance, line: &mut Line<'_>) {
    let (mut name, mut mac) = (None, None);
    for index in 1..=2 {
        let Some(word) = line.word(index) else {
            break;
        };
        let number = raw.vrid.map_or(0, |vrid| vrid.value);
        if let Some(read) = read_mac(&word.text, number) {
            mac = usable(read, word.span, line);
        } else if name.is_none() && word.text.len() <= LONGEST_NAME && !word.text.contains('/') {
            name = Some(word.text.clone());
        } else {
            line.invalid(word, "is no interface name and no MAC address");
        }
    }
    let value = Spanned::new(RawVmac { name, mac }, line.span());
    line.set(&mut raw.vmac, Some(value));
}

/// KEEPALIVED: the link addresses of the RFC are chosen by the virtual router id alone.
fn usable(mac: [u8; 6], span: super::super::source::Span, line: &mut Line<'_>) -> Option<[u8; 6]> {
    let reserved = mac.starts_with(&VIRTUAL_ROUTERS);
    let group = mac[0] & 1 != 0;
    if !reserved && !group {
        return Some(mac);
    }
    let why = if group {
        "is a group address"
    } else {
        "belongs to the virtual routers of RFC 9568"
    };
    let text = mac.map(|byte| format!("{byte:02x}")).join(":");
    line.ctx.report(Diagnostic::warning(
        Code::InvalidValue,
        span,
        format!("{} {why}; it is ignored", quoted(&text)),
    ));
    None
}

/// Six octets; KEEPALIVED: with five the virtual router id is the last.
fn read_mac(text: &str, vrid: u8) -> Option<[u8; 6]> {
    let parts = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok());
    let mut octets = parts.collect::<Option<Vec<u8>>>()?;
    if octets.len() == 5 {
        octets.push(vrid);
    }
    octets.try_into().ok()
}
