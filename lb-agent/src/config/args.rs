// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words → values, for the functions of the keyword tables.
//!
//! Comes in: a line whose keyword is known. Goes out: typed values with the place they came from.
//! Invariant: a word that cannot be read gives `None` and exactly one diagnostic, and the setting
//! keeps what it had, as in keepalived.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diag::{Code, Diagnostic, quoted};
use super::keyword::Info;
use super::lexer::{Word, warn_if_cut};
use super::source::Span;
use super::suggest;
use super::tree::Item;
use super::walk::Context;

/// A value and the place it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) span: Span,
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned::new(f(self.value), self.span)
    }
}

/// A line whose keyword was found in a table.
pub(crate) struct Line<'a> {
    /// The line.
    pub(crate) item: &'a Item,
    /// The keyword's row.
    pub(crate) info: &'static Info,
    /// Takes the findings.
    pub(crate) ctx: &'a mut Context,
}

impl<'a> Line<'a> {
    /// The keyword's own place, with its parameters.
    pub(crate) fn span(&self) -> Span {
        self.item.head()
    }

    /// The `index`-th parameter, from 1.
    pub(crate) fn word(&self, index: usize) -> Option<&'a Word> {
        self.item.words.get(index)
    }

    /// The parameter's text.
    pub(crate) fn text(&mut self, index: usize) -> Option<Spanned<String>> {
        let word = self.word(index)?;
        Some(Spanned::new(word.text.clone(), word.span))
    }

    /// The parameter's text, with a warning when a comment may have cut it.
    pub(crate) fn whole_text(&mut self, index: usize) -> Option<Spanned<String>> {
        let word = self.word(index)?;
        self.ctx
            .with_diagnostics(|diagnostics| warn_if_cut(word, diagnostics));
        self.text(index)
    }

    /// A whole number within `range`.
    pub(crate) fn number(
        &mut self,
        index: usize,
        range: RangeInclusive<u64>,
    ) -> Option<Spanned<u64>> {
        let word = self.word(index)?;
        let digits = word.text.strip_prefix('-').unwrap_or(&word.text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            self.invalid(word, "is not a number");
            return None;
        }
        match word.text.parse::<u64>() {
            Ok(value) if range.contains(&value) => Some(Spanned::new(value, word.span)),
            // Negative, or too large for 64 bits.
            _ => {
                self.outside(word, &format!("{} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// A whole number within `range`, which may hold negative ones.
    pub(crate) fn signed(
        &mut self,
        index: usize,
        range: RangeInclusive<i32>,
    ) -> Option<Spanned<i32>> {
        let word = self.word(index)?;
        match word.text.parse::<i32>() {
            Ok(value) if range.contains(&value) => Some(Spanned::new(value, word.span)),
            Ok(_) => {
                self.outside(word, &format!("{} to {}", range.start(), range.end()));
                None
            }
            Err(_) => {
                self.invalid(word, "is not a number");
                None
            }
        }
    }

    /// Decimal seconds (to the microsecond) within `range`.
    pub(crate) fn seconds(
        &mut self,
        index: usize,
        range: RangeInclusive<Duration>,
    ) -> Option<Spanned<Duration>> {
        let word = self.word(index)?;
        let Some(value) = parse_seconds(&word.text) else {
            self.invalid(word, "is not a number of seconds");
            return None;
        };
        if range.contains(&value) {
            return Some(Spanned::new(value, word.span));
        }
        let bounds = format!(
            "{} to {} s",
            range.start().as_secs_f64(),
            range.end().as_secs_f64()
        );
        self.outside(word, &bounds);
        None
    }

    /// Decimal milliseconds (to the microsecond) within `range`.
    pub(crate) fn milliseconds(
        &mut self,
        index: usize,
        range: RangeInclusive<Duration>,
    ) -> Option<Spanned<Duration>> {
        const MILLIS: u32 = 1000;
        let word = self.word(index)?;
        let value = parse_seconds(&word.text).and_then(|value| {
            // A thousandth of what was read as seconds, to the microsecond.
            let micros = u64::try_from((value / MILLIS).as_micros()).ok()?;
            Some(Duration::from_micros(micros))
        });
        let Some(value) = value else {
            self.invalid(word, "is not a number of milliseconds");
            return None;
        };
        if range.contains(&value) {
            return Some(Spanned::new(value, word.span));
        }
        let millis = |bound: &Duration| bound.as_secs_f64() * f64::from(MILLIS);
        let bounds = format!("{} to {} ms", millis(range.start()), millis(range.end()));
        self.outside(word, &bounds);
        None
    }

    /// An IPv4 address. IPv6 is an error: xlvs would run without what the line asks for.
    pub(crate) fn ipv4(&mut self, index: usize) -> Option<Spanned<Ipv4Addr>> {
        let word = self.word(index)?;
        match read_ipv4(word, self.info.name) {
            Ok(address) => Some(Spanned::new(address, word.span)),
            Err(diagnostic) => {
                self.ctx.report(*diagnostic);
                None
            }
        }
    }

    /// An address of either family.
    pub(crate) fn ip(&mut self, index: usize) -> Option<Spanned<IpAddr>> {
        let word = self.word(index)?;
        match read_ip(word, self.info.name) {
            Ok(address) => Some(Spanned::new(address, word.span)),
            Err(diagnostic) => {
                self.ctx.report(*diagnostic);
                None
            }
        }
    }

    /// `on|off|true|false|yes|no`; on when the word is missing.
    pub(crate) fn boolean(&mut self, index: usize) -> Option<Spanned<bool>> {
        let Some(word) = self.word(index) else {
            return Some(Spanned::new(true, self.span()));
        };
        match word.text.as_str() {
            "on" | "true" | "yes" => Some(Spanned::new(true, word.span)),
            "off" | "false" | "no" => Some(Spanned::new(false, word.span)),
            _ => {
                self.invalid(word, "is none of on, off, true, false, yes, no");
                None
            }
        }
    }

    /// One word out of a list; a misspelt one gets a suggestion.
    pub(crate) fn choice<V: Copy>(
        &mut self,
        index: usize,
        choices: &[(&'static str, V)],
    ) -> Option<Spanned<V>> {
        let word = self.word(index)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word.text) {
            return Some(Spanned::new(*value, word.span));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let mut diagnostic = Diagnostic::warning(
            Code::InvalidValue,
            word.span,
            format!(
                "`{}` cannot be {}{}",
                self.info.name,
                quoted(&word.text),
                self.instead()
            ),
        );
        diagnostic = match suggest::nearest(&word.text, names.iter().copied()) {
            Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
            None => diagnostic.hint(format!("it can be: {}", names.join(", "))),
        };
        self.ctx.report(diagnostic);
        None
    }

    /// Stores a value that was read; the second of two is the one that counts.
    pub(crate) fn set<V>(&mut self, field: &mut Option<Spanned<V>>, value: Option<Spanned<V>>) {
        let Some(value) = value else { return };
        if let Some(first) = field.as_ref() {
            self.ctx.report(
                Diagnostic::warning(
                    Code::GivenTwice,
                    value.span,
                    format!("`{}` is given twice; this one counts", self.info.name),
                )
                .related(first.span, "first given here"),
            );
        }
        *field = Some(value);
    }

    /// A word that cannot be read.
    pub(crate) fn invalid(&mut self, word: &Word, why: &str) {
        let message = format!(
            "`{}`: {} {why}{}",
            self.info.name,
            quoted(&word.text),
            self.instead()
        );
        self.ctx
            .report(Diagnostic::warning(Code::InvalidValue, word.span, message));
    }

    fn outside(&mut self, word: &Word, bounds: &str) {
        let message = format!(
            "`{}`: {} is outside the range {bounds}{}",
            self.info.name,
            quoted(&word.text),
            self.instead()
        );
        self.ctx
            .report(Diagnostic::warning(Code::OutOfRange, word.span, message));
    }

    fn instead(&self) -> String {
        match self.info.default {
            Some(default) => format!("; the default ({default}) is used"),
            None => "; it is ignored".to_owned(),
        }
    }
}

/// An address, or what is the matter with it.
pub(crate) fn read_ip(word: &Word, what: &str) -> Result<IpAddr, Box<Diagnostic>> {
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

/// `ADDR [PORT]` behind the keyword of `item`; what cannot be read is reported.
pub(crate) fn read_endpoint(
    item: &Item,
    ctx: &mut Context,
) -> Option<Spanned<(IpAddr, Option<u16>)>> {
    let (what, address) = (item.words.first()?, item.words.get(1)?);
    let ip = match read_ip(address, &what.text) {
        Ok(ip) => ip,
        Err(diagnostic) => {
            ctx.report(*diagnostic);
            return None;
        }
    };
    let Some(word) = item.words.get(2) else {
        return Some(Spanned::new((ip, None), item.head()));
    };
    let Ok(port) = word.text.parse::<u16>() else {
        ctx.report(Diagnostic::warning(
            Code::InvalidValue,
            word.span,
            format!(
                "`{}`: {} is not a port; it is ignored",
                what.text,
                quoted(&word.text)
            ),
        ));
        return None;
    };
    Some(Spanned::new((ip, Some(port)), item.head()))
}

/// An IPv4 address, or what is the matter with it.
pub(crate) fn read_ipv4(word: &Word, what: &str) -> Result<Ipv4Addr, Box<Diagnostic>> {
    if let Ok(address) = word.text.parse() {
        return Ok(address);
    }
    let without_prefix = word.text.split(['/', '%']).next().unwrap_or("");
    Err(Box::new(if without_prefix.parse::<Ipv6Addr>().is_ok() {
        ipv6_not_supported(word, what)
    } else {
        Diagnostic::warning(
            Code::InvalidValue,
            word.span,
            format!(
                "`{what}`: {} is not an IPv4 address; it is ignored",
                quoted(&word.text)
            ),
        )
    }))
}

/// IPv6 where only IPv4 works.
pub(crate) fn ipv6_not_supported(word: &Word, what: &str) -> Diagnostic {
    Diagnostic::error(
        Code::Ipv6NotSupported,
        word.span,
        format!("`{what}`: xlvs does not support IPv6 yet"),
    )
    .hint("without it xlvs would not do what this line asks")
}

/// Decimal seconds such as `1`, `.3` or `2.5`, to the microsecond.
pub(crate) fn parse_seconds(text: &str) -> Option<Duration> {
    const MICROS_DIGITS: usize = 6;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let seconds: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let micros: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(MICROS_DIGITS)
        .collect();
    let micros: u32 = micros.parse().ok()?;
    Some(Duration::new(seconds, micros * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_decimal_to_the_microsecond() {
        assert_eq!(parse_seconds("5"), Some(Duration::from_secs(5)));
        assert_eq!(parse_seconds(".3"), Some(Duration::from_millis(300)));
        assert_eq!(parse_seconds("2.5"), Some(Duration::from_millis(2_500)));
        assert_eq!(parse_seconds("0.0000019"), Some(Duration::from_micros(1)));
        for bad in ["", ".", "1e3", "-1", "1,5", "５", "99999999999999999999"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }
}
