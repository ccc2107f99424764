//! Offsets in strings, and documents that are cut, put together at random or large.

use super::*;

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
    let invalid = invalid().flat_map(|(_, documents)| *documents);
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
