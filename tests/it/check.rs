//! `qqmgr check`: every rule with the whole of what it says, and what it says nothing about.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;

use crate::harness::{Project, fake_qemu};

/// Leads ssh to the guest, so that nothing is said about that.
const NETWORK: &str = "-nic user,hostfwd=tcp:127.0.0.1:2222-:22";
const WELL: &str = "1 VM: all well\n";

/// A finding with the line that has it; the carets are under `marked`, or under all of it.
struct Finding {
    severity: &'static str,
    marked: &'static str,
    message: String,
    hint: Option<String>,
}

fn finding(
    severity: &'static str,
    marked: &'static str,
    message: impl Into<String>,
    hint: impl Into<Option<&'static str>>,
) -> Finding {
    let hint = hint.into().map(str::to_owned);
    Finding { severity, marked, message: message.into(), hint }
}

impl Finding {
    /// As `check` shows it, `line` being that of the number.
    fn text(&self, number: usize, line: &str) -> String {
        let start = line.find(self.marked).expect("the marked text is in the line");
        // What is far to the right is shown from 50 characters before it on.
        let cut = start.saturating_sub(50);
        let dots = if cut > 0 { "..." } else { "" };
        let (line, indent) = (format!("{dots}{}", &line[cut..]), dots.len() + start - cut);
        let margin = " ".repeat(number.to_string().len());
        let hint = self.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        format!(
            "{}: {}\n{margin}--> qqmgr.toml:{number}:{}\n{margin} |\n{number} | {line}\n\
             {margin} | {}{}\n{hint}\n",
            self.severity,
            self.message,
            start + 1,
            " ".repeat(indent),
            "^".repeat(self.marked.len().min(50)),
        )
    }
}

fn summary(vms: &str, findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
    let counts = ["error", "warning"].map(|severity| match count(severity) {
        0 => None,
        1 => Some(format!("1 {severity}")),
        count => Some(format!("{count} {severity}s")),
    });
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let counts = if counts.is_empty() { "all well".to_owned() } else { counts.join(", ") };
    format!("{vms}: {counts}\n")
}

/// A project with some files and directories, of which `check` changes none.
fn project() -> Project {
    let project = Project::new();
    for file in ["disk.qcow2", "my disk.img", "a,b.img", "images/base.img", "vmlinuz"] {
        project.write(file, "");
    }
    project
}

fn with_qemu(config: &str) -> String {
    format!("[qemu]\nbin = '{}'\n{config}", fake_qemu().display())
}

/// What is found in one VM that has this argument line beside one for the network.
#[track_caller]
fn finds(project: &Project, line: &str, findings: &[Finding]) {
    let line = format!("'''{line}''']");
    finds_in(
        project,
        &format!("[vm.vm]\nssh.port = 2222\ncmd = ['{NETWORK}',\n{line}\n"),
        findings,
    );
}

/// What is found in the configuration, whose last line it is about; it has one VM.
#[track_caller]
fn finds_in(project: &Project, config: &str, findings: &[Finding]) {
    let config = with_qemu(config);
    project.config(&config);
    let before = project.files("");
    let (number, line) = (config.lines().count(), config.lines().last().expect("a line"));
    let mut text: String = findings.iter().map(|finding| finding.text(number, line)).collect();
    let _ = write!(text, "{}", summary("1 VM", findings));
    let code = if findings.iter().any(|finding| finding.severity == "error") { 5 } else { 0 };
    project.qqmgr(&["check"]).run().stdout(text).code(code);
    assert_eq!(project.files(""), before);
}

/// What is said of a relative path that leads to nothing.
fn relative(project: &Project) -> Option<String> {
    let dir = fs::canonicalize(project.path("")).ok()?;
    Some(format!("relative paths in `cmd` start from `{}`", dir.display()))
}

// --- what is shown

