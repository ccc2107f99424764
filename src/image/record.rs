//! `image.json`: what a disk was made from, to see whether the declaration has changed since.

use super::seed;
use crate::config::Config;
use crate::config::declared::{Declared, DeclaredBase, Location};
use crate::config::image::{ImagePaths, RECORD};
use crate::error::Error;
use crate::json::{self, Value};
use crate::system::files;
use crate::text::fingerprint;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The key of the declaration.
pub(super) const SIZE: &str = "size";
/// The fingerprint of data that is not known: it could not be put together, or an older version of
/// this program wrote it in another form.
const UNKNOWN: &str = "?";
const BYTES_MAX: u64 = 64 * 1024;
/// The format of the records that this program writes. Version 0.1 wrote no number; a program that
/// changes what a field means increases it.
const FORMAT: u64 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The base as it is declared.
    pub(super) base: Option<String>,
    pub(super) sha256: Option<String>,
    /// The file that the disk is based on.
    pub(super) backing: Option<PathBuf>,
    /// Bytes and time of change of a base without a sum: when the base changes, the disk is broken.
    pub(super) version: Option<String>,
    pub(super) size: Option<u64>,
    /// A fingerprint of the data for cloud-init.
    pub(super) seed: Option<String>,
}

impl Record {
    /// The record of a disk that would be made now, without `backing`.
    pub(super) fn now(config: &Config, declared: &Declared) -> Self {
        let base = declared.base.as_ref();
        let seed = match seed::content(config, declared) {
            Ok(content) => content.map(|content| fingerprint(content.user_data.as_bytes())),
            Err(_) => Some(UNKNOWN.into()),
        };
        Self {
            base: base.map(|base| match &base.location {
                Location::Url(url) => url.clone(),
                Location::File(file) => file.display().to_string(),
            }),
            sha256: base.and_then(|base| base.sha256.clone()),
            backing: None,
            version: base.and_then(version),
            size: declared.size.map(|(size, _)| size),
            seed,
        }
    }

    /// The keys of the declaration whose meaning differs between this record and `now`.
    pub(super) fn differs(&self, now: &Self) -> Vec<&'static str> {
        let same_base = (&self.base, &self.version) == (&now.base, &now.version);
        // The same content from another place counts as the same base.
        let same_content = self.sha256.is_some() && self.sha256 == now.sha256;
        let is_old = self.seed.as_deref() == Some(UNKNOWN) && now.seed.is_some();
        let is_same_seed = is_old || self.seed == now.seed;
        let differences = [
            ("base", !same_base && !same_content),
            ("sha256", self.sha256 != now.sha256 && self.sha256.is_some() && now.sha256.is_some()),
            (SIZE, self.size != now.size),
            ("cloud_init", !is_same_seed),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Returns an error when a newer program made the disk: it may hold what this one would
    /// destroy.
    pub(super) fn check(paths: &ImagePaths) -> Result<(), Error> {
        let record = paths.file(RECORD);
        let bytes = files::read_if_there(&record, BYTES_MAX)?.unwrap_or_default();
        let value = json::parse(&bytes).unwrap_or(Value::Null);
        match value.get("format") {
            Some(format) if format.as_u64().is_none_or(|number| number > FORMAT) => {
                Err(Error::newer_record(&record))
            }
            _ => Ok(()),
        }
    }

    /// Reads the record; `None` when there is none, or this program did not write it.
    pub(super) fn read(paths: &ImagePaths) -> Option<Self> {
        let value = json::parse(&files::read_start(&paths.file(RECORD), BYTES_MAX).ok()?).ok()?;
        let text = |name: &str| match value.get(name)? {
            Value::Null => Some(None),
            other => Some(Some(other.as_str()?.to_string())),
        };
        Some(Self {
            base: text("base")?,
            sha256: text("sha256")?,
            backing: text("backing")?.map(PathBuf::from),
            version: text("version")?,
            size: match value.get("size")? {
                Value::Null => None,
                size => Some(size.as_u64()?),
            },
            // Older versions wrote the data in another form, and its fingerprint as `seed`.
            seed: match text("cloud_init") {
                Some(seed) => seed,
                None => text("seed")?.map(|_| UNKNOWN.to_string()),
            },
        })
    }

    pub(super) fn write(&self, paths: &ImagePaths) -> Result<(), Error> {
        let value = Value::object([
            ("format", Value::from(FORMAT)),
            ("base", self.base.as_deref().into()),
            ("sha256", self.sha256.as_deref().into()),
            ("backing", self.backing.as_deref().and_then(Path::to_str).into()),
            ("version", self.version.as_deref().into()),
            ("size", self.size.into()),
            ("cloud_init", self.seed.as_deref().into()),
        ]);
        files::write_private(&paths.file(RECORD), value.pretty())
    }
}

fn version(base: &DeclaredBase) -> Option<String> {
    let Location::File(file) = &base.location else { return None };
    if base.sha256.is_some() {
        return None;
    }
    let metadata = file.metadata().ok()?;
    Some(format!("{} {}.{:09}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}
