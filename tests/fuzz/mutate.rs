//! Inputs that are almost right: seeds with bytes flipped, pieces removed, repeated, moved, and
//! pasted from other seeds.

/// xorshift64*, by Vigna: enough to choose mutations.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, or 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from((self.next() >> 16) % limit).unwrap_or(0)
    }

    fn choose<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// Bytes that parsers care about.
const TOKENS: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    "\\u",
    "\\ud800",
    "{",
    "}",
    "{{",
    "}}",
    "<<",
    ">>",
    "[",
    "]",
    "[[",
    "]]",
    ".",
    ",",
    "=",
    "#",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\0",
    "\u{1b}",
    "\u{7f}",
    "é",
    "\u{feff}",
    "\u{202e}",
    "-",
    "--",
    "+",
    "0x",
    "1e9",
    "_",
    "inf",
    "nan",
    "true",
    "null",
    ":",
    "{{.a}}",
    "{{.vm.a}}",
    "$(id)",
    "`",
    "*",
    "%",
    "../",
    "9223372036854775808",
    "1979-05-27",
];

pub(crate) fn mutated(seeds: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = random.choose(seeds).as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(12)).min(input.len());
        match random.below(7) {
            0 => drop(input.drain(at..end)),
            1 => {
                let piece = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            2 => {
                let token = random.choose(TOKENS).as_bytes();
                input.splice(at..end, token.iter().copied());
            }
            3 => {
                let token = random.choose(TOKENS).as_bytes();
                input.splice(at..at, token.iter().copied());
            }
            4 => {
                let token = random.choose(TOKENS).repeat(random.below(300));
                input.splice(at..at, token.bytes());
            }
            5 => {
                let other = random.choose(seeds).as_bytes();
                let from = random.below(other.len());
                let to = (from + random.below(40)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    input
}
