//! Decodes `[img.NAME]` into the model, with the rules of qqmgr.toml(5) about it.

use super::decode::Decoder;
use super::model::{Base, CloudInit, Image, USER};
use crate::source::Problem;
use crate::toml::{Key, Kind, Table, Value};

/// Limit of an image's name, as for VMs: a directory is named after it.
const NAME_BYTES_MAX: usize = 64;
const KEYS: &[&str] = &["base", "sha256", "size", "cloud_init"];
const CLOUD_INIT_KEYS: &[&str] =
    &["user", "authorized_keys", "hostname", "packages", "run", "user_data"];
/// The keys that `user_data` replaces.
const IN_PLACE_OF: &[&str] = &["user", "authorized_keys", "hostname", "packages", "run"];
const USER_DATA: &str = "user_data";
pub(super) const SHA256_HINT: &str = "its publisher tells it, often in a file `SHA256SUMS` beside it; `qqmgr init --image URL` \
     computes it";
const SHA256_DIGITS: usize = 64;
/// The units of a size, like those of qemu-img: letters for powers of 1024.
const SIZE_UNITS: &str = "KMGTPE";
/// The largest size: file offsets are signed.
const SIZE_BYTES_MAX: u64 = i64::MAX as u64;
const SIZE_HINT: &str = "a number of bytes, or with a unit, like `\"512M\"` or `\"20G\"`";

impl Decoder<'_> {
    pub(super) fn images(&mut self, images: &Table) -> Vec<Image> {
        let decoded = images.iter().filter_map(|(key, value)| {
            if !is_image_name(&key.name) {
                let shown = key.name.escape_debug();
                let message = format!("`{shown}` cannot be the name of an image");
                let hint = format!(
                    "up to {NAME_BYTES_MAX} letters, digits, `_` and `-`, a letter or digit first"
                );
                self.problems.push(Problem::new(key.span, message).hint(hint));
            }
            let table = self.table(Some(value), &header(key, ""))?;
            self.image(key, table)
        });
        decoded.collect()
    }

    fn image(&mut self, key: &Key, table: &Table) -> Option<Image> {
        self.only(table, KEYS, &format!("in `{}`", header(key, "")));
        let base = self.text(table.get("base"), "base");
        let sha256 = self.sha256(table.get("sha256"));
        let size = table.get("size").map(|value| (self.size(value), value.span));
        if table.get("base").is_none() {
            self.check_without_base(key, table);
        }
        let base = base.map(|location| {
            if is_url(&location.text) && table.get("sha256").is_none() {
                let message = "a `base` that is a URL needs its `sha256`";
                self.problems.push(Problem::new(location.span, message).hint(SHA256_HINT));
            }
            Base { location, sha256 }
        });
        let cloud_init = self.cloud_init(key, table.get("cloud_init"));
        let size = match size {
            None => None,
            Some((size, span)) => Some((size?, span)),
        };
        Some(Image { name: key.name.clone(), span: key.span, base, size, cloud_init })
    }

    /// Checks an empty disk: it needs a size, and has nothing that reads a seed.
    fn check_without_base(&mut self, key: &Key, table: &Table) {
        if table.get("size").is_none() {
            let message = format!("`{}` has neither `base` nor `size`", header(key, ""));
            let hint = "with `base` it is a copy that only takes what is written; with `size` alone, empty";
            self.problems.push(Problem::new(key.span, message).hint(hint));
        }
        for other in ["sha256", "cloud_init"] {
            if let Some((key, _)) = table.iter().find(|(key, _)| key.name == other) {
                let message = format!("`{other}` without a `base`");
                self.problems.push(Problem::new(key.span, message).hint("an empty disk has none"));
            }
        }
    }

    fn sha256(&mut self, value: Option<&Value>) -> Option<String> {
        let literal = self.text(value, "sha256")?;
        let sum = sha256(&literal.text);
        if sum.is_none() {
            let message = format!("`sha256` is {SHA256_DIGITS} hexadecimal digits");
            let problem = Problem::new(literal.span, message);
            self.problems.push(problem.hint("`sha256sum FILE` prints it"));
        }
        sum
    }

    /// Decodes a size in bytes, from a number or from a text with a unit.
    fn size(&mut self, value: &Value) -> Option<u64> {
        let size = match &value.kind {
            Kind::Integer(bytes) => u64::try_from(*bytes).ok(),
            Kind::String(text) => bytes(text),
            _ => return self.wrong_type(value, "size", "a string or an integer"),
        };
        let size = size.filter(|size| (1..=SIZE_BYTES_MAX).contains(size));
        if size.is_none() {
            let written = &self.source.text[value.span.start..value.span.end];
            let message = format!("`size` is {written}, and that is no size");
            self.problems.push(Problem::new(value.span, message).hint(SIZE_HINT));
        }
        size
    }

    fn cloud_init(&mut self, image: &Key, value: Option<&Value>) -> Option<CloudInit> {
        let table = self.table(Some(value?), &header(image, ".cloud_init"))?;
        self.only(table, CLOUD_INIT_KEYS, &format!("in `{}`", header(image, ".cloud_init")));
        if let Some(user_data) = self.text(table.get(USER_DATA), USER_DATA) {
            let others = table.iter().filter(|(key, _)| IN_PLACE_OF.contains(&key.name.as_str()));
            for (key, _) in others {
                let message = format!("`{}` beside `{USER_DATA}`", key.name);
                let hint = format!("the file that `{USER_DATA}` names is all that there is then");
                self.problems.push(Problem::new(key.span, message).hint(hint));
            }
            return Some(CloudInit::File(user_data));
        }
        let user = self.text(table.get("user"), "user");
        if let Some(user) = user.as_ref().filter(|user| !is_user_name(&user.text)) {
            let message = format!("`{}` cannot be the name of a user", user.text.escape_debug());
            let hint = "lower-case letters, digits, `_` and `-`, a letter or `_` first";
            self.problems.push(Problem::new(user.span, message).hint(hint));
        }
        let mut list = |name| match table.get(name) {
            Some(_) => self.words(table, name).map(Some),
            None => Some(None),
        };
        let (keys, packages, run) = (list("authorized_keys"), list("packages"), list("run"));
        Some(CloudInit::Keys {
            user: user.map_or_else(|| USER.to_string(), |user| user.text),
            authorized_keys: keys?,
            hostname: self.text(table.get("hostname"), "hostname"),
            packages: packages?.unwrap_or_default(),
            run: run?.unwrap_or_default(),
        })
    }
}

