//! `put` and `get` of trees with files of every kind, over sftp and as a tar stream.
//!
//! An sshd on this host stands for the guest, whose files are in `guest/` of the project. A fake
//! `ssh` stands for a hostile guest.

use crate::harness::{Output, Project, fake_qemu, has_tool, program, signal, wait_until};
use crate::surroundings::Sshd;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const SFTP: &str = "Subsystem sftp internal-sftp\n";

/// A project whose VM `vm` runs, a fake with an sshd for its guest; `ssh` are its options.
#[track_caller]
fn guest(sshd: &str, ssh: &str) -> Option<(Project, Sshd)> {
    let project = Project::new();
    let sshd = Sshd::with(&project, sshd)?;
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n[ssh]\nHostName = \"localhost\"\nIdentityFile = \"user_key\"\n\
         IdentitiesOnly = true\nUserKnownHostsFile = \"/dev/null\"\n\
         StrictHostKeyChecking = false\n{ssh}\
         [vm.vm]\ncmd = \"-name fake=normal\"\nssh.port = {}\n",
        fake_qemu().display(),
        sshd.port
    ));
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    Some((project, sshd))
}

/// Guests of both kinds, each with the name of its copy method.
fn guests() -> impl Iterator<Item = (Project, Sshd)> {
    [(SFTP, "sftp"), ("", "tar")].into_iter().filter_map(|(sshd, method)| {
        let (project, sshd) = guest(sshd, "")?;
        fs::create_dir(project.path("guest")).unwrap();
        project.write("a", "");
        // The sshd's home is the home of the user who runs the tests: nothing may be left there.
        let copy = project.path("guest/a").display().to_string();
        project.qqmgr(&["put", "vm", "a", &copy]).run().success();
        fs::remove_file(copy).unwrap();
        assert_eq!(project.vm_file("vm", "copy-method"), method);
        Some((project, sshd))
    })
}

/// A tree with every kind of link.
fn links(project: &Project, at: &str) {
    let root = project.path(at);
    project.write(root.join("a"), "one");
    project.write(root.join("sub/b c"), "two");
    project.write(root.join("sub/deep/.dot"), "three");
    project.write(root.with_extension("beside").join("d"), "four");
    let link = |to: &str, name: &str| symlink(to, root.join(name)).unwrap();
    link("a", "file");
    link("sub", "dir");
    link("../../tree.beside", "sub/out");
    link("nowhere", "dead\nlink*");
    link("self", "self");
    link(".", "here");
    link("..", "sub/deep/up");
    link("/", "slash");
    link("deep/../../sub", "sub/same");
}

/// The part of the tree that is copied.
const COPIED: [&str; 14] = [
    "a",
    "dir",
    "dir/b c",
    "dir/deep",
    "dir/deep/.dot",
    "dir/out",
    "dir/out/d",
    "file",
    "sub",
    "sub/b c",
    "sub/deep",
    "sub/deep/.dot",
    "sub/out",
    "sub/out/d",
];
const LEFT_OUT: &str = "qqmgr: error: left out of the copy: \
    `tree/dead?link*` (a symbolic link that leads nowhere), \
    `tree/dir/deep/up` (it leads to a directory that it is in), \
    `tree/dir/same` (it leads to a directory that it is in), \
    `tree/here` (it leads to a directory that it is in), \
    `tree/self` (a symbolic link that leads nowhere), \
    `tree/slash` (it leads to a directory that it is in), \
    `tree/sub/deep/up` (it leads to a directory that it is in), \
    `tree/sub/same` (it leads to a directory that it is in)\n\
    qqmgr: hint: everything else was copied\n";

const NO_DIR: &str = "qqmgr: error: there is no directory `new/`\n\
    qqmgr: hint: `mkdir -p new/` makes it\n";

