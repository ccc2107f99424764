//! The sizes of a disk before and after it is grown.

use std::fmt;

/// The units of sizes, as powers of 2.
const UNITS: [(u32, &str); 6] =
    [(60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];

/// The sizes of a disk in bytes, before and after it is grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Growth {
    /// Both sizes for people: `20 GiB` and `40 GiB`.
    pub(crate) fn sizes(self) -> [String; 2] {
        [self.from, self.to].map(whole).map(|(number, unit)| format!("{number} {unit}"))
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, unit) = whole(self.from);
        let (to, unit_to) = whole(self.to);
        let unit = if unit == unit_to { String::new() } else { format!(" {unit}") };
        write!(f, "grown from {from}{unit} to {to} {unit_to}")
    }
}

/// The number of the largest units that make up a size exactly.
fn whole(bytes: u64) -> (u64, &'static str) {
    let unit = UNITS.iter().find(|(power, _)| bytes.trailing_zeros() >= *power);
    unit.map_or((bytes, "bytes"), |(power, unit)| (bytes >> power, *unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_largest_unit_that_fits() {
        for (from, to, expected) in [
            (20 << 30, 40 << 30, "grown from 20 to 40 GiB"),
            (2252 << 20, 20 << 30, "grown from 2252 MiB to 20 GiB"),
            (512, 1 << 40, "grown from 512 bytes to 1 TiB"),
        ] {
            assert_eq!(Growth { from, to }.to_string(), expected);
        }
    }
}
