//! Tests of the rules of TOML one by one, places in the source, limits, and every short sequence of
//! nasty fragments. `valid` and `invalid` hold the tables of documents.

mod invalid;
mod valid;

use super::*;
use crate::source::Problem;

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
    for (group, documents) in invalid::INVALID {
        for (marked, message) in *documents {
            let (source, span) = unmarked(marked);
            let found = problem(&source);
            assert_eq!((found.message.as_str(), found.span), (*message, span), "{group}: {marked}");
        }
    }
}

#[test]
fn messages_and_hints_have_one_form() {
    for (marked, _) in invalid::INVALID.iter().flat_map(|(_, documents)| *documents) {
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
        ("a = True", "booleans are `true` and `false`, in lower case"),
        ("a = x7", "a string needs quotes around it"),
        ("a/b = 1", "put quotes around the key"),
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

/// The offsets of the bytes of the one string value in `source`, and of its closing quotes.
fn offsets(source: &str) -> Vec<usize> {
    let table = parse(source).unwrap();
    let (_, value) = table.iter().next().unwrap();
    let Kind::String(text) = &value.kind else { panic!("{source:?} has no string") };
    let indexes = text.char_indices().map(|(index, _)| index).chain([text.len()]);
    indexes.map(|index| offset(source, value.span, index)).collect()
}

/// The place of a byte of the string at `span`.
fn offset(source: &str, span: Span, index: usize) -> usize {
    string::places(source, span)(Span { start: index, end: index }).start
}

#[test]
fn offsets_in_strings_are_exact() {
    let cases: [(&str, &[usize]); 18] = [
        ("a=''", &[3]),
        ("a='bc'", &[3, 4, 5]),
        ("a=\"é𝄞b\"", &[3, 5, 9, 10]),
        ("a='\\n'", &[3, 4, 5]),
        ("a=\"b\\nc\"", &[3, 4, 6, 7]),
        ("a=\"\\u00e9b\\U0001d11ec\\\"\"", &[3, 9, 10, 20, 21, 23]),
        ("a=\"\"\"\"\"\"", &[5]),
        ("a=\"\"\"bc\"\"\"", &[5, 6, 7]),
        ("a='''\nb\nc'''", &[6, 7, 8, 9]),
        ("a='''\r\nb\r\nc'''", &[7, 8, 10, 11]),
        ("a='''\n\nb'''", &[6, 7, 8]),
        ("a='''b'''''", &[5, 6, 7, 8]),
        ("a=''''''''", &[5, 6, 7]),
        ("a=\"\"\"\"b\"\"c\"\"\"", &[5, 6, 7, 8, 9, 10]),
        ("a=\"\"\"b\\\n  c\\  \r\n\r\n \td\"\"\"", &[5, 10, 20, 21]),
        ("a=\"\"\"\\\n\\\nb\\\n\"\"\"", &[9, 12]),
        ("a=\"\"\"\\\n\"\"\"", &[7]),
        ("a=\"\"\"b\\\\\nc\"\"\"", &[5, 6, 8, 9, 10]),
    ];
    for (source, expected) in cases {
        assert_eq!(offsets(source), expected, "{source:?}");
    }
}

#[test]
fn offsets_never_leave_the_source() {
    let source = "\"é\\n\" = 1 # \"";
    let span = Span { start: 0, end: 6 };
    let found: Vec<usize> = (0..5).map(|index| offset(source, span, index)).collect();
    assert_eq!(found, [1, 2, 3, 5, 5]);
    assert_eq!(offset(source, span, usize::MAX), 5);
    let unclosed = Span { start: 13, end: 14 };
    assert_eq!(offset(source, unclosed, 7), 13);
    assert_eq!(offset("", Span::default(), 7), 0);
}

/// Parses a document of any kind; panics unless all spans and offsets are sound.
fn check_sound(source: &str) {
    let table = match parse(source) {
        Ok(table) => table,
        Err(problem) => {
            text_at(source, problem.span);
            return;
        }
    };
    places(source, &table, &mut Vec::new());
    for (_, value) in table.iter() {
        if let Kind::String(text) = &value.kind {
            let mut last = value.span.start;
            for index in text.char_indices().map(|(index, _)| index).chain([text.len()]) {
                let offset = offset(source, value.span, index);
                assert!(offset > last && offset < value.span.end, "{source:?} {index}");
                assert!(source.is_char_boundary(offset), "{source:?} {index}");
                last = offset;
            }
        }
    }
}

#[test]
fn every_prefix_and_suffix_of_a_document_is_sound() {
    let valid = valid::VALID.iter().flat_map(|(_, documents)| *documents);
    let invalid = invalid::INVALID.iter().flat_map(|(_, documents)| *documents);
    for (source, _) in valid.chain(invalid) {
        for cut in (0..=source.len()).filter(|&cut| source.is_char_boundary(cut)) {
            check_sound(&source[..cut]);
            check_sound(&source[cut..]);
            check_sound(&format!("{}\0{}", &source[..cut], &source[cut..]));
        }
    }
}

/// Tries all sequences of up to four fragments, as they are and as the rest of a value.
#[test]
fn every_short_sequence_of_fragments_is_sound() {
    let fragments = [
        "a", ".", "=", " ", "\n", "\r", "[", "]", "{", "}", ",", "\"", "'", "\"\"\"", "\\", "#",
        "1", "é", "\\u00e9",
    ];
    let mut sequences = vec![String::new()];
    let mut checked = 0;
    for _ in 0..=4 {
        let mut longer = Vec::new();
        for sequence in &sequences {
            check_sound(sequence);
            checked += 1;
            longer.extend(fragments.iter().map(|fragment| format!("{sequence}{fragment}")));
        }
        sequences = longer;
    }
    assert_eq!(checked, (0..=4).map(|length| fragments.len().pow(length)).sum::<usize>());
}

/// Tries sequences of whole lines, for the rules about which definitions may stand together.
#[test]
fn every_short_sequence_of_lines_is_sound() {
    let lines = [
        "a = 1\n",
        "a = {}\n",
        "a = []\n",
        "a = [{}]\n",
        "a.b = 1\n",
        "a.b.c = 1\n",
        "b = 1\n",
        "b.c = {d = 1}\n",
        "[a]\n",
        "[a.b]\n",
        "[a.b.c]\n",
        "[c]\n",
        "[a.c]\n",
        "[b]\n",
        "a = \"\"\"",
        "a = [",
    ];
    let mut sequences = vec![String::new()];
    for _ in 0..=4 {
        for sequence in &sequences {
            check_sound(sequence);
        }
        let pairs = sequences.iter().flat_map(|start| lines.map(|line| format!("{start}{line}")));
        sequences = pairs.collect();
    }
}

/// Each of these documents would take minutes if the parser read the source repeatedly.
#[test]
fn large_documents_take_linear_time() {
    let n = 100_000;
    let documents = [
        format!("a = \"\"\"{}\"\"\"", "\"\"x".repeat(n)),
        format!("a = \"\"\"{}\"\"\"", "\\\n".repeat(n)),
        format!("a = \"\"\"{}", "\\ \\\n".repeat(n)),
        format!("a = \"{}\"", "\\\"".repeat(n)),
        format!("a = [{}]", "1,".repeat(n)),
        format!("a = 1{}", "_1".repeat(n)),
        format!("{0} = 1\n{0} = 1", "x".repeat(n)),
        "\n#".repeat(n),
        (0..n / 4).map(|number| format!("[a.k{number}]\n")).collect::<Vec<_>>().concat(),
        format!("{}a = 1\na = 1", "\n".repeat(n)),
    ];
    for document in &documents {
        if let Err(problem) = parse(document) {
            text_at(document, problem.span);
            assert!(problem.message.len() < 200, "{}", problem.message);
        }
    }
}
