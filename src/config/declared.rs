//! An image as it is to be made: the table of the file with its placeholders replaced.

use super::Config;
use super::image::{ImagePaths, SUM_HINT, SUM_MISSING, user};
use super::problems::Problems;
use super::schema::default;
use super::scope::Scope;
use super::sum::{KINDS, Sum};
use super::values::{is_url, size};
use crate::error::Error;
use crate::source::{Problem, Source, Span};
use crate::system::files;
use crate::template::{Template, render_dotted};
use crate::toml::{Key, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image as the configuration declares it.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// The place of the name in the file.
    pub(crate) span: Span,
    pub(crate) paths: ImagePaths,
    pub(crate) base: Option<DeclaredBase>,
    /// The bytes that the guest sees, and where the file says so; by default those of the base.
    pub(crate) size: Option<(u64, Span)>,
    pub(crate) seed: Option<Seed>,
}

/// The content of an image before anything is written to it.
#[derive(Debug)]
pub(crate) struct DeclaredBase {
    pub(crate) location: Location,
    /// The expected sums, in the order of [`KINDS`]; a URL has one.
    pub(crate) sums: Vec<Sum>,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Url(String),
    /// Absolute.
    File(PathBuf),
}

/// An absolute path, and where the configuration names it.
pub(crate) type NamedFile = (PathBuf, Span);

/// The data for cloud-init.
#[derive(Debug)]
pub(crate) enum Seed {
    /// A file of the user's own.
    File(NamedFile),
    Keys {
        user: String,
        /// The files of public keys; `None` for a key pair of the image's own.
        authorized_keys: Option<Vec<NamedFile>>,
        hostname: String,
        packages: Vec<String>,
        run: Vec<String>,
    },
}

impl Declared {
    /// Replaces the placeholders in the image's table.
    pub(crate) fn new(config: &Config, image: &Key) -> Result<Self, Error> {
        let strings = Strings { scope: Scope::global(config), problems: Problems::default() };
        let get = |name: &str| config.image_table(image)?.get(name);
        let sum = |(key, ..): &(&str, &str, usize)| Sum::of_key(key, get(key)?.as_str()?);
        let sums = KINDS.iter().filter_map(sum).collect();
        let base = get("base").map(|value| strings.base(value, sums));
        let declared = Self {
            name: image.name.clone(),
            span: image.span,
            paths: config.image_paths(&image.name)?,
            base,
            size: get("size").and_then(|value| Some((size(value)?, value.span))),
            seed: get("cloud_init").map(|table| strings.seed(table, image)),
        };
        config.checked(strings.problems.sorted(), declared)
    }

    /// An image that is not declared, of which only its files are known.
    pub(crate) fn nothing(config: &Config, name: &str) -> Result<Self, Error> {
        let (name, span, paths) = (name.into(), Span::default(), config.image_paths(name)?);
        Ok(Self { name, span, paths, base: None, size: None, seed: None })
    }

    /// Whether the guest accepts the key of the image's own pair.
    pub(crate) fn has_own_key(&self) -> bool {
        matches!(self.seed, Some(Seed::Keys { authorized_keys: None, .. }))
    }
}

/// Renders strings of an image, and collects the problems in them.
struct Strings<'a> {
    scope: Scope<'a>,
    problems: Problems,
}

impl Strings<'_> {
    fn text(&self, value: &Value) -> String {
        let text = self.problems.keep(self.scope.render(value)).unwrap_or_default();
        if text.contains('\0') {
            self.problems.add([Problem::new(value.span, "a NUL character cannot be here")]);
        }
        text
    }

    fn texts(&self, value: Option<&Value>) -> Vec<String> {
        value.map_or(&[][..], Value::items).iter().map(|item| self.text(item)).collect()
    }

    /// The file that a string names: it starts from the configuration's directory, or with `~/`
    /// from the home directory.
    fn file(&self, value: &Value) -> NamedFile {
        let text = self.text(value);
        let path = files::path_from(self.scope.config.dir(), &text).ok_or_else(|| {
            let message = format!("`{text}` starts from a home directory that is not known");
            Problem::new(value.span, message).hint("set `HOME` to an absolute path")
        });
        (self.problems.keep(path).unwrap_or_default(), value.span)
    }

    fn base(&self, value: &Value, sums: Vec<Sum>) -> DeclaredBase {
        let (text, span) = (self.text(value), value.span);
        if !is_url(&text) {
            return DeclaredBase { location: Location::File(self.file(value).0), sums, span };
        }
        if sums.is_empty() {
            self.problems.add([Problem::new(span, SUM_MISSING).hint(SUM_HINT)]);
        }
        DeclaredBase { location: Location::Url(text), sums, span }
    }

    fn seed(&self, table: &Value, image: &Key) -> Seed {
        if let Some(file) = table.get("user_data") {
            return Seed::File(self.file(file));
        }
        let keys = table.get("authorized_keys");
        Seed::Keys {
            user: user(table).to_string(),
            authorized_keys: keys
                .map(|keys| keys.items().iter().map(|key| self.file(key)).collect()),
            hostname: match table.get("hostname") {
                Some(hostname) => self.text(hostname),
                // A host name cannot contain `_`.
                None => image.name.replace('_', "-"),
            },
            packages: self.texts(table.get("packages")),
            run: self.texts(table.get("run")),
        }
    }
}

/// The program that makes images: a name, or a path from the configuration's directory.
pub(crate) fn qemu_img(config: &Config) -> Result<String, Error> {
    let rendered = match config.qemu("img") {
        Some(img) => Scope::global(config).render(img),
        None => Ok(default("[qemu]", "img").to_string()),
    };
    rendered.map_err(|problem| config.problem(problem))
}

/// Replaces the placeholders of an image's strings in the text of a file. The file may also hold
/// other programs' templates: nothing without a dot after the delimiter is ours.
pub(crate) fn render_file(config: &Config, file: &Path, text: &str) -> Result<String, Error> {
    let scope = Scope::global(config);
    let template = Template { text, place: &|span| span };
    let rendered = render_dotted(&template, &mut |placeholder| scope.value(placeholder));
    rendered.map_err(|problem| {
        let source = Source { name: file.display().to_string(), text: text.to_string() };
        Error::config(&Arc::new(source), vec![problem])
    })
}
