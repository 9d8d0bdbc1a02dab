// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of `virtual_routes` and `static_routes`, as `ip route add` takes them.
//!
//! Invariant: a line gives one route, or an error: a route that does something else than asked is
//! worse than none.

use std::net::IpAddr;
use std::str::FromStr;

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::lexer::Word;
use super::super::model::{Family, Hop, Metric, Prefix, Route, RouteKind, TableId};
use super::super::suggest;
use super::super::tree::Item;
use super::super::walk::Context;
use super::virtual_ipaddress::SCOPES;

const KINDS: [(&str, RouteKind); 6] = [
    ("unicast", RouteKind::Unicast),
    ("local", RouteKind::Local),
    ("blackhole", RouteKind::Blackhole),
    ("unreachable", RouteKind::Unreachable),
    ("prohibit", RouteKind::Prohibit),
    ("throw", RouteKind::Throw),
];

const METRICS: [(&str, Metric); 10] = [
    ("mtu", Metric::Mtu),
    ("advmss", Metric::Advmss),
    ("hoplimit", Metric::Hoplimit),
    ("window", Metric::Window),
    ("cwnd", Metric::Cwnd),
    ("ssthresh", Metric::Ssthresh),
    ("reordering", Metric::Reordering),
    ("initcwnd", Metric::Initcwnd),
    ("initrwnd", Metric::Initrwnd),
    ("quickack", Metric::Quickack),
];

/// Names of /etc/iproute2/rt_protos that lines of real files have.
const PROTOCOLS: [(&str, u8); 8] = [
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("zebra", 11),
    ("bird", 12),
    ("dhcp", 16),
    ("keepalived", 18),
];

/// The rest of a line.
pub(super) struct Words<'a> {
    words: std::slice::Iter<'a, Word>,
}

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [Word]) -> Self {
        Self {
            words: words.iter(),
        }
    }

    pub(super) fn next(&mut self) -> Option<&'a Word> {
        self.words.next()
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.words.as_slice().first().map(|word| word.text.as_str())
    }

    /// The word behind `option`.
    pub(super) fn value(&mut self, option: &Word) -> Result<&'a Word, Diagnostic> {
        self.next().ok_or_else(|| {
            Diagnostic::error(
                Code::MissingParameter,
                option.span,
                format!("{} needs a value", quoted(&option.text)),
            )
        })
    }

    /// The same as something that can be parsed.
    pub(super) fn parsed<T: FromStr>(&mut self, option: &Word) -> Result<T, Diagnostic> {
        let value = self.value(option)?;
        value.text.parse().map_err(|_| bad(option, value))
    }

    /// A number in decimal, or in hexadecimal behind `0x`.
    pub(super) fn number(&mut self, option: &Word) -> Result<u32, Diagnostic> {
        let value = self.value(option)?;
        number(&value.text).ok_or_else(|| bad(option, value))
    }

    /// An interface of the kernel's length.
    pub(super) fn interface(&mut self, option: &Word) -> Result<String, Diagnostic> {
        Ok(self.value(option)?.text.clone())
    }

    pub(super) fn table(&mut self, option: &Word) -> Result<TableId, Diagnostic> {
        let value = self.value(option)?;
        Ok(match number(&value.text) {
            Some(number) => TableId::Number(number),
            None => TableId::Name(value.text.clone()),
        })
    }
}

pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A value that `option` cannot have.
pub(super) fn bad(option: &Word, value: &Word) -> Diagnostic {
    Diagnostic::error(
        Code::InvalidValue,
        value.span,
        format!("{} cannot be {}", quoted(&option.text), quoted(&value.text)),
    )
}

/// A word that is no option.
pub(super) fn unknown(word: &Word, what: &str, known: &[&str]) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        Code::NotSupported,
        word.span,
        format!("{what}: {} is not supported", quoted(&word.text)),
    );
    match suggest::nearest(&word.text, known.iter().copied()) {
        Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
        None => diagnostic.hint("it would be another one than the line asks for"),
    }
}

