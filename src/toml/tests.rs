//! Tests of the rules of TOML one by one, of places in the source, and of limits. `valid`,
//! `invalid` and `invalid_tables` hold the tables of documents; `sound` tests cut, random and large
//! documents.

mod invalid;
mod invalid_tables;
mod sound;
mod valid;

use super::*;
use crate::source::Problem;

/// Groups of documents that TOML does not allow, each with its message.
fn invalid()
-> impl Iterator<Item = &'static (&'static str, &'static [(&'static str, &'static str)])> {
    invalid::INVALID.iter().chain(invalid_tables::INVALID)
}

/// Writes a value on one line, with its parts as Rust would write them.
fn rendered(kind: &Kind) -> String {
    match kind {
        Kind::String(text) => format!("{text:?}"),
        Kind::Integer(number) => number.to_string(),
        Kind::Float => "float".into(),
        Kind::Boolean(truth) => truth.to_string(),
        Kind::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(|it| rendered(&it.kind)).collect();
            format!("[{}]", elements.join(", "))
        }
        Kind::Table(table) => rendered_table(table),
    }
}

fn rendered_table(table: &Table) -> String {
    let is_bare = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let pairs = table.iter().map(|(key, value)| {
        let name = if is_bare(&key.name) { key.name.clone() } else { format!("{:?}", key.name) };
        format!("{name}: {}", rendered(&value.kind))
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// Gives the source and the span of a text in which `«` and `»` stand around the span.
fn unmarked(marked: &str) -> (String, Span) {
    let start = marked.find('«').unwrap();
    let end = marked.find('»').unwrap() - '«'.len_utf8();
    (marked.replace(['«', '»'], ""), Span { start, end })
}

fn problem(source: &str) -> Problem {
    match parse(source) {
        Ok(table) => panic!("{source:?} was accepted as {}", rendered_table(&table)),
        Err(problem) => problem,
    }
}

/// The text of every key and value, as their spans give it.
fn places<'s>(source: &'s str, table: &Table, found: &mut Vec<(&'s str, &'s str)>) {
    for (key, value) in table.iter() {
        found.push((text_at(source, key.span), text_at(source, value.span)));
        places_inside(source, &value.kind, found);
    }
}

fn places_inside<'s>(source: &'s str, kind: &Kind, found: &mut Vec<(&'s str, &'s str)>) {
    match kind {
        Kind::Table(table) => places(source, table, found),
        Kind::Array(elements) => {
            for element in elements {
                found.push(("-", text_at(source, element.span)));
                places_inside(source, &element.kind, found);
            }
        }
        _ => {}
    }
}

/// The text at a span. Panics if the span is not inside the source or not between characters.
fn text_at(source: &str, span: Span) -> &str {
    &source[span.start..span.end]
}

#[test]
fn valid_documents_have_their_values() {
    for (group, documents) in valid::VALID {
        for (source, value) in *documents {
            match parse(source) {
                Ok(table) => assert_eq!(rendered_table(&table), *value, "{group}: {source:?}"),
                Err(problem) => panic!("{group}: {source:?}: {problem:?}"),
            }
        }
    }
}

#[test]
fn invalid_documents_are_refused_with_place_and_message() {
    for (group, documents) in invalid() {
        for (marked, message) in *documents {
            let (source, span) = unmarked(marked);
            let found = problem(&source);
            assert_eq!((found.message.as_str(), found.span), (*message, span), "{group}: {marked}");
        }
    }
}

#[test]
fn messages_and_hints_have_one_form() {
    for (marked, _) in invalid().flat_map(|(_, documents)| *documents) {
        let found = problem(&unmarked(marked).0);
        for text in [Some(found.message), found.hint].into_iter().flatten() {
            let is_sentence = text.starts_with(char::is_uppercase) || text.ends_with(['.', ' ']);
            assert!(!is_sentence && !text.contains('\n'), "{text:?}");
        }
    }
}

#[test]
fn hints_say_what_to_do() {
    let cases = [
        ("\n\na = 1\na = 2", "first defined on line 3, as an integer"),
        ("[x]\r\n[a]\r\n[a]", "first defined on line 2, as a table with a header of its own"),
        ("a.b = 1\n[a]", "first defined on line 1, as a table made by dotted keys"),
        ("[[a]]", "a table with a name of its own has a header like `[vm.NAME]`"),
        ("a = {}\n[a]", "first defined on line 1, as an inline table"),
        ("[a.b]\n\n[a]\n[a]", "first defined on line 3, as a table with a header of its own"),
        ("b = 1\na = {}\na.b = 1", "first defined on line 2"),
        ("a = 07:32:00", "write it as a string: \"07:32:00\""),
        ("a = True", "booleans are `true` and `false`"),
        ("a = no", "booleans are `true` and `false`"),
        (
            "a = “x”",
            "a string needs `\"` or `'` around it; a number has digits, and no zero before them",
        ),
        (
            "a/b = 1",
            "a line is `[header]`, `key = value` or `# comment`; a key with other characters needs quotes",
        ),
        ("a = \"\\u00\"", "`\\u` takes 4 hexadecimal digits"),
        ("a = \"\\U00\"", "`\\U` takes 8 hexadecimal digits"),
        ("a = \"\\ud800\"", "code points end at U+10FFFF, and U+D800 to U+DFFF are none"),
        ("a = '\u{1}'", "in a string with double quotes, write it as `\\u0001`"),
        ("a = 1\r", "end lines with a newline, or a carriage return and a newline"),
        ("a = {\n}", "write a longer table below a [header] of its own"),
        ("a = ''''''''' ", "at most two quotes may stand before the closing three"),
    ];
    for (source, hint) in cases {
        assert_eq!(problem(source).hint.as_deref(), Some(hint), "{source:?}");
    }
    let escapes = problem("a = \"\\q\"").hint.unwrap();
    assert!(escapes.contains(r#"\b \t \n \f \r \" \\ \uXXXX \UXXXXXXXX"#), "{escapes}");
}

#[test]
fn types_are_named_with_their_article() {
    let table = parse("a = ['', 1, 1.0, true, [], {}]").unwrap();
    let Some(Kind::Array(elements)) = table.get("a").map(|value| &value.kind) else { panic!() };
    let names: Vec<_> = elements.iter().map(|element| element.kind.type_name()).collect();
    assert_eq!(names, ["a string", "an integer", "a float", "a boolean", "an array", "a table"]);
}

#[test]
fn spans_are_those_of_keys_and_values_as_written() {
    let cases: [(&str, &[(&str, &str)]); 10] = [
        ("\u{feff}é = 1", &[]),
        ("\u{feff}a = 1_0 # c", &[("a", "1_0")]),
        (" 'a b'\t= 'c' ", &[("'a b'", "'c'")]),
        ("\"\\u0061\" = \"\"\"\nb\"\"\"\"\r\n", &[("\"\\u0061\"", "\"\"\"\nb\"\"\"\"")]),
        (
            "a = [ 0x1f,\r\n+1.5e3 ,[true]]#",
            &[
                ("a", "[ 0x1f,\r\n+1.5e3 ,[true]]"),
                ("-", "0x1f"),
                ("-", "+1.5e3"),
                ("-", "[true]"),
                ("-", "true"),
            ],
        ),
        ("a = { b . c = 1 }", &[("a", "{ b . c = 1 }"), ("b", "b"), ("c", "1")]),
        ("a . b . c = inf", &[("a", "a"), ("b", "a . b"), ("c", "inf")]),
        ("[ a . b ]\nc = {}", &[("a", "a"), ("b", "a . b"), ("c", "{}")]),
        ("[ a.b ]\n[ 'a' ] # c", &[("'a'", "'a'"), ("b", "a.b")]),
        ("[\"é\".b]\nc=''", &[("\"é\"", "\"é\""), ("b", "\"é\".b"), ("c", "''")]),
    ];
    for (source, expected) in cases {
        let mut found = Vec::new();
        if let Ok(table) = parse(source) {
            places(source, &table, &mut found);
        }
        assert_eq!(found, expected, "{source:?}");
    }
}

#[test]
fn tables_keep_the_order_of_the_source_and_find_any_of_many_keys() {
    for count in [0, 1, UNINDEXED_ENTRIES_MAX, UNINDEXED_ENTRIES_MAX + 1, 10_000] {
        let lines =
            (0..count).rev().map(|n| format!("key{n} = {n}\n")).collect::<Vec<_>>().concat();
        let table = parse(&lines).unwrap();
        let names = table.iter().map(|(key, _)| key.name.clone());
        assert!(names.eq((0..count).rev().map(|n| format!("key{n}"))));
        for n in 0..count {
            let value = &table.get(&format!("key{n}")).unwrap().kind;
            assert_eq!(rendered(value), n.to_string());
        }
        assert!(table.get("key").is_none());
        let twice = format!("{lines}key0 = 0");
        assert_eq!(parse(&twice).is_err(), count > 0, "{count}");
    }
}

#[test]
fn depth_is_limited_however_it_is_made() {
    let max = DEPTH_MAX;
    let keys = |count: usize| vec!["k"; count].join(".");
    let cases: [(&str, &dyn Fn(usize) -> String); 7] = [
        ("arrays", &|n| format!("a = {}1{}", "[".repeat(n - 1), "]".repeat(n - 1))),
        ("inline tables", &|n| format!("a = {}1{}", "{a = ".repeat(n - 1), "}".repeat(n - 1))),
        ("dotted keys", &|n| format!("{} = 1", keys(n))),
        ("a header", &|n| format!("[{}]", keys(n))),
        ("a header and dots", &|n| format!("[{}]\nk.k.k = 1", keys(n - 3))),
        ("a header, dots, and an array", &|n| format!("[{}]\nk.k = [[1]]", keys(n - 4))),
        ("dots in inline tables", &|n| format!("k = {{{} = {{k = 1}}}}", keys(n - 2))),
    ];
    for (name, document) in cases {
        assert!(parse(&document(max)).is_ok(), "{name}");
        for depth in [max + 1, 10 * max, 1000 * max] {
            let found = problem(&document(depth));
            assert_eq!(found.message, "nested more than 64 deep", "{name}");
            assert_eq!(found.span.end - found.span.start, 1, "{name}");
        }
    }
    assert_eq!(problem(&"a = [".repeat(100_000)).message, "invalid value `a`");
    assert_eq!(problem(&format!("a = {}", "[".repeat(100_000))).span.start, "a = ".len() + 63);
}
