// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens → lines and blocks.
//!
//! Comes in: the lexer's tokens, and which words always open a block. Goes out: a [`Tree`] of
//! [`Item`]s, and what is wrong with the braces. Invariant: any token sequence gives a tree, of
//! bounded depth. Called by `parse`; the walk over the tree is in `walk`.
//!
//! KEEPALIVED: `{` may stand on the line after its keyword; a block keyword without `{` opens its
//! block all the same; a `}` that closes nothing and a block that is never closed are survived.

use super::diag::{Code, Diagnostic, quoted};
use super::lexer::{Token, Word};
use super::source::Span;

/// Blocks deeper than this are refused: keepalived's language needs six levels.
const MAX_DEPTH: usize = 32;

/// A line, or a line with a block behind it.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The words; never empty.
    pub(crate) words: Vec<Word>,
    /// What stands between the braces behind them.
    pub(crate) body: Option<Vec<Item>>,
    /// From the first word to the closing brace.
    pub(crate) span: Span,
}

impl Item {
    /// The first word and where it is.
    pub(crate) fn keyword(&self) -> (&str, Span) {
        self.words
            .first()
            .map_or(("", self.span), |word| (word.text.as_str(), word.span))
    }

    /// From the first word to the last, without the block.
    pub(crate) fn head(&self) -> Span {
        match (self.words.first(), self.words.last()) {
            (Some(first), Some(last)) => first.span.to(last.span),
            _ => self.span,
        }
    }
}

/// A whole file.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Its lines and blocks.
    pub(crate) items: Vec<Item>,
    /// Heads of the blocks that are still open at the end, outermost first.
    pub(crate) unclosed: Vec<Span>,
}

/// Builds the tree. `opens_block` tells the keywords that are always followed by `{`.
pub(crate) fn build(
    tokens: Vec<Token>,
    opens_block: fn(&str) -> bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Tree {
    let mut builder = Builder {
        opens_block,
        diagnostics,
        open: Vec::new(),
        items: Vec::new(),
        line: Vec::new(),
        too_deep: 0,
    };
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => builder.line.push(word),
            Token::Open(span) => builder.open_block(span),
            Token::Close(span) => builder.close_block(span),
            Token::LineEnd => {
                while tokens.next_if_eq(&Token::LineEnd).is_some() {}
                let brace_follows = matches!(tokens.peek(), Some(Token::Open(_)));
                if !(brace_follows && builder.line_takes_a_block()) {
                    builder.end_line();
                }
            }
        }
    }
    builder.finish()
}

struct Frame {
    words: Vec<Word>,
    items: Vec<Item>,
}

struct Builder<'a> {
    opens_block: fn(&str) -> bool,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// Blocks being read, outermost first; each holds the items read before it.
    open: Vec<Frame>,
    items: Vec<Item>,
    line: Vec<Word>,
    too_deep: usize,
}

