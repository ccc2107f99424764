//! Draws a text again and again in the same place, for a person who watches it.
//!
//! Only the text itself is overwritten (ECMA-48: CUU, EL, ED). So nothing flickers, earlier output
//! stays on the screen, and the terminal still works after the program ends in any way.

use crate::error::Error;
use crate::out::{self, Reader};
use crate::system::tty;
use std::io;

/// Rows and columns assumed for a terminal of unknown size.
const USUAL_SIZE: (usize, usize) = (24, 80);

pub(crate) struct Redraw {
    /// The number of drawn lines, all above the cursor.
    drawn: usize,
}

impl Redraw {
    /// Makes a `Redraw`; `None` where standard output is no terminal.
    pub(crate) fn on_terminal() -> Option<Self> {
        out::is_terminal().then_some(Self { drawn: 0 })
    }

    /// Draws the text over the previous one. Long lines are cut, and lines that do not fit on the
    /// screen are left out: otherwise, the start of the text could not be found again.
    pub(crate) fn draw(&mut self, text: &str) -> Result<Reader, Error> {
        let lines = fitted(text, tty::size(io::stdout()).unwrap_or(USUAL_SIZE));
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        self.drawn = lines.len();
        let lines: String = lines.iter().flat_map(|line| [line, "\x1b[K\n"]).collect();
        out::write(format!("\r{up}{lines}\x1b[J").as_bytes())
    }
}

/// The lines that fit on the screen, with the last row left for the cursor.
fn fitted(text: &str, (rows, columns): (usize, usize)) -> Vec<String> {
    let (rows, columns) = (rows.saturating_sub(1).max(1), columns.saturating_sub(1).max(1));
    let mut lines: Vec<String> =
        text.lines().map(|line| line.chars().take(columns).collect()).collect();
    if lines.len() > rows {
        let hidden = lines.len() - rows + 1;
        lines.truncate(rows - 1);
        lines.push(format!("... {hidden} more lines").chars().take(columns).collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut() {
        assert_eq!(fitted("ab\ncd\n", (3, 3)), ["ab", "cd"]);
        assert_eq!(fitted("abc\nd\n", (3, 3)), ["ab", "d"]);
        assert_eq!(fitted("a\nb\nc\nd", (4, 80)), ["a", "b", "... 2 more lines"]);
        assert_eq!(fitted("a\nb", (1, 1)), ["."]);
        assert_eq!(fitted("", (24, 80)), [""; 0]);
    }
}
