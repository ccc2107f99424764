//! Keeps disks and their bases together: a base that an old version kept in the cache, or that is
//! gone, is found or fetched again, and the disk's header is changed to name it. A disk of an old
//! version has its base by an absolute path, which is wrong once the project was moved.

use super::base::declared_base;
use super::bases;
use super::change::Change;
use super::context::{check, is_locked};
use super::fetch::fetch;
use super::inspection::Inspection;
use super::record::{BACKING, Record};
use crate::config::Declared;
use crate::config::declared::Location;
use crate::config::image::DISK;
use crate::config::sum::Sum;
use crate::error::Error;
use crate::system::output::Output;
use crate::vm::format;
use std::path::{Path, PathBuf};
use std::slice;

/// Changes the disk's header to name the base where it is kept, and fetches the base if it is gone.
/// Everything that was written to the disk stays.
pub(super) fn keep_base(change: &Change, found: &Inspection) -> Result<(), Error> {
    let Some(base) = found.base.as_deref().filter(|_| found.moves || found.lost_base.is_some())
    else {
        return Ok(());
    };
    let Change { context, declared } = change;
    let (Declared { name, paths, .. }, record) = (declared, Record::read(&declared.paths));
    let kept = if let Some(sum) = bases::sum_of(base) {
        fetched_base(change, base, &sum)?
    } else {
        // The error for a base that is declared shows the place of the declaration.
        let found = declared_base(change)?.map(|found| found.file);
        let now = Record::now(context.config, declared);
        let is_it = record.as_ref().is_some_and(|record| record.has_base_of(&now, base));
        let known = || record.as_ref().and_then(Record::sum);
        found.filter(|_| is_it).ok_or_else(|| lost(name, base, known().as_ref()))?
    };
    if kept == base {
        return Ok(());
    }
    let backing = bases::name_from(&paths.dir, context.config.dir(), &kept);
    let output = rebase(change, &backing)?;
    if is_locked(&output) && base.exists() {
        // A program has the disk open. That does no harm while the base is in both places.
        return Ok(());
    }
    check(&output, &format!("cannot tell the disk of image `{name}` where its base is"))?;
    record.map_or(Ok(()), |record| record.with(BACKING, backing.to_str()).write(paths))
}

/// The base with this checksum, fetched again if it is gone.
fn fetched_base(change: &Change, base: &Path, sum: &Sum) -> Result<PathBuf, Error> {
    let url = change.declared.base.as_ref().and_then(|base| match &base.location {
        Location::Url(url) if base.sums.contains(sum) => Some(url.as_str()),
        _ => None,
    });
    let lost = || lost(&change.declared.name, base, Some(sum));
    let fetched = fetch(&change.context, url, slice::from_ref(sum));
    fetched.map_err(|error| lost().because(&error))?.ok_or_else(lost)
}

/// Changes only the name of the base in the disk's header.
fn rebase(change: &Change, base: &Path) -> Result<Output, Error> {
    let Declared { name, paths, .. } = change.declared;
    let disk = paths.file(DISK);
    let known = format::disk(&disk).and_then(|header| header.backing_format);
    let known = known.filter(|format| ["raw", "qcow2"].contains(&format.as_str()));
    let format = known.ok_or_else(|| {
        Error::failed(format!("the disk of image `{name}` does not name the format of its base"))
            .hint(reset_hint(name))
    })?;
    let words = ["rebase", "-q", "-u", "-f", "qcow2", "-F", &format, "-b"];
    let mut command = change.context.qemu_img(&words)?;
    command.arg(base).arg(disk);
    change.context.run(command)
}

fn reset_hint(name: &str) -> String {
    format!("`qqmgr img reset {name}` builds the image anew, without what was written to it")
}

/// The error about a disk whose base cannot be found.
fn lost(name: &str, base: &Path, sum: Option<&Sum>) -> Error {
    let shown = base.display();
    let Some(sum) = sum else {
        let message = format!("the base of image `{name}` is gone: `{shown}`");
        return Error::failed(message).hint(format!(
            "put it back as it was, or `qqmgr img reset {name}` builds the image anew"
        ));
    };
    let place = match bases::path().filter(|_| bases::sum_of(base).is_some()) {
        Some(dir) => dir.join(sum.digits()).display().to_string(),
        None => shown.to_string(),
    };
    let message = format!("image `{name}`: this disk needs the old base with {sum}, which is gone");
    Error::failed(message).hint(format!("put it back as `{place}`, or {}", reset_hint(name)))
}
