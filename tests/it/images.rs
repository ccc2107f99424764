//! `[img.NAME]` and `qqmgr img`: what is made, what is kept, and what is said, with the real
//! qemu-img and without a network.

use crate::harness::{Project, fake_qemu, free_port, has_tool, program};
use std::fmt::Write as _;
use std::fs;

/// A project with an image `debian` on a base of 8 MiB and an empty one of 1 GiB.
fn project() -> Project {
    let project = Project::new();
    project.write("base.img", vec![0; 8 << 20]);
    project.config(
        "[img.debian]\nbase = \"base.img\"\nsize = \"20M\"\n\
         [img.debian.cloud_init]\npackages = [\"git\"]\n[img.scratch]\nsize = \"1G\"\n",
    );
    project
}

/// The same with a VM that uses both, on the fake QEMU.
fn with_vm() -> Project {
    let project = project();
    let mut config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let _ = write!(
        config,
        "[qemu]\nbin = '{}'\n[vm.dev]\nssh.port = {}\ncmd = [\n\
         '-drive file={{{{.img.debian}}}},if=virtio',\n\
         '-drive file={{{{.img.debian.seed}}}},if=virtio,format=raw,readonly=on',\n\
         '-drive file={{{{.img.scratch}}}},if=virtio']\n",
        fake_qemu().display(),
        free_port()
    );
    project.config(&config);
    project
}

/// Mistakes in the tables are told when the file is read, all at once.
#[test]
fn declarations_that_are_refused() {
    let project = Project::new();
    for (table, message, hint) in [
        (
            "[img.'a.b']\nsize = 1",
            "`a.b` cannot be the name of an image",
            "up to 64 letters, digits, `_` and `-`, a letter or digit first",
        ),
        (
            "[img.a]\nsize = '1.5G'",
            "invalid value `'1.5G'` for `size`",
            "a number of bytes, or with a unit, like `\"512M\"` or `\"20G\"`",
        ),
        (
            "[img.a]\nsize = 0",
            "invalid value `0` for `size`",
            "a number of bytes, or with a unit, like `\"512M\"` or `\"20G\"`",
        ),
        (
            "[img.a]\nsize = -1",
            "invalid value `-1` for `size`",
            "a number of bytes, or with a unit, like `\"512M\"` or `\"20G\"`",
        ),
        ("[img.a]\nsize = true", "`size` is a boolean, and must be a string or an integer", ""),
        (
            "[img.a]",
            "`[img.a]` has neither `base` nor `size`",
            "with `base` it is a copy that only takes what is written; with `size` alone, empty",
        ),
        (
            "[img.a]\nbase = 'x'\nsha256 = 'abc'",
            "`sha256` is 64 hexadecimal digits",
            "`sha256sum FILE` prints it",
        ),
        (
            "[img.a]\nbase = 'https://a/b'",
            "a `base` that is a URL needs its `sha256`",
            "its publisher tells it, often in a file `SHA256SUMS` beside it; \
          `qqmgr init --image URL` computes it",
        ),
        (
            "[img.a]\nsize = 1\ncloud_init = {}",
            "`cloud_init` without a `base`",
            "an empty disk has none",
        ),
        ("[img.a]\nbase = 'x'\nsizes = 1", "unknown key `sizes`; did you mean `size`?", ""),
        (
            "[img.a]\nbase = 'x'\ncloud_init.users = 'x'",
            "unknown key `users`; did you mean `user`?",
            "",
        ),
        (
            "[img.a]\nbase = 'x'\ncloud_init.user = 'A b'",
            "`A b` cannot be the name of a user",
            "lower-case letters, digits, `_` and `-`, a letter or `_` first",
        ),
        (
            "[img.a]\nbase = 'x'\ncloud_init = { user_data = 'x', run = 'y' }",
            "`run` beside `user_data`",
            "the file that `user_data` names is all that there is then",
        ),
        (
            "[vars]\nimg = 1\n[img.a]\nsize = 1",
            "`img` is reserved in `[vars]`",
            "`{{.img.…}}` are the images that `[img.NAME]` makes",
        ),
    ] {
        project.config(&format!("{table}\n"));
        let hint = if hint.is_empty() { String::new() } else { format!("qqmgr: hint: {hint}\n") };
        let stderr = format!("qqmgr: error: {message}\n --> qqmgr.toml:[..]\n...\n{hint}");
        project.qqmgr(&["img", "list"]).run().stderr(stderr).code(5);
    }
    // A variable of that name is fine where there are no images.
    project.config("[vars]\nimg = 1\n");
    project
        .qqmgr(&["img", "list"])
        .run()
        .stdout("NAME  STATE             SIZE   ON DISK  USED BY\n")
        .success();
}

