//! Bases that are URLs are fetched once, verified before use, and never incomplete. The tests use
//! the real curl, wget and qemu-img, and a server on loopback.

use crate::harness::{
    Output, Project, fake_qemu, free_port, has_tool, left_out, program, signal, wait_until,
};
use crate::http::Server;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const MIB: usize = 1 << 20;
/// Every file that is made of a fetched base with a key pair of its own.
const WHOLE: [&str; 6] =
    ["disk.qcow2", "id_ed25519", "id_ed25519.pub", "image.json", "lock", "seed.img"];

/// A unique raw image of this many bytes.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes / 4)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[..4].to_vec())
        .collect()
}

pub(crate) fn sha256(content: &[u8]) -> String {
    let file =
        std::env::temp_dir().join(format!("qqmgr-sum-{}-{}", std::process::id(), free_port()));
    fs::write(&file, content).unwrap();
    let output = Command::new("sha256sum").arg(&file).output().expect("there is a sha256sum");
    fs::remove_file(&file).unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// A project with the image `a` on the server's file with this sum. `None` without the tools.
#[track_caller]
fn project(content: &[u8]) -> Option<(Project, Server, String)> {
    if !["qemu-img", "curl", "sha256sum"].into_iter().all(has_tool) {
        return None;
    }
    let (project, server, sum) = (Project::new(), Server::new(content.to_vec()), sha256(content));
    project.config(&declaration(&server, &sum));
    Some((project, server, sum))
}

fn declaration(server: &Server, sum: &str) -> String {
    format!("[img.a]\nbase = '{}'\nsha256 = '{sum}'\ncloud_init = {{}}\n", server.url())
}

/// A directory for `PATH` with these programs of the host and no others.
#[track_caller]
fn path_with(project: &Project, names: &[&str]) -> Option<String> {
    let dir = project.path("bin");
    fs::create_dir_all(&dir).unwrap();
    for name in names {
        // A program that is named twice exists already.
        let _ = std::os::unix::fs::symlink(program(name)?, dir.join(name));
    }
    Some(dir.display().to_string())
}

#[test]
fn fetched_once_and_verified() {
    let Some((project, server, sum)) = project(&content(3 * MIB)) else { return };
    let note = format!("qqmgr: fetching {}\n", server.url());
    let built = "a built: [ROOT]/.qqmgr/img.a/disk.qcow2\n";
    project.qqmgr(&["img", "build"]).run().stdout(built).stderr(&note).success();
    assert_eq!(project.files(".qqmgr/img.a"), WHOLE);
    assert_eq!(project.files("home/.local/share/qqmgr"), [sum.clone(), format!("{sum}.lock")]);
    let mode = project.path("home/.local/share/qqmgr").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // The content is the server's.
    let same = format!("qemu-img compare -q .qqmgr/img.a/disk.qcow2 home/.local/share/qqmgr/{sum}");
    project.sh(&same).run().success();

    // Another image of the same content needs no server.
    server.set(|behaviour| behaviour.missing = true);
    let other =
        declaration(&server, &sum).replace("img.a", "img.b").replace("disk.img", "mirror.img");
    project.config(&(declaration(&server, &sum.to_uppercase()) + &other));
    let built = "a is there already: [..]\nb built: [..]\n";
    project.qqmgr(&["img", "build"]).run().stdout(built).success();
    assert_eq!(server.seen().gets, [0]);

    // A base that was removed is fetched again; the disk stays the same.
    server.set(|behaviour| behaviour.missing = false);
    fs::remove_dir_all(project.path("home/.local")).unwrap();
    let table = "NAME  STATE             SIZE   ON DISK  USED BY\n\
                 a     incomplete          3M      19[..]K  -\nb     incomplete [..]\n";
    project.qqmgr(&["img", "list"]).run().stdout(table).success();
    project.qqmgr(&["img", "build", "a"]).run().stdout("a built: [..]\n").stderr(note).success();
    project.sh(&same).run().success();
    // A base whose content has changed is fetched again, too.
    fs::write(project.path("home/.local/share/qqmgr").join(&sum), vec![1; 512]).unwrap();
    project.qqmgr(&["img", "rm", "a"]).run().stdout("a removed\n").success();
    let stderr = format!(
        "qqmgr: `[ROOT]/home/.local/share/qqmgr/{sum}.wrong` has the SHA-256 [..], and not {sum}\n\
         qqmgr: fetching {}\n",
        server.url()
    );
    project.qqmgr(&["img", "build", "a"]).run().stdout("a built: [..]\n").stderr(stderr).success();
}

/// A wrong base is kept aside and never used; the error names both sums; the next fetch starts
/// over.
#[test]
fn a_wrong_checksum() {
    let Some((project, server, sum)) = project(&content(MIB)) else { return };
    let other = content(2 * MIB)[MIB..].to_vec();
    server.set(|behaviour| behaviour.content = Arc::new(other.clone()));
    let stderr = format!(
        "qqmgr: fetching {}\n\
         qqmgr: error: `[ROOT]/home/.local/share/qqmgr/{sum}.wrong` has the SHA-256 {}, \
         and not {sum}\n\
         qqmgr: hint: the file is kept aside; if it is the publisher's new one, \
         take its new `sha256`\n",
        server.url(),
        sha256(&other),
    );
    project.qqmgr(&["img", "build"]).run().stderr(&stderr).code(1);
    assert_eq!(
        fs::read(project.path(format!("home/.local/share/qqmgr/{sum}.wrong"))).unwrap(),
        other
    );
    assert_eq!(project.files(".qqmgr/img.a"), ["lock"]);
    project.qqmgr(&["img", "build"]).run().stderr(stderr).code(1);
    server.set(|behaviour| behaviour.content = Arc::new(content(MIB)));
    let run = project.qqmgr(&["img", "build"]).run();
    run.stdout("a built: [..]\n").stderr("qqmgr: fetching [..]\n").success();
    assert_eq!(server.seen().gets, [0, 0, 0]);
}

#[test]
fn a_fetch_that_was_cut_goes_on() {
    let Some((project, server, _)) = project(&content(4 * MIB)) else { return };
    server.set(|behaviour| behaviour.cut_after = Some(MIB));
    let hint = "qqmgr: hint: what it sent is kept: the same command continues from there\n";
    let failed = format!(
        "qqmgr: fetching [..]\nqqmgr: error: cannot fetch `{}`: curl: [..]\n{hint}",
        server.url()
    );
    project.qqmgr(&["img", "build"]).run().stderr(&failed).code(1);
    project.qqmgr(&["img", "build"]).run().stderr(&failed).code(1);
    server.set(|behaviour| behaviour.cut_after = None);
    let note = format!("qqmgr: fetching {}, from 2.0 MiB on\n", server.url());
    project.qqmgr(&["img", "build"]).run().stdout("a built: [..]\n").stderr(note).success();
    assert_eq!(server.seen().gets, [0, MIB, 2 * MIB]);
}

/// If the server cannot continue, the fetch starts over. If it does not announce a length, the
/// checksum shows whether the file is complete.
#[test]
fn servers_that_cannot_go_on() {
    let Some((project, server, sum)) = project(&content(2 * MIB)) else { return };
    server.set(|behaviour| (behaviour.cut_after, behaviour.without_ranges) = (Some(MIB), true));
    let run = project.qqmgr(&["img", "build"]).run();
    run.stderr("qqmgr: fetching [..]\nqqmgr: error: cannot fetch [..]\n...\n").code(1);
    server.set(|behaviour| behaviour.cut_after = None);
    let notes = "qqmgr: fetching [..], from 1.0 MiB on\n\
                 qqmgr: the server cannot continue in the middle of the file, so it is fetched from the start\n";
    project.qqmgr(&["img", "build"]).run().stdout("a built: [..]\n").stderr(notes).success();

    // The partial file was complete, but without a length nothing says so.
    let cache = project.path("home/.local/share/qqmgr");
    fs::rename(cache.join(&sum), cache.join(format!("{sum}.part"))).unwrap();
    project.qqmgr(&["img", "rm", "a"]).run().stdout("a removed\n").success();
    server.set(|behaviour| (behaviour.without_ranges, behaviour.without_length) = (false, true));
    let notes = "qqmgr: fetching [..]/disk.img, from 2.0 MiB on\n...\n";
    project.qqmgr(&["img", "build"]).run().stdout("a built: [..]\n").stderr(notes).success();
}

#[test]
fn a_server_that_stalls() {
    let Some((project, server, _)) = project(&content(2 * MIB)) else { return };
    server.set(|behaviour| behaviour.stall_after = Some(MIB));
    let stderr = format!(
        "qqmgr: fetching [..]\nqqmgr: error: the server of `{}` sends nothing for 1 s\n\
         qqmgr: hint: what it sent is kept: the same command continues from there\n",
        server.url()
    );
    project.qqmgr(&["img", "build", "--timeout", "1"]).run().stderr(stderr).code(4);
    server.set(|behaviour| behaviour.stall_after = None);
    let run = project.qqmgr(&["img", "build"]).run();
    run.stdout("a built: [..]\n").stderr("qqmgr: fetching [..], from [..] on\n").success();
    // curl was killed, with what it had not written yet.
    let gets = server.seen().gets;
    assert!(gets.len() == 2 && gets[1] > MIB / 2 && gets[1] <= MIB, "{gets:?}");
}

#[test]
fn progress_on_a_terminal() {
    if !has_tool("script") {
        return;
    }
    let Some((project, server, _)) = project(&content(2 * MIB)) else { return };
    server.set(|behaviour| behaviour.stall_after = Some(MIB + MIB / 2));
    let output = project.sh("script -qec '\"$QQMGR\" img build --timeout 2' /dev/null").run();
    let mut lines = output.stdout.split("\r\x1b[K");
    let is_of_progress = |line: &str| line.starts_with("qqmgr: fetched 1.");
    assert!(lines.any(|line| is_of_progress(line) && line.ends_with(" MiB of 2.0 MiB")));
    // The progress line is erased before anything else is printed.
    assert!(output.stdout.contains("\r\x1b[Kqqmgr: error: the server"), "{:?}", output.stdout);
    assert_eq!(output.status, Some(4));
}

/// A start waits for its image, a job only until its timeout, and VMs that share an image wait for
/// one fetch.
#[test]
fn starts_of_vms_whose_image_is_to_be_fetched() {
    let Some((project, server, sum)) = project(&content(2 * MIB)) else { return };
    project.config(&format!(
        "{}[qemu]\nbin = '{}'\n[vm.a]\ncmd = '-drive file={{{{.img.a}}}},readonly=on'\n\
         ssh.port = 'auto'\n[vm.b]\nextends = 'a'\n[vm.c]\nextends = 'a'\n",
        declaration(&server, &sum),
        fake_qemu().display(),
    ));
    server.set(|behaviour| behaviour.stall_after = Some(MIB));
    let stderr = "qqmgr: fetching [..]\nqqmgr: error: gave up after 1 s\n";
    project.qqmgr(&["run", "a", "--timeout", "1", "--", "true"]).run().stderr(stderr).code(124);
    assert!(!project.path(".qqmgr/vm.a").exists());
    server.set(|behaviour| behaviour.stall_after = None);
    let output = project.qqmgr(&["start", "a", "b", "c", "--json"]).run();
    assert_eq!(output.status, Some(0), "{}", output.stderr);
    assert_eq!(server.seen().gets.len(), 2);
    // The first of the two made the image.
    assert_eq!(
        output.stdout.matches("\"built\": [\n      \"a\"\n    ]").count(),
        1,
        "{}",
        output.stdout
    );
    assert_eq!(output.stderr.matches(": built image `a`\n").count(), 1, "{}", output.stderr);
    project.sorted("stop --all").run().stdout("a [..]\nb [..]\nc [..]\n").success();
}

#[test]
fn what_a_server_may_say() {
    let Some((project, server, _)) = project(&content(MIB)) else { return };
    server.set(|behaviour| behaviour.missing = true);
    let stderr = format!(
        "...\nqqmgr: error: cannot fetch `{}`: curl: (22) [..] 404[..]\nqqmgr: hint: the server \
         has no such file: compare the address with its publisher's\n",
        server.url()
    );
    project.qqmgr(&["img", "build"]).run().stderr(stderr).code(1);
    project.config(&format!(
        "[img.a]\nbase = 'http://127.0.0.1:{}/x'\nsha256 = '{}'\n",
        free_port(),
        "0".repeat(64)
    ));
    let stderr =
        "...\nqqmgr: error: cannot fetch `http://127.0.0.1:[PORT]/x`: curl: (7) [..]\n...\n";
    project.qqmgr(&["img", "build"]).run().stderr(stderr).code(1);
    assert_eq!(project.files(".qqmgr/img.a"), ["lock"]);
}

/// Names in a fetched image are neither opened nor connected to.
#[test]
fn a_fetched_image_that_names_something_else() {
    let Some((project, server, _)) = project(&content(MIB)) else { return };
    project.sh("head -c 1M /dev/zero >secret").run().success();
    let nbd = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    nbd.set_nonblocking(true).unwrap();
    let address = format!("nbd://127.0.0.1:{}/x", nbd.local_addr().unwrap().port());
    let convert = |format: &str| {
        format!(
            "if you trust it, `qemu-img convert -f {format} -O qcow2 IMAGE NEW.qcow2` makes it one \
             whole file; name that in `base`"
        )
    };
    let based_on = |name: &str| format!("is based on another file, `{name}`");
    let data = "has its content in another file, `[ROOT]/secret`".to_string();
    for (make, message, format) in [
        ("create -q -f qcow2 -F raw -b $PWD/secret evil", based_on("[ROOT]/secret"), "qcow2"),
        ("create -q -u -f qcow2 -F raw -b ADDRESS evil 1M", based_on(&address), "qcow2"),
        (
            "create -q -u -f qcow2 -o compat=0.10 -F raw -b json:{} evil 1M",
            based_on("json:{}"),
            "qcow2",
        ),
        ("create -q -f qcow2 -o data_file=$PWD/secret,data_file_raw=on evil 1M", data, "qcow2"),
        ("create -q -f vmdk evil 1M", "is in the format vmdk, not raw or qcow2".into(), "vmdk"),
        ("create -q -f vdi evil 1M", "is in the format vdi, not raw or qcow2".into(), "vdi"),
        ("create -q -f vhdx evil 8M", "is in the format vhdx, not raw or qcow2".into(), "vhdx"),
        ("create -q -f vpc evil 1M", "is in the format vpc, not raw or qcow2".into(), "vpc"),
        ("create -q -f qed evil 1M", "is in the format qed, not raw or qcow2".into(), "qed"),
        ("create -q -f qcow evil 1M", "is in the format qcow, not raw or qcow2".into(), "qcow"),
        (
            "create -q -f parallels evil 1M",
            "is in the format parallels, not raw or qcow2".into(),
            "parallels",
        ),
        (
            "create -q -f vmdk -o subformat=monolithicFlat evil 1M && truncate -s 512 evil",
            "is in the format vmdk, not raw or qcow2".into(),
            "vmdk",
        ),
        (
            // Only the header says "encrypted": real encryption takes long on a busy processor.
            "create -q -f qcow2 evil 1M && \
             printf '\\0\\0\\0\\2' | dd of=evil bs=1 seek=32 conv=notrunc 2>/dev/null",
            "is encrypted".into(),
            "qcow2",
        ),
    ] {
        let make = make.replace("ADDRESS", &address);
        project.sh(&format!("rm -f evil && qemu-img {make}")).run().success();
        let evil = fs::read(project.path("evil")).unwrap();
        let sum = sha256(&evil);
        project.config(&declaration(&server, &sum));
        server.set(|behaviour| behaviour.content = Arc::new(evil));
        let url = server.url();
        let refused = format!("qqmgr: error: `{url}` {message}\n");
        let looks_like = "; `-f raw`, if it only looks like that format";
        let looks_like = if format == "qcow2" { "" } else { looks_like };
        let hint = format!("qqmgr: hint: {}{looks_like}\n", convert(format));
        let stderr = format!("qqmgr: fetching [..]\n{refused} --> qqmgr.toml:2:8\n...\n{hint}");
        project.qqmgr(&["img", "build"]).run().stderr(stderr).code(5);
        let init = ["-c", "new.toml", "init", "--image", &url];
        let stderr = format!("...\nqqmgr: its SHA-256 is [..]\n{refused}{hint}");
        project.qqmgr(&init).run().stderr(stderr).code(1);
        assert!(!project.path("new.toml").exists(), "{make}");
    }
    assert!(nbd.accept().is_err(), "qemu-img connected to what a fetched image names");
}

/// A user's own base may be based on files only, and its format is never guessed.
#[test]
fn a_local_image_that_names_something_else() {
    let Some((project, ..)) = project(&content(MIB)) else { return };
    let nbd = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    nbd.set_nonblocking(true).unwrap();
    let address = format!("nbd://127.0.0.1:{}/x", nbd.local_addr().unwrap().port());
    project.sh("head -c 1M /dev/zero >base.img").run().success();
    let deep =
        (0..18).map(|n| format!("qemu-img create -q -u -f qcow2 -F qcow2 -b {n} {} 1M\n", n + 1));
    project
        .sh(&format!("qemu-img create -q -f qcow2 0 1M\n{}", deep.collect::<String>()))
        .run()
        .success();
    for (make, message) in [
        (
            "-F raw -b ADDRESS evil 1M".to_string(),
            format!("is based on `{address}`, which is not a file"),
        ),
        (
            "-F raw -b base.img -o compat=0.10 evil 1M && \
             printf '\\0\\0\\0\\7' | dd of=evil bs=1 seek=72 conv=notrunc 2>/dev/null"
                .into(),
            "is based on `base.img`, and does not say in which".into(),
        ),
        (
            "-F vmdk -b base.img evil 1M".into(),
            "is based on `base.img`, and says that it is in the format vmdk".into(),
        ),
        ("-F qcow2 -b 18 evil 1M".into(), "is based on too many files".into()),
    ] {
        let make = make.replace("ADDRESS", &address);
        project.sh(&format!("rm -f evil && qemu-img create -q -u -f qcow2 {make}")).run().success();
        project.config("[img.a]\nbase = 'evil'\n");
        let stderr = format!("qqmgr: error: `[ROOT]/evil` {message}\n --> qqmgr.toml:2:8\n...\n");
        project.qqmgr(&["img", "build"]).run().stderr(stderr).code(5);
    }
    assert!(nbd.accept().is_err(), "qemu-img connected to what an image names");
    project.sh("qemu-img create -q -f qcow2 -F raw -b base.img mid && qemu-img create -q -f qcow2 -F qcow2 -b mid evil").run().success();
    project.qqmgr(&["img", "build"]).run().stdout("a built: [..]\n").success();
}

/// A base in the cache gets a second name where bases are kept, and its disks name that one.
#[test]
fn bases_in_the_cache_of_an_old_version() {
    let Some((project, server, sum)) = project(&content(MIB)) else { return };
    let one = declaration(&server, &sum);
    project.config(&(one.clone() + &one.replace("img.a", "img.b")));
    let run = project.qqmgr(&["img", "build"]).run();
    run.stdout("a built: [..]\nb built: [..]\n").stderr("qqmgr: fetching [..]\n").success();
    let (old, new) = ("home/.cache/qqmgr", "home/.local/share/qqmgr");
    let age = format!(
        "mkdir -p {old} && mv {new}/{sum} {old} && rm -r home/.local && for image in a b; do \
         sed -i 's:{new}:{old}:' .qqmgr/img.$image/image.json && \
         qemu-img rebase -u -f qcow2 -F raw -b $PWD/{old}/{sum} .qqmgr/img.$image/disk.qcow2; done"
    );
    project.sh(&age).run().success();
    server.set(|behaviour| behaviour.missing = true);
    let list = "NAME  STATE [..]\na     built [..]\nb     built [..]\n";
    project.qqmgr(&["img", "list"]).run().stdout(list).success();
    assert!(!project.path("home/.local").exists());

    // A file that others may write is copied and not linked.
    project.sh(&format!("chmod 666 {old}/{sum}")).run().success();
    project.qqmgr(&["img", "build", "a"]).run().stdout("a built: [..]\n").success();
    project
        .sh(&format!("[ ! {old}/{sum} -ef {new}/{sum} ] && cmp {old}/{sum} {new}/{sum}"))
        .run()
        .success();
    project.sh(&format!("rm {new}/{sum}; chmod 644 {old}/{sum}")).run().success();
    // A disk whose base is gone where bases are kept finds it in the cache.
    project.qqmgr(&["img", "build", "a"]).run().stdout("a built: [..]\n").success();
    project.sh(&format!("[ {old}/{sum} -ef {new}/{sum} ]")).run().success();
    fs::remove_dir_all(project.path("home/.cache")).unwrap();
    // The other disk named the base in the cache, which is gone by now.
    project.qqmgr(&["img", "build", "b"]).run().stdout("b built: [..]\n").success();
    for image in ["a", "b"] {
        let disk = format!(".qqmgr/img.{image}/disk.qcow2");
        project.sh(&format!("qemu-img compare -q {disk} {new}/{sum}")).run().success();
        let record = fs::read_to_string(project.path(format!(".qqmgr/img.{image}/image.json")));
        assert!(record.unwrap().contains(&format!("{new}/{sum}")));
    }
    let there = "a is there already: [..]\nb is there already: [..]\n";
    project.qqmgr(&["img", "build"]).run().stdout(there).success();
    assert!(!project.path("home/.cache").exists());

    // The publisher has another file now.
    project.sh(&format!("mv {new}/{sum} kept")).run().success();
    let other = content(2 * MIB)[MIB..].to_vec();
    server.set(|behaviour| {
        behaviour.missing = false;
        behaviour.content = Arc::new(other.clone());
    });
    let needs = format!(
        "qqmgr: error: image `a`: this disk needs the old base with SHA-256 {sum}, which is gone"
    );
    let hint = format!(
        "qqmgr: hint: put it back as `[ROOT]/{new}/{sum}`, or `qqmgr img reset a` builds the image \
         anew, without what was written to it\n"
    );
    let stderr =
        format!("qqmgr: fetching [..]\n{needs}: `[..].wrong` has the SHA-256 [..]\n{hint}");
    project.qqmgr(&["img", "build", "a"]).run().stderr(stderr).code(1);
    project.config(&declaration(&server, &sha256(&other)));
    project.qqmgr(&["img", "build", "a"]).run().stderr(format!("{needs}\n{hint}")).code(1);
    project.sh(&format!("mv kept {new}/{sum}")).run().success();
    let changed = "qqmgr: warning: image `a` was built before its `sha256` changed\n...\n";
    let run = project.qqmgr(&["img", "build", "a"]).run();
    run.stdout("a is there already: [..]\n").stderr(changed).success();
}

/// If the cache is on another file system, the base is copied.
#[test]
fn a_cache_on_another_file_system() {
    let Some((project, server, sum)) = project(&content(MIB)) else { return };
    let device = |path: &str| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    if device("/dev/shm").is_none_or(|shm| Some(shm) == device("/tmp")) {
        return;
    }
    let cache = format!("/dev/shm/qqmgr-{}-{}", std::process::id(), free_port());
    fs::create_dir_all(format!("{cache}/qqmgr")).unwrap();
    fs::write(format!("{cache}/qqmgr/{sum}"), content(MIB)).unwrap();
    server.set(|behaviour| behaviour.missing = true);
    let build = project.qqmgr(&["img", "build"]).env("XDG_CACHE_HOME", &cache).run();
    fs::remove_dir_all(&cache).unwrap();
    build.stdout("a built: [..]\n").success();
    let kept = format!("home/.local/share/qqmgr/{sum}");
    assert_eq!(fs::read(project.path(kept)).unwrap(), content(MIB));
}

/// A link that another user planted would choose which directory is changed.
#[test]
fn the_directory_of_bases_is_the_users_own() {
    let Some((project, _, sum)) = project(&content(MIB)) else { return };
    let mode = |path: &str| project.path(path).metadata().unwrap().permissions().mode() & 0o777;
    project.sh("mkdir -p shared big && chmod 755 big && ln -s ../big shared/qqmgr").run().success();
    let shared = project.path("shared").display().to_string();
    let build = || project.qqmgr(&["img", "build"]).env("XDG_DATA_HOME", &shared).run();
    let fetching = "qqmgr: fetching [..]\n";
    build().stdout("a built: [..]\n").stderr(fetching).success();
    assert_eq!(mode("big"), 0o755);
    project.sh("chmod 777 big; rm -r .qqmgr").run().success();
    let hint = "qqmgr: hint: `[ROOT]/shared/qqmgr` leads there; use a directory of your own\n";
    let open = "qqmgr: error: `[ROOT]/big` can be written by other users\n";
    build().stderr(format!("{open}{hint}")).code(1);
    project.sh("rm -r big").run().success();
    build().stderr("qqmgr: error: cannot follow `[ROOT]/shared/qqmgr`: [..]\n...\n").code(1);
    // Only root can make a link that belongs to another user.
    project.sh("mkdir -m 755 big").run().success();
    if project.sh("chown -h 12345 shared/qqmgr 2>/dev/null").run().status != Some(0) {
        return;
    }
    let planted = "qqmgr: error: `[ROOT]/shared/qqmgr` is a symbolic link of user 12345\n\
                   qqmgr: hint: remove it, or use a directory of your own\n";
    build().stderr(planted).code(1);
    assert_eq!(project.files("big"), [""; 0]);
    // Further up, and to the runtime directory.
    let below = project.path("shared/qqmgr/data").display().to_string();
    let below = project.qqmgr(&["img", "build"]).env("XDG_DATA_HOME", &below).run();
    below.stderr(planted).code(1);
    project.sh("rm -rf .qqmgr; ln -s big .qqmgr; chown -h 12345 .qqmgr").run().success();
    let planted = planted.replace("shared/qqmgr", ".qqmgr");
    project.qqmgr(&["img", "build"]).run().stderr(planted).code(1);
    assert_eq!(project.files("big"), [""; 0]);
    assert_eq!((mode("big"), sum.len()), (0o755, 64));
}

/// curl would take brackets for a list of addresses.
#[test]
fn an_address_with_brackets() {
    let Some((project, server, sum)) = project(&content(MIB)) else { return };
    let declared = declaration(&server, &sum).replace("disk.img", "{a,b}[1-3].img");
    project.config(&declared);
    let run = project.qqmgr(&["img", "build"]).run();
    run.stdout("a built: [..]\n").stderr("qqmgr: fetching [..]\n").success();
    assert_eq!(server.seen().gets, [0]);
}

/// Fetches and verifies with each of the possible programs, and without any.
#[test]
fn programs_that_may_be_there() {
    const OTHERS: [&str; 2] = ["qemu-img", "ssh-keygen"];
    let base = content(2 * MIB);
    for (client, summer) in [
        ("curl", "sha256sum"),
        ("wget", "shasum"),
        ("wget", "openssl"),
        ("curl", "openssl"),
        ("busybox wget", "busybox sha256sum"),
    ] {
        let tools = [client, summer].map(|tool| tool.split(' ').next().unwrap());
        if !tools.into_iter().all(has_tool) {
            return;
        }
        let Some((project, server, _)) = project(&base) else { return };
        // shasum is a script.
        let names = [&tools[..1], &tools[1..], &["perl"], &OTHERS].concat();
        let Some(path) = path_with(&project, &names) else { return };
        if client.starts_with("busybox") {
            project
                .sh("cd bin && for name in wget sha256sum; do ln -sf busybox $name; done")
                .run()
                .success();
        }
        server.set(|behaviour| behaviour.cut_after = Some(MIB));
        let stderr =
            format!("qqmgr: fetching {}\nqqmgr: error: cannot fetch [..]\n...\n", server.url());
        let build = || project.qqmgr(&["img", "build"]).env("PATH", &path).run();
        if client == "wget" {
            // This client tries again by itself.
            drop(build());
        } else {
            build().stderr(stderr).code(1);
        }
        server.set(|behaviour| behaviour.cut_after = None);
        let output = build();
        assert_eq!(output.status, Some(0), "{client}, {summer}: {}", output.stderr);
        let gets = server.seen().gets;
        assert!(gets.iter().any(|start| *start > MIB / 2), "{client} does not go on: {gets:?}");
    }
    for (there, message, hint) in [
        (
            &["sha256sum"][..],
            "neither `curl` nor `wget` is installed to fetch `[..]`",
            "install one, or fetch the file yourself and name it in `base`",
        ),
        (
            &["curl"],
            "none of `sha256sum`, `shasum` and `openssl` is installed",
            "install one (Debian: coreutils)",
        ),
    ] {
        let Some((project, _server, _)) = project(&base) else { return };
        let Some(path) = path_with(&project, &[there, &OTHERS].concat()) else { return };
        let output = project.qqmgr(&["img", "build"]).env("PATH", &path).run();
        output.stderr(format!("...\nqqmgr: error: {message}\nqqmgr: hint: {hint}\n")).code(1);
    }
}

/// Two builds of one URL fetch it once.
#[test]
fn fetches_at_once_wait_for_each_other() {
    let Some((project, server, sum)) = project(&content(4 * MIB)) else { return };
    let other = declaration(&server, &sum).replace("img.a", "img.b");
    project.config(&(declaration(&server, &sum) + &other));
    let runs: Vec<_> = ["a", "b", "a", "b"]
        .iter()
        .map(|name| project.qqmgr(&["img", "build", name]).start())
        .collect();
    for run in runs {
        let output = run.end();
        assert_eq!(output.status, Some(0), "{}", output.stderr);
    }
    assert_eq!(server.seen().gets, [0]);
}

/// A fetch and a build say that the disk is full, and leave nothing under a name of its own.
#[test]
fn a_disk_that_is_too_full() {
    let Some((project, _server, _)) = project(&content(8 * MIB)) else { return };
    if Command::new("unshare")
        .args(["-rm", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        project.write("small/x", "");
        let in_namespace = |home: &str| {
            let script = "exec unshare -rm sh -c 'mount -t tmpfs -o size=4M none small && \
                          \"$QQMGR\" img build; code=$?; ls small/qqmgr 2>/dev/null; exit $code'";
            project.sh(script).env("XDG_DATA_HOME", project.path(home)).run()
        };
        let stderr =
            "qqmgr: fetching [..]\nqqmgr: error: cannot fetch `[..]`: curl: (23) [..]\n...\n";
        let output = in_namespace("small").stderr(stderr).stdout("[..].lock\n[..].part\n");
        output.code(1);
        // The runtime directory may be on another file system.
        let script = "mkdir -p .qqmgr && exec unshare -rm sh -c 'mount -t tmpfs -o size=128k none .qqmgr && \
                      \"$QQMGR\" img build; code=$?; ls .qqmgr/img.a; exit $code'";
        let stderr = "...\nqqmgr: error: cannot make image `a`: [..] No space left on device\n";
        project
            .sh(script)
            .run()
            .stdout("id_ed25519\nid_ed25519.pub\nlock\n")
            .stderr(stderr)
            .code(1);
    } else {
        left_out("no user namespaces");
    }
    assert_eq!(project.qqmgr(&["img", "build"]).run().status, Some(0));
}

/// Replaces a program that a build runs. If this text is among its arguments, it kills its parent,
/// qqmgr, before or after the real program works, or goes on as an orphan until the test lets it
/// end.
pub(crate) fn killer(project: &Project, name: &str, argument: &str, when: &str) -> Option<String> {
    let real = program(name)?;
    let real = format!("'{}' \"$@\"", real.display());
    let script = match when {
        "before" => "kill -9 $PPID; exit 1".to_string(),
        "after" => format!("{real}; kill -9 $PPID; exit 0"),
        _ => "kill -9 $PPID; until [ -e let-go ] || [ ! -e killers ]; do sleep 0.05; done".into(),
    };
    let script =
        format!("#!/bin/sh\ncase \" $* \" in *' {argument}'*) {script};; esac\nexec {real}\n");
    let file = format!("killers/{name}");
    project.write(&file, script);
    let file = project.path(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let system = std::env::var("PATH").unwrap();
    Some(format!("{}:{system}", project.path("killers").display()))
}

/// SIGKILL ends a build during the fetch, and before, during and after each program that it runs.
/// The next build completes it, and no incomplete file ever has its final name.
#[test]
fn a_build_that_is_killed_is_finished_by_the_next() {
    let base = content(2 * MIB);
    let Some((project, server, sum)) = project(&base) else { return };
    let clean = |what: &str, output: Output| {
        assert_eq!(output.status, Some(0), "{what}: {}", output.stderr);
        assert!(output.stdout.starts_with("a built"), "{what}");
        assert_eq!(project.files(".qqmgr/img.a"), WHOLE, "{what}");
        let compare =
            format!("qemu-img compare -q .qqmgr/img.a/disk.qcow2 home/.local/share/qqmgr/{sum}");
        project.sh(&compare).run().success();
        assert_eq!(
            project.files("home/.local/share/qqmgr"),
            [sum.clone(), format!("{sum}.lock")],
            "{what}"
        );
        fs::remove_dir_all(project.path("home/.local")).unwrap();
        project.qqmgr(&["img", "rm", "a"]).run().stdout("a removed\n").success();
    };
    let build = || project.qqmgr(&["img", "build"]);
    let mut points = 0;
    for share in 1..4 {
        let begin = server.seen().bytes_sent;
        server.set(|behaviour| behaviour.stall_after = Some(share * MIB / 2));
        let run = build().start();
        server.wait_for_bytes(begin + share * MIB / 2);
        signal(run.pid, "KILL");
        assert_eq!(run.end().status, None);
        // curl goes on waiting for the server, and has the lock.
        server.set(|behaviour| behaviour.stall_after = None);
        let next = build().start();
        next.says("waiting for another command that has `http://");
        kill_curl(&project, &sum);
        clean(&format!("{share}/4 of the file"), next.end());
        points += 1;
    }
    for (name, argument) in [
        ("curl", "--output"),
        ("sha256sum", ""),
        ("qemu-img", "info"),
        ("qemu-img", "create"),
        ("ssh-keygen", ""),
    ] {
        for when in ["before", "after", "orphaned"] {
            let what = format!("{when} {name} {argument}");
            let Some(path) = killer(&project, name, argument, when) else { return };
            let output = build().env("PATH", path).run();
            assert_eq!(output.status, None, "{what} does not kill: {}", output.stderr);
            assert!(!project.path(".qqmgr/img.a/disk.qcow2").exists(), "{what}");
            fs::remove_file(project.path("killers").join(name)).unwrap();
            let next = build().start();
            // The others only read.
            if when == "orphaned" && !argument.is_empty() {
                next.says("waiting for another command that has");
            }
            project.write("let-go", "");
            clean(&what, next.end());
            fs::remove_file(project.path("let-go")).unwrap();
            points += 1;
        }
    }
    assert!(points >= 10, "{points}");
}

/// Ends the curl that a killed fetch of this project has left.
pub(crate) fn kill_curl(project: &Project, sum: &str) {
    let part = project.path(format!("home/.local/share/qqmgr/{sum}.part"));
    let part = part.to_str().unwrap();
    // A zombie has no command line.
    let fetches = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.starts_with("curl\0") && line.contains(part)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| fetches(*pid)).expect("curl goes on without qqmgr");
    signal(pid, "TERM");
    wait_until("curl is gone", Duration::from_secs(20), || !fetches(pid));
}

/// `init` writes the sum of the fetched file into the configuration, and prints it.
#[test]
fn init_with_a_url() {
    let Some((project, server, sum)) = project(&content(MIB)) else { return };
    fs::remove_file(project.path("qqmgr.toml")).unwrap();
    let notes = format!(
        "qqmgr: fetching {0}\nqqmgr: its SHA-256 is {sum}: compare it with its publisher's\n",
        server.url()
    );
    let stdout = format!(
        "{{\n  \"file\": \"qqmgr.toml\",\n  \"base\": \"{}\",\n  \"sha256\": \"{sum}\",\n  \"sha512\": null,\n  \"name\": null,\n  \"findings\": []\n}}\n",
        server.url()
    );
    let run = project.qqmgr(&["init", "--image", &server.url(), "--json"]).run();
    run.stdout(stdout).stderr(notes).success();
    let mut expected = String::new();
    let _ = write!(expected, "\nbase = \"{}\"\nsha256 = \"{sum}\"\nsize = \"20G\"", server.url());
    assert!(fs::read_to_string(project.path("qqmgr.toml")).unwrap().contains(&expected));
    project.qqmgr(&["img", "build"]).run().stdout("dev built: [..]\n").success();
    assert_eq!(server.seen().gets, [0]);
    // The fetched base is kept, and found by its address and by its SHA-512.
    let init = ["init", "-c", "again.toml", "--image", &server.url()];
    let base = format!("[ROOT]/home/.local/share/qqmgr/{sum}");
    let notes = format!(
        "qqmgr: `{}` was fetched before, as `{base}`: without that file, it is fetched again\n\
         qqmgr: its SHA-256 is {sum}: compare it with its publisher's\n",
        server.url()
    );
    project.qqmgr(&init).run().stdout("wrote again.toml: [..]\n").stderr(notes).success();
    assert_eq!(server.seen().gets, [0]);
    // With a checksum, `init` fetches nothing.
    server.set(|behaviour| behaviour.missing = true);
    let arguments = ["init", "-c", "b.toml", "--image", &server.url(), "--checksum", &sum];
    project.qqmgr(&arguments).run().stdout("wrote b.toml: [..]\n").success();
    // Without the base, the link leads nowhere.
    server.set(|behaviour| behaviour.missing = false);
    fs::remove_file(project.path("home/.local/share/qqmgr").join(&sum)).unwrap();
    fs::remove_file(project.path("again.toml")).unwrap();
    let run = project.qqmgr(&init).run().stdout("wrote again.toml: [..]\n");
    run.stderr("qqmgr: fetching [..]\nqqmgr: its SHA-256 is [..]\n").success();
}

/// A base with only a SHA-512 has that as its name. A base that is kept under either sum is not
/// fetched again, and both sums are compared.
#[test]
fn longer_checksums() {
    let Some((project, server, sum)) = project(&content(MIB)) else { return };
    let output = project.sh("sha512sum | cut -d ' ' -f 1").stdin(content(MIB)).run();
    let long = output.stdout.trim();
    let short = format!("sha256 = '{sum}'");
    let declared = declaration(&server, &sum);
    project.config(&declared.replace(&short, &format!("sha512 = '{}'", long.to_uppercase())));
    let run = project.qqmgr(&["img", "build"]).run().stdout("a built: [..]\n");
    run.stderr("qqmgr: fetching [..]\n").success();
    let bases = || project.files("home/.local/share/qqmgr");
    assert_eq!(bases(), [long.to_owned(), format!("{long}.lock")]);
    let both = declared.replace(&short, &format!("{short}\nsha512 = '{long}'"));
    project.config(&both);
    project.qqmgr(&["img", "build"]).run().stdout("a is there already: [..]\n").success();
    project.qqmgr(&["img", "reset", "a"]).run().stdout("a reset: [..]\n").success();
    assert_eq!(server.seen().gets, [0]);
    project.config(&both.replace(&sum, &"0".repeat(64)));
    let stderr = "...\nqqmgr: error: `[..].wrong` has the SHA-256 [..], and not 0[..]\n...\n";
    project.qqmgr(&["img", "reset", "a"]).run().stderr(stderr).code(1);
}
