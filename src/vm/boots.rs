//! The serial outputs of earlier boots: `serial.1` is the output of the boot before the last one,
//! and so on. QEMU empties `serial` at every start, and the output of interest is often that of the
//! boot before, which crashed.

use super::Paths;
use crate::error::Error;
use crate::system::files;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A number above the largest that a configuration may keep.
const NUMBER_MAX: u32 = 100;

/// The file of the serial output of the boot `ago` starts before the last one; 0 is the last one.
pub(crate) fn path(paths: &Paths, ago: u32) -> PathBuf {
    match ago {
        0 => paths.serial.clone(),
        ago => paths.serial.with_extension(ago.to_string()),
    }
}

/// The numbers of the earlier boots whose output exists.
pub(crate) fn kept(paths: &Paths) -> BTreeSet<u32> {
    let number = |name: String| {
        let number = name.strip_prefix("serial.")?.parse().ok()?;
        // `serial.01` is not a file of ours.
        (name == format!("serial.{number}")).then_some(number)
    };
    let numbers = files::names_in(&paths.dir).into_iter().filter_map(number);
    numbers.filter(|number| (1..=NUMBER_MAX).contains(number)).collect()
}

/// Room for the output of a new boot. The change can be undone.
pub(crate) struct Rotation<'a> {
    paths: &'a Paths,
    /// The number of outputs that were renamed to the next number, including that of the last boot.
    moved: u32,
}

impl<'a> Rotation<'a> {
    /// Renames the output of the last boot, if there is any. No output is removed to make room. If
    /// the user has put something other than a file there, nothing is renamed.
    pub(crate) fn new(paths: &'a Paths) -> Result<Self, Error> {
        if !files::has_content(&paths.serial) {
            // The file may be a symbolic link, for example.
            files::empty(&paths.serial)?;
            return Ok(Self { paths, moved: 0 });
        }
        let kept = kept(paths);
        // A start that was killed may have left gaps in the numbers.
        let moved = (1..NUMBER_MAX).find(|number| !kept.contains(number)).unwrap_or(NUMBER_MAX);
        for number in (0..moved).rev() {
            files::rename(&path(paths, number), &path(paths, number + 1))?;
        }
        Ok(Self { paths, moved })
    }

    /// Restores the names after a start that failed, unless the new boot has written any output.
    pub(crate) fn undo(&self) -> Result<(), Error> {
        if self.moved == 0 || files::has_content(&self.paths.serial) {
            return Ok(());
        }
        (0..self.moved).try_for_each(|number| {
            files::rename(&path(self.paths, number + 1), &path(self.paths, number))
        })
    }

    /// Removes the oldest outputs, so that `keep` are left.
    pub(crate) fn finish(self, keep: u32) -> Result<(), Error> {
        let old = kept(self.paths).into_iter().filter(|number| *number > keep);
        old.into_iter().try_for_each(|number| files::remove(&path(self.paths, number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::tests::Dir;
    use std::fs;

    /// Makes a directory with these files, each containing its name.
    fn with_files(test: &str, names: &[&str]) -> Dir {
        let dir = Dir::new(&format!("boots-{test}"));
        for name in names {
            fs::write(dir.0.dir.join(name), name).unwrap();
        }
        dir
    }

    /// Shows the files with their content: `serial=x serial.1=y`.
    fn shown(paths: &Paths) -> String {
        let mut names = files::names_in(&paths.dir);
        names.sort();
        let content = |name: &String| fs::read_to_string(paths.dir.join(name)).unwrap();
        let shown: Vec<String> = names.iter().map(|n| format!("{n}={}", content(n))).collect();
        shown.join(" ")
    }

    #[test]
    fn each_boot_gets_the_next_number() {
        let Dir(paths) =
            &with_files("next", &["serial", "serial.1", "serial.01", "serial.2", "serial.x"]);
        Rotation::new(paths).unwrap().finish(2).unwrap();
        let others = "serial.01=serial.01";
        let x = "serial.x=serial.x";
        assert_eq!(shown(paths), format!("{others} serial.1=serial serial.2=serial.1 {x}"));
        // The guest has written nothing since.
        Rotation::new(paths).unwrap().finish(2).unwrap();
        assert_eq!(shown(paths), format!("{others} serial.1=serial serial.2=serial.1 {x}"));
        fs::write(&paths.serial, "new").unwrap();
        Rotation::new(paths).unwrap().finish(0).unwrap();
        assert_eq!(shown(paths), format!("{others} {x}"));
    }

    #[test]
    fn a_boot_that_came_to_nothing_changes_nothing() {
        let names = ["serial", "serial.1", "serial.2"];
        let Dir(paths) = &with_files("nothing", &names);
        let before = shown(paths);
        Rotation::new(paths).unwrap().undo().unwrap();
        assert_eq!(shown(paths), before);
        // QEMU has made an empty file.
        let rotation = Rotation::new(paths).unwrap();
        fs::write(&paths.serial, "").unwrap();
        rotation.undo().unwrap();
        assert_eq!(shown(paths), before);
        // The guest has run.
        let rotation = Rotation::new(paths).unwrap();
        fs::write(&paths.serial, "panic").unwrap();
        rotation.undo().unwrap();
        assert_eq!(fs::read_to_string(&paths.serial).unwrap(), "panic");
        assert_eq!(kept(paths), BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn a_gap_is_filled_first() {
        let Dir(paths) = &with_files("gap", &["serial", "serial.1", "serial.3"]);
        Rotation::new(paths).unwrap().finish(3).unwrap();
        assert_eq!(shown(paths), "serial.1=serial serial.2=serial.1 serial.3=serial.3");
    }

    #[test]
    fn what_is_no_file_of_ours_stays() {
        let Dir(paths) = &with_files("link", &["elsewhere"]);
        std::os::unix::fs::symlink("elsewhere", &paths.serial).unwrap();
        Rotation::new(paths).unwrap().undo().unwrap();
        assert_eq!(shown(paths), "elsewhere= serial=");
        assert!(paths.serial.is_symlink());
    }
}
