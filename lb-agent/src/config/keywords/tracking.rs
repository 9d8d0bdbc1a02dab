// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `vrrp_script`, and the lines of `track_script` and `track_interface`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{Table, flag, line};
use super::super::lexer::Word;
use super::super::model::RunAs;
use super::super::raw::{RawScript, RawTrack, RawWeight};
use super::super::tree::Item;
use super::super::walk::Context;

/// KEEPALIVED: what the weight of a script or an interface can be.
const WEIGHTS: RangeInclusive<i32> = -253..=253;
const LONGEST: Duration = Duration::from_secs(1_000_000);
const SHORTEST: Duration = Duration::from_micros(1);

/// `vrrp_script`.
pub(crate) static VRRP_SCRIPT: Table<RawScript> = Table {
    path: "vrrp_script",
    groups: &[&[
        line(
            "script",
            "Program to run, with its arguments in one pair of quotes; exit status 0 is success.",
            |raw: &mut RawScript, line| {
                let value = program(line);
                line.set(&mut raw.argv, value);
            },
        ),
        line(
            "interval",
            "Seconds from one run to the next.",
            |raw: &mut RawScript, line| {
                let value = line.seconds(1, SHORTEST..=LONGEST);
                line.set(&mut raw.interval, value);
            },
        )
        .default("1")
        .range("0.000001 to 1000000 seconds"),
        line(
            "timeout",
            "Seconds it may run.",
            |raw: &mut RawScript, line| {
                let value = line.seconds(1, SHORTEST..=LONGEST);
                line.set(&mut raw.timeout, value);
            },
        )
        .default("interval")
        .range("0.000001 to 1000000 seconds"),
        line(
            "weight",
            "Added to the priority (above 0 while it succeeds, below 0 while it fails); \
             with 0 a failure is a fault.",
            |raw: &mut RawScript, line| {
                let value = weight(line);
                line.set(&mut raw.weight, value);
            },
        )
        .params(1, 2)
        .default("0")
        .range("-253 to 253, then `reverse` or not"),
        line(
            "rise",
            "Successes that make it good.",
            |raw: &mut RawScript, line| {
                let value = count(line);
                line.set(&mut raw.rise, value);
            },
        )
        .default("1"),
        line(
            "fall",
            "Failures that make it bad.",
            |raw: &mut RawScript, line| {
                let value = count(line);
                line.set(&mut raw.fall, value);
            },
        )
        .default("1"),
        line(
            "user",
            "User, and group, that it runs as.",
            |raw: &mut RawScript, line| {
                let value = run_as(line, 1);
                line.set(&mut raw.user, value);
            },
        )
        .params(1, 2)
        .default("script_user"),
        flag(
            "init_fail",
            "Counts as failed until its first success.",
            |raw: &mut RawScript, _| raw.init_fail = true,
        )
        .default("off"),
    ]],
};

fn count(line: &mut Line<'_>) -> Option<Spanned<u32>> {
    let value = line.number(1, 1..=i32::MAX as u64)?;
    Some(value.map(|n| n as u32))
}

fn weight(line: &mut Line<'_>) -> Option<Spanned<RawWeight>> {
    weight_within(line, WEIGHTS)
}

/// `N [reverse]`.
pub(super) fn weight_within(
    line: &mut Line<'_>,
    range: RangeInclusive<i32>,
) -> Option<Spanned<RawWeight>> {
    let value = line.signed(1, range)?;
    let reverse = match line.word(2) {
        None => None,
        Some(word) => {
            let said = direction(word);
            if said.is_none() {
                line.ctx.report(unknown_option(word));
            }
            said
        }
    };
    Some(value.map(|value| RawWeight { value, reverse }))
}

fn direction(word: &Word) -> Option<bool> {
    match word.text.as_str() {
        "reverse" => Some(true),
        "noreverse" => Some(false),
        _ => None,
    }
}

fn unknown_option(word: &Word) -> Diagnostic {
    Diagnostic::warning(
        Code::InvalidValue,
        word.span,
        format!("{} is ignored: it is no option here", quoted(&word.text)),
    )
    .hint("it can be: weight N, weight N reverse")
}