#[test]
fn findings_are_shown_in_the_order_of_the_file() {
    let project = project();
    project.config(&with_qemu(
        "
[vars]
image = \"disk.qcow\"

[vm.dev]
cmd = [
    \"-netdev user,id=n,hostfwd=tcp::{{.vm.ssh.port}}-:22\",
    \"-drive file={{.image}},if=virtio -monitor stdio -serial stdio\",
]
ssh.port = 2222
",
    ));
    project
        .qqmgr(&["check"])
        .run()
        .stdout(
            "\
warning: `hostfwd=tcp::{{.vm.ssh.port}}-:22` listens on all interfaces
 --> qqmgr.toml:9:14
  |
9 |     \"-netdev user,id=n,hostfwd=tcp::{{.vm.ssh.port}}-:22\",
  |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
hint: `hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22` opens it to this host alone; 0.0.0.0 means all

error: there is no file `disk.qcow`, did you mean `disk.qcow2`?
  --> qqmgr.toml:10:13
   |
10 |     \"-drive file={{.image}},if=virtio -monitor stdio -serial stdio\",
   |             ^^^^^^^^^^^^^^^^^^^^^^^^^

error: `-monitor` cannot be used in `cmd`
  --> qqmgr.toml:10:39
   |
10 |     \"-drive file={{.image}},if=virtio -monitor stdio -serial stdio\",
   |                                       ^^^^^^^^
hint: qqmgr adds its own, `monitor.socket` in the VM's directory

warning: the guest's first serial port is this one, and not the VM's file `serial`
  --> qqmgr.toml:10:62
   |
10 | ... file={{.image}},if=virtio -monitor stdio -serial stdio\",
   |                                                      ^^^^^
hint: without a `-serial` in `cmd` the file has what the guest's console says

1 VM: 2 errors, 2 warnings
",
        )
        .code(5);
}

#[test]
fn findings_as_json() {
    let project = project();
    project.config(&with_qemu(
        "[vm.a]\ncmd = \"-nic user,hostfwd=tcp:127.0.0.1:2222-:22 -hda disk.qcow\"\nssh.port = 2222\n\
         [vm.b]\ncmd = \"-nic user,hostfwd=tcp:127.0.0.1:2222-:22\"\nssh.port = 2222\n",
    ));
    project
        .qqmgr(&["check", "--json"])
        .run()
        .stdout(
            r#"[
  {
    "severity": "error",
    "vms": [
      "a"
    ],
    "file": "qqmgr.toml",
    "line": 4,
    "column": 54,
    "message": "there is no file `disk.qcow`, did you mean `disk.qcow2`?",
    "hint": null
  },
  {
    "severity": "warning",
    "vms": [
      "a",
      "b"
    ],
    "file": "qqmgr.toml",
    "line": 6,
    "column": 5,
    "message": "`a` and `b` have the same ssh port, 2222",
    "hint": "only one of them can run at a time: give each a port of its own"
  }
]
"#,
        )
        .code(5);
    project.write("disk.qcow", "");
    let warnings_alone = "[\n  {\n    \"severity\": \"warning\",\n...\n]\n";
    project.qqmgr(&["check", "--json"]).run().stdout(warnings_alone).success();
    project.config(&with_qemu(&format!("[vm.vm]\ncmd = '{NETWORK}'\nssh.port = 2222\n")));
    project.qqmgr(&["--json", "check"]).run().stdout("[]\n").success();
    project.qqmgr(&["check"]).run().stdout(WELL).success();
}

#[test]
fn only_the_vms_that_are_named() {
    let project = project();
    project.config(&with_qemu(&format!(
        "[vm.a1]\ncmd = ['{NETWORK}', '-hda no.img']\nssh.port = 2222\n\
         [vm.a2]\ncmd = '{{{{.no}}}}'\nssh.port = 2223\n\
         [vm.b]\ncmd = '{NETWORK}'\nssh.port = 2222\n",
    )));
    let of_a1 = "error: `a1`: there is no file `no.img`\n...\n";
    let of_a2 = "error: `a2`: there is no variable `no`\n...\n";
    let of_b = "warning: `a1` and `b` have the same ssh port, 2222\n...\n";
    for (names, stdout, code) in [
        (&[][..], format!("{of_a1}{of_a2}{of_b}3 VMs: 2 errors, 1 warning\n"), 5),
        (&["b"], format!("{of_b}1 VM: 1 warning\n"), 0),
        (&["a2"], format!("{}1 VM: 1 error\n", of_a2.replace("`a2`: ", "")), 5),
        (&["a*"], format!("{of_a1}{of_a2}{of_b}2 VMs: 2 errors, 1 warning\n"), 5),
        (&["b", "a1", "b"], format!("{of_a1}{of_b}2 VMs: 1 error, 1 warning\n"), 5),
    ] {
        project.qqmgr(&[&["check"], names].concat()).run().stdout(stdout).code(code);
    }
    for (name, stderr) in [
        ("a3", "there is no VM `a3` in `qqmgr.toml`, did you mean `a1`?\n"),
        ("c*", "no VM matches `c*`\nqqmgr: hint: `qqmgr list` shows the VMs that there are\n"),
    ] {
        let stderr = format!("qqmgr: error: {stderr}");
        project.qqmgr(&["check", "b", name]).run().stderr(stderr).code(5);
    }
}