/// Links that lead to something are followed; the error names the others.
#[test]
fn links_in_a_tree() {
    for (project, _sshd) in guests() {
        let there = |name: &str| project.path("guest").join(name).display().to_string();
        links(&project, "tree");
        project.qqmgr(&["put", "vm", "tree", &there("")]).run().stderr(LEFT_OUT).code(1);
        assert_eq!(project.files("guest/tree"), COPIED);
        assert_eq!(fs::read_to_string(project.path("guest/tree/dir/deep/.dot")).unwrap(), "three");
        fs::remove_dir_all(project.path("guest/tree")).unwrap();

        links(&project, "guest/tree");
        // As with `cp`, a missing target is made for a directory, but not for a file.
        project.qqmgr(&["get", "vm", &there("tree/a"), "new/"]).run().stderr(NO_DIR).code(1);
        project.qqmgr(&["get", "vm", &there("tree"), "new/"]).run().stderr(LEFT_OUT).code(1);
        assert_eq!(project.files("new"), COPIED);
        assert_eq!(fs::read_to_string(project.path("new/dir/deep/.dot")).unwrap(), "three");
        // A link that is named as a source is followed, and the copy has the link's name.
        symlink("tree", project.path("guest/link")).unwrap();
        let get = project.qqmgr(&["get", "vm", &there("lin[k]"), "."]).run();
        get.stderr(LEFT_OUT.replace("`tree/", "`link/").as_str()).code(1);
        assert_eq!(project.files("link"), COPIED);
        assert_eq!(unfinished(&project), Vec::<String>::new());
    }
}

/// The files that a copy makes for itself.
fn unfinished(project: &Project) -> Vec<String> {
    let mut names = project.files("");
    names.retain(|name| name.contains(".part."));
    names
}

/// Not copied are this project's own `.qqmgr`, and devices, FIFOs and sockets.
#[test]
fn what_is_no_part_of_a_tree() {
    for (project, _sshd) in guests() {
        let there = |name: &str| project.path("guest").join(name).display().to_string();
        fs::remove_file(project.path("a")).unwrap();
        project.write("work/.qqmgr/kept", "another project's");
        project.write("work/sub/b", "two");
        let put = |words: &[&str]| project.qqmgr(&[&["put", "vm"], words].concat()).run();
        put(&[".", &there("new")]).success();
        put(&["work/.", &there("work")]).success();
        assert_eq!(project.files("guest/work"), [".qqmgr", ".qqmgr/kept", "sub", "sub/b"]);
        assert!(project.path("guest/new/qqmgr.toml").is_file());
        assert!(!project.path("guest/new/.qqmgr").exists());
        // `.qqmgr` is copied when it is named as a source.
        put(&[".qqmgr/vm.vm/qemu.log", &there("log")]).success();

        project.command("mkfifo", &["work/sub/fifo"]).run().success();
        let left = "qqmgr: error: left out of the copy: `work/sub/fifo` (a FIFO)\n\
                    qqmgr: hint: everything else was copied\n";
        put(&["work", &there("again")]).stderr(left).code(1);
        assert_eq!(project.files("guest/again"), [".qqmgr", ".qqmgr/kept", "sub", "sub/b"]);
        let fifo = put(&["work/sub/fifo", &there("fifo")]);
        fifo.stderr(
            "qqmgr: error: `work/sub/fifo` is neither a file nor a directory\nqqmgr: hint: [..]\n",
        )
        .code(1);
        assert_eq!(unfinished(&project), Vec::<String>::new());
    }
}

/// The content of a source without a name (`.`, `..`) goes into the target, and not above it.
#[test]
fn names_without_a_last_part() {
    for (project, _sshd) in guests() {
        let there = |name: &str| project.path("guest").join(name).display().to_string();
        project.write("guest/in/b", "two");
        for (remote, local) in [(".", "new-1"), ("in/..", "new-2"), ("in/../.", "new-3")] {
            for _ in 1..=2 {
                project.qqmgr(&["get", "vm", &there(remote), local]).run().success();
                assert_eq!(project.files(local), ["in", "in/b"], "{remote}");
            }
        }
        fs::remove_dir_all(project.path("guest/in")).unwrap();
        for local in [".", "./", "../work/.", "..", "sub/.."] {
            project.write("work/sub/c", "three");
            let (dir, file) = if local == ".." { ("work/sub", "sub/c") } else { ("work", "sub/c") };
            for _ in 1..=2 {
                let config = project.path("qqmgr.toml").display().to_string();
                let put = ["-c", &config, "put", "vm", local, &there("content")];
                project.qqmgr(&put).cwd(dir).run().success();
                assert_eq!(project.files("guest/content"), ["sub", file], "{local}");
            }
            fs::remove_dir_all(project.path("guest/content")).unwrap();
        }
        assert_eq!(project.files("guest"), Vec::<String>::new());
    }
}

