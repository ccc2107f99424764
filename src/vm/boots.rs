//! The files that are new for every boot: the logs, and the serial output. QEMU empties `serial` at
//! every start, and the output of interest is often that of the boot before, which crashed; so
//! `serial.1` is the output of the boot before the last one, and so on.

use super::{Paths, events};
use crate::error::Error;
use crate::system::files;
use std::collections::BTreeSet;
use std::fs::File;
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

/// The files of a new boot: the logs, and room for the serial output. The change can be undone.
pub(crate) struct Boot<'a> {
    paths: &'a Paths,
    /// The number of outputs that were renamed to the next number, including that of the last boot.
    moved: u32,
    /// QEMU's output.
    pub(crate) log: File,
}

impl<'a> Boot<'a> {
    pub(crate) fn new(paths: &'a Paths) -> Result<Self, Error> {
        let moved = make_room(paths).map_err(|error| not_run(paths, error))?;
        match new_logs(paths) {
            Ok(log) => Ok(Self { paths, moved, log }),
            Err(error) => Err(restore(paths, moved).err().unwrap_or(error)),
        }
    }

    /// If the boot `is_new`, keeps the serial output of this many earlier ones; otherwise undoes
    /// it.
    pub(super) fn end(self, is_new: bool, keep: u32) -> Result<(), Error> {
        if !is_new {
            return restore(self.paths, self.moved);
        }
        let old = kept(self.paths).into_iter().filter(|number| *number > keep);
        old.into_iter().try_for_each(|number| files::remove(&path(self.paths, number)))
    }

    /// Undoes the boot of a QEMU that could not be run, and gives the error for that.
    pub(crate) fn not_run(&self, failed: Error) -> Error {
        let undone = restore(self.paths, self.moved);
        not_run(self.paths, undone.err().unwrap_or(failed))
    }
}

/// Renames the output of the last boot, if there is any, and gives how many were renamed. No output
/// is removed to make room. If the user has put something other than a file there, nothing is
/// renamed.
fn make_room(paths: &Paths) -> Result<u32, Error> {
    if !files::has_content(&paths.serial) {
        // The file may be a symbolic link, for example.
        return files::empty(&paths.serial).map(|()| 0);
    }
    let kept = kept(paths);
    // A start that was killed may have left gaps in the numbers.
    let moved = (1..NUMBER_MAX).find(|number| !kept.contains(number)).unwrap_or(NUMBER_MAX);
    for number in (0..moved).rev() {
        files::rename(&path(paths, number), &path(paths, number + 1))?;
    }
    Ok(moved)
}

/// Restores the names after a start that failed, unless the new boot has written any output.
fn restore(paths: &Paths, moved: u32) -> Result<(), Error> {
    if moved == 0 || files::has_content(&paths.serial) {
        return Ok(());
    }
    let mut numbers = 0..moved;
    numbers.try_for_each(|number| files::rename(&path(paths, number + 1), &path(paths, number)))
}

/// Makes the log and the event log, which are new for every start, whichever program runs QEMU;
/// returns the log.
pub(crate) fn new_logs(paths: &Paths) -> Result<File, Error> {
    let made = events::prepare(paths).and_then(|()| files::create_private(&paths.log));
    made.map_err(|failed| not_run(paths, failed))
}

/// Removes the logs of a start that ran nothing. A directory in the log's place is the user's and
/// stays.
fn not_run(paths: &Paths, failed: Error) -> Error {
    let _ = files::remove(&paths.log).and_then(|()| files::remove(&paths.events_out));
    failed
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

    /// Shows the files with their content, those of the logs aside: `serial=x serial.1=y`.
    fn shown(paths: &Paths) -> String {
        let mut names = files::names_in(&paths.dir);
        names.retain(|name| !["events.in", "events.out", "qemu.log"].contains(&name.as_str()));
        names.sort();
        let content = |name: &String| fs::read_to_string(paths.dir.join(name)).unwrap();
        let shown: Vec<String> = names.iter().map(|n| format!("{n}={}", content(n))).collect();
        shown.join(" ")
    }

    #[test]
    fn each_boot_gets_the_next_number() {
        let Dir(paths) =
            &with_files("next", &["serial", "serial.1", "serial.01", "serial.2", "serial.x"]);
        Boot::new(paths).unwrap().end(true, 2).unwrap();
        let others = "serial.01=serial.01";
        let x = "serial.x=serial.x";
        assert_eq!(shown(paths), format!("{others} serial.1=serial serial.2=serial.1 {x}"));
        // The guest has written nothing since.
        Boot::new(paths).unwrap().end(true, 2).unwrap();
        assert_eq!(shown(paths), format!("{others} serial.1=serial serial.2=serial.1 {x}"));
        fs::write(&paths.serial, "new").unwrap();
        Boot::new(paths).unwrap().end(true, 0).unwrap();
        assert_eq!(shown(paths), format!("{others} {x}"));
    }

    #[test]
    fn a_boot_that_came_to_nothing_changes_nothing() {
        let names = ["serial", "serial.1", "serial.2"];
        let Dir(paths) = &with_files("nothing", &names);
        let before = shown(paths);
        Boot::new(paths).unwrap().end(false, 0).unwrap();
        assert_eq!(shown(paths), before);
        // QEMU has made an empty file.
        let boot = Boot::new(paths).unwrap();
        fs::write(&paths.serial, "").unwrap();
        boot.end(false, 0).unwrap();
        assert_eq!(shown(paths), before);
        // The guest has run.
        let boot = Boot::new(paths).unwrap();
        fs::write(&paths.serial, "panic").unwrap();
        boot.end(false, 0).unwrap();
        assert_eq!(fs::read_to_string(&paths.serial).unwrap(), "panic");
        assert_eq!(kept(paths), BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn a_gap_is_filled_first() {
        let Dir(paths) = &with_files("gap", &["serial", "serial.1", "serial.3"]);
        Boot::new(paths).unwrap().end(true, 3).unwrap();
        assert_eq!(shown(paths), "serial.1=serial serial.2=serial.1 serial.3=serial.3");
    }

    #[test]
    fn what_is_no_file_of_ours_stays() {
        let Dir(paths) = &with_files("link", &["elsewhere"]);
        std::os::unix::fs::symlink("elsewhere", &paths.serial).unwrap();
        Boot::new(paths).unwrap().end(false, 0).unwrap();
        assert_eq!(shown(paths), "elsewhere= serial=");
        assert!(paths.serial.is_symlink());
    }
}
