//! Finds the files and directories of this host that QEMU's command line names: which of them are
//! images, in which format, and whether the guest may write to them. Pure: looks at no file.

use super::options::Argument;
use crate::source::Span;
use std::collections::BTreeMap;

/// The flags that each keep an image from being written to.
const READ_ONLY: &[&str] = &["readonly", "read-only", "snapshot"];
/// The driver of a node that gives the content of a file unchanged.
const RAW: &str = "raw";

/// A file or directory of this host that an argument names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The path as written, relative to the directory that QEMU runs in.
    pub(crate) path: String,
    pub(crate) is_dir: bool,
    /// Whether the guest may write to it.
    pub(crate) written: bool,
}

/// The image that holds the content of a disk, a drive or a flash.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// The name as written.
    pub(crate) name: String,
    pub(crate) written: bool,
    /// The driver that reads the image, if one is given; otherwise QEMU looks at the content.
    pub(crate) format: Option<String>,
}

impl Image {
    /// The image's file, if the image is a file. A name with a colon before the first slash has a
    /// protocol (`path_has_protocol` of block.c); `file:` is the plain one.
    pub(crate) fn file(&self) -> Option<&str> {
        let path = self.name.strip_prefix("file:").unwrap_or(&self.name);
        let has_protocol = path.find([':', '/']).is_some_and(|at| path[at..].starts_with(':'));
        let is_file = !has_protocol && !path.is_empty() && !path.starts_with("/dev/fdset/");
        is_file.then_some(path)
    }
}

/// The files and directories that the arguments name, each with the place of its word.
pub(crate) fn named(arguments: &[Argument]) -> impl Iterator<Item = (Named, Span)> {
    let images = images(arguments).into_iter().filter_map(|(image, word)| {
        let path = image.file()?.to_string();
        Some((Named { path, is_dir: false, written: image.written }, word))
    });
    let known = arguments.iter().filter(|argument| !argument.is_expanded);
    let others = known.filter_map(|argument| Some((other(argument)?, argument.span)));
    images.chain(others)
}

/// The images, each with the place of its word. Under `-snapshot` the guest writes to none.
pub(crate) fn images(arguments: &[Argument]) -> Vec<(Image, Span)> {
    let is_kept = arguments.iter().any(|argument| argument.name == "snapshot");
    let mut images = Vec::new();
    for argument in arguments.iter().filter(|argument| !argument.is_expanded) {
        for mut image in images_of(argument, arguments) {
            image.written &= !is_kept;
            images.push((image, argument.span));
        }
    }
    images
}

/// Whether some of the guest's writes are lost when QEMU ends.
pub(crate) fn forgets(arguments: &[Argument]) -> bool {
    arguments.iter().any(|argument| match argument.name.as_str() {
        "snapshot" => true,
        "drive" => argument.is_on("snapshot"),
        _ => false,
    })
}

/// The images of one argument, according to qemu-options.hx.
fn images_of(argument: &Argument, all: &[Argument]) -> Vec<Image> {
    let plain = |written| {
        let name = argument.value.clone();
        if name.is_empty() { vec![] } else { vec![Image { name, written, format: None }] }
    };
    match argument.name.as_str() {
        "" | "hda" | "hdb" | "hdc" | "hdd" | "fda" | "fdb" | "pflash" | "sd" | "mtdblock" => {
            plain(true)
        }
        "cdrom" => plain(false),
        "drive" => of_pairs(argument, "file"),
        "blockdev" => {
            let mut images = of_pairs(argument, "filename");
            if let Some(node) = argument.get("node-name") {
                for image in &mut images {
                    see_user(image, node, all);
                }
            }
            images
        }
        _ => Vec::new(),
    }
}

/// The file or directory of one argument, if it is not an image.
fn other(argument: &Argument) -> Option<Named> {
    let value = argument.value.as_str();
    let (path, is_dir) = match (argument.name.as_str(), argument.first()) {
        ("fsdev" | "virtfs", "local") => (argument.get("path")?, true),
        ("kernel" | "dtb" | "readconfig", _) => (value, false),
        // With a comma it may be the list of modules of a multiboot kernel.
        ("initrd", _) if !value.contains(',') => (value, false),
        // A name without a slash is also searched for in QEMU's own directories.
        ("bios", _) if value.contains('/') => (value, false),
        ("device", "loader") | ("object", "secret") | ("fw_cfg" | "smbios", _) => {
            (argument.get("file")?, false)
        }
        _ => return None,
    };
    let named = Named { path: path.to_string(), is_dir, written: false };
    (!path.is_empty()).then_some(named)
}