/// The same at the same place, in a variable, say, is told once and of all that use it.
#[test]
fn what_several_vms_share_is_told_once() {
    let project = project();
    let vm = |name, port| format!("[vm.{name}]\ncmd = '{{{{.common}}}}'\nssh.port = {port}\n");
    let vms = [vm("a", 1), vm("b", 2), vm("c", 3)].concat();
    project.config(&with_qemu(&format!("[vars]\ncommon = '{{{{.nothing}}}}'\n{vms}")));
    let message =
        "error: `a`, `b` and `c`: there is no variable `nothing`\n --> qqmgr.toml:4:11\n...\n";
    project.qqmgr(&["check"]).run().stdout(format!("{message}\n3 VMs: 1 error\n")).code(5);
    let json = "[\n  {\n    \"severity\": \"error\",\n    \"vms\": [\n      \"a\",\n      \"b\",\n      \
                \"c\"\n    ],\n...\n  }\n]\n";
    project.qqmgr(&["check", "--json"]).run().stdout(json).code(5);
}

/// What a VM takes over from another is marked where that says it.
#[test]
fn what_a_vm_takes_over() {
    let project = project();
    project.config(&with_qemu(
        "\
[vm.base]
cmd = '-nic user,hostfwd=tcp::{{.vm.ssh.port}}-:22 -hda disk.qcow2 -kernel linux'
ssh.port = 2222
[vm.a]
extends = 'base'
[vm.b]
extends = 'base'
qemu = 'bin/qemu'
ssh.port = 'auto'
",
    ));
    project
        .qqmgr(&["check"])
        .run()
        .stdout(
            "\
warning: `base`, `a` and `b`: `hostfwd=tcp::{{.vm.ssh.port}}-:22` listens on all interfaces
 --> qqmgr.toml:4:13
...
hint: `hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22` opens it to this host alone; 0.0.0.0 means all

warning: `base`, `a` and `b` write the same image, `disk.qcow2`
 --> qqmgr.toml:4:57
...
error: `base`, `a` and `b`: there is no file `linux`
 --> qqmgr.toml:4:76
...
warning: `base` and `a` have the same ssh port, 2222
 --> qqmgr.toml:6:5
...
error: `b`: there is no program `bin/qemu`
  --> qqmgr.toml:10:8
...
3 VMs: 2 errors, 3 warnings
",
        )
        .code(5);
}

/// It keeps the command line and the ssh options from being put together.
#[test]
fn what_is_wrong_twice_in_a_vm_is_told_once() {
    let project = project();
    project.config(&with_qemu(
        "[vars]\nx = '{{.no}}'\n[vm.a]\ncmd = '{{.x}}'\nssh = { port = 1, User = '{{.x}}' }\n",
    ));
    let json = "[\n  {\n    \"severity\": \"error\",\n    \"vms\": [\n      \"a\"\n    ],\n    \
                \"file\": \"qqmgr.toml\",\n    \"line\": 4,\n    \"column\": 6,\n[..]\n[..]\n  }\n]\n";
    project.qqmgr(&["check", "--json"]).run().stdout(json).code(5);
}

// --- errors of the file

