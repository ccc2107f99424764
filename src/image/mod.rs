//! The images that the configuration declares: what there is of each ([`look`]), what is made of
//! that ([`build`]), from a base that may have to be fetched ([`fetch`]), is kept ([`keep`]) and is
//! looked at before it is used ([`base`]), with a file system for cloud-init beside it ([`seed`]).
//!
//! A disk appears under its name when everything that belongs to it is there, so that one which is
//! there is whole. What a VM wrote to it is lost by `reset` and `remove` of [`build::Maker`] only.

pub(crate) mod base;
pub(crate) mod build;
mod fat;
pub(crate) mod fetch;
mod forget;
pub(crate) mod hold;
mod keep;
mod record;
pub(crate) mod seed;
mod tools;
mod yaml;

use crate::config::{Config, Declared, ImagePaths, Location};
use crate::vm::format;
use record::Record;
use std::path::PathBuf;

/// What there is of an image.
#[derive(Debug)]
pub(crate) struct Look {
    /// The file names of what is to be made; all can be without a loss.
    pub(crate) missing: Vec<&'static str>,
    /// The file that the disk is based on, as its header says.
    base: Option<PathBuf>,
    /// The same file if it is not there any more.
    pub(crate) lost_base: Option<PathBuf>,
    /// The disk has to be told where its base is now.
    moves: bool,
    /// The keys of the declaration that say something else than when the disk was made.
    pub(crate) changed: Vec<&'static str>,
    /// The new `size` is not below that of the disk, which can become so without a loss.
    grows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Missing,
    /// There is a disk, and something that belongs to it is missing.
    Incomplete,
    Changed,
    Built,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Incomplete => "incomplete",
            Self::Changed => "changed",
            Self::Built => "built",
        }
    }
}

const DISK: &str = "disk.qcow2";
/// The key of the declaration.
const SIZE: &str = "size";
const SEED: &str = "seed.img";
const KEY: &str = "id_ed25519";
const PUBLIC_KEY: &str = "id_ed25519.pub";

/// Looks at the files of an image, and changes none.
pub(crate) fn look(config: &Config, declared: &Declared, paths: &ImagePaths) -> Look {
    let dir = &paths.dir;
    let needs = [
        (DISK, true),
        (SEED, declared.seed.is_some()),
        (KEY, declared.has_own_key()),
        (PUBLIC_KEY, declared.has_own_key()),
    ];
    let missing = needs.iter().filter(|(name, needed)| *needed && !dir.join(name).is_file());
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.contains(&DISK) {
        let changed = Vec::new();
        return Look { missing, base: None, lost_base: None, moves: false, changed, grows: false };
    }
    let record = Record::read(paths);
    let mut changed = match &record {
        Some(record) => record.differs(&Record::of(config, declared, paths)),
        None => vec![record::FILE],
    };
    // Without the public key it cannot be told what cloud-init gets.
    if declared.has_own_key() && missing.contains(&PUBLIC_KEY) {
        changed.retain(|key| *key != "cloud_init");
    }
    let header = format::disk(&dir.join(DISK)).unwrap_or_default();
    let base = header.backing.map(PathBuf::from);
    let is_larger = |(size, _)| size >= header.virtual_bytes && header.virtual_bytes > 0;
    let grows = changed.contains(&SIZE) && declared.size.is_some_and(is_larger);
    let moves = base.as_deref().is_some_and(keep::must_move);
    let lost_base = base.clone().filter(|file| !file.exists());
    Look { missing, base, lost_base, moves, changed, grows }
}

impl Look {
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

    /// Whether it is whole, and its base is where bases are kept.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_whole() && !self.moves
    }

    /// Whether `img build` makes it larger.
    pub(crate) fn grows(&self) -> bool {
        self.grows
    }

    /// What to tell of an image that was made from another declaration, and what to do about it.
    pub(crate) fn warning(&self, name: &str) -> Option<(String, String)> {
        if self.changed.is_empty() {
            return None;
        }
        let changed = self.changed.join("`, `");
        let warning = format!("image `{name}` was built before its `{changed}` changed");
        let hint = if self.grows && self.changed == [SIZE] {
            format!("`qqmgr img build {name}` grows it")
        } else {
            format!("`qqmgr img reset {name}` builds it anew, without what was written to it")
        };
        Some((warning, hint))
    }
}

/// Where a base is, as it is told.
pub(crate) fn shown(location: &Location) -> String {
    match location {
        Location::Url(url) => url.clone(),
        Location::File(file) => file.display().to_string(),
    }
}
