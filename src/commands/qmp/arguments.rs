//! Turns words into the arguments of a QMP command, as httpie(1) takes them: `key=TEXT`,
//! `key:=JSON`. A dot in a key leads into an object, as in QEMU's own
//! `-blockdev driver=qcow2,file.filename=x`. Alternatively, one word is the whole object.

use crate::json::{self, Value};

/// Reads the arguments; `None` if there are no words. An error is the end of a sentence that the
/// caller begins.
pub(super) fn read(words: &[String]) -> Result<Option<Value>, String> {
    if let [word] = words
        && word.starts_with('{')
    {
        let parsed = json::parse(word.as_bytes());
        return parsed.map(Some).map_err(|error| format!("`{word}` is not valid JSON: {error}"));
    }
    let mut members = Vec::new();
    for word in words {
        let (key, value) = pair(word)?;
        let path: Vec<&str> = key.split('.').collect();
        if path.contains(&"") {
            return Err(format!("`{word}` has no whole name before the `=`"));
        }
        put(&mut members, &path, value).map_err(|why| format!("`{word}`: {why}"))?;
    }
    Ok((!words.is_empty()).then_some(Value::Object(members)))
}

/// Splits a word into its key and its value.
fn pair(word: &str) -> Result<(&str, Value), String> {
    let (key, value) = word.split_once('=').ok_or_else(|| {
        format!("`{word}` is not an argument: write `key=TEXT`, `key:=JSON` or one `{{...}}`")
    })?;
    let Some(key) = key.strip_suffix(':') else { return Ok((key, value.into())) };
    let value = json::parse(value.as_bytes());
    value.map(|value| (key, value)).map_err(|error| {
        format!("`{word}` has no valid JSON after `:=`: {error}; `{key}=` takes any text")
    })
}

/// Puts a value at the path, and makes the objects on the way.
fn put(members: &mut Vec<(String, Value)>, path: &[&str], value: Value) -> Result<(), String> {
    let Some((name, inside)) = path.split_first() else { return Ok(()) };
    let found = members.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value);
    match (found, inside) {
        (None, []) => members.push(((*name).to_string(), value)),
        (None, _) => {
            let mut inner = Vec::new();
            put(&mut inner, inside, value)?;
            members.push(((*name).to_string(), Value::Object(inner)));
        }
        (Some(Value::Object(inner)), [_, ..]) => put(inner, inside, value)?,
        (Some(_), []) => return Err(format!("`{name}` is given twice")),
        (Some(_), _) => return Err(format!("`{name}` already has a value that is not an object")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        read(&words).map(|value| value.map(|value| value.compact()).unwrap_or_default())
    }

    #[test]
    fn text_json_and_objects() {
        for (words, expected) in [
            (&[][..], ""),
            (
                &["a=1", "b:=1", "c=", "d=e=f", "g=:=h"],
                r#"{"a": "1", "b": 1, "c": "", "d": "e=f", "g": ":=h"}"#,
            ),
            (&["a:=[true, null, {\"b\": \"c\"}]"], r#"{"a": [true, null, {"b": "c"}]}"#),
            (&["a.b=1", "c=2", "a.d.e:=3"], r#"{"a": {"b": "1", "d": {"e": 3}}, "c": "2"}"#),
            (&["a:={\"b\": 1}", "a.c=2"], r#"{"a": {"b": 1, "c": "2"}}"#),
            (&["{\"a\": 1.50, \"b.c\": {}}"], r#"{"a": 1.50, "b.c": {}}"#),
            (&["{}"], "{}"),
        ] {
            assert_eq!(shown(words).as_deref(), Ok(expected), "{words:?}");
        }
    }

    #[test]
    fn refused() {
        for (words, expected) in [
            (&["a"][..], "`a` is not an argument: write `key=TEXT`, `key:=JSON` or one `{...}`"),
            (&["=1"], "`=1` has no whole name before the `=`"),
            (&[":=1"], "`:=1` has no whole name before the `=`"),
            (&["a..b=1"], "`a..b=1` has no whole name before the `=`"),
            (
                &["a:=x"],
                "`a:=x` has no valid JSON after `:=`: expected a value at byte 0; `a=` takes any text",
            ),
            (&["a=1", "a=2"], "`a=2`: `a` is given twice"),
            (&["a.b=1", "a=2"], "`a=2`: `a` is given twice"),
            (&["a=1", "a.b=2"], "`a.b=2`: `a` already has a value that is not an object"),
            (
                &["{}", "a=1"],
                "`{}` is not an argument: write `key=TEXT`, `key:=JSON` or one `{...}`",
            ),
            (&["{"], "`{` is not valid JSON: expected a name in double quotes at byte 1"),
        ] {
            assert_eq!(shown(words), Err(expected.to_string()), "{words:?}");
        }
    }
}
