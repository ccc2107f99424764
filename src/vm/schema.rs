//! The QMP schema of a QEMU: the answer to `query-qmp-schema`, an array of entities that refer to
//! each other by name (`qapi/introspect.json`). The names of commands and events are those of the
//! QAPI; the names of types are arbitrary.
//!
//! Pure. Missing or malformed parts are treated as empty, since the schema only serves hints.

use crate::json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Schema<'a> {
    by_name: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Schema<'a> {
    pub(crate) fn new(answer: &'a Value) -> Self {
        let named = answer.items().iter();
        Self { by_name: named.filter_map(|entity| Some((entity.text("name")?, entity))).collect() }
    }

    /// The names of all entities of one kind, `command` or `event`, sorted.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&'a str> {
        let is_it = |entity: &Value| entity.text("meta-type") == Some(kind);
        self.by_name.iter().filter(|(_, entity)| is_it(entity)).map(|(name, _)| *name).collect()
    }

    /// The arguments of a command, optional ones in brackets. If some depend on the value of
    /// another, only those that the command always has.
    pub(crate) fn arguments(&self, command: &str) -> Vec<String> {
        let object = self.arguments_of(command);
        let members = object.map(|object| object.list("members")).unwrap_or_default();
        let argument = |member: &Value| {
            let name = member.text("name")?;
            let optional = member.get("default").is_some();
            Some(if optional { format!("[{name}]") } else { name.to_string() })
        };
        members.iter().filter_map(argument).collect()
    }

    /// The names that may occur in the arguments of a command, at any depth.
    pub(crate) fn names(&self, command: &str) -> Vec<&'a str> {
        self.members(command).into_iter().filter_map(|member| member.text("name")).collect()
    }

    /// The words that may be the value of `name`, or of any member if it is `None`, in the
    /// arguments of a command, at any depth.
    pub(crate) fn words(&self, command: &str, name: Option<&str>) -> Vec<&'a str> {
        let members = self.members(command).into_iter();
        let types = members.filter(|member| name.is_none() || member.text("name") == name);
        types.filter_map(|member| self.entity(member, "type")).flat_map(words_of).collect()
    }

    fn arguments_of(&self, command: &str) -> Option<&'a Value> {
        let command = self.by_name.get(command)?;
        (command.text("meta-type")? == "command").then_some(())?;
        self.entity(command, "arg-type")
    }

    /// The entity that the member `member` refers to by name.
    fn entity(&self, of: &'a Value, member: &str) -> Option<&'a Value> {
        of.text(member).and_then(|name| self.by_name.get(name)).copied()
    }

    /// The members of the objects and alternates that make up the arguments of a command.
    fn members(&self, command: &str) -> Vec<&'a Value> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let mut pending: Vec<&Value> = self.arguments_of(command).into_iter().collect();
        while let Some(entity) = pending.pop() {
            if !entity.text("name").is_some_and(|name| seen.insert(name)) {
                continue;
            }
            let members = entity.list("members");
            let parts = members.iter().chain(entity.list("variants"));
            pending.extend(parts.filter_map(|part| self.entity(part, "type")));
            pending.extend(self.entity(entity, "element-type"));
            if ["object", "alternate"].map(Some).contains(&entity.text("meta-type")) {
                found.extend(members);
            }
        }
        found
    }
}

/// The words of an enumeration: in `values` until QEMU 6.2, which added `members`.
fn words_of(entity: &Value) -> Vec<&str> {
    if entity.text("meta-type") != Some("enum") {
        return Vec::new();
    }
    let members = entity.list("members").iter().filter_map(|member| member.text("name"));
    let values = entity.list("values").iter().filter_map(Value::as_str);
    members.chain(values).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entities of `send-key` in QEMU 7.2, shortened.
    const SEND_KEY: &[u8] = br#"[
        {"name": "send-key", "ret-type": "0", "meta-type": "command", "arg-type": "1"},
        {"name": "STOP", "meta-type": "event", "arg-type": "0"},
        {"name": "0", "members": [], "meta-type": "object"},
        {"name": "1", "members": [{"name": "keys", "type": "[2]"},
            {"name": "hold-time", "default": null, "type": "int"}], "meta-type": "object"},
        {"name": "[2]", "element-type": "2", "meta-type": "array"},
        {"name": "int", "json-type": "int", "meta-type": "builtin"},
        {"name": "2", "tag": "type", "members": [{"name": "type", "type": "3"}],
            "variants": [{"case": "number", "type": "4"}, {"case": "qcode", "type": "5"}],
            "meta-type": "object"},
        {"name": "3", "meta-type": "enum", "members": [{"name": "number"}, {"name": "qcode"}],
            "values": ["number", "qcode"]},
        {"name": "4", "members": [{"name": "data", "type": "int"}], "meta-type": "object"},
        {"name": "5", "members": [{"name": "data", "type": "6"}], "meta-type": "object"},
        {"name": "6", "meta-type": "enum", "values": ["ret", "a"]},
        {"name": "ring", "meta-type": "command", "arg-type": "7"},
        {"name": "7", "members": [{"name": "next", "type": "7"}], "meta-type": "object"}
    ]"#;

    #[test]
    fn names_and_words_of_a_command() {
        let answer = crate::json::parse(SEND_KEY).unwrap();
        let schema = Schema::new(&answer);
        assert_eq!(schema.of_kind("event"), ["STOP"]);
        assert_eq!(schema.of_kind("command"), ["ring", "send-key"]);
        assert_eq!(schema.arguments("send-key"), ["keys", "[hold-time]"]);
        let mut names = schema.names("send-key");
        names.sort_unstable();
        assert_eq!(names, ["data", "data", "hold-time", "keys", "type"]);
        assert_eq!(schema.words("send-key", Some("type")), ["number", "qcode"]);
        assert_eq!(schema.words("send-key", Some("data")), ["a", "ret"]);
        let mut all = schema.words("send-key", None);
        all.sort_unstable();
        assert_eq!(all, ["a", "number", "qcode", "ret"]);
        assert_eq!(schema.names("ring"), ["next"]);
        for none in ["STOP", "1", "nope", ""] {
            assert!(schema.names(none).is_empty() && schema.arguments(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn another_shape_has_nothing() {
        for answer in ["[]", "{}", "null", r#"[1, {"name": 2}, {"name": "x"}]"#] {
            let answer = crate::json::parse(answer.as_bytes()).unwrap();
            let schema = Schema::new(&answer);
            assert!(schema.of_kind("event").is_empty() && schema.names("x").is_empty());
        }
    }
}
