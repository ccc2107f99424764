//! Fetches bases once, by curl or wget, into the directory of bases ([`keep`](super::keep)), where
//! each has its SHA-256 as its name.
//!
//! An incomplete or unverified file never has that name. A fetch that was cut off continues where
//! it ended.

use super::base::check_kind;
use super::build::Maker;
use super::hold::{For, Held, hold};
use super::keep::{bases_dir, bases_path};
use super::tools::{self, Said};
use crate::error::{Error, Kind};
use crate::system::files;
use crate::system::programs::{self, Program};
use crate::system::run::Invocation;
use crate::text::fingerprint;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a server may send nothing before a fetch is given up.
pub(crate) const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);
/// How long to wait for a file's size; asking for it is only a courtesy.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// The exit status of curl when a server cannot go on in the middle of a file (curl(1)).
const NO_RANGES: i32 = 33;
/// The exit statuses of curl, wget and the wget of BusyBox when the server answered with an error.
const REFUSED: &[i32] = &[22, 8, 1];
/// The exit statuses of curl when it does not understand an address, and when there is no such
/// host.
const BAD_URL: i32 = 3;
const NO_HOST: i32 = 6;
const MIB: u64 = 1024 * 1024;

/// The programs that compute a sum of their standard input, and the arguments for that.
const SUMS: &[(Program, &[&str])] = &[
    (programs::SHA256SUM, &[]),
    (programs::SHASUM, &["-a", "256"]),
    (programs::OPENSSL, &["dgst", "-sha256", "-r"]),
];

pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    /// Expected SHA-256 in lower case; `None` accepts any content.
    pub(crate) sha256: Option<&'a str>,
}

pub(crate) struct Fetched {
    pub(crate) file: PathBuf,
    pub(crate) sha256: String,
}

/// The files of one fetch.
struct Cached {
    /// `None` while the sum is not known.
    whole: Option<PathBuf>,
    part: PathBuf,
    lock: PathBuf,
}

impl Cached {
    fn new(dir: &Path, url: &str, sha256: Option<&str>) -> Self {
        let name = match sha256 {
            Some(sha256) => sha256.to_string(),
            None => format!("url-{}", fingerprint(url.as_bytes())),
        };
        Self {
            whole: sha256.map(|_| dir.join(&name)),
            part: dir.join(format!("{name}.part")),
            lock: dir.join(format!("{name}.lock")),
        }
    }
}