/// A word that is none.
pub(super) struct NotAPrefix;

/// `A[/N]`, `default`, `any` or `all`; the family decides for none.
pub(super) fn prefix(word: &Word) -> Result<Option<Prefix>, NotAPrefix> {
    if matches!(word.text.as_str(), "default" | "any" | "all") {
        return Ok(None);
    }
    let (addr, len) = match word.text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (word.text.as_str(), None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| NotAPrefix)?;
    let whole = if addr.is_ipv6() { 128 } else { 32 };
    let len = match len {
        Some(len) => len.parse().map_err(|_| NotAPrefix)?,
        None => whole,
    };
    if len > whole {
        return Err(NotAPrefix);
    }
    Ok(Some(Prefix { addr, len }))
}

/// Notes a family, which all addresses of a line must share.
pub(super) fn settle(
    family: &mut Option<Family>,
    addr: IpAddr,
    word: &Word,
) -> Result<(), Diagnostic> {
    let of = Family::of(addr);
    if *family.get_or_insert(of) == of {
        Ok(())
    } else {
        Err(Diagnostic::error(
            Code::Conflict,
            word.span,
            format!(
                "{} is of another family than the rest of the line",
                quoted(&word.text)
            ),
        ))
    }
}

/// Reads every line of the block.
pub(super) fn routes(routes: &mut Vec<Spanned<Route>>, item: &Item, ctx: &mut Context) {
    for line in item.body.iter().flatten() {
        match route(line, ctx) {
            Ok(route) => routes.push(Spanned::new(route, line.head())),
            Err(diagnostic) => ctx.report(diagnostic),
        }
    }
}

const OPTIONS: [&str; 19] = [
    "to",
    "src",
    "via",
    "gw",
    "or",
    "dev",
    "oif",
    "scope",
    "table",
    "metric",
    "priority",
    "preference",
    "tos",
    "dsfield",
    "protocol",
    "proto",
    "onlink",
    "nexthop",
    "weight",
];

struct Reader<'a> {
    words: Words<'a>,
    family: Option<Family>,
    route: Route,
    /// Next hops of `nexthop`; the line's own one is not among them.
    several: bool,
}

fn route(line: &Item, ctx: &mut Context) -> Result<Route, Diagnostic> {
    let mut reader = Reader {
        words: Words::new(&line.words),
        family: None,
        route: Route {
            family: Family::V4,
            kind: RouteKind::Unicast,
            to: None,
            source: None,
            hops: Vec::new(),
            table: None,
            metric: None,
            scope: None,
            tos: 0,
            protocol: None,
            metrics: Vec::new(),
        },
        several: false,
    };
    let mut has_destination = false;
    while let Some(word) = reader.words.next() {
        if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == word.text) {
            reader.route.kind = *kind;
            continue;
        }
        if reader.option(word, ctx)? {
            continue;
        }
        let (destination, named) = if word.text == "to" {
            (reader.words.value(word)?, true)
        } else {
            (word, false)
        };
        let (Ok(to), false) = (prefix(destination), has_destination) else {
            return Err(if named {
                bad(word, destination)
            } else {
                unknown(word, "route", &OPTIONS)
            });
        };
        if let Some(to) = to {
            settle(&mut reader.family, to.addr, destination)?;
        }
        (reader.route.to, has_destination) = (to, true);
    }
    if !has_destination {
        return Err(Diagnostic::error(
            Code::MissingParameter,
            line.head(),
            "a route needs a destination",
        ));
    }
    let mut route = reader.route;
    route.family = reader.family.unwrap_or_default();
    // 0.0.0.0/0 and ::/0 are the default route.
    route.to = route.to.filter(|to| to.len > 0);
    Ok(route)
}

