//! Takes a picture of a display of the guest, which QEMU writes to a file: `screendump` of
//! `qapi/ui.json`.

use super::session::Session;
use super::{Paths, qmp};
use crate::error::Error;
use crate::json::Value;
use crate::system::{files, temporary};
use std::time::Duration;

/// How long to wait for a picture. QEMU compresses a large one in a second; a busy host takes
/// longer.
const PICTURE_WAIT: Duration = Duration::from_secs(20);
/// The maximum size of a picture. One of 8K has 100 MiB as PPM.
const PICTURE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Takes a picture of a display by QEMU's names, or of the first one. It is a PNG if this QEMU can
/// write one, else a PPM: PNG came with 7.1 and can be left out when QEMU is built.
pub(crate) fn capture(
    session: &mut Session,
    paths: &Paths,
    device: Option<&str>,
    head: Option<u32>,
) -> Result<Vec<u8>, Error> {
    // JSON has no way to name a file that is not UTF-8.
    let dir = if paths.dir.to_str().is_some() { paths.dir.clone() } else { paths.short_dir()? };
    let file = temporary::beside(&dir.join("screenshot"));
    let mut take = |format: Option<&str>| {
        let format = format.map(|format| ("format", format.into()));
        let display = [device.map(|it| ("device", it.into())), head.map(|it| ("head", it.into()))];
        let filename = [("filename", Value::from(file.as_path()))];
        let arguments = filename.into_iter().chain(format).chain(display.into_iter().flatten());
        session.try_execute(PICTURE_WAIT, "screendump", Some(&Value::object(arguments)))
    };
    let taken = match take(Some("png")) {
        Err(qmp::Error::Refused { .. }) => take(None),
        taken => taken,
    };
    let picture = match taken {
        Err(error) => Err(hinted(session.explain(&error))),
        Ok(_) => files::read_start(&file, PICTURE_BYTES_MAX)
            .map_err(|error| Error::io("read", &file, &error)),
    };
    let _ = files::remove(&file);
    picture
}

fn hinted(error: Error) -> Error {
    if !error.message().contains("no console") {
        return error;
    }
    error.hint("give the VM a display device, `-device VGA` say; it needs no window for that")
}
