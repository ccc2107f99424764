//! `screenshot`: from a real QEMU, from the real guest, and from a QEMU that has no PNG, by the
//! fake. What is written is read by a decoder that is not ours.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::guest;
use crate::harness::{Project, free_port, has_tool, left_out, real_qemu};

/// Two displays, and a guest that changes nothing on them.
const DISPLAYS: &str = "-nodefaults -machine pc -m 32 -S -display none \
                        -device VGA,id=first -device secondary-vga,id=second";

/// A project with `vm`, on a real QEMU with these arguments, started.
#[track_caller]
fn started(cmd: &str) -> Option<Project> {
    let (project, qemu) = (Project::new(), real_qemu()?);
    let port = free_port();
    project.config(&format!("[qemu]\nbin = {qemu:?}\n[vm.vm]\ncmd = {cmd:?}\nssh.port = {port}\n"));
    let stdout = "vm started: [..], pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "vm"]).run().stdout(stdout).success();
    Some(project)
}

/// The picture as a PPM: its header is `P6`, width and height, 255.
#[track_caller]
fn decoded(png: &Path) -> Option<Vec<u8>> {
    if !has_tool("pngtopnm") {
        return None;
    }
    let output = Command::new("pngtopnm").arg(png).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", png.display());
    Some(output.stdout)
}

/// Lets QEMU write a PPM itself.
#[track_caller]
fn dump(project: &Project, file: &Path) {
    let mut stream = UnixStream::connect(project.vm_path("vm", "qmp.socket")).unwrap();
    let arguments = format!("{{\"filename\": \"{}\"}}", file.display());
    writeln!(
        stream,
        "{{\"execute\": \"qmp_capabilities\"}}\n\
         {{\"execute\": \"screendump\", \"arguments\": {arguments}}}"
    )
    .unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert_eq!(lines.filter(|line| line.contains("\"return\"")).take(2).count(), 2);
}

