//! The base that an image declares, made ready for use.

use super::base::{Base, examine};
use super::context::Context;
use super::fetch::{fetch, verify};
use super::hold::Held;
use crate::config::Config;
use crate::config::declared::{Declared, Location};
use crate::error::Error;
use crate::source::Problem;
use std::io::ErrorKind;
use std::path::Path;

/// The declared base, fetched if necessary, verified and examined; `None` for an image without one.
pub(super) fn declared_base(
    context: &Context,
    declared: &Declared,
    held: &Held,
) -> Result<Option<Base>, Error> {
    let (config, Some(base)) = (context.config, &declared.base) else { return Ok(None) };
    let at_base = |error: Error| config.problem(error.at(base.span));
    let sha256 = base.sha256.as_deref();
    let (fetched, url);
    let file = match &base.location {
        Location::Url(address) => {
            (fetched, url) = (fetch(context, Some(address), sha256)?, Some(address.as_str()));
            let Some(fetched) = &fetched else { return Ok(None) };
            &fetched.file
        }
        Location::File(file) => {
            check_is_there(config, file).map_err(at_base)?;
            if let Some(sha256) = sha256 {
                verify(context, file, sha256).map_err(at_base)?;
            }
            url = None;
            file
        }
    };
    let base = examine(context, file, url, Some(held)).map_err(at_base)?;
    if let Some((size, span)) = declared.size.filter(|(size, _)| *size < base.virtual_bytes) {
        let message = format!(
            "image `{}` would be smaller than its base, which has {} bytes, not {size}",
            declared.name, base.virtual_bytes
        );
        let problem = Problem::new(span, message);
        return Err(config.problem(problem.hint("an image can be grown, not shrunk")));
    }
    Ok(Some(base))
}

/// Returns an error if there is no such file.
pub(super) fn check_is_there(config: &Config, file: &Path) -> Result<(), Error> {
    match file.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let error = Error::failed(format!("there is no file `{}`", file.display()));
            Err(error.hint(format!("relative paths start from `{}`", config.dir().display())))
        }
        _ => Ok(()),
    }
}
