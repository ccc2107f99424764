//! Checksums of bases.

use std::fmt;

/// The kinds of checksums: the key for one, its name, and the number of its hexadecimal digits.
pub(crate) const KINDS: [(&str, &str, usize); 2] =
    [("sha256", "SHA-256", 64), ("sha512", "SHA-512", 128)];

/// A checksum in lower-case hexadecimal digits. Their number says of which kind it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum(String);

impl Sum {
    /// Reads a checksum of any kind.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_sum = KINDS.iter().any(|(.., digits)| text.len() == *digits)
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sum.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Reads the value of a key of [`KINDS`].
    pub(crate) fn of_key(key: &str, text: &str) -> Option<Self> {
        Self::parse(text).filter(|sum| sum.key() == key)
    }

    pub(crate) fn digits(&self) -> &str {
        &self.0
    }

    pub(crate) fn key(&self) -> &'static str {
        self.kind().0
    }

    pub(crate) fn kind_name(&self) -> &'static str {
        self.kind().1
    }

    fn kind(&self) -> (&'static str, &'static str, usize) {
        KINDS.into_iter().find(|(.., digits)| *digits == self.0.len()).unwrap_or(KINDS[0])
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind_name(), self.0)
    }
}