impl Reader<'_> {
    /// The next hop that options without `nexthop` describe, and those behind the last one.
    fn hop(&mut self) -> &mut Hop {
        if self.route.hops.is_empty() {
            self.route.hops.push(fresh());
        }
        let last = self.route.hops.len().saturating_sub(1);
        &mut self.route.hops[last]
    }

    fn gateway(&mut self, option: &Word) -> Result<(), Diagnostic> {
        if matches!(self.words.peek(), Some("inet" | "inet6")) {
            self.words.next();
        }
        let value = self.words.value(option)?;
        let addr: IpAddr = value.text.parse().map_err(|_| bad(option, value))?;
        settle(&mut self.family, addr, value)?;
        self.hop().via = Some(addr);
        Ok(())
    }

    /// Takes an option with what belongs to it; false if it is none.
    fn option(&mut self, word: &Word, ctx: &mut Context) -> Result<bool, Diagnostic> {
        match word.text.as_str() {
            "inet" => self.family = Some(Family::V4),
            "inet6" => self.family = Some(Family::V6),
            "src" => {
                let value = self.words.value(word)?;
                let addr = value.text.parse().map_err(|_| bad(word, value))?;
                settle(&mut self.family, addr, value)?;
                self.route.source = Some(addr);
            }
            "via" | "gw" => self.gateway(word)?,
            // KEEPALIVED: `via A or B`, an old form of two next hops.
            "or" => {
                let dev = self.hop().dev.clone();
                self.route.hops.push(Hop { dev, ..fresh() });
                self.gateway(word)?;
            }
            "nexthop" => {
                if self.several {
                    self.route.hops.push(fresh());
                } else {
                    (self.route.hops, self.several) = (vec![fresh()], true);
                }
            }
            "dev" | "oif" => {
                let dev = self.words.interface(word)?;
                if self.several {
                    self.hop().dev = Some(dev);
                } else {
                    self.hop();
                    for hop in &mut self.route.hops {
                        hop.dev = Some(dev.clone());
                    }
                }
            }
            "weight" => {
                let weight: u16 = self.words.parsed(word)?;
                self.hop().weight = weight.clamp(1, 256);
            }
            "onlink" => self.hop().onlink = true,
            "table" => self.route.table = Some(self.words.table(word)?),
            "metric" | "priority" | "preference" => {
                self.route.metric = Some(self.words.number(word)?);
            }
            "tos" | "dsfield" => self.route.tos = self.words.number(word)? as u8,
            "scope" => self.route.scope = Some(named(&mut self.words, word, &SCOPES)?),
            "protocol" | "proto" => {
                self.route.protocol = Some(named(&mut self.words, word, &PROTOCOLS)?);
            }
            "no_track" => {}
            "track_group" => {
                let value = self.words.value(word)?;
                ctx.report(not_tracked(value));
            }
            name => match METRICS.iter().find(|(known, _)| *known == name) {
                Some((_, metric)) => {
                    let value = self.words.number(word)?;
                    self.route.metrics.push((*metric, value));
                }
                None => return Ok(false),
            },
        }
        Ok(true)
    }
}

fn fresh() -> Hop {
    Hop {
        weight: 1,
        ..Hop::default()
    }
}

/// A number below 256 or one of `names`.
fn named(words: &mut Words<'_>, option: &Word, names: &[(&str, u8)]) -> Result<u8, Diagnostic> {
    let value = words.value(option)?;
    let by_name = names.iter().find(|(name, _)| *name == value.text);
    let by_name = by_name.map(|(_, number)| *number);
    by_name
        .or_else(|| value.text.parse().ok())
        .ok_or_else(|| bad(option, value))
}

/// `track_group`, of a static address, route or rule.
pub(super) fn not_tracked(word: &Word) -> Diagnostic {
    Diagnostic::warning(
        Code::NoEffectYet,
        word.span,
        "`track_group` has no effect yet: no instance is told when this is lost",
    )
}