/// The output of a login shell would be taken for the answer or the stream.
#[test]
fn a_greeting_is_named() {
    for sshd in ["Subsystem sftp /usr/lib/openssh/sftp-server\n", ""] {
        let Some((project, _sshd)) = guest(sshd, "") else { return };
        let greet = "echo 'Welcome to  it'\n";
        project.write("home/.bashrc", greet);
        let file = project.path("home/.bashrc").display().to_string();
        let error = "qqmgr: error: the shell of the guest of VM `vm` prints `Welcome to  it` before \
                     every command, which breaks copies\n\
                     qqmgr: hint: its startup file there (`~/.bashrc`, say) must print nothing \
                     unless `$-` has an `i`\n";
        project.qqmgr(&["get", "vm", &file, "x"]).run().stderr(error).code(1);
        project.qqmgr(&["put", "vm", "qqmgr.toml", "/nope/x"]).run().stderr(error).code(1);
        // A greeting that begins after the guest was asked for its copy method.
        project.write("home/.bashrc", "");
        project.qqmgr(&["get", "vm", &file, "x"]).run().success();
        project.write("home/.bashrc", greet);
        project.qqmgr(&["get", "vm", &file, "y"]).run().stderr(error).code(1);
        assert!(!project.path("y").exists());
        assert_eq!(unfinished(&project), Vec::<String>::new());
    }
}

/// Options for people must not affect qqmgr's own calls.
#[test]
fn options_that_would_break_copies() {
    const OPTIONS: &str = "RemoteCommand = \"echo remote\"\nRequestTTY = \"force\"\n\
                           PermitLocalCommand = true\nLocalCommand = \"echo local\"\n";
    for sshd in [SFTP, ""] {
        let Some((project, _sshd)) = guest(sshd, OPTIONS) else { return };
        project.write("tree/a", [0, 13, 10, 255]);
        let there = project.path("home/tree").display().to_string();
        project.qqmgr(&["put", "vm", "tree", &there]).run().success();
        let pattern = project.path("home/tre[e]").display().to_string();
        project.qqmgr(&["get", "vm", &pattern, "new"]).run().success();
        assert_eq!(fs::read(project.path("new/a")).unwrap(), [0, 13, 10, 255]);
    }
}

/// A program that follows such links would write elsewhere.
#[test]
fn links_below_local_are_not_followed() {
    for (project, _sshd) in guests() {
        let there = project.path("guest/tree").display().to_string();
        project.write("guest/tree/sub/b", "new");
        project.write("elsewhere/b", "old");
        fs::create_dir_all(project.path("out/tree")).unwrap();
        symlink("../../elsewhere", project.path("out/tree/sub")).unwrap();
        let left = "qqmgr: error: left out of the copy: `tree/sub` (a symbolic link is in its \
                    place)\nqqmgr: hint: everything else was copied\n";
        project.qqmgr(&["get", "vm", &there, "out"]).run().stderr(left).code(1);
        assert_eq!(fs::read_to_string(project.path("elsewhere/b")).unwrap(), "old");
    }
}

// ---- hostile guests ----

