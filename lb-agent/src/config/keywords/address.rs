// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of either family, and the lines of `unicast_peer`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::lexer::Word;
use super::super::model::UnicastPeer;
use super::super::tree::Item;
use super::super::walk::Context;

/// An address, or what is the matter with it.
pub(super) fn read(word: &Word, what: &str) -> Result<IpAddr, Box<Diagnostic>> {
    word.text.parse().map_err(|_| {
        Box::new(Diagnostic::warning(
            Code::InvalidValue,
            word.span,
            format!(
                "`{what}`: {} is not an IP address; it is ignored",
                quoted(&word.text)
            ),
        ))
    })
}

/// The line's `index`-th parameter as an address.
pub(super) fn of(line: &mut Line<'_>, index: usize) -> Option<Spanned<IpAddr>> {
    let word = line.word(index)?;
    match read(word, line.info.name) {
        Ok(address) => Some(Spanned::new(address, word.span)),
        Err(diagnostic) => {
            line.ctx.report(*diagnostic);
            None
        }
    }
}

/// A multicast group of one of the families.
///
/// KEEPALIVED: over IPv6 it has to be of the link's scope.
pub(super) fn group(line: &mut Line<'_>) -> Option<Spanned<IpAddr>> {
    const LINK_LOCAL_SCOPE: u16 = 2;
    let group = of(line, 1)?;
    let trouble = match group.value {
        address if !address.is_multicast() => Some("is no multicast address"),
        IpAddr::V6(v6) if v6.segments()[0] & 0xf != LINK_LOCAL_SCOPE => {
            Some("is no link-local multicast address")
        }
        _ => None,
    };
    let Some(trouble) = trouble else {
        return Some(group);
    };
    line.ctx.report(Diagnostic::warning(
        Code::InvalidValue,
        group.span,
        format!(
            "{} {trouble}; it is ignored",
            quoted(&group.value.to_string())
        ),
    ));
    None
}

/// The lines `A [min_ttl N] [max_ttl N]`; true when one has bounds.
pub(super) fn peers(peers: &mut Vec<Spanned<UnicastPeer>>, item: &Item, ctx: &mut Context) -> bool {
    let mut bounded = false;
    for line in item.body.iter().flatten() {
        let Some(word) = line.words.first() else {
            continue;
        };
        match read(word, "unicast_peer") {
            Ok(addr) => {
                let options = line.words.get(1..).unwrap_or_default();
                let ttl = bounds(options, ctx);
                bounded |= ttl != UnicastPeer::anywhere(addr).ttl;
                peers.push(Spanned::new(UnicastPeer { addr, ttl }, word.span));
            }
            Err(diagnostic) => ctx.report(*diagnostic),
        }
    }
    bounded
}

fn bounds(options: &[Word], ctx: &mut Context) -> RangeInclusive<u8> {
    let (mut least, mut most) = (u8::MIN, u8::MAX);
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let bound = match option.text.as_str() {
            "min_ttl" => &mut least,
            "max_ttl" => &mut most,
            _ => {
                // Several addresses on one line, most of the time.
                let last = options.last().unwrap_or(option);
                ctx.report(Diagnostic::warning(
                    Code::ExtraWords,
                    option.span.to(last.span),
                    "only the first address of a line is read",
                ));
                break;
            }
        };
        let value = words.next();
        match value.and_then(|word| word.text.parse().ok()) {
            Some(value) => *bound = value,
            None => ctx.report(Diagnostic::warning(
                Code::OutOfRange,
                value.unwrap_or(option).span,
                format!("`{}` is a number from 0 to 255; it is ignored", option.text),
            )),
        }
    }
    least..=most
}
