//! Fetches bases once, by curl or wget, into the directory of bases ([`bases`]), where each has its
//! SHA-256 as its name.
//!
//! An incomplete or unverified file never has that name. A fetch that was cut off continues where
//! it ended.

use super::bases;
use super::context::{Context, reason};
use super::kind::check_kind;
use crate::error::{Error, Kind};
use crate::system::files;
use crate::system::lock::{Lock, Mode};
use crate::system::output::Output;
use crate::system::programs::{self, Program};
use crate::system::run::Invocation;
use crate::system::second_name;
use crate::text::fingerprint;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a server may send nothing before a fetch is given up.
pub(crate) const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);
/// The exit status of curl when a server cannot go on in the middle of a file (curl(1)).
const NO_RANGES: i32 = 33;
const HEADERS_BYTES_MAX: u64 = 256 * 1024;
const MIB: u64 = 1024 * 1024;

/// The programs that compute a sum of their standard input, and the arguments for that.
const SUMS: &[(Program, &[&str])] = &[
    (programs::SHA256SUM, &[]),
    (programs::SHASUM, &["-a", "256"]),
    (programs::OPENSSL, &["dgst", "-sha256", "-r"]),
];

/// The exit statuses of curl, wget and the wget of BusyBox when the server answered with an error.
const REFUSED: &[i32] = &[22, 8, 1];
/// The hints for fetches that waiting does not help: the exit statuses of the client, what its
/// message contains, and the hint. The other exit statuses are curl's for no such host, and for an
/// address that it does not understand.
const HINTS: &[(&[i32], &[&str], &str)] = &[
    (
        REFUSED,
        &[" 404", " 410"],
        "the server has no such file: compare the address with its publisher's",
    ),
    (
        REFUSED,
        &[" 401", " 403"],
        "the server does not give it to everybody: fetch it yourself, and name the file",
    ),
    (&[6], &[""], "no such host is known: is the name right, and the network up?"),
    (&[3], &[""], "compare the address with its publisher's"),
];

/// Finds the base with this SHA-256, in lower case, where bases are kept, under that name. One that
/// is not there, or has changed, is fetched from the URL and verified; without a sum, any content
/// is right. `None` if it is not kept and there is no URL.
pub(crate) fn fetch(
    context: &Context,
    url: Option<&str>,
    sha256: Option<&str>,
) -> Result<Option<PathBuf>, Error> {
    let dir = bases::dir()?;
    let (name, what) = match (sha256, url) {
        (Some(sha256), None) => (sha256.into(), format!("the base with SHA-256 {sha256}")),
        (Some(sha256), Some(url)) => (sha256.into(), format!("`{url}`")),
        (None, url) => {
            let url = url.unwrap_or_default();
            (format!("url-{}", fingerprint(url.as_bytes())), format!("`{url}`"))
        }
    };
    let [lock, part] = ["lock", "part"].map(|ending| dir.join(format!("{name}.{ending}")));
    let make_dir = || bases::dir().map(|_| ());
    let lock = context.lock(&lock, Mode::Exclusive, &make_dir, &what)?;
    if let Some(sha256) = sha256
        && is_kept(context, &dir.join(sha256), sha256, &part)
    {
        return Ok(Some(dir.join(sha256)));
    }
    let Some(url) = url else { return Ok(None) };
    download(context, url, sha256, &part, &lock)?;
    let file = match sha256 {
        Some(sha256) => {
            verify(context, &part, sha256)?;
            dir.join(sha256)
        }
        None => dir.join(sum(context, &part)?),
    };
    files::put_in_place(&part, &file)?;
    Ok(Some(file))
}

/// Whether the base is where bases are kept, or was in the cache of an old version and has a name
/// here now. The caller has its lock.
fn is_kept(context: &Context, file: &Path, sha256: &str, part: &Path) -> bool {
    if file.is_file() {
        match verify(context, file, sha256) {
            Ok(()) => return true,
            // Its content has changed: it is fetched again.
            Err(error) => context.log.note(error.message()),
        }
    }
    let has_sum = |file: &Path| sum(context, file).is_ok_and(|sum| sum == sha256);
    let Some(cached) = bases::in_cache(sha256) else { return false };
    if !cached.is_file() || !has_sum(&cached) || second_name::give(&cached, file, part).is_err() {
        return false;
    }
    let is_right = has_sum(file);
    if !is_right {
        // Another program changed it in between. Even if it stays, it is not taken for the right
        // one.
        let _ = files::remove(file);
    }
    is_right
}

/// Returns an error unless the file has this sum. A wrong base is renamed, so that it can be looked
/// at, and is not taken for the right one.
pub(crate) fn verify(context: &Context, file: &Path, sha256: &str) -> Result<(), Error> {
    let found = sum(context, file)?;
    if found == sha256 {
        return Ok(());
    }
    let message = |file: &Path| {
        let file = file.display();
        format!("`{file}` has the SHA-256 {found}, and not {sha256}")
    };
    if bases::path().is_some_and(|dir| file.parent() == Some(&dir)) {
        let aside = file.with_extension("wrong");
        files::put_in_place(file, &aside)?;
        return Err(Error::failed(message(&aside)).hint(
            "it was kept to be looked at; if its publisher has a new one, so is its `sha256`",
        ));
    }
    Err(Error::failed(message(file)).hint("`sha256` says what it should have"))
}