impl Maker<'_> {
    /// Fetches the file of the URL and verifies it, unless it is kept and still right.
    pub(crate) fn fetch(&self, wanted: &Wanted) -> Result<Fetched, Error> {
        let dir = bases_dir()?;
        let cached = Cached::new(&dir, wanted.url, wanted.sha256);
        let (what, make_dir) = (format!("`{}`", wanted.url), || bases_dir().map(|_| ()));
        let held = hold(&cached.lock, &make_dir, For::Change, &what, self.exceeded, self.log)?;
        if let Some(sha256) = wanted.sha256
            && let Some(file) = self.kept(&cached, sha256)
        {
            return Ok(Fetched { file, sha256: sha256.into() });
        }
        self.download(wanted.url, &cached.part, &held)?;
        let sha256 = match wanted.sha256 {
            Some(sha256) => {
                self.verify(&cached.part, sha256)?;
                sha256.to_string()
            }
            None => self.sum(&cached.part)?,
        };
        let file = dir.join(&sha256);
        files::put_in_place(&cached.part, &file)?;
        Ok(Fetched { file, sha256 })
    }

    /// Finds the base with this sum where bases are kept, or in the cache of an old version.
    pub(super) fn find_kept(&self, sha256: &str) -> Result<Option<PathBuf>, Error> {
        let cached = Cached::new(&bases_dir()?, "", Some(sha256));
        let what = format!("the base with SHA-256 {sha256}");
        let make_dir = || bases_dir().map(|_| ());
        let _held = hold(&cached.lock, &make_dir, For::Change, &what, self.exceeded, self.log)?;
        Ok(self.kept(&cached, sha256))
    }

    fn kept(&self, cached: &Cached, sha256: &str) -> Option<PathBuf> {
        let file = cached.whole.as_ref()?;
        if file.is_file() {
            match self.verify(file, sha256) {
                Ok(()) => return Some(file.clone()),
                // Its content has changed: it is fetched again.
                Err(error) => self.log.note(error.message()),
            }
        }
        self.take_from_cache(sha256, file, &cached.part).then(|| file.clone())
    }

    /// Returns an error unless the file has this sum. A wrong base is renamed, so that it can be
    /// looked at, and is not taken for the right one.
    pub(crate) fn verify(&self, file: &Path, sha256: &str) -> Result<(), Error> {
        let found = self.sum(file)?;
        if found == sha256 {
            return Ok(());
        }
        let message = |file: &Path| {
            let file = file.display();
            format!("`{file}` has the SHA-256 {found}, and not {sha256}")
        };
        if bases_path().is_some_and(|dir| file.parent() == Some(&dir)) {
            let aside = file.with_extension("wrong");
            files::put_in_place(file, &aside)?;
            return Err(Error::failed(message(&aside)).hint(
                "it was kept to be looked at; if its publisher has a new one, so is its `sha256`",
            ));
        }
        Err(Error::failed(message(file)).hint("`sha256` says what it should have"))
    }

    /// The SHA-256 of a file, in lower-case hexadecimal digits.
    pub(super) fn sum(&self, file: &Path) -> Result<String, Error> {
        let Some((program, arguments)) = SUMS.iter().find(|(program, _)| program.find().is_some())
        else {
            let message = "none of `sha256sum`, `shasum` and `openssl` is there";
            return Err(Error::failed(message).hint("install one (Debian: coreutils)"));
        };
        check_kind(file)?;
        let opened = File::open(file).map_err(|error| Error::io("read", file, &error))?;
        let mut command = program.command();
        command.args(*arguments).stdin(opened);
        self.log.progress(|| format!("verifying {}", file.display()));
        let said = tools::run(command, None, &mut || (self.exceeded)(), self.log);
        self.log.end_progress();
        let said = said?;
        let text = String::from_utf8_lossy(&said.stdout).to_ascii_lowercase();
        let digits: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
        if !said.status.success() || digits.len() != 64 {
            let message =
                format!("cannot tell the SHA-256 of `{}`: {}", file.display(), said.reason());
            return Err(Error::failed(message));
        }
        Ok(digits)
    }

    /// Fetches the rest of `part`.
    fn download(&self, url: &str, part: &Path, held: &Held) -> Result<(), Error> {
        let Some(client) = [Client::Curl, Client::Wget].into_iter().find(|one| one.is_there())
        else {
            let message = format!("neither `curl` nor `wget` is there to fetch `{url}`");
            let hint = "install one, or fetch the file yourself and name it in `base`";
            return Err(Error::failed(message).hint(hint));
        };
        let size = self.size_of(client, url);
        if size.is_some_and(|size| length(part) > size) {
            files::remove(part)?;
        }
        let there = length(part);
        if size.is_some_and(|size| there == size && size > 0) {
            return Ok(());
        }
        if let Some(size) = size {
            let dir = part.parent().unwrap_or(part);
            self.check_space(dir, size - there, &format!("`{url}`"))?;
        }
        let of_size = size.map(|size| format!(" ({})", mib(size))).unwrap_or_default();
        let from = if there > 0 { format!(", from {} on", mib(there)) } else { String::new() };
        self.log.note(&format!("fetching {url}{of_size}{from}"));
        let said = self.transfer(client, url, part, size, held)?;
        if said.status.success() {
            return Ok(());
        }
        if there > 0 && cannot_go_on(&said) {
            self.log
                .note("the server cannot go on in the middle of the file: from the start, then");
            files::remove(part)?;
            let said = self.transfer(client, url, part, size, held)?;
            return if said.status.success() { Ok(()) } else { Err(failed(url, &said, part)) };
        }
        Err(failed(url, &said, part))
    }

    fn transfer(
        &self,
        client: Client,
        url: &str,
        part: &Path,
        size: Option<u64>,
        held: &Held,
    ) -> Result<Said, Error> {
        let (mut last, mut since) = (length(part), Instant::now());
        let mut watch = || {
            let there = length(part);
            if there != last {
                (last, since) = (there, Instant::now());
            }
            let of = size.map(|size| format!(" of {}", mib(size))).unwrap_or_default();
            self.log.progress(|| format!("fetched {}{of}", mib(there)));
            if since.elapsed() >= self.patience {
                let seconds = self.patience.as_secs_f64();
                let message = format!("the server of `{url}` sends nothing for {seconds} s");
                return Some(go_on(Error::new(Kind::TimedOut, message), part));
            }
            (self.exceeded)()
        };
        let said = tools::run(client.fetch(url, part), Some(held), &mut watch, self.log);
        self.log.end_progress();
        said
    }

    /// The size of the file in bytes, as the server reports it.
    fn size_of(&self, client: Client, url: &str) -> Option<u64> {
        let deadline = Instant::now() + HEAD_WAIT.min(self.patience);
        let mut watch = || {
            let is_over = Instant::now() >= deadline;
            is_over.then(|| Error::failed("no answer")).or_else(|| (self.exceeded)())
        };
        let said = tools::run(client.head(url), None, &mut watch, self.log).ok()?;
        let stdout = String::from_utf8_lossy(&said.stdout);
        if !said.status.success() {
            return None;
        }
        // The last one, after redirections.
        let mut lines = stdout.lines().chain(said.stderr.lines()).rev();
        lines.find_map(|line| {
            let (name, value) = line.trim().split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        })
    }

    /// Returns an error if this many bytes would not fit into the directory's file system. If the
    /// free space is not known, there is no error.
    pub(super) fn check_space(&self, dir: &Path, bytes: u64, what: &str) -> Result<(), Error> {
        let mut df = programs::DF.command();
        df.arg("-Pk").arg(dir).env("LC_ALL", "C");
        let Ok(said) = tools::run(df, None, &mut || (self.exceeded)(), self.log) else {
            return Ok(());
        };
        let Some(free) = available(&String::from_utf8_lossy(&said.stdout)) else { return Ok(()) };
        if free >= bytes {
            return Ok(());
        }
        let message = format!(
            "there is no space for {what} in `{}`: it takes {}, and {} are free",
            dir.display(),
            mib(bytes),
            mib(free)
        );
        Err(Error::failed(message))
    }
}

