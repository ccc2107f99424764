//! `qqmgr img list`

use crate::commands::images::{users, users_of};
use crate::commands::list::Names;
use crate::config::{Config, ImagePaths};
use crate::error::Error;
use crate::image::{State, base, look};
use crate::json::Value;
use crate::report::Report;
use crate::text::amount;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;

struct Entry {
    name: String,
    /// The state; `None` for an image that is no longer declared.
    state: Option<State>,
    changed: Vec<&'static str>,
    paths: ImagePaths,
    virtual_bytes: Option<u64>,
    /// The space that the disk takes up, without its base.
    real_bytes: Option<u64>,
    used_by: Vec<String>,
}

struct Entries(Vec<Entry>);

/// Lists the images of the configuration in its order, then those that are no longer declared.
pub(super) fn run(config: &Config, quiet: bool) -> Result<Box<dyn Report>, Error> {
    let declared = config.images().iter().map(|image| image.name.clone());
    if quiet {
        return Ok(Box::new(Names(declared.collect())));
    }
    let users = users(config)?;
    let entries = declared.chain(config.undeclared_images()).map(|name| {
        let paths = config.image_paths(&name)?;
        let image = config.images().iter().find(|image| image.name == name);
        let declared = image.map(|image| config.declared(image)).transpose()?;
        let look = declared.map(|declared| look(config, &declared, &paths));
        let used_by = users_of(&users, &paths.disk).into_iter().map(str::to_string);
        let disk = paths.dir.join(paths.disk.file_name().unwrap_or_default());
        Ok(Entry {
            state: look.as_ref().map(crate::image::Look::state),
            changed: look.map(|look| look.changed).unwrap_or_default(),
            virtual_bytes: base::virtual_bytes(&disk),
            real_bytes: disk.metadata().ok().map(|metadata| metadata.blocks() * 512),
            used_by: used_by.collect(),
            name,
            paths,
        })
    });
    Ok(Box::new(Entries(entries.collect::<Result<_, Error>>()?)))
}

impl Report for Entries {
    fn text(&self) -> String {
        let names = self.0.iter().map(|entry| entry.name.len());
        let width = names.max().unwrap_or_default().max("NAME".len());
        let mut text = format!(
            "{:width$}  {:12}  {:>8}  {:>8}  USED BY\n",
            "NAME", "STATE", "SIZE", "ON DISK"
        );
        for entry in &self.0 {
            let Entry { name, state, virtual_bytes, real_bytes, used_by, .. } = entry;
            let state = state.map_or("not declared", State::name);
            let [size, real] =
                [virtual_bytes, real_bytes].map(|bytes| bytes.map_or("-".into(), amount));
            let used_by = if used_by.is_empty() { "-".into() } else { used_by.join(", ") };
            let _ = writeln!(text, "{name:width$}  {state:12}  {size:>8}  {real:>8}  {used_by}");
        }
        text
    }

    fn json(&self) -> Value {
        let one = |entry: &Entry| {
            Value::object([
                ("name", Value::from(entry.name.as_str())),
                ("state", entry.state.map(State::name).into()),
                ("changed", entry.changed.iter().map(|key| Value::from(*key)).collect()),
                ("path", entry.paths.disk.as_path().into()),
                ("virtual_bytes", entry.virtual_bytes.into()),
                ("real_bytes", entry.real_bytes.into()),
                ("used_by", entry.used_by.iter().map(|vm| Value::from(vm.as_str())).collect()),
            ])
        };
        self.0.iter().map(one).collect()
    }
}