/// A project whose running VM copies by tar, with a fake `ssh` that sends `stream.N` for the Nth
/// source. `SCRIPT` makes the streams with Python's `tarfile`.
#[track_caller]
fn hostile(script: &str) -> Option<Project> {
    if !has_tool("python3") {
        return None;
    }
    let project = Project::new();
    project.fake_vm("normal");
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    fs::write(project.vm_path("vm", "copy-method"), "tar").unwrap();
    project.write(
        "bin/ssh.sh",
        "case $* in *\"'printf '\"*) printf 'a\\0b\\0'; exit;; *'tar -'*) :;; *) exit;; esac\n\
         n=$(cat count 2>/dev/null); n=$((n + 1)); echo $n >count; cat stream.$n\n",
    );
    let ssh = format!("#!/bin/sh\n. {}\n", project.path("bin/ssh.sh").display());
    // Another process writes it: this one must not hold it open for writing when it is run.
    let made = "cat >bin/ssh && chmod 755 bin/ssh";
    project.sh(made).stdin(ssh).run().success();
    let python = format!("{TARFILE}\n{script}");
    project.command("python3", &["-c", &python]).run().success();
    Some(project)
}

const TARFILE: &str = r#"
import io, tarfile
def tar(number, *members, format=tarfile.GNU_FORMAT):
    with tarfile.open(f"stream.{number}", "w", format=format) as out:
        for name, kind, rest in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o644
            data = b""
            if isinstance(rest, str):
                info.linkname = rest
            elif isinstance(rest, bytes):
                data, info.size = rest, len(rest)
            else:
                info.mode = rest
            out.addfile(info, io.BytesIO(data))
FILE, DIR, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
FIFO, CHAR, BLOCK = tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE
"#;

/// `qqmgr get`, with the fake `ssh`.
fn get<'p>(project: &'p Project, words: &[&str]) -> Output<'p> {
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    project.qqmgr(&[&["get", "vm"], words].concat()).env("PATH", path).run()
}

/// The link that the first source leaves would be followed by the second.
#[test]
fn a_link_from_one_source_is_not_followed_by_the_next() {
    const LEFT: &str = "qqmgr: error: left out of the copy: `x` (a symbolic link)\n\
                        qqmgr: hint: everything else was copied\n";
    for words in [&["a", "b", "out"][..], &["*", "out"]] {
        let Some(project) = hostile(
            r#"
import os
tar(1, ("x", LINK, os.path.abspath("secret")), ("kept", FILE, b"1"))
tar(2, ("x/authorized_keys", FILE, b"evil"))
"#,
        ) else {
            return;
        };
        fs::create_dir(project.path("secret")).unwrap();
        fs::create_dir(project.path("out")).unwrap();
        get(&project, words).stderr(LEFT).code(1);
        assert_eq!(project.files("secret"), Vec::<String>::new());
        assert_eq!(project.files("out"), ["kept", "x", "x/authorized_keys"]);
        assert_eq!(unfinished(&project), Vec::<String>::new());
    }
}