#[test]
fn placeholders_of_images() {
    let project = Project::new();
    for (cmd, message, hint) in [
        ("{{.img.scartch}}", "there is no variable `img.scartch`; did you mean `img.scratch`?", ""),
        ("{{.img.zzz}}", "there is no variable `img.zzz`", "images are declared in `[img.NAME]`"),
        (
            "{{.img.scratch.seed}}",
            "image `scratch` has no seed",
            "`[img.scratch.cloud_init]` says what is in it",
        ),
    ] {
        project.config(&format!("[img.scratch]\nsize = 1\n[vm.a]\ncmd = '{cmd}'\nssh.port = 1\n"));
        let hint = if hint.is_empty() { String::new() } else { format!("qqmgr: hint: {hint}\n") };
        let stderr = format!("qqmgr: error: {message}\n --> qqmgr.toml:4:8\n...\n{hint}");
        project.qqmgr(&["cmdline", "a"]).run().stderr(stderr).code(5);
    }
    project.config("[img.a]\nbase = '{{.vm.name}}'\n[img.b]\nbase = '{{.img.a}}'\n");
    for name in ["a", "b"] {
        let stderr = "qqmgr: error: there is no variable `[..]`\n --> qqmgr.toml:[..]\n...\n\
                      qqmgr: hint: this string is no VM's\n";
        project.qqmgr(&["img", "path", name]).run().stderr(stderr).code(5);
    }
}

/// A runtime directory with everything in its name that a shell, QEMU or ssh would read.
#[test]
fn a_directory_with_special_characters() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = with_vm();
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let dir = "a 'b',c=\"%h\"";
    project.write(format!("{dir}/qqmgr.toml"), config);
    project.write(format!("{dir}/base.img"), vec![0; 1 << 20]);
    project.write("run/x", "");
    let run = |arguments: &[&str]| {
        project.qqmgr(arguments).cwd(dir).env("XDG_RUNTIME_DIR", project.path("run")).run()
    };
    let built = "debian built: [ROOT]/run/qqmgr/[..]/disk.qcow2\n";
    run(&["img", "build", "debian"]).stdout(built).success();
    assert!(project.path(dir).join(".qqmgr/img.debian/disk.qcow2").is_file());
    let notes = "qqmgr: built image `scratch`\n";
    run(&["start", "dev"]).stdout("dev started: [..]\n").stderr(notes).success();
    // The way to it is made again after a reboot.
    fs::remove_dir_all(project.path("run/qqmgr")).unwrap();
    let cmdline = "...\n    -drive file=[ROOT]/run/qqmgr/[..]/disk.qcow2,if=virtio \\\n...\n";
    run(&["cmdline", "dev"]).stdout(cmdline).success();
    assert_eq!(fs::read_dir(project.path("run/qqmgr")).unwrap().count(), 2);
    let refused = "qqmgr: error: image `debian` is in use by VM `dev`\n...\n";
    run(&["img", "reset", "debian"]).stderr(refused).code(1);
    run(&["stop", "dev"]).stdout("dev [..]\n").success();
    run(&["img", "rm", "debian", "scratch"]).stdout("debian removed\nscratch removed\n").success();
    assert_eq!(fs::read_dir(project.path("run/qqmgr")).unwrap().count(), 0);
}

