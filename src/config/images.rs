//! The images that the configuration declares: where their files are, what each is made from with
//! its placeholders replaced, and which of them a VM uses.

use super::decode_img::is_url;
use super::model::{Base, CloudInit, Image, Literal, QEMU_IMG, Vm};
use super::scope::Scope;
use super::{Choices, Config, Problems, SshSetting, is_image_name};
use crate::error::{Error, Kind};
use crate::files;
use crate::source::{Problem, Source, Span};
use crate::system::short_way;
use crate::template::{Template, render_dotted};
use crate::text::{did_you_mean, nearest};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR_PREFIX: &str = "img.";

/// The places of an image's files.
#[derive(Clone, Debug)]
pub(crate) struct ImagePaths {
    /// `$RUNTIME_DIR/img.NAME`
    pub(crate) dir: PathBuf,
    /// This and `seed` are the paths that QEMU gets: in the directory, or by a short way to it if
    /// its path has anything that an option list or a shell would read as something else.
    pub(crate) disk: PathBuf,
    pub(crate) seed: PathBuf,
    /// The private key of the image's own pair.
    pub(crate) key: PathBuf,
    /// The record of what the disk was made from.
    pub(crate) record: PathBuf,
    pub(crate) lock: PathBuf,
}

/// An image as the configuration declares it.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// The place of the name in the file.
    pub(crate) span: Span,
    pub(crate) base: Option<DeclaredBase>,
    /// The bytes that the guest sees, and where the file says so.
    pub(crate) size: Option<(u64, Span)>,
    pub(crate) seed: Option<Seed>,
}

#[derive(Debug)]
pub(crate) struct DeclaredBase {
    pub(crate) location: Location,
    pub(crate) sha256: Option<String>,
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

impl Config {
    /// The images, in file order.
    pub(crate) fn images(&self) -> &[Image] {
        &self.model.images
    }

    pub(crate) fn image(&self, name: &str) -> Result<&Image, Error> {
        let images = &self.model.images;
        images.iter().find(|image| image.name == name).ok_or_else(|| {
            let near = nearest(name, images.iter().map(|image| image.name.as_str()));
            let message = format!("there is no image `{name}` in `{}`", self.source.name);
            let error = Error::new(Kind::Config, did_you_mean(&message, near));
            match near {
                Some(_) => error,
                None if images.is_empty() => error.hint("it has no `[img.NAME]` at all"),
                None => error.hint("`qqmgr img list` shows the images that it has"),
            }
        })
    }

    /// The paths of an image with this name, declared or not.
    pub(crate) fn image_paths(&self, name: &str) -> Result<ImagePaths, Error> {
        let dir = self.runtime_dir().join(format!("{DIR_PREFIX}{name}"));
        let way = if files::is_plain(&dir) { dir.clone() } else { short_way::short_link(&dir)? };
        Ok(ImagePaths {
            disk: way.join("disk.qcow2"),
            seed: way.join("seed.img"),
            key: dir.join("id_ed25519"),
            record: dir.join("image.json"),
            lock: dir.join("lock"),
            dir,
        })
    }

    /// The names of the images that have a directory and are not declared any more, sorted.
    pub(crate) fn undeclared_images(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.runtime_dir()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| {
            Some(entry.file_name().to_str()?.strip_prefix(DIR_PREFIX)?.to_string())
        });
        let is_declared = |name: &str| self.images().iter().any(|image| image.name == name);
        names.filter(|name| is_image_name(name) && !is_declared(name)).collect()
    }

    /// The images whose paths are part of what the VM is started with, in file order. Problems in a
    /// string are reported when it is used.
    pub(crate) fn images_of(&self, vm: &Vm, choices: &Choices) -> Vec<&Image> {
        if self.images().is_empty() {
            return Vec::new();
        }
        let scope = self.scope(vm, choices);
        for literal in self.literals(vm) {
            let _ = scope.render(literal);
        }
        let asked = scope.images_asked();
        self.images().iter().filter(|image| asked.contains(image.name.as_str())).collect()
    }

    /// The program that makes images: a name, or a path from the configuration's directory.
    pub(crate) fn qemu_img(&self) -> Result<String, Error> {
        let Some(img) = &self.model.qemu_img else { return Ok(QEMU_IMG.to_string()) };
        let choices = Choices::default();
        let rendered = Scope::global(self, &choices).render(img);
        rendered.map_err(|problem| self.problem(problem))
    }

