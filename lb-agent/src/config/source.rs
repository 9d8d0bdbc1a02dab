// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text of a configuration file and the way from a byte range to a line and a column.
//!
//! Comes in: a name and bytes, UTF-8 or not. Goes out: text whose every byte range can be located.
//! Invariant: the text is valid UTF-8 (other bytes become U+FFFD) and no span, however wrong, makes
//! a lookup panic. Called by the lexer (text) and by rendering (places).

use serde::Serialize;

/// A byte range of a [`Source`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// From `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The range from the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self::new(self.start, other.end.max(self.end))
    }
}

/// Where a [`Span`] is, as people and editors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters (Unicode scalar values), from 1.
    pub column: usize,
    /// Length in characters; at least 1, and not beyond the end of the line.
    pub length: usize,
}

/// One configuration file.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
    first_bad_byte: Option<usize>,
}

impl Source {
    /// A file `name` (used in messages only) with its content.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let first_bad_byte = std::str::from_utf8(bytes).err().map(|e| e.valid_up_to());
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            name: name.to_owned(),
            text,
            line_starts,
            first_bad_byte,
        }
    }

    /// The file's name as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the text stopped being UTF-8, if it did.
    pub(crate) fn not_utf8(&self) -> Option<Span> {
        // Up to the first bad byte nothing was replaced, so offsets are those of the file.
        self.first_bad_byte
            .map(|at| Span::new(at, at + char::REPLACEMENT_CHARACTER.len_utf8()))
    }

    /// Line (from 1) that holds the byte `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts
            .partition_point(|start| *start <= offset)
            .max(1)
    }

    /// Line, column and length of `span`.
    pub fn locate(&self, span: Span) -> Place {
        let line = self.line_of(span.start);
        let line_range = self.lines_range(line, line);
        let start = self
            .floor_char(span.start)
            .clamp(line_range.start, line_range.end);
        let end = self.floor_char(span.end).clamp(start, line_range.end);
        let chars = |from, to| {
            self.text
                .get(from..to)
                .map_or(0, |text| text.chars().count())
        };
        Place {
            line,
            column: chars(line_range.start, start) + 1,
            length: chars(start, end).max(1),
        }
    }

    /// Bytes of the lines `first` to `last` (from 1), without the last line's end.
    pub(crate) fn lines_range(&self, first: usize, last: usize) -> std::ops::Range<usize> {
        let start = self
            .line_starts
            .get(first.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let end = match self.line_starts.get(last) {
            Some(next_line) => next_line - 1,
            None => self.text.len(),
        };
        start..end.max(start)
    }

    /// The nearest character boundary at or before `offset`.
    pub(crate) fn floor_char(&self, offset: usize) -> usize {
        let mut at = offset.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = Source::new("t", "仮想ルータID 55\nx\n".as_bytes());
        let at = source.text().find("55").unwrap();
        assert_eq!(
            source.locate(Span::new(at, at + 2)),
            Place {
                line: 1,
                column: 9,
                length: 2
            }
        );
    }

    #[test]
    fn a_span_ends_with_its_first_line() {
        let source = Source::new("t", b"abc\ndef\n");
        assert_eq!(
            source.locate(Span::new(1, 6)),
            Place {
                line: 1,
                column: 2,
                length: 2
            }
        );
    }

    #[test]
    fn spans_outside_the_text_still_have_a_place() {
        let source = Source::new("t", b"abc");
        assert_eq!(source.locate(Span::new(90, 95)).line, 1);
        assert_eq!(Source::new("t", b"").locate(Span::new(0, 0)).column, 1);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_located() {
        let source = Source::new("t", b"ab\xff\xfe");
        assert_eq!(source.not_utf8().unwrap().start, 2);
        assert!(source.text().starts_with("ab\u{fffd}"));
    }
}
