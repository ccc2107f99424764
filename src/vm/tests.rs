//! A place for the tests of this folder that need files.

use super::Paths;

/// A VM's directory for one test, removed when it is dropped.
pub(super) struct Dir(pub(super) Paths);

impl Dir {
    pub(super) fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("qqmgr-{test}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(Paths::new(dir))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.dir);
    }
}
