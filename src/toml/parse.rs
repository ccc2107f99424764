//! The grammar: lines, headers, keys, arrays and inline tables.

use super::cursor::Cursor;
use super::define::{self, Path};
use super::{DEPTH_MAX, Key, Kind, Origin, Table, Value, number, shown, string};
use crate::source::{Problem, Span};

/// Reads a whole document, including a byte order mark at its start.
///
/// Fails on the first thing that TOML 1.0 does not allow, on date-times and arrays of tables, and
/// on values inside more than 64 keys and arrays.
pub(crate) fn parse(source: &str) -> Result<Table, Problem> {
    let mut cursor = Cursor::new(source);
    let mut root = Table::new(Origin::Header);
    lines(&mut cursor, &mut root, 0)?;
    while !cursor.at_end() {
        let path = header(&mut cursor)?;
        let table = define::by_header(source, &mut root, &path)?;
        lines(&mut cursor, table, path.len())?;
    }
    Ok(root)
}

/// Fills a table from the lines before the next header or the end.
fn lines(cursor: &mut Cursor, table: &mut Table, depth: usize) -> Result<(), Problem> {
    loop {
        cursor.skip_lines()?;
        if matches!(cursor.peek(), None | Some(b'[')) {
            return Ok(());
        }
        pair(cursor, table, depth)?;
        cursor.end_line("the value")?;
    }
}

/// Reads the header at the cursor, which is at a `[`.
fn header(cursor: &mut Cursor) -> Result<Path, Problem> {
    let start = cursor.position;
    if cursor.eat("[[") {
        let problem = Problem::new(cursor.span_from(start), "arrays of tables are not supported");
        return Err(problem.hint("a table with a name of its own has a header like `[vm.NAME]`"));
    }
    cursor.eat("[");
    cursor.skip_blanks();
    let path = path(cursor, 0)?;
    if !cursor.eat("]") {
        return Err(cursor.expected("`]` after the name in a header"));
    }
    cursor.end_line("the header")?;
    Ok(path)
}

/// Reads `key = value` into the table, or into the table inside it that the key's dots lead to.
fn pair(cursor: &mut Cursor, table: &mut Table, depth: usize) -> Result<(), Problem> {
    let path = path(cursor, depth)?;
    if !cursor.eat("=") {
        let key = shown(cursor.source, path.span());
        return Err(cursor.expected(&format!("`=` after the key `{key}`")));
    }
    let table = define::by_dots(cursor.source, table, &path)?;
    cursor.skip_blanks();
    let value = value(cursor, depth + path.len())?;
    table.insert(path.last, value);
    Ok(())
}

/// Reads a key with its dots and the blanks after it.
fn path(cursor: &mut Cursor, depth: usize) -> Result<Path, Problem> {
    let mut parents = Vec::new();
    loop {
        let last = key(cursor)?;
        if depth + parents.len() >= DEPTH_MAX {
            return Err(too_deep(last.span));
        }
        cursor.skip_blanks();
        if !cursor.eat(".") {
            return Ok(Path { parents, last });
        }
        cursor.skip_blanks();
        parents.push(last);
    }
}

fn key(cursor: &mut Cursor) -> Result<Key, Problem> {
    if matches!(cursor.peek(), Some(b'"' | b'\'')) {
        let start = cursor.position;
        if cursor.eat("\"\"\"") || cursor.eat("'''") {
            let message = "a multi-line string cannot be a key";
            return Err(Problem::new(cursor.span_from(start), message));
        }
        let (name, span) = string::string(cursor)?;
        return Ok(Key { name, span });
    }
    let span = cursor.take_while(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    match cursor.rest().chars().next() {
        Some(next) if !next.is_ascii() || "!$%&()*+/:;<>?@\\^`{|~".contains(next) => {
            // Some characters are invisible, or look like others.
            let code =
                if next.is_ascii() { String::new() } else { format!(" (U+{:04X})", next as u32) };
            let message = format!("`{next}`{code} is not allowed in a key without quotes");
            let hint = "a line is `[header]`, `key = value` or `# comment`; a key with other \
                        characters needs quotes";
            Err(Problem::new(cursor.here(), message).hint(hint))
        }
        _ if span.start == span.end => Err(cursor.expected("a key")),
        _ => Ok(Key { name: cursor.source[span.start..span.end].to_owned(), span }),
    }
}

/// Reads the value at the cursor, which is inside `depth` keys and arrays.
fn value(cursor: &mut Cursor, depth: usize) -> Result<Value, Problem> {
    let start = cursor.position;
    let kind = match cursor.peek() {
        Some(b'"' | b'\'') => Kind::String(string::string(cursor)?.0),
        Some(b'[' | b'{') if depth >= DEPTH_MAX => return Err(too_deep(cursor.here())),
        Some(b'[') => Kind::Array(array(cursor, depth)?),
        Some(b'{') => Kind::Table(inline_table(cursor, depth)?),
        _ => return number::scalar(cursor),
    };
    let span = cursor.span_from(start);
    Ok(Value { kind, span })
}

fn array(cursor: &mut Cursor, depth: usize) -> Result<Vec<Value>, Problem> {
    let open = cursor.here();
    cursor.eat("[");
    let mut elements = Vec::new();
    loop {
        skip_lines_inside(cursor, open)?;
        if cursor.eat("]") {
            return Ok(elements);
        }
        elements.push(value(cursor, depth + 1)?);
        skip_lines_inside(cursor, open)?;
        if !cursor.eat(",") && cursor.peek() != Some(b']') {
            return Err(cursor.expected("`,` or `]` in an array"));
        }
    }
}

fn skip_lines_inside(cursor: &mut Cursor, open: Span) -> Result<(), Problem> {
    cursor.skip_lines()?;
    if cursor.at_end() {
        return Err(Problem::new(open, "unclosed array"));
    }
    Ok(())
}

fn inline_table(cursor: &mut Cursor, depth: usize) -> Result<Table, Problem> {
    let open = cursor.here();
    cursor.eat("{");
    let mut table = Table::new(Origin::Inline);
    skip_blanks_inside(cursor, open)?;
    if cursor.eat("}") {
        return Ok(table);
    }
    loop {
        pair(cursor, &mut table, depth)?;
        skip_blanks_inside(cursor, open)?;
        if cursor.eat("}") {
            return Ok(table);
        }
        let comma = cursor.here();
        if !cursor.eat(",") {
            return Err(cursor.expected("`,` or `}` in an inline table"));
        }
        skip_blanks_inside(cursor, open)?;
        if cursor.peek() == Some(b'}') {
            let message = "no comma is allowed before the `}` of an inline table";
            return Err(Problem::new(comma, message));
        }
    }
}

fn skip_blanks_inside(cursor: &mut Cursor, open: Span) -> Result<(), Problem> {
    cursor.skip_blanks();
    if cursor.at_end() {
        return Err(Problem::new(open, "unclosed inline table"));
    }
    if cursor.at_newline() || cursor.peek() == Some(b'#') {
        let message = "an inline table must end on the line it begins on";
        let hint = "write a longer table below a [header] of its own";
        return Err(Problem::new(open, message).hint(hint));
    }
    Ok(())
}

fn too_deep(span: Span) -> Problem {
    Problem::new(span, format!("nested more than {DEPTH_MAX} deep"))
}
