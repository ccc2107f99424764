//! Inspects the files of an image: which exist, and whether they are as declared now.

use super::bases;
use super::record::{Record, SIZE};
use crate::config::image::{DISK, KEY, PUBLIC_KEY, RECORD, SEED};
use crate::config::{Config, Declared};
use crate::vm::format;
use std::fmt;
use std::path::PathBuf;

/// The units of sizes, as powers of 2.
const UNITS: [(u32, &str); 6] =
    [(60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];

/// The state of an image in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Missing,
    /// There is a disk, and something that belongs to it is missing.
    Incomplete,
    Changed,
    Built,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Incomplete => "incomplete",
            Self::Changed => "changed",
            Self::Built => "built",
        })
    }
}

/// The sizes of a disk in bytes, before and after it is grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The state of an image's files.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// The names of the files that have to be made; making them loses nothing.
    pub(crate) missing: Vec<&'static str>,
    /// The file that the disk is based on, as its header says.
    pub(super) base: Option<PathBuf>,
    /// The base, if that file is gone.
    pub(crate) lost_base: Option<PathBuf>,
    /// The disk's header must be changed to where its base is now.
    pub(super) moves: bool,
    /// The keys of the declaration that have changed since the disk was made.
    pub(crate) changed: Vec<&'static str>,
    /// The change that makes the disk as large as `size` says, if it is not and can be.
    pub(crate) grows: Option<Growth>,
}

/// Inspects the files of an image, and changes none.
pub(crate) fn inspect(config: &Config, declared: &Declared) -> Inspection {
    let paths = &declared.paths;
    let needs = [
        (DISK, true),
        (SEED, declared.seed.is_some()),
        (KEY, declared.has_own_key()),
        (PUBLIC_KEY, declared.has_own_key()),
    ];
    let missing = needs.iter().filter(|(name, needed)| *needed && !paths.file(name).is_file());
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.contains(&DISK) {
        return Inspection { missing, ..Inspection::default() };
    }
    let header = format::disk(&paths.file(DISK)).unwrap_or_default();
    let base = header.backing.map(|name| bases::named(&paths.dir, &name));
    let (record, now) = (Record::read(paths), Record::now(config, declared));
    let file = base.as_deref().unwrap_or(&paths.dir);
    let mut changed = record.as_ref().map_or(vec![RECORD], |record| record.differs(&now, file));
    // Without the public key, the data for cloud-init is not known.
    if declared.has_own_key() && missing.contains(&PUBLIC_KEY) {
        changed.retain(|key| *key != "cloud_init");
    }
    let from = header.virtual_bytes;
    // A disk whose header cannot be read has no size.
    let growth = declared.size.filter(|_| from > 0).map(|(to, _)| Growth { from, to });
    // A snapshot that was loaded may have made the disk smaller than its record says.
    if growth.is_some_and(|growth| growth.from < growth.to) && !changed.contains(&SIZE) {
        changed.push(SIZE);
    }
    let can_grow = |growth: &Growth| growth.from <= growth.to && record.is_some();
    let grows = growth.filter(|growth| changed.contains(&SIZE) && can_grow(growth));
    let moves = base.as_deref().is_some_and(bases::must_move);
    let lost_base = base.clone().filter(|file| !file.exists());
    Inspection { missing, base, lost_base, moves, changed, grows }
}

impl Inspection {
    pub(crate) fn state(&self) -> State {
        match self {
            Self { missing, .. } if missing.contains(&DISK) => State::Missing,
            Self { missing, lost_base, .. } if !missing.is_empty() || lost_base.is_some() => {
                State::Incomplete
            }
            Self { changed, .. } if !changed.is_empty() => State::Changed,
            _ => State::Built,
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.state(), State::Built | State::Changed)
    }

    /// Whether the image is whole, and its base is where bases are kept.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_whole() && !self.moves
    }

    /// A warning about an image that was made from another declaration, and a hint what to do.
    pub(crate) fn warning(&self, name: &str) -> Option<(String, String)> {
        if self.changed.is_empty() {
            return None;
        }
        let changed = self.changed.join("`, `");
        let warning = format!("image `{name}` was built before its `{changed}` changed");
        let hint = match self.grows {
            Some(_) if self.changed == [SIZE] => {
                format!(
                    "`start` grows it unless it is in use, and so does `qqmgr img build {name}`"
                )
            }
            _ => format!("`qqmgr img reset {name}` builds it anew, without what was written to it"),
        };
        Some((warning, hint))
    }
}

/// Both sizes for people: `20 GiB` and `40 GiB`.
pub(crate) fn sizes(growth: Growth) -> [String; 2] {
    [growth.from, growth.to].map(whole).map(|(number, unit)| format!("{number} {unit}"))
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
