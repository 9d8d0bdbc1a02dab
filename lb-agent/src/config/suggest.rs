// SPDX-License-Identifier: MIT OR Apache-2.0
//! Did you mean: which known word a misspelt one was meant to be.
//!
//! Comes in: a word and candidates. Goes out: the nearest candidate, or none when nothing is near
//! enough to be worth an operator's time. Pure; called by `walk` (keywords) and `args` (values).

/// Longer words than this are not keywords; comparing them costs time for nothing.
const MAX_CHARS: usize = 64;

/// How many slips a word of this length may hold: one in a short word, three in a long one.
fn tolerated(chars: usize) -> usize {
    match chars {
        0..=2 => 0,
        3..=4 => 1,
        5..=7 => 2,
        _ => 3,
    }
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`
/// (Damerau-Levenshtein in its restricted form), upper and lower case being the same.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut before_last: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    let mut previous_a = None;
    for (row, &ca) in a.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut left = row + 1;
        let mut previous_b = None;
        for (column, &cb) in b.iter().enumerate() {
            let above = last.get(column + 1).copied().unwrap_or(usize::MAX);
            let diagonal = last.get(column).copied().unwrap_or(usize::MAX);
            let mut cost = (diagonal + usize::from(ca != cb))
                .min(above + 1)
                .min(left + 1);
            if previous_a == Some(cb) && previous_b == Some(ca) && column > 0 {
                let swapped = before_last.get(column - 1).copied().unwrap_or(usize::MAX);
                cost = cost.min(swapped.saturating_add(1));
            }
            current.push(cost);
            left = cost;
            previous_b = Some(cb);
        }
        previous_a = Some(ca);
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(0)
}

/// The candidate nearest to `word`, if it is near enough.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let fold = |text: &str| -> Vec<char> { text.chars().flat_map(char::to_lowercase).collect() };
    let folded = fold(word);
    if folded.len() > MAX_CHARS {
        return None;
    }
    let tolerated = tolerated(folded.len());
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= tolerated * 4)
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(slips, candidate)| *slips <= tolerated && *candidate != word)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// A keyword glued to its value: `auth_typePASS` is (`auth_type`, `PASS`).
pub(crate) fn glued<'a, 'w>(
    word: &'w str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, &'w str)> {
    const SHORTEST_KEYWORD: usize = 4;
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() >= SHORTEST_KEYWORD)
        .filter_map(|candidate| {
            let rest = word
                .strip_prefix(candidate)?
                .trim_start_matches(['_', ':', '=']);
            (!rest.is_empty()).then_some((candidate, rest))
        })
        .max_by_key(|(candidate, _)| candidate.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slips(a: &str, b: &str) -> usize {
        distance(
            &a.chars().collect::<Vec<_>>(),
            &b.chars().collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_slip_is_an_insertion_deletion_substitution_or_swap() {
        assert_eq!(slips("weigth", "weight"), 1);
        assert_eq!(slips("macast_src_ip", "mcast_src_ip"), 1);
        assert_eq!(slips("no_premmpt", "nopreempt"), 2);
        assert_eq!(slips("", "abc"), 3);
        assert_eq!(slips("abc", ""), 3);
        assert_eq!(slips("same", "same"), 0);
    }

    #[test]
    fn short_words_must_be_nearer_than_long_ones() {
        assert_eq!(nearest("rrr", ["rr", "wlc"]), Some("rr"));
        assert_eq!(nearest("ab", ["ac"]), None);
        assert_eq!(
            nearest("smtp_connect_time", ["smtp_connect_timeout"]),
            Some("smtp_connect_timeout")
        );
        assert_eq!(nearest("weight", ["retry", "alpha"]), None);
    }

    #[test]
    fn upper_and_lower_case_are_one_slip_of_none() {
        assert_eq!(nearest("master", ["MASTER", "BACKUP"]), Some("MASTER"));
        assert_eq!(nearest("tcp_check", ["TCP_CHECK"]), Some("TCP_CHECK"));
    }

    #[test]
    fn the_longest_glued_keyword_wins() {
        assert_eq!(
            glued(
                "virtual_server_groupA",
                ["virtual_server", "virtual_server_group"]
            ),
            Some(("virtual_server_group", "A"))
        );
        assert_eq!(
            glued("auth_typePASS", ["auth_type"]),
            Some(("auth_type", "PASS"))
        );
        assert_eq!(glued("auth_type", ["auth_type"]), None);
    }
}
