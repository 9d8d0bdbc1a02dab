// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words that a block's table does not have: misspelt, misplaced, glued or translated.
//!
//! Comes in: a line. Goes out: one finding, with the best guess of what was meant. Invariant: a
//! misspelt block is one finding, not one for each of its lines; nothing is corrected, since a load
//! balancer that guesses is dangerous.

use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{Action, Keyword, Table};
use super::super::keywords::{located, registry};
use super::super::lexer::Word;
use super::super::source::Span;
use super::super::suggest;
use super::super::tree::Item;
use super::{Context, LeftOpen};

/// A file with more unknown words than this is no keepalived.conf; guessing takes time for nothing.
const MOST_GUESSES: usize = 100;

impl Context {
    /// Reports a line whose first word this block does not have.
    pub(super) fn unknown<T: Default>(&mut self, table: &'static Table<T>, item: &Item) {
        let Some(word) = item.words.first() else {
            return;
        };
        if !word.text.is_ascii() && self.foreign_word(word, item) {
            return;
        }
        if let Some(diagnostic) = self.misplaced(table, word) {
            self.report(diagnostic);
            return;
        }
        let nothing_done = "as it stands, the line has no effect";
        let unknown = Diagnostic::warning(
            Code::UnknownKeyword,
            word.span,
            format!(
                "unknown keyword {} {}",
                quoted(&word.text),
                located(table.path)
            ),
        );
        self.unknown_words += 1;
        if self.unknown_words > MOST_GUESSES {
            self.report(unknown.hint(nothing_done));
            return;
        }
        let near_here = suggest::nearest(&word.text, table.names());
        if let Some(name) = near_here {
            self.report(unknown.hint(format!("did you mean `{name}`? {nothing_done}")));
        } else if let Some((name, rest)) = suggest::glued(&word.text, table.names()) {
            let split = quoted(&format!("{name} {rest}"));
            self.report(unknown.hint(format!("did you mean {split}? {nothing_done}")));
        } else if let Some((name, place)) = nearest_elsewhere(&word.text)
            && word.text.is_ascii()
        {
            self.report(unknown.hint(format!(
                "did you mean `{name}`, which belongs {place}? {nothing_done}"
            )));
        } else {
            self.report(unknown.hint(nothing_done));
        }
        if let Some(keyword) = near_here.and_then(|name| table.find(name)) {
            self.try_as(keyword, item);
        }
    }

    /// Reads a misspelt block as the one it was meant to be, for the words inside it.
    fn try_as<T: Default>(&mut self, keyword: &'static Keyword<T>, item: &Item) {
        if let (Action::Block(enter), Some(_)) = (&keyword.action, &item.body) {
            self.trial += 1;
            enter(&mut T::default(), item, self);
            self.trial -= 1;
        }
    }

    /// A keyword of another block.
    fn misplaced<T>(&mut self, table: &'static Table<T>, word: &Word) -> Option<Diagnostic> {
        const MOST_NAMED: usize = 3;
        let places: Vec<&'static str> = registry()
            .iter()
            .filter(|block| block.infos.iter().any(|info| info.name == word.text))
            .map(|block| block.path)
            .collect();
        if places.is_empty() {
            return None;
        }
        let named: Vec<String> = places
            .iter()
            .take(MOST_NAMED)
            .map(|path| located(path))
            .collect();
        let more = if places.len() > MOST_NAMED {
            ", …"
        } else {
            ""
        };
        let mut diagnostic = Diagnostic::warning(
            Code::MisplacedKeyword,
            word.span,
            format!(
                "{} belongs {}{more}, not {}; it has no effect here",
                quoted(&word.text),
                named.join(" or "),
                located(table.path)
            ),
        );
        if let Some(inner) = self.unended(&places) {
            self.left_open.get_or_insert(LeftOpen {
                block: inner,
                at: word.span,
            });
            diagnostic = diagnostic
                .related(inner, "still open here")
                .hint("is the `}` of that block missing?");
        }
        Some(diagnostic)
    }

    /// In a file that lacks a `}`: the block that must have ended before a keyword of `places`.
    fn unended(&self, places: &[&'static str]) -> Option<Span> {
        if !self.lacks_brace {
            return None;
        }
        let fits = self
            .path
            .iter()
            .rev()
            .skip(1)
            .position(|outer| places.contains(&outer.path))?;
        self.path.iter().rev().nth(fits).map(|inner| inner.head)
    }

    /// Counts a word that is not ASCII, and those in its block; true when it was reported before.
    fn foreign_word(&mut self, word: &Word, item: &Item) -> bool {
        self.foreign.push(word.span);
        for inner in item.body.as_deref().unwrap_or_default() {
            let (text, span) = inner.keyword();
            if !text.is_ascii() {
                self.foreign.push(span);
            }
        }
        !self.foreign_seen.insert(word.text.clone())
    }

    /// Says when the keywords went through a translator.
    pub(super) fn report_translation(&mut self) {
        const MANY: usize = 3;
        let (Some(first), count) = (self.foreign.first().copied(), self.foreign.len()) else {
            return;
        };
        if count >= MANY {
            self.report(
                Diagnostic::warning(
                    Code::TranslatedFile,
                    first,
                    format!("the keywords of this file look translated: {count} are not ASCII"),
                )
                .hint("page translators do this; copy the English original instead"),
            );
        }
    }
}

/// The nearest keyword of any block, and where it belongs.
fn nearest_elsewhere(word: &str) -> Option<(&'static str, String)> {
    let all = || {
        registry()
            .iter()
            .flat_map(|block| block.infos.iter().map(|info| (info.name, block.path)))
    };
    let name = suggest::nearest(word, all().map(|(name, _)| name))
        .or_else(|| suggest::glued(word, all().map(|(name, _)| name)).map(|(name, _)| name))?;
    let (_, path) = all().find(|(known, _)| *known == name)?;
    Some((name, located(path)))
}
