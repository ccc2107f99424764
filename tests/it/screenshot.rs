//! `screenshot` of the real guest. The rest is in `tests/cases/screenshot.txt`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::guest;
use crate::harness::{Project, has_tool};

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
