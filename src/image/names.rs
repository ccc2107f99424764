//! The names of an image's files, in its directory.

use std::path::{Path, PathBuf};

pub(super) const DISK: &str = "disk.qcow2";
pub(super) const SEED: &str = "seed.img";
pub(super) const KEY: &str = "id_ed25519";
pub(super) const PUBLIC_KEY: &str = "id_ed25519.pub";
/// The public key that is made with an unfinished private key.
pub(super) const NEW_PUBLIC_KEY: &str = "id_ed25519.new.pub";
pub(super) const RECORD: &str = "image.json";
pub(super) const LOCK: &str = "lock";

/// The name that a file has until it is complete.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".new");
    PathBuf::from(name)
}
