//! The serial outputs of earlier boots: `serial.1` is that of the start before the last one, and so
//! on. QEMU empties `serial` at every start, and the boot before the crash is the one that is
//! wanted.

use super::Paths;
use crate::error::Error;
use crate::files;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Above all that a configuration may keep.
const NUMBER_MAX: u32 = 100;

/// The serial output of the boot that is so many starts ago; 0 is the last one.
pub(crate) fn path(paths: &Paths, ago: u32) -> PathBuf {
    match ago {
        0 => paths.serial.clone(),
        ago => paths.serial.with_extension(ago.to_string()),
    }
}

/// The numbers of the earlier boots that there are.
pub(crate) fn kept(paths: &Paths) -> BTreeSet<u32> {
    let number = |name: String| {
        let number = name.strip_prefix("serial.")?.parse().ok()?;
        // Not `serial.01`, which was made by somebody else.
        (name == format!("serial.{number}")).then_some(number)
    };
    let numbers = files::names_in(&paths.dir).into_iter().filter_map(number);
    numbers.filter(|number| (1..=NUMBER_MAX).contains(number)).collect()
}

/// A place made for the output of a new boot, which can be taken back.
pub(crate) struct Rotation<'a> {
    paths: &'a Paths,
    /// So many outputs have got the next number, that of the last boot among them.
    moved: u32,
}

impl<'a> Rotation<'a> {
    /// Moves the output of the last boot out of the way, if it has any; no output is removed for
    /// it. Where the user has put something else than a file, nothing is moved.
    pub(crate) fn new(paths: &'a Paths) -> Result<Self, Error> {
        if !files::has_content(&paths.serial) {
            // Through a symbolic link, say.
            files::empty(&paths.serial)?;
            return Ok(Self { paths, moved: 0 });
        }
        let kept = kept(paths);
        // What a start that was killed has left may have gaps.
        let moved = (1..NUMBER_MAX).find(|number| !kept.contains(number)).unwrap_or(NUMBER_MAX);
        for number in (0..moved).rev() {
            files::rename(&path(paths, number), &path(paths, number + 1))?;
        }
        Ok(Self { paths, moved })
    }

    /// When the new boot came to nothing: unless it has said something, the output of the last one
    /// is that of the last one again.
    pub(crate) fn undo(self) -> Result<(), Error> {
        if self.moved == 0 || files::has_content(&self.paths.serial) {
            return Ok(());
        }
        (0..self.moved).try_for_each(|number| {
            files::rename(&path(self.paths, number + 1), &path(self.paths, number))
        })
    }

    /// Removes the oldest ones, so that `keep` are left.
    pub(crate) fn finish(self, keep: u32) -> Result<(), Error> {
        let old = kept(self.paths).into_iter().filter(|number| *number > keep);
        old.into_iter().try_for_each(|number| files::remove(&path(self.paths, number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory with these files, each holding its name.
    fn with_files(test: &str, names: &[&str]) -> Paths {
        let dir = std::env::temp_dir().join(format!("qqmgr-boots-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        for name in names {
            fs::write(dir.join(name), name).unwrap();
        }
        Paths::new(dir)
    }

    /// What the files hold, by name: `serial=x serial.1=y`.
    fn shown(paths: &Paths) -> String {
        let mut names = files::names_in(&paths.dir);
        names.sort();
        let content = |name: &String| fs::read_to_string(paths.dir.join(name)).unwrap();
        let shown: Vec<String> = names.iter().map(|n| format!("{n}={}", content(n))).collect();
        shown.join(" ")
    }

    #[test]
    fn each_boot_gets_the_next_number() {
        let paths =
            with_files("next", &["serial", "serial.1", "serial.01", "serial.2", "serial.x"]);
        Rotation::new(&paths).unwrap().finish(2).unwrap();
        let others = "serial.01=serial.01";
        let x = "serial.x=serial.x";
        assert_eq!(shown(&paths), format!("{others} serial.1=serial serial.2=serial.1 {x}"));
        // Nothing was said since.
        Rotation::new(&paths).unwrap().finish(2).unwrap();
        assert_eq!(shown(&paths), format!("{others} serial.1=serial serial.2=serial.1 {x}"));
        fs::write(&paths.serial, "new").unwrap();
        Rotation::new(&paths).unwrap().finish(0).unwrap();
        assert_eq!(shown(&paths), format!("{others} {x}"));
        fs::remove_dir_all(&paths.dir).unwrap();
    }

    #[test]
    fn a_boot_that_came_to_nothing_changes_nothing() {
        let names = ["serial", "serial.1", "serial.2"];
        let paths = with_files("nothing", &names);
        let before = shown(&paths);
        Rotation::new(&paths).unwrap().undo().unwrap();
        assert_eq!(shown(&paths), before);
        // QEMU has made an empty one.
        let rotation = Rotation::new(&paths).unwrap();
        fs::write(&paths.serial, "").unwrap();
        rotation.undo().unwrap();
        assert_eq!(shown(&paths), before);
        // The guest has run.
        let rotation = Rotation::new(&paths).unwrap();
        fs::write(&paths.serial, "panic").unwrap();
        rotation.undo().unwrap();
        assert_eq!(fs::read_to_string(&paths.serial).unwrap(), "panic");
        assert_eq!(kept(&paths), BTreeSet::from([1, 2, 3]));
        fs::remove_dir_all(&paths.dir).unwrap();
    }

    #[test]
    fn a_gap_is_filled_first() {
        let paths = with_files("gap", &["serial", "serial.1", "serial.3"]);
        Rotation::new(&paths).unwrap().finish(3).unwrap();
        assert_eq!(shown(&paths), "serial.1=serial serial.2=serial.1 serial.3=serial.3");
        fs::remove_dir_all(&paths.dir).unwrap();
    }

    #[test]
    fn what_is_no_file_of_ours_stays() {
        let paths = with_files("link", &["elsewhere"]);
        std::os::unix::fs::symlink("elsewhere", &paths.serial).unwrap();
        Rotation::new(&paths).unwrap().undo().unwrap();
        assert_eq!(shown(&paths), "elsewhere= serial=");
        assert!(paths.serial.is_symlink());
        fs::remove_dir_all(&paths.dir).unwrap();
    }
}