/// What belongs to a disk is made again without touching it; a base that is gone is told.
#[test]
fn what_is_lost_is_made_again() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = project();
    project.qqmgr(&["img", "build"]).run().stdout("debian [..]\nscratch [..]\n").success();
    let file = |name: &str| project.path(".qqmgr/img.debian").join(name);
    let before = ["disk.qcow2", "seed.img"].map(|name| fs::read(file(name)).unwrap());
    fs::remove_file(file("seed.img")).unwrap();
    let row = "...\ndebian   incomplete         20M      19[..]K  -\n...\n";
    project.qqmgr(&["img", "list"]).run().stdout(row).success();
    project.qqmgr(&["img", "build", "debian"]).run().stdout("debian built: [..]\n").success();
    assert!(["disk.qcow2", "seed.img"].map(|name| fs::read(file(name)).unwrap()) == before);

    fs::rename(project.path("base.img"), project.path("away.img")).unwrap();
    let stderr = "qqmgr: error: there is no file `[ROOT]/base.img`\n...\n";
    project.qqmgr(&["img", "build", "debian"]).run().stderr(stderr).code(5);
    // Declared otherwise meanwhile, the disk still needs what it was made from.
    project.config("[img.debian]\nbase = 'away.img'\ncloud_init = {}\n");
    let stderr = "qqmgr: error: the base of image `debian` is gone: `[ROOT]/base.img`\n\
                  qqmgr: hint: put it back as it was, or `qqmgr img reset debian` builds the image anew\n";
    project.qqmgr(&["img", "build", "debian"]).run().stderr(stderr).code(1);
    project.qqmgr(&["img", "reset", "debian"]).run().stdout("debian is as new: [..]\n").success();

    // What is not declared any more is listed, and can be removed.
    project.config("");
    let table = "NAME     STATE             SIZE   ON DISK  USED BY\n\
                 debian   not declared        8M      19[..]K  -\n\
                 scratch  not declared        1G      19[..]K  -\n";
    project.qqmgr(&["img", "list"]).run().stdout(table).success();
    let stderr = "qqmgr: error: no such image in `qqmgr.toml`: `debian`\n\
                  qqmgr: hint: it has no `[img.NAME]` at all\n";
    project.qqmgr(&["img", "reset", "debian"]).run().stderr(stderr).code(5);
    project.qqmgr(&["img", "rm", "debian"]).run().stdout("debian removed\n").success();
}

/// The user's own file, placeholders replaced and others' templates left alone.
#[test]
fn user_data_of_the_users_own() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = project();
    project.write("user-data.yaml", "#cloud-config\na: {{.x}}\nb: {{ v1.region }}\nc: <<EOF\n");
    project.config(
        "[vars]\nx = 'y'\n[img.a]\nbase = 'base.img'\ncloud_init.user_data = 'user-data.yaml'\n",
    );
    project.qqmgr(&["img", "build"]).run().stdout("a built: [..]\n").success();
    let seed = fs::read(project.path(".qqmgr/img.a/seed.img")).unwrap();
    let seed = String::from_utf8_lossy(&seed);
    assert!(seed.contains("#cloud-config\na: y\nb: {{ v1.region }}\nc: <<EOF\n"), "{seed}");
    project.write("user-data.yaml", "#cloud-config\na: {{.y}}\n");
    project.qqmgr(&["img", "rm", "a"]).run().stdout("a removed\n").success();
    let stderr =
        "qqmgr: error: there is no variable `y`[..]\n --> [ROOT]/user-data.yaml:2:4\n...\n";
    project.qqmgr(&["img", "build"]).run().stderr(stderr).code(5);
}

/// The file system that cloud-init looks for, by programs that did not make it.
#[test]
fn the_seed_is_a_file_system() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = project();
    project.qqmgr(&["img", "build", "debian"]).run().stdout("debian [..]\n").success();
    if let Some(blkid) = program("blkid") {
        let blkid =
            format!("{} -p -o value -s LABEL -s TYPE .qqmgr/img.debian/seed.img", blkid.display());
        project.sh(&blkid).run().stdout("cidata\nvfat\n").success();
    }
    if let Some(fsck) = program("fsck.fat") {
        let fsck = format!("{} -n .qqmgr/img.debian/seed.img >fsck || cat fsck", fsck.display());
        project.sh(&fsck).run().success();
    }
    if has_tool("mcopy") {
        let copy = "mcopy -i .qqmgr/img.debian/seed.img ::meta-data ::user-data . && cat meta-data && \
                    sed 's/AAAA.*/AAAA/' user-data";
        let said = r#"{
  "instance-id": "debian-[..]",
  "local-hostname": "debian"
}
#cloud-config
{
  "hostname": "debian",
  "manage_etc_hosts": "localhost",
  "users": [
    "default"
  ],
  "user": {
    "name": "dev",
    "sudo": "ALL=(ALL) NOPASSWD:ALL",
    "lock_passwd": true
  },
  "ssh_authorized_keys": [
    "ssh-ed25519 AAAA
  ],
  "disable_root": true,
  "package_update": true,
  "packages": [
    "git"
  ]
}
"#;
        project.sh(copy).run().stdout(said).success();
    }
}

