//! Shell-style patterns for names: `*`, `?`, `[a-z]`, `[!a-z]`. Pure.

/// Whether a word is a pattern and not a name.
pub(crate) fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// Whether the whole name matches the pattern, by the rules of POSIX's Pattern Matching Notation
/// (XCU 2.14) without classes. A `[` that is not closed stands for itself.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    if first == '*' {
        let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
        return ends.any(|at| matches(rest, &name[at..]));
    }
    let Some(c) = name.chars().next() else { return false };
    let after = &name[c.len_utf8()..];
    match first {
        '?' => matches(rest, after),
        '[' => match bracket(rest, c) {
            Some((is_in, rest)) => is_in && matches(rest, after),
            None => c == '[' && matches(rest, after),
        },
        _ => c == first && matches(rest, after),
    }
}

/// Whether `c` is in the set that starts behind a `[`, and what follows the set.
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
