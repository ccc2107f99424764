//! Computes the checksums of bases with the first suitable program that is installed.

use super::bases;
use super::context::{Context, reason};
use crate::config::sum::Sum;
use crate::error::Error;
use crate::system::files;
use crate::system::programs::{self, Program};
use crate::vm::format::check_kind;
use std::fs::File;
use std::path::Path;

/// The programs that compute a sum of their standard input, and the arguments for that, by the key
/// for the sum.
const SUMS: &[(&str, Program, &[&str])] = &[
    ("sha256", programs::SHA256SUM, &[]),
    ("sha256", programs::SHASUM, &["-a", "256"]),
    ("sha256", programs::OPENSSL, &["dgst", "-sha256", "-r"]),
    ("sha512", programs::SHA512SUM, &[]),
    ("sha512", programs::SHASUM, &["-a", "512"]),
    ("sha512", programs::OPENSSL, &["dgst", "-sha512", "-r"]),
];

/// Returns an error unless the file has these sums. A wrong base is renamed, so that a user can
/// look at it, and no command takes it for the right base.
pub(crate) fn verify(context: &Context, file: &Path, sums: &[Sum]) -> Result<(), Error> {
    for expected in sums {
        let found = sum(context, file, expected.key())?;
        if found == *expected {
            continue;
        }
        let (kind, expected, key) = (expected.kind_name(), expected.digits(), expected.key());
        let message = |file: &Path| {
            let (file, found) = (file.display(), found.digits());
            format!("`{file}` has the {kind} {found}, and not {expected}")
        };
        if bases::path().is_some_and(|dir| file.parent() == Some(&dir)) {
            let aside = file.with_extension("wrong");
            files::put_in_place(file, &aside)?;
            return Err(Error::failed(message(&aside)).hint(format!(
                "the file is kept aside; if it is the publisher's new one, take its new `{key}`"
            )));
        }
        return Err(Error::failed(message(file)).hint(format!("`{key}` says what it should have")));
    }
    Ok(())
}

pub(super) fn has_sum(context: &Context, file: &Path, expected: &Sum) -> bool {
    sum(context, file, expected.key()).is_ok_and(|sum| sum == *expected)
}

/// The sum of a file, of the kind that this key is for.
pub(super) fn sum(context: &Context, file: &Path, key: &str) -> Result<Sum, Error> {
    let mut of_kind = SUMS.iter().filter(|(of, ..)| *of == key);
    let found = of_kind.find(|(_, program, _)| program.find().is_some());
    let (_, program, arguments) = found.ok_or_else(|| {
        Error::failed(format!("none of `{key}sum`, `shasum` and `openssl` is installed"))
            .hint("install one (Debian: coreutils)")
    })?;
    check_kind(file)?;
    let opened = File::open(file).map_err(|error| Error::io("read", file, &error))?;
    let mut command = program.command();
    command.args(*arguments).stdin(opened);
    context.log.progress(|| format!("verifying {}", file.display()));
    // Its input is the file, and not the lock.
    let output = command.captured(&mut || (context.exceeded)(), context.log);
    context.log.end_progress();
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digits: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
    Sum::of_key(key, &digits).filter(|_| output.status.success()).ok_or_else(|| {
        let (file, reason) = (file.display(), reason(&output));
        Error::failed(format!("cannot tell the `{key}` of `{file}`: {reason}"))
    })
}
