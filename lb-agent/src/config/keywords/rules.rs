// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of `virtual_rules` and `static_rules`, as `ip rule add` takes them.
//!
//! Invariant: a line gives one rule, or an error.

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic};
use super::super::lexer::Word;
use super::super::model::{Family, Prefix, Rule, RuleAction};
use super::super::tree::Item;
use super::super::walk::Context;
use super::routing::{Words, bad, not_tracked, number, prefix, settle, unknown};

/// A rule whose preference may be missing.
#[derive(Clone, Debug)]
pub(crate) struct RawRule {
    pub(crate) rule: Rule,
    pub(crate) preference: Option<u32>,
}

const OPTIONS: [&str; 24] = [
    "from",
    "to",
    "table",
    "lookup",
    "preference",
    "priority",
    "order",
    "iif",
    "dev",
    "oif",
    "fwmark",
    "tos",
    "dsfield",
    "goto",
    "uidrange",
    "ipproto",
    "ip_proto",
    "sport",
    "dport",
    "suppress_prefixlength",
    "blackhole",
    "prohibit",
    "unreachable",
    "nop",
];

/// Reads every line of the block.
pub(super) fn read(rules: &mut Vec<Spanned<RawRule>>, item: &Item, ctx: &mut Context) {
    for line in item.body.iter().flatten() {
        match rule(line, ctx) {
            Ok(rule) => rules.push(Spanned::new(rule, line.head())),
            Err(diagnostic) => ctx.report(diagnostic),
        }
    }
}

struct Reader<'a> {
    words: Words<'a>,
    family: Option<Family>,
    rule: Rule,
    preference: Option<u32>,
    action: Option<RuleAction>,
}

fn rule(line: &Item, ctx: &mut Context) -> Result<RawRule, Diagnostic> {
    let mut reader = Reader {
        words: Words::new(&line.words),
        family: None,
        rule: Rule {
            family: Family::V4,
            invert: false,
            from: None,
            to: None,
            iif: None,
            oif: None,
            fwmark: None,
            tos: 0,
            uids: None,
            ip_protocol: None,
            sport: None,
            dport: None,
            suppress_prefix_len: None,
            preference: 0,
            action: RuleAction::Nop,
        },
        preference: None,
        action: None,
    };
    while let Some(word) = reader.words.next() {
        if !reader.option(word, ctx)? && !reader.act(word)? {
            return Err(unknown(word, "rule", &OPTIONS));
        }
    }
    let action = reader.action.ok_or_else(|| {
        Diagnostic::error(
            Code::MissingParameter,
            line.head(),
            "a rule needs something to do, such as `table`",
        )
    })?;
    Ok(RawRule {
        rule: Rule {
            family: reader.family.unwrap_or_default(),
            action,
            ..reader.rule
        },
        preference: reader.preference,
    })
}

impl Reader<'_> {
    /// Takes what a rule does; false if it is none of that.
    fn act(&mut self, word: &Word) -> Result<bool, Diagnostic> {
        self.action = Some(match word.text.as_str() {
            "table" | "lookup" => RuleAction::Table(self.words.table(word)?),
            "goto" => RuleAction::Goto(self.words.number(word)?),
            "blackhole" => RuleAction::Blackhole,
            "unreachable" => RuleAction::Unreachable,
            "prohibit" => RuleAction::Prohibit,
            "nop" => RuleAction::Nop,
            _ => return Ok(false),
        });
        Ok(true)
    }

    fn prefix(&mut self, option: &Word) -> Result<Option<Prefix>, Diagnostic> {
        let value = self.words.value(option)?;
        let prefix = prefix(value).map_err(|_| bad(option, value))?;
        if let Some(prefix) = prefix {
            settle(&mut self.family, prefix.addr, value)?;
        }
        Ok(prefix.filter(|prefix| prefix.len > 0))
    }

    /// Takes what a packet must be like; false if it is none of that.
    fn option(&mut self, word: &Word, ctx: &mut Context) -> Result<bool, Diagnostic> {
        match word.text.as_str() {
            "inet" => self.family = Some(Family::V4),
            "inet6" => self.family = Some(Family::V6),
            "not" => self.rule.invert = true,
            "from" => self.rule.from = self.prefix(word)?,
            "to" => self.rule.to = self.prefix(word)?,
            "iif" | "dev" => self.rule.iif = Some(self.words.interface(word)?),
            "oif" => self.rule.oif = Some(self.words.interface(word)?),
            "tos" | "dsfield" => self.rule.tos = self.words.number(word)? as u8,
            "preference" | "priority" | "order" => {
                self.preference = Some(self.words.number(word)?);
            }
            "suppress_prefixlength" => {
                self.rule.suppress_prefix_len = Some(self.words.number(word)?);
            }
            "fwmark" => {
                let value = self.words.value(word)?;
                let parts = value.text.split_once('/');
                let (mark, mask) = parts.map_or((value.text.as_str(), None), |(a, b)| (a, Some(b)));
                let mask = mask.map(|mask| number(mask).ok_or(())).transpose();
                let both = number(mark).zip(mask.ok());
                self.rule.fwmark = Some(both.ok_or_else(|| bad(word, value))?);
            }
            "uidrange" => self.rule.uids = Some(self.range(word)?),
            "sport" => self.rule.sport = Some(self.range(word)?),
            "dport" => self.rule.dport = Some(self.range(word)?),
            "ipproto" | "ip_proto" => {
                let value = self.words.value(word)?;
                let protocol = ip_protocol(&value.text.to_ascii_lowercase());
                self.rule.ip_protocol = Some(protocol.ok_or_else(|| bad(word, value))?);
            }
            "no_track" => {}
            "track_group" => {
                let value = self.words.value(word)?;
                ctx.report(not_tracked(value));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `N` or `N-M`.
    fn range<T: std::str::FromStr + Copy>(&mut self, option: &Word) -> Result<(T, T), Diagnostic> {
        let value = self.words.value(option)?;
        let (first, last) = match value.text.split_once('-') {
            Some(ends) => ends,
            None => (value.text.as_str(), value.text.as_str()),
        };
        let ends = first.parse().ok().zip(last.parse().ok());
        ends.ok_or_else(|| bad(option, value))
    }
}

fn ip_protocol(name: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 8] = [
        ("icmp", 1),
        ("tcp", 6),
        ("udp", 17),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("ipv6-icmp", 58),
        ("sctp", 132),
    ];
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, number)| *number)
        .or_else(|| name.parse().ok())
}
