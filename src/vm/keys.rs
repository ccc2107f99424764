//! Keys by QEMU's names (`QKeyCode` of `qapi/ui.json`), and text as the keys that type it on a US
//! keyboard.
//!
//! Pure. The schema of the running QEMU has all names; this file has only those of the letters and
//! marks of a US keyboard, which are the same in `ui/keymaps` and the schema since 1.3.

/// Keys that are pressed one after the other and then released together.
pub(crate) type Chord = Vec<String>;

const SHIFT: &str = "shift";

/// The marks on the keys from `0` to `9`, with shift.
const ON_DIGITS: &str = ")!@#$%^&*(";
/// The other keys, each with what it types without shift, and with shift where that is used.
const OTHERS: &[(&str, &str)] = &[
    ("grave_accent", "`~"),
    ("minus", "-_"),
    ("equal", "=+"),
    ("bracket_left", "[{"),
    ("bracket_right", "]}"),
    ("backslash", "\\|"),
    ("semicolon", ";:"),
    ("apostrophe", "'\""),
    ("comma", ",<"),
    ("dot", ".>"),
    ("slash", "/?"),
    ("spc", " "),
    ("ret", "\n"),
    ("ret", "\r"),
    ("tab", "\t"),
    ("esc", "\u{1b}"),
];

/// Parses a chord such as `ctrl-alt-f2`. The error is the reason why it is invalid.
pub(crate) fn chord(word: &str) -> Result<Chord, String> {
    if word.contains('+') {
        return Err(format!("in `{word}`, a `-` joins the keys that are held together"));
    }
    let keys: Chord = word.split('-').map(str::to_string).collect();
    if keys.iter().any(String::is_empty) {
        let minus =
            if word.contains("--") || word == "-" { "; the key `-` is `minus`" } else { "" };
        return Err(format!("`{word}` has a `-` with no key beside it{minus}"));
    }
    Ok(keys)
}

/// The keys that type a text with backslash escapes. The error is the reason why the text cannot be
/// typed.
pub(crate) fn typed(text: &str) -> Result<Vec<Chord>, String> {
    let (mut chords, mut chars) = (Vec::new(), text.chars());
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => escaped(chars.next())?,
            c => c,
        };
        chords.push(
            of_char(c)
                .ok_or_else(|| format!("no key of a US keyboard types `{}`", c.escape_debug()))?,
        );
    }
    Ok(chords)
}

fn escaped(next: Option<char>) -> Result<char, String> {
    match next {
        Some('n') => Ok('\n'),
        Some('r') => Ok('\r'),
        Some('t') => Ok('\t'),
        Some('e') => Ok('\u{1b}'),
        Some('\\') => Ok('\\'),
        Some(c) => Err(format!("`\\{}` is none of \\n, \\r, \\t, \\e and \\\\", c.escape_debug())),
        None => Err("there is nothing after the backslash; `\\\\` is one".into()),
    }
}

fn of_char(c: char) -> Option<Chord> {
    let shifted = |key: &str| vec![SHIFT.to_string(), key.to_string()];
    if c.is_ascii_alphanumeric() {
        let key = c.to_ascii_lowercase().to_string();
        return Some(if c.is_ascii_uppercase() { shifted(&key) } else { vec![key] });
    }
    if let Some(digit) = ON_DIGITS.find(c) {
        return Some(shifted(&digit.to_string()));
    }
    let (key, typed) = OTHERS.iter().find(|(_, typed)| typed.contains(c))?;
    Some(if typed.starts_with(c) { vec![(*key).to_string()] } else { shifted(key) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        let chords = typed(text)?.into_iter().map(|chord| chord.join("-"));
        Ok(chords.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn text_as_keys() {
        for (text, expected) in [
            ("", ""),
            ("aZ0 )", "a shift-z 0 spc shift-0"),
            ("root\\n", "r o o t ret"),
            ("\\t\\e\\\\\\r\n\t", "tab esc backslash ret ret tab"),
            ("|_~\"", "shift-backslash shift-minus shift-grave_accent shift-apostrophe"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    /// Every printable ASCII character can be typed, each with different keys.
    #[test]
    fn every_ascii_character_has_keys() {
        let mut seen = std::collections::BTreeSet::new();
        for c in ' '..='~' {
            assert!(seen.insert(of_char(c).unwrap()), "{c}");
        }
        assert_eq!(seen.len(), 95);
    }

    #[test]
    fn refused() {
        for (text, expected) in [
            ("é", "no key of a US keyboard types `é`"),
            ("a\u{7f}", "no key of a US keyboard types `\\u{7f}`"),
            ("a\\x", "`\\x` is none of \\n, \\r, \\t, \\e and \\\\"),
            ("a\\", "there is nothing after the backslash; `\\\\` is one"),
        ] {
            assert_eq!(shown(text), Err(expected.to_string()), "{text:?}");
        }
        assert_eq!(chord("ctrl-alt-f2"), Ok(["ctrl", "alt", "f2"].map(String::from).into()));
        assert!(chord("").is_err() && chord("a-").is_err() && chord("-").is_err());
        let why = "`ctrl--` has a `-` with no key beside it; the key `-` is `minus`";
        assert_eq!(chord("ctrl--"), Err(why.to_string()));
    }
}
