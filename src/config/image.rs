//! The images that the file declares: the rules about their keys, and where their files are.

use super::schema::{check, default, header};
use super::sum::KINDS;
use super::values::{is_url, name_problem};
use crate::error::Error;
use crate::source::{Problem, Source};
use crate::system::{files, short_way};
use crate::toml::{Key, Table, Value};
use std::path::PathBuf;

pub(super) const SUM_MISSING: &str = "a `base` that is a URL needs its `sha256` or `sha512`";
pub(super) const SUM_HINT: &str = "its publisher tells it, often in a file `SHA256SUMS` or `SHA512SUMS` beside it; \
     `qqmgr init --image URL` computes its `sha256`";
const USER_DATA: &str = "user_data";

/// The names of an image's files, in its directory.
pub(crate) const DISK: &str = "disk.qcow2";
pub(crate) const SEED: &str = "seed.img";
pub(crate) const KEY: &str = "id_ed25519";
pub(crate) const PUBLIC_KEY: &str = "id_ed25519.pub";
pub(crate) const RECORD: &str = "image.json";
pub(crate) const LOCK: &str = "lock";

/// The places of an image's files.
#[derive(Clone, Debug)]
pub(crate) struct ImagePaths {
    /// `$RUNTIME_DIR/img.NAME`
    pub(crate) dir: PathBuf,
    /// This and `seed` are the paths that QEMU gets: in the directory, or by a short way to it if
    /// its path has anything that an option list or a shell would read as something else.
    pub(crate) disk: PathBuf,
    pub(crate) seed: PathBuf,
}

impl ImagePaths {
    /// The paths of the image with this directory.
    pub(super) fn new(dir: PathBuf) -> Result<Self, Error> {
        let way = if files::is_plain(&dir) { dir.clone() } else { short_way::short_link(&dir)? };
        Ok(Self { disk: way.join(DISK), seed: way.join(SEED), dir })
    }

    /// The file of this name in the image's directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The user that cloud-init makes, by the table `[img.NAME.cloud_init]`.
pub(super) fn user(cloud_init: &Value) -> &str {
    let user = cloud_init.get("user").and_then(Value::as_str);
    user.unwrap_or_else(|| default("[img.NAME.cloud_init]", "user"))
}

/// The problems in `[img]`.
pub(super) fn problems(source: &Source, all: &Table) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, value) in all.iter() {
        problems.extend(name_problem(key, "an image"));
        let shown = header("[img]", &key.name);
        problems.extend(check(source, value, "[img.NAME]", &shown));
        if let Some(table) = value.as_table() {
            check_base(key, table, &shown, &mut problems);
            check_user_data(table, &mut problems);
        }
    }
    problems
}

/// Checks that a URL has a sum, and that an empty disk has a size and nothing that reads a seed.
fn check_base(key: &Key, table: &Table, shown: &str, problems: &mut Vec<Problem>) {
    if let Some(base) = table.get("base") {
        let has_sum = KINDS.iter().any(|(key, ..)| table.get(key).is_some());
        if base.as_str().is_some_and(is_url) && !has_sum {
            problems.push(Problem::new(base.span, SUM_MISSING).hint(SUM_HINT));
        }
        return;
    }
    if table.get("size").is_none() {
        let message = format!("`{shown}` has neither `base` nor `size`");
        let hint = "with `base` the disk begins as that file; with `size` alone it is empty";
        problems.push(Problem::new(key.span, message).hint(hint));
    }
    for (key, _) in ["sha256", "sha512", "cloud_init"].iter().filter_map(|name| table.entry(name)) {
        let message = format!("`{}` without a `base`", key.name);
        problems.push(Problem::new(key.span, message).hint("an empty disk has none"));
    }
}

fn check_user_data(table: &Table, problems: &mut Vec<Problem>) {
    let Some(cloud_init) = table.get("cloud_init").and_then(Value::as_table) else { return };
    if cloud_init.get(USER_DATA).is_none() {
        return;
    }
    for (key, _) in cloud_init.iter().filter(|(key, _)| key.name != USER_DATA) {
        let message = format!("`{}` beside `{USER_DATA}`", key.name);
        let hint = format!("the file that `{USER_DATA}` names replaces the other keys");
        problems.push(Problem::new(key.span, message).hint(hint));
    }
}
