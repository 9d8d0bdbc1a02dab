// SPDX-License-Identifier: MIT OR Apache-2.0
//! What keepalived does before it reads keywords: includes, conditions, definitions, sequences.
//!
//! Comes in: the tree. Goes out: the tree without the lines that need a preprocessor, and an error
//! for each kind of them. Invariant: such a line is never misread as something else. xlvs does not
//! do any of this yet, and a file that loses lines would mean something else, so it is an error.

use std::collections::HashSet;

use super::diag::Severity;
use super::keyword::Feature;
use super::source::Span;
use super::tree::Item;
use super::walk::Context;

const INCLUDES: [&str; 6] = [
    "include", "includer", "includem", "includew", "includeb", "includea",
];

static INCLUDE: Feature = Feature {
    name: "`include`",
    instead: "the included files would be missing",
    severity: Severity::Error,
};
static CONDITION: Feature = Feature {
    name: "conditional lines (`@id …`)",
    instead: "they would be missing",
    severity: Severity::Error,
};
static DEFINITION: Feature = Feature {
    name: "definitions (`$NAME=…`)",
    instead: "the lines that use them would be missing",
    severity: Severity::Error,
};
static SEQUENCE: Feature = Feature {
    name: "`~SEQ` and `~LST`",
    instead: "the lines they make would be missing",
    severity: Severity::Error,
};

/// Takes the lines that need a preprocessor out of the tree and reports them.
pub(crate) fn refuse(items: &mut Vec<Item>, ctx: &mut Context) {
    let mut defined = HashSet::new();
    collect_definitions(items, &mut defined);
    retain(items, &defined, ctx);
}

fn collect_definitions(items: &[Item], defined: &mut HashSet<String>) {
    for item in items {
        defined.extend(definition(item.keyword().0).map(str::to_owned));
        collect_definitions(item.body.as_deref().unwrap_or_default(), defined);
    }
}

fn retain(items: &mut Vec<Item>, defined: &HashSet<String>, ctx: &mut Context) {
    items.retain_mut(|item| {
        if let Some((feature, span)) = needs(item, defined) {
            ctx.feature(feature, span);
            return false;
        }
        if let Some(body) = item.body.as_mut() {
            retain(body, defined, ctx);
        }
        true
    });
}

fn needs(item: &Item, defined: &HashSet<String>) -> Option<(&'static Feature, Span)> {
    let (first, span) = item.keyword();
    if INCLUDES.contains(&first) {
        return Some((&INCLUDE, item.head()));
    }
    if first.starts_with('@') && first.len() > 1 {
        return Some((&CONDITION, item.head()));
    }
    if definition(first).is_some() {
        return Some((&DEFINITION, span));
    }
    item.words.iter().find_map(|word| {
        if word.text.starts_with("~SEQ") || word.text.starts_with("~LST") {
            Some((&SEQUENCE, word.span))
        } else if uses_definition(&word.text, defined) {
            Some((&DEFINITION, word.span))
        } else {
            None
        }
    })
}

/// The name in `$NAME=…`.
fn definition(word: &str) -> Option<&str> {
    let (name, _) = word.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some(name)
}

/// KEEPALIVED: an undefined `$X` is left as it is, so only defined and built-in names count.
fn uses_definition(word: &str, defined: &HashSet<String>) -> bool {
    word.match_indices('$').any(|(at, _)| {
        let after = word.get(at + 1..).unwrap_or("");
        let name = match after.strip_prefix('{') {
            Some(braced) => braced.split(['}', ' ']).next().unwrap_or(""),
            None => after.split(|c: char| !is_name_char(c)).next().unwrap_or(""),
        };
        defined.contains(name) || (is_name(name) && name.starts_with('_'))
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(is_name_char)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_has_a_name() {
        assert_eq!(definition("$A_1=x"), Some("A_1"));
        assert_eq!(definition("$=x"), None);
        assert_eq!(definition("$1=x"), None);
        assert_eq!(definition("A=x"), None);
    }

    #[test]
    fn only_defined_and_built_in_variables_are_uses() {
        let defined = HashSet::from(["A".to_owned()]);
        for used in ["$A", "x${A}y", "${_PWD}", "$_INSTANCE"] {
            assert!(uses_definition(used, &defined), "{used}");
        }
        for plain in ["pa$$word", "$B", "$", "${", "a$1"] {
            assert!(!uses_definition(plain, &defined), "{plain}");
        }
    }
}