#[derive(Clone, Copy)]
enum Client {
    Curl,
    Wget,
}

impl Client {
    fn is_there(self) -> bool {
        match self {
            Self::Curl => programs::CURL.find().is_some(),
            Self::Wget => programs::WGET.find().is_some(),
        }
    }

    /// The command that continues where `part` ends. If it outlives this process, it still ends
    /// some time.
    fn fetch(self, url: &str, part: &Path) -> Invocation {
        match self {
            Self::Curl => {
                let mut curl = programs::CURL.command();
                curl.args(["--fail", "--location", "--silent", "--show-error", "--globoff"]);
                curl.args(["--speed-limit", "1", "--speed-time", "600", "--continue-at", "-"]);
                curl.arg("--output").arg(part).args(["--url", url]);
                curl
            }
            // BusyBox's wget also has these options; with `-T` Debian's crashes (1.35).
            Self::Wget => {
                let mut wget = programs::WGET.command();
                wget.args(["-c", "-O"]).arg(part).arg(url);
                wget
            }
        }
    }

    fn head(self, url: &str) -> Invocation {
        match self {
            Self::Curl => {
                let mut curl = programs::CURL.command();
                curl.args(["--fail", "--location", "--silent", "--globoff", "--head"]);
                curl.args(["--url", url]);
                curl
            }
            Self::Wget => {
                let mut wget = programs::WGET.command();
                wget.args(["--spider", "-S", url]);
                wget
            }
        }
    }
}

fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// Whether only the existing part is in the way: 416 is "range not satisfiable".
fn cannot_go_on(said: &Said) -> bool {
    said.status.code() == Some(NO_RANGES) || said.stderr.contains(" 416")
}

/// The error of a fetch that ended, with a hint for its cause.
fn failed(url: &str, said: &Said, part: &Path) -> Error {
    let reason = said.reason();
    let error = Error::failed(format!("cannot fetch `{url}`: {reason}"));
    let was_answered = said.status.code().is_some_and(|code| REFUSED.contains(&code));
    let status = reason.split(|c: char| !c.is_ascii_digit()).find(|number| {
        was_answered && number.len() == 3 && (number.starts_with('4') || number.starts_with('5'))
    });
    match (said.status.code(), status) {
        (_, Some("404" | "410")) => {
            error.hint("the server has no such file: compare the address with its publisher's")
        }
        (_, Some("401" | "403")) => error
            .hint("the server does not give it to everybody: fetch it yourself, and name the file"),
        (Some(NO_HOST), _) => {
            error.hint("no such host is known: is the name right, and the network up?")
        }
        (Some(BAD_URL), _) => error.hint("compare the address with its publisher's"),
        _ => go_on(error, part),
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

/// Free bytes in the output of `df -Pk`: the number before the one with a percent sign, in KiB.
/// Names of file systems and directories may have blanks.
fn available(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let percent = words.iter().position(|word| {
        word.strip_suffix('%').is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    })?;
    words.get(percent.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
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
    fn free_space_is_read_from_df() {
        let header = "Filesystem 1024-blocks Used Available Capacity Mounted on\n";
        for (line, expected) in [
            ("/dev/vda 100 40 60 40% /", Some(60 * 1024)),
            ("a b 100 40 60 40% /mnt/x 5% y", Some(60 * 1024)),
            ("tmpfs - - - - /", None),
            ("", None),
        ] {
            assert_eq!(available(&format!("{header}{line}\n")), expected, "{line}");
        }
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(
            (mib(0), mib(1), mib(MIB), mib(MIB + 1)),
            ("0 KiB".into(), "1 KiB".into(), "1 MiB".into(), "2 MiB".into())
        );
    }
}
