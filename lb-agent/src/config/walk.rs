// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tree × keyword tables → raw configuration.
//!
//! Comes in: lines and blocks. Goes out: calls of the tables' readers, and findings about words
//! that no table has. Invariant: every line is read by its keyword's reader or reported; a misspelt
//! block is reported once and its content checked against the block it was meant to be, without
//! effect. Called by `parse` and, for inner blocks, by the readers.

mod unknown;

use std::collections::HashSet;

use super::args::Line;
use super::diag::{Code, Diagnostic, Severity, quoted};
use super::keyword::{Action, Feature, Info, Keyword, Status, Table};
use super::source::{Source, Span};
use super::tree::Item;

/// A block that the walk is in.
#[derive(Clone, Copy, Debug)]
struct Enclosing {
    path: &'static str,
    head: Span,
}

/// The place where a forgotten `}` shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftOpen {
    /// Head of the block that should have ended.
    pub(crate) block: Span,
    /// The line that does not belong in it.
    pub(crate) at: Span,
}

/// What a walk collects beside the raw configuration.
#[derive(Debug, Default)]
pub(crate) struct Context {
    diagnostics: Vec<Diagnostic>,
    path: Vec<Enclosing>,
    /// More than 0 inside a misspelt block: what is found there has no effect either way.
    trial: usize,
    /// More than 0 inside a block whose status is reported: its words need no report of their own.
    quiet: usize,
    features: Vec<(&'static Feature, Vec<Span>)>,
    foreign: Vec<Span>,
    foreign_seen: HashSet<String>,
    /// Unknown words so far; guessing is for the first ones only.
    unknown_words: usize,
    /// The file ends inside a block.
    pub(crate) lacks_brace: bool,
    /// The first line that belongs in a block further out.
    pub(crate) left_open: Option<LeftOpen>,
}

impl Context {
    /// Reads the block behind `item`.
    pub(crate) fn walk<T: Default>(
        &mut self,
        table: &'static Table<T>,
        item: &Item,
        target: &mut T,
    ) {
        self.path.push(Enclosing {
            path: table.path,
            head: item.head(),
        });
        self.walk_items(table, item.body.as_deref().unwrap_or_default(), target);
        self.path.pop();
    }

    /// Reads a whole file.
    pub(crate) fn walk_file<T: Default>(
        &mut self,
        table: &'static Table<T>,
        items: &[Item],
        target: &mut T,
    ) {
        self.path.push(Enclosing {
            path: table.path,
            head: Span::default(),
        });
        self.walk_items(table, items, target);
        self.path.pop();
    }

    fn walk_items<T: Default>(&mut self, table: &'static Table<T>, items: &[Item], target: &mut T) {
        for item in items {
            match table.find(item.keyword().0) {
                Some(keyword) => self.known(table, keyword, item, target),
                None => self.unknown(table, item),
            }
        }
    }

    /// Adds a finding. Inside a misspelt block nothing is worse than a warning.
    pub(crate) fn report(&mut self, mut diagnostic: Diagnostic) {
        if self.trial > 0 {
            if diagnostic.severity == Severity::Info {
                return;
            }
            diagnostic.severity = Severity::Warning;
        }
        self.diagnostics.push(diagnostic);
    }

    /// Notes that a line asks for `feature`; reported once, by [`Context::finish`].
    pub(crate) fn feature(&mut self, feature: &'static Feature, span: Span) {
        if self.trial + self.quiet > 0 {
            return;
        }
        match self
            .features
            .iter_mut()
            .find(|(known, _)| known.name == feature.name)
        {
            Some((_, spans)) => spans.push(span),
            None => self.features.push((feature, vec![span])),
        }
    }

    /// Gives other stages the list of findings.
    pub(crate) fn with_diagnostics(&mut self, f: impl FnOnce(&mut Vec<Diagnostic>)) {
        f(&mut self.diagnostics);
    }

    /// The findings, those about whole features included.
    pub(crate) fn finish(mut self, source: &Source) -> Vec<Diagnostic> {
        for (feature, spans) in std::mem::take(&mut self.features) {
            self.diagnostics
                .push(feature_diagnostic(feature, &spans, source));
        }
        self.report_translation();
        self.diagnostics
    }