/// Streams with entries of every kind, unpacked by every tar.
#[test]
fn only_files_and_directories_arrive() {
    for tar in ["tar", "busybox"] {
        let Some(project) = hostile(
            r#"
import os
root = os.getcwd()
tar(1,
    ("tree", DIR, 0o2755), ("tree/set", FILE, b"1"), ("tree/sub", DIR, 0o555),
    ("tree/sub/file", FILE, b"2"), ("tree/fifo", FIFO, 0o644), ("tree/device", CHAR, 0o666),
    ("tree/block", BLOCK, 0o666), ("tree/link", LINK, "../../../secret"),
    ("tree/up", LINK, ".."),
    ("tree/one", FILE, b"3"), ("tree/two", HARD, "tree/one"),
    ("tree/twice", FILE, b"a"), ("tree/twice", FILE, b"b"), ("tree/new\nline", FILE, b"4"),
    ("tree/" + "long" * 60, FILE, b"5"), ("tree/closed", DIR, 0o000),
)
# The set-user-ID bit of a file that has content.
data = open("stream.1", "rb").read()
at = data.index(b"tree/set\0") + 100
header = bytearray(data[at - 100:at + 412])
header[100:108] = b"0006755\0"
header[148:156] = b" " * 8
header[148:156] = b"%06o\0 " % sum(header)
open("stream.1", "wb").write(data[:at - 100] + header + data[at + 412:])
tar(2, ("x", LINK, root + "/secret"), ("x/through", FILE, b"evil"), ("y", LINK, "../../secret"),
    ("y/through", FILE, b"evil"))
tar(3, (root + "/secret/absolute", FILE, b"evil"), ("../../secret/above", FILE, b"evil"))
tar(4, ("outside", HARD, root + "/secret/key"), ("above", HARD, "../../secret/key"))
tar(5, ("pax" * 50 + "\n/x", FILE, b"1"), format=tarfile.PAX_FORMAT)
"#,
        ) else {
            return;
        };
        let Some(program) = program(tar) else { return };
        symlink(program, project.path("bin/tar")).unwrap();
        project.write("secret/key", "key");
        fs::create_dir(project.path("out")).unwrap();
        let left = "qqmgr: error: left out of the copy: `tree/block` (a device), \
                    `tree/device` (a device), `tree/fifo` (a FIFO), \
                    `tree/link` (a symbolic link), `tree/up` (a symbolic link)\n\
                    qqmgr: hint: everything else was copied\n";
        get(&project, &["a", "out"]).stderr(left).code(1);
        // Each tar refuses these with words of its own.
        for _ in 2..=4 {
            let _ = get(&project, &["a", "out"]);
        }
        get(&project, &["a", "out"]).success();
        assert_eq!(project.files("secret"), ["key"]);
        assert_eq!(fs::read_to_string(project.path("secret/key")).unwrap(), "key");
        assert_eq!(fs::metadata(project.path("secret/key")).unwrap().nlink(), 1);
        assert_eq!(unfinished(&project), Vec::<String>::new());
        for name in project.files("out") {
            let found = fs::symlink_metadata(project.path("out").join(&name)).unwrap();
            assert!(found.is_dir() || found.is_file(), "{name}");
            assert_eq!(found.mode() & 0o7000, 0, "{name}");
        }
        let mode = |name: &str| fs::metadata(project.path("out/tree").join(name)).unwrap().mode();
        assert_eq!([mode("sub") & 0o777, mode("set") & 0o777], [0o555, 0o755]);
        assert_eq!(fs::read_to_string(project.path("out/tree/twice")).unwrap(), "b");
    }
}

/// Only files below LOCAL are replaced, and no link there is followed.
#[test]
fn what_is_in_the_way() {
    let Some(project) = hostile(
        r#"
members = (("tree", DIR, 0o755), ("tree/a", FILE, b"new"), ("tree/dir", DIR, 0o755),
    ("tree/dir/in", FILE, b"new"), ("tree/file", FILE, b"new"), ("tree/fifo", FILE, b"new"),
    ("tree/link", FILE, b"new"), ("tree/linked", DIR, 0o755), ("tree/linked/in", FILE, b"new"),
    ("tree/merged", DIR, 0o755), ("tree/merged/new", FILE, b"new"))
tar(1, *members)
tar(2, *members)
tar(3, ("a", FILE, b"content"))
tar(4, ("a", FILE, b"content"))
"#,
    ) else {
        return;
    };
    project.write("out/tree/a", "old");
    project.write("out/tree/dir", "a file");
    project.write("out/tree/file/in", "a directory");
    project.write("out/tree/merged/old", "old");
    project.write("elsewhere/old", "old");
    symlink("../../elsewhere/old", project.path("out/tree/link")).unwrap();
    symlink("../../elsewhere", project.path("out/tree/linked")).unwrap();
    project.command("mkfifo", &["out/tree/fifo"]).run().success();
    // The directory that is named may be reached by a link.
    symlink("out", project.path("way")).unwrap();
    let left = "qqmgr: error: left out of the copy: `tree/dir` (a file is in its place), \
                `tree/fifo` (a FIFO is in its place), \
                `tree/file` (a directory is in its place), \
                `tree/linked` (a symbolic link is in its place)\n\
                qqmgr: hint: everything else was copied\n";
    get(&project, &["a", "way"]).stderr(left).code(1);
    let expected = [
        "tree",
        "tree/a",
        "tree/dir",
        "tree/fifo",
        "tree/file",
        "tree/file/in",
        "tree/link",
        "tree/linked",
        "tree/merged",
        "tree/merged/new",
        "tree/merged/old",
    ];
    assert_eq!(project.files("out"), expected);
    assert_eq!(project.files("elsewhere"), ["old"]);
    let read = |name: &str| fs::read_to_string(project.path(name)).unwrap();
    assert_eq!(["elsewhere/old", "out/tree/link", "out/tree/a"].map(read), ["old", "new", "new"]);

    // Copies to a new name, to a link that leads to a file, and to a device.
    get(&project, &["a", "new"]).success();
    assert_eq!(project.files("new").len(), 10);
    symlink("elsewhere/old", project.path("named")).unwrap();
    get(&project, &["a", "named"]).success();
    assert_eq!(read("elsewhere/old"), "content");
    assert!(fs::symlink_metadata(project.path("named")).unwrap().is_symlink());
    get(&project, &["a", "/dev/null"]).success();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    assert_eq!(unfinished(&project), Vec::<String>::new());
}