#[test]
fn errors_of_the_file_are_findings() {
    let project = Project::new();
    project.config("[vm.a]\ncmd = 1\nport = 2\n[vm.a");
    let syntax = "\
error: expected `]` after the name in a header
 --> qqmgr.toml:4:6
  |
4 | [vm.a
  |      ^

1 error
";
    project.qqmgr(&["check", "a"]).run().stdout(syntax).code(5);
    project
        .qqmgr(&["check", "--json"])
        .run()
        .stdout(
            "[\n  {\n    \"severity\": \"error\",\n    \"vms\": [],\n    \
             \"file\": \"qqmgr.toml\",\n    \"line\": 4,\n    \"column\": 6,\n    \
             \"message\": \"expected `]` after the name in a header\",\n    \"hint\": null\n  }\n]\n",
        )
        .code(5);
    project.write("qqmgr.toml", b"# \xff\n");
    project.qqmgr(&["check"]).run().stdout("error: invalid UTF-8\n...\n1 error\n").code(5);
}

/// Other commands show 20.
#[test]
fn no_error_is_left_out() {
    let project = Project::new();
    let numbered =
        |form: &dyn Fn(u32) -> String| (0..30).map(form).collect::<Vec<String>>().concat();
    let keys = numbered(&|number| format!("key{number} = 1\n"));
    project.config(&keys);
    let output = project.qqmgr(&["check"]).run();
    assert_eq!(output.stdout.matches("error: unknown key `key").count(), 30);
    output.stdout("...\n30 errors\n").code(5);

    let words = numbered(&|number| format!("'{{{{.no{number}}}}} -qmp x',\n"));
    let vm = |name| format!("[vm.{name}]\ncmd = [{words}'-qmp x -daemonize']\nssh.port = 1\n");
    project.config(&[vm("a"), vm("b")].concat());
    let output = project.qqmgr(&["check"]).run();
    assert_eq!(output.stdout.matches(": there is no variable `no").count(), 60);
    assert_eq!(output.stdout.matches("cannot be used in `cmd`").count(), 4);
    output.stdout("...\n2 VMs: 64 errors\n").code(5);
}

#[test]
fn errors_of_several_vms_and_kinds() {
    let project = Project::new();
    project.config(&with_qemu(
        "[vm.a]\ncmd = \"'x\"\nssh = { port = 1, User = '{{.user}}' }\n[vm.b]\nssh.port = 2\n",
    ));
    project
        .qqmgr(&["check"])
        .run()
        .stdout(
            "\
error: `a`: unclosed single quote
 --> qqmgr.toml:4:8
  |
4 | cmd = \"'x\"
  |        ^^

error: `a`: there is no variable `user`
 --> qqmgr.toml:5:27
  |
5 | ssh = { port = 1, User = '{{.user}}' }
  |                           ^^^^^^^^^
hint: variables are set in `[vars]`, and for one VM in `[vm.NAME.vars]`

error: `b`: VM `b` has no `cmd`
 --> qqmgr.toml:6:5
  |
6 | [vm.b]
  |     ^
hint: `cmd` has QEMU's arguments: a list of strings, or one string

2 VMs: 3 errors
",
        )
        .code(5);
}

#[test]
fn without_a_configuration() {
    let project = Project::new();
    let stderr = "qqmgr: error: cannot read `[ROOT]/no.toml`: no such file or directory\n";
    project.qqmgr(&["-c", "no.toml", "check"]).run().stderr(stderr).code(5);
    let stdout = "{\n  \"error\": {\n    \"kind\": \"config\",\n...\n}\n";
    let json = project.qqmgr(&["-c", "no.toml", "check", "--json"]).run();
    json.stdout(stdout).stderr(stderr).code(5);
    project.config("");
    project.qqmgr(&["check"]).run().stdout("no VM: all well\n").success();
}

// --- programs and files

#[test]
fn the_qemu_binary() {
    let project = project();
    let hint =
        "hint: install QEMU (Debian: qemu-system-x86), or set `bin` in `[qemu]` to where it is\n";
    let vms = format!(
        "[vm.a]\ncmd = '{NETWORK}'\nssh.port = 2222\n\
         [vm.b]\ncmd = '-nic user,hostfwd=tcp:127.0.0.1:2223-:22'\nssh.port = 2223\n"
    );
    project.config(&format!("[qemu]\nbin = 'bin/qemu'\n{vms}"));
    let text = format!(
        "error: `a` and `b`: there is no program `bin/qemu`\n --> qqmgr.toml:2:7\n  |\n2 | bin = 'bin/qemu'\n  \
         |       ^^^^^^^^^^\n{hint}\n2 VMs: 1 error\n"
    );
    project.qqmgr(&["check"]).run().stdout(text).code(5);
    // One that the file does not name is told of the first VM.
    project.config(&vms);
    let text = format!(
        "error: `a` and `b`: there is no program `qemu-system-x86_64`\n --> qqmgr.toml:1:5\n  |\n1 | [vm.a]\n  \
         |     ^\n{hint}\n2 VMs: 1 error\n"
    );
    project.qqmgr(&["check"]).env("PATH", "/nowhere").run().stdout(text).code(5);
}

#[test]
fn files_that_are_not_there() {
    let project = project();
    for line in [
        "-drive file=@,if=virtio",
        "-drive if=pflash,format=raw,unit=0,readonly=on,file=@",
        "-drive driver=qcow2,file.driver=file,file.filename=@",
        "-drive file=file:@",
        "-drive driver=file,if=none,filename=@",
        "-blockdev driver=qcow2,node-name=d,file.driver=file,file.filename=@",
        "-blockdev '{\"driver\": \"file\", \"node-name\": \"d\", \"filename\": \"@\"}'",
        "-blockdev '{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"@\"}}'",
        "-hda @",
        "--hdb @",
        "-hdc @",
        "-hdd @",
        "-fda @",
        "-fdb @",
        "-pflash @",
        "-sd @",
        "-mtdblock @",
        "-cdrom @",
        "-kernel @",
        "-initrd @",
        "-dtb @",
        "-bios ./@",
        "-device loader,addr=0,file=@",
        "-device '{\"driver\": \"loader\", \"file\": \"@\"}'",
        "-object secret,id=s,file=@",
        "-fw_cfg opt/a,file=@",
        "-smbios file=@",
        "-nographic @",
        "-S -m 1G @",
    ] {
        let slash = if line.contains("./@") { "./" } else { "" };
        let marked = if slash.is_empty() { "no.raw" } else { "./no.raw" };
        let message = format!("there is no file `{marked}`");
        let hint = relative(&project);
        let finding = Finding { hint, ..finding("error", marked, message, None) };
        finds(&project, &line.replace('@', "no.raw"), &[finding]);
    }
    for line in ["-fsdev local,id=f,security_model=none,path=@", "-virtfs local,path=@,mount_tag=t"]
    {
        let hint = relative(&project);
        let finding = finding("error", "no.raw", "there is no directory `no.raw`", None);
        finds(&project, &line.replace('@', "no.raw"), &[Finding { hint, ..finding }]);
    }
}

#[test]
fn a_near_file_an_absolute_one_and_one_of_the_wrong_kind() {
    let project = project();
    let no = |marked, message: &str| [finding("error", marked, message, None)];
    finds(
        &project,
        "-hda disk.qcow",
        &no("disk.qcow", "there is no file `disk.qcow`, did you mean `disk.qcow2`?"),
    );
    finds(
        &project,
        "-hda images/bsae.img",
        &no(
            "images/bsae.img",
            "there is no file `images/bsae.img`, did you mean `images/base.img`?",
        ),
    );
    finds(&project, "-hda /nowhere/x", &no("/nowhere/x", "there is no file `/nowhere/x`"));
    finds(&project, "-hda images", &no("images", "`images` is not a file"));
    finds(
        &project,
        "-fsdev local,id=f,path=vmlinuz",
        &no("vmlinuz", "`vmlinuz` is not a directory"),
    );
    finds(
        &project,
        "-hda vmlinuz/x",
        &no("vmlinuz/x", "cannot look at the file `vmlinuz/x`: not a directory"),
    );
    // What is quoted, escaped or comes from elsewhere is marked as the word that it is.
    let hint = relative(&project);
    let one = |marked, message: &str| {
        [Finding { hint: hint.clone(), ..finding("error", marked, message, None) }]
    };
    finds(&project, r"-hda no\ image", &one(r"no\ image", "there is no file `no image`"));
    finds(
        &project,
        "-drive file=a,,c.raw,id=d",
        &one("file=a,,c.raw,id=d", "there is no file `a,c.raw`"),
    );
    finds(
        &project,
        "-hda {{.vm.name}}-boot",
        &one("{{.vm.name}}-boot", "there is no file `vm-boot`"),
    );
}

#[test]
fn files_that_are_there_or_are_none() {
    let project = project();
    symlink("images/base.img", project.path("link")).unwrap();
    for line in [
        "-hda disk.qcow2 -drive 'file=my disk.img' -kernel vmlinuz -drive file=a,,b.img",
        "-hda link -fsdev local,id=f,path=images -cdrom file:disk.qcow2",
        "-drive file={{.config_dir}}/images/base.img,snapshot=on",
        "-hda a,b.img",
        // Protocols.
        "-drive file=nbd:localhost:10809 -hda fat:rw:no -cdrom https://localhost/no.iso",
        "-drive 'file=json:{\"driver\": \"file\", \"filename\": \"no\"}'",
        "-blockdev driver=nbd,node-name=n,server.type=unix,server.path=no",
        // Other nodes, descriptors, none at all.
        "-blockdev driver=qcow2,node-name=q,file=no -drive file=/dev/fdset/1",
        "-drive if=none,id=empty,media=cdrom -drive if=none,id=e,file=",
        "-blockdev '{\"driver\":'",
        // Searched for elsewhere, too; or not known to be one file.
        "-bios bios.bin -initrd 'a one,b two' -kernel vmlinuz",
        // Values of options that name no file.
        "-append -hda -name no.img -m 1G -device virtio-blk,drive=no -net none",
        "-device ramfb,file=no -fsdev synth,id=f,path=no -object rng-random,file=no",
        "-cdrom",
    ] {
        finds(&project, line, &[]);
    }
}

#[test]
fn images_that_two_vms_write() {
    let project = project();
    symlink("disk.qcow2", project.path("link")).unwrap();
    let hint = "only one of them can run at a time: give each an image of its own";
    let check = |first: &str, second: &str, third: &str| {
        let vm = |name, port, line| {
            let network = format!("-nic user,hostfwd=tcp:127.0.0.1:{port}-:22");
            format!("[vm.{name}]\ncmd = ['{network}',\n'{line}']\nssh.port = {port}\n")
        };
        let vms = [vm("a", 2222, first), vm("b", 2223, second), vm("c", 2224, third)];
        project.config(&with_qemu(&vms.concat()));
        project.qqmgr(&["check"]).run()
    };
    for (second, place) in [
        ("-hda disk.qcow2", "9:7"),
        ("-drive if=virtio,file=./disk.qcow2", "9:24"),
        ("-blockdev driver=file,node-name=n,filename=link", "9:45"),
        ("images/../disk.qcow2", "9:2"),
        ("-drive file=disk.qcow2,readonly=off,snapshot=off", "9:14"),
    ] {
        let path = second.rsplit(' ').next().and_then(|word| word.rsplit("file=").next());
        let path = path.and_then(|path| path.rsplit("filename=").next()).expect("a path");
        let path = path.split(',').next().expect("a path");
        let text = format!(
            "warning: `a` and `b` write the same image, `{path}`\n --> qqmgr.toml:{place}\n...\n\
             hint: {hint}\n\n3 VMs: 1 warning\n"
        );
        check("-drive file=disk.qcow2", second, "-m 1G").stdout(text).success();
    }
    let all =
        "warning: `a`, `b` and `c` write the same image, `disk.qcow2`\n...\n3 VMs: 1 warning\n";
    check("-hda disk.qcow2", "-hda disk.qcow2", "-hda disk.qcow2").stdout(all).success();
    for second in [
        "-hda disk.qcow2 -snapshot",
        "-cdrom disk.qcow2",
        "-drive file=disk.qcow2,readonly=on",
        "-drive file=disk.qcow2,read-only=on",
        "-drive file=disk.qcow2,snapshot=on",
        "-drive file=disk.qcow2,media=cdrom",
        "-drive file=disk.qcow2,readonly",
        "-drive driver=qcow2,read-only=on,file.filename=disk.qcow2",
        "-blockdev driver=raw,node-name=n,file.read-only=on,file.filename=disk.qcow2",
        "-drive file=images/base.img,backing.file.filename=disk.qcow2",
        "-kernel disk.qcow2",
        "-hda images/base.img",
    ] {
        let well = "3 VMs: all well\n";
        check("-hda disk.qcow2", second, "-drive file=/dev/null").stdout(well).success();
    }
    // One VM alone may do what it likes, and what is no file is no image.
    let own = "-hda disk.qcow2 -hdb disk.qcow2";
    check(own, "-hda /dev/null", "-hda /dev/null").stdout("3 VMs: all well\n").success();
}

// --- the machine

#[test]
fn kvm() {
    let project = project();
    let usable = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let expected =
        usable.err().map(|_| finding("error", "kvm", "KVM cannot be used: [..]", "[..]"));
    finds(&project, "-accel kvm", expected.as_slice());
    finds(&project, "-accel kvm -accel tcg", &[]);
    finds(&project, "-machine accel=kvm:tcg", &[]);
}

#[test]
fn serial_ports_of_the_users_own() {
    let project = project();
    let message = "the guest's first serial port is this one, and not the VM's file `serial`";
    let hint = "without a `-serial` in `cmd` the file has what the guest's console says";
    let warning = |marked| [finding("warning", marked, message, hint)];
    finds(&project, "-serial mon:stdio", &warning("mon:stdio"));
    finds(&project, "--serial none -serial null", &warning("none"));
    finds(&project, "-chardev null,id=serial -append -serial", &[]);
}

// --- the network

/// What is found in a VM with these arguments and these lines in its ssh table.
#[track_caller]
fn finds_net(ssh: &str, line: &str, findings: &[Finding]) {
    let config = format!("[vm.vm.ssh]\nport = 2222\n{ssh}\n[vm.vm]\ncmd = '{line}'\n");
    finds_in(&project(), &config, findings);
}

#[test]
fn ports_that_are_open_to_all() {
    let warning = |marked, local: &str| {
        let hint = format!("`hostfwd={local}` opens it to this host alone; 0.0.0.0 means all");
        let message = format!("`hostfwd={marked}` listens on all interfaces");
        [Finding { hint: Some(hint), ..finding("warning", marked, message, None) }]
    };
    let at = "tcp:127.0.0.1:2222-:22";
    finds_net("", "-nic user,hostfwd=tcp::2222-:22", &warning("tcp::2222-:22", at));
    let found = warning("tcp::2222-:22", at);
    let found = found.map(|found| Finding { marked: "::2222-:22", ..found });
    finds_net("", "-nic user,hostfwd=::2222-:22", &found);
    let line = format!("-nic user,hostfwd={at},hostfwd=udp::53-10.0.2.15:5353");
    finds_net("", &line, &warning("udp::53-10.0.2.15:5353", "udp:127.0.0.1:53-10.0.2.15:5353"));
    // What comes from a placeholder is marked as the word that it is in.
    let own = "user,hostfwd=tcp::{{.vm.ssh.port}}-:22,hostfwd=tcp::80{{.vm.ssh.vm_port}}-:80";
    let found = |rule: &str| {
        let local = format!("`hostfwd=tcp:127.0.0.1:{rule}` opens it to this host alone");
        let message = format!("`hostfwd=tcp::{rule}` listens on all interfaces");
        let hint = Some(format!("{local}; 0.0.0.0 means all"));
        Finding { hint, ..finding("warning", own, message, None) }
    };
    let found = [found("{{.vm.ssh.port}}-:22"), found("8022-:80")];
    finds_net("", &format!("-nic {own}"), &found);
    for line in [
        "-nic user,hostfwd=tcp:0.0.0.0:2222-:22",
        "-nic tap -netdev user,id=n,hostfwd=tcp:127.0.0.1:2222-:22",
        "-net nic -net user,hostfwd=tcp:127.0.0.1:2222-:22",
        r#"-netdev {\"type\":\"user\",\"hostfwd\":[{\"str\":\"tcp:127.0.0.1:2222-:22\"}]}"#,
        "-nic user,hostfwd=tcp:127.0.0.1:2223-:80,hostfwd=tcp:127.0.0.1:2222-:22",
        // Not of a kind that is known.
        "-nic user,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=unix:x-:22 -nic tap,hostfwd=tcp::1-:2",
    ] {
        finds_net("", line, &[]);
    }
}

#[test]
fn another_port_than_that_of_ssh() {
    let warning = |rule: &'static str, what: &str, right: &str, or: &str| {
        let hint = Some(format!("write `hostfwd={right}`, {or}"));
        let message = format!("`hostfwd={rule}` {what}");
        [Finding { hint, ..finding("warning", rule, message, None) }]
    };
    let rule = "tcp:127.0.0.1:2300-:22";
    let right = "tcp:127.0.0.1:{{.vm.ssh.port}}-:22";
    let line = format!("-nic user,hostfwd={rule}");
    let what = "forwards another port than the one that ssh connects to";
    let or = "or set `port = 2300` among the VM's ssh options";
    let found = warning(rule, what, right, or);
    finds_net("", &line, &found);
    // The guest's port is that of the configuration.
    finds_net("vm_port = 22", &format!("{line},hostfwd=tcp:127.0.0.1:2222-:222"), &found);
    finds_net("vm_port = 222", &format!("{line},hostfwd=tcp:127.0.0.1:2222-:222"), &[]);
    let rule = "tcp:192.0.2.1:2222-:22";
    let what = "does not listen on 127.0.0.1, where ssh connects";
    let found = warning(rule, what, right, "or set `HostName` among the VM's ssh options");
    finds_net("", &format!("-nic user,hostfwd={rule}"), &found);
    for other in ["HostName = '10.0.0.2'", "ProxyCommand = 'nc -U x'", "proxyjump = 'x'"] {
        finds_net(other, &line, &[]);
    }
    finds_net("", &format!("{line},hostfwd={right}"), &[]);
}