/// Of every length around that of a cluster, and of the most that is allowed.
#[test]
fn seeds_of_all_sizes() {
    let (Some(fsck), true, true) = (program("fsck.fat"), has_tool("mcopy"), has_tool("qemu-img"))
    else {
        return;
    };
    let project = project();
    project.config("[img.a]\nbase = 'base.img'\ncloud_init.user_data = 'user-data'\n");
    for length in [0, 1, 511, 512, 513, 1024, 1 << 20] {
        project.write("user-data", vec![b'x'; length]);
        project.qqmgr(&["img", "build"]).run().stdout("a built: [..]\n").success();
        let seed = ".qqmgr/img.a/seed.img";
        let read = format!(
            "'{}' -n {seed} >fsck || cat fsck; mcopy -o -i {seed} ::user-data copy && cmp copy user-data",
            fsck.display()
        );
        project.sh(&read).run().success();
        project.qqmgr(&["img", "rm", "a"]).run().stdout("a removed\n").success();
    }
    project.write("user-data", vec![b'x'; (1 << 20) + 1]);
    let stderr = "qqmgr: error: cannot read `[ROOT]/user-data`: it is larger than 1024 KiB\n \
                  --> qqmgr.toml:3:24\n...\n";
    project.qqmgr(&["img", "build"]).run().stderr(stderr).code(5);
}

/// Several builds and starts at once make one image, and all go well.
#[test]
fn builds_at_once_wait_for_each_other() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = project();
    let runs: Vec<_> =
        (0..8).map(|_| project.qqmgr(&["img", "build", "debian", "--json"]).start()).collect();
    let mut built = 0;
    for run in runs {
        let output = run.end();
        assert_eq!(output.status, Some(0), "{}", output.stderr);
        built += usize::from(output.stdout.contains("\"built\": true"));
        let waits = "qqmgr: waiting for another command that has image `debian`\n";
        assert!(output.stderr.is_empty() || output.stderr == waits, "{}", output.stderr);
    }
    assert_eq!(built, 1);
}

/// A first configuration with an image: what is written is accepted and can be built.
#[test]
fn init_with_an_image() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = Project::new();
    project.write("base.img", vec![0; 1 << 20]);
    let stdout = "wrote qqmgr.toml: `qqmgr start dev --wait` and `qqmgr ssh dev` are next\n";
    project.qqmgr(&["init", "--image", "base.img"]).run().stdout(stdout).success();
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    assert!(config.contains("[img.dev]\nbase = \"base.img\"\nsize = \"20G\""), "{config}");
    project.qqmgr(&["img", "build"]).run().stdout("dev built: [..]\n").success();
    let stderr = "qqmgr: error: `qqmgr.toml` exists already\n...\n";
    project.qqmgr(&["init", "--image", "base.img"]).run().stderr(stderr).code(1);
    // In another directory a relative path means something else.
    let stdout = "wrote home/vms.toml: [..]\n";
    project
        .qqmgr(&["init", "-c", "home/vms.toml", "--image", "base.img"])
        .run()
        .stdout(stdout)
        .success();
    let config = fs::read_to_string(project.path("home/vms.toml")).unwrap();
    assert!(config.contains(&format!("base = \"{}/base.img\"\n", project.path("").display())));

    for (arguments, code, stderr) in [
        (&["--image", "none"][..], 1, "qqmgr: error: there is no file `[ROOT]/none`\n"),
        (
            &["--checksum", &"0".repeat(64)],
            2,
            "qqmgr: error: `--checksum` is that of an `--image`\n...\n",
        ),
        (
            &["--image", "base.img", "--checksum", "1"],
            2,
            "qqmgr: error: invalid value `1` for `--checksum`: it takes 64 hexadecimal digits\n...\n",
        ),
        (
            &["--image", "base.img", "--checksum", &"0".repeat(64)],
            1,
            "qqmgr: error: `[ROOT]/base.img` has the SHA-256 30e1[..], and not 0000[..]\n...\n",
        ),
        (
            &["--image", "a{{b"],
            2,
            "qqmgr: error: invalid value `a{{b` for `--image`: a configuration would read it as something else\n...\n",
        ),
    ] {
        let arguments = [&["init", "-c", "new.toml"], arguments].concat();
        project.qqmgr(&arguments).run().stderr(stderr).code(code);
        assert!(!project.path("new.toml").exists());
    }
}

