//! Fetches bases once, by curl or wget, into the directory of bases ([`bases`]), where each has the
//! first of its declared checksums as its name, or its SHA-256.
//!
//! An incomplete or unverified file never has that name. A fetch that was cut off continues where
//! it ended.

use super::bases::{self, has_sum, sum, verify};
use super::context::{Context, reason};
use crate::config::sum::{KINDS, Sum};
use crate::error::{Error, Kind};
use crate::system::lock::Mode;
use crate::system::output::Output;
use crate::system::run::Invocation;
use crate::system::{files, programs};
use crate::text::size;
use std::path::{Path, PathBuf};
use std::slice;
use std::time::Instant;

/// The exit status of curl when a server cannot go on in the middle of a file (curl(1)).
const NO_RANGES: i32 = 33;
const HEADERS_BYTES_MAX: u64 = 256 * 1024;

/// The exit statuses of curl, wget and the wget of BusyBox when the server answered with an error.
const REFUSED: &[i32] = &[22, 8, 1];
/// The hints for failures that stay: exit statuses, parts of messages, and the hint. 6 is curl's
/// status for an unknown host, and 3 for an address that it does not understand.
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

/// Finds the base with these sums where bases are kept. A base that is missing or has changed is
/// fetched from the URL and verified. Without a sum, the base that is remembered for the URL is
/// used, or else fetched. `None` if the base is not kept and there is no URL.
pub(crate) fn fetch(
    context: &Context,
    url: Option<&str>,
    sums: &[Sum],
) -> Result<Option<PathBuf>, Error> {
    let dir = bases::dir()?;
    let is_there = |sum: &&Sum| dir.join(sum.digits()).is_file();
    let first = sums.iter().find(is_there).or(sums.first());
    let by_url = || bases::name_of(url.unwrap_or_default());
    let name = first.map_or_else(by_url, |sum| sum.digits().to_string());
    let what = match (first, url) {
        (Some(sum), None) => format!("the base with {sum}"),
        (_, url) => format!("`{}`", url.unwrap_or_default()),
    };
    let [lock, part] = ["lock", "part"].map(|ending| dir.join(format!("{name}.{ending}")));
    let make_dir = || bases::dir().map(|_| ());
    let context = &context.under(context.lock(&lock, Mode::Exclusive, &make_dir, &what)?);
    let before = if first.is_none() { bases::linked(&dir.join(&name)) } else { None };
    let known = before.as_ref().map_or(sums, slice::from_ref);
    if let Some(sum) = first.or(before.as_ref())
        && let file = dir.join(sum.digits())
        && is_kept(context, &file, known, &part)
    {
        if first.is_none() {
            let file = file.display();
            let way = "without that file, it is fetched again";
            context.log.note(&format!("{what} was fetched before, as `{file}`: {way}"));
        }
        return Ok(Some(file));
    }
    let Some(url) = url else { return Ok(None) };
    download(context, url, sums, &part)?;
    verify(context, &part, sums)?;
    let file = match first {
        Some(first) => dir.join(first.digits()),
        None => dir.join(sum(context, &part, KINDS[0].0)?.digits()),
    };
    files::put_in_place(&part, &file)?;
    Ok(Some(file))
}

/// Whether the base is kept, or is now, from an old version's cache. The caller has its lock.
fn is_kept(context: &Context, file: &Path, sums: &[Sum], part: &Path) -> bool {
    if file.is_file() {
        match verify(context, file, sums) {
            Ok(()) => return true,
            // Its content has changed: it is fetched again.
            Err(error) => context.log.note(error.message()),
        }
    }
    let has_sums = |file: &Path| sums.iter().all(|sum| has_sum(context, file, sum));
    let cached = sums.first().and_then(bases::in_cache);
    let cached = cached.filter(|cached| cached.is_file() && has_sums(cached));
    if cached.is_none_or(|cached| files::give_second_name(&cached, file, part).is_err()) {
        return false;
    }
    has_sums(file) || {
        // Another program changed it in between. If it cannot be removed, it is still not used.
        let _ = files::remove(file);
        false
    }
}

/// Fetches the rest of `part`.
fn download(context: &Context, url: &str, sums: &[Sum], part: &Path) -> Result<(), Error> {
    let there = length(part);
    let from = if there > 0 { format!(", from {} on", size(there)) } else { String::new() };
    context.log.note(&format!("fetching {url}{from}"));
    let mut output = transfer(context, url, part)?;
    // 416 is "range not satisfiable".
    let cannot_go_on = output.status.code() == Some(NO_RANGES) || output.said().contains(" 416");
    if there > 0 && cannot_go_on {
        if sums.first().is_some_and(|first| has_sum(context, part, first)) {
            return Ok(());
        }
        let why =
            "the server cannot continue in the middle of the file, so it is fetched from the start";
        context.log.note(why);
        files::remove(part)?;
        output = transfer(context, url, part)?;
    }
    if output.status.success() { Ok(()) } else { Err(failed(url, &output, part)) }
}

/// Lets a client write the rest of `part`, and shows how far it is.
fn transfer(context: &Context, url: &str, part: &Path) -> Result<Output, Error> {
    let headers = part.with_extension("headers");
    let command = client(url, part, &headers).ok_or_else(|| {
        Error::failed(format!("neither `curl` nor `wget` is installed to fetch `{url}`"))
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
            let of = rest.map(|rest| format!(" of {}", size(begin + rest))).unwrap_or_default();
            format!("fetched {}{of}", size(there))
        });
        if since.elapsed() >= context.patience {
            let seconds = context.patience.as_secs_f64();
            let message = format!("the server of `{url}` sends nothing for {seconds} s");
            return Some(go_on(Error::new(Kind::TimedOut, message), part));
        }
        (context.exceeded)()
    };
    let output = context.run_until(command, &mut watch);
    context.log.end_progress();
    files::remove(&headers)?;
    output
}

/// The command that continues where `part` ends; `None` if there is no client. If it outlives this
/// process, a silent server still ends it. curl also writes the headers of the answer.
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
        return error.hint("what it sent is kept: the same command continues from there");
    }
    // wget makes the file before it asks the server.
    let _ = files::remove(part);
    error.hint("nothing came: the same command tries again")
}
