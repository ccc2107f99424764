//! Shell-style patterns for names: `*`, `?`, `[a-z]`, `[!a-z]`. Pure.

/// Whether a word is a pattern and not a name.
pub(crate) fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// Whether the whole name matches the pattern, by the rules of POSIX's Pattern Matching Notation
/// (XCU 2.14) without classes. A `[` that is not closed stands for itself.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // The pattern after the last `*`, and the part of the name that this `*` may still take more
    // of. Only the last `*` needs this: what the earlier ones took can stay as it is.
    let mut star: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            pattern = rest;
            star = Some((pattern, name));
        } else if pattern.is_empty() && name.is_empty() {
            return true;
        } else if let Some((rest, after)) = one(pattern, name) {
            (pattern, name) = (rest, after);
        } else if let Some((rest, given_up)) = star.and_then(|(p, n)| Some((p, one("?", n)?.1))) {
            star = Some((rest, given_up));
            (pattern, name) = (rest, given_up);
        } else {
            return false;
        }
    }
}

/// Matches the pattern's first part, other than `*`, with one character; gives the rest of both.
fn one<'a, 'b>(pattern: &'a str, name: &'b str) -> Option<(&'a str, &'b str)> {
    let (first, c) = (pattern.chars().next()?, name.chars().next()?);
    let rest = &pattern[first.len_utf8()..];
    let (is_it, rest) = match first {
        '?' => (true, rest),
        '[' => bracket(rest, c).unwrap_or((c == '[', rest)),
        _ => (c == first, rest),
    };
    is_it.then(|| (rest, &name[c.len_utf8()..]))
}

/// Whether `c` is in the set that starts after a `[`, and what follows the set.
fn bracket(text: &str, c: char) -> Option<(bool, &str)> {
    let (negated, set) = match text.strip_prefix(['!', '^']) {
        Some(set) => (true, set),
        None => (false, text),
    };
    // A `]` right at the start is a member.
    let end = set.char_indices().skip(1).find(|(_, c)| *c == ']').map(|(at, _)| at)?;
    let members: Vec<char> = set[..end].chars().collect();
    let mut found = false;
    let mut at = 0;
    while let Some(low) = members.get(at) {
        if let (Some('-'), Some(high)) = (members.get(at + 1), members.get(at + 2)) {
            found |= (low..=high).contains(&&c);
            at += 3;
        } else {
            found |= *low == c;
            at += 1;
        }
    }
    Some((found != negated, &set[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A naive search would never end.
    #[test]
    fn many_stars_cost_little() {
        let (pattern, name) = ("*a".repeat(100) + "b", "a".repeat(1000));
        assert!(!matches(&pattern, &name));
        assert!(matches(&pattern, &(name + "b")));
    }

    #[test]
    fn patterns_of_a_shell() {
        for (pattern, yes, no) in [
            ("a", &["a"][..], &["", "b", "ab"][..]),
            ("*", &["", "a", "a.b-c"], &[]),
            ("node-*", &["node-", "node-1", "node-1-2"], &["node", "xnode-1"]),
            ("*-?", &["a-b", "-b", "a-b-c"], &["a-", "ab"]),
            ("n[0-9a]", &["n0", "n9", "na"], &["nb", "n", "n00"]),
            ("n[!0-9]", &["na", "n-"], &["n1", "n"]),
            ("[]]", &["]"], &["["]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[ab", &["[ab"], &["a", "b"]),
            ("**a", &["a", "ba"], &["b"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }
}
