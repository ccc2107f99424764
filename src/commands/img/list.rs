//! `qqmgr img list`

use crate::commands::images::{users, users_of};
use crate::config::Config;
use crate::config::Declared;
use crate::config::image::DISK;
use crate::error::Error;
use crate::image::inspection::inspect;
use crate::json::Value;
use crate::report::{
    Align::{Left, Right},
    Report, Table,
};
use crate::text::amount;
use crate::vm::format;
use std::os::unix::fs::MetadataExt as _;

/// Lists the images of the configuration in its order, then those that are no longer declared.
pub(super) fn run(config: &Config, quiet: bool) -> Result<Report, Error> {
    let declared = config.images().map(|image| image.name.clone());
    if quiet {
        return Ok(Report::names(declared));
    }
    let users = users(config)?;
    let mut table = Table::new(&[
        ("NAME", Left, 0),
        ("STATE", Left, 12),
        ("SIZE", Right, 8),
        ("ON DISK", Right, 8),
        ("USED BY", Left, 0),
    ]);
    for name in declared.chain(config.undeclared_images()) {
        let paths = config.image_paths(&name)?;
        let image = config.images().find(|image| image.name == name);
        let declared = image.map(|image| Declared::new(config, image)).transpose()?;
        let look = declared.map(|declared| inspect(config, &declared));
        let state = look.as_ref().map(|look| look.state().to_string());
        let changed = look.map(|look| look.changed).unwrap_or_default();
        let used_by = users_of(&users, &paths.disk);
        let disk = paths.file(DISK);
        let virtual_bytes = format::disk(&disk).map(|header| header.virtual_bytes);
        // The space that the disk takes up, without its base.
        let real_bytes = disk.metadata().ok().map(|metadata| metadata.blocks() * 512);
        let size = |bytes: Option<u64>| bytes.map_or("-".into(), amount);
        let cells = [
            name.clone(),
            state.clone().unwrap_or("not declared".into()),
            size(virtual_bytes),
            size(real_bytes),
            if used_by.is_empty() { "-".into() } else { used_by.join(", ") },
        ];
        let members = [
            ("name", name.into()),
            ("state", state.as_deref().into()),
            ("changed", changed.into_iter().collect()),
            ("path", (&paths.disk).into()),
            ("virtual_bytes", virtual_bytes.into()),
            ("real_bytes", real_bytes.into()),
            ("used_by", used_by.into_iter().collect()),
        ];
        table.row(cells, Value::object(members));
    }
    Ok(table.report())
}