    fn known<T: Default>(
        &mut self,
        table: &'static Table<T>,
        keyword: &'static Keyword<T>,
        item: &Item,
        target: &mut T,
    ) {
        let info = &keyword.info;
        let enough = item.words.len() > info.min_params;
        if !enough {
            self.missing_parameter(info, item);
        }
        self.check_braces(info, item);
        self.check_line_break(table, info, item);
        if !enough {
            return;
        }
        let spoken_for = self.status(info, item);
        match keyword.action {
            Action::Skip => {}
            Action::Line(apply) => apply(
                target,
                &mut Line {
                    item,
                    info,
                    ctx: self,
                },
            ),
            Action::Block(enter) => {
                self.quiet += usize::from(spoken_for);
                enter(target, item, self);
                self.quiet -= usize::from(spoken_for);
            }
        }
    }

    /// Reports what is not done; true when the words inside the block need no report.
    fn status(&mut self, info: &'static Info, item: &Item) -> bool {
        let head = item.head();
        let quiet = self.trial + self.quiet > 0;
        match info.status {
            Status::Supported | Status::Own => return false,
            Status::NotYet(feature) => self.feature(feature, head),
            Status::NoEffect(_) | Status::Refused(_) if quiet => {}
            Status::NoEffect(why) => self.report(Diagnostic::info(
                Code::NoEffect,
                head,
                format!("`{}` has no effect: {why}", info.name),
            )),
            Status::Refused(why) => self.report(
                Diagnostic::error(
                    Code::NotSupported,
                    head,
                    format!("`{}` is not supported yet", info.name),
                )
                .hint(why),
            ),
        }
        true
    }

    fn missing_parameter(&mut self, info: &'static Info, item: &Item) {
        let diagnostic = Diagnostic::error(
            Code::MissingParameter,
            item.head(),
            format!("`{}` needs a value", info.name),
        );
        self.report(match (info.default, info.range) {
            (Some(default), _) => {
                diagnostic.hint(format!("delete the line for the default, {default}"))
            }
            (None, Some(range)) => diagnostic.hint(format!("it can be: {range}")),
            (None, None) => diagnostic.hint("keepalived stops here with exit status 2"),
        });
    }

    fn check_braces(&mut self, info: &'static Info, item: &Item) {
        if item.body.is_some() && !info.is_block {
            self.report(Diagnostic::warning(
                Code::UnexpectedBrace,
                item.head(),
                format!(
                    "`{}` takes no block; what stands in its braces is ignored",
                    info.name
                ),
            ));
        }
        if item.body.is_none() && info.is_block {
            self.report(Diagnostic::warning(
                Code::MissingOpenBrace,
                item.head(),
                format!(
                    "`{}` is not followed by `{{ … }}`; it is ignored",
                    info.name
                ),
            ));
        }
    }

    /// `priority 100 state MASTER`: only the first of two directives on a line is read.
    fn check_line_break<T>(&mut self, table: &'static Table<T>, info: &'static Info, item: &Item) {
        let Some(extra) = item.words.get(info.max_params.saturating_add(1)..) else {
            return;
        };
        if let Some(word) = extra.iter().find(|word| table.find(&word.text).is_some()) {
            self.report(
                Diagnostic::warning(
                    Code::TwoOnOneLine,
                    word.span,
                    format!(
                        "{} is ignored: a line holds one directive",
                        quoted(&word.text)
                    ),
                )
                .hint("put it on a line of its own"),
            );
        } else if let (Some(first), Some(last)) = (extra.first(), extra.last()) {
            self.report(Diagnostic::info(
                Code::ExtraWords,
                first.span.to(last.span),
                format!("`{}` does not read these words", info.name),
            ));
        }
    }
}

fn feature_diagnostic(feature: &Feature, spans: &[Span], source: &Source) -> Diagnostic {
    const MOST_LINES: usize = 6;
    let first = spans.first().copied().unwrap_or_default();
    let mut others: Vec<usize> = spans
        .iter()
        .skip(1)
        .map(|span| source.line_of(span.start))
        .collect();
    others.dedup();
    let more = if others.len() > MOST_LINES {
        ", …"
    } else {
        ""
    };
    let lines: Vec<String> = others
        .iter()
        .take(MOST_LINES)
        .map(ToString::to_string)
        .collect();
    let (code, verb) = match feature.severity {
        Severity::Error => (Code::NotSupported, "not supported yet"),
        _ => (Code::NoEffectYet, "accepted, without effect yet"),
    };
    let message = format!("{}: {verb}; {}", feature.name, feature.instead);
    let diagnostic = Diagnostic::new(code, feature.severity, first, message);
    match lines.len() {
        0 => diagnostic,
        1 => diagnostic.hint(format!("the same holds for line {}", lines.join(", "))),
        _ => diagnostic.hint(format!(
            "the same holds for lines {}{more}",
            lines.join(", ")
        )),
    }
}