#[test]
fn a_real_screen_in_a_file() {
    let Some(project) = started(DISPLAYS) else { return };
    let shot = |arguments: &[&str]| project.qqmgr(&[&["screenshot", "vm"], arguments].concat());
    // A free name, when none is given; what was there stays.
    project.write("vm-1.png", "mine");
    shot(&[]).run().stdout("wrote vm.png: 640 x 480\n").success();
    shot(&[]).run().stdout("wrote vm-2.png: 640 x 480\n").success();
    assert_eq!(fs::read(project.path("vm-1.png")).unwrap(), b"mine");

    // A file that is named is replaced, also behind a link; nothing else is left there.
    std::os::unix::fs::symlink("vm-1.png", project.path("link.png")).unwrap();
    let json = shot(&["link.png", "--json", "--device", "second", "--head", "0"]).run();
    json.stdout(
        "{\n  \"name\": \"vm\",\n  \"file\": \"link.png\",\n  \"width\": 640,\n  \
         \"height\": 480\n}\n",
    )
    .success();
    assert!(project.path("link.png").is_symlink());
    let files = "find . -maxdepth 1 -name '*.png*' | sort";
    let names = "./link.png\n./vm-1.png\n./vm-2.png\n./vm.png\n";
    project.sh(files).run().stdout(names).success();

    // Into a pipe.
    project.sh("\"$QQMGR\" screenshot vm - | cmp - vm.png").run().success();
    project.sh("\"$QQMGR\" screenshot vm - | :").run().success();
    let fifo = "mkfifo pipe; \"$QQMGR\" screenshot vm pipe & cmp pipe vm.png && wait";
    project.sh(fifo).run().stdout("wrote pipe: 640 x 480\n").success();
    project.sh("umask 027; \"$QQMGR\" screenshot vm private.png >/dev/null").run().success();
    let mode = fs::metadata(project.path("private.png")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(!project.vm_files("vm").contains("screenshot"), "{}", project.vm_files("vm"));

    let ppm = project.path("qemu.ppm");
    dump(&project, &ppm);
    for name in ["vm.png", "vm-1.png", "private.png"] {
        let Some(picture) = decoded(&project.path(name)) else { return };
        assert!(picture == fs::read(&ppm).unwrap(), "{name}");
    }
}

#[test]
fn the_real_guest_shows_its_console() {
    let Some(config) = guest::config("", "'auto'", "-device VGA") else { return };
    let project = Project::new();
    project.config(&config);
    guest::start(&project);
    let shot = project.qqmgr(&["screenshot", "vm", "a.png"]).run();
    shot.stdout("wrote a.png: 720 x 400\n").success();
    if let Some(picture) = decoded(&project.path("a.png")) {
        let pixels = picture.strip_prefix(b"P6\n720 400\n255\n").unwrap();
        assert_eq!(pixels.len(), 720 * 400 * 3);
        assert!(pixels.iter().any(|byte| *byte != 0), "the screen is black");
    }
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    let stopped = project.qqmgr(&["screenshot", "vm", "b.png"]).run();
    stopped
        .stderr("qqmgr: error: VM `vm` is not running\nqqmgr: hint: `qqmgr start vm` starts it\n")
        .code(3);
    assert!(!project.path("b.png").exists());
}

/// Every byte is where the PPM had it, and the file is smaller.
#[test]
fn an_old_qemu_without_png() {
    let project = Project::new();
    project.fake_vm("normal");
    let started = "vm started: running, pid [PID], ssh port [PORT]\n";
    project.qqmgr(&["start", "vm"]).run().stdout(started).success();
    let shot = project.qqmgr(&["screenshot", "vm", "a.png"]).run();
    shot.stdout("wrote a.png: 720 x 400\n").success();
    let dumped = project.path("fake.ppm");
    dump(&project, &dumped);
    let ppm = fs::read(&dumped).unwrap();
    if let Some(picture) = decoded(&project.path("a.png")) {
        assert!(picture == ppm);
    }
    let log = project.vm_file("vm", "fake.log");
    assert!(log.contains("\"query-qmp-schema\"") && !log.contains("\"format\""), "{log}");
    assert!(!project.vm_files("vm").contains("screenshot"), "{}", project.vm_files("vm"));
}

#[test]
fn what_cannot_be() {
    let Some(project) = started("-nodefaults -machine none -display none") else { return };
    let fails = |arguments: &[&str], code: i32, stderr: &str| {
        let run = project.qqmgr(&[&["screenshot", "vm"], arguments].concat()).run();
        run.stderr(stderr).code(code);
    };
    fails(
        &[],
        1,
        "qqmgr: error: QEMU refuses `screendump`: There is no console to take a screendump from\n\
         qqmgr: hint: give the VM a display device, `-device VGA` say; it needs no window for that\n",
    );
    fails(&["--device", "x"], 1, "qqmgr: error: QEMU refuses `screendump`: Device 'x' not found\n");
    fails(
        &["--head", "1"],
        2,
        "qqmgr: error: `--head` needs `--device`\n\
         qqmgr: hint: heads are those of one display device\n",
    );
    fails(
        &["--head", "-1", "--device", "x"],
        2,
        "qqmgr: error: `-1` is no value for `--head`: it takes a number, from 0 on\n\
         qqmgr: hint: `qqmgr help screenshot` shows how it is used\n",
    );
    let json = project.qqmgr(&["screenshot", "vm", "-", "--json"]).run();
    assert!(json.stdout.contains("\"kind\": \"usage\""), "{}", json.stdout);
    let stdout = json.stdout.clone();
    json.stdout(stdout)
        .stderr(
            "qqmgr: error: `--json` and a picture both go to standard output\n\
             qqmgr: hint: name a FILE\n",
        )
        .code(2);
    assert_eq!(project.files("").iter().filter(|name| name.contains(".png")).count(), 0);
    assert!(!project.vm_files("vm").contains("screenshot"), "{}", project.vm_files("vm"));
}

/// In `/tmp` anybody may put a link or a FIFO in the place of a picture.
#[test]
fn what_another_user_has_put_there_is_not_written_through() {
    const SOMEBODY: u32 = 12_345;
    let Some(project) = started(DISPLAYS) else { return };
    let shot = |file: &str| project.qqmgr(&["screenshot", "vm", file]).run();
    // The mode of a file that is there stays.
    project.write("old.png", "old");
    fs::set_permissions(project.path("old.png"), fs::Permissions::from_mode(0o640)).unwrap();
    shot("old.png").stdout("wrote old.png: [..]\n").success();
    let mode = fs::metadata(project.path("old.png")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);

    project.write("precious", "precious");
    fs::create_dir(project.path("shared")).unwrap();
    fs::set_permissions(project.path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::symlink("../precious", project.path("shared/link")).unwrap();
    std::os::unix::fs::symlink("shared/link", project.path("mine")).unwrap();
    project.sh("mkfifo shared/pipe").run().success();
    let theirs = |file: &str| std::os::unix::fs::lchown(project.path(file), Some(SOMEBODY), None);
    if theirs("shared/link").and_then(|()| theirs("shared/pipe")).is_err() {
        left_out("only root can give files away");
        return;
    }
    for (file, what) in [
        ("shared/link", "symbolic link `shared/link`"),
        ("mine", "symbolic link `shared/link`"),
        ("shared/pipe", "`shared/pipe`"),
    ] {
        let stderr = format!(
            "qqmgr: error: the {what} belongs to user {SOMEBODY}\n\
             qqmgr: hint: name another file, in a directory where only you can write\n"
        );
        shot(file).stderr(stderr).code(1);
    }
    assert_eq!(fs::read_to_string(project.path("precious")).unwrap(), "precious");
}

#[test]
fn places_that_cannot_be_written() {
    let Some(project) = started(DISPLAYS) else { return };
    project.write("dir/keep", "");
    for (file, reason) in [
        ("dir", "is a directory"),
        ("nope/a.png", "no such file or directory"),
        ("dir/keep/a.png", "not a directory"),
        ("", "no such file or directory"),
    ] {
        let run = project.qqmgr(&["screenshot", "vm", file]).run();
        run.stderr(format!("qqmgr: error: cannot write `{file}`: {reason}\n")).code(1);
    }
    assert!(!project.files("").iter().any(|name| name.contains("png")), "nothing is left");
    assert!(!project.vm_files("vm").contains("screenshot"), "{}", project.vm_files("vm"));
}

#[test]
fn a_terminal_gets_no_picture() {
    let Some(project) = started(DISPLAYS) else { return };
    if !has_tool("script") {
        return;
    }
    let run = project.sh("script -qec '\"$QQMGR\" screenshot vm -' /dev/null").run();
    run.stdout(
        "qqmgr: error: a PNG is nothing for a terminal\r\n\
         qqmgr: hint: `qqmgr screenshot vm - >vm.png`, or without the `-`\r\n",
    )
    .code(2);
}

/// The VM's directory has a path that JSON cannot name, and is full of what option lists split at.
#[test]
fn a_directory_of_any_name() {
    let Some(qemu) = real_qemu() else { return };
    let project = Project::new();
    let dir = project.path(OsStr::from_bytes(b"a, \"b\" \xff"));
    fs::create_dir(&dir).unwrap();
    let config = format!(
        "[qemu]\nbin = {qemu:?}\n[vm.vm]\ncmd = {DISPLAYS:?}\nssh.port = {}\n",
        free_port()
    );
    fs::write(dir.join("qqmgr.toml"), config).unwrap();
    let qqmgr = |arguments: &[&str]| project.qqmgr(arguments).cwd(&dir).run();
    let started = "vm started: prelaunch, pid [PID], ssh port [PORT]\n";
    qqmgr(&["start", "vm"]).stdout(started).success();
    qqmgr(&["screenshot", "vm"]).stdout("wrote vm.png: 640 x 480\n").success();
    decoded(&dir.join("vm.png"));
    let stopped = "vm ended by SIGTERM in [SECONDS] s\n";
    qqmgr(&["stop", "vm", "--force"]).stdout(stopped).success();
}
