//! Takes a picture of a display of the guest, which QEMU writes to a file: `screendump` of
//! `qapi/ui.json`.

use super::session::Session;
use super::{Paths, qmp};
use crate::error::Error;
use crate::json::Value;
use crate::system::{files, temporary};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for a picture. QEMU compresses a large one in a second; a busy host takes
/// longer.
const PICTURE_WAIT: Duration = Duration::from_secs(20);
/// The maximum size of a picture. One of 8K has 100 MiB as PPM.
const PICTURE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A display by QEMU's names; the first one if none is named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Display<'a> {
    pub(crate) device: Option<&'a str>,
    pub(crate) head: Option<u32>,
}

/// The content of the file that QEMU wrote.
pub(crate) enum Picture {
    Png(Vec<u8>),
    Ppm(Vec<u8>),
}

/// A file that is removed when this is dropped, even after an error.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = files::remove(&self.0);
    }
}

/// Takes a picture of the display, as PNG if this QEMU supports that. PNG came with 7.1 and can be
/// left out when QEMU is built.
pub(crate) fn capture(
    session: &mut Session,
    paths: &Paths,
    display: Display,
) -> Result<Picture, Error> {
    // JSON has no way to name a file that is not UTF-8.
    let dir = if paths.dir.to_str().is_some() { paths.dir.clone() } else { paths.short_dir()? };
    let file = Temporary(temporary::beside(&dir.join("screenshot")));
    let take = |session: &mut Session, png| {
        let arguments = arguments(&file, display, png);
        session.try_execute(PICTURE_WAIT, "screendump", Some(&arguments))
    };
    if session.takes("screendump", "format")? {
        match take(session, true) {
            Ok(_) => return read(&file.0).map(Picture::Png),
            Err(qmp::Error::Refused { .. }) => {}
            Err(error) => return Err(session.explain(&error)),
        }
    }
    take(session, false).map_err(|error| hinted(session.explain(&error)))?;
    read(&file.0).map(Picture::Ppm)
}

fn arguments(file: &Temporary, display: Display, png: bool) -> Value {
    let format = png.then(|| ("format", Value::from("png")));
    let device = display.device.map(|device| ("device", device.into()));
    let head = display.head.map(|head| ("head", head.into()));
    let filename = [("filename", Value::from(file.0.as_path()))];
    Value::object(filename.into_iter().chain(format).chain(device).chain(head))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    files::read_start(file, PICTURE_BYTES_MAX).map_err(|error| Error::io("read", file, &error))
}

fn hinted(error: Error) -> Error {
    if !error.message().contains("no console") {
        return error;
    }
    error.hint("give the VM a display device, `-device VGA` say; it needs no window for that")
}
