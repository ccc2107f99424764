//! Configurations above the current directory, which are trusted or not, and the one that the
//! environment names.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use crate::config_files::{found, vm};
use crate::harness::Project;

const USERS: &str = "home/.config/qqmgr/conf.toml";
/// Whoever's it is, it is not root's or the test's.
const SOMEBODY: u32 = 54_321;

fn mode(project: &Project, path: &str, mode: u32) {
    fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// `a/b/c`, which nobody else may write, whatever the umask is.
fn project_with_directories() -> Project {
    let project = Project::new();
    fs::create_dir_all(project.path("a/b/c")).unwrap();
    for directory in ["", "a", "a/b", "a/b/c"] {
        mode(&project, directory, 0o755);
    }
    project
}

fn write(project: &Project, path: &str, content: &str) {
    project.write(path, content);
    mode(project, path, 0o644);
}

// --- above the current directory

#[test]
fn the_nearest_above() {
    let project = project_with_directories();
    write(&project, USERS, &vm(9));
    write(&project, "qqmgr.toml", &vm(1));
    found(&project, "a/b/c", &[], "[ROOT]/qqmgr.toml", 1, "[ROOT]/.qqmgr");
    write(&project, "a/qqmgr.toml", &vm(2));
    found(&project, "a/b/c", &[], "[ROOT]/a/qqmgr.toml", 2, "[ROOT]/a/.qqmgr");
    write(&project, "a/b/c/qqmgr.toml", &vm(3));
    found(&project, "a/b/c", &[], "[ROOT]/a/b/c/qqmgr.toml", 3, "[ROOT]/a/b/c/.qqmgr");
    found(&project, "a/b", &[], "[ROOT]/a/qqmgr.toml", 2, "[ROOT]/a/.qqmgr");
    found(&project, "a", &[], "[ROOT]/a/qqmgr.toml", 2, "[ROOT]/a/.qqmgr");
}

/// Where it is seen from here.
#[test]
fn errors_name_a_file_above_by_the_way_to_it() {
    let project = project_with_directories();
    write(&project, "a/qqmgr.toml", "x = 1\n");
    let stderr = "\
qqmgr: error: unknown key `x`
 --> ../../qqmgr.toml:1:1
  |
1 | x = 1
  | ^
qqmgr: hint: the keys at the top level are `qemu`, `vars`, `ssh`, `img`, `vm`
";
    project.qqmgr(&["list"]).cwd("a/b/c").run().stderr(stderr).code(5);
    write(&project, "a/qqmgr.toml", &vm(1));
    let stderr = "qqmgr: error: there is no VM `v` in `../qqmgr.toml`, did you mean `vm`?\n";
    project.qqmgr(&["status", "v"]).cwd("a/b").run().stderr(stderr).code(5);
}

#[test]
fn a_file_above_that_cannot_be_read_is_an_error() {
    let project = project_with_directories();
    write(&project, USERS, &vm(9));
    fs::create_dir(project.path("a/qqmgr.toml")).unwrap();
    mode(&project, "a/qqmgr.toml", 0o755);
    let stderr = "qqmgr: error: cannot read `[ROOT]/a/qqmgr.toml`: is a directory\n";
    project.qqmgr(&["list"]).cwd("a/b").run().stderr(stderr).code(5);
}

/// In `a/b`, the file in `a` is passed over in these words, and the next one above is taken; in
/// `a` itself there is nothing to be said.
#[track_caller]
fn passed_over(project: &Project, why: &str) {
    let listed = |port| format!("NAME[..]\nvm    stopped              -  {port:>8}\n");
    write(project, "qqmgr.toml", &vm(7));
    let stderr = format!("qqmgr: passed over `../qqmgr.toml`: {why}\n");
    let list = || project.qqmgr(&["list"]).cwd("a/b").run();
    list().stdout(listed(7)).stderr(&stderr).success();
    fs::remove_file(project.path("qqmgr.toml")).unwrap();
    write(project, USERS, &vm(9));
    list().stdout(listed(9)).stderr(&stderr).success();
    fs::remove_file(project.path(USERS)).unwrap();
    let stderr = format!(
        "qqmgr: error: found no configuration: no `qqmgr.toml` in `[ROOT]/a/b` or above it and no \
         `[ROOT]/home/.config/qqmgr/conf.toml`; passed over `../qqmgr.toml`: {why}\n\
         qqmgr: hint: `qqmgr init` writes a first one; one elsewhere is named with `-c FILE`\n"
    );
    list().stderr(stderr).code(5);
}

#[test]
fn what_others_may_write_is_passed_over() {
    for (path, bits, why) in [
        ("a", 0o777, "its directory can be written by others (mode 0777, `chmod go-w` helps)"),
        ("a", 0o757, "its directory can be written by others (mode 0757, `chmod go-w` helps)"),
        ("a", 0o1777, "its directory can be written by others (mode 1777, `chmod go-w` helps)"),
        ("a/qqmgr.toml", 0o666, "it can be written by others (mode 0666, `chmod go-w` helps)"),
        ("a/qqmgr.toml", 0o646, "it can be written by others (mode 0646, `chmod go-w` helps)"),
    ] {
        let project = project_with_directories();
        write(&project, "a/qqmgr.toml", &vm(1));
        mode(&project, path, bits);
        passed_over(&project, why);
        let listed = "NAME[..]\nvm    stopped              -         1\n";
        project.qqmgr(&["list"]).cwd("a").run().stdout(listed).success();
        project.qqmgr(&["-c", "../qqmgr.toml", "list"]).cwd("a/b").run().stdout(listed).success();
    }
}

/// A group that somebody else is in, or that is not the user's primary one.
#[test]
fn what_a_group_may_write_is_passed_over() {
    for (path, what, bits) in [("a", "its directory", 0o775), ("a/qqmgr.toml", "it", 0o664)] {
        let project = project_with_directories();
        write(&project, "a/qqmgr.toml", &vm(1));
        if chown(project.path(path), None, Some(SOMEBODY)).is_err() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        mode(&project, path, bits);
        let helps = format!("(mode {bits:04o}, `chmod g-w` helps)");
        passed_over(&project, &format!("{what} can be written by group {SOMEBODY} {helps}"));
    }
}

#[test]
fn all_reasons_are_told() {
    let project = project_with_directories();
    write(&project, "a/qqmgr.toml", &vm(1));
    mode(&project, "a", 0o777);
    mode(&project, "a/qqmgr.toml", 0o666);
    let others = |bits| format!("can be written by others (mode {bits}, `chmod go-w` helps)");
    let why = format!("its directory {}, and it {}", others("0777"), others("0666"));
    passed_over(&project, &why);
}

/// The file that is read is the one that the link leads to.
#[test]
fn a_link_above_is_looked_through() {
    let link = |target: &str| {
        let project = project_with_directories();
        write(&project, "else/where.toml", &vm(1));
        mode(&project, "else", 0o755);
        symlink(target, project.path("a/qqmgr.toml")).unwrap();
        project
    };
    let project = link("../else/where.toml");
    found(&project, "a/b", &[], "[ROOT]/a/qqmgr.toml", 1, "[ROOT]/a/.qqmgr");
    mode(&project, "else/where.toml", 0o666);
    passed_over(&project, "it can be written by others (mode 0666, `chmod go-w` helps)");
    mode(&project, "else/where.toml", 0o644);
    mode(&project, "else", 0o777);
    let helps = "(mode 0777, `chmod go-w` helps)";
    passed_over(
        &project,
        &format!("the directory that it links to can be written by others {helps}"),
    );
    let project = link("nowhere");
    passed_over(&project, "it cannot be looked at: no such file or directory");
}

#[test]
fn what_belongs_to_somebody_else_is_passed_over() {
    for (path, what) in [("a", "its directory"), ("a/qqmgr.toml", "it")] {
        let project = project_with_directories();
        write(&project, "a/qqmgr.toml", &vm(1));
        if chown(project.path(path), Some(SOMEBODY), None).is_err() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        passed_over(&project, &format!("{what} belongs to user {SOMEBODY}"));
    }
}

// --- QQMGR_CONFIG

#[test]
fn the_environment_names_a_file() {
    let project = Project::new();
    project.write("qqmgr.toml", vm(1));
    project.write("sub/other.toml", vm(2));
    project.write("sub/qqmgr.toml", vm(3));
    let absolute = project.path("sub/other.toml").to_string_lossy().into_owned();
    for (cwd, value, arguments, port, dir) in [
        ("", "sub/other.toml", &[][..], 2, "[ROOT]/sub/vm.vm"),
        ("sub", "other.toml", &[], 2, "[ROOT]/sub/vm.vm"),
        ("home", &absolute, &[], 2, "[ROOT]/sub/vm.vm"),
        // One of this name has its `.qqmgr` beside it, however it was named.
        ("", "sub/qqmgr.toml", &[], 3, "[ROOT]/sub/.qqmgr/vm.vm"),
        // What was typed wins over what is in the environment.
        ("", "sub/other.toml", &["-c", "sub/qqmgr.toml"], 3, "[ROOT]/sub/.qqmgr/vm.vm"),
        ("", "", &[], 1, "[ROOT]/.qqmgr/vm.vm"),
    ] {
        let status = [arguments, &["status", "vm"]].concat();
        let stdout = format!("...\nssh port:   {port}\n...\npid file:   {dir}/pid\n...\n");
        let run = project.qqmgr(&status).cwd(cwd).env("QQMGR_CONFIG", value);
        run.run().stdout(stdout).success();
    }
}

/// It was named on purpose: nobody asks who may write to it.
#[test]
fn the_file_that_the_environment_names_is_trusted() {
    let project = project_with_directories();
    write(&project, "other.toml", &vm(1));
    mode(&project, "other.toml", 0o666);
    let listed = "NAME[..]\nvm    stopped              -         1\n";
    let run = project.qqmgr(&["list"]).cwd("a").env("QQMGR_CONFIG", "../other.toml");
    run.run().stdout(listed).success();
}

#[test]
fn errors_about_a_file_that_the_environment_names() {
    let project = Project::new();
    project.write("qqmgr.toml", vm(1));
    for (value, message) in [
        ("no.toml", "cannot read `[ROOT]/no.toml`: no such file or directory"),
        ("no/no.toml", "cannot read `no/no.toml`: no such file or directory"),
        ("home", "cannot read `[ROOT]/home`: is a directory"),
        ("..", "`..` is not a file"),
    ] {
        let error = format!("qqmgr: error: {message}\n");
        let hint = "qqmgr: hint: the environment variable QQMGR_CONFIG names this file\n";
        let list = |arguments: &[&str]| {
            project.qqmgr(&[arguments, &["list"]].concat()).env("QQMGR_CONFIG", value).run()
        };
        list(&[]).stderr(format!("{error}{hint}")).code(5);
        list(&["-c", value]).stderr(error).code(5);
    }
}