#[test]
fn a_port_that_is_chosen_at_each_start() {
    let auto = |line: &str, findings: &[Finding]| {
        let config = format!("[vm.vm.ssh]\nport = 'auto'\n[vm.vm]\ncmd = '{line}'\n");
        finds_in(&project(), &config, findings);
    };
    auto("-nic user,hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22", &[]);
    let rule = "tcp:127.0.0.1:2300-:22";
    let message =
        format!("`hostfwd={rule}` forwards another port than the one that ssh connects to");
    let hint = "write `hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22`, or set `port = 2300` among \
                the VM's ssh options";
    let found = finding("warning", rule, message, hint);
    auto(&format!("-nic user,hostfwd={rule}"), &[found]);

    // It is nobody else's.
    let vm = |name| {
        let network = "-nic user,hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22";
        format!("[vm.{name}]\ncmd = '{network}'\nssh.port = 'auto'\n")
    };
    let project = project();
    project.config(&with_qemu(&[vm("a"), vm("b")].concat()));
    project.qqmgr(&["check"]).run().stdout("2 VMs: all well\n").success();
}

#[test]
fn no_way_for_ssh() {
    let message = "nothing forwards a port of this host to the guest's ssh port 22";
    let hint = "add `,hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22` to it";
    let at = |marked| [finding("warning", marked, message, hint)];
    finds_net("", "-nic user", &at("user"));
    finds_net("", "-netdev user,id=n -device e1000,netdev=n", &at("user,id=n"));
    finds_net(
        "",
        "-nic user,hostfwd=udp:127.0.0.1:2222-:22",
        &at("user,hostfwd=udp:127.0.0.1:2222-:22"),
    );
    let message = "nothing forwards a port of this host to the guest's ssh port 2200";
    let hint = "add `,hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:2200` to it";
    finds_net("vm_port = 2200", "-nic user", &[finding("warning", "user", message, hint)]);
    for other in ["-nic stream,addr.type=unix,addr.path=passt.sock", "-netdev passt,id=n"] {
        finds_net("", other, &[]);
    }
    finds_net("HostName = '10.0.0.2'", "-nic tap", &[]);

    // Where there is no such network, the VM is marked.
    let project = project();
    for line in ["", "-nic none", "-nic tap", "-nodefaults"] {
        project.config(&with_qemu(&format!("[vm.vm]\ncmd = '{line}'\nssh.port = 2222\n")));
        let text = "\
warning: nothing forwards a port of this host to the guest's ssh port 22
 --> qqmgr.toml:3:5
  |
3 | [vm.vm]
  |     ^^
hint: add `-nic user,hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:22` to `cmd`

1 VM: 1 warning
";
        project.qqmgr(&["check"]).run().stdout(text).success();
    }
}

