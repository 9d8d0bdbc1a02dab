// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text → words, braces and line ends.
//!
//! Comes in: a [`Source`]. Goes out: [`Token`]s with spans, and what is wrong at this level.
//! Invariant: any text gives tokens; every span is a character range of the source. Called by
//! `tree`.
//!
//! KEEPALIVED: `#` and `!` start a comment anywhere outside quotes, also inside a word; `\#` and
//! `\!` are the characters themselves; a brace is a token of its own wherever it stands outside
//! quotes; `\` at the end of a line joins it with the next.

use super::diag::{Code, Diagnostic, quoted};
use super::source::{Source, Span};

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The word with quotes removed and escapes resolved.
    pub(crate) text: String,
    /// Where it is, quotes included.
    pub(crate) span: Span,
    /// A `#` or `!` follows without a blank, so the word may be shorter than it was meant.
    pub(crate) cut_by_comment: bool,
}

/// What a line is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word.
    Word(Word),
    /// `{`
    Open(Span),
    /// `}`
    Close(Span),
    /// The end of a line that is not continued.
    LineEnd,
}

/// Splits `source` into tokens; findings are added to `diagnostics`.
pub(crate) fn tokens(source: &Source, diagnostics: &mut Vec<Diagnostic>) -> Vec<Token> {
    let mut lexer = Lexer {
        text: source.text(),
        at: 0,
        tokens: Vec::new(),
        diagnostics,
    };
    lexer.run();
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while let Some(c) = self.peek() {
            let start = self.at;
            match c {
                '\n' => {
                    self.bump();
                    self.tokens.push(Token::LineEnd);
                }
                '{' | '}' => {
                    self.bump();
                    let span = Span::new(start, self.at);
                    self.tokens.push(if c == '{' {
                        Token::Open(span)
                    } else {
                        Token::Close(span)
                    });
                }
                '#' | '!' => self.skip_comment(),
                '\\' if self.at_continuation() => self.skip_continuation(),
                c if is_blank(c) => {
                    self.bump();
                }
                _ => self.word(),
            }
        }
        self.tokens.push(Token::LineEnd);
    }

    fn word(&mut self) {
        let start = self.at;
        let mut text = String::new();
        let mut cut_by_comment = false;
        while let Some(c) = self.peek() {
            match c {
                '"' => self.quoted_piece(&mut text),
                '\\' => {
                    if self.at_continuation() {
                        break;
                    }
                    self.bump();
                    // Outside quotes only a comment character can be escaped.
                    match self.peek() {
                        Some(escaped @ ('#' | '!')) => {
                            self.bump();
                            text.push(escaped);
                        }
                        _ => text.push('\\'),
                    }
                }
                '#' | '!' => {
                    cut_by_comment = true;
                    break;
                }
                '$' if self.rest().starts_with("${") => self.variable(&mut text),
                '(' if text == "~SEQ" || text == "~SEQx" || text == "~LST" => {
                    self.up_to(')', &mut text);
                }
                '{' | '}' | '\n' => break,
                c if is_blank(c) => break,
                c => {
                    self.bump();
                    text.push(c);
                }
            }
        }
        let span = Span::new(start, self.at);
        self.tokens.push(Token::Word(Word {
            text,
            span,
            cut_by_comment,
        }));
    }

    /// `"…"`: blanks, braces and comment characters stand for themselves.
    fn quoted_piece(&mut self, text: &mut String) {
        let start = self.at;
        self.bump();
        loop {
            match self.peek() {
                Some('"') => {
                    self.bump();
                    return;
                }
                Some('\\') if !self.at_continuation() => {
                    self.bump();
                    self.escape(text);
                }
                Some('\\') => self.skip_continuation(),
                None | Some('\n') => {
                    let end = self
                        .text
                        .get(start..self.at)
                        .map_or(start, |piece| start + piece.trim_end().len());
                    self.diagnostics.push(
                        Diagnostic::warning(
                            Code::UnterminatedQuote,
                            Span::new(start, end),
                            "this quoted string does not end on its line",
                        )
                        .hint("add the closing `\"`"),
                    );
                    text.truncate(text.trim_end().len());
                    return;
                }
                Some(c) => {
                    self.bump();
                    text.push(c);
                }
            }
        }
    }

    /// What follows a backslash inside quotes: `\n`, `\t`, `\x41`, `\101`, or the character itself.
    fn escape(&mut self, text: &mut String) {
        let digits = |lexer: &mut Self, radix: u32, max: usize| {
            let mut value = None;
            for _ in 0..max {
                let Some(digit) = lexer.peek().and_then(|c| c.to_digit(radix)) else {
                    break;
                };
                lexer.bump();
                value = Some(value.unwrap_or(0) * radix + digit);
            }
            value.and_then(char::from_u32)
        };
        match self.peek() {
            Some('x') => {
                self.bump();
                text.push(digits(self, 16, 2).unwrap_or('x'));
            }
            Some('0'..='7') => {
                if let Some(c) = digits(self, 8, 3) {
                    text.push(c);
                }
            }
            Some('\n') | None => {}
            Some(c) => {
                self.bump();
                text.push(match c {
                    'a' => '\x07',
                    'b' => '\x08',
                    'E' | 'e' => '\x1b',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    other => other,
                });
            }
        }
    }

    /// `${NAME}` is one piece of a word; its braces are not a block's.
    fn variable(&mut self, text: &mut String) {
        let line_end = self.rest().find('\n').unwrap_or(self.rest().len());
        let closes = self
            .rest()
            .get(..line_end)
            .is_some_and(|line| line.contains('}'));
        if closes {
            self.up_to('}', text);
        } else {
            self.bump();
            text.push('$');
        }
    }

    /// Takes characters up to and including `last`, or the end of the line.
    fn up_to(&mut self, last: char, text: &mut String) {
        while let Some(c) = self.peek() {
            if c == '\n' {
                return;
            }
            self.bump();
            text.push(c);
            if c == last {
                return;
            }
        }
    }

    fn skip_comment(&mut self) {
        let length = self.rest().find('\n').unwrap_or(self.rest().len());
        self.at += length;
    }

    /// True at a `\` that only blanks separate from the end of its line.
    fn at_continuation(&self) -> bool {
        self.rest()
            .strip_prefix('\\')
            .is_some_and(|after| after.trim_start_matches(is_blank).starts_with('\n'))
    }

    fn skip_continuation(&mut self) {
        self.skip_comment();
        self.bump();
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }
}

