//! Rules about the images that VMs use: whether each can be built, and whether it differs from its
//! declaration.

use super::findings::{Findings, Severity};
use super::subject::Subject;
use crate::config::{Config, Declared};
use crate::error::Error;
use crate::image::build::obstacles;
use crate::image::inspection::{State, inspect};
use crate::source::Problem;
use crate::toml::Key;
use std::path::PathBuf;

/// The paths of images that QEMU opens. A file missing there is reported with its image.
pub(super) fn paths(config: &Config) -> Vec<PathBuf> {
    let paths = config.images().filter_map(|image| config.image_paths(&image.name).ok());
    paths.flat_map(|paths| [paths.disk, paths.seed]).collect()
}

/// Adds the findings about the images of a VM.
pub(super) fn add(subject: &Subject, findings: &mut Findings) {
    for image in &subject.images {
        let (errors, warning) = of_image(subject.config, image);
        findings.add(Severity::Error, &subject.vm.name, errors);
        findings.add(Severity::Warning, &subject.vm.name, warning);
    }
}

/// Adds the errors of images that none of the VMs uses.
pub(super) fn add_unused(config: &Config, subjects: &[Subject], findings: &mut Findings) {
    let is_used = |image: &Key| {
        subjects.iter().any(|one| one.images.iter().any(|used| used.name == image.name))
    };
    for image in config.images().filter(|image| !is_used(image)) {
        findings.add_named(Severity::Error, &[], of_image(config, image).0);
    }
}

/// The errors of an image, and a warning if there is no error.
fn of_image(config: &Config, image: &Key) -> (Vec<Problem>, Option<Problem>) {
    look_at(config, image).unwrap_or_else(|error| match error.into_located() {
        Ok(located) => (located.problems, None),
        Err(error) => (vec![error.at(image.span)], None),
    })
}

fn look_at(config: &Config, image: &Key) -> Result<(Vec<Problem>, Option<Problem>), Error> {
    let declared = Declared::new(config, image)?;
    let (look, name) = (inspect(config, &declared), &declared.name);
    let warning = |message: String, hint: String| Problem::new(declared.span, message).hint(hint);
    let builds = format!("`start` builds it, and so does `qqmgr img build {name}`");
    let warning = match look.state() {
        State::Built => None,
        State::Changed => look.warning(name).map(|(text, hint)| warning(text, hint)),
        State::Missing => Some(warning(format!("image `{name}` is not built yet"), builds)),
        State::Incomplete => {
            let missing = look.missing.join("`, `");
            let message = match &look.lost_base {
                Some(base) => format!("the base of image `{name}` is gone: `{}`", base.display()),
                None => format!("image `{name}` has no `{missing}` any more"),
            };
            Some(warning(message, builds))
        }
    };
    let errors = if look.is_whole() { Vec::new() } else { obstacles(config, &declared) };
    // The warning says that the image will be built, so it is left out if that is impossible.
    Ok(if errors.is_empty() { (errors, warning) } else { (errors, None) })
}
