//! Whether a group gives access to another user.

use crate::system::account::id;
use crate::system::files;
use std::path::Path;

/// The size limit of a table of users or groups. With a larger one, no group counts as private.
const TABLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whether the group is the user's own: it is the primary group of the user, who runs this program,
/// it has the user's name or number, and it has no other members. Such a group gives access to no
/// other user.
pub(crate) fn is_private_group(group: u32, user: u32) -> bool {
    let Ok(primary) = id("-g") else { return false };
    let (Ok(name), Ok(group_name)) = (id("-un"), id("-gn")) else { return false };
    let (Some(groups), Some(users)) = (table("/etc/group"), table("/etc/passwd")) else {
        return false;
    };
    primary == group.to_string()
        && (group_name == name || group == user)
        && has_no_other(&groups, &users, group, &name)
}

/// Whether neither table puts a user other than `name` into the group.
fn has_no_other(groups: &str, users: &str, group: u32, name: &str) -> bool {
    let fields = |table: &str, group_at: usize, value_at: usize| -> Vec<String> {
        let lines = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let of_group = lines.filter(|fields| {
            fields.get(group_at).is_some_and(|field| field.trim() == group.to_string())
        });
        of_group.filter_map(|fields| fields.get(value_at).map(ToString::to_string)).collect()
    };
    let members = fields(groups, 2, 3).join(",");
    let mut members = members.split(',').map(str::trim).filter(|member| !member.is_empty());
    members.all(|member| member == name)
        && fields(users, 3, 0).iter().all(|user| user.trim() == name)
}

/// Reads a whole table of `/etc`. A missing table is empty.
fn table(path: &str) -> Option<String> {
    let path = Path::new(path);
    if !path.exists() {
        return Some(String::new());
    }
    let bytes = files::read_start(path, TABLE_BYTES_MAX + 1).ok()?;
    let is_whole = bytes.len() as u64 <= TABLE_BYTES_MAX;
    is_whole.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_in_a_private_group() {
        let users = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        for (groups, users, expected) in [
            ("me:x:1000:\n", users, true),
            ("root:x:0:\nme:x:1000:me\n", users, true),
            ("me:x:1000:me,you\n", users, false),
            ("me:x:1000:you\n", users, false),
            ("me:x:1000:\nalias:x:1000:you\n", users, false),
            ("me:x:10001:you\n", users, true),
            ("", "me:x:1000:1000::/:\nyou:x:1001:1000::/:\n", false),
            ("", "", true),
        ] {
            assert_eq!(has_no_other(groups, users, 1000, "me"), expected, "{groups}{users}");
        }
    }
}
