//! The files that are new for every boot.

use super::boots::Rotation;
use super::{Paths, events};
use crate::error::Error;
use crate::system::files;
use std::fs::File;

/// The files of a new boot: the log, the event log, and room for the serial output.
pub(crate) struct Boot<'a> {
    paths: &'a Paths,
    rotation: Rotation<'a>,
    /// QEMU's output.
    pub(crate) log: File,
}

impl<'a> Boot<'a> {
    pub(crate) fn new(paths: &'a Paths) -> Result<Self, Error> {
        let rotation = Rotation::new(paths).map_err(|error| not_run(paths, error))?;
        match new_files(paths) {
            Ok(log) => Ok(Self { paths, rotation, log }),
            Err(error) => Err(rotation.undo().err().unwrap_or(error)),
        }
    }

    /// If the boot `is_new`, keeps the serial output of this many earlier ones; otherwise undoes
    /// it.
    pub(super) fn end(self, is_new: bool, boots: u32) -> Result<(), Error> {
        if is_new { self.rotation.finish(boots) } else { self.rotation.undo() }
    }

    /// Undoes the boot of a QEMU that could not be run, and gives the error for that.
    pub(crate) fn not_run(&self, failed: Error) -> Error {
        let undone = self.rotation.undo();
        not_run(self.paths, undone.err().unwrap_or(failed))
    }
}

/// Makes the log and the event log, which are new for every start, whichever program runs QEMU;
/// returns the log.
pub(crate) fn new_files(paths: &Paths) -> Result<File, Error> {
    let made = events::prepare(paths).and_then(|()| files::create_private(&paths.log));
    made.map_err(|failed| not_run(paths, failed))
}

/// Removes the logs of a start that ran nothing. A directory in the log's place is the user's and
/// stays.
fn not_run(paths: &Paths, failed: Error) -> Error {
    let _ = files::remove(&paths.log).and_then(|()| files::remove(&paths.events_out));
    failed
}