/// The images of a `-drive` or `-blockdev`, one for each key that names a file; the last value of a
/// key counts. In a `-blockdev`, `file` is another node and not a file.
fn of_pairs(drive: &Argument, own_key: &str) -> Vec<Image> {
    let last: BTreeMap<&str, &str> =
        drive.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let files = last.into_iter().filter(|(key, name)| {
        let is_file = *key == own_key || *key == "filename" || key.ends_with(".filename");
        is_file && !name.is_empty()
    });
    files
        .map(|(key, name)| Image {
            name: name.to_string(),
            written: is_written(drive, key),
            format: format(drive, key).map(str::to_string),
        })
        .collect()
}

/// Whether the guest may write to the file of this key. A read-only node says so itself or where it
/// is used, and everything below `backing` is read-only.
fn is_written(drive: &Argument, key: &str) -> bool {
    let nodes = key.match_indices('.').map(|(dot, _)| &key[..=dot]).chain([""]);
    let only_read =
        nodes.flat_map(|node| READ_ONLY.iter().map(move |flag| format!("{node}{flag}")));
    let is_base = key.split('.').any(|part| part == "backing");
    !is_base
        && drive.get("media") != Some("cdrom")
        && !only_read.into_iter().any(|key| drive.is_on(&key))
}

/// The driver of the node whose file this key names: the node itself for the `file` of a `-drive`,
/// and the surrounding node for `file.filename`.
fn format<'a>(drive: &'a Argument, key: &str) -> Option<&'a str> {
    let node = if key == "file" { "" } else { key.strip_suffix("file.filename")? };
    let given = |name: &str| drive.get(&format!("{node}{name}"));
    given("driver").or_else(|| given("format"))
}

/// Completes the image of a `-blockdev` node that is only a file: the node or device that uses it
/// defines its format, and whether it is written to.
fn see_user(image: &mut Image, node: &str, all: &[Argument]) {
    if image.format.is_some() {
        return;
    }
    let mut nodes = all.iter().filter(|argument| argument.name == "blockdev");
    let Some(user) = nodes.find(|other| other.get("file") == Some(node)) else {
        image.format = Some(RAW.into());
        return;
    };
    image.written &= is_written(user, "file");
    image.format = user.get("driver").map(str::to_string);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::options::arguments;
    use crate::words::Word;

    fn read(line: &str) -> Vec<String> {
        let words = line.split(' ').map(|text| Word::plain(text, Span::default()));
        let shown = |image: Image| {
            let written = if image.written { "rw" } else { "ro" };
            let file = image.file().unwrap_or("no file");
            format!("{file} {written} {}", image.format.as_deref().unwrap_or("?"))
        };
        images(&arguments(words.collect())).into_iter().map(|(image, _)| shown(image)).collect()
    }

    #[test]
    fn images_with_their_formats() {
        for (line, expected) in [
            ("a.img -hdb b -cdrom c.iso", &["a.img rw ?", "b rw ?", "c.iso ro ?"][..]),
            ("-snapshot -hda a", &["a ro ?"]),
            ("-drive file=a,format=raw,if=none", &["a rw raw"]),
            ("-drive file=a,,b,driver=qcow2,readonly", &["a,b ro qcow2"]),
            ("-drive media=cdrom", &[]),
            ("-drive driver=qcow2,file.filename=a", &["a rw qcow2"]),
            ("-drive file=nbd:host:1", &["no file rw ?"]),
            (
                "-blockdev driver=qcow2,file.filename=a,backing.file.filename=b",
                &["b ro ?", "a rw qcow2"],
            ),
            (
                "-blockdev driver=file,filename=a,node-name=f \
                 -blockdev driver=qcow2,file=f,node-name=q,read-only=on",
                &["a ro qcow2"],
            ),
            ("-blockdev driver=file,filename=a,node-name=f", &["a rw raw"]),
            (r#"-blockdev {"driver":"qcow2","file":{"filename":"a"}}"#, &["a rw qcow2"]),
        ] {
            assert_eq!(read(&line.replace("  ", "")), expected, "{line}");
        }
    }
}