/// The SHA-256 in lower case, if `text` is one.
pub(crate) fn sha256(text: &str) -> Option<String> {
    let is_sum = text.len() == SHA256_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sum.then(|| text.to_ascii_lowercase())
}

/// Whether a `base` is a URL, which is fetched.
pub(crate) fn is_url(base: &str) -> bool {
    let scheme = base.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| ["http", "https"].contains(&scheme.as_str()))
}

/// Whether an image may have this name. Names become paths and parts of placeholders, where dots
/// separate.
pub(crate) fn is_image_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    first && name.chars().all(allowed) && name.len() <= NAME_BYTES_MAX
}

/// Whether a user may have this name, by the rules of useradd(8) of Debian and others.
fn is_user_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    first && name.chars().all(allowed) && name.len() <= 32
}

/// Converts `512M` to bytes.
fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            (&text[..at], Some(unit.to_ascii_uppercase()))
        }
        _ => (text, None),
    };
    let power = match unit {
        None | Some('B') => 0,
        Some(unit) => SIZE_UNITS.find(unit)? + 1,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// The header `[img.NAME]`, or that of a table within it.
fn header(image: &Key, inner: &str) -> String {
    let name = &image.name;
    if is_image_name(name) {
        format!("[img.{name}{inner}]")
    } else {
        format!("[img.{name:?}{inner}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("512", Some(512)),
            ("1k", Some(1024)),
            ("20G", Some(20 << 30)),
            ("7E", Some(7 << 60)),
            ("4096B", Some(4096)),
            ("16E", None),
            ("", None),
            ("G", None),
            ("1.5G", None),
            ("-1G", None),
            ("+1G", None),
            ("1 G", None),
            ("1GiB", None),
            ("1GB", None),
            ("0x10", None),
            ("1é", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn urls() {
        assert!(is_url("http://a/b") && is_url("HTTPS://a"));
        assert!(!is_url("ftp://a") && !is_url("a/b") && !is_url("http:/a") && !is_url("~/http://"));
    }
}