/// A guard removes the fresh directory, since a killed process cannot.
#[test]
fn a_killed_get_leaves_nothing() {
    let Some(project) = hostile("tar(1, ('tree', DIR, 0o555), ('tree/a', FILE, b'1'))") else {
        return;
    };
    // The stream goes on when the test writes to this FIFO.
    project.sh("mkfifo more && echo 'cat more' >>bin/ssh.sh").run().success();
    fs::create_dir(project.path("out")).unwrap();
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    let get = project.qqmgr(&["get", "vm", "a", "out"]).env("PATH", path).start();
    let has_begun = || unfinished(&project).iter().any(|name| name.ends_with("in/tree"));
    wait_until("the copy has begun", SOON, has_begun);
    signal(get.pid, "KILL");
    wait_until("it is removed", SOON, || unfinished(&project).is_empty());
    project.sh(": <>more").run().success();
    let _ = get.end();
    assert_eq!(project.files("out"), Vec::<String>::new());
}

/// A guard removes the rebuilt tree of a killed `put`.
#[test]
fn a_killed_put_leaves_nothing() {
    let Some(project) = hostile("") else { return };
    fs::create_dir(project.path("temp")).unwrap();
    project.write("tree/a", "one");
    symlink("nowhere", project.path("tree/dead")).unwrap();
    let hold = "case $* in *'tar -'*) exec cat more;; esac\n";
    project.write("bin/ssh.sh", hold);
    project.command("mkfifo", &["more"]).run().success();
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    let put = project.qqmgr(&["put", "vm", "tree", "x"]).env("PATH", path);
    let put = put.env("TMPDIR", project.path("temp")).start();
    let has_begun = || project.files("temp").iter().any(|name| name.ends_with("/tree/a"));
    wait_until("the copy has begun", SOON, has_begun);
    signal(put.pid, "KILL");
    wait_until("it is removed", SOON, || project.files("temp").is_empty());
    project.sh(": <>more").run().success();
    let _ = put.end();
}

/// Directories that are replaced by links while files are moved do not lead elsewhere.
#[test]
fn a_link_that_is_put_in_place_meanwhile() {
    let Some(project) = hostile(
        r#"
names = [f"tree/sub/{n}" for n in range(2000)]
for number in range(1, 4):
    tar(number, *[(name, FILE, b"evil") for name in names])
"#,
    ) else {
        return;
    };
    fs::create_dir_all(project.path("out/tree/sub")).unwrap();
    fs::create_dir(project.path("elsewhere")).unwrap();
    let swap = "cd out/tree; while [ -d ../../out ] && [ ! -e ../../end ]; do\n\
                mv sub dir && ln -s ../../elsewhere sub; rm sub && mv dir sub; done";
    let swapping = project.sh(swap).start();
    for _ in 1..=3 {
        let _ = get(&project, &["a", "out"]);
    }
    project.write("end", "");
    let _ = swapping.end();
    assert_eq!(project.files("elsewhere"), Vec::<String>::new());
    assert_eq!(unfinished(&project), Vec::<String>::new());
}