/// The SHA-256 of a file, in lower-case hexadecimal digits.
fn sum(context: &Context, file: &Path) -> Result<String, Error> {
    let found = SUMS.iter().find(|(program, _)| program.find().is_some());
    let (program, arguments) = found.ok_or_else(|| {
        Error::failed("none of `sha256sum`, `shasum` and `openssl` is there")
            .hint("install one (Debian: coreutils)")
    })?;
    check_kind(file)?;
    let opened = File::open(file).map_err(|error| Error::io("read", file, &error))?;
    let mut command = program.command();
    command.args(*arguments).stdin(opened);
    context.log.progress(|| format!("verifying {}", file.display()));
    let output = context.run(command, None);
    context.log.end_progress();
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout).to_ascii_lowercase();
    let digits: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
    if output.status.success() && digits.len() == 64 {
        return Ok(digits);
    }
    let (file, reason) = (file.display(), reason(&output));
    Err(Error::failed(format!("cannot tell the SHA-256 of `{file}`: {reason}")))
}

/// Fetches the rest of `part`.
fn download(
    context: &Context,
    url: &str,
    sha256: Option<&str>,
    part: &Path,
    lock: &Lock,
) -> Result<(), Error> {
    let there = length(part);
    let from = if there > 0 { format!(", from {} on", mib(there)) } else { String::new() };
    context.log.note(&format!("fetching {url}{from}"));
    let mut output = transfer(context, url, part, lock)?;
    // 416 is "range not satisfiable".
    let cannot_go_on = output.status.code() == Some(NO_RANGES) || output.said().contains(" 416");
    if there > 0 && cannot_go_on {
        if sha256.is_some_and(|sha256| sum(context, part).is_ok_and(|sum| sum == sha256)) {
            return Ok(());
        }
        let why = "the server cannot go on in the middle of the file: from the start, then";
        context.log.note(why);
        files::remove(part)?;
        output = transfer(context, url, part, lock)?;
    }
    if output.status.success() { Ok(()) } else { Err(failed(url, &output, part)) }
}

/// Lets a client write the rest of `part`, and shows how far it is.
fn transfer(context: &Context, url: &str, part: &Path, lock: &Lock) -> Result<Output, Error> {
    let headers = part.with_extension("headers");
    let command = client(url, part, &headers).ok_or_else(|| {
        Error::failed(format!("neither `curl` nor `wget` is there to fetch `{url}`"))
            .hint("install one, or fetch the file yourself and name it in `base`")
    })?;
    let begin = length(part);
    let (mut last, mut since) = (begin, Instant::now());
    let mut watch = || {
        let there = length(part);
        if there != last {
            (last, since) = (there, Instant::now());
        }
        context.log.progress(|| {
            let rest = content_length(&headers);
            let of = rest.map(|rest| format!(" of {}", mib(begin + rest))).unwrap_or_default();
            format!("fetched {}{of}", mib(there))
        });
        if since.elapsed() >= context.patience {
            let seconds = context.patience.as_secs_f64();
            let message = format!("the server of `{url}` sends nothing for {seconds} s");
            return Some(go_on(Error::new(Kind::TimedOut, message), part));
        }
        (context.exceeded)()
    };
    let output = context.run_until(command, Some(lock), &mut watch);
    context.log.end_progress();
    files::remove(&headers)?;
    output
}

/// The command that continues where `part` ends; `None` if there is no client. If it outlives this
/// process, it still ends some time. curl also writes the headers of the answer.
fn client(url: &str, part: &Path, headers: &Path) -> Option<Invocation> {
    if programs::CURL.find().is_some() {
        let mut curl = programs::CURL.command();
        curl.args(["--fail", "--location", "--silent", "--show-error", "--globoff"]);
        curl.args(["--speed-limit", "1", "--speed-time", "600", "--continue-at", "-"]);
        curl.arg("--dump-header").arg(headers);
        curl.arg("--output").arg(part).args(["--url", url]);
        return Some(curl);
    }
    programs::WGET.find()?;
    // BusyBox's wget also has these options; with `-T` Debian's crashes (1.35).
    let mut wget = programs::WGET.command();
    wget.args(["-c", "-O"]).arg(part).arg(url);
    Some(wget)
}

/// The bytes that the server announced, in its last answer after redirections.
fn content_length(headers: &Path) -> Option<u64> {
    let headers = files::read_start(headers, HEADERS_BYTES_MAX).ok()?;
    String::from_utf8_lossy(&headers).lines().rev().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// The error of a fetch that ended, with a hint for its cause.
fn failed(url: &str, output: &Output, part: &Path) -> Error {
    let reason = reason(output);
    let error = Error::failed(format!("cannot fetch `{url}`: {reason}"));
    let applies = |statuses: &[i32], words: &[&str]| {
        output.status.code().is_some_and(|code| statuses.contains(&code))
            && words.iter().any(|word| reason.contains(word))
    };
    match HINTS.iter().find(|(statuses, words, _)| applies(statuses, words)) {
        Some((.., hint)) => error.hint(*hint),
        None => go_on(error, part),
    }
}

/// Adds the hint that the same command continues where a fetch ended, if anything came.
fn go_on(error: Error, part: &Path) -> Error {
    if length(part) > 0 {
        return error.hint("what it sent is kept: the same command goes on from there");
    }
    // wget makes the file before it asks the server.
    let _ = files::remove(part);
    error.hint("nothing came: the same command tries again")
}

fn mib(bytes: u64) -> String {
    if bytes < MIB {
        format!("{} KiB", bytes.div_ceil(1024))
    } else {
        format!("{} MiB", bytes.div_ceil(MIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(
            (mib(0), mib(1), mib(MIB), mib(MIB + 1)),
            ("0 KiB".into(), "1 KiB".into(), "1 MiB".into(), "2 MiB".into())
        );
    }
}
