//! JSON values (RFC 8259), for QMP, `--json` and `instance.json`: read by [`parse()`], written by
//! [`Value::compact`] and [`Value::pretty`].

mod parse;
mod write;

pub(crate) use parse::parse;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number as it was written: QMP has 64-bit counters, which a float would round.
    Number(String),
    String(String),
    Array(Vec<Value>),
    /// The members in order. QMP never repeats a name; if a name is repeated, the first one counts.
    Object(Vec<(String, Value)>),
}

impl Value {
    pub(crate) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// Seconds with milliseconds.
    pub(crate) fn seconds(duration: std::time::Duration) -> Self {
        Self::Number(format!("{:.3}", duration.as_secs_f64()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, v)| v),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of an array; empty for any other value.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The member of this name, if it is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The member of this name, if it is a number without a sign or a fraction.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }

    /// Whether the member of this name is `true`.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some(&Self::Bool(true))
    }

    /// The elements of the member of this name; empty if it is not an array.
    pub(crate) fn list(&self, name: &str) -> &[Self] {
        self.get(name).map(Self::items).unwrap_or_default()
    }

    /// The texts in the member of this name, if it is an array with nothing else.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let Self::Array(items) = self.get(name)? else { return None };
        items.iter().map(|item| item.as_str().map(str::to_string)).collect()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_string())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::String(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// The integers that become numbers.
pub(crate) trait Integer: ToString {}

impl Integer for u16 {}
impl Integer for u32 {}
impl Integer for u64 {}
impl Integer for usize {}

impl<T: Integer> From<T> for Value {
    fn from(number: T) -> Self {
        Self::Number(number.to_string())
    }
}

/// Converts a path. Paths are bytes and JSON is text, so bytes that are not UTF-8 become U+FFFD.
impl From<&std::path::Path> for Value {
    fn from(path: &std::path::Path) -> Self {
        Self::String(path.to_string_lossy().into_owned())
    }
}

impl From<&std::path::PathBuf> for Value {
    fn from(path: &std::path::PathBuf) -> Self {
        path.as_path().into()
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Self>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}