/// `USER [GROUP]` from the `index`-th parameter on.
pub(super) fn run_as(line: &mut Line<'_>, index: usize) -> Option<Spanned<RunAs>> {
    let user = line.text(index)?;
    let group = line.text(index.saturating_add(1)).map(|group| group.value);
    Some(user.map(|user| RunAs { user, group }))
}

/// The program in the first parameter, split into words.
pub(super) fn program(line: &mut Line<'_>) -> Option<Spanned<Vec<String>>> {
    let text = line.whole_text(1)?;
    let argv = split(&text.value);
    if argv.first().is_none_or(String::is_empty) {
        line.ctx.report(Diagnostic::warning(
            Code::InvalidValue,
            text.span,
            format!("`{}` names no program; it is ignored", line.info.name),
        ));
        return None;
    }
    Some(Spanned::new(argv, text.span))
}

/// Splits a command at blanks; quotes and backslashes protect. No shell is involved.
///
/// KEEPALIVED: it splits the quoted string itself and executes the first word.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().extend(chars.next());
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The lines of `track_script` or `track_interface`: `NAME [weight N [reverse]]`.
pub(super) fn read(tracks: &mut Vec<RawTrack>, item: &Item, ctx: &mut Context) {
    for line in item.body.iter().flatten() {
        let at = line.words.iter().position(|word| word.text == "weight");
        let names = line.words.get(..at.unwrap_or(line.words.len()));
        let names = names.unwrap_or_default();
        if let (Some(second), Some(last)) = (names.get(1), names.last()) {
            ctx.report(
                Diagnostic::warning(
                    Code::TwoOnOneLine,
                    second.span.to(last.span),
                    "several names on one line; xlvs tracks each, keepalived none of them",
                )
                .hint("put each on a line of its own"),
            );
        }
        let weight = at.and_then(|at| {
            let options = line.words.get(at..).unwrap_or_default();
            read_weight(options, ctx)
        });
        for word in names {
            tracks.push(RawTrack {
                name: Spanned::new(word.text.clone(), word.span),
                weight,
            });
        }
    }
}

/// `weight N [reverse]`, the first word being `weight`.
fn read_weight(words: &[Word], ctx: &mut Context) -> Option<Spanned<RawWeight>> {
    let keyword = words.first()?;
    let Some(number) = words.get(1) else {
        ctx.report(Diagnostic::warning(
            Code::InvalidValue,
            keyword.span,
            "`weight` needs a number; the default is used",
        ));
        return None;
    };
    let Some(value) = number.text.parse().ok().filter(|n| WEIGHTS.contains(n)) else {
        ctx.report(Diagnostic::warning(
            Code::OutOfRange,
            number.span,
            format!(
                "`weight`: {} is not a number from {} to {}; the default is used",
                quoted(&number.text),
                WEIGHTS.start(),
                WEIGHTS.end()
            ),
        ));
        return None;
    };
    let reverse = words.get(2).and_then(direction);
    if let (Some(word), None) = (words.get(2), reverse) {
        ctx.report(unknown_option(word));
    }
    let span = keyword
        .span
        .to(words.last().map_or(number.span, |word| word.span));
    Some(Spanned::new(RawWeight { value, reverse }, span))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_command_is_split_at_blanks_that_nothing_protects() {
        for (text, words) in [
            ("pidof nginx", &["pidof", "nginx"][..]),
            ("  /bin/a   b\tc ", &["/bin/a", "b", "c"]),
            (r#"a 'b c' "d e""#, &["a", "b c", "d e"]),
            (r"a b\ c", &["a", "b c"]),
            (r#"a "b \" c" ''"#, &["a", "b \" c", ""]),
            (r"a '\n'", &["a", r"\n"]),
            ("a 'open b", &["a", "open b"]),
            ("", &[]),
        ] {
            assert_eq!(split(text), words, "{text}");
        }
    }
}