/// Characters that separate words; a byte order mark is one, so that Windows files work.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c' | '\u{feff}')
}

/// True for a word that held bytes that are not UTF-8.
pub(crate) fn is_damaged(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.text.contains(char::REPLACEMENT_CHARACTER))
}

/// Says when a value was probably meant to go on where a comment began.
pub(crate) fn warn_if_cut(word: &Word, diagnostics: &mut Vec<Diagnostic>) {
    if word.cut_by_comment {
        diagnostics.push(
            Diagnostic::warning(
                Code::CommentInValue,
                word.span,
                format!(
                    "the value ends at {}: a comment starts right after it",
                    quoted(&word.text)
                ),
            )
            .hint("quote the value (\"…\") if `#` or `!` belongs to it"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens in a form that reads: words, braces, `/` for a line end.
    fn lex(text: &str) -> String {
        let source = Source::new("t", text.as_bytes());
        let mut diagnostics = Vec::new();
        let mut out: Vec<String> = tokens(&source, &mut diagnostics)
            .into_iter()
            .map(|token| match token {
                Token::Word(word) => word.text.replace(' ', "_"),
                Token::Open(_) => "{".to_owned(),
                Token::Close(_) => "}".to_owned(),
                Token::LineEnd => "/".to_owned(),
            })
            .collect();
        out.extend(diagnostics.iter().map(|d| d.code.as_str().to_owned()));
        out.join(" ")
    }

    #[test]
    fn comments_start_anywhere_outside_quotes() {
        assert_eq!(lex("a b#c\n! d { e\nf \"g # h\" i"), "a b / / f g_#_h i /");
        assert_eq!(lex(r"a b\#c\!d"), "a b#c!d /");
    }

    #[test]
    fn braces_are_split_from_words() {
        assert_eq!(
            lex("vrrp_instance VI_1{\ngroup{ a }}"),
            "vrrp_instance VI_1 { / group { a } } /"
        );
        assert_eq!(
            lex("global_defs { router_id A }"),
            "global_defs { router_id A } /"
        );
        assert_eq!(lex("script \"a { b }\""), "script a_{_b_} /");
    }

    #[test]
    fn quotes_keep_blanks_resolve_escapes_and_join() {
        assert_eq!(lex(r#"s "a\"b" x"#), "s a\"b x /");
        assert_eq!(lex(r#"s "\x41\102\\" "#), "s AB\\ /");
        assert_eq!(lex(r#"s a"b c"d"#), "s ab_cd /");
    }

    #[test]
    fn an_open_quote_ends_with_its_line() {
        assert_eq!(lex("a \"b c\nd"), "a b_c / d / unterminated-quote");
    }

    #[test]
    fn a_backslash_continues_a_line() {
        assert_eq!(lex("a b \\\n c\nd\\\ne"), "a b c / d e /");
        assert_eq!(lex("a \\x \\"), "a \\x \\ /");
    }

    #[test]
    fn variables_and_sequences_are_single_words() {
        assert_eq!(lex("a ${B}c $D x${"), "a ${B}c $D x$ { /");
        assert_eq!(lex("~SEQ(x, 1, 3) y"), "~SEQ(x,_1,_3) y /");
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_are_blank() {
        assert_eq!(lex("\u{feff}a b\r\nc\r\n"), "a b / c / /");
    }
}
