//! The values of keys of qqmgr.toml that have rules beyond TOML's types: names, ports, sizes. Pure.

use crate::source::Problem;
use crate::toml::{Key, Kind, Value};
use std::fmt;

/// Limit of a name: directories and sockets are named after it; file systems stop at 255 bytes.
const NAME_BYTES_MAX: usize = 64;
/// The value of `port` in `[vm.NAME.ssh]` for a port that is chosen at each start.
pub(super) const AUTO: &str = "auto";
/// The value of `port` in `[vm.NAME.ssh]` for a guest without ssh.
pub(super) const NONE: &str = "none";
/// The units of a size, like those of qemu-img: letters for powers of 1024.
const SIZE_UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
/// The largest size: file offsets are signed.
const SIZE_BYTES_MAX: u64 = i64::MAX as u64;

/// The value of `port` in a VM's ssh table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SshPort {
    Fixed(u16),
    /// Chosen at each start.
    Auto,
    /// The guest has no ssh.
    None,
}

impl SshPort {
    /// The port that a VM was started with.
    pub(crate) fn of_start(port: Option<u16>) -> Self {
        port.map_or(Self::None, Self::Fixed)
    }

    pub(crate) fn fixed(self) -> Option<u16> {
        match self {
            Self::Fixed(port) => Some(port),
            Self::Auto | Self::None => None,
        }
    }
}

impl fmt::Display for SshPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(port) => port.fmt(f),
            Self::Auto => f.write_str(AUTO),
            Self::None => f.write_str(NONE),
        }
    }
}

/// The TCP port of this number, 1 to 65535.
pub(super) fn port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// The problem of a name that a VM, a helper or an image cannot have; `what` says which it is.
pub(super) fn name_problem(key: &Key, what: &str) -> Option<Problem> {
    let is_image = what == "an image";
    let is_right = if is_image { is_image_name(&key.name) } else { is_vm_name(&key.name) };
    let dot = if is_image { "" } else { "`.`, " };
    let rule = format!("letters, digits, {dot}`_` and `-`, a letter or digit first");
    let message = format!("`{}` cannot be the name of {what}", key.name.escape_debug());
    let problem = Problem::new(key.span, message).hint(format!("up to {NAME_BYTES_MAX} {rule}"));
    (!is_right).then_some(problem)
}

/// Whether a VM, or a helper, may have this name. Names become paths, `Host` patterns and words of
/// messages.
pub(crate) fn is_vm_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    first && name.chars().all(allowed) && name.len() <= NAME_BYTES_MAX
}

/// Whether an image may have this name. Names become paths and parts of placeholders, where dots
/// separate.
pub(crate) fn is_image_name(name: &str) -> bool {
    is_vm_name(name) && !name.contains('.')
}

/// Whether a user may have this name, by the rules of useradd(8) of Debian and others.
pub(super) fn is_user_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    first && name.chars().all(allowed) && name.len() <= 32
}

/// Whether a `base` is a URL, which is fetched.
pub(crate) fn is_url(base: &str) -> bool {
    let scheme = base.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| ["http", "https"].contains(&scheme.as_str()))
}

/// The size of a disk in bytes, from a number or from a text with a unit; 0 is not a size.
pub(super) fn size(value: &Value) -> Option<u64> {
    let bytes = match &value.kind {
        Kind::Integer(bytes) => u64::try_from(*bytes).ok(),
        Kind::String(text) => bytes(text),
        _ => None,
    };
    bytes.filter(|bytes| (1..=SIZE_BYTES_MAX).contains(bytes))
}

/// Converts `512M` to bytes.
fn bytes(text: &str) -> Option<u64> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let power = match text[end..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        unit => SIZE_UNITS.iter().position(|one| *one == unit)? + 1,
    };
    text[..end].parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// The problem of a value whose type is not `expected`; `name` is a key, a header or a description.
pub(super) fn wrong_type(value: &Value, name: &str, expected: &str) -> Problem {
    let name = if name.contains(' ') { name.to_string() } else { format!("`{name}`") };
    let message = format!("{name} is {}, and must be {expected}", value.kind.type_name());
    Problem::new(value.span, message)
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