    /// The image with its placeholders replaced.
    pub(crate) fn declared(&self, image: &Image) -> Result<Declared, Error> {
        let choices = Choices::default();
        let scope = Scope::global(self, &choices);
        let problems = RefCell::new(Problems::default());
        let render = |literal: &Literal| {
            let text = problems.borrow_mut().keep(scope.render(literal)).unwrap_or_default();
            if text.contains('\0') {
                let problem = Problem::new(literal.span, "a NUL character cannot be here");
                problems.borrow_mut().0.push(problem);
            }
            text
        };
        let placed = |text: &str, literal: &Literal| {
            let placed = self.placed(text).map_err(|error| error.at(literal.span));
            problems.borrow_mut().keep(placed).unwrap_or_default()
        };
        let base = image.base.as_ref().map(|Base { location: literal, sha256 }| {
            let text = render(literal);
            let location = if is_url(&text) {
                Location::Url(text)
            } else {
                Location::File(placed(&text, literal))
            };
            DeclaredBase { location, sha256: sha256.clone(), span: literal.span }
        });
        let seed = image.cloud_init.as_ref().map(|cloud_init| match cloud_init {
            CloudInit::File(file) => Seed::File((placed(&render(file), file), file.span)),
            CloudInit::Keys { user, authorized_keys, hostname, packages, run } => Seed::Keys {
                user: user.clone(),
                authorized_keys: authorized_keys.as_ref().map(|keys| {
                    keys.iter().map(|key| (placed(&render(key), key), key.span)).collect()
                }),
                hostname: match hostname {
                    Some(hostname) => render(hostname),
                    // A host name cannot contain `_`.
                    None => image.name.replace('_', "-"),
                },
                packages: packages.iter().map(render).collect(),
                run: run.iter().map(render).collect(),
            },
        });
        if let Some(DeclaredBase { location: Location::Url(_), sha256: None, span }) = base {
            let problem = Problem::new(span, "a `base` that is a URL needs its `sha256`");
            problems.borrow_mut().0.push(problem.hint(super::decode_img::SHA256_HINT));
        }
        let (name, span, size) = (image.name.clone(), image.span, image.size);
        self.checked(problems.into_inner().0, Declared { name, span, base, size, seed })
    }

    /// Replaces the placeholders of an image's strings in the text of a file. The file may also
    /// hold other programs' templates: nothing without a dot behind the delimiter is ours.
    pub(crate) fn render_file(&self, file: &Path, text: &str) -> Result<String, Error> {
        let choices = Choices::default();
        let scope = Scope::global(self, &choices);
        let template = Template { text, place: &|span| span };
        let rendered = render_dotted(&template, &mut |placeholder| scope.value(placeholder));
        rendered.map_err(|problem| {
            let source = Source { name: file.display().to_string(), text: text.to_string() };
            Error::config(&Arc::new(source), vec![problem])
        })
    }

    /// Adds the ssh options for the key and the user of the VM's images, where the configuration
    /// sets none.
    pub(super) fn add_image_options(
        &self,
        vm: &Vm,
        choices: &Choices,
        options: &mut Vec<SshSetting>,
    ) -> Result<(), Error> {
        for image in self.images_of(vm, choices) {
            let Some(CloudInit::Keys { user, authorized_keys, .. }) = &image.cloud_init else {
                continue;
            };
            let is_set =
                |name: &str| options.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            let mut ours = Vec::new();
            if !is_set("User") {
                ours.push(("User", user.clone()));
            }
            if authorized_keys.is_none() && !is_set("IdentityFile") {
                // ssh's own spelling of `%` is `%%`.
                let key = self.image_paths(&image.name)?.key;
                ours.push(("IdentityFile", key.display().to_string().replace('%', "%%")));
            }
            options.extend(ours.into_iter().map(|(name, value)| (name.to_string(), vec![value])));
            return Ok(());
        }
        Ok(())
    }

    /// The place of a path in the file, which starts from the configuration's directory, or with
    /// `~/` from the home directory.
    fn placed(&self, path: &str) -> Result<PathBuf, Error> {
        let Some(rest) = path.strip_prefix("~/") else { return Ok(self.dir().join(path)) };
        let home = files::home().ok_or_else(|| {
            Error::new(
                Kind::Config,
                format!("`{path}` starts from a home directory that is not known"),
            )
            .hint("set `HOME` to an absolute path")
        })?;
        Ok(home.join(rest))
    }
}

impl Declared {
    /// Whether the guest accepts the key of the image's own pair.
    pub(crate) fn has_own_key(&self) -> bool {
        matches!(self.seed, Some(Seed::Keys { authorized_keys: None, .. }))
    }
}
