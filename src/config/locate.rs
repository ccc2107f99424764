//! Which file is the configuration, and which directory its VMs run in.

use crate::error::{Error, Kind, io_reason};
use std::env;
use std::path::{Path, PathBuf};

const IN_PROJECT: &str = "qqmgr.toml";
const OF_USER: &str = "qqmgr/conf.toml";

/// What of the surroundings the search depends on.
pub(super) struct Environment {
    /// Why there is none is told by whoever needs it: an absolute file does not.
    current_dir: Result<PathBuf, String>,
    xdg_config_home: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    pub(super) fn current() -> Self {
        // The XDG specification: a relative path is to be ignored.
        let absolute =
            |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            current_dir: env::current_dir().map_err(|error| io_reason(&error)),
            xdg_config_home: absolute("XDG_CONFIG_HOME"),
            home: absolute("HOME"),
        }
    }

    fn in_current_dir(&self, file: &Path) -> Result<PathBuf, Error> {
        if file.is_absolute() {
            return Ok(file.to_path_buf());
        }
        self.current_dir.as_ref().map(|dir| dir.join(file)).map_err(|reason| {
            Error::new(Kind::Config, format!("cannot tell the current directory: {reason}"))
        })
    }

    fn user_file(&self) -> Option<PathBuf> {
        let of_home = || self.home.as_ref().map(|home| home.join(".config"));
        self.xdg_config_home.clone().or_else(of_home).map(|dir| dir.join(OF_USER))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// Absolute; the directory is without symbolic links, so that however the file was reached
    /// the VMs' paths are the same. A VM is known by these paths.
    pub(super) file: PathBuf,
    /// The name for errors, as short as the user would write it.
    pub(super) shown: String,
    pub(super) runtime: PathBuf,
}

/// The file named, or the first one there is. A file that cannot be read is found all the same:
/// passing over it would silently mean other VMs.
pub(super) fn locate(named: Option<&Path>, env: &Environment) -> Result<Location, Error> {
    if let Some(named) = named {
        return Location::new(&env.in_current_dir(named)?, named);
    }
    let in_project = env.in_current_dir(Path::new(IN_PROJECT))?;
    if there(&in_project) {
        return Location::new(&in_project, Path::new(IN_PROJECT));
    }
    let of_user = env.user_file();
    if let Some(file) = of_user.as_deref().filter(|file| there(file)) {
        return Location::new(file, file);
    }
    let second = match &of_user {
        Some(file) => format!(" and no `{}`", file.display()),
        None => ", and neither XDG_CONFIG_HOME nor HOME is set".into(),
    };
    let message = format!("found no configuration: no `{}`{second}", in_project.display());
    Err(Error::new(Kind::Config, message)
        .hint("write a `qqmgr.toml`, as qqmgr.toml(5) describes, or name one with `-c FILE`"))
}

fn there(file: &Path) -> bool {
    !file.symlink_metadata().is_err_and(|error| {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        matches!(error.kind(), NotFound | NotADirectory)
    })
}

impl Location {
    fn new(file: &Path, shown: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::io("read", shown, &error).of_kind(Kind::Config);
        let name = file.file_name().ok_or_else(|| {
            Error::new(Kind::Config, format!("`{}` is not a file", shown.display()))
        })?;
        let dir = file.parent().unwrap_or(Path::new("/")).canonicalize().map_err(unreadable)?;
        let runtime = if name == IN_PROJECT { dir.join(".qqmgr") } else { dir.clone() };
        Ok(Self { file: dir.join(name), shown: shown.display().to_string(), runtime })
    }
}
