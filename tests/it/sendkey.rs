//! `sendkey`: a guest gets the keys. The rest is in `tests/cases/sendkey.txt`.

use crate::guest;
use crate::harness::{Project, free_port, wait_until};
use std::time::Duration;

/// All characters of a US keyboard except letters and digits.
const MARKS: &str = r#"`~!@#$%^&*()-_=+[{]}|;:'",<.>/?"#;
const LETTERS: &str = "the quick brown fox jumps over the LAZY dog 0123456789";
/// A guest that shares two cores with all other tests stalls at times, so keys are held longer.
const SLOWLY: &str = "--hold=0.1";

/// Types every character, and keys held together, which switch from one console to another.
#[test]
fn typed_keys_arrive_on_the_guest() {
    let port = free_port().to_string();
    let Some(config) = guest::config("", &port, "-device VGA") else { return };
    let project = Project::new();
    project.config(&config);
    guest::start(&project);
    let script = "exec 3</dev/tty1 4</dev/tty2; echo ready; \
                  for i in 1 2; do read -r line <&3; echo \"$line\"; done; \
                  read -r line <&4; echo \"$line\"";
    let reader = project.qqmgr(&["ssh", "vm", script]).start();
    reader.says("ready\n");

    // Another command can use the socket before all keys are sent.
    let line = format!("{LETTERS}\\n");
    let typing = project.qqmgr(&["sendkey", "vm", SLOWLY, "--text", &line]).start();
    wait_until("the line has arrived", Duration::from_secs(200), || {
        project.qqmgr(&["qmp", "vm", "query-name"]).run().stdout("{}\n").success();
        reader.said().contains(LETTERS)
    });
    let count = LETTERS.len() + 1;
    typing.end().stdout(format!("vm: sent {count} keys, running\n")).success();
    let marks = format!("{MARKS}\\\\\\n");
    let typed = project.qqmgr(&["sendkey", "vm", SLOWLY, "--text", &marks]).run();
    typed.stdout(format!("vm: sent {} keys, running\n", MARKS.len() + 2)).success();
    let keys = ["sendkey", "vm", SLOWLY, "ctrl-alt-f2", "o", "t", "h", "shift-e", "r", "ret"];
    project.qqmgr(&keys).run().stdout("vm: sent 7 keys, running\n").success();
    reader.end().stdout(format!("ready\n{LETTERS}\n{MARKS}\\\nothEr\n")).success();
}
