//! `image.json`: what a disk was made from, to see whether the declaration has changed since.

use super::seed;
use crate::config::declared::{DeclaredBase, Location};
use crate::config::image::{ImagePaths, RECORD};
use crate::config::sum::Sum;
use crate::config::{Config, Declared};
use crate::error::Error;
use crate::json::{self, Value};
use crate::system::files;
use crate::text::fingerprint;
use crate::vm::record;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

pub(super) const SIZE: &str = "size";
pub(super) const BACKING: &str = "backing";
/// Whether no wait has seen cloud-init done on the disk. Older versions did not record that.
pub(super) const FIRST_BOOT: &str = "first_boot";
/// The fingerprint of data that cannot be known, or that an older version wrote in another form.
const UNKNOWN: &str = "?";
const BYTES_MAX: u64 = 64 * 1024;
const BASE: &str = "base";

/// The members of `image.json`: what a disk was made from.
///
/// `base`, `sha256` and `sha512` are as declared; `backing` is the file that the disk is based on.
/// `version` has the bytes and the time of change of a base without a sum: when that base changes,
/// the disk is broken. `cloud_init` is a fingerprint of the data.
pub(super) struct Record(Value);

impl Record {
    /// The record of a disk that would be made now, without `backing`.
    pub(super) fn now(config: &Config, declared: &Declared) -> Self {
        let base = declared.base.as_ref();
        let seed = match seed::content(config, declared) {
            Ok(content) => content.map(|content| fingerprint(content.user_data.as_bytes())),
            Err(_) => Some(UNKNOWN.into()),
        };
        let location = base.map(|base| match &base.location {
            Location::Url(url) => url.clone(),
            Location::File(file) => file.display().to_string(),
        });
        let sums = || base.iter().flat_map(|base| &base.sums);
        let sum = |key| sums().find(|sum| sum.key() == key).map(Sum::digits);
        Self(Value::object([
            ("format", record::FORMAT.into()),
            (BASE, location.into()),
            ("sha256", sum("sha256").into()),
            (BACKING, Value::Null),
            ("version", base.and_then(version).into()),
            (SIZE, declared.size.map(|(size, _)| size).into()),
            ("cloud_init", seed.into()),
            ("sha512", sum("sha512").into()),
        ]))
    }

    /// The record with another value of a member.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(members) = &mut self.0 {
            members.retain(|(member, _)| member != name);
            members.push((name.to_string(), value.into()));
        }
        self
    }

    /// Whether `now` declares the disk's base, which may be gone, or has moved with the project.
    pub(super) fn has_base_of(&self, now: &Self, base: &Path) -> bool {
        let Some(declared) = now.text(BASE).map(Path::new) else { return false };
        let Ok(real) = declared.canonicalize() else { return false };
        let same = |key: &str| self.text(key).is_some() && self.text(key) == now.text(key);
        let has_content = ["sha256", "sha512", "version"].into_iter().any(same);
        let is_moved = has_content && declared.file_name() == base.file_name();
        base.canonicalize().map_or(is_moved, |base| base == real)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.text(name)
    }

    /// The first checksum of the base, if any was declared.
    pub(super) fn sum(&self) -> Option<Sum> {
        ["sha256", "sha512"].into_iter().find_map(|key| Sum::of_key(key, self.text(key)?))
    }

    pub(super) fn is_first_boot(&self) -> bool {
        self.0.is_true(FIRST_BOOT)
    }

    /// The keys of the declaration whose meaning differs between this record and `now`, for a disk
    /// on the file `base`.
    pub(super) fn differs(&self, now: &Self, base: &Path) -> Vec<&'static str> {
        let is_same = |name: &str| self.0.get(name) == now.0.get(name);
        let sums = |key| self.text(key).zip(now.text(key));
        let is_other = |key| sums(key).is_some_and(|(sum, now)| sum != now);
        // The same content from another place counts as the same base.
        let same_content = ["sha256", "sha512"].into_iter().find_map(sums);
        let same_content = same_content.is_some_and(|(sum, now)| sum == now);
        // Older versions wrote the data in another form, and its fingerprint as `seed`.
        let seed = self.text("cloud_init").or(self.text("seed").map(|_| UNKNOWN));
        let seed_now = now.text("cloud_init");
        let has_base = is_same(BASE) || self.has_base_of(now, base);
        let differences = [
            (BASE, !(same_content || has_base && is_same("version"))),
            ("sha256", is_other("sha256")),
            ("sha512", is_other("sha512")),
            (SIZE, !is_same(SIZE)),
            ("cloud_init", seed != seed_now && !(seed == Some(UNKNOWN) && seed_now.is_some())),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Returns an error when a newer program made the disk: this one might destroy something.
    pub(super) fn check(paths: &ImagePaths) -> Result<(), Error> {
        record::read(&paths.file(RECORD), BYTES_MAX).map(|_| ())
    }

    /// Reads the record; `None` when there is none, or this program did not write it.
    pub(super) fn read(paths: &ImagePaths) -> Option<Self> {
        let value = json::parse(&files::read_start(&paths.file(RECORD), BYTES_MAX).ok()?).ok()?;
        let members = [BASE, "sha256", BACKING, "version", SIZE];
        members.iter().all(|name| value.get(name).is_some()).then_some(Self(value))
    }

    pub(super) fn write(&self, paths: &ImagePaths) -> Result<(), Error> {
        files::write_private(&paths.file(RECORD), self.0.pretty())
    }
}

fn version(base: &DeclaredBase) -> Option<String> {
    let Location::File(file) = &base.location else { return None };
    if !base.sums.is_empty() {
        return None;
    }
    let metadata = file.metadata().ok()?;
    Some(format!("{} {}.{:09}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}