impl Builder<'_> {
    fn line_takes_a_block(&self) -> bool {
        !self.line.is_empty()
    }

    fn open_block(&mut self, brace: Span) {
        if self.open.len() >= MAX_DEPTH {
            self.end_line();
            if self.too_deep == 0 {
                self.diagnostics.push(Diagnostic::warning(
                    Code::UnexpectedBrace,
                    brace,
                    format!("blocks are nested more than {MAX_DEPTH} deep; this one is ignored"),
                ));
            }
            self.too_deep += 1;
            return;
        }
        if self.line.is_empty() {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::UnexpectedBrace,
                    brace,
                    "unexpected `{`: no keyword stands before it",
                )
                .hint("its content is read as if the braces were not there"),
            );
        }
        self.push_frame();
    }

    fn push_frame(&mut self) {
        let words = std::mem::take(&mut self.line);
        let items = std::mem::take(&mut self.items);
        self.open.push(Frame { words, items });
    }

    fn end_line(&mut self) {
        let Some(first) = self.line.first() else {
            return;
        };
        if (self.opens_block)(&first.text) && self.open.len() < MAX_DEPTH {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::MissingOpenBrace,
                    first.span,
                    format!("{} is not followed by `{{`", quoted(&first.text)),
                )
                .hint("the lines up to the next `}` are read as its block"),
            );
            self.push_frame();
            return;
        }
        let words = std::mem::take(&mut self.line);
        let span = words.first().map_or_else(Span::default, |word| word.span);
        let span = words.last().map_or(span, |word| span.to(word.span));
        self.items.push(Item {
            words,
            body: None,
            span,
        });
    }

    fn close_block(&mut self, brace: Span) {
        self.end_line_before_brace();
        if self.too_deep > 0 {
            self.too_deep -= 1;
            return;
        }
        if let Some(frame) = self.open.pop() {
            self.close_frame(frame, brace);
        } else {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::ExtraCloseBrace,
                    brace,
                    "extra `}`: no block is open here",
                )
                .hint("is the line that opens this block missing?"),
            );
        }
    }

    /// `global_defs }` opens nothing: the brace that follows belongs to the block around it.
    fn end_line_before_brace(&mut self) {
        let opens_block = std::mem::replace(&mut self.opens_block, |_| false);
        self.end_line();
        self.opens_block = opens_block;
    }

    fn close_frame(&mut self, frame: Frame, end: Span) {
        let body = std::mem::replace(&mut self.items, frame.items);
        match frame.words.first() {
            Some(first) => {
                let span = first.span.to(end);
                self.items.push(Item {
                    words: frame.words,
                    body: Some(body),
                    span,
                });
            }
            None => self.items.extend(body),
        }
    }

    fn finish(mut self) -> Tree {
        self.end_line_before_brace();
        let unclosed = self
            .open
            .iter()
            .filter_map(|frame| Some(frame.words.first()?.span.to(frame.words.last()?.span)))
            .collect();
        while let Some(frame) = self.open.pop() {
            let end = self
                .items
                .last()
                .map_or_else(Span::default, |item| item.span);
            self.close_frame(frame, end);
        }
        Tree {
            items: self.items,
            unclosed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer;
    use super::super::source::Source;
    use super::*;

    /// The tree as nested brackets, then the codes of the findings.
    fn tree(text: &str) -> String {
        fn show(items: &[Item], out: &mut String) {
            for item in items {
                let words: Vec<&str> = item.words.iter().map(|w| w.text.as_str()).collect();
                out.push_str(&words.join(" "));
                if let Some(body) = &item.body {
                    out.push('[');
                    show(body, out);
                    out.push(']');
                }
                out.push(';');
            }
        }
        let source = Source::new("t", text.as_bytes());
        let mut diagnostics = Vec::new();
        let tokens = lexer::tokens(&source, &mut diagnostics);
        let tree = build(tokens, |word| word == "block", &mut diagnostics);
        let mut out = String::new();
        show(&tree.items, &mut out);
        for diagnostic in &diagnostics {
            out += " ";
            out += diagnostic.code.as_str();
        }
        for span in &tree.unclosed {
            out += " unclosed@";
            out += &source.line_of(span.start).to_string();
        }
        out
    }

    #[test]
    fn lines_and_blocks_nest() {
        assert_eq!(
            tree("a b\nc d {\n e\n}\nf { g h }\n"),
            "a b;c d[e;];f[g h;];"
        );
    }

    #[test]
    fn the_brace_may_stand_on_the_next_line() {
        assert_eq!(tree("a b\n\n{\n c\n}"), "a b[c;];");
    }

    #[test]
    fn an_extra_brace_is_survived() {
        assert_eq!(tree("a {\n}\n}\nb"), "a[];b; extra-close-brace");
    }

    #[test]
    fn open_blocks_are_closed_at_the_end_and_named() {
        assert_eq!(
            tree("a\nb {\nc {\n d"),
            "a;b[c[d;];]; unclosed@2 unclosed@3"
        );
    }

    #[test]
    fn a_block_keyword_without_brace_opens_its_block() {
        assert_eq!(tree("block\n a\n}\nb"), "block[a;];b; missing-open-brace");
    }

    #[test]
    fn a_brace_without_keyword_is_transparent() {
        assert_eq!(tree("a {\n{\nb\n}\n}\n"), "a[b;]; unexpected-brace");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "a {\n".repeat(100_000);
        let text = tree(&deep);
        assert!(text.contains("unexpected-brace"));
        assert_eq!(text.matches("unclosed").count(), MAX_DEPTH);
    }
}