#[test]
fn usage_of_img() {
    let project = project();
    let hint = "qqmgr: hint: usage: qqmgr img [OPTIONS] ACTION [IMAGE...]\n";
    for (arguments, message) in [
        (&["path"][..], "`img path` needs an IMAGE"),
        (&["path", "a", "b"], "`img path` takes one IMAGE"),
        (&["reset"], "`img reset` needs an IMAGE"),
        (&["rm"], "`img rm` needs an IMAGE"),
        (&["list", "a"], "`img list` takes no IMAGE"),
    ] {
        let stderr = format!("qqmgr: error: {message}\n{hint}");
        project.qqmgr(&[&["img"], arguments].concat()).run().stderr(stderr).code(2);
    }
    let stderr = "qqmgr: error: unknown ACTION `biuld` of `img`; did you mean `build`?\n";
    project.qqmgr(&["img", "biuld"]).run().stderr(stderr).code(2);
    let stderr = "qqmgr: error: no such image in `qqmgr.toml`: `debain`; did you mean `debian`?\n";
    project.qqmgr(&["img", "build", "debain"]).run().stderr(stderr).code(5);
    project.qqmgr(&["img", "list", "-q"]).run().stdout("debian\nscratch\n").success();
    let stderr = "qqmgr: error: no such image in `qqmgr.toml`: `../x`\n...\n";
    project.qqmgr(&["img", "rm", "../x"]).run().stderr(stderr).code(5);
}

/// Also of one that no VM uses, if it cannot be built.
#[test]
fn check_of_images_that_nobody_uses() {
    let project = Project::new();
    project.config("[img.a]\nbase = 'none'\n[img.b]\nsize = 1\n");
    let said = "error: there is no file `[ROOT]/none`\n --> qqmgr.toml:2:8\n  |\n2 | base = 'none'\n  \
                |        ^^^^^^\nhint: relative paths start from `[ROOT]`\n\nno VM: 1 error\n";
    project.qqmgr(&["check"]).run().stdout(said).code(5);
}

/// What `check` tells of images, and that it makes none.
#[test]
fn check_of_images() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = with_vm();
    let missing = |name: &str, place: &str| {
        format!(
            "warning: image `{name}` is not built yet\n --> qqmgr.toml:{place}\n  |\n[..]\n  | [..]\n\
             hint: `start` builds it, and so does `qqmgr img build {name}`\n\n"
        )
    };
    let both = missing("debian", "1:6") + &missing("scratch", "6:6");
    let said = format!("{both}...\n1 VM: [..]\n");
    project.qqmgr(&["check"]).run().stdout(said).success();
    assert!(!project.path(".qqmgr").exists());
    fs::remove_file(project.path("base.img")).unwrap();
    let said = "error: there is no file `[ROOT]/base.img`\n --> qqmgr.toml:2:8\n...\n";
    project.qqmgr(&["check"]).run().stdout(said).code(5);
    project.write("base.img", vec![0; 1 << 20]);
    project.qqmgr(&["img", "build"]).run().stdout("debian [..]\nscratch [..]\n").success();
    project.write("base.img", vec![0; 2 << 20]);
    let said = "warning: image `debian` was built before its `base` changed\n --> qqmgr.toml:1:6\n...\n\
                hint: `qqmgr img reset debian` builds it anew, without what was written to it\n...\n";
    project.qqmgr(&["check"]).run().stdout(said).success();
}