#[test]
fn ports_that_several_vms_take() {
    let project = project();
    let hint = "only one of them can run at a time: give each a port of its own";
    let vm = |name: &str, port: u16, more: &str| {
        let network = format!("-nic user,hostfwd=tcp:127.0.0.1:{port}-:22{more}");
        format!("[vm.{name}]\ncmd = '{network}'\nssh.port = {port}\n")
    };
    let check = |vms: &[String], stdout: &str| {
        project.config(&with_qemu(&vms.concat()));
        project.qqmgr(&["check"]).run().stdout(stdout).success();
    };
    check(
        &[vm("a", 2222, ""), vm("b", 2223, ""), vm("c", 2222, ""), vm("d", 2222, "")],
        &format!(
            "warning: `a`, `c` and `d` have the same ssh port, 2222\n --> qqmgr.toml:9:5\n  |\n\
             9 | [vm.c]\n  |     ^\nhint: {hint}\n\n4 VMs: 1 warning\n"
        ),
    );
    let many: Vec<String> = (0..10).map(|number| vm(&format!("v{number}"), 2222, "")).collect();
    let listed = "`v0`, `v1`, `v2`, `v3`, `v4`, `v5`, `v6`, `v7` and 2 more";
    check(
        &many,
        &format!("warning: {listed} have the same ssh port, 2222\n...\n10 VMs: 1 warning\n"),
    );
    let web = ",hostfwd=tcp:127.0.0.1:8080-:80";
    check(
        &[vm("a", 2222, web), vm("b", 2223, web)],
        &format!(
            "warning: `a` and `b` take the same TCP port of this host, 8080\n --> qqmgr.toml:7:13\n\
             ...\nhint: {hint}\n\n2 VMs: 1 warning\n"
        ),
    );
    let of_other = ",hostfwd=tcp:127.0.0.1:2222-:80";
    let text =
        "warning: `a` and `b` take the same TCP port of this host, 2222\n...\n2 VMs: 1 warning\n";
    check(&[vm("a", 2222, ""), vm("b", 2223, of_other)], text);
    let dns = ",hostfwd=udp:127.0.0.1:5353-:53";
    let text =
        "warning: `a` and `b` take the same UDP port of this host, 5353\n...\n2 VMs: 1 warning\n";
    check(&[vm("a", 2222, dns), vm("b", 2223, dns)], text);

    let second = ",hostfwd=tcp:127.0.0.1:2900-:22";
    let text =
        "warning: `a` and `b` take the same TCP port of this host, 2900\n...\n2 VMs: 1 warning\n";
    check(&[vm("a", 2222, second), vm("b", 2223, second)], text);

    let well = "2 VMs: all well\n";
    check(&[vm("a", 2222, ""), vm("b", 2223, ",hostfwd=udp:127.0.0.1:2222-:53")], well);
    check(&[vm("a", 2222, web), vm("b", 2223, ",hostfwd=tcp:127.0.0.1:8081-:80")], well);
    let free = ",hostfwd=tcp:127.0.0.1:0-:80";
    check(&[vm("a", 2222, free), vm("b", 2223, free)], well);
    // Guests with addresses of their own.
    let own = |name| {
        format!("[vm.{name}]\ncmd = '-nic tap'\nssh = {{ port = 22, HostName = '{name}.test' }}\n")
    };
    check(&[own("a"), own("b")], well);
}

#[test]
fn nothing_is_started_or_made() {
    let project = Project::new();
    let port = project.fake_vm("default");
    let text = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let network = format!("-nic user,hostfwd=tcp:127.0.0.1:{port}-:22");
    project.config(&text.replace("cmd = \"", &format!("cmd = \"{network} ")));
    let before = project.files("");
    project.qqmgr(&["check", "--verbose"]).run().stdout(WELL).success();
    assert_eq!(project.files(""), before);
}
